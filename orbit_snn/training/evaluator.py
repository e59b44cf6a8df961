"""The evaluator: validation losses over every example of a split, under Orbit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from orbit_snn import data
from orbit_snn.data import Share
from orbit_snn.database import Database
from orbit_snn.graph import TrainingModules
from orbit_snn.graph.assembly import DatabaseInfo
from orbit_snn.metrics import Sums
from orbit_snn.training import workers
from orbit_snn.training.compiling import compiled
from orbit_snn.training.exchange import gathered
from orbit_snn.training.task import Task, examples_of, trace
from orbit_snn.types import Batch

_COUNT = "examples"


class Evaluator(orbit.StandardEvaluator):
    """Evaluates a split with the model as it is.

    The last batch is filled up and its padding weighs nothing, so that the results are those of the
    split whatever the batch size and the number of replicas.

    Args:
      training_modules: model, loss and evaluator, see `assemble_for_training`.
      db_info: names of the features that they take.
      database: gives the examples.
      split: to evaluate; the number of its examples must be known.
      batch_size: examples of all replicas together, rounded up to a multiple of the replicas.
      seed: of what is random in the examples.
      xla: compile the forward pass.
      strategy: default the current one.

    Attributes:
      batches: how many there are.
      drawn: what the last evaluation kept for the plot maker.
    """

    def __init__(
        self,
        training_modules: TrainingModules,
        db_info: DatabaseInfo,
        database: Database,
        split: str,
        batch_size: int,
        seed: int = 0,
        xla: bool = True,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.strategy = strategy or tf.distribute.get_strategy()
        replicas = self.strategy.num_replicas_in_sync
        batch_size = -(-batch_size // replicas) * replicas
        examples = examples_of(Task(training_modules, db_info, database), split)
        self._part = Share(replicas=replicas).part(batch_size)

        def parts(share: Share) -> tf.data.Dataset:
            dataset = data.evaluation_dataset(examples, batch_size, seed, share=share)
            self.batches = int(dataset.cardinality().numpy()) // share.own
            return dataset

        super().__init__(data.distributed(self.strategy, parts))
        self._evaluator = training_modules.evaluator
        self._model = training_modules.model
        self._xla = xla
        self.drawn: list[Any] = []
        sizes = trace(training_modules, examples.spec).evaluation
        self._sums = Sums({**sizes, _COUNT: 1})

    def eval_begin(self) -> Any:
        """Forgets the last evaluation."""
        self._sums.reset()
        self.drawn = []
        return []

    @tf.autograph.experimental.do_not_convert
    def eval_step(self, iterator: Any) -> Any:
        """One batch."""
        return self.strategy.run(self._replica_step, args=(next(iterator),))

    def eval_reduce(self, state: Any, step_outputs: Any) -> list[dict[str, np.ndarray]]:
        """Keeps, on the host, what losses need of all examples at once and what is drawn."""
        for collected, pictured in self._local(step_outputs):
            if pictured:
                self._evaluator.plot_maker.keep(self.drawn, pictured)
            if collected:
                state = [*state, {name: tensor.numpy() for name, tensor in collected.items()}]
        return state

    def eval_end(self, collected: Sequence[dict[str, np.ndarray]] = ()) -> dict[str, Any]:
        """Validation losses by name, rates of every cell, and the number of examples."""
        sums = self._sums.read()
        examples = round(float(sums.pop(_COUNT)[0]))
        whole = self._evaluator.whole(collected)
        results = self._evaluator.results({**sums, **whole})
        return self._evaluator.described({**results, "examples": examples})

    def _local(self, outputs: Any) -> list[Any]:
        """What each replica gave; on several workers the first of this process has it of all."""
        flat = [self.strategy.experimental_local_results(x) for x in tf.nest.flatten(outputs)]
        replicas = [tf.nest.pack_sequence_as(outputs, own) for own in zip(*flat, strict=True)]
        return replicas if workers.worker_count(self.strategy) == 1 else replicas[:1]

    def _replica_step(self, batch: Batch) -> Any:
        # Several workers lose the static shape: any of them might have run out of examples.
        batch = {k: tf.reshape(x, [self._part, *x.shape[1:]]) for k, x in batch.items()}

        def score(batch: Batch) -> Any:
            run = self._model.run(batch)
            plot_maker = self._evaluator.plot_maker
            pictured = {} if plot_maker is None else plot_maker.collect(run.values, batch)
            kept = self._evaluator.collect(run, batch), pictured
            return self._evaluator.sums(run, batch), kept

        sums, kept = compiled(score, self._xla, self.strategy)(batch)
        self._sums.add({**sums, _COUNT: tf.reduce_sum(batch["weight"])})
        if workers.worker_count(self.strategy) == 1:
            return kept
        return gathered(tf.distribute.get_replica_context(), kept)
