"""orbit_snn: any neuron model under any learning rule, on TensorFlow and Orbit."""

import pathlib

# In a source checkout that is not installed, `tasks`, `configs` and `tools` lie beside this package
# and not in it; setup.py maps them to orbit_snn.tasks and so on. Extending the path does the same.
_root = pathlib.Path(__file__).resolve().parent.parent
if (_root / "setup.py").exists() and (_root / "tasks").exists():
    __path__.append(str(_root))
