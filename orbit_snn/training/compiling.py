"""Which parts of a step are XLA programs of their own."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def on_tpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy compiles the whole step of a replica as one program by itself."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def compiled(function: Callable[..., Any], xla: bool, strategy: tf.distribute.Strategy) -> Any:
    """The traced function, one XLA program if `xla`; on a TPU, a part of that of the step."""
    jit_compile = None if on_tpu(strategy) else xla
    return tf.function(function, jit_compile=jit_compile, autograph=False)
