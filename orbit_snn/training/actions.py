"""What is done after a validation: stopping, and changes of batch size or learning rate.

An action looks at the results of every validation, in order. Everything that it knows is in its
variables and so in the checkpoint: a run that is stopped and restored does what it would have done.
"""

import abc
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.training import optimizers
from orbit_snn.training.options import TrainingOptions


class StopTraining(Exception):
    """Ends training after the validation in which it is raised; the message says why."""


class Action(tf.Module, metaclass=abc.ABCMeta):
    """Looks at the results of every validation; its variables are in the checkpoint.

    A subclass makes its variables, with `trainable=False`, in its constructor, and says in
    `observe` what a validation changes and in `stopped` whether that ends training.

    Args:
      name: in the checkpoint, a Python identifier; different for every action of a run.
      scales_rate: whether the action changes the learning rate, with `scale_rate`.

    Attributes:
      news: what the last call changed, for the log, or an empty string.
    """

    def __init__(self, name: str, scales_rate: bool = False):
        super().__init__(name=name)
        self.news = ""
        self._scales_rate = scales_rate
        self._trainer: Callable[[], Any] | None = None
        self._rate_scale: optimizers.RateScale | None = None
        self._seen_step = tf.Variable(-1, dtype=tf.int64, trainable=False, name="seen_step")

    def bind(self, trainer: Any) -> None:
        """Takes the trainer whose validations follow; once, before it trains or is restored.

        Args:
          trainer: has `global_step`, `strategy`, `optimizer` and a `batch_size` that can be set.

        Raises:
          TypeError: where the learning rate is to be scaled and cannot be.
        """
        self._trainer = lambda: trainer  # a function, for the trainer is saved by itself
        if self._scales_rate:
            with trainer.strategy.scope():
                self._rate_scale = optimizers.rate_scale(trainer.optimizer)

    @property
    def trainer(self) -> Any:
        """The trainer that the action is bound to.

        Raises:
          RuntimeError: where it is bound to none.
        """
        if self._trainer is None:
            raise RuntimeError(f"the action {self.name} has no trainer; call bind(trainer) first.")
        return self._trainer()

    @property
    def seen_step(self) -> int:
        """Global step of the last validation that the action has seen; -1 before the first."""
        return int(self._seen_step.numpy())

    def __call__(self, output: Mapping[str, Any]) -> None:
        """Sees the results of a validation; those of a step seen before change nothing.

        Args:
          output: the results, by name.

        Raises:
          StopTraining: where training is over.
          ValueError: where the results lack what the action looks at.
        """
        step = int(self.trainer.global_step.numpy())
        self.news = ""
        if step > self.seen_step:
            self.observe(output)
            self._seen_step.assign(step)
        if self.stopped:
            raise StopTraining(self.stopped)

    def scale_rate(self, factor: float) -> None:
        """Multiplies the learning rate, now and from now on.

        Raises:
          RuntimeError: for an action that was not made with `scales_rate=True`, or not bound.
        """
        if self._rate_scale is None:
            raise RuntimeError(
                f"the action {self.name} cannot scale the learning rate; make it with "
                "scales_rate=True and bind it."
            )
        self._rate_scale.multiply(factor)
        rate = optimizers.learning_rate(self.trainer.optimizer)
        self.news = f"the learning rate is multiplied by {factor:.4g}, to {rate:.4g}"

    @abc.abstractmethod
    def observe(self, output: Mapping[str, Any]) -> None:
        """Takes in the results of a validation that the action has not seen yet.

        Raises:
          ValueError: where the results lack what the action looks at; nothing is changed then.
        """

    @property
    @abc.abstractmethod
    def stopped(self) -> str:
        """Why training is over, or an empty string; from the state that is in the checkpoint."""


