"""STDP that a reward modulates, at once or by way of an eligibility trace."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.learning.plasticity.stdp import pair_traces
from orbit_snn.learning.plasticity.synaptic import (
    Product,
    Rates,
    Seen,
    SeparableRule,
    SynapsewiseRule,
    check_times,
    check_trace,
    side,
)
from orbit_snn.monitors import Monitor
from orbit_snn.reducers import EligibilityTrace

_OTHER = {"pos": "neg", "neg": "pos"}


@dataclasses.dataclass(frozen=True)
class MSTDP(SeparableRule):
    """Reward-modulated STDP (Florian 2007, eq. 17): the update of `STDP` times scale and reward.

    A negative reward turns potentiation into depression and the other way round.

    Attributes:
      lr_post: as in `STDP`.
      lr_pre: as in `STDP`.
      tc_post_ms: as in `STDP`.
      tc_pre_ms: as in `STDP`.
      scale: gamma, of the reward.
      trace: as in `STDP`.

    Raises:
      ValueError: for a time constant that is not above 0, or an unknown trace.
    """

    lr_post: float = 1e-3
    lr_pre: float = -1e-3
    tc_post_ms: float = 20.0
    tc_pre_ms: float = 20.0
    scale: float = 1.0
    trace: str = "cumulative"

    rewarded = True

    def __post_init__(self) -> None:
        check_times(self, "tc_post_ms", "tc_pre_ms")
        check_trace(self.trace)

    def monitors(self, dt_ms: float, connection: str) -> dict[str, Monitor]:
        """A trace of either side."""
        return pair_traces(self, dt_ms, connection)

    def products(self, seen: Seen, rates: Rates) -> Sequence[Product]:
        """See the class."""
        reward = self.scale * seen.rewarded()[..., tf.newaxis]
        better, worse = tf.nn.relu(reward), tf.nn.relu(-reward)
        found = []
        for rate, pre, post in (
            ("lr_post", seen.after("trace_pre"), seen.post),
            ("lr_pre", seen.pre, seen.after("trace_post")),
        ):
            part = side(getattr(self, rate))
            found.append(Product(part, pre, rates[rate] * better * post))
            found.append(Product(_OTHER[part], pre, rates[rate] * worse * post))
        return found


@dataclasses.dataclass(frozen=True)
class MSTDPET(SynapsewiseRule):
    """Reward-modulated STDP with eligibility traces (Florian 2007, eq. 18-20).

        z <- exp(-dt / tau_z) z + c / tau_z        c: what `STDP` does in this step
        dw = dt scale reward z

    The update has the factor dt of the equation, so that it does not depend on the step's length.

    Attributes:
      lr_post: as in `STDP`.
      lr_pre: as in `STDP`.
      tc_post_ms: as in `STDP`.
      tc_pre_ms: as in `STDP`.
      tc_eligibility_ms: tau_z.
      scale: gamma, of the reward.
      trace: as in `STDP`.

    Raises:
      ValueError: for a time constant that is not above 0, or an unknown trace.
    """

    lr_post: float = 1e-3
    lr_pre: float = -1e-3
    tc_post_ms: float = 20.0
    tc_pre_ms: float = 20.0
    tc_eligibility_ms: float = 25.0
    scale: float = 1.0
    trace: str = "cumulative"

    rewarded = True

    def __post_init__(self) -> None:
        check_times(self, "tc_post_ms", "tc_pre_ms", "tc_eligibility_ms")
        check_trace(self.trace)

    def monitors(self, dt_ms: float, connection: str) -> dict[str, Monitor]:
        """A trace of either side."""
        return pair_traces(self, dt_ms, connection)

    def start(self, shape: Sequence[int], dtype: tf.DType) -> Any:
        """No eligibility, of what postsynaptic spikes did and of what presynaptic ones did."""
        zeros = tf.zeros(shape, dtype)
        return zeros, zeros

    def step(self, now: Seen, remembered: Any, rates: Rates) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """See the class."""
        eligibility = EligibilityTrace(self.tc_eligibility_ms, now.dt_ms)
        of_post = eligibility.fold(remembered[0], now.values["trace_pre"], now.post)
        of_pre = eligibility.fold(remembered[1], now.pre, now.values["trace_post"])
        reward = now.dt_ms * self.scale * now.rewarded()
        parts = {"pos": tf.zeros_like(of_post), "neg": tf.zeros_like(of_post)}
        for rate, z in (("lr_post", of_post), ("lr_pre", of_pre)):
            part = side(getattr(self, rate))
            parts[part] += rates[rate] * tf.nn.relu(reward) * z
            parts[_OTHER[part]] += rates[rate] * tf.nn.relu(-reward) * z
        return parts["pos"], parts["neg"], (of_post, of_pre)
