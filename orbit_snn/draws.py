"""Random numbers that are the same with and without XLA, each a function of its seed alone.

Of `tf.random.stateless_uniform` this holds for integers only: XLA makes floats of other bits.
"""

from collections.abc import Sequence

import tensorflow as tf


def uniform(shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """Uniform float32 in [0, 1), multiples of 2^-24.

    Args:
      shape: static.
      seed: int32 `[2]`.
    """
    bits = tf.random.stateless_uniform(shape, seed, None, None, tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def chance(shape: Sequence[int], probability: tf.Tensor | float, seed: tf.Tensor) -> tf.Tensor:
    """True with a probability.

    Args:
      shape: static.
      probability: float32, broadcasts to the shape; rounded up to a multiple of 2^-24.
      seed: int32 `[2]`.
    """
    return uniform(shape, seed) < probability
