"""Homeostasis: weights move until every neuron fires as often as it should."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from orbit_snn.learning.plasticity.synaptic import (
    Product,
    Rates,
    Seen,
    SeparableRule,
    check_param,
)
from orbit_snn.monitors import Monitor, output_monitor
from orbit_snn.reducers import CumulativeAverage


@dataclasses.dataclass(frozen=True)
class LinearHomeostasis(SeparableRule):
    """`dp = lr_homeostasis (r* - r) / r*` for every synapse of a neuron, in every step.

    r is the neuron's mean rate since the sequence began. A neuron that fires too often has all its
    weights lowered, one that fires too seldom has them raised.

    Attributes:
      lr_homeostasis: lambda, above 0.
      target_hz: r*, above 0.
      param: what moves: `kernel`, `bias` or, the other way round, `delay_ms`.

    Raises:
      ValueError: for a rate or target that is not above 0.
    """

    lr_homeostasis: float = 1e-3
    target_hz: float = 10.0
    param: str = "kernel"

    def __post_init__(self) -> None:
        for name in ("lr_homeostasis", "target_hz"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0.")
        check_param(self.param, "kernel", "bias", "delay_ms")

    def monitors(self, dt_ms: float, connection: str) -> dict[str, Monitor]:
        """The mean rate."""
        return {"rate": output_monitor(CumulativeAverage())}

    def products(self, seen: Seen, rates: Rates) -> Sequence[Product]:
        """See the class."""
        target = self.target_hz * seen.dt_ms * 1e-3
        lack = (target - seen.after("rate")) / target
        every = tf.ones_like(seen.pre)
        if self.param == "delay_ms":
            lack = -lack
        return (
            Product("pos", every, rates["lr_homeostasis"] * tf.nn.relu(lack)),
            Product("neg", every, rates["lr_homeostasis"] * tf.nn.relu(-lack)),
        )
