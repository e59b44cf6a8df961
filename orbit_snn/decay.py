"""Time constants to decay factors; the only place where the two meet."""

from typing import Any

import numpy as np
import tensorflow as tf


def decay(tau_ms: Any, dt_ms: float) -> Any:
    """Returns `exp(-dt / tau)`: what is left after one step of `dt_ms`.

    Args:
      tau_ms: time constant in ms, a number, an array or a tensor; infinity gives 1.
      dt_ms: length of a step in ms.
    """
    if isinstance(tau_ms, tf.Tensor):
        return tf.exp(-dt_ms / tau_ms)
    return np.exp(-dt_ms / tau_ms)
