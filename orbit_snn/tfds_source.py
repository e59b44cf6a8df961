"""Reads data sets of TFDS into arrays, in an order that never changes."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from orbit_snn.data import DataError, require_fields, unknown

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_READ_BATCH = 256


def load_tfds(
    builder: "tfds.core.DatasetBuilder | str",
    split: str,
    data_dir: str | os.PathLike[str] | None = None,
    fields: Iterable[str] | None = None,
    limit_mb: int = 2048,
) -> dict[str, np.ndarray]:
    """Reads all examples of a TFDS split, in an order that never changes.

    Args:
        builder: a builder, or the name of a data set that ships with tensorflow-datasets.
        split: a split or a slice of one, such as `train[:90%]`.
        data_dir: where a data set given by name is prepared, once; None is TFDS's default. A
            builder has its own.
        fields: what to read, nested features as `a/b`; None reads everything.
        limit_mb: the most memory that the arrays may take.

    Returns:
        Arrays `[size, ...]` by field.

    Raises:
        DataError: for a name, field or split that does not exist, data that cannot be prepared or
            read, examples of different shapes, arrays larger than the limit.
    """
    import tensorflow_datasets as tfds

    if isinstance(builder, str):
        builder = _builder(builder, data_dir)
    known = list(flat(builder.info.features.get_tensor_info()))
    fields = known if fields is None else list(fields)
    require_fields(fields, known)
    prepare_tfds(builder)
    try:
        size = builder.info.splits[split].num_examples
    except (KeyError, ValueError):
        splits = ", ".join(builder.info.splits)
        raise DataError(f"`{builder.name}` has no split `{split}`, it has {splits}") from None
    if not size:
        raise DataError(f"split `{split}` of `{builder.name}` has no examples")
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    dataset = dataset.map(lambda example: {f: v for f, v in flat(example).items() if f in fields})
    try:
        return _stacked(dataset, size, limit_mb, f"`{builder.name}`")
    except tf.errors.OpError as error:
        reason = _fault(builder, split) or _one_line(error)
        raise DataError(
            f"`{builder.name}` cannot be read: {reason}; delete the folder {builder.data_dir} and "
            "prepare it again"
        ) from error


def prepare_tfds(builder: "tfds.core.DatasetBuilder") -> None:
    """Prepares a data set in its data_dir, unless it is there; any number of processes may.

    Raises:
        DataError: when it cannot be prepared, for instance without a network.
    """
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _quiet_unless_watched():
            builder.download_and_prepare(download_config=config)
    except Exception as error:  # a builder runs code of its own, and may raise anything
        if not os.path.isdir(builder.data_dir):
            raise DataError(
                f"`{builder.name}` could not be prepared in {builder.data_dir} "
                f"({_one_line(error)}): prepare it where there is a network and copy the folder"
            ) from error
    # The folder appears at once and complete. Where another process was first, it is that one's.
    try:
        builder.info.read_from_directory(builder.data_dir)
    except Exception as error:  # of protobuf, of JSON, of the file system
        raise DataError(
            f"`{builder.name}` cannot be read ({_one_line(error)}): delete the folder "
            f"{builder.data_dir} and prepare it again"
        ) from error


@contextlib.contextmanager
def _quiet_unless_watched() -> Iterator[None]:
    """Keeps what TFDS prints, and its progress bars, off streams that are not a terminal."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        yield
        return
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def open_tfds(
    make: "Callable[[], tfds.core.DatasetBuilder]", name: str
) -> "tfds.core.DatasetBuilder":
    """The builder that `make` gives, which reads the description of data prepared before.

    Raises:
        DataError: when that is damaged, or what the builder needs is not there.
    """
    import tensorflow_datasets as tfds

    try:
        return make()
    except tfds.core.DatasetNotFoundError:
        raise
    except Exception as error:  # the module of a data set may need what is not installed
        raise DataError(
            f"`{name}` cannot be opened ({_one_line(error)}): install what it needs, or delete its "
            "folder in data_dir and prepare it again"
        ) from error


def _builder(name: str, data_dir: str | os.PathLike[str] | None) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    if not re.fullmatch(r"\w+(/\w[\w.+-]*)?", name):  # a namespace would run code from elsewhere
        raise DataError(
            f"`{name}` is not the name of a data set that ships with tensorflow-datasets "
            "(`name` or `name/config`, no `namespace:` and no version)"
        )
    try:
        return open_tfds(lambda: tfds.builder(name, data_dir=data_dir), name)
    except tfds.core.DatasetNotFoundError as error:
        names = tfds.list_builders(with_community_datasets=False)
        raise unknown("data set", name, names) from error


def _stacked(
    dataset: tf.data.Dataset, size: int, limit_mb: int, name: str
) -> dict[str, np.ndarray]:
    """The `size` examples of a data set as arrays; checks the memory before it takes it."""
    for field, spec in dataset.element_spec.items():
        if not isinstance(spec, tf.TensorSpec):
            raise DataError(f"{name}: field `{field}` is a {type(spec).__name__}, not a tensor")
    static = all(spec.shape.is_fully_defined() for spec in dataset.element_spec.values())
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for batch in dataset.batch(_READ_BATCH if static else 1).as_numpy_iterator():
        if not arrays:
            row = sum(value[0].nbytes for value in batch.values())
            if row * size > limit_mb * 2**20:
                raise DataError(
                    f"{name} takes {row * size / 2**20:.0f} MB in memory, the limit is "
                    f"{limit_mb} MB: read fewer fields or a slice such as `train[:10%]`"
                )
            arrays = {f: np.empty((size, *v.shape[1:]), v.dtype) for f, v in batch.items()}
        for field, value in batch.items():
            shape = arrays[field].shape[1:]
            if value.shape[1:] != shape:
                raise DataError(
                    f"{name}: examples of field `{field}` differ in shape, {shape} and "
                    f"{value.shape[1:]}: leave it out of `fields`"
                )
            arrays[field][start : start + len(value)] = value
        start += len(value)
    if start != size:
        raise DataError(f"{name} has {start} examples where {size} were written: prepare it again")
    return arrays


def _fault(builder: "tfds.core.DatasetBuilder", split: str) -> str:
    """The first file of a split that is damaged, and where; nothing where all can be read."""
    import tensorflow_datasets as tfds

    adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[builder.info.file_format]
    for file in builder.info.splits[split].file_instructions:
        whole = f"{file.examples_in_shard} records"
        if not tf.io.gfile.exists(file.filename):
            return f"the file {file.filename} of {whole} is missing"
        count = 0
        try:
            for _ in adapter.make_tf_data(file.filename):
                count += 1
        except tf.errors.OpError:
            return f"the file {file.filename} of {whole} is damaged after the first {count}"
        if count != file.examples_in_shard:
            return f"the file {file.filename} has {count} of {whole}"
    return ""


@tf.autograph.experimental.do_not_convert
def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with keys such as `a/b`."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}/{name}" if prefix else name)
    return found


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    said = re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", lines[0]) if lines else ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
