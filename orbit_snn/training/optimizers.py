"""What is done to gradients before and while an optimizer applies them."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras


def build_slots(optimizer: Any, parameters: Sequence[tf.Variable]) -> None:
    """Makes the optimizer's variables now, so that nothing is created inside a traced step.

    Raises:
      TypeError: for something that is not a tf_keras optimizer.
    """
    if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
        _ = optimizer.iterations
        optimizer._create_all_weights(list(parameters))
    elif isinstance(optimizer, tf_keras.optimizers.Optimizer):
        optimizer.build(list(parameters))
    else:
        raise TypeError(
            f"the optimizer is a {type(optimizer).__module__}.{type(optimizer).__name__}; expected "
            "one of tf_keras.optimizers, such as tf_keras.optimizers.legacy.Adam(1e-3)."
        )


def apply(
    optimizer: Any, gradients: Sequence[tf.Tensor], parameters: Sequence[tf.Variable]
) -> None:
    """Applies gradients that are already summed over the replicas; in replica context."""
    pairs = list(zip(gradients, parameters, strict=True))
    if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
        optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)
    else:
        optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)


def learning_rate(optimizer: Any) -> float:
    """The learning rate of the next update."""
    rate = optimizer.learning_rate
    return float(tf.convert_to_tensor(rate(optimizer.iterations) if callable(rate) else rate))


def clip_by_global_norm(
    gradients: Sequence[tf.Tensor], limit: float | None
) -> tuple[Sequence[tf.Tensor], tf.Tensor]:
    """Gradients of a global norm of at most `limit`, and their norm before."""
    norm = tf.linalg.global_norm(gradients)
    if limit is None:
        return gradients, norm
    return tf.clip_by_global_norm(gradients, limit, use_norm=norm)[0], norm


class _PerBatch(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that counts batches where the optimizer steps several times in each."""

    def __init__(self, schedule: Any, updates: int):
        super().__init__()
        self._schedule = schedule
        self._updates = updates

    def __call__(self, step: Any) -> tf.Tensor:
        return self._schedule(tf.cast(step, tf.int64) // self._updates)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self._schedule, "updates": self._updates}


def per_batch_schedule(rate: Any, updates: int) -> Any:
    """A learning rate whose schedule counts batches, for a rule of `updates` updates a batch."""
    return _PerBatch(rate, updates) if callable(rate) and updates > 1 else rate
