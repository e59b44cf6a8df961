"""Examples that are drawn, not stored: each one a function of its seed alone."""

from collections.abc import Callable

import tensorflow as tf

from orbit_snn.data import Examples
from orbit_snn.database import SPLITS, Database
from orbit_snn.draws import chance


def generated(
    draw: Callable[[tf.Tensor], dict[str, tf.Tensor]], validation: int, test: int
) -> Database:
    """Endless training examples, and so many to validate and to test on, the same at every look.

    Args:
      draw: makes an example of a seed int32 `[2]`.
      validation: number of validation examples.
      test: number of test examples.
    """
    compiled = tf.function(draw, autograph=False)  # many are looked at before training, one by one

    def fetch(split: int) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
        # Evaluation gives example k of every split the same seed.
        return lambda index, seed: compiled(
            tf.random.experimental.stateless_fold_in(seed, split, alg="philox")
        )

    sizes = zip(SPLITS, (None, validation, test), strict=True)
    return Database({name: Examples(fetch(k), size) for k, (name, size) in enumerate(sizes)})


def seeds(seed: tf.Tensor, number: int) -> list[tf.Tensor]:
    """Independent seeds out of one, `[2]` each."""
    return tf.unstack(tf.random.split(seed, number, alg="philox"))


def group_spikes(probability: tf.Tensor, neurons: int, seed: tf.Tensor) -> tf.Tensor:
    """Spikes of groups of neurons, booleans `[T, groups * neurons]`, one group after the other.

    Args:
      probability: of a spike in a step, `[T, groups]`.
      neurons: of each group.
      seed: `[2]`.
    """
    each = tf.repeat(probability, neurons, axis=1)
    return chance(each.shape, each, seed)