class Best(tf.Module):
    """The best value so far: NaN is the worst, and an equal value is not better.

    Args:
      higher_is_better: whether a larger value is better.
    """

    def __init__(self, higher_is_better: bool):
        super().__init__(name="best")
        self._higher_is_better = higher_is_better
        self._value = tf.Variable(math.nan, dtype=tf.float64, trainable=False, name="value")

    @property
    def value(self) -> float:
        """The best value so far; NaN while there was none but NaN."""
        return float(self._value.numpy())

    def push(self, value: float) -> bool:
        """Takes in a value; whether it is better than all before it."""
        best = self.value
        better = value > best if self._higher_is_better else value < best
        if math.isnan(best):
            better = not math.isnan(value)
        if better:
            self._value.assign(value)
        return better


class Plateau(tf.Module):
    """Tells when more than so many values in a row were not better, and counts afresh then.

    Args:
      patience: values in a row that are put up with, 0 or more.
      higher_is_better: whether a larger value is better.

    Raises:
      ValueError: for a negative patience.
    """

    def __init__(self, patience: int, higher_is_better: bool):
        super().__init__(name="plateau")
        self._patience = _at_least("patience", patience, 0)
        self._best = Best(higher_is_better)
        self._bad = tf.Variable(0, dtype=tf.int64, trainable=False, name="bad")

    def push(self, value: float) -> bool:
        """Takes in a value; whether it is one too many that is not better."""
        bad = 0 if self._best.push(value) else int(self._bad.numpy()) + 1
        over = bad > self._patience
        self._bad.assign(0 if over else bad)
        return over


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
        self._patience = _at_least("patience", patience, 0)
        self._best = Best(higher_is_better)
        self._count = tf.Variable(0, dtype=tf.int64, trainable=False, name="count")
        self._last_best = tf.Variable(0, dtype=tf.int64, trainable=False, name="last_best")

    def observe(self, output: Mapping[str, Any]) -> None:
        """Counts the validation, and notes whether it is the best."""
        if self._best.push(_number(output, self._metric)):
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
        self._best.push(_number(output, self._metric))

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
        self._elapsed.assign_add(now - self._since)
        self._since = now

    @property
    def stopped(self) -> str:
        """That the time is over, or an empty string."""
        elapsed = float(self._elapsed.numpy())
        if elapsed < self._limit:
            return ""
        return f"{elapsed / 3600:.4g} h have passed, of {self._limit / 3600:.4g} h allowed"


class LowerLearningRateOnPlateau(Action):
    """Lowers the learning rate after more than `patience` validations that were not better.

    The count starts afresh with every change; the best value stays.

    Args:
      metric: name among the results of a validation.
      patience: validations in a row that are put up with, 0 or more.
      factor: what the rate is multiplied by, between 0 and 1.
      min_rate: the rate is not lowered below it; of a schedule, the rate at that step.
      higher_is_better: whether a larger value is better.
      name: see `Action`.

    Raises:
      ValueError: for an argument out of its range.
    """

    def __init__(
        self,
        metric: str,
        patience: int,
        factor: float = 0.5,
        min_rate: float = 0.0,
        higher_is_better: bool = True,
        name: str = "lower_learning_rate",
    ):
        super().__init__(name, scales_rate=True)
        self._metric = metric
        self._factor = _fraction(factor)
        self._min_rate = _at_least("min_rate", min_rate, 0)
        self._plateau = Plateau(patience, higher_is_better)

    def observe(self, output: Mapping[str, Any]) -> None:
        """Lowers the rate if this validation is one too many that is not better."""
        if not self._plateau.push(_number(output, self._metric)):
            return
        rate = optimizers.learning_rate(self.trainer.optimizer)
        lowered = max(self._factor * rate, self._min_rate)
        if lowered < rate * (1 - 1e-6):  # not merely rounded in float32
            self.scale_rate(lowered / rate)

    @property
    def stopped(self) -> str:
        """Nothing: training goes on."""
        return ""


