"""Pairs of neurons within a cutoff, on open sheets or on tori.

    sheet = PositionsNode("positions"), BoxNode("box")           # [B, N, D], [B, D]
    pairs = PairIndexer("pairs", sheet, dist_hard_max=0.3)       # pairs.pair_dist, ...
    connection = DistanceConnection(units=100, length=0.1)
    lateral = DistanceNode("lateral", spikes, pairs, connection)   # [B, T, N]

A pair leads from the presynaptic neuron j, `pair_second`, to the postsynaptic neuron i,
`pair_first`; on a torus, from the image of j that is o boxes away, o in Z^D. Which pairs there are
can be stored in the data set, see `precompute.precompute_pairs`; distances never are.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.connections.distance import DistanceConnection
from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.images import (
    check_finite,
    check_size,
    image_count,
    needed_images,
    offset_grid,
)
from orbit_snn.graph.nodes import InputNode, ModelNode, MultiNode, Node
from orbit_snn.graph.sequences import SequenceNode
from orbit_snn.graph.types import IdxType

PAIR_OUTPUTS = (
    *("pair_dist", "pair_first", "pair_second", "pair_coord"),
    *("cell_offsets", "offset_index", "pair_mask"),
)


def PositionsNode(db_name: str, name: str | None = None) -> InputNode:
    """A feature with the positions of neurons, `[B, N, D]`."""
    return InputNode(db_name, name, IdxType.SEQUENCES)


def BoxNode(db_name: str, name: str | None = None) -> InputNode:
    """A feature with the edges of a torus, `[B, D]`, in the unit of the positions."""
    return InputNode(db_name, name, IdxType.SEQUENCES)


def PairIndexer(
    name: str, parents: Node | Sequence[Node], dist_hard_max: float, n_images: int = 1
) -> MultiNode:
    """A node of the pairs within a cutoff; its outputs are those of `PairFinder`.

    Args:
      name: of the node.
      parents: nodes of positions `[B, N, D]`, and of the edges of a torus `[B, D]` if it is one.
      dist_hard_max: the cutoff, in the unit of the positions; only shorter distances count.
      n_images: of the torus searched on either side of each axis, see `needed_images`.

    Raises:
      GraphError: for a cutoff that is not positive, or another number of parents.
    """
    given = parents if isinstance(parents, Sequence) else (parents,)
    if len(given) not in (1, 2):
        raise GraphError(f"node `{name}` got {len(given)} parents; give positions, or also a box.")
    finder = PairFinder(dist_hard_max, n_images)
    return MultiNode(name, given, finder, dict.fromkeys(PAIR_OUTPUTS, IdxType.PAIRS))


def DistanceNode(
    name: str, x: Node, pairs: MultiNode, connection: DistanceConnection
) -> SequenceNode:
    """Currents `[B, T, N]` through a connection that depends on the distances of pairs.

    Args:
      name: of the node; `<name>.x` is one that only checks the number of neurons.
      x: node of what the neurons send, `[B, T, N]`.
      pairs: what `PairIndexer` made.
      connection: maps the one and the other to currents.
    """

    def checked(sent: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        counts = [sent.shape[-1], positions.shape[1], connection.units]
        if len(set(counts)) > 1:
            raise GraphError(
                f"node `{name}`: `{x.name}` has {counts[0]} neurons, `{pairs.name}` {counts[1]} "
                f"positions and the connection {counts[2]} units; make them the same."
            )
        return sent

    given = ModelNode(f"{name}.x", (x, pairs.parents[0]), checked)
    parents = (given, pairs.pair_dist, pairs.pair_first, pairs.pair_second, pairs.pair_mask)
    return SequenceNode(name, parents, connection)


class PairFinder(tf.Module):
    """Finds the pairs closer than a cutoff, among all neurons and images of neurons.

    A pair counts where `dist < dist_hard_max` and it is not a neuron with itself at offset zero: so
    do neurons at the same place, and a neuron's own images on a torus. Positions may lie outside of
    the box. All shapes are static: there is an entry for every candidate, and a mask. For P
    candidates (`N * N`, on a torus times `(2 n_images + 1) ** D`) it gives

      pair_dist: distance `[B, P]`, with the gradient 0 for neurons at the same place.
      pair_first: postsynaptic neuron i, int32 `[B, P]`.
      pair_second: presynaptic neuron j, int32 `[B, P]`.
      pair_coord: `r_j + o * box - r_i`, `[B, P, D]`.
      cell_offsets: o, int32 `[B, P, D]`, for the positions as they are given.
      offset_index: `sum_d (o_d + n) (2 n + 1)^d`, int32 `[B, P]`, with n = n_images, and 0 on an
        open sheet; -1 where some |o_d| > n, which happens for positions outside of the box.
      pair_mask: whether it is a pair, bool `[B, P]`; elsewhere distance, coordinates and offsets
        are 0, with no gradient, and the index is -1.

    Args:
      dist_hard_max: the cutoff.
      n_images: see `PairIndexer`.

    Raises:
      GraphError: for a cutoff that is not positive, or a negative number of images. Calls raise
        it for shapes that do not fit, and where the box is known, that is in eager mode, for too
        few images; `check_images` does so for data before a compiled step.
    """

    def __init__(self, dist_hard_max: float, n_images: int = 1):
        super().__init__(name="pair_finder")
        if not 0 < dist_hard_max < math.inf:
            raise GraphError(f"dist_hard_max is {dist_hard_max}; the cutoff must be positive.")
        self.dist_hard_max = float(dist_hard_max)
        self.n_images = image_count(n_images)

    def __call__(self, positions: tf.Tensor, box: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """The pairs, given positions `[B, N, D]` and the edges `[B, D]` if it is a torus."""
        box = _checked(positions, box)
        known = None if box is None else tf.get_static_value(box)
        if known is not None:
            self._check_images(known)
        n_images = 0 if box is None else self.n_images
        check_size(positions.shape[1], (2 * n_images + 1) ** positions.shape[2])
        offsets = offset_grid(n_images, positions.shape[2])  # of positions inside of the box
        ends = _all_ends(positions, len(offsets))
        if box is None:
            apart = _per_candidate(tf.constant(offsets), positions, len(offsets))
        else:
            cell = tf.cast(tf.floor(positions / box[:, tf.newaxis]), tf.int32)  # [B, N, D]
            moved = (cell[:, :, tf.newaxis] - cell[:, tf.newaxis])[:, :, :, tf.newaxis]
            apart = _per_candidate(offsets + moved, positions, len(offsets))
        coordinates = _coordinates(ends, apart, box)
        itself = (ends.first == ends.second) & tf.reduce_all(apart == 0, axis=-1)
        distance = _length(coordinates)
        mask = (distance < self.dist_hard_max) & ~itself
        return _described(ends, coordinates, distance, apart, mask, n_images)

    def _check_images(self, box: np.ndarray) -> None:
        needed = needed_images(box, self.dist_hard_max)
        if needed > self.n_images:
            raise GraphError(
                f"pairs within {self.dist_hard_max} on a torus with edges down to {np.min(box)} "
                f"need n_images={needed}, or some would be lost; n_images is {self.n_images}."
            )


class PairUncacher(tf.Module):
    """The pairs of `PairFinder` from a stored list of them; distances are those of now.

    No pair is added or left out: the list is right as long as the pairs of the positions are those
    that it was made of. It is one of two:

      a list, int32 `[B, P]`: indices into `[N, N, (2n + 1)^D]`, the axes of which are first,
        second and offset_index; -1 fills it up.
      a table, int8 `[B, N, N, (2n + 1)^D]`: 1 for a pair; P is the number of its entries.

    Args:
      n_images: n of the list on a torus; on an open sheet it is 0.

    Raises:
      GraphError: for a negative number of images. Calls raise it for shapes that do not fit.
    """

    def __init__(self, n_images: int):
        super().__init__(name="pair_uncacher")
        self.n_images = image_count(n_images)

    def __call__(self, positions: tf.Tensor, *others: tf.Tensor) -> dict[str, tf.Tensor]:
        """The pairs, given positions, the edges if it is a torus, and the list or table."""
        *boxes, cached = others
        box = _checked(positions, *boxes)
        n_images = 0 if box is None else self.n_images
        units, dims = positions.shape[1:]
        check_size(units, (2 * n_images + 1) ** dims)
        grid = offset_grid(n_images, dims)
        if cached.shape.rank == 2:
            index = tf.maximum(tf.cast(cached, tf.int32), 0)
            mask = cached >= 0
            ends = _listed_ends(positions, index // len(grid))
            offsets = tf.gather(tf.constant(grid), index % len(grid))
        elif cached.shape[1:] == [units, units, len(grid)]:
            mask = tf.reshape(cached != 0, [cached.shape[0], -1])
            ends = _all_ends(positions, len(grid))
            offsets = _per_candidate(tf.constant(grid), positions, len(grid))
        else:
            raise GraphError(
                f"the stored pairs have shape {cached.shape}; {units} neurons and {len(grid)} "
                f"offsets need [B, P] or [B, {units}, {units}, {len(grid)}]; store them anew."
            )
        coordinates = _coordinates(ends, offsets, box)
        return _described(ends, coordinates, _length(coordinates), offsets, mask, n_images)


def check_images(finder: PairFinder, positions: np.ndarray, box: np.ndarray | None = None) -> None:
    """Checks on data what a compiled model cannot: that no pair will be lost.

    Args:
      finder: of the model, `pairs.module`.
      positions: of examples, `[..., N, D]`.
      box: their edges, `[..., D]`.

    Raises:
      GraphError: for too few `n_images`, saying how many are needed; for edges that are not
        positive, or positions that are not finite.
    """
    check_finite(positions)
    if box is not None:
        finder._check_images(np.asarray(box))


class _Ends(NamedTuple):
    """Both neurons of pairs, int32 `[B, P]`, and their positions `[B, P, D]`."""

    first: tf.Tensor
    second: tf.Tensor
    at_first: tf.Tensor
    at_second: tf.Tensor


def _all_ends(positions: tf.Tensor, offsets: int) -> _Ends:
    """Of all candidates: every neuron with every neuron, once for each offset."""
    size, units, _ = positions.shape
    index = tf.broadcast_to(
        tf.range(units * units * offsets) // offsets, [size, units * units * offsets]
    )
    return _Ends(
        index // units,
        index % units,
        _per_candidate(positions[:, :, tf.newaxis, tf.newaxis], positions, offsets),
        _per_candidate(positions[:, tf.newaxis, :, tf.newaxis], positions, offsets),
    )


def _listed_ends(positions: tf.Tensor, index: tf.Tensor) -> _Ends:
    """Of listed pairs, given indices `[B, P]` into `[N, N]`."""
    first, second = index // positions.shape[1], index % positions.shape[1]
    places = (tf.gather(positions, end, batch_dims=1) for end in (first, second))
    return _Ends(first, second, *places)


def _per_candidate(x: tf.Tensor, positions: tf.Tensor, offsets: int) -> tf.Tensor:
    """What broadcasts to `[B, N, N, offsets, D]`, as `[B, P, D]`."""
    size, units, dims = positions.shape
    return tf.reshape(tf.broadcast_to(x, [size, units, units, offsets, dims]), [size, -1, dims])


def _coordinates(ends: _Ends, offsets: tf.Tensor, box: tf.Tensor | None) -> tf.Tensor:
    """Where the second neuron is, seen from the first, `[B, P, D]`."""
    if box is None:
        return ends.at_second - ends.at_first
    return ends.at_second + tf.cast(offsets, box.dtype) * box[:, tf.newaxis] - ends.at_first


def _length(coordinates: tf.Tensor) -> tf.Tensor:
    """Lengths `[B, P]` of `[B, P, D]`; the gradient of 0 is 0."""
    squares = tf.reduce_sum(tf.square(coordinates), axis=-1)
    apart = squares > 0
    return tf.where(apart, tf.sqrt(tf.where(apart, squares, 1)), 0)


def _described(
    ends: _Ends,
    coordinates: tf.Tensor,
    distance: tf.Tensor,
    offsets: tf.Tensor,
    mask: tf.Tensor,
    n_images: int,
) -> dict[str, tf.Tensor]:
    """What `PairFinder` gives."""
    within = mask[:, :, tf.newaxis]
    fits = mask & tf.reduce_all(tf.abs(offsets) <= n_images, axis=-1)
    base = (2 * n_images + 1) ** np.arange(offsets.shape[-1], dtype=np.int32)
    index = tf.reduce_sum((offsets + n_images) * base, axis=-1)
    values = (
        *(tf.where(mask, distance, 0), ends.first, ends.second, tf.where(within, coordinates, 0)),
        *(tf.where(within, offsets, 0), tf.where(fits, index, -1), mask),
    )
    return dict(zip(PAIR_OUTPUTS, values, strict=True))


def _checked(positions: tf.Tensor, box: tf.Tensor | None = None) -> tf.Tensor | None:
    """The box in the type of the positions, once shapes are found to fit."""
    if positions.shape.rank != 3 or not positions.dtype.is_floating:
        raise GraphError(
            f"positions are {positions.dtype.name} of shape {positions.shape}; expected floats "
            "[B, N, D]."
        )
    if box is None:
        return None
    wanted = [positions.shape[0], positions.shape[2]]
    if box.shape != wanted:
        raise GraphError(
            f"a box has shape {box.shape}; expected the edges of each example, {wanted}."
        )
    return tf.cast(box, positions.dtype)
