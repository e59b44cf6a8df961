"""What a run leaves behind when it has been evaluated: `results.json` and summaries of the test."""

import json
import pathlib
import platform
from collections.abc import Mapping
from importlib import metadata

import tensorflow as tf

_PACKAGES = ("orbit_snn", "tensorflow", "tf-models-official", "tf_keras", "numpy")


def versions() -> dict[str, str]:
    """Versions of what computed the results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "source checkout"
    return found


def speed(
    directory: pathlib.Path, steps_per_second: float, first_loop_seconds: float | None
) -> dict[str, float | None]:
    """How fast training was; of the last session that trained, where this one did not."""
    now = {"steps_per_second": steps_per_second, "first_loop_seconds": first_loop_seconds}
    path = directory / "results.json"
    if first_loop_seconds is not None or not path.exists():
        return now
    before = json.loads(path.read_text())
    return {name: before.get(name) for name in now}


def write_summaries(directory: pathlib.Path, scalars: Mapping[str, float], step: int) -> None:
    """Scalars of the held-out examples, below `test/`."""
    writer = tf.summary.create_file_writer(str(directory / "test"))
    with writer.as_default():
        for name, value in scalars.items():
            tf.summary.scalar(name, value, step=step)
    writer.flush()
