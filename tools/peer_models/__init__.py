"""The benchmark's network in other libraries: one module a library, with one `build(problem)`.

Nothing here is imported unless `peers.py` runs that library in its own process.
"""
