"""Leaky integrate-and-fire in mV."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons.base import Neuron, Parameter
from orbit_snn.neurons.firing import Firing
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerNeuron


class VoltageLIFState(NamedTuple):
    """State of a VoltageLIF population.

    Attributes:
      v: potential in mV that met the threshold in this step, before any reset, `[B, N]`.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    refractory: Any


class VoltageLIF(Neuron):
    """Leaky integrate-and-fire in physical units, with an absolute refractory period.

        tau dv/dt = -(v - rest) + R I,  solved exactly over a step in which I is constant
        z(t) = 1 where v(t) > threshold; v is then held at the reset for the refractory period

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      rest_mv: potential without a current, one number or N of them.
      reset_mv: potential after a spike, one number or N of them.
      threshold_mv: firing threshold, one number or N of them.
      resistance_mohm: R; a current is in nA.
      refractory_ms: shortest time between two spikes, rounded up to whole steps.
      reset_gradient: whether learning rules differentiate through the spike in the reset.
      surrogate: spike function and its pseudo-derivative.
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
        rest_mv: PerNeuron = -60.0,
        reset_mv: PerNeuron = -65.0,
        threshold_mv: PerNeuron = -50.0,
        resistance_mohm: PerNeuron = 1.0,
        refractory_ms: float = 3.0,
        reset_gradient: bool = False,
        surrogate: Surrogate = Surrogate(),
        dt_ms: float = 1.0,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, dt_ms, dtype, name)
        with self.name_scope:
            self.tau_mem_ms = Parameter(tau_mem_ms, units, dtype, "tau_mem_ms")
            self.rest_mv = Parameter(rest_mv, units, dtype, "rest_mv", any_sign=True)
            self.resistance_mohm = Parameter(resistance_mohm, units, dtype, "resistance_mohm")
            self.firing = Firing(
                units,
                threshold_mv,
                reset_mv,
                refractory_ms,
                reset_gradient,
                surrogate,
                dt_ms,
                dtype,
            )

    def initial_state(self, batch_size: int) -> VoltageLIFState:
        """At rest, or at the reset where rest is above the threshold; not refractory."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        rest, reset = zeros + self.rest_mv(), zeros + self.firing.reset_mv()
        v = tf.where(rest > self.firing.threshold_mv(), reset, rest)
        return VoltageLIFState(v, self.firing.not_refractory(v))

    def step(self, state: VoltageLIFState, current: tf.Tensor) -> VoltageLIFState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        v, waiting = self.firing.after(state.v, state.refractory, self.output(state))
        settled = self.rest_mv() + self.resistance_mohm() * current
        moved = settled + (v - settled) * decay(self.tau_mem_ms(), self.dt_ms)
        return VoltageLIFState(self.firing.held(moved, v, waiting), waiting)

    def output(self, state: VoltageLIFState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.firing.spikes(state.v, state.refractory)
