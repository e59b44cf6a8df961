"""A run: an assembled model, a rule and an optimizer under an Orbit controller, in a directory."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.database import Database
from orbit_snn.graph import TrainingModules
from orbit_snn.graph.assembly import DatabaseInfo
from orbit_snn.learning import LearningRule
from orbit_snn.training import directory as files
from orbit_snn.training import inspection, workers
from orbit_snn.training import results as result_files
from orbit_snn.training.actions import Action, by_name
from orbit_snn.training.best import KeepBest
from orbit_snn.training.checkpoints import Checkpoints
from orbit_snn.training.checks import check, check_watching
from orbit_snn.training.console import Console, format_metrics, quiet_orbit
from orbit_snn.training.errors import RunDirectoryError
from orbit_snn.training.evaluator import Evaluator
from orbit_snn.training.lock import RunLock
from orbit_snn.training.loop import Loop, why_over
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.recovery import RollBack
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
    checkpoint below `best/`, and `results.json` after an evaluation. It is made when training
    starts, and belongs to one process while that trains.

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
      configuration: text that goes into `params.yaml` and that TensorBoard shows.
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
        self.name = name
        self.options = options
        self._seed = seed
        self._xla = xla
        self._strategy = strategy or tf.distribute.get_strategy()
        self._configuration = configuration
        with self._strategy.scope():
            self._actions = [*actions_for(options), *actions]
        check_watching(self.task, options, self._actions)
        self.directory = files.absolute(model_dir)
        workers.decided(self._strategy, lambda: files.check_directory(self.directory))
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
        self._console = self._new_console(0)
        best = self.directory / "best"
        self._best = self._checkpoints(best, {}, 1, "best_ckpt")
        with self._strategy.scope():
            if options.best_metric:
                written = self._own_directory / "best"
                keep = KeepBest(options.best_metric, options.higher_is_better, self._best, written)
                self._actions = [keep, *self._actions]
            self._roll_back = self._rolls_back()
        for action in self._actions:
            action.bind(self.trainer)
        kept: dict[str, tf.Module] = dict(by_name(self._actions))
        if self._roll_back:
            kept["roll_back"] = self._roll_back
        self._saved = self._checkpoints(self.directory, kept, options.max_to_keep, "ckpt")

    def _new_console(self, start_step: int) -> Console:
        return Console(self.options.train_steps, start_step, workers.own_stream(self._strategy))

    def _rolls_back(self) -> RollBack | None:
        times, factor = self.options.roll_backs, self.options.roll_back_factor
        return RollBack(self.trainer.optimizer, times, factor) if times else None

    def _checkpoints(
        self, directory: pathlib.Path, optional: dict[str, tf.Module], max_to_keep: int, name: str
    ) -> Checkpoints:
        items, strategy = self.trainer.checkpoint_items, self._strategy
        say = lambda line: self._console.line(line)  # noqa: E731  there is another console later
        return Checkpoints(items, optional, directory, strategy, max_to_keep, name, say)

    @property
    def step(self) -> int:
        """The global step."""
        return int(self.trainer.global_step.numpy())

    def restore(self, path: str | None = None) -> str | None:
        """Restores the newest checkpoint that can be read, or that one, and returns its path.

        None where there is none.

        Raises:
          RunDirectoryError: where there are some and none can be read or it does not fit.
        """
        if path is None:
            path = self._saved.newest(fall_back=self.options.fall_back)
        elif problem := inspection.problem_of(path):
            raise RunDirectoryError(f"the checkpoint {path} cannot be read ({problem}).")
        return self._restored(self._saved, path)

    def _restored(self, checkpoints: Checkpoints, path: str | None) -> str | None:
        if path is not None:
            checkpoints.restore(path)
        self.trainer.forget_data()
        return path

    def _resume(self) -> str | None:
        """`restore`; newer checkpoints that cannot be read are moved aside."""
        path = self._saved.newest(set_aside=True, fall_back=self.options.fall_back)
        return self._restored(self._saved, path)

    def train(self) -> None:
        """Trains to the end, with validation on the way; does nothing if it is there already.

        SIGTERM and SIGINT end it after the loop that runs, when its state is saved; a second signal
        ends the process at once.

        Raises:
          RunDirectoryError: where the directory is in use, holds another run or cannot be written.
          TrainingError: where training diverged or the rule cannot go on.
          KeyboardInterrupt: after SIGINT.
          SystemExit: after SIGTERM, with exit code 42.
        """
        lock = RunLock(self.directory, self._console.line)
        with contextlib.ExitStack() as held, workers.together(self._strategy):
            workers.decided(self._strategy, lambda: self._take(lock, held))
            restored = self._resume()
            workers.decided(self._strategy, self._claim)
            self._console = self._new_console(self.step)
            resumed = f"resumed at step {self.step} from {restored}" if restored else ""
            if resumed:
                self._console.line(resumed)
            stopped = why_over(self._actions, self._strategy)
            if stopped or self.step >= self.options.train_steps:
                reason = stopped or f"step {self.step} of {self.options.train_steps}"
                self._console.line(f"already complete: {reason}")
                return
            if self._roll_back and not restored:
                self._saved.save(self.step)  # to go back to
            loop = self._loop(lock, resumed)
            with quiet_orbit(), plain_errors():
                loop.run()
            if loop.stopped:
                self._console.line(f"stopped at step {self.step}: {loop.stopped}")

    def _take(self, lock: RunLock, held: contextlib.ExitStack) -> None:
        files.prepare_directory(self.directory)
        held.enter_context(lock)
        files.check_identity(self.directory, self._identity)

    @property
    def _identity(self) -> dict[str, Any]:
        return files.identity(self.name, self._seed, self.trainer.rule)

    def _claim(self) -> None:
        files.claim(self.directory, self._identity)
        if self._configuration:
            files.write_text(self.directory / "params.yaml", self._configuration)

    def _loop(self, lock: RunLock, resumed: str) -> Loop:
        return Loop(
            self.trainer,
            self._controller(resumed),
            self.options,
            self._actions,
            self._saved,
            self._resume,
            self._roll_back,
            lock,
            self.directory,
            self._console,
            self._seed,
        )

    def _controller(self, resumed: str) -> Any:
        watch = Watch(
            self.trainer,
            self.task,
            self.options,
            self._own_directory,
            self._console,
            self._actions,
            self._seed,
            self._configuration,
            resumed,
        )
        split = "validation"
        return watch.controller(
            self._evaluator(split) if split in self.task.database.splits else None
        )

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
            path = self._restored(self._best, self._best.newest(fall_back=False)) or path
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
        while path := workers.decided(self._strategy, lambda: self._next_readable(waiting)):
            self.restore(path)
            results = self._evaluate(path)
            if self.step >= self.options.train_steps or why_over(self._actions, self._strategy):
                break
        if results is None:
            raise RunDirectoryError(
                f"no checkpoint appeared in {self.directory} within {timeout:g} s; start the "
                "training run, or raise --eval_timeout."
            )
        return results

    def _next_readable(self, waiting: Iterator[str]) -> str | None:
        """The next checkpoint that is still there and whole, or None."""
        for path in waiting:
            if not (problem := inspection.problem_of(path)):
                return path
            self._console.line(f"{path} is left out, for it cannot be read: {problem}")
        return None

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
        files.write_json(self._own_directory / "results.json", results)
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
