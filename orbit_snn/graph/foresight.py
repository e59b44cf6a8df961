"""Sequences that go on after their inputs, where a network runs in closed loop."""

import numbers
from typing import Any

import tensorflow as tf

from orbit_snn.graph.errors import GraphError


def check_foresight(name: str, steps: Any, is_given: bool) -> int:
    """The F of a feature, once it is known to be one.

    Args:
      name: of its node.
      steps: F, as the user wrote it.
      is_given: whether a feature says which steps have an input.

    Raises:
      GraphError: for what is no number of steps, or more than 1 beside such a feature.
    """
    whole = isinstance(steps, numbers.Integral) and not isinstance(steps, bool)
    if not whole or steps < 1:
        raise GraphError(
            f"foresight_time_steps of `{name}` is {steps!r}; expected a whole number, 1 or more "
            "(T inputs give T + F - 1 outputs)."
        )
    if is_given and steps > 1:
        raise GraphError(
            f"`{name}` got foresight_time_steps={steps} and given, which both say where inputs "
            "end; use one of them."
        )
    return int(steps)


def lengthened(x: tf.Tensor, more: int, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A sequence with steps of zeros after its own, and which of all steps are its own.

    Args:
      x: `[T, ...]` or `[B, T, ...]`.
      more: how many steps are added.
      axis: which is T.

    Returns:
      `[..., T + more, ...]`, and bool `[T + more]` or `[B, T + more]`.
    """
    shape = x.shape.as_list()
    shape[axis] = more
    own, rest = tf.ones(x.shape[: axis + 1], tf.bool), tf.zeros(shape[: axis + 1], tf.bool)
    return tf.concat([x, tf.zeros(shape, x.dtype)], axis), tf.concat([own, rest], axis)
