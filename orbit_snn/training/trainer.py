"""The trainer: one learning rule, one assembled model, any strategy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from orbit_snn import data
from orbit_snn.database import Database
from orbit_snn.graph import TrainingModules
from orbit_snn.graph.assembly import DatabaseInfo
from orbit_snn.learning import LearningRule
from orbit_snn.learning.base import Forward, Learned, Update, window_of
from orbit_snn.learning.online_probe import Probe
from orbit_snn.metrics import Sums as RunningSums
from orbit_snn.metrics import plus
from orbit_snn.training import optimizers
from orbit_snn.training.batches import BatchSize
from orbit_snn.training.compiling import compiled
from orbit_snn.training.errors import DivergedError, TrainingError
from orbit_snn.training.exchange import added, assign, gathered
from orbit_snn.training.parts import check_parts
from orbit_snn.training.task import Task, examples_of, trace
from orbit_snn.types import Batch
from orbit_snn.unroll import chunks

_LOSS, _NORM = "loss/", "gradient_norm"
_UNROLLED = 8  # windows that are traced one by one


class Trainer(orbit.StandardTrainer):
    """Runs a learning rule on an assembled model, inside `tf.function`.

        for each batch:                                    one global step
          for each window of the rule:                     replica context
            sums of the loss = rule.forward(...)           one XLA program
            slopes = d loss / d (sums over the replicas)
            gradients = rule.backward(..., slopes)         the same program on one replica
            gradients = clip(sum over the replicas)
            optimizer.apply(gradients)

    Make it in the scope of the strategy. Batches are a function of (seed, global step), so a run
    that is restored goes on with the very batch it would have had.

    Args:
      training_modules: model, loss and evaluator, see `assemble_for_training`.
      db_info: names of the features that they take.
      database: gives the examples of its split `train`.
      rule: that makes gradients.
      optimizer: of tf_keras, legacy or new; None for a rule that sets all weights itself.
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
        training_modules: TrainingModules,
        db_info: DatabaseInfo,
        database: Database,
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
        if not isinstance(rule, LearningRule):
            raise ValueError(f"the rule is {rule!r}; expected an object of a rule, such as BPTT().")
        self._examples = examples_of(Task(training_modules, db_info, database), "train")
        self.training_modules = training_modules
        self.rule = rule
        self.optimizer = optimizer
        self.global_step = orbit.utils.create_global_step()
        self._seed = seed
        self._clip_norm = clip_norm
        self._xla = xla
        spec = self._examples.spec
        shapes = trace(training_modules, spec)
        self.windows = rule.windows(shapes.steps)
        check_parts(training_modules, rule, self.windows, self.strategy.num_replicas_in_sync)
        rule.prepare(training_modules, spec, shapes.steps)
        self._parameters = rule.trained(training_modules)
        self._check_batch_size(batch_size)
        self._batches = BatchSize(batch_size)
        if self._parameters:
            self._check_optimizer()
            optimizers.build_slots(optimizer, self._parameters)
        losses = {_LOSS + key: size for key, size in shapes.losses.items()}
        self._unreported = set(rule.unreported)
        if len(self.windows) > 1:
            apart = set(Probe(training_modules, spec).reported().unknown)
            self._unreported |= apart - {*training_modules.loss.reductions}
        self._measured = (*[_NORM] * bool(self._parameters), *rule.reported)
        measured = dict.fromkeys(self._measured, 2)
        self._sums = RunningSums({**losses, **shapes.reports, **measured})

    def _check_optimizer(self) -> None:
        if self.optimizer is None:
            raise ValueError(
                f"{self.rule.name} gives gradients and the optimizer is None; give it one of "
                "tf_keras, such as tf_keras.optimizers.legacy.Adam(1e-3)."
            )

    def _check_batch_size(self, size: int) -> None:
        data.Share(replicas=self.strategy.num_replicas_in_sync).part(size)
        data.check_batch_size(self._examples, size)

    @property
    def batch_size(self) -> int:
        """Examples of all replicas together; may be set between two loops."""
        return self._batches.size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._check_batch_size(size)
        self._batches.change(size, int(self.global_step.numpy()))
        self.forget_data()

    @property
    def examples_seen(self) -> int:
        """Examples of the training data that came before the next batch, epochs on end."""
        return self._batches.position(int(self.global_step.numpy()))

    @property
    def learning_rate(self) -> float | None:
        """The learning rate of the next update; None where no optimizer makes one."""
        return optimizers.learning_rate(self.optimizer) if self._parameters else None

    def forget_data(self) -> None:
        """Makes the next loop start its data anew, where the global step says."""
        self._train_dataset = None
        self._train_iter = None

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        """Everything that has to be saved for training to go on exactly where it stopped."""
        items = {
            "model": self.training_modules.model,
            "rule": self.rule,
            "optimizer": self.optimizer,
            "global_step": self.global_step,
            "batches": self._batches,
        }
        return {name: item for name, item in items.items() if item is not None}

    def train_loop_begin(self) -> None:
        """Resets the metrics; makes the data from the global step on, if there are none yet."""
        self._sums.reset()
        if self._train_dataset is None:
            start, size = self.examples_seen, self._batches.size
            self.train_dataset = data.distributed(
                self.strategy,
                lambda share: data.training_dataset(
                    self._examples, size, self._seed, position=start, share=share
                ),
            )

    @tf.autograph.experimental.do_not_convert
    def train_step(self, iterator: Any) -> None:
        """One batch."""
        self.strategy.run(self._replica_step, args=(next(iterator),))
        self.global_step.assign_add(1)

    def train_loop_end(self) -> dict[str, Any]:
        """Metrics of the loop, as numbers, and rates of every cell, `[N]`.

        Raises:
          DivergedError: where the loss or a gradient was not finite.
          TrainingError: where the rule says that it cannot go on.
        """
        modules, sums = self.training_modules, self._sums.read()
        pairs = [(name, sums.pop(name)) for name in self._measured]
        measured = {name: total / count for name, (total, count) in pairs}
        losses = {k.removeprefix(_LOSS): sums.pop(k) for k in [*sums] if k.startswith(_LOSS)}
        (loss,) = (float(v) for v in modules.loss.values(losses))
        known = {key: value for key, value in sums.items() if key not in self._unreported}
        reported = modules.evaluator.results(known, learning=True)
        results = {"loss": loss, **reported, **measured, **self.rule.report()}
        step = int(self.global_step.numpy())
        if problem := self.rule.problem():
            raise TrainingError(f"in the loop that ended at step {step}: {problem}")
        for name in ("loss", _NORM):
            if not np.isfinite(results.get(name, 0.0)):
                raise DivergedError(
                    f"the {name.replace('_', ' ')} is {results[name]} in the loop that ended at "
                    f"step {step}; lower the learning rate or set trainer.clip_norm. Nothing of "
                    "this loop was saved."
                )
        if self._parameters:
            results["learning_rate"] = self.learning_rate
        return modules.evaluator.described(results)

    def _replica_step(self, batch: Batch) -> None:
        """All windows of one batch, on one replica."""
        learn = self._learn
        if self.strategy.num_replicas_in_sync == 1 and not self._parameters:
            # No optimizer in between: windows, and what the rule assigns, are one program.
            learn = self._compiled(learn)
        self._sums.add(learn(batch))

    def _learn(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Updates after every window; sums over the windows, of the names of `_sums`."""
        alone = self.strategy.num_replicas_in_sync == 1
        one_window: Callable[[Batch, Any], Learned | Update]
        one_window = self._alone() if alone else self._together()

        def learn(start: Any, steps: int, carry: Any) -> Any:
            state, sums = carry
            window = window_of(batch, self.training_modules.temporal, start, steps)
            learned = one_window(window, state)
            norms = self._apply(learned)
            losses = {_LOSS + key: value for key, value in learned.sums.items()}
            more = {**losses, **learned.reports, **learned.measured, **norms}
            return learned.state, plus(sums, more)

        size = next(iter(batch.values())).shape[0]
        carry = self.rule.initial_state(self.training_modules, size), self._sums.zeros()
        looped = self._looped_windows
        steps = self.windows[0].stop
        carry = chunks.consecutive(
            looped, steps, lambda carry, start: learn(start, steps, carry), carry
        )
        for start, stop in self.windows[looped:]:
            carry = learn(start, stop - start, carry)
        return carry[1]

    @property
    def _looped_windows(self) -> int:
        """How many of the first windows, all of one length, are a loop: none where they are few.

        Several replicas exchange gradients after each window, which they cannot do in a loop.
        """
        unrolled = _UNROLLED if self._parameters else 1
        if len(self.windows) <= unrolled or self.strategy.num_replicas_in_sync > 1:
            return 0
        return sum(w.stop - w.start == self.windows[0].stop for w in self.windows)

    def _compiled(self, function: Callable[..., Any]) -> Any:
        return compiled(function, self._xla, self.strategy)

    def _alone(self) -> Callable[[Batch, Any], Update]:
        """One window where there is one replica: one program."""

        def update(window: Batch, state: Any) -> Update:
            return self.rule.update(self.training_modules, window, state)

        return self._compiled(update)

    def _together(self) -> Callable[[Batch, Any], Learned]:
        """One window of several replicas: two programs, the sums of the loss added in between."""
        modules, rule = self.training_modules, self.rule
        context = tf.distribute.get_replica_context()

        @self._compiled
        def forward(window: Batch, state: Any) -> Forward:
            return rule.forward(modules, window, state)

        @self._compiled
        def share(window: Batch, passed: Forward, sums: Any) -> Forward:
            return rule.share(modules, window, passed, modules.loss.slopes(sums))

        @self._compiled
        def backward(window: Batch, passed: Forward, sums: Any) -> Learned:
            return rule.backward(modules, window, passed, modules.loss.slopes(sums))

        def one_window(window: Batch, state: Any) -> Learned:
            passed = forward(window, state)
            sums = added(context, passed.sums)
            if rule.shares_rows:
                passed = share(window, passed, sums)
                passed = passed._replace(rows=gathered(context, passed.rows))
            learned = backward(window, passed, sums)
            if not learned.gradients:
                return learned
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, list(learned.gradients))
            return learned._replace(gradients=tuple(gradients))

        return one_window

    def _apply(self, learned: Learned | Update) -> dict[str, tf.Tensor]:
        """Clips and applies gradients that are summed over replicas; their norm before that."""
        rule, norms = self.rule, {}
        if self._parameters:
            gradients, norm = optimizers.clip_by_global_norm(learned.gradients, self._clip_norm)
            optimizers.apply(self.optimizer, gradients, self._parameters)
            norms = {_NORM: tf.stack([norm, tf.ones_like(norm)])}
        modules = self.training_modules
        if learned.assigned:
            assign(rule.assigned(modules), learned.assigned)
        if decays := rule.decays(modules):
            assign([v for v, _ in decays], [factor * v for v, factor in decays])
        return norms
