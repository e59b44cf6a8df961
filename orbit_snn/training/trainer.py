"""The trainer: one learning rule, one network, any strategy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from orbit_snn import data
from orbit_snn.learning import LearningRule, Update
from orbit_snn.metrics import Sums, rate_summary
from orbit_snn.training import optimizers
from orbit_snn.training.task import Task, steps_of, window_of
from orbit_snn.types import Batch


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


class Trainer(orbit.StandardTrainer):
    """Runs a learning rule on a task, inside `tf.function`.

        for each batch:                                    one global step
          for each window of the rule:                     replica context
            gradients = rule.update(...)                   one XLA program
            gradients = clip(sum over the replicas)
            optimizer.apply(gradients)

    Make it in the scope of the strategy. Batches are a function of (seed, global step), so a run
    that is restored goes on with the very batch it would have had.

    Args:
      task: network, objective and examples.
      rule: that makes gradients.
      optimizer: of tf_keras, legacy or new.
      batch_size: examples of all replicas together.
      seed: of the order of examples and of what is random in them.
      clip_norm: largest global norm of a gradient, None for no limit.
      xla: compile the rule.
      strategy: default the current one.
      tf_while_loop: run the steps of a loop in one graph.

    Raises:
      ValueError: where the parts do not fit together.
    """

    def __init__(
        self,
        task: Task,
        rule: LearningRule,
        optimizer: Any,
        batch_size: int,
        seed: int = 0,
        clip_norm: float | None = None,
        xla: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        tf_while_loop: bool = True,
    ):
        options = orbit.StandardTrainerOptions(use_tf_while_loop=tf_while_loop)
        super().__init__(train_dataset=None, options=options)
        self.strategy = strategy or tf.distribute.get_strategy()
        replicas = self.strategy.num_replicas_in_sync
        if batch_size % replicas:
            raise ValueError(
                f"a batch of {batch_size} examples cannot be split evenly over {replicas} "
                f"replicas; make the batch size a multiple of {replicas}."
            )
        if replicas > 1 and task.objective.couples_examples:
            raise ValueError(
                f"a loss over the whole batch (reduction=batch) cannot be split over {replicas} "
                "replicas; use reduction=sample, or one replica."
            )
        if not isinstance(rule, LearningRule):
            raise ValueError(f"the rule is {rule!r}; expected an object of a rule, such as BPTT().")
        data.check_batch_size(task.train, batch_size)
        self.task = task
        self.rule = rule
        self.optimizer = optimizer
        self.global_step = orbit.utils.create_global_step()
        self._parameters = task.network.parameters
        self._batch_size = batch_size
        self._seed = seed
        self._clip_norm = clip_norm
        self._xla = xla
        optimizers.build_slots(optimizer, self._parameters)
        sizes = {f"rates/{i}": cell.neuron.units for i, cell in enumerate(task.network.cells)}
        scalars = (*task.objective.names, "gradient_norm")
        self._sums = Sums({**dict.fromkeys(scalars, 1), **sizes})

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        """Everything that has to be saved for training to go on exactly where it stopped."""
        return {
            "network": self.task.network,
            "rule": self.rule,
            "optimizer": self.optimizer,
            "global_step": self.global_step,
        }

    def train_loop_begin(self) -> None:
        """Resets the metrics; makes the data from the global step on, if there are none yet."""
        self._sums.reset()
        if self._train_dataset is None:
            step = int(self.global_step.numpy())
            batches = data.training_dataset(self.task.train, self._batch_size, self._seed, step)
            self.train_dataset = self.strategy.experimental_distribute_dataset(batches)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, iterator: Any) -> None:
        """One batch."""
        self.strategy.run(self._replica_step, args=(next(iterator),))
        self.global_step.assign_add(1)

    def train_loop_end(self) -> dict[str, Any]:
        """Metrics of the loop, as numbers, and rates of every cell, `[N]`.

        Raises:
          TrainingError: where the loss or a gradient was not finite.
        """
        results, _ = self._sums.result()
        step = int(self.global_step.numpy())
        for name in ("loss", "gradient_norm"):
            if not np.isfinite(results[name]):
                raise TrainingError(
                    f"the {name.replace('_', ' ')} is {results[name]} in the loop that ended at "
                    f"step {step}; lower the learning rate or set trainer.clip_norm. Nothing of "
                    "this loop was saved."
                )
        results["learning_rate"] = optimizers.learning_rate(self.optimizer)
        return describe_rates(results, self.task)

    def _replica_step(self, batch: Batch) -> None:
        """All windows of one batch, on one replica."""
        task, size = self.task, self._batch_size

        @tf.function(jit_compile=self._xla, autograph=False)
        def update(window: Batch, state: Any) -> Update:
            return self.rule.update(task.network, task.objective, window, state, size)

        state = task.network.initial_state(batch["inputs"].shape[0])
        for start, stop in self.rule.windows(steps_of(batch)):
            result = update(window_of(batch, task.objective, start, stop), state)
            norm = self._apply(result.gradients)
            one = tf.ones_like(norm)
            rates = {f"rates/{i}": (rate, one) for i, rate in enumerate(result.rates)}
            self._sums.add({**result.score.sums, "gradient_norm": (norm, one), **rates})
            state = result.state

    def _apply(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        """Sums over replicas, penalises, clips and applies; returns the norm before clipping."""
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        gradients = self._penalised(gradients)
        gradients, norm = optimizers.clip_by_global_norm(gradients, self._clip_norm)
        optimizers.apply(self.optimizer, gradients, self._parameters)
        return norm

    def _penalised(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gradients plus that of the weight penalty, which is on matrices only."""
        l2 = self.task.objective.l2
        pairs = zip(gradients, self._parameters, strict=True)
        return [g + l2 * p if l2 and p.shape.rank > 1 else g for g, p in pairs]


def describe_rates(results: dict[str, Any], task: Task) -> dict[str, Any]:
    """Adds mean rate in Hz, silent and saturated fractions of every spiking cell."""
    described = {name: value for name, value in results.items() if not name.startswith("rates/")}
    for index, cell in enumerate(task.network.cells):
        rates = results[f"rates/{index}"]
        described[f"rates/cell{index}"] = rates
        if cell.neuron.spiking:
            for name, value in rate_summary(rates, cell.neuron.dt_ms).items():
                described[f"{name}/cell{index}"] = value
    return described
