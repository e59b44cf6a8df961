"""Settings of the test processes, made before TensorFlow is loaded."""

import os
import sys

# Tests run each program a few times, so machine code of XLA's that is not optimised is ready sooner
# than it is missed. `tools/smoke.sh` runs with what a user has.
for _name, _value in {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}.items():
    os.environ.setdefault(_name, _value)


# With one worker a file, files of a few long tests go first; else one of them is left for the end.
_FIRST = (
    "tests/system/test_faults",
    "tests/system/test_replicas",
    "tests/system/test_resume",
    "tests/conformance/test_static_programs",
)
_THEN = (
    "tests/test_training",
    "tests/system/",
    "tests/test_run.py",
    "tests/test_benchmark",
    "tests/conformance/test_eprop",
)


def pytest_collection_modifyitems(config, items):
    """Orders files by how long they take; leaves out what is for `--thorough`."""
    items.sort(key=lambda item: _rank(item.nodeid))
    if not config.getoption("--thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _rank(name):
    if name.startswith(_FIRST):
        return 0
    return 1 if name.startswith(_THEN) else 2


def pytest_addoption(parser):
    """Adds `--thorough`."""
    parser.addoption("--thorough", action="store_true", help="run every row of the long tables")


def pytest_collection_finish():
    """Runs graphs in this process as they were traced; tests/system has TensorFlow rewrite them."""
    if tensorflow := sys.modules.get("tensorflow"):
        options = {"disable_meta_optimizer": True}
        tensorflow.config.optimizer.set_experimental_options(options)
