"""How long to train, how often to look, save and validate, and what follows from a validation."""

import dataclasses
import math

_LEAST = {"eval_batch_size": 1, "patience": 1, "batch_size_patience": 0, "rate_patience": 0}
_WATCHES = ("patience", "stop_at", "batch_size_patience", "rate_patience")


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run; every interval is in steps, one step a batch.

    What depends on validations looks at `best_metric` in each of them, where a larger value is
    better or not as `higher_is_better` says, NaN is the worst and an equal value is not better.

    Attributes:
      train_steps: the run is complete at this step.
      batch_size: examples of all replicas together.
      eval_batch_size: the same for evaluation; default `batch_size`.
      steps_per_loop: steps between two looks from outside: log line, summaries, signals.
      checkpoint_interval: between two checkpoints.
      validation_interval: between two evaluations of the validation examples.
      max_to_keep: checkpoints that are kept.
      best_metric: validation metric by which the best checkpoint is kept; empty for none.
      higher_is_better: whether a larger `best_metric` is better.
      clip_norm: largest global norm of a gradient, None for no limit.
      pictures: validation examples whose activity is drawn at every evaluation; 0 for no pictures
        at all, those of a plot maker included.
      patience: training stops when this many validations in a row were not better than the best
        one; None for never.
      stop_at: training stops when `best_metric` reaches this value; None for never.
      max_hours: training stops at the first validation after this wall time of all sessions
        together; None for no limit.
      batch_size_patience: the batch size is doubled after more than this many validations in a
        row that were not better; None for never.
      max_batch_size: the batch size is not raised above it, the learning rate is halved instead;
        needed with `batch_size_patience`.
      rate_patience: the learning rate is lowered after more than this many validations in a row
        that were not better; None for never.
      rate_factor: what the learning rate is multiplied by then.
      keep: which checkpoint is evaluated at the end, `last` or `best`.
      largest_loss: a loss above it counts as diverged, like one that is not finite; None for any.
      roll_backs: how often a run that diverged goes back to its last checkpoint with a smaller
        learning rate; after that, or with 0, it ends.
      roll_back_factor: what the learning rate is multiplied by then.
      fall_back: go on from an older checkpoint where the newest cannot be read.
    """

    train_steps: int = 1000
    batch_size: int = 64
    eval_batch_size: int | None = None
    steps_per_loop: int = 50
    checkpoint_interval: int = 250
    validation_interval: int = 250
    max_to_keep: int = 5
    best_metric: str = ""
    higher_is_better: bool = True
    clip_norm: float | None = None
    pictures: int = 2
    patience: int | None = None
    stop_at: float | None = None
    max_hours: float | None = None
    batch_size_patience: int | None = None
    max_batch_size: int | None = None
    rate_patience: int | None = None
    rate_factor: float = 0.5
    keep: str = "last"
    largest_loss: float | None = None
    roll_backs: int = 0
    roll_back_factor: float = 0.5
    fall_back: bool = True

    def __post_init__(self) -> None:
        for name in ("train_steps", "batch_size", "steps_per_loop", "max_to_keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        if self.pictures < 0:
            raise ValueError(f"pictures is {self.pictures}; expected 0 or more.")
        for name in ("checkpoint_interval", "validation_interval"):
            value = getattr(self, name)
            if value < 1 or value % self.steps_per_loop:
                raise ValueError(
                    f"{name} is {value}; expected a multiple of steps_per_loop, "
                    f"{self.steps_per_loop}, for it is looked at between loops only."
                )
        self._check_ranges()
        self._check_batch_sizes()
        self._check_watching()

    def _check_ranges(self) -> None:
        """Raises ValueError for the first value that no validation could mean anything for."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; expected {least} or more, or none at all.")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(f"clip_norm is {self.clip_norm}; expected more than 0 or none at all.")
        if self.stop_at is not None and not math.isfinite(self.stop_at):
            raise ValueError(f"stop_at is {self.stop_at}; expected a finite number or none at all.")
        if self.max_hours is not None and not self.max_hours > 0:
            raise ValueError(f"max_hours is {self.max_hours}; expected more than 0 or none at all.")
        if not 0 < self.rate_factor < 1:
            raise ValueError(f"rate_factor is {self.rate_factor}; expected it between 0 and 1.")
        if self.largest_loss is not None and not self.largest_loss > 0:
            raise ValueError(
                f"largest_loss is {self.largest_loss}; expected more than 0 or none at all."
            )
        if self.roll_backs < 0:
            raise ValueError(f"roll_backs is {self.roll_backs}; expected 0 or more.")
        if not 0 < self.roll_back_factor < 1:
            raise ValueError(
                f"roll_back_factor is {self.roll_back_factor}; expected it between 0 and 1."
            )
        if self.keep not in ("last", "best"):
            raise ValueError(f"keep is {self.keep!r}; expected last or best.")

    def _check_batch_sizes(self) -> None:
        """Raises ValueError where the batch size has no room to grow or no occasion to."""
        patience, largest = self.batch_size_patience, self.max_batch_size
        if (patience is None) != (largest is None):
            raise ValueError(
                f"batch_size_patience is {patience} and max_batch_size is {largest}; set both or "
                "neither."
            )
        if largest is not None and largest < self.batch_size:
            raise ValueError(
                f"max_batch_size is {largest}; expected at least batch_size, {self.batch_size}."
            )

    def _check_watching(self) -> None:
        """Raises ValueError where something is to look at a metric and none is named."""
        asked = [name for name in _WATCHES if getattr(self, name) is not None]
        asked += ["keep"] if self.keep == "best" else []
        if asked and not self.best_metric:
            raise ValueError(
                f"{asked[0]} is {getattr(self, asked[0])}, but best_metric is empty; set that to "
                "the validation metric to look at."
            )
