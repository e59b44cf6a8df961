"""Truncated back-propagation through time."""

from typing import Any

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.learning.base import (
    UPDATES,
    Forward,
    Learned,
    LearningRule,
    Spec,
    Window,
    check_steps,
    windows_of,
)
from orbit_snn.learning.passes import by_time, whole_backward, whole_forward
from orbit_snn.types import Batch


class TBPTT(LearningRule):
    """Back-propagation whose gradient stops at every K-th step (Williams & Peng, 1990).

    The state of every cell and readout is cut where a step begins that is a multiple of K, and
    nowhere else; the last T mod K steps learn like the others. With K = T it is BPTT.

    Args:
      truncation: K, steps.
      update_every: `sequence` adds the gradients of all windows up, with the loss of the whole
        sequence, and updates once a batch. `window` updates after each window of K steps; the
        window is then scored on its own, as a sequence whose first state is carried over.

    Raises:
      ValueError: for K below 1 or an unknown `update_every`.
    """

    def __init__(self, truncation: int = 10, update_every: str = "sequence"):
        super().__init__(name="tbptt")
        check_steps("truncation", truncation)
        if update_every not in UPDATES:
            raise ValueError(f"update_every is {update_every!r}; expected sequence or window.")
        self.truncation = int(truncation)
        self.update_every = update_every

    def prepare(self, modules: TrainingModules, spec: Spec, steps: int) -> None:
        """It trains every model, and has no variables."""

    def windows(self, steps: int) -> tuple[Window, ...]:
        """One window, or one every K steps and the tail."""
        if self.update_every == "sequence":
            return (Window(0, steps),)
        return windows_of(steps, self.truncation)

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
        return whole_backward(modules, batch, passed, slopes, by_time(cut_every=self.truncation))
