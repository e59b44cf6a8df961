"""A run: an assembled model, a rule and an optimizer under an Orbit controller, in a directory."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.database import Database
from orbit_snn.graph import TrainingModules
from orbit_snn.graph.assembly import DatabaseInfo
from orbit_snn.learning import LearningRule
from orbit_snn.training import checkpoints, workers
from orbit_snn.training import results as result_files
from orbit_snn.training.actions import Action, by_name
from orbit_snn.training.checkpoints import RunDirectoryError
from orbit_snn.training.checks import check
from orbit_snn.training.console import Console, format_metrics, quiet_orbit
from orbit_snn.training.evaluator import Evaluator
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.task import Task
from orbit_snn.training.tracing import plain_errors
from orbit_snn.training.trainer import Trainer
from orbit_snn.training.watch import Watch, actions_for


class Run:
    """Trains and evaluates an assembled model in a directory, from where it stopped the last time.

        training_modules, db_info = assemble_for_training(loss, {"loss": loss})
        run = Run(training_modules, db_info, database, BPTT(), Adam(1e-3), "runs/mine")
        results = run.train_and_evaluate()

    The directory gets checkpoints, TensorBoard summaries below `train/` and `validation/`, the best
    checkpoint below `best/`, and `results.json` after an evaluation.

    Args:
      training_modules: model, loss and evaluator.
      db_info: names of the features that they take.
      database: with a split `train`, and where there are, `validation` and `test`.
      rule: that makes gradients.
      optimizer: of tf_keras, legacy or new; None for a rule that sets all weights itself.
      model_dir: directory of the run; made where it is missing.
      options: how long and how often.
      seed: of the order of examples and of what is random in them.
      xla: compile the steps.
      strategy: default the current one; the model's modules were made in its scope.
      configuration: text that TensorBoard shows.
      name: of the experiment, in files and messages.
      actions: what else is done after every validation, besides what the options ask for.

    Raises:
      ValueError: where the parts do not fit together.
      DataError: for examples that cannot be learned from, see `task.check`.
      RunDirectoryError: where the directory cannot be used.
    """

    def __init__(
        self,
        training_modules: TrainingModules,
        db_info: DatabaseInfo,
        database: Database,
        rule: LearningRule,
        optimizer: Any,
        model_dir: str | os.PathLike,
        options: TrainingOptions = TrainingOptions(),
        seed: int = 0,
        xla: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        configuration: str = "",
        name: str = "run",
        actions: Sequence[Action] = (),
    ):
        self.task = Task(training_modules, db_info, database)
        check(self.task)
        _check_best_metric(training_modules, options.best_metric)
        self.name = name
        self.options = options
        self._seed = seed
        self._xla = xla
        self._strategy = strategy or tf.distribute.get_strategy()
        self._configuration = configuration
        with self._strategy.scope():
            self._actions = [*actions_for(options), *actions]
        if self._actions and "validation" not in database.splits:
            raise ValueError(
                f"{self._actions[0].name} looks at validations, and the database has no split "
                "`validation`; give it one."
            )
        if options.best_metric and "validation" not in database.splits:
            raise ValueError(
                f"best_metric is {options.best_metric!r}, of validations, and the database has no "
                "split `validation`; give it one."
            )
        self.directory = pathlib.Path(
            workers.decided(self._strategy, lambda: str(checkpoints.prepare_directory(model_dir)))
        )
        self._own_directory = workers.own_directory(self._strategy, self.directory)
        with self._strategy.scope():
            self.trainer = Trainer(
                *self.task,
                rule,
                optimizer,
                options.batch_size,
                seed,
                options.clip_norm,
                xla,
                strategy,
            )
        for action in self._actions:
            action.bind(self.trainer)
        items = self.trainer.checkpoint_items
        kept = by_name(self._actions)
        self._manager = checkpoints.manager(
            self.trainer,
            {**items, **({"actions": kept} if kept else {})},
            self._own_directory,
            options,
        )
        self._console = Console(options.train_steps, 0, workers.own_stream(self._strategy))

    @property
    def step(self) -> int:
        """The global step."""
        return int(self.trainer.global_step.numpy())

    def restore(self, path: str | None = None) -> str | None:
        """Restores the newest checkpoint, or that one, and returns its path.

        None where there is none.
        """
        newest = path or self._manager.latest_checkpoint
        path = workers.decided(self._strategy, lambda: newest)
        self._check_visible(path)
        path = checkpoints.restore(self._manager, self.trainer, by_name(self._actions), path)
        self.trainer.forget_data()
        return path

    def _check_visible(self, path: str | None) -> None:
        """Raises RunDirectoryError on all workers where one does not see a checkpoint."""
        hidden = path is not None and not tf.io.gfile.exists(f"{path}.index")
        if workers.agreed(self._strategy, hidden):
            raise RunDirectoryError(
                f"a worker does not see the checkpoint {path}; --model_dir has to be on a file "
                "system that all workers share."
            )

    def _restore_model(self, path: str) -> None:
        """Everything but the actions, of any checkpoint."""
        checkpoint = tf.train.Checkpoint(**self.trainer.checkpoint_items)
        checkpoints.restore_from(checkpoint, path, self.trainer)
        self.trainer.forget_data()

    def _identity(self) -> dict[str, Any]:
        rule = self.trainer.rule
        settings = {
            name: checkpoints.as_json(value)
            for name, value in sorted(vars(rule).items())
            if not name.startswith("_")
            and (isinstance(value, (int, float, str)) or _are_options(value))
        }
        return {
            "experiment": self.name,
            "seed": self._seed,
            "rule": {"type": rule.name, **settings},
        }

    def train(self) -> None:
        """Trains to the end, with validation on the way; does nothing if it is there already."""
        restored = self.restore()
        workers.decided(self._strategy, lambda: checkpoints.claim(self.directory, self._identity()))
        options = self.options
        self._console = Console(options.train_steps, self.step, workers.own_stream(self._strategy))
        if restored:
            self._console.line(f"resumed at step {self.step} from {restored}")
        if self.step >= options.train_steps or self._stopped:
            reason = self._stopped or f"step {self.step} of {options.train_steps}"
            self._console.line(f"already complete: {reason}")
            return
        controller = self._watch().controller(self._validator())
        with quiet_orbit(), plain_errors(), workers.together(self._strategy):
            while self.step < options.train_steps and not self._stopped:
                controller.train(self._next_stop(), checkpoint_at_completion=False)
                ended = self.step >= options.train_steps
                if controller.evaluator and self._due(options.validation_interval, ended):
                    controller.evaluate(controller.evaluator.batches)
                if self._due(options.checkpoint_interval, ended or bool(self._stopped)):
                    self._manager.save(checkpoint_number=self.step)
        if self._stopped:
            self._console.line(f"stopped at step {self.step}: {self._stopped}")

    def _watch(self) -> Watch:
        return Watch(
            self.trainer,
            self.task,
            self.options,
            self._own_directory,
            self._console,
            self._actions,
            self._seed,
            self._configuration,
        )

    def _next_stop(self) -> int:
        """The step at which something is to be done between two loops."""
        options = self.options
        intervals = (options.validation_interval, options.checkpoint_interval)
        stops = [(self.step // interval + 1) * interval for interval in intervals]
        return min(*stops, options.train_steps)

    def _due(self, interval: int, anyhow: bool) -> bool:
        return anyhow or self.step % interval == 0

    @property
    def _stopped(self) -> str:
        """Why training is over, as an action of the chief says, or nothing."""
        reason = next((action.stopped for action in self._actions if action.stopped), "")
        return workers.same_everywhere(self._strategy, reason)

    def evaluate(self) -> dict[str, Any]:
        """Evaluates the newest checkpoint, or the best, on the held-out examples.

        The results are also in `results.json`.

        Raises:
          RunDirectoryError: where there is no checkpoint.
        """
        path = self.restore()
        if path is None:
            raise RunDirectoryError(
                f"there is no checkpoint to evaluate in {self.directory}; train first "
                "(--mode=train or train_and_eval), or name the --model_dir of a trained run."
            )
        if self.options.keep == "best":
            last = path
            path = workers.decided(self._strategy, lambda: checkpoints.best(self.directory) or last)
            self._restore_model(path)
        return self._evaluate(path)

    def train_and_evaluate(self) -> dict[str, Any]:
        """`train`, then `evaluate`."""
        self._held_out()
        self.train()
        return self.evaluate()

    def evaluate_continuously(self, timeout: float) -> dict[str, Any]:
        """Evaluates every checkpoint that appears, until training is over or `timeout` s pass.

        Returns:
          The last results.

        Raises:
          RunDirectoryError: where no checkpoint appeared.
        """
        results = None
        waiting = tf.train.checkpoints_iterator(str(self.directory), timeout=timeout)
        while path := workers.decided(self._strategy, lambda: next(waiting, None)):
            self.restore(path)
            results = self._evaluate(path)
            if self.step >= self.options.train_steps or self._stopped:
                break
        if results is None:
            raise RunDirectoryError(
                f"no checkpoint appeared in {self.directory} within {timeout:g} s; start the "
                "training run, or raise --eval_timeout."
            )
        return results

    def _evaluate(self, path: str) -> dict[str, Any]:
        evaluator = self._evaluator(self._held_out())
        with workers.together(self._strategy):
            found = evaluator.evaluate(tf.constant(evaluator.batches))
        scalars = {name: value for name, value in found.items() if np.ndim(value) == 0}
        count = scalars.pop("examples")
        results = {
            "experiment": self.name,
            "rule": self.trainer.rule.name,
            "seed": self._seed,
            "step": self.step,
            "metrics": {name: float(value) for name, value in scalars.items()},
            "examples": count,
            **result_files.speed(
                self.directory, self._console.steps_per_second, self._console.first_loop_seconds
            ),
            "checkpoint": path,
            "versions": result_files.versions(),
        }
        checkpoints.write_json(self._own_directory / "results.json", results)
        result_files.write_summaries(self._own_directory, scalars, self.step)
        self._console.line(
            f"test at step {self.step} | {format_metrics(scalars)} | {count} examples"
        )
        return results

    def _held_out(self) -> str:
        for split in ("test", "validation"):
            if split in self.task.database.splits:
                return split
        raise ValueError(
            "the database has neither test nor validation examples to evaluate; give it some, or "
            "only train."
        )

    def _evaluator(self, split: str) -> Evaluator:
        size = self.options.eval_batch_size or self.options.batch_size
        with self._strategy.scope():
            return Evaluator(*self.task, split, size, self._seed, self._xla, self._strategy)

    def _validator(self) -> Evaluator | None:
        return self._evaluator("validation") if "validation" in self.task.database.splits else None


def _check_best_metric(modules: TrainingModules, metric: str) -> None:
    """Raises ValueError for a metric that no evaluation will give."""
    evaluator = modules.evaluator
    rates = [
        f"{k}/{name}" for name in evaluator.spiking for k in ("rate_hz", "silent", "saturated")
    ]
    known = (*evaluator.names, *rates)
    if metric and metric not in known:
        raise ValueError(f"best_metric is {metric!r}; expected one of {', '.join(known)}.")


def _are_options(value: Any) -> bool:
    """Whether a setting is a dataclass, or several."""
    every = value if isinstance(value, (tuple, list)) else [value]
    return bool(every) and all(map(dataclasses.is_dataclass, every))
