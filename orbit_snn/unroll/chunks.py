"""The loop over the chunks, or windows, of a sequence."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def lengths(steps: int, size: int) -> tuple[int, int]:
    """How many chunks of `size` steps come before the last one, and how long that is."""
    before = (steps - 1) // size
    return before, steps - before * size


def consecutive(count: int, size: int, chunk: Callable[[Any, tf.Tensor], Any], carry: Any) -> Any:
    """Runs `chunk(carry, start)` over the first chunks of a sequence.

    Args:
      count: of the chunks.
      size: steps of each.
      chunk: gives the next carry, of the same shapes; `start` is its first step.
      carry: before the first chunk.
    """
    if not count:
        return carry
    _, carry = tf.while_loop(
        lambda index, _: index < count,
        lambda index, carry: (index + 1, chunk(carry, index * size)),
        (0, carry),
        maximum_iterations=count,
    )
    return carry
