"""Metrics as sums over batches and replicas: one variable, one reset, one read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class Sums(tf.Module):
    """Running (total, count) pairs of scalars and of vectors.

    All of them lie in one variable that every replica adds to on its own; reading it adds the
    replicas up. Create it in the strategy's scope.

    Args:
      sizes: by name, the length of each total; 1 for a scalar.
      name: of the module.
    """

    def __init__(self, sizes: Mapping[str, int], name: str = "sums"):
        super().__init__(name=name)
        self._sizes = dict(sizes)
        with self.name_scope:
            self._values = tf.Variable(
                tf.zeros([sum(self._sizes.values()) + len(self._sizes)]),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
                name="values",
            )

    def add(self, pairs: Mapping[str, tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Adds pairs of total, `[]` or `[size]`, and count, `[]`; in replica context.

        Raises:
          ValueError: where the names are not those of the constructor.
        """
        if set(pairs) != set(self._sizes):
            raise ValueError(f"got sums of {sorted(pairs)}; expected {sorted(self._sizes)}.")
        flat = [tf.reshape(part, [-1]) for name in self._sizes for part in pairs[name]]
        self._values.assign_add(tf.concat([tf.cast(part, tf.float32) for part in flat], axis=0))

    @tf.function
    def reset(self) -> None:
        """Forgets everything; in cross-replica context."""
        self._values.assign(tf.zeros_like(self._values))

    def result(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Total / count by name, NaN for a count of 0, and the counts."""
        values = np.asarray(self._read())
        ratios, counts, start = {}, {}, 0
        for name, size in self._sizes.items():
            total, counts[name] = values[start : start + size], float(values[start + size])
            start += size + 1
            ratio = total / counts[name] if counts[name] else np.full_like(total, np.nan)
            ratios[name] = float(ratio[0]) if size == 1 else ratio
        return ratios, counts

    @tf.function
    def _read(self) -> tf.Tensor:
        return self._values.read_value()


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
