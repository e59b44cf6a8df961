"""Leaky integrate-and-fire in mV with an adaptive threshold."""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons.adaptation import Components, ThresholdAdaptation, total
from orbit_snn.neurons.base import Lasting, Neuron, Parameter
from orbit_snn.neurons.firing import Firing
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerComponent, PerNeuron


class AdaptiveVoltageLIFState(NamedTuple):
    """State of an AdaptiveVoltageLIF population.

    Attributes:
      v: potential in mV that met the threshold in this step, before any reset, `[B, N]`.
      theta: components of what that threshold was raised by in mV, K of `[B, N]`; what a spike of
        this step adds is not in them.
      refractory: steps to wait before a spike is allowed, `[B, N]`; `()` without refractoriness.
    """

    v: tf.Tensor
    theta: Components
    refractory: Any


class AdaptiveVoltageLIF(Neuron):
    """Leaky integrate-and-fire whose threshold rises with every spike (Diehl & Cook 2015).

        tau dv/dt = -(v - rest) + R I,  solved exactly over a step in which I is constant
        z(t) = 1 where v(t) > threshold + sum_k theta_k(t); v is then held at the reset
        theta_k(t+1) = exp(-dt / tau_k) theta_k(t) + jump_k z(t)

    `theta_k` decays but in the steps that end in a refractory period. It may outlive a sequence, as
    with the constants of Diehl & Cook, which are the defaults (Front. Comput. Neurosci. 9:99): a
    sequence starts from the variables `theta`, 0 until a rule assigns what `lasting` gives. Its
    first step lets them decay like any other.

    Args:
      units: number of neurons, N.
      tau_mem_ms: membrane time constant, one number or N of them.
      rest_mv: potential without a current, one number or N of them.
      reset_mv: potential after a spike, one number or N of them.
      threshold_mv: firing threshold without adaptation, one number or N of them.
      resistance_mohm: R; a current is in nA.
      tau_theta_ms: time constants of the adaptation, one for each of its K components.
      jump_mv: what a spike adds to each component, of any sign, one number or K of them.
      refractory_ms: shortest time between two spikes, rounded up to whole steps.
      reset_gradient: whether learning rules differentiate through the spike in the reset of v; its
        path into the threshold always keeps its gradient.
      surrogate: spike function, of `(v - threshold - sum_k theta_k) / (threshold - reset)`.
      dt_ms: length of a step.
      dtype: of state and currents.
      name: of the module.

    Attributes:
      theta: K variables `[N]`, not trained: adaptation in mV at the start of a sequence.

    Raises:
      ValueError: for a value out of range, naming it.
    """

    spiking = True

    def __init__(
        self,
        units: int,
        tau_mem_ms: PerNeuron = 100.0,
        rest_mv: PerNeuron = -65.0,
        reset_mv: PerNeuron = -65.0,
        threshold_mv: PerNeuron = -52.0,
        resistance_mohm: PerNeuron = 1.0,
        tau_theta_ms: PerComponent = 1e7,
        jump_mv: PerComponent = 0.05,
        refractory_ms: float = 5.0,
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
            self.adaptation = ThresholdAdaptation(tau_theta_ms, jump_mv, dt_ms, dtype)
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
            self.theta = tuple(
                tf.Variable(tf.zeros([units], dtype), trainable=False, name=f"theta{k}")
                for k in range(self.adaptation.count)
            )

    def initial_state(self, batch_size: int) -> AdaptiveVoltageLIFState:
        """At rest, or at the reset where rest is above the threshold; not refractory."""
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        theta = tuple(zeros + own for own in self.theta)
        rest, reset = zeros + self.rest_mv(), zeros + self.firing.reset_mv()
        v = tf.where(rest > self._threshold(theta), reset, rest)
        return AdaptiveVoltageLIFState(v, theta, self.firing.not_refractory(v))

    def step(self, state: AdaptiveVoltageLIFState, current: tf.Tensor) -> AdaptiveVoltageLIFState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        z = self.output(state)
        v, waiting = self.firing.after(state.v, state.refractory, z)
        settled = self.rest_mv() + self.resistance_mohm() * current
        moved = settled + (v - settled) * decay(self.tau_mem_ms(), self.dt_ms)
        return AdaptiveVoltageLIFState(
            v=self.firing.held(moved, v, waiting),
            theta=self.adaptation.after(state.theta, self.firing, state.refractory, z),
            refractory=waiting,
        )

    def output(self, state: AdaptiveVoltageLIFState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.firing.spikes(state.v, state.refractory, self._threshold(state.theta))

    @property
    def lasting(self) -> Lasting:
        """`theta_k`, with what a spike of the last step adds."""

        def value(k: int, state: AdaptiveVoltageLIFState) -> tf.Tensor:
            return state.theta[k] + self.adaptation.jump_mv[k]() * self.output(state)

        return tuple((own, functools.partial(value, k)) for k, own in enumerate(self.theta))

    def _threshold(self, theta: Components) -> tf.Tensor:
        return self.firing.threshold_mv() + total(theta)
