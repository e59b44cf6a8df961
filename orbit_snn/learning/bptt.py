"""Back-propagation through time."""

from orbit_snn.learning.base import LearningRule, Update, Window, learning_signals, run
from orbit_snn.losses import Objective
from orbit_snn.networks import Network
from orbit_snn.types import Batch, NetworkState


class BPTT(LearningRule):
    """Gradient of the loss over the whole sequence, one update a batch."""

    def __init__(self) -> None:
        super().__init__(name="bptt")

    def windows(self, steps: int) -> tuple[Window, ...]:
        """The whole sequence."""
        return (Window(0, steps),)

    def update(
        self,
        network: Network,
        objective: Objective,
        batch: Batch,
        state: NetworkState,
        global_batch_size: int,
    ) -> Update:
        """See `LearningRule.update`."""
        return back_propagate(network, objective, batch, state, global_batch_size)


def back_propagate(
    network: Network,
    objective: Objective,
    batch: Batch,
    state: NetworkState,
    global_batch_size: int,
    cut_every: int | None = None,
) -> Update:
    """Forward pass, learning signals, reverse pass; `cut_every` as in `unroll.reverse`."""
    trajectory = run(network, batch, state)
    signals = learning_signals(objective, trajectory, batch, global_batch_size)
    gradients = network.reverse(trajectory, signals.cells, signals.readouts, cut_every)
    return Update(gradients, trajectory.final, signals.score, signals.rates)
