"""Tasks: one file each with its data, its network, its metrics and its registered experiment."""

if __name__ == "tasks":
    raise ImportError("import this package as orbit_snn.tasks, not as tasks")
