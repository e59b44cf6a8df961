"""The contract of a learning rule, and what the gradient-based ones share."""

import abc
from typing import NamedTuple

import tensorflow as tf

from orbit_snn.losses import Objective
from orbit_snn.networks import Network, outputs
from orbit_snn.types import Batch, NetworkState, Score, Trajectory


class Window(NamedTuple):
    """Steps `start` to `stop` of a sequence, after which parameters are updated once."""

    start: int
    stop: int


class Update(NamedTuple):
    """What a rule makes of one window, in replica context.

    Attributes:
      gradients: this replica's share of the gradient, one tensor for each of `network.parameters`.
      state: of the network after the window, for the next one.
      score: loss and metrics of the window.
      rates: mean output per step of every cell's neurons, `[N]` each.
    """

    gradients: tuple[tf.Tensor, ...]
    state: NetworkState
    score: Score
    rates: tuple[tf.Tensor, ...]


class LearningRule(tf.Module, metaclass=abc.ABCMeta):
    """Turns a batch into updates of a network's parameters.

    A trainer runs a rule as

        state = network.initial_state(batch_size)
        for start, stop in rule.windows(steps):
            update = rule.update(network, objective, batch[start:stop], state, global_batch_size)
            optimizer.apply(all_reduce(update.gradients))
            state = update.state

    `update` is pure: tensors in, tensors out, static shapes, so that it compiles under XLA.
    """

    @abc.abstractmethod
    def windows(self, steps: int) -> tuple[Window, ...]:
        """The windows of a sequence of that many steps; together they cover it."""

    @abc.abstractmethod
    def update(
        self,
        network: Network,
        objective: Objective,
        batch: Batch,
        state: NetworkState,
        global_batch_size: int,
    ) -> Update:
        """Gradients of one window.

        Args:
          network: to train.
          objective: what to minimise.
          batch: this replica's examples, batch-major, cut to the window.
          state: of the network before the window.
          global_batch_size: examples of all replicas together.
        """


class Signals(NamedTuple):
    """Score of a trajectory and the direct gradients of its loss.

    Attributes:
      score: loss and metrics.
      cells: gradient to the outputs of every cell, `[T, B, N]`, or None where the loss does not
        look at them.
      readouts: gradient to the outputs of every readout, `[T, B, K]`.
      rates: mean output per step of every cell's neurons over the batch, `[N]`.
    """

    score: Score
    cells: tuple[tf.Tensor | None, ...]
    readouts: dict[str, tf.Tensor]
    rates: tuple[tf.Tensor, ...]


def run(network: Network, batch: Batch, state: NetworkState | None = None) -> Trajectory:
    """Unrolls the network over `batch["inputs"]`, `[B, T, F]`; the one transposition in time."""
    return network.unroll(tf.transpose(batch["inputs"], [1, 0, 2]), state)


def learning_signals(
    objective: Objective, trajectory: Trajectory, batch: Batch, global_batch_size: int
) -> Signals:
    """Scores a trajectory and differentiates the loss by everything that it looks at."""
    hidden = [tf.identity(cell.outputs) for cell in trajectory.cells]
    readouts = {name: tf.identity(cell.outputs) for name, cell in trajectory.readouts.items()}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([hidden, readouts])
        seen = outputs(_with_outputs(trajectory, hidden, readouts), batch.get("mask"))
        score = objective(seen, batch, global_batch_size)
    dhidden, dreadouts = tape.gradient(score.loss, [hidden, readouts])
    dreadouts = {
        name: tf.zeros_like(readouts[name]) if gradient is None else gradient
        for name, gradient in dreadouts.items()
    }
    rates = tuple(tf.reduce_mean(rate, axis=0) for rate in seen.rates)
    return Signals(score, tuple(dhidden), dreadouts, rates)


def _with_outputs(
    trajectory: Trajectory, hidden: list[tf.Tensor], readouts: dict[str, tf.Tensor]
) -> Trajectory:
    cells = zip(trajectory.cells, hidden, strict=True)
    return Trajectory(
        tuple(cell._replace(outputs=z) for cell, z in cells),
        {name: trajectory.readouts[name]._replace(outputs=y) for name, y in readouts.items()},
    )
