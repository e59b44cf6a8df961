"""The evaluator: metrics over every example of a set, once each."""

from typing import Any

import orbit
import tensorflow as tf

from orbit_snn import data
from orbit_snn.data import Examples
from orbit_snn.learning.base import run
from orbit_snn.metrics import Sums
from orbit_snn.networks import outputs
from orbit_snn.training.task import Task
from orbit_snn.training.trainer import describe_rates
from orbit_snn.types import Batch, Score


class Evaluator(orbit.StandardEvaluator):
    """Scores a set of examples with the network as it is.

    The last batch is filled up and its padding weighs nothing, so that the metrics are those of the
    set whatever the batch size and the number of replicas.

    Args:
      task: network and objective.
      examples: to evaluate; their `size` must be known.
      batch_size: examples of all replicas together, rounded up to a multiple of the replicas.
      seed: of what is random in the examples.
      xla: compile the forward pass.
      strategy: default the current one.
    """

    def __init__(
        self,
        task: Task,
        examples: Examples,
        batch_size: int,
        seed: int = 0,
        xla: bool = True,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.strategy = strategy or tf.distribute.get_strategy()
        replicas = self.strategy.num_replicas_in_sync
        batch_size = -(-batch_size // replicas) * replicas
        batches = data.evaluation_dataset(examples, batch_size, seed)
        self.batches = int(batches.cardinality().numpy())
        super().__init__(self.strategy.experimental_distribute_dataset(batches))
        self.task = task
        self._batch_size = batch_size
        self._xla = xla
        sizes = {f"rates/{i}": cell.neuron.units for i, cell in enumerate(task.network.cells)}
        self._sums = Sums({**dict.fromkeys(task.objective.names, 1), **sizes})

    def eval_begin(self) -> None:
        """Forgets the last evaluation."""
        self._sums.reset()

    @tf.autograph.experimental.do_not_convert
    def eval_step(self, iterator: Any) -> None:
        """One batch."""
        self.strategy.run(self._replica_step, args=(next(iterator),))

    def eval_end(self, *_: Any) -> dict[str, Any]:
        """Metrics by name, rates of every cell, and the number of examples."""
        results, counts = self._sums.result()
        results["examples"] = round(counts["loss"])
        return describe_rates(results, self.task)

    def _replica_step(self, batch: Batch) -> None:
        task, size = self.task, self._batch_size

        @tf.function(jit_compile=self._xla, autograph=False)
        def score(batch: Batch) -> tuple[Score, tuple[tf.Tensor, ...]]:
            seen = outputs(run(task.network, batch), batch.get("mask"))
            return task.objective(seen, batch, size), seen.rates

        result, rates = score(batch)
        weight = batch["weight"]
        count = tf.reduce_sum(weight)
        totals = {
            f"rates/{i}": (
                tf.reduce_sum(rate * tf.cast(weight, rate.dtype)[:, tf.newaxis], 0),
                count,
            )
            for i, rate in enumerate(rates)
        }
        self._sums.add({**result.sums, **totals})
