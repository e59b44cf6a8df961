"""A decaying sum along the steps of a sequence."""

from typing import Any

import tensorflow as tf

from orbit_snn.unroll.forward import new_array


def filtered(x: tf.Tensor, decay: Any, initial: tf.Tensor) -> tf.Tensor:
    """`y(t) = decay y(t-1) + x(t)`.

    Args:
      x: `[T, ...]`.
      decay: a number, or a tensor that broadcasts to a step.
      initial: y before the first step, of the shape of a step.

    Returns:
      y at every step, `[T, ...]`.
    """
    steps = x.shape[0]
    read = new_array(x, steps).unstack(x)

    def body(t: tf.Tensor, y: tf.Tensor, written: tf.TensorArray) -> tuple:
        y = decay * y + read.read(t)
        return t + 1, y, written.write(t, y)

    loop = tf.while_loop(
        lambda t, *_: t < steps, body, (0, initial, new_array(x, steps)), maximum_iterations=steps
    )
    return loop[2].stack()
