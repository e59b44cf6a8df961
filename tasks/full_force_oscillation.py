"""Full-FORCE: a network generates an oscillation whose frequency sweeps up and down, on a cue."""

import dataclasses

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.data import Examples, from_arrays
from orbit_snn.database import Database
from orbit_snn.graph import MSE, During, Mean, assemble_for_training
from orbit_snn.tasks.full_force import FullForceConfig, ahead, full_force
from orbit_snn.tasks.reservoir import least_squares
from orbit_snn.training import Compare, PlotMaker, Task, Traces

STEP_MS = 1.0
LOW_HZ, HIGH_HZ = 1.0, 3.0
"""Of `t omega(t)`: its own frequency, the derivative, goes from 1 to 5."""


@dataclasses.dataclass
class FullForceOscillationConfig(experiments.TaskConfig):
    """Trials without a gap between them; a pulse starts each.

    The first trials of a sequence, in which the network finds into its rhythm, are learned from
    like the others but not part of `error`, the sum of squared errors over that of squared targets.

    Attributes:
      model: both networks.
      half_steps: in which the frequency goes up; in as many more it goes down.
      pulse_steps: duration of the pulse.
      trials: in the sequence to learn from.
      test_trials: in that of evaluation.
      settling_trials: the first of each.
    """

    name: str = "full_force_oscillation"
    model: FullForceConfig = dataclasses.field(default_factory=FullForceConfig)
    half_steps: int = ranged(1000, low=1)
    pulse_steps: int = ranged(50, low=1)
    trials: int = ranged(103, low=1)
    test_trials: int = ranged(13, low=1)
    settling_trials: int = ranged(3, low=0)

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        database = Database(
            {
                "train": self.examples(self.trials, dtype),
                "validation": self.examples(self.test_trials, dtype),
                "test": self.examples(self.test_trials, dtype),
            }
        )
        net, error = full_force(self.model, 1, 1, 1, STEP_MS, seed, dtype)
        net.output.db_name = "target"
        tested = During("tested_output", net.output, "tested", db_name="target")
        loss = error + MSE.of_node(net.output)
        metrics = {
            "loss": loss,
            "current": error,
            "error": MSE.of_node(tested) / Mean(tested.true**2),
        }
        pictures = PlotMaker(Traces(net.output, examples=1), Compare(net.output))
        return Task(*assemble_for_training(loss, metrics, plot_maker=pictures), database)

    def examples(self, trials: int, dtype: tf.DType) -> Examples:
        """A sequence of so many trials; all features are `[T, 1]` but `tested`, `[T]`."""
        wave = chirp(self.half_steps)
        target = np.tile(wave, trials)[:, np.newaxis]
        step = np.arange(len(target))
        features = {
            "shared": (step % len(wave) < self.pulse_steps)[:, np.newaxis],
            "private": target,
            "ahead": ahead(target),
            "target": target,
        }
        kind = dtype.as_numpy_dtype
        arrays = {name: x[np.newaxis].astype(kind) for name, x in features.items()}
        tested = step >= self.settling_trials * len(wave)
        return from_arrays({**arrays, "tested": tested[np.newaxis]})


def chirp(half: int) -> np.ndarray:
    """`sin(t omega(t))` with omega rising in a line for `half` steps; then it, reversed, minus."""
    t = np.arange(half) * STEP_MS / 1000.0
    rising = np.sin(2.0 * np.pi * t * np.linspace(LOW_HZ, HIGH_HZ, half))
    return np.concatenate([rising, -rising[::-1]])


@experiments.register("full_force_oscillation")
def full_force_oscillation() -> experiments.ExperimentConfig:
    """The oscillation of DePasquale et al. (2018): 300 units, learning for 103 trials."""
    return least_squares(
        FullForceOscillationConfig(),
        {"strategy": "inputs", "window": 2, "corrected": True},
        passes=1,
        interval=1,
    )
