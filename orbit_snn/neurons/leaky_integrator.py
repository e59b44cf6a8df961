"""Units without spikes: a leaky integrator, and the same behind a tanh."""

from typing import NamedTuple

import tensorflow as tf

from orbit_snn.neurons.base import Neuron, zeros
from orbit_snn.neurons.membrane import Leak
from orbit_snn.types import PerNeuron


class LeakyState(NamedTuple):
    """State of a population of leaky units: `v`, `[B, N]`."""

    v: tf.Tensor


class LeakyIntegrator(Neuron):
    """Leaky integrator, the usual readout: `v(t) = kappa v(t-1) + gain I(t)`, output `v`.

    A bias among its inputs is integrated like them; `output_bias` adds one to what it gives.

    Args:
      units: number of outputs, K.
      tau_mem_ms: time constant, one number or K of them.
      input_gain: `one`, or `one_minus_decay`: the current is scaled by `1 - kappa`.
      train_tau: train one time constant a unit.
      output_bias: add a trained bias to the output, at first 0.
      dt_ms: length of a step.
      dtype: of state and currents.
      name: of the module.
    """

    def __init__(
        self,
        units: int,
        tau_mem_ms: PerNeuron = 20.0,
        input_gain: str = "one",
        train_tau: bool = False,
        output_bias: bool = False,
        dt_ms: float = 1.0,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, dt_ms, dtype, name)
        with self.name_scope:
            self.leak = Leak(units, tau_mem_ms, input_gain, train_tau, dt_ms, dtype)
            self.bias = tf.Variable(tf.zeros([units], dtype), name="bias") if output_bias else None

    def initial_state(self, batch_size: int) -> LeakyState:
        """Zero."""
        return zeros(LeakyState, self, batch_size)

    def step(self, state: LeakyState, current: tf.Tensor) -> LeakyState:
        """One step of the equation above; shapes as in `Neuron.step`."""
        return LeakyState(self.leak(state.v, current))

    def output(self, state: LeakyState) -> tf.Tensor:
        """The integrated input, and the bias."""
        return state.v if self.bias is None else state.v + self.bias


class LeakyTanh(Neuron):
    """Rate unit: `v(t) = alpha v(t-1) + gain I(t)`, output `tanh(v)`.

    Args:
      units: number of units, N.
      tau_mem_ms: time constant, one number or N of them.
      input_gain: `one`, or `one_minus_decay`: the current is scaled by `1 - alpha`.
      train_tau: train one time constant a unit.
      dt_ms: length of a step.
      dtype: of state and currents.
      name: of the module.
    """

    def __init__(
        self,
        units: int,
        tau_mem_ms: PerNeuron = 20.0,
        input_gain: str = "one_minus_decay",
        train_tau: bool = False,
        dt_ms: float = 1.0,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, dt_ms, dtype, name)
        with self.name_scope:
            self.leak = Leak(units, tau_mem_ms, input_gain, train_tau, dt_ms, dtype)

    def initial_state(self, batch_size: int) -> LeakyState:
        """Zero."""
        return zeros(LeakyState, self, batch_size)

    def step(self, state: LeakyState, current: tf.Tensor) -> LeakyState:
        """One step of the equation above; shapes as in `Neuron.step`."""
        return LeakyState(self.leak(state.v, current))

    def output(self, state: LeakyState) -> tf.Tensor:
        """The rate, between -1 and 1."""
        return tf.tanh(state.v)
