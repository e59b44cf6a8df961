"""Back-propagation through time."""

from typing import Any

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.learning.base import Forward, Learned, LearningRule, Spec, Window
from orbit_snn.learning.passes import by_time, whole_backward, whole_forward
from orbit_snn.types import Batch


class BPTT(LearningRule):
    """Gradient of the loss over the whole sequence, one update a batch."""

    def __init__(self) -> None:
        super().__init__(name="bptt")

    def prepare(self, modules: TrainingModules, spec: Spec, steps: int) -> None:
        """It trains every model, and has no variables."""

    def windows(self, steps: int) -> tuple[Window, ...]:
        """The whole sequence."""
        return (Window(0, steps),)

    def initial_state(self, modules: TrainingModules, batch_size: int) -> Any:
        """The model's."""
        return modules.model.initial_state(batch_size)

    def forward(self, modules: TrainingModules, batch: Batch, state: Any) -> Forward:
        """See `LearningRule.forward`."""
        return whole_forward(modules, batch, state)

    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Learned:
        """See `LearningRule.backward`."""
        return whole_backward(modules, batch, passed, slopes, by_time())
