"""What the models share: a leak, and a membrane that spikes, resets and rests."""

import math
from typing import Any

import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons.base import Parameter
from orbit_snn.neurons.reset import Reset
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerNeuron


class Leak(tf.Module):
    """`v(t) = alpha v(t-1) + gain I(t)` with `alpha = exp(-dt / tau)`.

    Args:
      units: number of neurons, N.
      tau_mem_ms: time constant, one number or N of them.
      input_gain: `one`, or `one_minus_decay`: a constant current I then settles at v = I.
      train_tau: train one time constant a neuron.
      dt_ms: length of a step.
      dtype: of state and currents.

    Raises:
      ValueError: for a value out of range, naming it.
    """

    def __init__(
        self,
        units: int,
        tau_mem_ms: PerNeuron,
        input_gain: str,
        train_tau: bool,
        dt_ms: float,
        dtype: tf.DType,
    ):
        super().__init__(name="leak")
        if input_gain not in ("one", "one_minus_decay"):
            raise ValueError(f"input_gain is {input_gain!r}; expected one or one_minus_decay.")
        self._scaled = input_gain == "one_minus_decay"
        self._dt_ms = dt_ms
        with self.name_scope:
            self.tau_mem_ms = Parameter(tau_mem_ms, units, dtype, "tau_mem_ms", train_tau)

    def __call__(self, v: tf.Tensor, current: tf.Tensor) -> tf.Tensor:
        """The potential one step later, `[B, N]`."""
        alpha = self.alpha()
        return alpha * v + self.drive(current, alpha)

    def alpha(self) -> Any:
        """The decay factor, a number or `[N]`."""
        return decay(self.tau_mem_ms(), self._dt_ms)

    def drive(self, current: tf.Tensor, alpha: Any) -> tf.Tensor:
        """What the current adds to the potential in one step, `[B, N]`."""
        return (1.0 - alpha) * current if self._scaled else current


class Membrane(tf.Module):
    """A leaky membrane with a threshold, a reset after each spike and a refractory period.

    Args:
      units: number of neurons, N.
      leak: of the potential.
      threshold: firing threshold, one number or N of them.
      refractory_ms: shortest time between two spikes.
      reset: what a spike does to the potential.
      surrogate: spike function and its pseudo-derivative.
      train_threshold: train one threshold a neuron.
      dt_ms: length of a step.
      dtype: of state and currents.

    Raises:
      ValueError: for a value out of range, naming it.
    """

    def __init__(
        self,
        units: int,
        leak: Leak,
        threshold: PerNeuron,
        refractory_ms: float,
        reset: Reset,
        surrogate: Surrogate,
        train_threshold: bool,
        dt_ms: float,
        dtype: tf.DType,
    ):
        super().__init__(name="membrane")
        if not isinstance(reset, Reset) or not isinstance(surrogate, Surrogate):
            raise ValueError(
                f"reset is {reset!r} and surrogate is {surrogate!r}; expected a Reset, such as "
                'Reset("zero"), and a Surrogate, such as Surrogate("arctan").'
            )
        if refractory_ms < 0:
            raise ValueError(f"refractory_ms is {refractory_ms}; it cannot be negative.")
        self.leak = leak
        self.reset = reset
        self.surrogate = surrogate
        self.refractory_steps = math.ceil(refractory_ms / dt_ms - 1e-9)
        with self.name_scope:
            self.threshold = Parameter(threshold, units, dtype, "threshold", train_threshold)

    @property
    def absent(self) -> dict[str, tuple[()]]:
        """Fields of the state that are `()`: the counter, where no spike forbids the next one."""
        return {} if self.refractory_steps > 1 else {"refractory": ()}

    def potential(self, v: tf.Tensor, z: tf.Tensor, current: tf.Tensor) -> tf.Tensor:
        """The potential one step after `v` made the spikes `z`, `[B, N]` each."""
        alpha = self.leak.alpha()
        return self.reset(v, z, alpha, self.leak.drive(current, alpha), self.threshold())

    def spikes(self, v: tf.Tensor, refractory: Any, adaptation: Any = 0.0) -> tf.Tensor:
        """1 where `v` is above the threshold plus `adaptation` and no refractory period forbids it.

        The gradient is that of the surrogate at `(v - threshold - adaptation) / threshold`, and 0
        in a refractory period.
        """
        threshold = self.threshold()
        z = self.surrogate((v - threshold - adaptation) / threshold)
        return z if isinstance(refractory, tuple) else z * tf.cast(refractory <= 0.0, z.dtype)

    def count_down(self, refractory: Any, z: tf.Tensor) -> Any:
        """Steps still to wait before a spike is allowed, one step later; no gradient goes here."""
        if isinstance(refractory, tuple):
            return ()
        steps = float(self.refractory_steps)
        return tf.clip_by_value(refractory + steps * tf.stop_gradient(z) - 1.0, 0.0, steps)
