"""Neurons that are heard through a synapse's filter."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons.base import Lasting, Neuron, lasting_inside
from orbit_snn.types import State


class FilteredState(NamedTuple):
    """State of a Filtered population.

    Attributes:
      inner: of the neurons.
      r: what they send, `[B, N]`.
      h: what flows into it, `[B, N]`; `()` without a rise time.
    """

    inner: State
    r: tf.Tensor
    h: Any


class Filtered(Neuron):
    """A population whose output is that of its neurons through a filter of unit area.

        r(t) = exp(-dt / rise) r(t-1) + dt h(t-1)                 with times in seconds,
        h(t) = exp(-dt / decay) h(t-1) + z(t) / (rise decay)      so that r is in spikes a second

    Without a rise time it is `r(t) = exp(-dt / decay) r(t-1) + z(t) / decay`. Every connection from
    the population then carries synaptic currents (Nicola & Clopath, Nat. Commun. 8:2208, 2017).

    Args:
      neuron: the population.
      decay_ms: time constant of decay.
      rise_ms: time constant of the rise, 0 for none.
      name: of the module.

    Raises:
      ValueError: for a time constant out of range.
    """

    def __init__(
        self, neuron: Neuron, decay_ms: float, rise_ms: float = 0.0, name: str | None = None
    ):
        super().__init__(neuron.units, neuron.dt_ms, neuron.dtype, name)
        if not decay_ms > 0 or rise_ms < 0:
            raise ValueError(
                f"decay_ms is {decay_ms} and rise_ms {rise_ms}; expected more than 0, and 0 or "
                "more."
            )
        self.neuron = neuron
        self.decay_ms = float(decay_ms)
        self.rise_ms = float(rise_ms)

    def initial_state(self, batch_size: int) -> FilteredState:
        """The neurons' own, and nothing under way."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        return FilteredState(
            self.neuron.initial_state(batch_size), zeros, zeros if self.rise_ms else ()
        )

    def step(self, state: FilteredState, current: tf.Tensor) -> FilteredState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        inner = self.neuron.step(state.inner, current)
        z = self.neuron.output(inner)
        slow = decay(self.decay_ms, self.dt_ms)
        if not self.rise_ms:
            return FilteredState(inner, slow * state.r + 1e3 / self.decay_ms * z, ())
        r = decay(self.rise_ms, self.dt_ms) * state.r + 1e-3 * self.dt_ms * state.h
        return FilteredState(inner, r, slow * state.h + 1e6 / (self.rise_ms * self.decay_ms) * z)

    def output(self, state: FilteredState) -> tf.Tensor:
        """The filtered spikes, in spikes a second."""
        return state.r

    @property
    def lasting(self) -> Lasting:
        """That of the neurons."""
        return lasting_inside(self.neuron, lambda state: state.inner)
