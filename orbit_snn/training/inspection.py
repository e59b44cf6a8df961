"""What is known of a checkpoint from its files alone: which steps there are, whether all is good.

A checkpoint is a prefix, such as `runs/mine/ckpt-20`, and its files `ckpt-20.index` and
`ckpt-20.data-00000-of-00001`, or more of those. Nothing here writes, and nothing raises for a
damaged file: what is wrong is returned.
"""

import collections
import glob
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

Prefix = str | os.PathLike[str]

_VALUE = "VARIABLE_VALUE"
_NUMBERED = "/_variables/"
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MAY_BE_INFINITE = "actions."  # the memory of what looks at validations starts without a best
_LONGEST = 240  # characters of a reason


def steps_in(directory: str | os.PathLike, name: str = "ckpt") -> dict[int, list[pathlib.Path]]:
    """Steps of which a directory holds a file, in order, each with its files, complete or not.

    Args:
      directory: one that is missing holds no steps.
      name: of the checkpoints, `best_ckpt` below `best/`.
    """
    pattern = re.compile(rf"{re.escape(name)}-(\d+)\.(index|data-\d+-of-\d+)")
    found: dict[int, list[pathlib.Path]] = {}
    for path in sorted(pathlib.Path(directory).glob(f"{glob.escape(name)}-*")):
        if match := pattern.fullmatch(path.name):
            found.setdefault(int(match[1]), []).append(path)
    return dict(sorted(found.items()))


def problem_of(prefix: Prefix) -> str:
    """Why a checkpoint cannot be restored, in one line; empty where it can.

    Every tensor is read, one at a time, and with it its checksum. So a missing file is found, one
    that is cut off, and a bit that changed anywhere in what a restore would read. What a changed
    bit can go unnoticed in is the index's padding and its empty meta block, which hold nothing.

    Call it before `tf.train.Checkpoint.restore`: a damaged footer of the index makes TensorFlow ask
    for any amount of memory. Here this is a `MemoryError`, and reported; in the restore operation
    it is a segmentation fault.
    """
    prefix = pathlib.Path(prefix)
    try:
        if incomplete := _incomplete(prefix):
            return incomplete
        reader = tf.train.load_checkpoint(str(prefix))
        keys = sorted(reader.get_variable_to_shape_map())
    except Exception as error:  # the reader raises OpError, IndexError, ValueError, MemoryError
        return f"{prefix.name}.index cannot be read ({_reason(error, prefix)})"
    for key in keys:
        try:
            reader.get_tensor(key)
        except Exception as error:
            return f"{dotted(key)} cannot be read ({_reason(error, prefix)})"
    return ""


def non_finite(prefix: Prefix) -> list[str]:
    """Dotted paths of the variables that hold a NaN or an infinity.

    Variables that cannot be read are left out: `problem_of` says so.
    """
    return [path for path, value in tensors(prefix) if not finite(value)]


def spoiling(names: Iterable[str]) -> list[str]:
    """Those of `non_finite` with which a run cannot go on."""
    return [name for name in names if not name.startswith(_MAY_BE_INFINITE)]


def finite(value: np.ndarray) -> bool:
    """Whether there is no NaN and no infinity in it; so for everything that is no number."""
    try:
        return bool(np.isfinite(value).all())
    except TypeError:  # texts, booleans of some libraries
        return True


def tensors(prefix: Prefix) -> Iterator[tuple[str, np.ndarray]]:
    """Dotted paths and values, one in memory at a time, of all variables that can be read."""
    try:
        reader = tf.train.load_checkpoint(os.fspath(prefix))
        keys = sorted(reader.get_variable_to_shape_map())
    except Exception:
        return
    slots = _numbered_slots(reader)
    for key in keys:
        if key == _GRAPH:
            continue
        try:
            value = reader.get_tensor(key)
        except Exception:
            continue
        yield slots.get(key) or dotted(key), np.asarray(value)


def dotted(key: str) -> str:
    """The readable path of a checkpoint's key.

    model/modules/network/cells/0/feedforward/kernel/.ATTRIBUTES/VARIABLE_VALUE
    model.network.cells.0.feedforward.kernel
    the same and .OPTIMIZER_SLOT/optimizer/m between kernel and .ATTRIBUTES:
    model.network.cells.0.feedforward.kernel[optimizer.m]
    """
    path, _, attribute = key.partition("/.ATTRIBUTES/")
    path, _, slot = path.partition("/.OPTIMIZER_SLOT/")
    path = re.sub("^model/modules/", "model/", path)
    marks = [slot] if slot else []
    marks += [attribute] if attribute not in ("", _VALUE) else []
    return _dots(path) + "".join(f"[{_dots(mark)}]" for mark in marks)


def _numbered_slots(reader: Any) -> dict[str, str]:
    """Paths, as of other slots, of those that the optimizers of tf_keras number, by key.

    `optimizer/_variables/3` is named `Adam/m/<name of a variable>`, or without `Adam/`; if only one
    has that name, it is known whose slot it is.
    """
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    try:
        graph.ParseFromString(reader.get_tensor(_GRAPH))
    except Exception:
        return {}
    names = {a.checkpoint_key: a.full_name for node in graph.nodes for a in node.attributes}
    count = collections.Counter(names.values())
    keys = {name: key for key, name in names.items()}
    found = {}
    for key in filter(lambda key: _NUMBERED in key, names):
        parts = names[key].split("/")
        ends = ("/".join(parts[i:]) for i in range(1, len(parts)))
        of = next((end for end in ends if end in count), "")
        if count[of] == 1:
            slot = names[key].removesuffix(f"/{of}").rpartition("/")[2]
            optimizer = dotted(key.partition(_NUMBERED)[0])
            found[key] = f"{dotted(keys[of])}[{optimizer}.{slot}]"
    return found


def _dots(path: str) -> str:
    """Parts with dots between them; TensorFlow writes `/` in a part as `.S`, and `.` as `..`."""
    parts = path.split("/")
    return ".".join(re.sub(r"\.([.S])", lambda m: "./"[m[1] == "S"], part) for part in parts)


def _incomplete(prefix: pathlib.Path) -> str:
    """Which file of a checkpoint is missing or empty."""
    shards: dict[int, set[int]] = {}
    for path in prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*"):
        if match := re.fullmatch(r"data-(\d+)-of-(\d+)", path.name[len(prefix.name) + 1 :]):
            shards.setdefault(int(match[2]), set()).add(int(match[1]))
    count = max(shards, key=lambda count: len(shards[count]) / max(count, 1), default=1)
    data = [f"{prefix.name}.data-{i:05d}-of-{count:05d}" for i in range(count)]
    for path in map(prefix.with_name, (f"{prefix.name}.index", *data)):
        if not path.is_file():
            return f"{path.name} is missing"
        if not path.stat().st_size:
            return f"{path.name} is empty"
    return ""


def _reason(error: BaseException, prefix: pathlib.Path) -> str:
    """What TensorFlow says, in one line of bounded length, without the directory."""
    if isinstance(error, (IndexError, tf.errors.OutOfRangeError)):
        return "the file ends too early"
    text = str(error).replace(f"{prefix.parent}{os.sep}", "")
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
