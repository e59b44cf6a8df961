"""A run: an assembled model, a rule and an optimizer under an Orbit controller, in a directory."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from orbit_snn.database import Database
from orbit_snn.graph import TrainingModules
from orbit_snn.graph.assembly import DatabaseInfo
from orbit_snn.learning import LearningRule
from orbit_snn.training import checkpoints, summaries
from orbit_snn.training import results as result_files
from orbit_snn.training.actions import Action, StopTraining, actions_for
from orbit_snn.training.checkpoints import RunDirectoryError
from orbit_snn.training.console import Console, format_metrics, quiet_orbit
from orbit_snn.training.evaluator import Evaluator
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.task import Task, check
from orbit_snn.training.trainer import Trainer


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
      optimizer: of tf_keras, legacy or new.
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
        self.directory = checkpoints.prepare_directory(model_dir)
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
            self._actions = [*actions_for(options), *actions]
        for action in self._actions:
            action.bind(self.trainer)
        self._manager = checkpoints.manager(
            self.trainer,
            self._checkpoint_items(),
            self.directory,
            options.checkpoint_interval,
            options.max_to_keep,
        )
        self._console = Console(options.train_steps, 0)

    def _checkpoint_items(self) -> dict[str, Any]:
        kept = {action.name: action for action in self._actions}
        return {**self.trainer.checkpoint_items, **({"actions": kept} if kept else {})}

    @property
    def step(self) -> int:
        """The global step."""
        return int(self.trainer.global_step.numpy())

    def restore(self) -> str | None:
        """Restores the newest checkpoint and returns its path, None where there is none."""
        return checkpoints.restore(self._manager, self.trainer)

    def _identity(self) -> dict[str, Any]:
        rule = self.trainer.rule
        settings = {
            name: value
            for name, value in sorted(vars(rule).items())
            if isinstance(value, (int, float, str)) and not name.startswith("_")
        }
        return {
            "experiment": self.name,
            "seed": self._seed,
            "rule": {"type": rule.name, **settings},
        }

    def train(self) -> None:
        """Trains to the end, with validation on the way; does nothing if it is there already."""
        restored = self.restore()
        checkpoints.claim(self.directory, self._identity())
        options = self.options
        self._console = Console(options.train_steps, self.step)
        if restored:
            self._console.line(f"resumed at step {self.step} from {restored}")
        stopped = next((action.stopped for action in self._actions if action.stopped), "")
        if self.step >= options.train_steps or stopped:
            reason = stopped or f"step {self.step} of {options.train_steps}"
            self._console.line(f"already complete: {reason}")
            return
        controller = self._controller(self._validator())
        with quiet_orbit():
            try:
                self._catch_up(controller)
                while self.step < options.train_steps:
                    passed = self.step // options.validation_interval
                    until = min((passed + 1) * options.validation_interval, options.train_steps)
                    controller.train(until, checkpoint_at_completion=False)
                    if controller.evaluator is not None:
                        controller.evaluate(controller.evaluator.batches)
            except StopTraining as stop:
                self._console.line(f"stopped at step {self.step}: {stop}")
            controller.save_checkpoint()

    def _catch_up(self, controller: orbit.Controller) -> None:
        """Validates once more where the checkpoint was saved before its validation was seen.

        Actions then know what they would know if the run had never stopped.
        """
        due = self.step and self.step % self.options.validation_interval == 0
        behind = any(action.seen_step < self.step for action in self._actions)
        if due and behind and controller.evaluator is not None:
            controller.evaluate(controller.evaluator.batches)

    def evaluate(self) -> dict[str, Any]:
        """Evaluates the newest checkpoint on the held-out examples and writes `results.json`.

        Raises:
          RunDirectoryError: where there is no checkpoint.
        """
        path = self.restore()
        if path is None:
            raise RunDirectoryError(
                f"there is no checkpoint to evaluate in {self.directory}; train first "
                "(--mode=train or train_and_eval), or name the --model_dir of a trained run."
            )
        return self._evaluate(path)

    def train_and_evaluate(self) -> dict[str, Any]:
        """`train`, then `evaluate`."""
        self._held_out()
        self.train()
        return self.evaluate()

    def evaluate_continuously(self, timeout: float) -> dict[str, Any]:
        """Evaluates every checkpoint that appears, until the last step or `timeout` seconds pass.

        Returns:
          The last results.

        Raises:
          RunDirectoryError: where no checkpoint appeared.
        """
        results = None
        waiting = tf.train.checkpoints_iterator(str(self.directory), timeout=timeout)
        for path in waiting:
            checkpoints.restore_from(self._manager.checkpoint, path, self.trainer)
            results = self._evaluate(path)
            if self.step >= self.options.train_steps:
                break
        if results is None:
            raise RunDirectoryError(
                f"no checkpoint appeared in {self.directory} within {timeout:g} s; start the "
                "training run, or raise --eval_timeout."
            )
        return results

    def _evaluate(self, path: str) -> dict[str, Any]:
        evaluator = self._evaluator(self._held_out())
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
        checkpoints.write_json(self.directory / "results.json", results)
        result_files.write_summaries(self.directory, scalars, self.step)
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

    def _controller(self, validator: Evaluator | None) -> orbit.Controller:
        """Orbit's controller with our line a loop, histograms, pictures and the best checkpoint."""
        step = self.trainer.global_step
        train, validation = (
            orbit.utils.SummaryManager(str(self.directory / part), tf.summary.scalar, step)
            for part in ("train", "validation")
        )
        if self._configuration:
            writer = train.summary_writer()
            summaries.write_text("configuration", self._configuration, writer, self.step)
        with quiet_orbit():
            return orbit.Controller(
                global_step=step,
                trainer=self.trainer,
                evaluator=validator,
                strategy=self._strategy,
                steps_per_loop=self.options.steps_per_loop,
                checkpoint_manager=self._manager,
                summary_interval=self.options.steps_per_loop,
                summary_dir=str(self.directory / "train"),
                summary_manager=train,
                eval_summary_dir=str(self.directory / "validation"),
                eval_summary_manager=validation,
                train_actions=[self._train_action(train)],
                eval_actions=self._eval_actions(validation),
            )

    def _train_action(self, manager: Any) -> Any:
        def show(output: dict[str, Any]) -> None:
            self._console.loop(self.step, output)
            summaries.write_histograms(output, manager.summary_writer(), self.step)

        return show

    def _eval_actions(self, manager: Any) -> list[Any]:
        if "validation" not in self.task.database.splits:
            return []
        model = self.task.training_modules.model
        examples = self.task.database.examples("validation", self._features())
        drawn = summaries.ActivityPictures(model, examples, self.options.pictures, self._seed)

        def show(output: dict[str, Any]) -> None:
            self._console.line(f"validation at step {self.step} | {format_metrics(output)}")
            writer = manager.summary_writer()
            summaries.write_histograms(output, writer, self.step)
            summaries.write_histograms(summaries.weight_histograms(model), writer, self.step)
            drawn.write(writer, self.step)

        return [show, *self._keep_best(), *self._actions]

    def _features(self) -> list[str]:
        return [name for names in self.task.db_info.values() for name in names]

    def _keep_best(self) -> list[Any]:
        """The action that saves the checkpoint with the best validation metric."""
        metric = self.options.best_metric
        if not metric:
            return []
        directory = self.directory / "best"
        directory.mkdir(exist_ok=True)
        best = tf.train.CheckpointManager(
            tf.train.Checkpoint(**self.trainer.checkpoint_items),
            str(directory),
            max_to_keep=1,
            checkpoint_name="best_ckpt",
        )
        new = orbit.actions.NewBestMetric(
            metric, self.options.higher_is_better, filename=str(directory / "best.json")
        )
        save = lambda _: best.save(self.trainer.global_step)  # noqa: E731
        return [orbit.actions.ConditionalAction(new.test, [save, new.commit])]


def _check_best_metric(modules: TrainingModules, metric: str) -> None:
    """Raises ValueError for a metric that no evaluation will give."""
    evaluator = modules.evaluator
    rates = [
        f"{k}/{name}" for name in evaluator.spiking for k in ("rate_hz", "silent", "saturated")
    ]
    known = (*evaluator.names, *rates)
    if metric and metric not in known:
        raise ValueError(f"best_metric is {metric!r}; expected one of {', '.join(known)}.")
