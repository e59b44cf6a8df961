"""Generalized leaky integrate-and-fire with reset rules, in mV."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons.adaptation import Components, ThresholdAdaptation, total
from orbit_snn.neurons.base import Neuron, Parameter
from orbit_snn.neurons.firing import Firing, check_below
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerComponent, PerNeuron


class GLIF2State(NamedTuple):
    """State of a GLIF2 population.

    Attributes:
      v: potential in mV that met the threshold in this step, before any reset, `[B, N]`.
      theta: components of what that threshold was raised by in mV, K of `[B, N]`; what a spike of
        this step adds is not in them.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    theta: Components
    refractory: Any


class GLIF2(Neuron):
    """Leaky integrate-and-fire with reset rules (GLIF2 of Teeter et al., Nat. Commun. 9:709, 2018).

        tau dv/dt = -(v - rest) + R I,  solved exactly over a step in which I is constant
        z(t) = 1 where v(t) > threshold + sum_k theta_k(t)
        v <- rest + m (v - rest) - b  after a spike, where v is held for the refractory period
        theta_k(t+1) = exp(-dt / tau_k) theta_k(t) + jump_k z(t)

    `theta_k` decays but in the steps that end in a refractory period; every sequence starts with 0.
    The paper's rates of decay are `1 / tau_k`.

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      rest_mv: potential without a current, below the threshold, one number or N of them.
      threshold_mv: firing threshold without adaptation, one number or N of them.
      resistance_mohm: R; a current is in nA.
      m: share of the potential above rest that a spike leaves, one number or N of them.
      b: in mV, what it takes away besides, of any sign, one number or N of them; a spike at
        the threshold has to lower the potential.
      tau_theta_ms: time constants of the adaptation, one for each of its K components.
      jump_mv: what a spike adds to each component, of any sign, one number or K of them.
      refractory_ms: shortest time between two spikes, rounded up to whole steps.
      reset_gradient: whether learning rules differentiate through the spike in the reset of v; its
        path into the threshold always keeps its gradient.
      surrogate: spike function, of `(v - threshold - sum_k theta_k) / (threshold - rest)`.
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
        rest_mv: PerNeuron = -70.0,
        threshold_mv: PerNeuron = -50.0,
        resistance_mohm: PerNeuron = 1.0,
        m: PerNeuron = 0.3,
        b: PerNeuron = 5.0,
        tau_theta_ms: PerComponent = 50.0,
        jump_mv: PerComponent = 2.0,
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
            self.m = Parameter(m, units, dtype, "m", zero_allowed=True)
            self.b = Parameter(b, units, dtype, "b", any_sign=True)
            check_below(threshold_mv, "threshold_mv", rest_mv=rest_mv)
            self.adaptation = ThresholdAdaptation(tau_theta_ms, jump_mv, dt_ms, dtype)
            self.firing = Firing(
                units,
                threshold_mv,
                rest_mv,
                refractory_ms,
                reset_gradient,
                surrogate,
                dt_ms,
                dtype,
            )
        if not np.all((1.0 - np.asarray(m)) * np.subtract(threshold_mv, rest_mv) + b > 0.0):
            raise ValueError(
                f"m is {m} and b {b}; a spike at the threshold would not lower the potential: give "
                "a smaller m or a larger b."
            )

    def initial_state(self, batch_size: int) -> GLIF2State:
        """At rest, not adapted, not refractory."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        theta = (zeros,) * self.adaptation.count
        return GLIF2State(zeros + self.rest_mv(), theta, self.firing.not_refractory(zeros))

    def step(self, state: GLIF2State, current: tf.Tensor) -> GLIF2State:
        """One step of the equations above; shapes as in `Neuron.step`."""
        z = self.output(state)
        rest = self.rest_mv()
        reset = rest + self.m() * (state.v - rest) - self.b()
        v, waiting = self.firing.after(state.v, state.refractory, z, reset)
        settled = rest + self.resistance_mohm() * current
        moved = settled + (v - settled) * decay(self.tau_mem_ms(), self.dt_ms)
        return GLIF2State(
            v=self.firing.held(moved, v, waiting),
            theta=self.adaptation.after(state.theta, self.firing, state.refractory, z),
            refractory=waiting,
        )

    def output(self, state: GLIF2State) -> tf.Tensor:
        """Spikes, 0 or 1."""
        threshold = self.firing.threshold_mv() + total(state.theta)
        return self.firing.spikes(state.v, state.refractory, threshold)
