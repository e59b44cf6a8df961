"""What neurons in mV share: a threshold, a reset to a potential, and a refractory period."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.neurons.base import Parameter
from orbit_snn.surrogate import Surrogate
from orbit_snn.types import PerNeuron


class Firing(tf.Module):
    """Spikes above a threshold, after which the potential is held at `reset_mv` for a while.

    Args:
      units: number of neurons, N.
      threshold_mv: one number or N of them.
      reset_mv: one number or N of them, below the threshold.
      refractory_ms: shortest time between two spikes, rounded up to whole steps.
      reset_gradient: whether learning rules differentiate through the spike in the reset.
      surrogate: spike function, of `(v - threshold) / (threshold - reset)`.
      dt_ms: length of a step.
      dtype: of state and currents.
      threshold_name: what the neuron calls its threshold.

    Raises:
      ValueError: for a value out of range, naming it.
    """

    def __init__(
        self,
        units: int,
        threshold_mv: PerNeuron,
        reset_mv: PerNeuron,
        refractory_ms: float,
        reset_gradient: bool,
        surrogate: Surrogate,
        dt_ms: float,
        dtype: tf.DType,
        threshold_name: str = "threshold_mv",
    ):
        super().__init__(name="firing")
        if not isinstance(surrogate, Surrogate):
            raise ValueError(
                f'surrogate is {surrogate!r}; expected a Surrogate, such as Surrogate("arctan").'
            )
        if refractory_ms < 0:
            raise ValueError(f"refractory_ms is {refractory_ms}; it cannot be negative.")
        self.surrogate = surrogate
        self.reset_gradient = reset_gradient
        self.refractory_steps = math.ceil(refractory_ms / dt_ms - 1e-9)
        with self.name_scope:
            self.threshold_mv = Parameter(threshold_mv, units, dtype, threshold_name, any_sign=True)
            self.reset_mv = Parameter(reset_mv, units, dtype, "reset_mv", any_sign=True)
        check_below(threshold_mv, threshold_name, reset_mv=reset_mv)

    def not_refractory(self, like: tf.Tensor) -> Any:
        """Steps to wait of neurons that need not, of a shape; `()` without refractoriness."""
        return tf.zeros_like(like) if self.refractory_steps > 1 else ()

    def spikes(self, v: tf.Tensor, refractory: Any, threshold: Any = None) -> tf.Tensor:
        """1 where `v` is above the threshold and no refractory period forbids it."""
        threshold = self.threshold_mv() if threshold is None else threshold
        z = self.surrogate((v - threshold) / (self.threshold_mv() - self.reset_mv()))
        return z if isinstance(refractory, tuple) else z * tf.cast(refractory <= 0.0, z.dtype)

    def after(
        self, v: tf.Tensor, refractory: Any, z: tf.Tensor, reset: Any = None
    ) -> tuple[tf.Tensor, Any]:
        """Potential that the next step starts from, and the steps to wait in it, `[B, N]` each.

        A spike takes `v` to `reset`, or `reset_mv`: to that very number, however high `v` was.
        """
        through = z if self.reset_gradient else tf.stop_gradient(z)
        v = (1.0 - through) * v + through * (self.reset_mv() if reset is None else reset)
        if isinstance(refractory, tuple):
            return v, ()
        steps = float(self.refractory_steps)
        return v, tf.clip_by_value(refractory + steps * tf.stop_gradient(z) - 1.0, 0.0, steps)

    def held(self, moved: tf.Tensor, v: tf.Tensor, waiting: Any) -> tf.Tensor:
        """`moved`, and `v` where a neuron has to wait."""
        return moved if isinstance(waiting, tuple) else tf.where(waiting > 0.0, v, moved)

    def adapted(self, moved: tf.Tensor, kept: tf.Tensor, refractory: Any, z: tf.Tensor) -> Any:
        """`moved`, and `kept` where the step with spikes `z` ends in a refractory period."""
        if not self.refractory_steps:
            return moved
        refrains = z > 0.0 if isinstance(refractory, tuple) else (z > 0.0) | (refractory > 0.0)
        return tf.where(refrains, kept, moved)


def check_below(threshold_mv: PerNeuron, name: str, **potentials: PerNeuron) -> None:
    """Refuses potentials that are not below the threshold, which the caller calls `name`.

    Raises:
      ValueError: naming the first.
    """
    for lower, value in potentials.items():
        if not np.all(np.asarray(threshold_mv) > np.asarray(value)):
            raise ValueError(
                f"{name} is {threshold_mv} and {lower} {value}; the {lower.removesuffix('_mv')} "
                f"must be below the {name.removesuffix('_mv')}."
            )
