"""The theta neuron: a phase that spikes when it has gone around."""

import math
from typing import NamedTuple

import tensorflow as tf

from orbit_snn.neurons.base import Neuron
from orbit_snn.surrogate import Surrogate


class ThetaState(NamedTuple):
    """State of a Theta population.

    Attributes:
      v: phase that met pi in this step, before it wraps, `[B, N]`.
    """

    v: tf.Tensor


class Theta(Neuron):
    """Theta neuron (Ermentrout & Kopell 1986), by Euler steps, with time in seconds.

        dv/dt = 1 - cos v + pi^2 (1 + cos v) I
        z(t) = 1 where v(t) > pi; then v <- v - 2 pi

    Args:
      units: number of neurons, N.
      reset_gradient: whether learning rules differentiate through the spike in the wrapping.
      surrogate: spike function, of `(v - pi) / pi`, and its pseudo-derivative.
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
        reset_gradient: bool = False,
        surrogate: Surrogate = Surrogate(),
        dt_ms: float = 0.01,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, dt_ms, dtype, name)
        if not isinstance(surrogate, Surrogate):
            raise ValueError(
                f'surrogate is {surrogate!r}; expected a Surrogate, such as Surrogate("arctan").'
            )
        self.surrogate = surrogate
        self.reset_gradient = reset_gradient

    def initial_state(self, batch_size: int) -> ThetaState:
        """Phase 0."""
        return ThetaState(tf.zeros([batch_size, self.units], self.dtype))

    def step(self, state: ThetaState, current: tf.Tensor) -> ThetaState:
        """One step of the equations above; shapes as in `Neuron.step`."""
        z = self.output(state)
        v = state.v - 2.0 * math.pi * (z if self.reset_gradient else tf.stop_gradient(z))
        cosine = tf.cos(v)
        speed = 1.0 - cosine + math.pi**2 * (1.0 + cosine) * current
        return ThetaState(v + 1e-3 * self.dt_ms * speed)

    def output(self, state: ThetaState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return self.surrogate((state.v - math.pi) / math.pi)
