"""Step-keyed data: an example is a function of (seed, index), a data set starts at any step.

The order of examples and the seed of every example are computed from the run's seed and the
global step alone, so a resumed run sees the same batches bit for bit, at no cost, and whatever
the number of replicas is. Nothing here keeps a shuffle buffer or an iterator's state.

    examples = from_arrays(load_tfds("mnist", "train", data_dir), encode=encode)
    batches = training_dataset(examples, batch_size=64, seed=0, step=global_step)
"""

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.data_shares import Share as Share
from orbit_snn.data_shares import distributed as distributed

# What a random number is for; folded into every key, so that no two uses share one.
_ORDER, _TRAINING, _EVALUATION = 0, 1, 2

# Rounds of the cipher behind the shuffle. The 4 of `tf.random.experimental.index_shuffle` leave
# neighbours correlated (-0.3 at lag 2 for 60 000 examples, 0.4 at lag 1 for a million); 16 do not.
_SHUFFLE_ROUNDS = 16


class DataError(ValueError):
    """The data cannot be used as asked; the one-line message says what to change."""


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """A set of examples, each a function of (seed, index).

    Attributes:
        fetch: maps `index` int64 `[]` and `seed` int32 `[2]` to one unbatched example. Plain
            TensorFlow; everything random in it comes from `tf.random.stateless_*` with
            `alg="philox"` and this seed.
        size: number of examples; None when they are generated without end.
    """

    fetch: Callable[[tf.Tensor, tf.Tensor], dict[str, Any]]
    size: int | None
    _source: tuple["Examples", Callable[[dict[str, Any]], dict[str, Any]]] | None = (
        dataclasses.field(default=None, init=False, repr=False)
    )

    @functools.cached_property
    def spec(self) -> dict[str, Any]:
        """Shape and type of every field of one example, found by tracing it once."""
        if self._source is None:
            fetch = tf.function(self.fetch)
            key = tf.TensorSpec([2], tf.int32)
            traced = fetch.get_concrete_function(tf.TensorSpec([], tf.int64), key)
        else:
            examples, change = self._source
            traced = tf.function(change, autograph=False).get_concrete_function(examples.spec)
        specified = lambda x: tf.TensorSpec(x.shape, x.dtype)  # noqa: E731
        return tf.nest.map_structure(specified, traced.structured_outputs)

    def mapped(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> "Examples":
        """The same examples, each as `change` makes it; plain TensorFlow without randomness."""
        made = Examples(lambda index, seed: change(self.fetch(index, seed)), self.size)
        object.__setattr__(made, "_source", (self, change))
        return made


def from_arrays(
    arrays: dict[str, np.ndarray],
    encode: Callable[[dict[str, tf.Tensor], tf.Tensor], dict[str, tf.Tensor]] | None = None,
) -> Examples:
    """Examples held in memory.

    Args:
        arrays: fields `[size, ...]`.
        encode: maps an example and its seed int32 `[2]` to the example to train on; None keeps it.

    Returns:
        The examples, in the order of the arrays.

    Raises:
        DataError: without examples, with fields of unequal length, with NaN or infinity.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise DataError(f"field `{name}` is a scalar: its first axis must count the examples")
    lengths = {name: len(array) for name, array in arrays.items()}
    if not any(lengths.values()):
        raise DataError(f"no examples in the fields {sorted(arrays)}")
    if len(set(lengths.values())) > 1:
        raise DataError(f"fields have unequal numbers of examples: {lengths}")
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            bad = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
            raise DataError(f"field `{name}` has NaN or infinity, first in example {bad}")
    with tf.device("CPU:0"):  # where tf.data runs
        tensors = {name: tf.constant(array) for name, array in arrays.items()}

    def fetch(index: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        example = {name: tf.gather(tensor, index) for name, tensor in tensors.items()}
        return example if encode is None else encode(example, seed)

    return Examples(fetch, next(iter(lengths.values())))


def training_dataset(
    examples: Examples,
    batch_size: int,
    seed: int,
    step: int = 0,
    position: int | None = None,
    share: Share = Share(),
) -> tf.data.Dataset:
    """Endless shuffled batches, of which batch k is a function of (seed, k) alone.

    Every epoch is a permutation of the examples, and epochs follow each other without a gap: a
    batch may hold the end of one and the start of the next, so no example is ever dropped. The
    seed of an example is a function of (seed, index, epoch), or of (seed, position) where
    `examples.size` is None and the index is the position.

    Args:
        examples: what to train on.
        batch_size: global batch size B.
        seed: the run's seed.
        step: number of batches already seen.
        position: number of examples already seen, default `step * batch_size`.
        share: whose parts of every batch to give, one after the other; default all in one.

    Returns:
        Batches of fields `[B / replicas, ...]` with static shapes; cardinality INFINITE.

    Raises:
        DataError: for a batch larger than the data set, a bad step, a shape that is not static.
    """
    size = examples.size
    check_batch_size(examples, batch_size)
    if step < 0:
        raise DataError(f"training starts at step {step}: it must be 0 or more")
    first = step * batch_size if position is None else position
    fetch_batch = _batched(examples, share.part(batch_size))

    def batch(k: tf.Tensor) -> dict[str, tf.Tensor]:
        position = first + share.positions(k, batch_size)
        if size is None:
            index, epoch = position, tf.zeros_like(position)
        else:
            epoch = position // size
            index = _permuted(position % size, size, _key(seed, _ORDER, epoch))
        return fetch_batch(index, _key(seed, _TRAINING, index, epoch))

    return _mapped(tf.data.Dataset.counter(0, dtype=tf.int64), batch)


def check_batch_size(examples: Examples, batch_size: int) -> None:
    """Raises DataError for a batch larger than the data set."""
    if examples.size is not None and batch_size > examples.size:
        raise DataError(
            f"batch of {batch_size} examples asked of a data set of {examples.size}: "
            f"lower the batch size to at most {examples.size}"
        )


def evaluation_dataset(
    examples: Examples,
    batch_size: int,
    seed: int,
    size: int | None = None,
    share: Share = Share(),
) -> tf.data.Dataset:
    """Every example once, in order; the last batch is filled up with copies of the last example.

    Args:
        examples: what to evaluate on.
        batch_size: global batch size B; may exceed the number of examples.
        seed: the run's seed; an example's seed is a function of (seed, index), and never one
            that training uses.
        size: number of examples to evaluate, the first ones; needed where `examples.size` is None.
        share: as for `training_dataset`.

    Returns:
        Batches of fields `[B / replicas, ...]` with static shapes, and `weight` float32
        `[B / replicas]`: 1 for an example, 0 for a copy that fills the batch.

    Raises:
        DataError: for a size that is missing or too large, a field called `weight`, a shape that
            is not static.
    """
    if size is None:
        size = examples.size
    if size is None:
        raise DataError("these examples are generated without end: say how many to evaluate")
    if size < 1 or (examples.size is not None and size > examples.size):
        raise DataError(f"evaluation of {size} examples asked of a data set of {examples.size}")
    fetch_batch = _batched(examples, share.part(batch_size), reserved="weight")

    def batch(k: tf.Tensor) -> dict[str, tf.Tensor]:
        position = share.positions(k, batch_size)
        index = tf.minimum(position, size - 1)
        fields = fetch_batch(index, _key(seed, _EVALUATION, index))
        return fields | {"weight": tf.cast(position < size, tf.float32)}

    return _mapped(tf.data.Dataset.range(math.ceil(size / batch_size) * share.own), batch)


def example_at(examples: Examples, index: int, seed: int = 0) -> dict[str, np.ndarray]:
    """One example, as evaluation with that seed sees it."""
    number = tf.constant(index, tf.int64)
    fetched = examples.fetch(number, _key(seed, _EVALUATION, number))
    return {field: np.asarray(value) for field, value in fetched.items()}


def require_fields(wanted: Iterable[str], known: Iterable[str]) -> None:
    """Checks field names.

    Args:
        wanted: the names asked for.
        known: the names there are.

    Raises:
        DataError: for the first name that is not known.
    """
    for field in wanted:
        if field not in known:
            raise unknown("field", field, known, show=True)


def unknown(kind: str, name: str, known: Iterable[str], show: bool = False) -> DataError:
    """Words the error for a name that does not exist.

    Args:
        kind: what it is a name of.
        name: the name asked for.
        known: the names there are, of which the nearest is suggested.
        show: whether the message lists all of them.

    Returns:
        The error to raise.
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    have = f", there are {', '.join(known)}" if show else ""
    hint = f": did you mean `{close[0]}`?" if close else ""
    return DataError(f"no {kind} `{name}`{have}{hint}")


def _mapped(
    dataset: tf.data.Dataset, batch: Callable[[tf.Tensor], dict[str, tf.Tensor]]
) -> tf.data.Dataset:
    """Maps batch numbers to batches, in parallel and in order."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _batched(
    examples: Examples, batch_size: int, reserved: str | None = None
) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """`fetch` for indices `[B]` and seeds `[B, 2]`, once its output is known to be static."""
    if batch_size < 1:
        raise DataError(f"batch of {batch_size} examples: it must hold at least 1")
    spec = examples.spec
    for field, value in spec.items():
        if not value.shape.is_fully_defined():
            raise DataError(f"field `{field}` has the shape {value.shape}, which must be static")
        if field == reserved:
            raise DataError(f"field `{field}` is what marks the real examples: rename yours")
    return lambda index, seeds: tf.map_fn(
        lambda pair: examples.fetch(*pair), (index, seeds), fn_output_signature=spec
    )


@tf.autograph.experimental.do_not_convert
def _permuted(position: tf.Tensor, size: int, key: tf.Tensor) -> tf.Tensor:
    """Image of each position `[B]` under the permutation of range(size) that its key names.

    TensorFlow's shuffle is no permutation of 2^16 + 1, 2^18 + 1, ... numbers (the last number
    finds no image of its own). Those are taken from a permutation of one number more: where a
    position goes to that number, the number's own image is free.
    """
    broken = size > 2**16 and (size - 1) & (size - 2) == 0
    count = size + 1 if broken else size
    seed = tf.pad(key, [[0, 0], [1, 0]])  # [B, 3]

    def shuffle(index: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.RandomIndexShuffle(
            index=index,
            seed=seed,
            max_index=tf.fill([key.shape[0]], tf.constant(count - 1, tf.int64)),
            rounds=_SHUFFLE_ROUNDS,
        )

    image = shuffle(position)
    return tf.where(image == size, shuffle(image), image) if broken else image


@tf.autograph.experimental.do_not_convert
def _key(seed: int, *path: int | tf.Tensor) -> tf.Tensor:
    """Mixes a seed and integers into a key int32 `[..., 2]`, by SplitMix64 (Steele et al. 2014).

    Mixing matters: the shuffle makes only some hundred permutations of seeds such as [7, epoch].
    """
    state = _mix(_uint64(seed))
    for value in path:
        number = _uint64(value) if isinstance(value, int) else tf.bitcast(value, tf.uint64)
        state = _mix(state + _uint64(0x9E3779B97F4A7C15) * (number + _uint64(1)))
    return tf.bitcast(state, tf.int32)


def _mix(z: tf.Tensor) -> tf.Tensor:
    z = _uint64(0xBF58476D1CE4E5B9) * (z ^ tf.bitwise.right_shift(z, _uint64(30)))
    z = _uint64(0x94D049BB133111EB) * (z ^ tf.bitwise.right_shift(z, _uint64(27)))
    return z ^ tf.bitwise.right_shift(z, _uint64(31))


def _uint64(value: int) -> tf.Tensor:
    return tf.constant(value % 2**64, tf.uint64)
