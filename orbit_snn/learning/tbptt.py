"""Truncated back-propagation through time."""

from typing import Any

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.learning.base import Forward, Learned, LearningRule, Spec, Window
from orbit_snn.learning.passes import back_propagate, by_time, run_forward
from orbit_snn.types import Batch

UPDATES = ("sequence", "window")


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
        if truncation < 1:
            raise ValueError(f"truncation is {truncation}; expected 1 step or more.")
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
        starts = range(0, steps, self.truncation)
        return tuple(Window(start, min(start + self.truncation, steps)) for start in starts)

    def initial_state(self, modules: TrainingModules, batch_size: int) -> Any:
        """The model's."""
        return modules.model.initial_state(batch_size)

    def forward(self, modules: TrainingModules, batch: Batch, state: Any) -> Forward:
        """See `LearningRule.forward`."""
        passed = run_forward(modules, batch, state)
        return Forward(passed.sums, passed)

    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Learned:
        """See `LearningRule.backward`."""
        done = passed.kept
        reverse = by_time(cut_every=self.truncation)
        gradients = back_propagate(modules, batch, done, slopes, reverse)
        return Learned(gradients, done.state, done.sums, done.reports)
