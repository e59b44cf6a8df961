"""Leaky integrate-and-fire."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons.base import Neuron, Parameter, zeros
from orbit_snn.neurons.spiking import (
    Reset,
    allowed,
    count_down,
    input_gain_factor,
    refractory_steps,
)
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
        input_gain_factor(input_gain, 0.0)
        self.reset = reset
        self.surrogate = surrogate
        self.input_gain = input_gain
        self.refractory_steps = refractory_steps(refractory_ms, dt_ms)
        with self.name_scope:
            self.tau_mem_ms = Parameter(tau_mem_ms, units, dtype, "tau_mem_ms", train_tau)
            self.threshold = Parameter(threshold, units, dtype, "threshold", train_threshold)

    def initial_state(self, batch_size: int) -> LIFState:
        """Potential 0, not refractory."""
        absent = {} if self.refractory_steps > 1 else {"refractory": ()}
        return zeros(LIFState, self, batch_size, **absent)

    def step(self, state: LIFState, current: tf.Tensor) -> LIFState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        z = self.output(state)
        alpha = decay(self.tau_mem_ms(), self.dt_ms)
        drive = input_gain_factor(self.input_gain, alpha) * current
        return LIFState(
            v=self.reset(state.v, z, alpha, drive, self.threshold()),
            refractory=count_down(state.refractory, z, self.refractory_steps),
        )

    def output(self, state: LIFState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        threshold = self.threshold()
        z = self.surrogate((state.v - threshold) / threshold)
        return allowed(z, state.refractory)
