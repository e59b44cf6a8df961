"""Training from one loop to the next: validations, checkpoints, signals, and what goes wrong."""

import dataclasses
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.signals import CODES, INTERRUPTED, StopSignals
from orbit_snn.training import workers
from orbit_snn.training.actions import Action
from orbit_snn.training.checkpoints import Checkpoints
from orbit_snn.training.console import Console
from orbit_snn.training.errors import DivergedError, RunDirectoryError, full_disk
from orbit_snn.training.lock import RunLock
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.recovery import RollBack, write_report
from orbit_snn.training.trainer import Trainer


@dataclasses.dataclass
class Loop:
    """Takes a run to its end, or to where it is stopped.

    Attributes:
      trainer: what trains.
      controller: of Orbit, which reports and validates.
      options: how long and how often.
      actions: may stop the run after a validation.
      checkpoints: where its state goes.
      restore: restores the newest checkpoint and gives its path, or None.
      roll_back: None where a run that diverges ends.
      lock: that the directory is this run's.
      directory: for reports.
      console: where its lines go.
      seed: of the run, for reports.
    """

    trainer: Trainer
    controller: Any
    options: TrainingOptions
    actions: Sequence[Action]
    checkpoints: Checkpoints
    restore: Callable[[], str | None]
    roll_back: RollBack | None
    lock: RunLock
    directory: pathlib.Path
    console: Console
    seed: int
    _asked: list[signal.Signals] = dataclasses.field(default_factory=list)

    def run(self) -> None:
        """Trains until the last step, or until an action or a signal stops it.

        Raises:
          KeyboardInterrupt: after SIGINT, when everything is saved.
          SystemExit: after SIGTERM, with exit code 42, when everything is saved.
          DivergedError: where training diverged and does not go back.
          RunDirectoryError: where the directory cannot be written any more.
        """
        with StopSignals(1, self.console.line) as signals, full_disk(self.directory):
            self.console.line(f"training from step {self.step} to {self.options.train_steps}")
            while not self.over:
                try:
                    self._advance(signals)
                except DivergedError as error:
                    self._go_back(error)
                    continue
                if (received := self._received(signals)) and not self.over:
                    self._leave(received)

    @property
    def step(self) -> int:
        """The global step."""
        return int(self.trainer.global_step.numpy())

    @property
    def stopped(self) -> str:
        """Why training is over, as an action says, or nothing."""
        return why_over(self.actions, self.trainer.strategy)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.options.train_steps or bool(self.stopped)

    def _advance(self, signals: StopSignals) -> None:
        """One loop, and the validation and the checkpoint that are due after it."""
        options, controller = self.options, self.controller
        stop = (self.step // options.steps_per_loop + 1) * options.steps_per_loop
        controller.train(min(stop, options.train_steps), checkpoint_at_completion=False)
        ended = self.step >= options.train_steps
        if controller.evaluator and (ended or self.step % options.validation_interval == 0):
            controller.evaluate(controller.evaluator.batches)
        due = self.step % options.checkpoint_interval == 0
        if due or self.over or self._received(signals):
            workers.decided(self.trainer.strategy, self._check_lock)
            self.checkpoints.save(self.step)

    def _check_lock(self) -> None:
        if self.lock.lost:
            raise RunDirectoryError(
                f"another process has taken over {self.directory}; nothing was saved at step "
                f"{self.step}. See to it that only one run uses a directory."
            )

    def _received(self, signals: StopSignals) -> signal.Signals | None:
        """The signal that any worker got, in the order of `CODES`; all leave by it."""
        if not self._asked:
            own, strategy = signals.received, self.trainer.strategy
            self._asked = [n for n in CODES if workers.agreed(strategy, own == n)]
        return self._asked[0] if self._asked else None

    def _leave(self, received: signal.Signals) -> None:
        self.console.line(
            f"stopped by {received.name} at step {self.step}, which is saved; the same command "
            "goes on from there"
        )
        if CODES[received] == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(CODES[received])

    def _go_back(self, error: DivergedError) -> None:
        """To the last checkpoint, with a smaller learning rate; or the error, with a report."""
        step, trainer = self.step, self.trainer
        facts = {
            "step": step,
            "seed": self.seed,
            "examples_seen": trainer.examples_seen,
            "batch_size": trainer.batch_size,
            "learning_rate": trainer.learning_rate,
        }
        variables = self.checkpoints.variables
        report = workers.decided(
            trainer.strategy,
            lambda: str(write_report(self.directory, error, facts, variables)),
        )
        back = self.roll_back
        if back is None or back.exhausted:
            raise type(error)(f"{error} What is known is in {report}.") from error
        count = back.count + 1
        self.restore()
        back.after_restoring(count)
        self.console.line(
            f"WARNING: diverged before step {step} ({error}) Back to step {self.step}, the "
            f"learning rate is now {trainer.learning_rate:.4g}; see {report}"
        )


def why_over(actions: Sequence[Action], strategy: tf.distribute.Strategy) -> str:
    """Why training is over, as an action of the chief says, or nothing."""
    reason = next((action.stopped for action in actions if action.stopped), "")
    return workers.same_everywhere(strategy, reason)
