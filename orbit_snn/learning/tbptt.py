"""Truncated back-propagation through time."""

from orbit_snn.learning.base import LearningRule, Update, Window
from orbit_snn.learning.bptt import back_propagate
from orbit_snn.losses import Objective
from orbit_snn.networks import Network
from orbit_snn.types import Batch, NetworkState

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

    def windows(self, steps: int) -> tuple[Window, ...]:
        """One window, or one every K steps and the tail."""
        if self.update_every == "sequence":
            return (Window(0, steps),)
        starts = range(0, steps, self.truncation)
        return tuple(Window(start, min(start + self.truncation, steps)) for start in starts)

    def update(
        self,
        network: Network,
        objective: Objective,
        batch: Batch,
        state: NetworkState,
        global_batch_size: int,
    ) -> Update:
        """See `LearningRule.update`."""
        return back_propagate(
            network, objective, batch, state, global_batch_size, cut_every=self.truncation
        )
