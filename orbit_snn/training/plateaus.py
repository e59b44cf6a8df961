"""Actions on a plateau: a lower learning rate, larger batches."""

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from orbit_snn.training import optimizers
from orbit_snn.training.actions import Action, Best, at_least, number


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
        self._patience = at_least("patience", patience, 0)
        self._best = Best(higher_is_better)
        self._bad = tf.Variable(0, dtype=tf.int64, trainable=False, name="bad")

    def push(self, value: float) -> bool:
        """Takes in a value; whether it is one too many that is not better."""
        bad = 0 if self._best.push(value) else int(self._bad.numpy()) + 1
        over = bad > self._patience
        self._bad.assign(0 if over else bad)
        return over


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
        self._min_rate = at_least("min_rate", min_rate, 0)
        self._plateau = Plateau(patience, higher_is_better)

    def observe(self, output: Mapping[str, Any]) -> None:
        """Lowers the rate if this validation is one too many that is not better."""
        if not self._plateau.push(number(output, self._metric)):
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
        self._max_batch_size = at_least("max_batch_size", max_batch_size, 1)
        self._factor = _fraction(factor)
        self._plateau = Plateau(patience, higher_is_better)

    def observe(self, output: Mapping[str, Any]) -> None:
        """Raises the batch size if this validation is one too many that is not better."""
        if self._plateau.push(number(output, self._metric)) and not self._raise():
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


def _fraction(factor: float) -> float:
    if not 0 < factor < 1:
        raise ValueError(f"factor is {factor}; expected it between 0 and 1.")
    return factor
