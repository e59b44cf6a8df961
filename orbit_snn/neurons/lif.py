"""Leaky integrate-and-fire."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.neurons.base import Neuron, zeros
from orbit_snn.neurons.membrane import Leak, Membrane
from orbit_snn.neurons.reset import Reset
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerNeuron


class LIFState(NamedTuple):
    """State of a LIF population.

    Attributes:
      v: membrane potential that met the threshold in this step, before any reset, `[B, N]`.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    refractory: Any


class LIF(Neuron):
    """Leaky integrate-and-fire (Bellec et al. 2020, eq. 6-7).

        v(t) = alpha v(t-1) + gain I(t) - threshold z(t-1)
        z(t) = 1 where (v(t) - threshold) / threshold > 0 and not refractory

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      threshold: firing threshold, one number or N of them.
      refractory_ms: shortest time between two spikes.
      reset: what a spike does to the potential.
      surrogate: spike function and its pseudo-derivative.
      input_gain: `one`, or `one_minus_decay`: the current is scaled by `1 - alpha`.
      train_tau: train one membrane time constant a neuron.
      train_threshold: train one threshold a neuron.
      dt_ms: length of a step.
      dtype: of state and currents.
      name: of the module.

    Raises:
      ValueError: for a value out of range, naming it.
    """

    spiking = True

    def __init__(
        self,
        units: int,
        tau_mem_ms: PerNeuron = 20.0,
        threshold: PerNeuron = 1.0,
        refractory_ms: float = 0.0,
        reset: Reset = Reset(),
        surrogate: Surrogate = Surrogate(),
        input_gain: str = "one",
        train_tau: bool = False,
        train_threshold: bool = False,
        dt_ms: float = 1.0,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, dt_ms, dtype, name)
        with self.name_scope:
            leak = Leak(units, tau_mem_ms, input_gain, train_tau, dt_ms, dtype)
            self.membrane = Membrane(
                units,
                leak,
                threshold,
                refractory_ms,
                reset,
                surrogate,
                train_threshold,
                dt_ms,
                dtype,
            )

    def initial_state(self, batch_size: int) -> LIFState:
        """Potential 0, not refractory."""
        return zeros(LIFState, self, batch_size, **self.membrane.absent)

    def step(self, state: LIFState, current: tf.Tensor) -> LIFState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        z = self.output(state)
        return LIFState(
            v=self.membrane.potential(state.v, z, current),
            refractory=self.membrane.count_down(state.refractory, z),
        )

    def output(self, state: LIFState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.membrane.spikes(state.v, state.refractory)
