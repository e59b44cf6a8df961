"""Neurons that hear through synapses: what arrives becomes a current that lasts."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.neurons.base import Lasting, Neuron, lasting_inside
from orbit_snn.neurons.mixed import Mixed
from orbit_snn.neurons.synapses import Currents, Synapse
from orbit_snn.types import State


class CurrentBasedState(NamedTuple):
    """State of a CurrentBased population.

    Attributes:
      inner: of the neurons.
      currents: of the synapses in nA, as many of `[B, N]` as they remember.
    """

    inner: State
    currents: Currents

    @property
    def v(self) -> Any:
        """Potential of the neurons, where they have one."""
        return self.inner.v


class CurrentBased(Neuron):
    """A population with current-based synapses: its input passes them on the way to the neurons.

        I(t), synapse(t) = synapse.step(synapse(t-1), x(t)),  x the sum over all connections
        s(t) = neuron.step(s(t-1), I(t))

    The counterpart of `Filtered`, whose output passes a synapse: here all of a neuron's inputs have
    the same time course, there all of its outputs.

    Args:
      neuron: the population, of one model; for several put each part of a `Mixed` behind a synapse.
      synapse: onto each of its neurons.
      name: of the module.

    Raises:
      ValueError: for a population of several models, or what is not a synapse.
    """

    def __init__(self, neuron: Neuron, synapse: Synapse, name: str | None = None):
        super().__init__(neuron.units, neuron.dt_ms, neuron.dtype, name)
        if isinstance(neuron, Mixed):
            raise ValueError(
                "neuron is a Mixed; expected a population of one model: make a Mixed of several "
                "CurrentBased."
            )
        if not isinstance(synapse, Synapse):
            raise ValueError(
                f"synapse is {synapse!r}; expected a Synapse, such as SingleExponential(tau_ms=5)."
            )
        self.neuron = neuron
        self.synapse = synapse
        self.spiking = neuron.spiking

    def initial_state(self, batch_size: int) -> CurrentBasedState:
        """The neurons' own, and no currents."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        inner = self.neuron.initial_state(batch_size)
        return CurrentBasedState(inner, self.synapse.initial_state(zeros))

    def step(self, state: CurrentBasedState, current: tf.Tensor) -> CurrentBasedState:
        """One step of the equations above, in which `current` is x; shapes as in `Neuron.step`."""
        driven, currents = self.synapse.step(state.currents, current, self.dt_ms)
        return CurrentBasedState(self.neuron.step(state.inner, driven), currents)

    def output(self, state: CurrentBasedState) -> tf.Tensor:
        """What the neurons send."""
        return self.neuron.output(state.inner)

    @property
    def lasting(self) -> Lasting:
        """That of the neurons."""
        return lasting_inside(self.neuron, lambda state: state.inner)
