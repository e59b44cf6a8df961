"""Settings of the test processes, made before TensorFlow is loaded."""

import os

for _name, _value in {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}.items():
    os.environ.setdefault(_name, _value)


def pytest_addoption(parser):
    """Adds `--thorough`."""
    parser.addoption(
        "--thorough", action="store_true", help="run every row of the conformance tests"
    )
