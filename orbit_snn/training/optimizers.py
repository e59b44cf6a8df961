"""What is done to gradients before and while an optimizer applies them, and the learning rate."""

import weakref
from collections.abc import Callable, Sequence
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
    rate = _rate(optimizer)
    return float(tf.convert_to_tensor(rate(optimizer.iterations) if callable(rate) else rate))


def _rate(optimizer: Any) -> Any:
    """What an optimizer takes its rate from: a variable or a schedule, seldom something else."""
    if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
        _ = optimizer.iterations
        return optimizer.learning_rate
    return optimizer._learning_rate  # `learning_rate` would be a schedule's value, one update old


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


class _Scaled(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a variable, which is read at every update."""

    def __init__(self, schedule: Any, scale: tf.Variable):
        super().__init__()
        self._schedule = schedule
        self._scale = scale

    def __call__(self, step: Any) -> tf.Tensor:
        rate = tf.convert_to_tensor(self._schedule(step))
        return rate * tf.cast(self._scale, rate.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self._schedule, "scale": self._scale}


class RateScale(tf.Module):
    """What the learning rate of an optimizer is multiplied by; `rate_scale` gives an optimizer's.

    A step that is traced afterwards sees every later change without being traced again. `scale` is
    to be saved along with the optimizer, whose own entries in a checkpoint stay what they are: a
    constant rate is a variable of the optimizer and is changed in place, a schedule has none.

    Args:
      optimizer: of tf_keras, legacy or new, with a constant rate or a schedule.

    Attributes:
      scale: the product of all factors so far, float32.

    Raises:
      TypeError: for a rate that is neither a number nor a schedule.
    """

    def __init__(self, optimizer: Any):
        super().__init__(name="rate_scale")
        self.scale = tf.Variable(1.0, trainable=False, name="scale")
        rate = _rate(optimizer)
        # A function, for a variable would be saved here once more.
        self._constant: Callable[[], tf.Variable | None] = lambda: None
        if isinstance(rate, tf_keras.optimizers.schedules.LearningRateSchedule):
            optimizer.learning_rate = _Scaled(rate, self.scale)
        elif isinstance(rate, tf.Variable):
            self._constant = lambda: rate
        else:
            raise TypeError(
                f"the learning rate is a {type(rate).__name__}, which cannot be scaled; give the "
                "optimizer a number or a schedule of tf_keras.optimizers.schedules."
            )

    def multiply(self, factor: float) -> None:
        """Multiplies the learning rate, now and from now on; between two loops."""
        self.scale.assign(self.scale * factor)
        constant = self._constant()
        if constant is not None:
            constant.assign(constant * factor)


_RATE_SCALES: weakref.WeakKeyDictionary[Any, RateScale] = weakref.WeakKeyDictionary()


def rate_scale(optimizer: Any) -> RateScale:
    """The one scale of an optimizer's learning rate, made at the first call, before any tracing.

    Raises:
      TypeError: for a rate that is neither a number nor a schedule.
    """
    if optimizer not in _RATE_SCALES:
        _RATE_SCALES[optimizer] = RateScale(optimizer)
    return _RATE_SCALES[optimizer]
