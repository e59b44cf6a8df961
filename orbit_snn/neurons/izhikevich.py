"""Quadratic integrate-and-fire with a recovery current."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.neurons.base import Neuron, Parameter
from orbit_snn.neurons.firing import Firing
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerNeuron


class IzhikevichState(NamedTuple):
    """State of an Izhikevich population.

    Attributes:
      v: potential in mV that met the peak in this step, before any reset, `[B, N]`.
      u: recovery current in pA, before what a spike of this step adds, `[B, N]`.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    u: tf.Tensor
    refractory: Any


class Izhikevich(Neuron):
    """Izhikevich's neuron in physical units (Izhikevich 2007, eq. 8.1-8.2), by Euler steps.

        C dv/dt = k (v - rest) (v - critical) - u + I
        du/dt = a (b (v - rest) - u)
        z(t) = 1 where v(t) > peak; then v <- reset, u <- u + d

    Both derivatives are taken at the state before the step.

    Args:
      units: number of neurons, N.
      capacitance_pf: C, one number or N of them; a current is in pA.
      k: in nS/mV, one number or N of them.
      rest_mv: one number or N of them.
      critical_mv: instantaneous threshold, one number or N of them.
      peak_mv: at which a spike ends, one number or N of them.
      reset_mv: potential after a spike, one number or N of them.
      a_per_ms: rate of recovery, one number or N of them.
      b: in nS, one number or N of them, of any sign.
      d: what a spike adds to the recovery current, in pA, one number or N of them.
      refractory_ms: shortest time between two spikes, rounded up to whole steps.
      reset_gradient: whether learning rules differentiate through the spike in the reset of v.
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
        capacitance_pf: PerNeuron = 250.0,
        k: PerNeuron = 2.5,
        rest_mv: PerNeuron = -60.0,
        critical_mv: PerNeuron = -19.2,
        peak_mv: PerNeuron = 30.0,
        reset_mv: PerNeuron = -65.0,
        a_per_ms: PerNeuron = 0.01,
        b: PerNeuron = -2.0,
        d: PerNeuron = 200.0,
        refractory_ms: float = 0.0,
        reset_gradient: bool = False,
        surrogate: Surrogate = Surrogate(),
        dt_ms: float = 0.04,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, dt_ms, dtype, name)
        with self.name_scope:
            self.capacitance_pf = Parameter(capacitance_pf, units, dtype, "capacitance_pf")
            self.k = Parameter(k, units, dtype, "k")
            self.rest_mv = Parameter(rest_mv, units, dtype, "rest_mv", any_sign=True)
            self.critical_mv = Parameter(critical_mv, units, dtype, "critical_mv", any_sign=True)
            self.a_per_ms = Parameter(a_per_ms, units, dtype, "a_per_ms")
            self.b = Parameter(b, units, dtype, "b", any_sign=True)
            self.d = Parameter(d, units, dtype, "d", any_sign=True)
            self.firing = Firing(
                units,
                peak_mv,
                reset_mv,
                refractory_ms,
                reset_gradient,
                surrogate,
                dt_ms,
                dtype,
            )

    def initial_state(self, batch_size: int) -> IzhikevichState:
        """At rest, without a recovery current, not refractory."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        return IzhikevichState(zeros + self.rest_mv(), zeros, self.firing.not_refractory(zeros))

    def step(self, state: IzhikevichState, current: tf.Tensor) -> IzhikevichState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        z = self.output(state)
        v, waiting = self.firing.after(state.v, state.refractory, z)
        u = state.u + self.d() * z
        above = v - self.rest_mv()
        inward = self.k() * above * (v - self.critical_mv()) - u + current
        moved = v + self.dt_ms / self.capacitance_pf() * inward
        recovered = u + self.dt_ms * self.a_per_ms() * (self.b() * above - u)
        return IzhikevichState(
            v=self.firing.held(moved, v, waiting),
            u=self.firing.held(recovered, u, waiting),
            refractory=waiting,
        )

    def output(self, state: IzhikevichState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.firing.spikes(state.v, state.refractory)
