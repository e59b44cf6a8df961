"""Where cells and readouts are in a model."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.types import CellTrajectory, OutputGradients, Trajectory


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
