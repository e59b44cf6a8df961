"""A cell: connections onto one neuron population."""

import tensorflow as tf

from orbit_snn.connections import Connection
from orbit_snn.neurons import Neuron
from orbit_snn.types import State


class Cell(tf.Module):
    """Connections onto one population; the unit that local learning rules train.

    The current of a step is that of the feedforward connection, from the same step's input, plus
    that of the recurrent one, from the population's own output one step before.

    Args:
      neuron: the population.
      feedforward: from the cell's inputs onto the population.
      recurrent: from the population onto itself, or None.
      name: of the module.

    Raises:
      ValueError: where the sizes of the parts do not fit.
    """

    def __init__(
        self,
        neuron: Neuron,
        feedforward: Connection,
        recurrent: Connection | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if feedforward.units != neuron.units:
            raise ValueError(
                f"the feedforward connection gives {feedforward.units} currents, the population "
                f"has {neuron.units} neurons; make them equal."
            )
        if recurrent is not None and (recurrent.inputs, recurrent.units) != (neuron.units,) * 2:
            raise ValueError(
                f"the recurrent connection is {recurrent.inputs} onto {recurrent.units}, the "
                f"population has {neuron.units} neurons; make all three equal."
            )
        self.neuron = neuron
        self.feedforward = feedforward
        self.recurrent = recurrent

    def initial_state(self, batch_size: int) -> State:
        """State before the first step, of `[B, N]`."""
        return self.neuron.initial_state(batch_size)

    def step(self, state: State, x: tf.Tensor) -> State:
        """State one step later, given the input `[B, F]` of that step."""
        current = self.feedforward(x)
        if self.recurrent is not None:
            current += self.recurrent(self.neuron.output(state))
        return self.neuron.step(state, current)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Feedforward, recurrent."""
        return (self.feedforward, *([] if self.recurrent is None else [self.recurrent]))

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """Trainable variables: feedforward, recurrent, the neuron's own; gradients come so."""
        recurrent = () if self.recurrent is None else self.recurrent.parameters
        return (*self.feedforward.parameters, *recurrent, *self.neuron.parameters)
