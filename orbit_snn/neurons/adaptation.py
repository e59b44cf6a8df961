"""How neurons in mV adapt: thresholds and currents that every spike raises."""

import functools
import operator
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons.base import Parameter
from orbit_snn.neurons.firing import Firing
from orbit_snn.types import PerComponent

Components = tuple[tf.Tensor, ...]
"""Adaptation by component, `[B, N]` each."""


class ThresholdAdaptation(tf.Module):
    """Components theta_k of a threshold, which decay but while their neuron is refractory.

        theta_k <- exp(-dt / tau_k) theta_k + jump_k z

    Args:
      tau_theta_ms: time constants, one number a component.
      jump_mv: what a spike adds, one number a component.
      dt_ms: length of a step.
      dtype: of state and currents.

    Attributes:
      count: of components, K.

    Raises:
      ValueError: for a value out of range, naming it.
    """

    def __init__(
        self, tau_theta_ms: PerComponent, jump_mv: PerComponent, dt_ms: float, dtype: tf.DType
    ):
        super().__init__(name="adaptation")
        self.count = count_components(tau_theta_ms=tau_theta_ms, jump_mv=jump_mv)
        self._dt_ms = dt_ms
        with self.name_scope:
            self.tau_ms = _parameters(tau_theta_ms, self.count, dtype, "tau_theta_ms")
            self.jump_mv = _parameters(jump_mv, self.count, dtype, "jump_mv", any_sign=True)

    def after(self, theta: Components, firing: Firing, refractory: Any, z: tf.Tensor) -> Components:
        """The components one step after `theta`, in which there were spikes `z`."""
        known = zip(theta, self.tau_ms, self.jump_mv, strict=True)
        return tuple(
            firing.adapted(decay(tau(), self._dt_ms) * own, own, refractory, z) + jump() * z
            for own, tau, jump in known
        )


class AdaptationCurrents(tf.Module):
    """Components w_k of a current, which follow the potential but in a refractory period.

        w_k <- w_k + dt / tau_k (a_k (v - rest) - w_k) + b_k z,  v after any reset

    Args:
      tau_w_ms: time constants, one number a component.
      a: in uS, one number a component, of any sign.
      b: what a spike adds, in nA, one number a component, of any sign.
      dt_ms: length of a step.
      dtype: of state and currents.

    Attributes:
      count: of components, K.

    Raises:
      ValueError: for a value out of range, naming it.
    """

    def __init__(
        self,
        tau_w_ms: PerComponent,
        a: PerComponent,
        b: PerComponent,
        dt_ms: float,
        dtype: tf.DType,
    ):
        super().__init__(name="adaptation")
        self.count = count_components(tau_w_ms=tau_w_ms, a=a, b=b)
        self._dt_ms = dt_ms
        with self.name_scope:
            self.tau_ms = _parameters(tau_w_ms, self.count, dtype, "tau_w_ms")
            self.a = _parameters(a, self.count, dtype, "a", any_sign=True)
            self.b = _parameters(b, self.count, dtype, "b", any_sign=True)

    def after(
        self, w: Components, above: tf.Tensor, firing: Firing, refractory: Any, z: tf.Tensor
    ) -> Components:
        """The components one step after `w`; `above` is what the reset potential is above rest."""
        known = zip(w, self.tau_ms, self.a, self.b, strict=True)
        return tuple(
            firing.adapted(own + self._dt_ms / tau() * (a() * above - own), own, refractory, z)
            + b() * z
            for own, tau, a, b in known
        )


def total(components: Components) -> tf.Tensor:
    """The sum over components, `[B, N]`."""
    return functools.reduce(operator.add, components)


def count_components(**given: PerComponent) -> int:
    """K of some quantities, each one number or K of them.

    Raises:
      ValueError: for quantities of different K, or of none.
    """
    shapes = {name: np.shape(value) for name, value in given.items() if np.ndim(value)}
    count = max((shape[0] for shape in shapes.values()), default=1)
    if not count or any(shape != (count,) for shape in shapes.values()):
        listed = " and ".join(f"{name} has shape {shape}" for name, shape in shapes.items())
        raise ValueError(f"{listed}; give one number, or one for each of the same components.")
    return count


def _parameters(
    value: PerComponent, count: int, dtype: tf.DType, name: str, **kind: bool
) -> tuple[Parameter, ...]:
    values = np.broadcast_to(np.asarray(value, np.float64).reshape(-1), [count])
    return tuple(Parameter(own, 1, dtype, name, **kind) for own in values)
