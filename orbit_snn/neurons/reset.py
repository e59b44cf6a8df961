"""The reset of a membrane after a spike."""

import dataclasses
from typing import Any

import tensorflow as tf

KINDS = ("subtract", "zero", "none")
TIMINGS = ("next", "same")


@dataclasses.dataclass(frozen=True)
class Reset:
    """What a spike does to the membrane potential that caused it.

    `timing="next"` acts in the step after the spike and does not leak: `subtract` takes the
    threshold off the new potential (Bellec et al. 2020), `zero` holds the potential at 0 for that
    step. `timing="same"` acts in the step of the spike, so what is left leaks with the rest.

    Attributes:
      kind: `subtract`, `zero` or `none`.
      timing: `next` or `same`.
      gradient: whether learning rules differentiate through the spike in the reset.
    """

    kind: str = "subtract"
    timing: str = "next"
    gradient: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"reset is {self.kind!r}; expected one of {', '.join(KINDS)}.")
        if self.timing not in TIMINGS:
            raise ValueError(f"reset timing is {self.timing!r}; expected next or same.")

    def __call__(
        self, v: tf.Tensor, z: tf.Tensor, alpha: Any, drive: tf.Tensor, threshold: Any
    ) -> tf.Tensor:
        """Potential one step later.

        Args:
          v: potential that met the threshold, before any reset, `[B, N]`.
          z: the spikes that came of it, `[B, N]`.
          alpha: membrane decay, a number or `[N]`.
          drive: scaled input current of the new step, `[B, N]`.
          threshold: what `subtract` takes off, a number or `[N]`.
        """
        if self.kind == "none":
            return alpha * v + drive
        if not self.gradient:
            z = tf.stop_gradient(z)
        if self.kind == "subtract":
            if self.timing == "next":
                return alpha * v + drive - threshold * z
            return alpha * (v - threshold * z) + drive
        if self.timing == "next":
            return (1.0 - z) * (alpha * v + drive)
        return alpha * ((1.0 - z) * v) + drive
