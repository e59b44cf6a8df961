"""Which replica gets which examples of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """Some of the replicas that share every batch: replica r takes the r-th part of it.

    Attributes:
        first: the first of these replicas.
        own: how many they are.
        replicas: how many share a batch.
    """

    first: int = 0
    own: int = 1
    replicas: int = 1

    def part(self, batch_size: int) -> int:
        """Examples of one replica in a batch of `batch_size`.

        Raises:
            ValueError: where the replicas cannot have equally many.
        """
        if batch_size % self.replicas:
            raise ValueError(
                f"a batch of {batch_size} examples cannot be split evenly over {self.replicas} "
                f"replicas; make the batch size a multiple of {self.replicas}."
            )
        return batch_size // self.replicas

    def positions(self, k: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Positions int64 `[B / replicas]` of the examples of the share's k-th part."""
        part = self.part(batch_size)
        replica = self.first + k % self.own
        return k // self.own * batch_size + replica * part + tf.range(part, dtype=tf.int64)


def distributed(
    strategy: tf.distribute.Strategy, dataset: Callable[[Share], tf.data.Dataset]
) -> Any:
    """Batches that are split over all replicas of a strategy.

    Which replica gets which part of a batch is a function of the number of replicas alone, on one
    machine or on several. A worker makes the examples of its own replicas only.

    Args:
        strategy: whose replicas share the batches.
        dataset: gives a share of them.

    Returns:
        What a trainer or evaluator of Orbit takes.
    """

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        own = replicas // context.num_input_pipelines
        return dataset(Share(context.input_pipeline_id * own, own, replicas))

    return strategy.distribute_datasets_from_function(of_worker)
