"""What is seen of a run and done about it: a line a loop, summaries, pictures, actions."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import orbit
import tensorflow as tf

from orbit_snn.training import summaries
from orbit_snn.training.actions import Action, StopTraining
from orbit_snn.training.console import Console, format_metrics, quiet_orbit
from orbit_snn.training.errors import DivergedError
from orbit_snn.training.evaluator import Evaluator
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.plateaus import LowerLearningRateOnPlateau, RaiseBatchSizeOnPlateau
from orbit_snn.training.stopping import Patience, StopAfter, StopOnThreshold
from orbit_snn.training.task import Task, examples_of
from orbit_snn.training.trainer import Trainer

Look = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Watch:
    """Puts a trainer under an Orbit controller that reports and acts.

    Attributes:
      trainer: what trains.
      task: what is trained on what.
      options: how often, and what is done.
      directory: of the run.
      console: where its lines go.
      actions: what is done after every validation.
      seed: of what is random in the examples that are drawn.
      configuration: text that TensorBoard shows.
      resumed: where the run goes on, as a mark in TensorBoard; empty for a start.
    """

    trainer: Trainer
    task: Task
    options: TrainingOptions
    directory: pathlib.Path
    console: Console
    actions: Sequence[Action]
    seed: int
    configuration: str
    resumed: str

    @property
    def step(self) -> int:
        """The global step."""
        return int(self.trainer.global_step.numpy())

    def controller(self, validator: Evaluator | None) -> orbit.Controller:
        """Orbit's controller with a line a loop, summaries, pictures and the actions.

        Checkpoints are saved by the run, after a validation, so that what that changed is saved.
        """
        step = self.trainer.global_step
        train, validation = (
            orbit.utils.SummaryManager(str(self.directory / part), tf.summary.scalar, step)
            for part in ("train", "validation")
        )
        for name in ("configuration", "resumed"):
            if text := getattr(self, name):
                summaries.write_text(name, text, train.summary_writer(), self.step)
        with quiet_orbit():
            return orbit.Controller(
                global_step=step,
                trainer=self.trainer,
                evaluator=validator,
                strategy=self.trainer.strategy,
                steps_per_loop=self.options.steps_per_loop,
                summary_interval=self.options.steps_per_loop,
                summary_dir=str(self.directory / "train"),
                summary_manager=train,
                eval_summary_dir=str(self.directory / "validation"),
                eval_summary_manager=validation,
                train_actions=[self._after_loop(train)],
                eval_actions=self._after_validation(validator, validation),
            )

    def _after_loop(self, manager: Any) -> Look:
        def show(output: dict[str, Any]) -> None:
            self._check_loss(output["loss"])
            self.console.loop(self.step, output)
            summaries.write_histograms(output, manager.summary_writer(), self.step)

        return show

    def _check_loss(self, loss: float) -> None:
        largest = self.options.largest_loss
        if largest is not None and loss > largest:
            raise DivergedError(
                f"the loss is {loss:.4g} in the loop that ended at step {self.step}, more than "
                f"trainer.largest_loss, {largest:.4g}; lower the learning rate."
            )

    def _after_validation(self, validator: Evaluator | None, manager: Any) -> list[Look]:
        if validator is None:
            return []
        modules, examples = self.task.training_modules, examples_of(self.task, "validation")
        drawn = summaries.ActivityPictures(
            modules.model, examples, self.options.pictures, self.seed
        )

        def show(output: dict[str, Any]) -> None:
            self.console.line(f"validation at step {self.step} | {format_metrics(output)}")
            writer = manager.summary_writer()
            summaries.write_histograms(output, writer, self.step)
            weights = summaries.weight_histograms(modules.model)
            summaries.write_histograms(weights, writer, self.step)
            drawn.write(writer, self.step)
            self._draw(modules.evaluator.plot_maker, validator, writer)

        return [show, *map(self._heeded, self.actions)]

    def _draw(self, plot_maker: Any, validator: Evaluator, writer: Any) -> None:
        """Pictures of predictions, where they are due; a run does not end over one that fails."""
        evaluation = self.step // self.options.validation_interval
        if plot_maker is None or not self.options.pictures or not plot_maker.due(evaluation):
            return
        try:
            figures = plot_maker.figures(validator.drawn)
            plot_maker.write(figures, writer, self.step, self.directory)
        except Exception as error:  # whatever a plotter of the user's raises
            self.console.line(f"pictures left out: {type(error).__name__}: {error}")

    def _heeded(self, action: Action) -> Look:
        """The action, with a line of what it changed; whether it stops is asked by the run."""

        def act(output: dict[str, Any]) -> None:
            with contextlib.suppress(StopTraining):
                action(output)
            if action.news:
                self.console.line(f"{action.name}: {action.news}")

        return act


def actions_for(options: TrainingOptions) -> list[Action]:
    """The actions that the options ask for; those that may stop come last, so that all see it."""
    metric, higher = options.best_metric, options.higher_is_better
    actions: list[Action] = []
    if options.batch_size_patience is not None and options.max_batch_size is not None:
        largest = options.max_batch_size
        actions.append(
            RaiseBatchSizeOnPlateau(
                metric, options.batch_size_patience, largest, higher_is_better=higher
            )
        )
    if options.rate_patience is not None:
        actions.append(
            LowerLearningRateOnPlateau(
                metric, options.rate_patience, options.rate_factor, higher_is_better=higher
            )
        )
    if options.stop_at is not None:
        actions.append(StopOnThreshold(metric, options.stop_at, higher))
    if options.patience is not None:
        actions.append(Patience(metric, options.patience, higher))
    if options.max_hours is not None:
        actions.append(StopAfter(3600 * options.max_hours))
    return actions
