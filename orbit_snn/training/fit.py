"""Whether a checkpoint holds just what a run has, told by the paths of variables."""

import collections
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from orbit_snn.training.errors import RunDirectoryError
from orbit_snn.training.inspection import dotted

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = "/.OPTIMIZER_SLOT/"
OPTIONAL = "actions/"  # what looks at validations may come and go


def variables_of(items: Mapping[str, Any]) -> dict[str, tf.Variable]:
    """Variables by their key in a checkpoint, `model/modules/network/...`; slots are left out."""
    root = tf.train.Checkpoint(**items)
    view, found = tf.train.TrackableView(root), {}
    queue, seen = collections.deque([(root, "")]), {id(root)}
    while queue:
        item, path = queue.popleft()
        if isinstance(item, tf.Variable):
            found[path] = item
        for name, child in view.children(item).items():
            if id(child) not in seen:
                seen.add(id(child))
                name = name.replace(".", "..").replace("/", ".S")
                queue.append((child, f"{path}/{name}" if path else name))
    return found


def check_fit(path: str, items: Mapping[str, Any]) -> None:
    """Compares the variables of a run with those in a checkpoint: names, shapes, types.

    Raises:
      RunDirectoryError: naming the first that differs.
    """
    reader = tf.train.load_checkpoint(path)
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    own = variables_of(items)
    stored = {key.removesuffix(_VALUE) for key in shapes if key.endswith(_VALUE)}
    stored = {key for key in stored if _SLOT not in key and key != "save_counter"}
    for key, variable in own.items():
        if key not in stored:
            raise _misfit(path, f"it lacks {dotted(key)}")
        shape, dtype = list(shapes[key + _VALUE]), types[key + _VALUE]
        if shape != variable.shape.as_list():
            raise _misfit(
                path,
                f"it has {dotted(key)} of shape {shape}, this configuration makes it "
                f"{variable.shape.as_list()}",
            )
        if dtype != variable.dtype:
            raise _misfit(
                path,
                f"it has {dotted(key)} in {dtype.name}, this configuration in "
                f"{variable.dtype.name}",
            )
    extra = sorted(key for key in stored - own.keys() if not key.startswith(OPTIONAL))
    if extra:
        raise _misfit(path, f"it has {dotted(extra[0])}, which this configuration has not")


def _misfit(path: str, why: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"the checkpoint {path} does not fit this configuration: {why}; use the configuration that "
        "wrote it, or another --model_dir."
    )
