"""Sums over batches and replicas: one variable, one reset, one read."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf


class Sums(tf.Module):
    """Running sums of vectors, in double precision.

    All of them lie in one variable that every replica adds to on its own; reading it adds the
    replicas up. Create it in the strategy's scope.

    Args:
      sizes: by name, the length of each vector.
      name: of the module.
    """

    def __init__(self, sizes: Mapping[str, int], name: str = "sums"):
        super().__init__(name=name)
        self._sizes = dict(sizes)
        with self.name_scope:
            self._values = tf.Variable(
                tf.zeros([sum(self._sizes.values())], tf.float64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
                name="values",
            )

    def zeros(self) -> dict[str, tf.Tensor]:
        """Vectors of nothing, to be added to with `plus`."""
        return {name: tf.zeros([size], tf.float64) for name, size in self._sizes.items()}

    def add(self, vectors: Mapping[str, tf.Tensor]) -> None:
        """Adds vectors `[size]`; in replica context.

        Raises:
          ValueError: where the names are not those of the constructor.
        """
        if set(vectors) != set(self._sizes):
            raise ValueError(f"got sums of {sorted(vectors)}; expected {sorted(self._sizes)}.")
        flat = [tf.cast(tf.reshape(vectors[name], [-1]), tf.float64) for name in self._sizes]
        self._values.assign_add(tf.concat(flat, axis=0))

    @tf.function
    def reset(self) -> None:
        """Forgets everything; in cross-replica context."""
        self._values.assign(tf.zeros_like(self._values))

    def read(self) -> dict[str, np.ndarray]:
        """The sums by name, `[size]`."""
        ends = np.cumsum(list(self._sizes.values()))[:-1]
        return dict(zip(self._sizes, np.split(np.asarray(self._read()), ends), strict=True))

    @tf.function
    def _read(self) -> tf.Tensor:
        return self._values.read_value()


def plus(total: Mapping[str, tf.Tensor], more: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Vectors of the same names added up, in double precision.

    Raises:
      ValueError: where the names differ.
    """
    if set(total) != set(more):
        raise ValueError(f"got sums of {sorted(more)}; expected {sorted(total)}.")
    return {
        name: value + tf.cast(tf.reshape(more[name], [-1]), tf.float64)
        for name, value in total.items()
    }


def rate_summary(rates: Sequence[float], dt_ms: float) -> dict[str, float]:
    """What a person wants to know of a population's mean rates.

    Args:
      rates: spikes per step of every neuron, `[N]`.
      dt_ms: length of a step.

    Returns:
      `rate_hz`, the mean; `silent`, the fraction of neurons without a spike; `saturated`, the
      fraction that spikes in more than half of the steps.
    """
    per_step = np.asarray(rates)
    return {
        "rate_hz": float(per_step.mean() * 1000.0 / dt_ms),
        "silent": float(np.mean(per_step == 0)),
        "saturated": float(np.mean(per_step > 0.5)),
    }
