"""Pair and triplet rules of spike-timing-dependent plasticity."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from orbit_snn.learning.plasticity.synaptic import (
    Product,
    Rates,
    Seen,
    SeparableRule,
    check_times,
    check_trace,
    side,
)
from orbit_snn.monitors import Monitor, input_monitor, output_monitor
from orbit_snn.reducers import CumulativeTrace, NearestTrace, Reducer


def trace_of(mode: str, tau_ms: float, dt_ms: float) -> Reducer:
    """A trace of spikes, `cumulative` or `nearest`, of amplitude 1."""
    kind = CumulativeTrace if mode == "cumulative" else NearestTrace
    return kind(tau_ms, dt_ms)


def pair_traces(rule: Any, dt_ms: float, connection: str) -> dict[str, Monitor]:
    """Traces of either side, of what has `trace`, `tc_pre_ms` and `tc_post_ms`."""
    pre, post = (trace_of(rule.trace, tau, dt_ms) for tau in (rule.tc_pre_ms, rule.tc_post_ms))
    return {"trace_pre": input_monitor(pre, connection), "trace_post": output_monitor(post)}


@dataclasses.dataclass(frozen=True)
class STDP(SeparableRule):
    """Pair-based STDP with traces (Morrison, Diesmann & Gerstner 2008, section 4.1).

        at a postsynaptic spike   dw = lr_post x        x: trace of presynaptic spikes, tc_pre_ms
        at a presynaptic spike    dw = lr_pre y         y: trace of postsynaptic spikes, tc_post_ms

    Traces include the spikes of the step itself. `lr_post > 0 > lr_pre` is Hebbian.

    Attributes:
      lr_post: learning rate at postsynaptic spikes.
      lr_pre: learning rate at presynaptic spikes.
      tc_post_ms: time constant of the postsynaptic trace.
      tc_pre_ms: time constant of the presynaptic trace.
      trace: `cumulative` adds up spikes, `nearest` sees the last one alone.

    Raises:
      ValueError: for a time constant that is not above 0, or an unknown trace.
    """

    lr_post: float = 1e-3
    lr_pre: float = -1e-3
    tc_post_ms: float = 20.0
    tc_pre_ms: float = 20.0
    trace: str = "cumulative"

    def __post_init__(self) -> None:
        check_times(self, "tc_post_ms", "tc_pre_ms")
        check_trace(self.trace)

    def monitors(self, dt_ms: float, connection: str) -> dict[str, Monitor]:
        """A trace of either side."""
        return pair_traces(self, dt_ms, connection)

    def products(self, seen: Seen, rates: Rates) -> Sequence[Product]:
        """See the class."""
        return (
            Product(side(self.lr_post), seen.after("trace_pre"), rates["lr_post"] * seen.post),
            Product(side(self.lr_pre), seen.pre, rates["lr_pre"] * seen.after("trace_post")),
        )


@dataclasses.dataclass(frozen=True)
class TripletSTDP(SeparableRule):
    """Triplet-based STDP (Pfister & Gerstner 2006, eq. 3-4), slow traces of the step before.

        at a postsynaptic spike   dw = lr_post x (1 + |lr_post_triplet / lr_post| y'(t - dt))
        at a presynaptic spike    dw = lr_pre y (1 + |lr_pre_triplet / lr_pre| x'(t - dt))

    with x, y the fast traces and x', y' the slow ones.

    Attributes:
      lr_post: of pairs at postsynaptic spikes, not 0.
      lr_post_triplet: of triplets at postsynaptic spikes; its sign does not matter.
      lr_pre: of pairs at presynaptic spikes, not 0.
      lr_pre_triplet: of triplets at presynaptic spikes; its sign does not matter.
      tc_post_fast_ms: of y.
      tc_post_slow_ms: of y', longer.
      tc_pre_fast_ms: of x.
      tc_pre_slow_ms: of x', longer.
      trace: `cumulative` or `nearest`.

    Raises:
      ValueError: for a pair rate of 0, or time constants out of order.
    """

    lr_post: float = 1e-3
    lr_post_triplet: float = 1e-3
    lr_pre: float = -1e-3
    lr_pre_triplet: float = 1e-3
    tc_post_fast_ms: float = 20.0
    tc_post_slow_ms: float = 40.0
    tc_pre_fast_ms: float = 20.0
    tc_pre_slow_ms: float = 100.0
    trace: str = "cumulative"

    def __post_init__(self) -> None:
        check_trace(self.trace)
        for end in ("post", "pre"):
            fast, slow = f"tc_{end}_fast_ms", f"tc_{end}_slow_ms"
            check_times(self, fast, slow)
            if getattr(self, fast) >= getattr(self, slow):
                raise ValueError(
                    f"{fast} is {getattr(self, fast)} and {slow} {getattr(self, slow)}; the slow "
                    "trace must decay more slowly."
                )
            if getattr(self, f"lr_{end}") == 0.0:
                raise ValueError(f"lr_{end} is 0; expected another number, or use STDP.")

    def monitors(self, dt_ms: float, connection: str) -> dict[str, Monitor]:
        """A fast and a slow trace of either side."""
        times = {
            "pre_fast": self.tc_pre_fast_ms,
            "pre_slow": self.tc_pre_slow_ms,
            "post_fast": self.tc_post_fast_ms,
            "post_slow": self.tc_post_slow_ms,
        }
        traces = {name: trace_of(self.trace, tau_ms, dt_ms) for name, tau_ms in times.items()}
        return {
            name: input_monitor(trace, connection) if "pre" in name else output_monitor(trace)
            for name, trace in traces.items()
        }

    def products(self, seen: Seen, rates: Rates) -> Sequence[Product]:
        """See the class."""
        pairs = rates["lr_post"], rates["lr_pre"]
        triplets = rates["lr_post_triplet"], rates["lr_pre_triplet"]
        post = seen.post * (pairs[0] + triplets[0] * seen.before("post_slow"))
        pre = seen.pre * (pairs[1] + triplets[1] * seen.before("pre_slow"))
        return (
            Product(side(self.lr_post), seen.after("pre_fast"), post),
            Product(side(self.lr_pre), pre, seen.after("post_fast")),
        )
