"""Back-propagation through time."""

import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.module import GraphState
from orbit_snn.learning.base import Forward, LearningRule, Window, back_propagate, run_forward
from orbit_snn.types import Batch


class BPTT(LearningRule):
    """Gradient of the loss over the whole sequence, one update a batch."""

    def __init__(self) -> None:
        super().__init__(name="bptt")

    def windows(self, steps: int) -> tuple[Window, ...]:
        """The whole sequence."""
        return (Window(0, steps),)

    def forward(
        self, modules: TrainingModules, batch: Batch, state: GraphState, reports: bool = True
    ) -> Forward:
        """See `LearningRule.forward`."""
        return run_forward(modules, batch, state, reports)

    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> tuple[tf.Tensor, ...]:
        """See `LearningRule.backward`."""
        return back_propagate(modules, batch, passed, slopes)
