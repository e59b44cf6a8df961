"""Leaky integrate-and-fire with an adaptive threshold."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons.base import Neuron, Parameter, zeros
from orbit_snn.neurons.membrane import Leak, Membrane
from orbit_snn.neurons.reset import Reset
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerNeuron


class ALIFState(NamedTuple):
    """State of an ALIF population.

    Attributes:
      v: membrane potential that met the threshold in this step, before any reset, `[B, N]`.
      a: adaptation of the threshold, in spikes, `[B, N]`.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    a: tf.Tensor
    refractory: Any


class ALIF(Neuron):
    """Adaptive leaky integrate-and-fire (Bellec et al. 2020, eq. 6-8).

        a(t) = rho a(t-1) + z(t-1)
        v(t) = alpha v(t-1) + gain I(t) - threshold z(t-1)
        z(t) = 1 where (v(t) - threshold - beta a(t)) / threshold > 0 and not refractory

    The spike's path into `a` always keeps its gradient; `reset.gradient` is about `v` alone.

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      tau_adaptation_ms: time constant of the threshold's adaptation, one number or N of them.
      beta: rise of the threshold a spike, one number or N of them; 0 makes a neuron a LIF.
      threshold: firing threshold at rest, one number or N of them.
      refractory_ms: shortest time between two spikes.
      reset: what a spike does to the potential.
      surrogate: spike function and its pseudo-derivative.
      input_gain: `one`, or `one_minus_decay`: the current is scaled by `1 - alpha`.
      train_tau: train both time constants, one of each a neuron.
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
        tau_adaptation_ms: PerNeuron = 200.0,
        beta: PerNeuron = 0.2,
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
            self.tau_adaptation_ms = Parameter(
                tau_adaptation_ms, units, dtype, "tau_adaptation_ms", train_tau
            )
            self.beta = Parameter(beta, units, dtype, "beta", zero_allowed=True)

    def initial_state(self, batch_size: int) -> ALIFState:
        """Potential and adaptation 0, not refractory."""
        return zeros(ALIFState, self, batch_size, **self.membrane.absent)

    def step(self, state: ALIFState, current: tf.Tensor) -> ALIFState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        z = self.output(state)
        return ALIFState(
            v=self.membrane.potential(state.v, z, current),
            a=decay(self.tau_adaptation_ms(), self.dt_ms) * state.a + z,
            refractory=self.membrane.count_down(state.refractory, z),
        )

    def output(self, state: ALIFState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.membrane.spikes(state.v, state.refractory, self.beta() * state.a)
