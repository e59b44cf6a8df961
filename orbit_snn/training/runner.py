"""A run: a task, a rule and an optimizer under an Orbit controller, in a directory."""

import json
import os
import platform
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from orbit_snn.data import Examples
from orbit_snn.learning import LearningRule
from orbit_snn.training import checkpoints, summaries
from orbit_snn.training.checkpoints import RunDirectoryError
from orbit_snn.training.console import Console, format_metrics, quiet_orbit
from orbit_snn.training.evaluator import Evaluator
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.task import Task
from orbit_snn.training.trainer import Trainer


class Run:
    """Trains and evaluates a task in a directory, from where it stopped the last time.

        run = Run(task, BPTT(), tf_keras.optimizers.legacy.Adam(1e-3), "runs/mine")
        results = run.train_and_evaluate()

    The directory gets checkpoints, TensorBoard summaries below `train/` and `validation/`, the best
    checkpoint below `best/`, and `results.json` after an evaluation.

    Args:
      task: what to train on what.
      rule: that makes gradients.
      optimizer: of tf_keras, legacy or new.
      model_dir: directory of the run; made where it is missing.
      options: how long and how often.
      seed: of the order of examples and of what is random in them.
      xla: compile the steps.
      strategy: default the current one; the network was made in its scope.
      configuration: text that TensorBoard shows.

    Raises:
      ValueError: where the parts do not fit together.
      DataError: for examples that cannot be learned from, see `Task.check`.
      RunDirectoryError: where the directory cannot be used.
    """

    def __init__(
        self,
        task: Task,
        rule: LearningRule,
        optimizer: Any,
        model_dir: str | os.PathLike,
        options: TrainingOptions = TrainingOptions(),
        seed: int = 0,
        xla: bool = True,
        strategy: tf.distribute.Strategy | None = None,
        configuration: str = "",
    ):
        task.check()
        _check_best_metric(task, options.best_metric)
        self.directory = checkpoints.prepare_directory(model_dir)
        self.task = task
        self.options = options
        self._seed = seed
        self._xla = xla
        self._strategy = strategy or tf.distribute.get_strategy()
        self._configuration = configuration
        with self._strategy.scope():
            self.trainer = Trainer(
                task, rule, optimizer, options.batch_size, seed, options.clip_norm, xla, strategy
            )
        self._manager = checkpoints.manager(
            self.trainer, self.directory, options.checkpoint_interval, options.max_to_keep
        )
        self._console = Console(options.train_steps, 0)

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
            "experiment": self.task.name,
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
        if self.step >= options.train_steps:
            self._console.line(f"already complete: step {self.step} of {options.train_steps}")
            return
        controller = self._controller(self._validator())
        with quiet_orbit():
            while self.step < options.train_steps:
                passed = self.step // options.validation_interval
                until = (passed + 1) * options.validation_interval
                controller.train(min(until, options.train_steps), checkpoint_at_completion=False)
                if controller.evaluator is not None:
                    controller.evaluate(controller.evaluator.batches)
            controller.save_checkpoint()

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
        batches = tf.constant(evaluator.batches)
        scalars = {
            name: value
            for name, value in evaluator.evaluate(batches).items()
            if np.ndim(value) == 0
        }
        count = scalars.pop("examples")
        results = {
            "experiment": self.task.name,
            "rule": self.trainer.rule.name,
            "seed": self._seed,
            "step": self.step,
            "metrics": {name: float(value) for name, value in scalars.items()},
            "examples": count,
            **self._speed(),
            "checkpoint": path,
            "versions": versions(),
        }
        checkpoints.write_json(self.directory / "results.json", results)
        self._write_test_summaries(scalars)
        self._console.line(
            f"test at step {self.step} | {format_metrics(scalars)} | {count} examples"
        )
        return results

    def _speed(self) -> dict[str, float | None]:
        """How fast training was; of the last session that trained, where this one did not."""
        speed = {
            "steps_per_second": self._console.steps_per_second,
            "first_loop_seconds": self._console.first_loop_seconds,
        }
        path = self.directory / "results.json"
        if self._console.first_loop_seconds is not None or not path.exists():
            return speed
        before = json.loads(path.read_text())
        return {name: before.get(name) for name in speed}

    def _held_out(self) -> Examples:
        examples = self.task.test or self.task.validation
        if examples is None:
            raise ValueError(
                "the task has neither test nor validation examples to evaluate; give it some, or "
                "only train."
            )
        return examples

    def _write_test_summaries(self, scalars: dict[str, Any]) -> None:
        writer = tf.summary.create_file_writer(str(self.directory / "test"))
        with writer.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step=self.step)
        writer.flush()

    def _evaluator(self, examples: Any) -> Evaluator:
        size = self.options.eval_batch_size or self.options.batch_size
        with self._strategy.scope():
            return Evaluator(self.task, examples, size, self._seed, self._xla, self._strategy)

    def _validator(self) -> Evaluator | None:
        return None if self.task.validation is None else self._evaluator(self.task.validation)

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
        if self.task.validation is None:
            return []
        pictures = summaries.ActivityPictures(
            self.task, self.task.validation, self.options.pictures, self._seed
        )

        def show(output: dict[str, Any]) -> None:
            self._console.line(f"validation at step {self.step} | {format_metrics(output)}")
            writer = manager.summary_writer()
            summaries.write_histograms(output, writer, self.step)
            weights = summaries.weight_histograms(self.task.network)
            summaries.write_histograms(weights, writer, self.step)
            pictures.write(writer, self.step)

        return [show, *self._keep_best()]

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
        condition = orbit.actions.NewBestMetric(
            metric, self.options.higher_is_better, filename=str(directory / "best.json")
        )
        save = lambda _: best.save(self.trainer.global_step)  # noqa: E731
        return [orbit.actions.ConditionalAction(condition, save)]


def _check_best_metric(task: Task, metric: str) -> None:
    """Raises ValueError for a metric that no evaluation will give."""
    rates = [
        f"{name}/cell{index}"
        for index, cell in enumerate(task.network.cells)
        for name in ("rate_hz", "silent", "saturated")
        if cell.neuron.spiking
    ]
    known = (*task.objective.names, *rates)
    if metric and metric not in known:
        raise ValueError(f"best_metric is {metric!r}; expected one of {', '.join(known)}.")


def versions() -> dict[str, str]:
    """Versions of what computed the results."""
    from importlib import metadata

    packages = ("orbit_snn", "tensorflow", "tf-models-official", "tf_keras", "numpy")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "source checkout"
    return found
