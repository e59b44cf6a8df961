"""The contract of a rule of local plasticity: what it looks at, and what it makes of that.

A rule sees the spikes that arrive at a connection, `pre` `[T, B, F]`, those of the population that
it is onto, `post` `[T, B, N]`, and what its monitors make of either. Where its update is a sum of
products of something presynaptic and something postsynaptic, it says these factors, and the update
of all synapses and steps is one matrix product, made by the connection: shared and missing weights
follow from that. Where it is not, it says what one step does to each synapse.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.monitors import Monitor

Rates = Mapping[str, tf.Tensor]
"""Absolute values of a rule's learning rates, by name."""


class Seen(NamedTuple):
    """What a rule looks at, over the steps of a window.

    Attributes:
      pre: spikes that arrive, 0 or 1, `[T, B, F]`.
      post: spikes of the population, 0 or 1, `[T, B, N]`.
      values: of monitors, before the first step and after every one, `[T + 1, B, ...]`.
      reward: `[T, B]`, or None where nobody gives one.
      dt_ms: of a step.
      real: 0 in the padding of sequences and 1 elsewhere, `[T, B]`, or None where all is real.
    """

    pre: tf.Tensor
    post: tf.Tensor
    values: Mapping[str, tf.Tensor]
    reward: tf.Tensor | None
    dt_ms: float
    real: tf.Tensor | None = None

    def rewarded(self) -> tf.Tensor:
        """The reward, where there has to be one."""
        if self.reward is None:
            raise ValueError("the rule learns from a reward; give one.")
        return self.reward

    def after(self, name: str) -> tf.Tensor:
        """Values of a monitor after every step, so with what happened in it, `[T, B, ...]`."""
        return self.values[name][1:]

    def before(self, name: str) -> tf.Tensor:
        """Values of a monitor before every step, `[T, B, ...]`."""
        return self.values[name][:-1]


class Product(NamedTuple):
    """A part of an update: `sum over steps and samples of pre (x) post`.

    Attributes:
      side: `pos` or `neg`.
      pre: 0 or more, `[T, B, F]`.
      post: 0 or more, `[T, B, N]`.
    """

    side: str
    pre: tf.Tensor
    post: tf.Tensor


class SynapticRule(abc.ABC):
    """What all rules have; they are frozen dataclasses whose learning rates start with `lr_`.

    A learning rate's sign says what its part of the update does, potentiate at 0 and above, depress
    below, and is fixed; its absolute value may be changed while a network learns.
    """

    rewarded: bool = False
    param: str = "kernel"

    @abc.abstractmethod
    def monitors(self, dt_ms: float, connection: str) -> dict[str, Monitor]:
        """What it looks at, by name, of a cell's `connection`: `feedforward` or `recurrent`."""

    def rates(self) -> dict[str, float]:
        """Its learning rates by name."""
        names = [f.name for f in dataclasses.fields(self) if f.name.startswith("lr_")]  # type: ignore
        return {name: float(getattr(self, name)) for name in names}


class SeparableRule(SynapticRule):
    """A rule whose update is a sum of products."""

    @abc.abstractmethod
    def products(self, seen: Seen, rates: Rates) -> Sequence[Product]:
        """The factors, of all steps of a window."""


class SynapsewiseRule(SynapticRule):
    """A rule that has to be evaluated synapse by synapse, step by step."""

    @abc.abstractmethod
    def start(self, shape: Sequence[int], dtype: tf.DType) -> Any:
        """What it remembers of each synapse before the first step, of `shape` `[B, P, N]`."""

    @abc.abstractmethod
    def step(self, now: Seen, remembered: Any, rates: Rates) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Positive and negative part of one step, `[B, P, N]`, and what is remembered.

        Args:
          now: of one step, so without T: `pre` `[B, P, 1]`, `post` `[B, 1, N]`, values like them,
            reward `[B, 1, 1]`.
          remembered: before the step.
          rates: see `Rates`.
        """


def side(rate: float) -> str:
    """Which part of an update a learning rate gives."""
    return "pos" if rate >= 0.0 else "neg"


def check_times(rule: Any, *names: str) -> None:
    """Raises ValueError for a time constant that is not above 0."""
    for name in names:
        if not getattr(rule, name) > 0.0:
            raise ValueError(f"{name} is {getattr(rule, name)} ms; expected more than 0.")


def check_trace(mode: str) -> None:
    """Raises ValueError for an unknown kind of trace."""
    if mode not in ("cumulative", "nearest"):
        raise ValueError(f"trace is {mode!r}; expected cumulative or nearest.")


def check_param(param: str, *known: str) -> None:
    """Raises ValueError for a parameter that a rule cannot change."""
    if param not in known:
        raise ValueError(f"param is {param!r}; expected one of {', '.join(known)}.")
