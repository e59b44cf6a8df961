"""Aliases and the small tuples that cross files.

Shapes are written `[T, B, N]`: steps, examples of a batch, neurons. `F` counts inputs of a
connection and `K` outputs of a readout. Everything inside `networks` and `unroll` is time-major;
batches of a dataset, and what a loss sees, are batch-major `[B, T, ...]`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

Batch = dict[str, tf.Tensor]
"""Named features of one batch, each `[B, ...]`: `inputs` `[B, T, F]`, targets, `mask`, `weight`."""

State = Any
"""State of a neuron population: a NamedTuple (or a tuple of them) of tensors `[B, N]`."""


Initializer = str | Callable[..., tf.Tensor]
"""How weights are drawn: by name, or by a function `(shape, dtype) -> tensor`."""

PerNeuron = float | Sequence[float]
"""A quantity of a population: one number for all neurons, or one each, `[N]`."""

PerComponent = float | Sequence[float]
"""A quantity of adaptation: one number for all of its components, or one each, `[K]`."""


class CellTrajectory(NamedTuple):
    """What the forward pass of one cell leaves for a learning rule, time-major.

    Attributes:
      inputs: what the feedforward connection received, `[T, B, F]`.
      initial: the state before the first step, of `[B, N]`.
      history: states before every step and after the last one, of `[T + 1, B, N]`; `None` when the
        pass kept only every C-th of them (`checkpoint_every=C`).
      currents: total input current of every step, `[T, B, N]`; `None` like `history`.
      checkpoints: states before every C-th step, of `[ceil(T / C), B, N]`, or `None`.
      outputs: what the population gave at every step, `[T, B, N]`.
      previous_outputs: the same one step earlier, `[T, B, N]`: what the recurrent connection
        received; `None` like `history`.
      final: the state after the last step, of `[B, N]`.
    """

    inputs: tf.Tensor
    initial: State
    history: State | None
    currents: tf.Tensor | None
    checkpoints: State | None
    outputs: tf.Tensor
    previous_outputs: tf.Tensor | None
    final: State


class NetworkState(NamedTuple):
    """State of a network: one entry a cell, one a readout. It goes in and comes out."""

    cells: tuple[State, ...]
    readouts: dict[str, State]


class OutputGradients(NamedTuple):
    """Gradients of a loss to everything that a network puts out, time-major.

    Attributes:
      cells: to the outputs of each cell, `[T, B, N]`, other than by way of what it feeds; None
        where there is none.
      histories: to the states of each cell, of `[T + 1, B, N]`, or None.
      readouts: to the outputs of each readout, `[T, B, K]`.
    """

    cells: Sequence[tf.Tensor | None]
    histories: Sequence[State | None]
    readouts: dict[str, tf.Tensor]


class Trajectory(NamedTuple):
    """Forward pass of a network: one `CellTrajectory` a cell and one a readout.

    Attributes:
      cells: from the input on; `cells[0].inputs` is what the network received, be it given or its
        own output.
      readouts: by name.
      given: bool `[T, B]`, which steps had an input, or None where all had.
    """

    cells: tuple[CellTrajectory, ...]
    readouts: dict[str, CellTrajectory]
    given: tf.Tensor | None = None

    @property
    def final(self) -> NetworkState:
        """The state after the last step, to be handed to the next call."""
        return NetworkState(
            tuple(cell.final for cell in self.cells),
            {name: readout.final for name, readout in self.readouts.items()},
        )
