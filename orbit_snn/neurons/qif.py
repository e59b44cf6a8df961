"""Quadratic integrate-and-fire in mV."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.neurons.base import Neuron, Parameter
from orbit_snn.neurons.firing import Firing, check_below
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerNeuron


class QIFState(NamedTuple):
    """State of a QIF population.

    Attributes:
      v: potential in mV that met the peak in this step, before any reset, `[B, N]`.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    refractory: Any


class QIF(Neuron):
    """Quadratic integrate-and-fire (Latham et al., J. Neurophysiol. 83:808, 2000), by Euler steps.

        tau dv/dt = a (v - rest) (v - critical) + R I
        z(t) = 1 where v(t) > peak; v is then held at the reset for the refractory period

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      rest_mv: potential without a current, below the peak, one number or N of them.
      critical_mv: from which on v rises without a current, one number or N of them.
      a: in 1/mV, one number or N of them; `1 / (critical - rest)` is the leak of a LIF near rest.
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
        tau_mem_ms: PerNeuron = 20.0,
        rest_mv: PerNeuron = -65.0,
        critical_mv: PerNeuron = -50.0,
        a: PerNeuron = 0.07,
        peak_mv: PerNeuron = -30.0,
        reset_mv: PerNeuron = -65.0,
        resistance_mohm: PerNeuron = 1.0,
        refractory_ms: float = 3.0,
        reset_gradient: bool = False,
        surrogate: Surrogate = Surrogate(),
        dt_ms: float = 0.1,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, dt_ms, dtype, name)
        with self.name_scope:
            self.tau_mem_ms = Parameter(tau_mem_ms, units, dtype, "tau_mem_ms")
            self.rest_mv = Parameter(rest_mv, units, dtype, "rest_mv", any_sign=True)
            self.critical_mv = Parameter(critical_mv, units, dtype, "critical_mv", any_sign=True)
            self.a = Parameter(a, units, dtype, "a")
            self.resistance_mohm = Parameter(resistance_mohm, units, dtype, "resistance_mohm")
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

    def initial_state(self, batch_size: int) -> QIFState:
        """At rest, not refractory."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        return QIFState(zeros + self.rest_mv(), self.firing.not_refractory(zeros))

    def step(self, state: QIFState, current: tf.Tensor) -> QIFState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        v, waiting = self.firing.after(state.v, state.refractory, self.output(state))
        rising = self.a() * (v - self.rest_mv()) * (v - self.critical_mv())
        driven = rising + self.resistance_mohm() * current
        moved = v + self.dt_ms / self.tau_mem_ms() * driven
        return QIFState(self.firing.held(moved, v, waiting), waiting)

    def output(self, state: QIFState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.firing.spikes(state.v, state.refractory)
