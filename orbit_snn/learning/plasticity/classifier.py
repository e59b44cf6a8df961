"""A classifier that labels neurons by what they fire at, and its contract with the rule."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import tensorflow as tf


@runtime_checkable
class Taught(Protocol):
    """A module of a model that learns from its inputs and labels without a gradient.

    `Plasticity` adds the statistics of all replicas' samples up and assigns what comes of them.

    Attributes:
      memory: variables that it gives new values.
    """

    memory: tuple[tf.Variable, ...]

    def statistics(self, x: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Sums over the samples of a batch: inputs `[B, ...]`, labels `[B]`."""

    def learned(self, statistics: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """New values of `memory`, given the sums of one batch."""


class MaxRateClassifier(tf.Module):
    """Every neuron votes for the class that it fires most at (Diehl & Cook 2015, section 2.5).

        r_c <- exp(-decay n_c) r_c + sum of the rates of the n_c samples of class c
        a neuron's class: that of the largest share of its mean rates, r_c / samples of c
        score of c: mean rate of the neurons of class c

    Args:
      units: N, neurons.
      classes: C.
      decay: of what was learned, a sample of the class; 0 forgets nothing.
      shares: let every neuron vote for all classes, by its share of rates at each.
      dtype: of rates.
      name: of the module.

    Attributes:
      rates: decayed sums of rates by class, `[C, N]`.
      samples: decayed number of samples of each class, `[C]`.

    Raises:
      ValueError: for sizes below 1 or a negative decay.
    """

    def __init__(
        self,
        units: int,
        classes: int,
        decay: float = 1e-2,
        shares: bool = False,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(name=name or "max_rate_classifier")
        if units < 1 or classes < 1:
            raise ValueError(
                f"MaxRateClassifier got {units} units and {classes} classes; both must be 1 or "
                "more."
            )
        if decay < 0.0:
            raise ValueError(f"decay is {decay}; expected 0 or more.")
        self.decay = decay
        self.shares = shares
        with self.name_scope:
            zeros = tf.zeros([classes, units], dtype)
            self.rates = tf.Variable(zeros, trainable=False, name="rates")
            self.samples = tf.Variable(zeros[:, 0], trainable=False, name="samples")

    @property
    def memory(self) -> tuple[tf.Variable, ...]:
        """What was learned."""
        return self.rates, self.samples

    def votes(self) -> tf.Tensor:
        """What a neuron's rate counts for each class, `[N, C]`."""
        rates = tf.convert_to_tensor(self.rates)
        means = tf.math.divide_no_nan(rates, self.samples[:, tf.newaxis])
        share = tf.transpose(tf.math.divide_no_nan(means, tf.reduce_sum(means, axis=0)))
        if not self.shares:
            chosen = tf.one_hot(tf.argmax(share, axis=1), share.shape[1], dtype=rates.dtype)
            share = chosen * tf.cast(tf.reduce_sum(share, axis=1, keepdims=True) > 0.0, rates.dtype)
        return tf.math.divide_no_nan(share, tf.reduce_sum(share, axis=0))

    def __call__(self, rates: tf.Tensor) -> tf.Tensor:
        """Scores `[B, C]` of rates `[B, N]`."""
        return tf.matmul(rates, self.votes())

    def statistics(self, x: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Sums of rates by class, `[C, N]`, and numbers of samples, `[C]`."""
        belongs = tf.one_hot(label, self.samples.shape[0], dtype=self.rates.dtype)
        return tf.matmul(belongs, x, transpose_a=True), tf.reduce_sum(belongs, axis=0)

    def learned(self, statistics: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """See the class."""
        sums, number = statistics
        kept = tf.exp(-self.decay * number)
        return kept[:, tf.newaxis] * self.rates + sums, kept * self.samples + number
