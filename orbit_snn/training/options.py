"""How long to train, and how often to look, save and validate."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run; every interval is in steps, one step a batch.

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
      pictures: validation examples that are drawn at every evaluation.
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

    def __post_init__(self) -> None:
        for name in ("train_steps", "batch_size", "steps_per_loop", "max_to_keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        for name in ("checkpoint_interval", "validation_interval"):
            value = getattr(self, name)
            if value < 1 or value % self.steps_per_loop:
                raise ValueError(
                    f"{name} is {value}; expected a multiple of steps_per_loop, "
                    f"{self.steps_per_loop}, for it is looked at between loops only."
                )
