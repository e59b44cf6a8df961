"""Actions that end training: no progress, a goal that is reached, time that has passed."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from orbit_snn.training.actions import Action, Best, at_least, number
from orbit_snn.training.workers import same_everywhere


class Patience(Action):
    """Stops when the last `patience` validations were not better than the best before them.

    With a patience of 3 and the best values at validations 0 and 2, training stops after 5. As long
    as none was better than NaN, validation 0 counts as the best. A run that has stopped goes on
    where it is continued with a larger patience.

    Args:
      metric: name among the results of a validation.
      patience: validations, 0 or more; 0 stops after the first.
      higher_is_better: whether a larger value is better.
      name: see `Action`.

    Raises:
      ValueError: for a negative patience.
    """

    def __init__(
        self, metric: str, patience: int, higher_is_better: bool = True, name: str = "patience"
    ):
        super().__init__(name)
        self._metric = metric
        self._patience = at_least("patience", patience, 0)
        self._best = Best(higher_is_better)
        self._count = tf.Variable(0, dtype=tf.int64, trainable=False, name="count")
        self._last_best = tf.Variable(0, dtype=tf.int64, trainable=False, name="last_best")

    def observe(self, output: Mapping[str, Any]) -> None:
        """Counts the validation, and notes whether it is the best."""
        if self._best.push(number(output, self._metric)):
            self._last_best.assign(self._count)
        self._count.assign_add(1)

    @property
    def stopped(self) -> str:
        """That the last validations were not better, or an empty string."""
        count = int(self._count.numpy())
        waited = count - 1 - int(self._last_best.numpy())
        if not count or waited < self._patience:
            return ""
        return f"{self._metric} was not better than {self._best.value:.4g} in {waited} validations"


class StopOnThreshold(Action):
    """Stops when a metric reaches a value.

    Args:
      metric: name among the results of a validation.
      value: at least, or if lower is better at most, this is enough.
      higher_is_better: whether a larger value is better.
      name: see `Action`.

    Raises:
      ValueError: where the value is NaN.
    """

    def __init__(
        self, metric: str, value: float, higher_is_better: bool = True, name: str = "threshold"
    ):
        super().__init__(name)
        if math.isnan(value):
            raise ValueError("the value is nan, which nothing reaches; expected a number.")
        self._metric = metric
        self._threshold = value
        self._higher_is_better = higher_is_better
        self._best = Best(higher_is_better)

    def observe(self, output: Mapping[str, Any]) -> None:
        """Notes the best value."""
        self._best.push(number(output, self._metric))

    @property
    def stopped(self) -> str:
        """That the value is reached, or an empty string."""
        best, value = self._best.value, self._threshold
        reached = best >= value if self._higher_is_better else best <= value
        return f"{self._metric} reached {best:.4g}, enough at {value:.4g}" if reached else ""


class StopAfter(Action):
    """Stops at the first validation after a wall time, that of all sessions together.

    A session counts from when the action was made to the last validation that the action saw.

    Args:
      seconds: the time, more than 0.
      clock: gives the time in seconds.
      name: see `Action`.

    Raises:
      ValueError: where the time is not more than 0.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        name: str = "time_limit",
    ):
        super().__init__(name)
        if not seconds > 0:
            raise ValueError(f"the time is {seconds} seconds; expected more than 0.")
        self._limit = seconds
        self._clock = clock
        self._since = clock()
        self._elapsed = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="elapsed")

    def observe(self, output: Mapping[str, Any]) -> None:
        """Adds the time since the last validation."""
        now = self._clock()
        passed = same_everywhere(self.trainer.strategy, now - self._since)
        self._elapsed.assign_add(passed)
        self._since = now

    @property
    def stopped(self) -> str:
        """That the time is over, or an empty string."""
        elapsed = float(self._elapsed.numpy())
        if elapsed < self._limit:
            return ""
        return f"{elapsed / 3600:.4g} h have passed, of {self._limit / 3600:.4g} h allowed"
