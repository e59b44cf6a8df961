"""What least squares sees of a cell: one matrix of synapses, and a part of the trajectory."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.types import CellTrajectory, OutputGradients, Trajectory
from orbit_snn.unroll import traces


class Place(NamedTuple):
    """Where a cell or readout is: in which network, and its index or name there."""

    node: NetworkNode
    key: int | str

    @property
    def name(self) -> str:
        """As the graph calls its outputs, `net.cell0` or `net.output`."""
        return self._in(self.node).name

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self._in(self.node.module)

    def trajectory(self, trajectories: Mapping[str, Trajectory]) -> CellTrajectory:
        """Its part of a forward pass."""
        return self._in(trajectories[self.node.name])

    def gradient(self, direct: OutputGradients) -> tf.Tensor | None:
        """Its part of the gradients to a network's outputs."""
        return self._in(direct)

    def _in(self, whole: Any) -> Any:
        """Its part of what has `cells` and `readouts`."""
        return whole.cells[self.key] if isinstance(self.key, int) else whole.readouts[self.key]


def places(node: NetworkNode) -> tuple[Place, ...]:
    """All cells of a network, then its readouts."""
    keys = (*range(len(node.module.cells)), *node.module.readouts)
    return tuple(Place(node, key) for key in keys)


class Layer:
    """Trained connections onto one cell, as one matrix of synapses, `[P, N]`.

    Rows of the matrix are what `Connection.presynaptic` gives: inputs, 1 for a bias, the cell's own
    outputs one step before.

    Args:
      place: of the cell.
      recurrent_only: leave the feedforward connection out.

    Attributes:
      rows: P, 0 where nothing is trained.
      units: N.
    """

    def __init__(self, place: Place, recurrent_only: bool = False):
        self.place = place
        cell = self._cell = place.cell
        self._widths = traces.widths(cell)
        self._skipped = self._widths[0] if recurrent_only else 0
        self.rows = sum(self._widths) - self._skipped
        self.units = cell.neuron.units
        self.dtype = cell.neuron.dtype
        feedforward = () if recurrent_only else cell.feedforward.parameters
        recurrent = () if cell.recurrent is None else cell.recurrent.parameters
        self.parameters: tuple[tf.Variable, ...] = (*feedforward, *recurrent)

    def arriving(self, trajectory: CellTrajectory) -> tf.Tensor:
        """What arrives at every synapse at every step, `[T, B, P]`."""
        seen = traces.presynaptic(self._cell, trajectory.inputs, trajectory.previous_outputs)
        return seen[..., self._skipped :]

    def matrix(self) -> tf.Tensor:
        """The weights, `[P, N]`."""
        return self.by_synapse([tf.convert_to_tensor(p) for p in self.parameters])

    def mask(self) -> tf.Tensor:
        """1 where there is a synapse, `[P, N]`."""
        return self.by_synapse(self.by_parameter(tf.ones([self.rows, self.units], self.dtype)))

    def by_synapse(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """One tensor for each of `parameters`, weights or gradients, as a matrix `[P, N]`."""
        cell = self._cell
        count = len(cell.feedforward.parameters) if not self._skipped else 0
        found = [] if self._skipped else [cell.feedforward.by_synapse(values[:count])]
        if cell.recurrent is not None:
            found.append(cell.recurrent.by_synapse(values[count:]))
        return tf.concat(found, axis=0)

    def by_parameter(self, matrix: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """A matrix `[P, N]` as one tensor for each of `parameters`."""
        skipped = tf.zeros([self._skipped, self.units], self.dtype)
        every = traces.synaptic_gradients(self._cell, tf.concat([skipped, matrix], axis=0))
        return every[len(every) - len(self.parameters) :]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each connection that is trained."""
        own = (self._widths[0] - self._skipped, *self._widths[1:])
        return tuple(size for size in own if size)

    def by_connection(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        """A matrix `[..., P, N]` by connection."""
        return tf.split(matrix, self.sizes, axis=-2)
