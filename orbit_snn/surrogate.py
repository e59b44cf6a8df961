"""Spike nonlinearities: a Heaviside step whose derivative is replaced by a pseudo-derivative psi.

Every function below is the shape of one psi, of the normalised distance to threshold
`s = (v - A) / threshold`. Each is scaled so that it peaks at `dampening` where `s = 0`; `slope`
makes it narrower. A population spikes where `s > 0`, strictly.
"""

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf


def triangular(u: tf.Tensor) -> tf.Tensor:
    """`max(0, 1 - |u|)` (Bellec et al., Nat. Commun. 11:3625, 2020)."""
    return tf.nn.relu(1.0 - tf.abs(u))


def fast_sigmoid(u: tf.Tensor) -> tf.Tensor:
    """`1 / (1 + |u|)^2` (Zenke & Ganguli, Neural Comput. 30:1514, 2018)."""
    return 1.0 / tf.square(1.0 + tf.abs(u))


def arctan(u: tf.Tensor) -> tf.Tensor:
    """`1 / (1 + (pi u / 2)^2)` (Fang et al., ICCV 2021)."""
    return 1.0 / (1.0 + tf.square(0.5 * math.pi * u))


def sigmoid(u: tf.Tensor) -> tf.Tensor:
    """`4 sigma(u) (1 - sigma(u))`, the derivative of a logistic function."""
    p = tf.sigmoid(u)
    return 4.0 * p * (1.0 - p)


def exponential(u: tf.Tensor) -> tf.Tensor:
    """`exp(-|u|)` (Shrestha & Orchard, NeurIPS 2018)."""
    return tf.exp(-tf.abs(u))


def gaussian(u: tf.Tensor) -> tf.Tensor:
    """`exp(-u^2 / 2)` (Yin et al., Nat. Mach. Intell. 3:905, 2021, one Gaussian)."""
    return tf.exp(-0.5 * tf.square(u))


def boxcar(u: tf.Tensor) -> tf.Tensor:
    """1 where `|u| < 1`, else 0."""
    return tf.cast(tf.abs(u) < 1.0, u.dtype)


def straight_through(u: tf.Tensor) -> tf.Tensor:
    """1 everywhere (Bengio et al., arXiv 1308.3432)."""
    return tf.ones_like(u)


SHAPES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    shape.__name__: shape
    for shape in (
        triangular,
        fast_sigmoid,
        arctan,
        sigmoid,
        exponential,
        gaussian,
        boxcar,
        straight_through,
    )
}


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A spike function and its pseudo-derivative.

    Attributes:
      name: a key of `SHAPES`.
      dampening: height of psi at threshold, gamma in Bellec et al.
      slope: psi is a function of `slope * s`.

    Raises:
      ValueError: for an unknown name, a dampening below 0, a slope that is not above 0.
    """

    name: str = "triangular"
    dampening: float = 0.3
    slope: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in SHAPES:
            raise ValueError(f"surrogate is {self.name!r}; expected one of {', '.join(SHAPES)}.")
        if not 0.0 <= self.dampening < math.inf:
            raise ValueError(f"the surrogate's dampening is {self.dampening}; expected 0 or more.")
        if not 0.0 < self.slope < math.inf:
            raise ValueError(f"the surrogate's slope is {self.slope}; expected more than 0.")

    def psi(self, s: tf.Tensor) -> tf.Tensor:
        """Pseudo-derivative dz/ds at the normalised distance `s`, any shape."""
        return self.dampening * SHAPES[self.name](self.slope * s)

    def __call__(self, s: tf.Tensor) -> tf.Tensor:
        """Spikes, 0 or 1 in the dtype of `s`: 1 where `s > 0`. Its gradient is `psi`."""

        @tf.custom_gradient
        def fire(s: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            return tf.cast(s > 0, s.dtype), lambda dz: dz * self.psi(s)

        return fire(s)
