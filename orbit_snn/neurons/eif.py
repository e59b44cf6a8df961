"""Exponential integrate-and-fire in mV, and the membrane that it shares with AdEx."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.neurons.base import Neuron, Parameter
from orbit_snn.neurons.firing import Firing, check_below
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerNeuron

_LARGEST_EXPONENT = 80.0


class ExponentialMembrane(tf.Module):
    """One Euler step of `tau dv/dt = -(v - rest) + D exp((v - rheobase) / D) + R I`.

    The exponent is clipped at 80, which float32 can hold; `check_exponent` sees to it that this is
    above the peak, where a neuron's own potential never is, for a spike resets it before it moves.

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      rest_mv: one number or N of them.
      rheobase_mv: one number or N of them.
      sharpness_mv: D, one number or N of them.
      resistance_mohm: R, one number or N of them.
      dt_ms: length of a step.
      dtype: of state and currents.

    Raises:
      ValueError: for a value out of range, naming it.
    """

    def __init__(
        self,
        units: int,
        tau_mem_ms: PerNeuron,
        rest_mv: PerNeuron,
        rheobase_mv: PerNeuron,
        sharpness_mv: PerNeuron,
        resistance_mohm: PerNeuron,
        dt_ms: float,
        dtype: tf.DType,
    ):
        super().__init__(name="membrane")
        self._dt_ms = dt_ms
        with self.name_scope:
            self.tau_mem_ms = Parameter(tau_mem_ms, units, dtype, "tau_mem_ms")
            self.rest_mv = Parameter(rest_mv, units, dtype, "rest_mv", any_sign=True)
            self.rheobase_mv = Parameter(rheobase_mv, units, dtype, "rheobase_mv", any_sign=True)
            self.sharpness_mv = Parameter(sharpness_mv, units, dtype, "sharpness_mv")
            self.resistance_mohm = Parameter(resistance_mohm, units, dtype, "resistance_mohm")

    def __call__(self, v: tf.Tensor, current: tf.Tensor) -> tf.Tensor:
        """The potential one step after `v`, `[B, N]`."""
        sharpness = self.sharpness_mv()
        exponent = tf.minimum((v - self.rheobase_mv()) / sharpness, _LARGEST_EXPONENT)
        driven = self.rest_mv() - v + self.resistance_mohm() * current
        return v + self._dt_ms / self.tau_mem_ms() * (driven + sharpness * tf.exp(exponent))


def check_exponent(peak_mv: PerNeuron, rheobase_mv: PerNeuron, sharpness_mv: PerNeuron) -> None:
    """Refuses a peak that the exponential does not reach in float32.

    Raises:
      ValueError: saying how large the exponent gets.
    """
    largest = np.max(np.subtract(peak_mv, rheobase_mv) / np.asarray(sharpness_mv))
    if largest > _LARGEST_EXPONENT:
        raise ValueError(
            f"peak_mv is {peak_mv}, rheobase_mv {rheobase_mv} and sharpness_mv {sharpness_mv}; the "
            f"exponent reaches {largest:.3g}, expected at most {_LARGEST_EXPONENT:g}: lower the "
            "peak or raise the sharpness."
        )


class EIFState(NamedTuple):
    """State of an EIF population.

    Attributes:
      v: potential in mV that met the peak in this step, before any reset, `[B, N]`.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    refractory: Any


class EIF(Neuron):
    """Exponential integrate-and-fire (Fourcaud-Trocme et al. 2003), by Euler steps.

        tau dv/dt = -(v - rest) + D exp((v - rheobase) / D) + R I
        z(t) = 1 where v(t) > peak; v is then held at the reset for the refractory period

    The exponent is clipped above the peak, so that it never overflows. A lower peak hardly changes
    when spikes happen, but it bounds the derivatives, which are `exp((peak - rheobase) / D)` there.
    (J. Neurosci. 23:11628.)

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      rest_mv: potential without a current, below the peak, one number or N of them.
      rheobase_mv: at which the exponential takes over, one number or N of them.
      sharpness_mv: D, how suddenly it does, one number or N of them.
      peak_mv: at which a spike ends, one number or N of them.
      reset_mv: potential after a spike, one number or N of them.
      resistance_mohm: R; a current is in nA.
      refractory_ms: shortest time between two spikes, rounded up to whole steps.
      reset_gradient: whether learning rules differentiate through the spike in the reset.
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
        tau_mem_ms: PerNeuron = 10.0,
        rest_mv: PerNeuron = -65.0,
        rheobase_mv: PerNeuron = -59.9,
        sharpness_mv: PerNeuron = 3.48,
        peak_mv: PerNeuron = -30.0,
        reset_mv: PerNeuron = -68.0,
        resistance_mohm: PerNeuron = 1.0,
        refractory_ms: float = 1.7,
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

    def initial_state(self, batch_size: int) -> EIFState:
        """At rest, not refractory."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        rest = zeros + self.membrane.rest_mv()
        return EIFState(rest, self.firing.not_refractory(zeros))

    def step(self, state: EIFState, current: tf.Tensor) -> EIFState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        v, waiting = self.firing.after(state.v, state.refractory, self.output(state))
        return EIFState(self.firing.held(self.membrane(v, current), v, waiting), waiting)

    def output(self, state: EIFState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.firing.spikes(state.v, state.refractory)
