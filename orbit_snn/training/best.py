"""The checkpoint with the best validation."""

import pathlib
from collections.abc import Mapping
from typing import Any

from orbit_snn.training.actions import Action, Best, number
from orbit_snn.training.checkpoints import Checkpoints
from orbit_snn.training.directory import write_json


class KeepBest(Action):
    """Saves a checkpoint whenever a validation is better than all before it.

    What is written besides, `best.json`, is for people; the best value is in the checkpoints.

    Args:
      metric: name among the results of a validation.
      higher_is_better: whether a larger value is better.
      checkpoints: where it is saved.
      directory: the same, for `best.json`; None for a process that does not write.
    """

    def __init__(
        self,
        metric: str,
        higher_is_better: bool,
        checkpoints: Checkpoints,
        directory: pathlib.Path | None,
    ):
        super().__init__("keep_best")
        self._metric = metric
        self._best = Best(higher_is_better)
        self._save = checkpoints.save  # a method, for its items are saved by themselves
        self._directory = directory

    def observe(self, output: Mapping[str, Any]) -> None:
        """Saves where the validation is the best so far."""
        if not self._best.push(number(output, self._metric)):
            return
        step = int(self.trainer.global_step.numpy())
        self._save(step)
        if self._directory is not None:
            found = {"metric": self._metric, "value": self._best.value, "step": step}
            write_json(self._directory / "best.json", found)

    @property
    def stopped(self) -> str:
        """Nothing: it does not end training."""
        return ""
