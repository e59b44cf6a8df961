"""Pairs of neurons found once, before training, and stored in the data set.

    precompute_pairs(training_modules.model, database)
    training_modules, db_info = assemble_for_training(train_loss, validation_losses)
    database.inputs = db_info["inputs"]

Stored is which neurons are pairs, and by which image; distances are computed from positions in
every step as before, so that gradients reach them.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from absl import logging

from orbit_snn import data
from orbit_snn.data import DataError, Examples
from orbit_snn.graph import pairs
from orbit_snn.graph.editing import ancestors, replace, the_only
from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.images import check_finite, check_size, image_count, needed_images
from orbit_snn.graph.module import GraphModule
from orbit_snn.graph.nodes import InputNode, MultiNode, Node
from orbit_snn.graph.types import IdxType

FEATURE = "AutoPrecomputedPairs"
_LARGE = 2**30  # bytes


class Splits(Protocol):
    """A database: examples by split, to which a feature can be added."""

    @property
    def splits(self) -> Mapping[str, Examples]:
        """All of them by name."""

    def examples(self, split: str, names: list[str]) -> Examples:
        """Those of a split with some of their features."""

    def add(self, name: str, values: Mapping[str, np.ndarray]) -> None:
        """Adds a feature `[size, ...]` to every split, whole or not at all."""


class _Sheets(NamedTuple):
    """Positions of all examples of a split, `[n, N, D]`, and the edges of their tori, `[n, D]`."""

    positions: np.ndarray
    box: np.ndarray | None


class _Pairs(NamedTuple):
    """Of one example: which of all N * N pairs, `[P]`, and by which offsets, `[P, D]`."""

    ends: np.ndarray
    offsets: np.ndarray


def precompute_pairs(
    model: GraphModule,
    database: Splits,
    batch_size: int = 10,
    device: str | None = None,
    make_dense: bool = False,
    n_images: int = 1,
) -> None:
    """Finds the pairs of every example once, stores them, and makes the graph read them.

    The pairs of every split become its feature `AutoPrecomputedPairs`, and the outputs of the
    graph's `PairIndexer` become those of a `PairUncacher`. The model given, and others made before,
    work on as they did: assemble again for the pairs to be read, and set `database.inputs`.

    Which neurons are pairs stays as it is now. Where positions move in training, or come out of
    nodes that are trained, pairs that come within the cutoff later on are missing, and those that
    leave it are still there.

    Args:
      model: an assembled model with a `PairIndexer`.
      database: gives the examples that the pairs are found of, and receives them.
      batch_size: examples at a time.
      device: where pairs are found, such as `/GPU:0`; default where TensorFlow chooses.
      make_dense: store a table of all possible pairs, int8 `[n, N, N, (2 n_images + 1)^D]`, in
        place of a list of indices, int32 `[n, P]` with P the largest number of pairs of an example.
        It needs much memory, and steps with it take longer.
      n_images: of a torus, on either side of each axis, that can be stored; increase it if it
        fails. An open sheet has none.

    Raises:
      NodeNotFound: where the graph has no indexer, or has been changed by this function already.
      NodeAmbiguity: where it has several.
      GraphError: a ValueError, for too few `n_images` (it says how many are needed), a device that
        does not exist, positions that are not finite. Graph and database are then as before.
      DataError: for a split without a size, a feature that is missing, or positions that change
        with the seed of the example.
    """
    live = ancestors(model.nodes_to_compute)
    indexer = the_only(live, lambda n: isinstance(n.module, pairs.PairFinder), "PairIndexer")
    if any(isinstance(node.module, pairs.PairUncacher) for node in live):
        raise GraphError(
            f"the graph reads the pairs of another PairIndexer already; those of `{indexer.name}` "
            "would take their place in the database: leave it as it is."
        )
    assert isinstance(indexer, MultiNode) and isinstance(indexer.module, pairs.PairFinder)
    n_images = image_count(n_images) if len(indexer.parents) > 1 else 0
    place = _checked(device)
    sheets = {split: _sheets(indexer, database, split, batch_size) for split in database.splits}
    with tf.device(place):
        cutoff = indexer.module.dist_hard_max
        found = {split: list(_find(cutoff, sheets[split], batch_size)) for split in sheets}
    needed = max(int(abs(f.offsets).max(initial=0)) for each in found.values() for f in each)
    if needed > n_images:
        raise GraphError(
            f"Caching pairs required a larger number of images n_images (need {needed}); it is "
            f"{n_images}: call precompute_pairs(..., n_images={needed}), or move the positions "
            "into the box."
        )
    values = _stored(sheets, found, n_images, make_dense)
    cached = InputNode(FEATURE, index=IdxType.SEQUENCES)
    uncacher = MultiNode(
        f"{indexer.name}.cached",
        (*indexer.parents, cached),
        pairs.PairUncacher(n_images),
        dict.fromkeys(pairs.PAIR_OUTPUTS, IdxType.PAIRS),
    )
    _warn_of_other_pairs(database)
    database.add(FEATURE, values)
    replace([*live, *indexer.outputs.values()], indexer, uncacher)


def _checked(device: str | None) -> str | None:
    """A device that is there: TensorFlow would silently take another one for one that is not."""
    if device is None:
        return None
    known = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
    try:
        spec = tf.DeviceSpec.from_string(device)
    except ValueError:
        spec = tf.DeviceSpec()
    if f"{spec.device_type}:{spec.device_index or 0}" not in known:
        raise GraphError(f"there is no device {device!r}; expected one of /{', /'.join(known)}.")
    return device


def _sheets(indexer: Node, database: Splits, split: str, batch_size: int) -> _Sheets:
    """What the indexer receives for every example of a split."""
    size = database.splits[split].size
    if size is None:
        raise DataError(
            f"split `{split}` is generated without end; pairs are stored for a known number of "
            "examples only: do not precompute them."
        )
    inputs = [node for node in ancestors(indexer.parents) if isinstance(node, InputNode)]
    if not inputs:
        raise GraphError(
            f"the positions of `{indexer.name}` come of no feature; there is no cache."
        )
    module = GraphModule(inputs, indexer.parents)
    call = tf.function(module.__call__, autograph=False)
    examples = database.examples(split, [node.db_name or node.name for node in inputs])
    batches = zip(
        *(data.evaluation_dataset(examples, batch_size, seed) for seed in (0, 1)), strict=True
    )
    kept: list[list[np.ndarray]] = []
    for once, again in batches:
        real = once.pop("weight").numpy() > 0
        again.pop("weight")
        received, other = (list(call(batch).values()) for batch in (once, again))
        if not all(map(_same, received, other)):
            raise DataError(
                f"the positions in split `{split}` change with the seed of an example, so their "
                "pairs cannot be stored; do not precompute them."
            )
        kept.append([value.numpy()[real] for value in received])
    positions, *boxes = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    check_finite(positions)
    return _Sheets(positions, *boxes) if boxes else _Sheets(positions, None)


def _same(once: tf.Tensor, again: tf.Tensor) -> bool:
    return np.array_equal(once.numpy(), again.numpy(), equal_nan=True)


def _find(cutoff: float, sheets: _Sheets, batch_size: int) -> Iterator[_Pairs]:
    """The pairs of one example after the other, however many images they take."""
    units = sheets.positions.shape[1]
    for start in range(0, len(sheets.positions), batch_size):
        positions, box = (None if x is None else x[start : start + batch_size] for x in sheets)
        finder = pairs.PairFinder(cutoff, needed_images(box, cutoff))
        found = finder(*(tf.constant(x) for x in (positions, box) if x is not None))
        ends = (found["pair_first"] * units + found["pair_second"]).numpy()
        offsets, mask = found["cell_offsets"].numpy(), found["pair_mask"].numpy()
        yield from (_Pairs(e[m], o[m]) for e, o, m in zip(ends, offsets, mask, strict=True))


def _stored(
    sheets: Mapping[str, _Sheets],
    found: Mapping[str, list[_Pairs]],
    n_images: int,
    make_dense: bool,
) -> dict[str, np.ndarray]:
    """The feature by split: lists of one length, or tables."""
    length = max(1, max(len(f.ends) for each in found.values() for f in each))
    values = {}
    for split, each in found.items():
        units, dims = sheets[split].positions.shape[1:]
        images = (2 * n_images + 1) ** dims
        check_size(units, images)
        if make_dense:
            values[split] = _table([len(each), units, units, images])
        else:
            values[split] = np.full([len(each), length], -1, np.int32)
        base = (2 * n_images + 1) ** np.arange(dims)
        for row, (ends, offsets) in zip(values[split], each, strict=True):
            index = ends.astype(np.int64) * images + (offsets + n_images) @ base
            if make_dense:
                row.reshape(-1)[index] = 1
            else:
                row[: len(index)] = index
    return values


def _table(shape: list[int]) -> np.ndarray:
    """Zeros, with a warning where they are many."""
    size = math.prod(shape)
    if size > _LARGE:
        logging.warning(
            "make_dense stores %.1f GiB of pairs, %s: make_dense=False needs less.",
            size / 2**30,
            shape,
        )
    return np.zeros(shape, np.int8)


def _warn_of_other_pairs(database: Splits) -> None:
    """Where a database serves several models, only the last one's pairs are there."""
    if any(FEATURE in examples.spec for examples in database.splits.values()):
        logging.warning(
            "the database had the feature %s already; models that read it get other pairs now.",
            FEATURE,
        )
