"""What is done when training diverges: a report, and if wanted, back to the last checkpoint."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.training import optimizers
from orbit_snn.training.directory import write_json
from orbit_snn.training.inspection import dotted


class RollBack(tf.Module):
    """Counts how often a run went back, and lowers the learning rate each time; in the checkpoint.

    Args:
      optimizer: whose rate is lowered.
      limit: how often, 1 or more.
      factor: what the rate is multiplied by each time, between 0 and 1.

    Raises:
      ValueError: where there is no optimizer.
      TypeError: for a rate that cannot be scaled.
    """

    def __init__(self, optimizer: Any, limit: int, factor: float):
        super().__init__(name="roll_back")
        if optimizer is None:
            raise ValueError(
                "roll_backs lowers the learning rate, and this rule has none; leave it 0."
            )
        self._limit = limit
        self._factor = factor
        self._rate_scale = optimizers.rate_scale(optimizer)
        self._count = tf.Variable(0, dtype=tf.int64, trainable=False, name="count")

    @property
    def count(self) -> int:
        """How often the run went back."""
        return int(self._count.numpy())

    @property
    def exhausted(self) -> bool:
        """Whether it may not go back once more."""
        return self.count >= self._limit

    def after_restoring(self, count: int) -> None:
        """Lowers the rate of a restored checkpoint as the `count`-th time going back wants it."""
        self._rate_scale.multiply(self._factor ** (count - self.count))
        self._count.assign(count)


def write_report(
    directory: pathlib.Path, error: Exception, facts: Mapping[str, Any], variables: Mapping
) -> pathlib.Path:
    """Writes what is known of a loop that diverged to `diverged-<step>.json`; gives the path.

    Args:
      directory: of the run.
      error: says what was not finite.
      facts: `step` and more that goes into the report.
      variables: whose norms go into it, by key.
    """
    path = directory / f"diverged-{facts['step']}.json"
    norms = {dotted(key): _size(v.numpy()) for key, v in variables.items() if v.dtype.is_floating}
    write_json(path, {"error": str(error), **facts, "variables": norms})
    return path


def _size(value: np.ndarray) -> dict[str, float | int | None]:
    finite = value[np.isfinite(value)].astype(np.float64)
    norm = float(np.linalg.norm(finite.ravel()))
    return {
        "norm_of_finite": norm if math.isfinite(norm) else None,
        "largest": float(np.abs(finite).max()) if finite.size else None,
        "not_finite": int(value.size - finite.size),
    }
