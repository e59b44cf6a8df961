"""The loop over the chunks of a sequence."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def lengths(steps: int, size: int) -> tuple[int, int]:
    """How many chunks of `size` steps come before the last one, and how long that is."""
    before = (steps - 1) // size
    return before, steps - before * size


def all_but_last(steps: int, size: int, chunk: Callable[[Any, tf.Tensor], Any], carry: Any) -> Any:
    """Runs `chunk(carry, start)` over every chunk of a sequence but the last one.

    Args:
      steps: T.
      size: steps of a chunk.
      chunk: gives the next carry, of the same shapes; `start` is its first step.
      carry: before the first chunk.
    """
    before, _ = lengths(steps, size)
    if not before:
        return carry
    _, carry = tf.while_loop(
        lambda index, _: index < before,
        lambda index, carry: (index + 1, chunk(carry, index * size)),
        (0, carry),
        maximum_iterations=before,
    )
    return carry
