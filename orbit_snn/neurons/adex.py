"""Adaptive exponential integrate-and-fire in mV."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.neurons.adaptation import AdaptationCurrents, Components, total
from orbit_snn.neurons.base import Neuron
from orbit_snn.neurons.eif import ExponentialMembrane, check_exponent
from orbit_snn.neurons.firing import Firing, check_below
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerComponent, PerNeuron


class AdExState(NamedTuple):
    """State of an AdEx population.

    Attributes:
      v: potential in mV that met the peak in this step, before any reset, `[B, N]`.
      w: components of the adaptation current of this step in nA, K of `[B, N]`; what a spike of
        this step adds is not in them.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    w: Components
    refractory: Any


class AdEx(Neuron):
    """Adaptive exponential integrate-and-fire (Brette & Gerstner 2005), by Euler steps.

        tau dv/dt = -(v - rest) + D exp((v - rheobase) / D) + R (I - sum_k w_k)
        z(t) = 1 where v(t) > peak; v is then held at the reset for the refractory period
        w_k(t+1) = w_k(t) + dt / tau_k (a_k (v(t) - rest) - w_k(t)) + b_k z(t)

    The v of the last line is that after any reset; in the steps that end in a refractory period,
    `w_k` moves by `b_k z` alone. The exponent is clipped above the peak, so that it never
    overflows. A lower peak hardly changes when spikes happen, but it bounds the derivatives, which
    are `exp((peak - rheobase) / D)` there. (J. Neurophysiol. 94:3637.)

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      rest_mv: potential without a current, below the peak, one number or N of them.
      rheobase_mv: at which the exponential takes over, one number or N of them.
      sharpness_mv: D, how suddenly it does, one number or N of them.
      peak_mv: at which a spike ends, one number or N of them.
      reset_mv: potential after a spike, one number or N of them.
      resistance_mohm: R; a current is in nA.
      tau_w_ms: time constants of the adaptation, one for each of its K components.
      a: coupling to the potential in uS, of any sign, one number or K of them.
      b: what a spike adds to each component in nA, of any sign, one number or K of them.
      refractory_ms: shortest time between two spikes, rounded up to whole steps.
      reset_gradient: whether learning rules differentiate through the spike in the reset of v; its
        path into w always keeps its gradient.
      surrogate: spike function, of `(v - peak) / (peak - reset)`.
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
        tau_mem_ms: PerNeuron = 9.37,
        rest_mv: PerNeuron = -70.6,
        rheobase_mv: PerNeuron = -50.4,
        sharpness_mv: PerNeuron = 2.0,
        peak_mv: PerNeuron = -30.0,
        reset_mv: PerNeuron = -70.6,
        resistance_mohm: PerNeuron = 33.3,
        tau_w_ms: PerComponent = 144.0,
        a: PerComponent = 0.004,
        b: PerComponent = 0.0805,
        refractory_ms: float = 0.0,
        reset_gradient: bool = False,
        surrogate: Surrogate = Surrogate(),
        dt_ms: float = 0.1,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, dt_ms, dtype, name)
        with self.name_scope:
            self.membrane = ExponentialMembrane(
                units,
                tau_mem_ms,
                rest_mv,
                rheobase_mv,
                sharpness_mv,
                resistance_mohm,
                dt_ms,
                dtype,
            )
            self.adaptation = AdaptationCurrents(tau_w_ms, a, b, dt_ms, dtype)
            self.firing = Firing(
                units,
                peak_mv,
                reset_mv,
                refractory_ms,
                reset_gradient,
                surrogate,
                dt_ms,
                dtype,
                "peak_mv",
            )
        check_below(peak_mv, "peak_mv", rest_mv=rest_mv)
        check_exponent(peak_mv, rheobase_mv, sharpness_mv)

    def initial_state(self, batch_size: int) -> AdExState:
        """At rest, not adapted, not refractory."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        rest = zeros + self.membrane.rest_mv()
        w = (zeros,) * self.adaptation.count
        return AdExState(rest, w, self.firing.not_refractory(zeros))

    def step(self, state: AdExState, current: tf.Tensor) -> AdExState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        z = self.output(state)
        v, waiting = self.firing.after(state.v, state.refractory, z)
        above = v - self.membrane.rest_mv()
        w = self.adaptation.after(state.w, above, self.firing, state.refractory, z)
        moved = self.membrane(v, current - total(w))
        return AdExState(self.firing.held(moved, v, waiting), w, waiting)

    def output(self, state: AdExState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.firing.spikes(state.v, state.refractory)
