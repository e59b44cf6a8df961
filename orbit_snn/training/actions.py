"""What is done after a validation: stopping, and changes of batch size or learning rate.

An action looks at the results of every validation, in order. Everything that it knows is in its
variables and so in the checkpoint: a run that is stopped and restored does what it would have done.
"""

import abc
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.training import optimizers


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
          ValueError: where there is no learning rate.
        """
        self._trainer = lambda: trainer  # a function, for the trainer is saved by itself
        if self._scales_rate:
            if trainer.optimizer is None:
                raise ValueError(
                    f"{self.name} changes the learning rate, and {trainer.rule.name} has none; "
                    "leave that option out."
                )
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


def number(output: Mapping[str, Any], metric: str) -> float:
    """A metric among the results of a validation.

    Raises:
      ValueError: where there is no such number, naming those that there are.
    """
    known = [name for name, value in output.items() if np.ndim(value) == 0]
    if metric not in known:
        raise ValueError(
            f"metric is {metric!r}, which is no number among the results of the validation; "
            f"expected one of {', '.join(known)}."
        )
    return float(output[metric])


def at_least(name: str, value: Any, least: int) -> Any:
    """Returns the value.

    Raises:
      ValueError: where it is below `least`.
    """
    if not value >= least:
        raise ValueError(f"{name} is {value}; expected {least} or more.")
    return value