class RaiseBatchSizeOnPlateau(Action):
    """Raises the batch size after more than `patience` validations that were not better.

    It becomes `floor(batch size / factor)`. Where that is more than the maximum or cannot be had,
    for instance because the data set has no more examples or the batch could not be split over the
    replicas, the batch size stays and the learning rate is multiplied by `factor`. The count starts
    afresh with every change; the best value stays.

    Args:
      metric: name among the results of a validation.
      patience: validations in a row that are put up with, 0 or more.
      max_batch_size: examples of all replicas together.
      factor: between 0 and 1; 0.5 doubles the batch size.
      higher_is_better: whether a larger value is better.
      name: see `Action`.

    Raises:
      ValueError: for an argument out of its range.
    """

    def __init__(
        self,
        metric: str,
        patience: int,
        max_batch_size: int,
        factor: float = 0.5,
        higher_is_better: bool = True,
        name: str = "raise_batch_size",
    ):
        super().__init__(name, scales_rate=True)
        self._metric = metric
        self._max_batch_size = _at_least("max_batch_size", max_batch_size, 1)
        self._factor = _fraction(factor)
        self._plateau = Plateau(patience, higher_is_better)

    def observe(self, output: Mapping[str, Any]) -> None:
        """Raises the batch size if this validation is one too many that is not better."""
        if self._plateau.push(_number(output, self._metric)) and not self._raise():
            self.scale_rate(self._factor)

    def _raise(self) -> bool:
        """Raises the batch size, if it can be raised; whether it was."""
        size = self.trainer.batch_size
        raised = math.floor(size / self._factor)
        if not size < raised <= self._max_batch_size:
            return False
        try:
            self.trainer.batch_size = raised
        except ValueError:  # DataError is one
            return False
        self.news = f"the batch size is raised from {size} to {raised}"
        return True

    @property
    def stopped(self) -> str:
        """Nothing: training goes on."""
        return ""


def actions_for(options: TrainingOptions) -> list[Action]:
    """The actions that the options ask for; those that may stop come last, so that all see it."""
    metric, higher = options.best_metric, options.higher_is_better
    actions: list[Action] = []
    if options.batch_size_patience is not None and options.max_batch_size is not None:
        largest = options.max_batch_size
        actions.append(
            RaiseBatchSizeOnPlateau(
                metric, options.batch_size_patience, largest, higher_is_better=higher
            )
        )
    if options.rate_patience is not None:
        actions.append(
            LowerLearningRateOnPlateau(
                metric, options.rate_patience, options.rate_factor, higher_is_better=higher
            )
        )
    if options.stop_at is not None:
        actions.append(StopOnThreshold(metric, options.stop_at, higher))
    if options.patience is not None:
        actions.append(Patience(metric, options.patience, higher))
    if options.max_hours is not None:
        actions.append(StopAfter(3600 * options.max_hours))
    return actions


def by_name(actions: Iterable[Action]) -> dict[str, Action]:
    """Actions by name, as they are in the checkpoint.

    Raises:
      ValueError: where two have the same name.
    """
    named: dict[str, Action] = {}
    for action in actions:
        if action.name in named:
            raise ValueError(
                f"two actions are named {action.name!r}; give one of them another name=..., for "
                "their names keep them apart in the checkpoint."
            )
        named[action.name] = action
    return named


def _number(output: Mapping[str, Any], metric: str) -> float:
    """A metric among the results of a validation."""
    known = [name for name, value in output.items() if np.ndim(value) == 0]
    if metric not in known:
        raise ValueError(
            f"metric is {metric!r}, which is no number among the results of the validation; "
            f"expected one of {', '.join(known)}."
        )
    return float(output[metric])


def _at_least(name: str, value: Any, least: int) -> Any:
    if not value >= least:
        raise ValueError(f"{name} is {value}; expected {least} or more.")
    return value


def _fraction(factor: float) -> float:
    if not 0 < factor < 1:
        raise ValueError(f"factor is {factor}; expected it between 0 and 1.")
    return factor
