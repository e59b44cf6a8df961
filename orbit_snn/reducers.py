"""Reducers: what a monitor makes of its observations, step by step.

    state = reducer.start(like)                   # of one observation's shape
    state = reducer.fold(state, observation, ...)
    value = reducer.value(state)

Pure and elementwise, so that they run inside a compiled time loop. Times are in ms, an observation
a step; a decay is `d = exp(-dt / tau)`.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orbit_snn.decay import decay

Criterion = Callable[[tf.Tensor], tf.Tensor]
"""Which entries of an observation count: bool of its shape."""


def spiked(x: tf.Tensor) -> tf.Tensor:
    """Where there was a spike: what is above 0."""
    return x > 0.0


class Reducer(abc.ABC):
    """Folds observations into a state, see the module's text."""

    observations: int = 1

    @abc.abstractmethod
    def start(self, like: tf.Tensor) -> Any:
        """The state before the first observation, of the shape and dtype of one."""

    @abc.abstractmethod
    def fold(self, state: Any, *observed: tf.Tensor) -> Any:
        """The state after one more observation."""

    def value(self, state: Any) -> tf.Tensor:
        """What the reducer reports in a state."""
        return state


@dataclasses.dataclass(frozen=True)
class NearestTrace(Reducer):
    """Trace of the last event alone: `x <- scale h + amplitude` at an event, `d x` elsewhere.

    Attributes:
      tau_ms: time constant.
      dt_ms: of a step.
      amplitude: what an event sets it to.
      scale: of the observation h, added to the amplitude.
      criterion: what an event is.
    """

    tau_ms: float
    dt_ms: float = 1.0
    amplitude: float = 1.0
    scale: float = 0.0
    criterion: Criterion = spiked

    def start(self, like: tf.Tensor) -> tf.Tensor:
        """Zeros."""
        return tf.zeros_like(like)

    def fold(self, state: tf.Tensor, *observed: tf.Tensor) -> tf.Tensor:
        """One step; see the class."""
        (x,) = observed
        faded = decay(self.tau_ms, self.dt_ms) * state
        return tf.where(self.criterion(x), self.scale * x + self.amplitude, faded)


@dataclasses.dataclass(frozen=True)
class CumulativeTrace(Reducer):
    """Trace of all events: `x <- d x + (scale h + amplitude) [event]`.

    Attributes: as of `NearestTrace`, with `amplitude` and `scale` of what an event adds.
    """

    tau_ms: float
    dt_ms: float = 1.0
    amplitude: float = 1.0
    scale: float = 0.0
    criterion: Criterion = spiked

    def start(self, like: tf.Tensor) -> tf.Tensor:
        """Zeros."""
        return tf.zeros_like(like)

    def fold(self, state: tf.Tensor, *observed: tf.Tensor) -> tf.Tensor:
        """One step; see the class."""
        (x,) = observed
        added = tf.where(self.criterion(x), self.scale * x + self.amplitude, tf.zeros_like(x))
        return decay(self.tau_ms, self.dt_ms) * state + added


@dataclasses.dataclass(frozen=True)
class ConditionalTrace(Reducer):
    """A trace whose events are a second observation, a condition.

    `nearest`: `x <- scale h + amplitude` where the condition holds, else `d x`; without it
    `x <- d x + (scale h + amplitude) [condition]`. Arguments as NearestTrace.
    """

    tau_ms: float
    dt_ms: float = 1.0
    amplitude: float = 1.0
    scale: float = 0.0
    nearest: bool = False

    observations = 2

    def start(self, like: tf.Tensor) -> tf.Tensor:
        """Zeros."""
        return tf.zeros_like(like)

    def fold(self, state: tf.Tensor, *observed: tf.Tensor) -> tf.Tensor:
        """One step; see the class."""
        x, condition = observed
        faded = decay(self.tau_ms, self.dt_ms) * state
        event = self.scale * x + self.amplitude
        base = tf.zeros_like(faded) if self.nearest else faded
        return tf.where(tf.cast(condition, tf.bool), base + event, faded)


@dataclasses.dataclass(frozen=True)
class EligibilityTrace(Reducer):
    """`z <- d z + h c / tau`, of two observations that broadcast, such as `[B, P, 1]`, `[B, 1, N]`.

    Attributes:
      tau_ms: time constant.
      dt_ms: of a step.
    """

    tau_ms: float
    dt_ms: float = 1.0

    observations = 2

    def start(self, like: tf.Tensor) -> tf.Tensor:
        """Zeros."""
        return tf.zeros_like(like)

    def fold(self, state: tf.Tensor, *observed: tf.Tensor) -> tf.Tensor:
        """One step; see the class."""
        x, condition = observed
        return decay(self.tau_ms, self.dt_ms) * state + x * condition / self.tau_ms


@dataclasses.dataclass(frozen=True)
class Event(Reducer):
    """Time since the last event in ms: 0 at one, else `t + dt`.

    Attributes:
      dt_ms: of a step.
      initial: before the first step: infinity or nan, which stay until there is an event, or 0 to
        count from the start.
      criterion: what an event is.
    """

    dt_ms: float = 1.0
    initial: float = float("inf")
    criterion: Criterion = spiked

    def start(self, like: tf.Tensor) -> tf.Tensor:
        """`initial` everywhere."""
        return tf.fill(like.shape, tf.constant(self.initial, like.dtype))

    def fold(self, state: tf.Tensor, *observed: tf.Tensor) -> tf.Tensor:
        """One step; see the class."""
        return tf.where(self.criterion(observed[0]), tf.zeros_like(state), state + self.dt_ms)


@dataclasses.dataclass(frozen=True)
class PassThrough(Reducer):
    """The last observation."""

    def start(self, like: tf.Tensor) -> tf.Tensor:
        """Zeros."""
        return tf.zeros_like(like)

    def fold(self, state: tf.Tensor, *observed: tf.Tensor) -> tf.Tensor:
        """The observation."""
        return observed[0]


@dataclasses.dataclass(frozen=True)
class ExponentialAverage(Reducer):
    """`s <- alpha h + (1 - alpha) s`, and the first observation as it is.

    Attributes:
      alpha: in (0, 1].
    """

    alpha: float

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha is {self.alpha}; expected more than 0 and at most 1.")

    def start(self, like: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Zeros, of 0 observations."""
        return tf.zeros_like(like), tf.zeros([], like.dtype)

    def fold(self, state: Any, *observed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step; see the class."""
        mean, count = state
        share = tf.where(count > 0.0, tf.constant(self.alpha, count.dtype), tf.ones_like(count))
        return mean + share * (observed[0] - mean), count + 1.0

    def value(self, state: Any) -> tf.Tensor:
        """The average."""
        return state[0]


@dataclasses.dataclass(frozen=True)
class CumulativeAverage(Reducer):
    """The mean of all observations: `s <- s + (h - s) / n`."""

    def start(self, like: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Zeros, of 0 observations."""
        return tf.zeros_like(like), tf.zeros([], like.dtype)

    def fold(self, state: Any, *observed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step; see the class."""
        mean, count = state
        return mean + (observed[0] - mean) / (count + 1.0), count + 1.0

    def value(self, state: Any) -> tf.Tensor:
        """The mean."""
        return state[0]
