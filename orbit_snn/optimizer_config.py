"""The optimizer of a config, made by Model Garden."""

import math
from typing import Any

import numpy as np
import tensorflow as tf
from official.modeling import optimization

from orbit_snn.configuration import ConfigError
from orbit_snn.learning import LearningRule
from orbit_snn.training.checks import shapes_of
from orbit_snn.training.optimizers import apply, build_slots, per_batch_schedule
from orbit_snn.training.task import Task

_KEY = "trainer.optimizer_config"


def check_optimizer(config: Any) -> None:
    """Makes the optimizer of a config and lets it change a variable, outside of any strategy.

    Args:
      config: of the experiment.

    Raises:
      ConfigError: where Model Garden cannot make it, it would need hooks that we do not call, its
        learning rate is below 0 or not finite, or its first update is not finite.
    """
    chosen = config.trainer.optimizer_config
    kind = chosen.optimizer.type
    if chosen.ema is not None:
        raise ConfigError(f"{_KEY}.ema is set; averaged weights are not supported, leave it null.")
    if (kind, config.runtime.dtype) == ("adamw", "float64"):
        raise ConfigError(
            f"{_KEY}.optimizer.type is adamw, which computes in float32 only, with runtime.dtype "
            "float64; use adamw_experimental."
        )
    scratch = tf.Variable([[1.0, 1.0]], dtype=config.runtime.dtype, name="scratch")
    try:
        _check_names(chosen)
        factory = optimization.OptimizerFactory(chosen)
        rate = factory.build_learning_rate()
        _check_rate(rate, config.trainer.train_steps)
        optimizer = factory.build_optimizer(rate)
        build_slots(optimizer, [scratch])
        apply(optimizer, [tf.ones_like(scratch)], [scratch])
    except ConfigError:
        raise
    except Exception as error:  # of Model Garden, of tf_keras, of TensorFlow
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"{_KEY}: {kind} cannot be made: {reason}") from error
    if not np.isfinite(scratch.numpy()).all():
        raise ConfigError(
            f"{_KEY}.optimizer.{kind}: its first update, of a gradient of 1, is not finite; take "
            "back what differs from the defaults."
        )


def _check_names(chosen: optimization.OptimizationConfig) -> None:
    """Raises ValueError for a name that a graph, other than eager execution, does not take."""
    for part in (chosen.optimizer, chosen.learning_rate, chosen.warmup):
        with tf.Graph().as_default(), tf.name_scope(getattr(part.get(), "name", "none")):
            pass


def _check_rate(rate: Any, train_steps: int) -> None:
    """Raises ConfigError for a learning rate that is below 0 or not finite somewhere."""
    for step in sorted({0, 1, train_steps // 2, train_steps - 1}):
        value = float(rate(step) if callable(rate) else rate)
        if not 0.0 <= value < math.inf:
            raise ConfigError(
                f"{_KEY}: the learning rate is {value} at step {step}; expected 0 or more."
            )


def build_optimizer(config: Any, task: Task, rule: LearningRule) -> Any:
    """The optimizer of a config that was checked, made in the scope of the strategy.

    Its schedule counts batches, whatever the rule does in one.

    Args:
      config: of the experiment.
      task: what is to be trained.
      rule: that trains it.
    """
    factory = optimization.OptimizerFactory(config.trainer.optimizer_config)
    updates = len(rule.windows(shapes_of(task).steps))
    return factory.build_optimizer(per_batch_schedule(factory.build_learning_rate(), updates))
