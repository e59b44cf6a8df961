"""e-prop over a whole sequence: one reverse pass of each cell, without coupling between neurons."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from orbit_snn import unroll
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.learning.eprop_chunks import RuleTraces
from orbit_snn.learning.feedback import FeedbackMatrices
from orbit_snn.networks import add
from orbit_snn.types import OutputGradients, Trajectory


class Factored:
    """Goes back through a whole network; a `learning.passes.Reverse`.

    Args:
      feedback: from readouts to cells.
      spatial: whether errors pass down from cells to those below.

    Attributes:
      adaptive: gradients to adaptive feedback, by reference of the variable.
      after: traces, of which there are none.
    """

    def __init__(self, feedback: FeedbackMatrices, spatial: bool):
        self._feedback = feedback
        self._spatial = spatial
        self.adaptive: dict[Any, tf.Tensor] = {}
        self.after: RuleTraces = {}

    def __call__(
        self, node: NetworkNode, trajectory: Trajectory, direct: OutputGradients, below: bool
    ) -> tuple[Sequence[tf.Tensor], tf.Tensor | None]:
        """See `learning.passes.Reverse`."""
        network = node.module
        every: dict[str, Any] = {"checkpoint_every": network.checkpoint_every, "couple": False}
        signals = list(direct.cells)
        readouts: list[tuple[tf.Tensor, ...]] = []
        for name, cell in network.readouts.items():
            back = unroll.reverse(cell, trajectory.readouts[name], direct.readouts[name], **every)
            readouts.append(back.gradients)
            self.adaptive |= self._feedback.followed(node, name, back.gradients)
            for index, signal in enumerate(signals):
                if self._feedback.teaches(node, index):
                    taught = self._feedback.signal(node, name, index, back.currents)
                    signals[index] = add(signal, taught)
        above: tf.Tensor | None = None
        cells: list[tuple[tf.Tensor, ...]] = []
        for index in reversed(range(len(network.cells))):
            own = trajectory.cells[index]
            signal = add(signals[index], above)
            back = unroll.reverse(
                network.cells[index],
                own,
                tf.zeros_like(own.outputs) if signal is None else signal,
                inputs_needed=self._spatial and (below or index > 0),
                dhistory=direct.histories[index],
                **every,
            )
            cells.insert(0, back.gradients)
            above = back.inputs
        return tuple(g for group in (*cells, *readouts) for g in group), above
