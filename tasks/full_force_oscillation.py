"""Full-FORCE: a network generates an oscillation whose frequency sweeps up and down, on a cue."""

import dataclasses

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.data import from_arrays
from orbit_snn.database import SPLITS, Database
from orbit_snn.graph import MSE, MeanSq, assemble_for_training
from orbit_snn.tasks.full_force import FullForceConfig, features, full_force, target_weights
from orbit_snn.tasks.reservoir import least_squares
from orbit_snn.training import Compare, PlotMaker, Task, Traces

STEP_MS = 1.0
SETTLING_TRIALS = 5
LOW_HZ, HIGH_HZ = 1.0, 3.0
"""Of `t omega(t)`: its own frequency, the derivative, goes from 1 to 5."""


@dataclasses.dataclass
class FullForceOscillationConfig(experiments.TaskConfig):
    """Trials without a gap between them; a pulse starts each.

    Sequences start where the target network is when a trial begins. `error` is the sum of squared
    errors over that of squared targets.

    Attributes:
      model: both networks.
      half_steps: in which the frequency goes up; in as many more it goes down.
      pulse_steps: duration of the pulse.
      trials: in a sequence.
    """

    name: str = "full_force_oscillation"
    model: FullForceConfig = dataclasses.field(default_factory=FullForceConfig)
    half_steps: int = ranged(1000, low=1)
    pulse_steps: int = ranged(50, low=1)
    trials: int = ranged(10, low=1)

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        wave = chirp(self.half_steps)[:, np.newaxis]
        pulse = (np.arange(len(wave)) < self.pulse_steps)[:, np.newaxis].astype(np.float64)
        given = features(np.tile(pulse, [self.trials, 1]), np.tile(wave, [self.trials, 1]))
        kind = tf.as_dtype(dtype).as_numpy_dtype
        arrays = {name: x.numpy()[np.newaxis].astype(kind) for name, x in given.items()}
        database = Database(dict.fromkeys(SPLITS, from_arrays(arrays)))

        weights = target_weights(self.model, 1, 1, seed)
        settling = (np.tile(x, [SETTLING_TRIALS, 1]) for x in (pulse, wave))
        start = weights.settled(*settling)
        net, wanted = full_force(weights, 1, start, STEP_MS, dtype)
        net.output.db_name = "ahead"
        error = MSE(net.current.pred, wanted.pred)
        loss = error + MSE.of_node(net.output)
        share = MSE.of_node(net.output) / MeanSq(net.output.true)
        metrics = {"loss": loss, "current": error, "error": share}
        pictures = PlotMaker(Traces(net.output, examples=1), Compare(net.output))
        return Task(*assemble_for_training(loss, metrics, plot_maker=pictures), database)


def chirp(half: int) -> np.ndarray:
    """`sin(t omega(t))` with omega rising in a line for `half` steps; then it, reversed, minus."""
    t = np.arange(half) * STEP_MS / 1000.0
    rising = np.sin(2.0 * np.pi * t * np.linspace(LOW_HZ, HIGH_HZ, half))
    return np.concatenate([rising, -rising[::-1]])


@experiments.register("full_force_oscillation")
def full_force_oscillation() -> experiments.ExperimentConfig:
    """The oscillation of DePasquale et al. (2018): 300 units, 100 trials in ten sequences.

    Every second step learning happens, as published, but from both steps; in double precision, for
    what single precision leaves of P makes some seeds fall out of phase on their own.
    """
    rule = {
        "strategy": "inputs",
        "window": 2,
        "rows": "all",
        "corrected": True,
        "kernel": {"alpha": 0.01},
    }
    config = least_squares(FullForceOscillationConfig(), rule, passes=10, interval=5)
    config.runtime.dtype = "float64"
    return config
