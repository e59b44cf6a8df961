"""Local plasticity in float64, without its rules: bounds, accumulator, reducers, applied updates.

Written from `shared/spec/plasticity.md` (sections in brackets). Times and dt are in ms. Sequences
are time-major; rules (`plasticity_rules`) give `pos` and `neg` [T, B, P, N], both positive-valued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

Array = np.ndarray
Output = tuple[Array | None, Array | None]  # pos and neg of a rule; None: no contribution
HalfBound = Callable[[Array, Array], Array]
FullBound = Callable[[Array, Array, Array], Array]

FAMILIES = ("power", "scaled_power", "multiplicative", "scaled_multiplicative", "sharp")
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
}


def _room(family: str, distance: Array, power: float, span: float | None) -> Array:
    """The factor of an update by the distance to its limit, any shape (1.2)."""
    if family not in FAMILIES:
        raise ValueError(f"no bounds {family!r}")
    if family == "sharp":
        return np.where(distance >= 0.0, 1.0, 0.0)
    if family.startswith("scaled"):
        if span is None:
            raise ValueError(f"{family} needs the span max - min")
        distance = distance / span
    if not family.endswith("power"):
        return distance
    if power < 0:
        raise ValueError(f"negative power {power}")
    room = np.zeros(distance.shape)
    for index in np.ndindex(distance.shape):
        if distance[index] >= 0 or float(power).is_integer():
            room[index] = float(distance[index]) ** power
    return room


def upper_bound(
    family: str, maximum: float, power: float = 1.0, span: float | None = None
) -> HalfBound:
    """U(p, pos) = factor of (maximum - p) * pos; `span` is max - min, for scaled families only."""

    def bound(p: Array, pos: Array) -> Array:
        return _room(family, maximum - np.asarray(p, np.float64), power, span) * pos

    return bound


def lower_bound(
    family: str, minimum: float, power: float = 1.0, span: float | None = None
) -> HalfBound:
    """L(p, neg) = factor of (p - minimum) * neg; `span` is max - min, for scaled families only."""

    def bound(p: Array, neg: Array) -> Array:
        return _room(family, np.asarray(p, np.float64) - minimum, power, span) * neg

    return bound


def full_bound(
    family: str,
    maximum: float | None,
    minimum: float | None,
    upper_power: float = 1.0,
    lower_power: float = 1.0,
) -> FullBound:
    """F(p, pos, neg) = U(p, pos) - L(p, neg); a limit None leaves that side unbounded.

    A scaled family with one limit has no span: ValueError.
    """
    both = maximum is not None and minimum is not None
    if family.startswith("scaled") and not both and (maximum, minimum) != (None, None):
        raise ValueError(f"{family} needs both limits")
    span = None if maximum is None or minimum is None else maximum - minimum

    def bound(p: Array, pos: Array, neg: Array) -> Array:
        if maximum is not None:
            pos = upper_bound(family, maximum, upper_power, span)(p, pos)
        if minimum is not None:
            neg = lower_bound(family, minimum, lower_power, span)(p, neg)
        return pos - neg

    return bound


@dataclass(frozen=True)
class Bounds:
    """Half bounds, each of which may be absent, or one full bound; never both kinds (1.2)."""

    upper: HalfBound | None = None
    lower: HalfBound | None = None
    full: FullBound | None = None

    def __post_init__(self) -> None:
        if self.full is not None and (self.upper is not None or self.lower is not None):
            raise ValueError("half bounds and a full bound replace each other")


def accumulated(
    p: Array,
    pos: Sequence[Array | None],
    neg: Sequence[Array | None],
    *,
    reduction: str = "sum",
    bounds: Bounds | None = None,
) -> Array:
    """The new parameter [*S] after contributions [*S] to both sides (1.2).

    None among the contributions counts for nothing; without any contribution p stays as it is.
    """
    p, bounds = np.asarray(p, np.float64), bounds or Bounds()
    reduced: list[Array | None] = []
    for side in (pos, neg):
        given = [np.asarray(x, np.float64) for x in side if x is not None]
        reduced.append(REDUCTIONS[reduction](np.stack(given), axis=0) if given else None)
    up, down = reduced
    if up is None and down is None:
        return p.copy()
    up = np.zeros_like(p) if up is None else up
    down = np.zeros_like(p) if down is None else down
    if bounds.full is not None:
        return p + bounds.full(p, up, down)
    up = up if bounds.upper is None else bounds.upper(p, up)
    down = down if bounds.lower is None else bounds.lower(p, down)
    return p + up - down


def conditional_trace(
    obs: Array,
    condition: Array,
    *,
    tau: float,
    dt: float = 1.0,
    scale: float = 1.0,
    amplitude: float = 0.0,
    nearest: bool = False,
) -> Array:
    """x <- x exp(-dt/tau) + (scale obs + amplitude) where the condition [T, ...] holds (1.4).

    The nearest trace forgets x where the condition holds. Starts from 0; every step [T, ...].
    """
    obs, x = np.asarray(obs, np.float64), np.zeros(np.shape(obs))
    for t in range(len(obs)):
        decayed = (x[t - 1] if t else np.zeros(obs.shape[1:])) * exp(-dt / tau)
        jump = scale * obs[t] + amplitude
        x[t] = np.where(condition[t], jump if nearest else decayed + jump, decayed)
    return x


def scaled_trace(obs: Array, criterion: Callable[[Array], Array], **settings: Any) -> Array:
    """`conditional_trace` whose condition is a criterion of the observation (1.4)."""
    return conditional_trace(obs, criterion(np.asarray(obs, np.float64)), **settings)


def cumulative_trace(
    obs: Array,
    *,
    tau: float,
    dt: float = 1.0,
    amplitude: float = 1.0,
    target: float = 1.0,
    tolerance: float = 0.0,
    nearest: bool = False,
) -> Array:
    """x <- x exp(-dt/tau) + amplitude where |obs - target| <= tolerance, [T, ...] (1.4)."""
    match = np.abs(np.asarray(obs, np.float64) - target) <= tolerance
    return conditional_trace(
        obs, match, tau=tau, dt=dt, scale=0.0, amplitude=amplitude, nearest=nearest
    )


def nearest_trace(obs: Array, **settings: Any) -> Array:
    """x <- amplitude where the observation matches, else x exp(-dt/tau), [T, ...] (1.4)."""
    return cumulative_trace(obs, nearest=True, **settings)


def eligibility_trace(
    obs: Array, condition: Array, *, tau: float, dt: float = 1.0, axis: int | None = None
) -> Array:
    """z <- z exp(-dt/tau) + (obs * condition) / tau, with a sum over the receptive axis (1.4)."""
    product = np.asarray(obs, np.float64) * np.asarray(condition, np.float64)
    if axis is not None:
        product = product.sum(axis=axis)
    always = np.ones(product.shape, bool)
    return conditional_trace(product, always, tau=tau, dt=dt, scale=1.0 / tau)


def event_age(match: Array, *, dt: float = 1.0, initial: str = "inf") -> Array:
    """Time since the last match [T, ...] (1.4): 0 at a match, else dt more than a step before.

    The first step, without a match, gives the initial value "inf", "zero" or "nan".
    """
    first = {"inf": np.inf, "zero": 0.0, "nan": np.nan}[initial]
    match = np.asarray(match).astype(bool)
    age = np.zeros(match.shape)
    for t in range(len(match)):
        age[t] = np.where(match[t], 0.0, age[t - 1] + dt if t else first)
    return age


def ema(obs: Array, alpha: float) -> Array:
    """s <- alpha obs + (1 - alpha) s from s = obs at the first step, [T, ...] (1.4)."""
    s = np.array(obs, np.float64)
    for t in range(1, len(s)):
        s[t] = alpha * s[t] + (1.0 - alpha) * s[t - 1]
    return s


def cumulative_average(obs: Array) -> Array:
    """s <- s + (obs - s) / n over the n observations so far, [T, ...] (1.4)."""
    s = np.array(obs, np.float64)
    for t in range(1, len(s)):
        s[t] = s[t - 1] + (s[t] - s[t - 1]) / (t + 1)
    return s


def passthrough(obs: Array) -> Array:
    """The observation itself, [T, ...] (1.4)."""
    return np.array(obs, np.float64)


def run_dependent(
    rule: Callable[[Array], Sequence[Output]],
    p0: Array,
    steps: int,
    *,
    batch_reduction: str = "mean",
    apply_every: int = 1,
    bounds: Bounds | None = None,
    reduction: str = "sum",
    clamp: tuple[float, float] | None = None,
) -> Array:
    """The parameter after every step, [T, *S], under rules that read the parameter.

    Args:
        rule: gets the values [T, *S] that the parameter has during the steps (later ones are not
            yet known) and gives the outputs of its rules, sides [T, B, *S]; called at every step.
        p0: the first parameter [*S]; it must not depend on later steps.
        steps: T.
        batch_reduction: over B, of each side of each output at each step.
        apply_every: steps between updates; what is left over at the end is not applied.
        bounds: of the update, at the parameter of the step that applies it.
        reduction: over the contributions of all outputs and steps since the last update.
        clamp: minimum and maximum, enforced after an update.
    """
    p = np.array(p0, np.float64)
    during, after = np.stack([p] * steps), np.zeros((steps, *p.shape))
    pos: list[Array] = []
    neg: list[Array] = []
    for t in range(steps):
        for output in rule(during):
            for given, side in ((output[0], pos), (output[1], neg)):
                if given is not None:
                    side.append(REDUCTIONS[batch_reduction](given[t], axis=0))
        if (t + 1) % apply_every == 0:
            p = accumulated(p, pos, neg, reduction=reduction, bounds=bounds)
            p = p if clamp is None else np.clip(p, *clamp)
            pos, neg = [], []
        after[t] = p
        during[t + 1 :] = p
    return after


def run(outputs: Sequence[Output], w0: Array, **settings: Any) -> Array:
    """`run_dependent` of outputs that do not read the parameter: [T, P, N], after each step."""
    steps = [len(side) for output in outputs for side in output if side is not None]
    return run_dependent(lambda _: outputs, w0, steps[0], **settings)
