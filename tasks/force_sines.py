"""FORCE: a random network learns to generate a sum of sines on its own."""

import dataclasses

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.data import from_arrays
from orbit_snn.database import SPLITS, Database
from orbit_snn.graph import MAE, MSE, NMSE, InputNode, NetworkNode, assemble_for_training
from orbit_snn.tasks.reservoir import LEAK, ReservoirConfig, least_squares, reservoir
from orbit_snn.training import Compare, PlotMaker, Task, Traces

WAVES = ((1, 1.0), (2, 1 / 2), (3, 1 / 6), (4, 1 / 3))
"""Harmonic and amplitude of each sine of the target."""
STEP_MS = 100.0


@dataclasses.dataclass
class ForceSinesConfig(experiments.TaskConfig):
    """A network of rate units whose readout feeds back, and a periodic target.

    Every sequence starts in the same state, which the first step's input sets: 0.5 N(0, 1) for
    every unit.

    Attributes:
      model: the network.
      amplitude: of the sum of sines.
      period_steps: of the target; a step is a tenth of a second and of the time constant.
      periods: in a sequence.
    """

    name: str = "force_sines"
    model: ReservoirConfig = dataclasses.field(default_factory=ReservoirConfig)
    amplitude: float = 1.3 / 1.5
    period_steps: int = ranged(1200, low=2)
    periods: int = ranged(2, low=1)

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        steps = self.period_steps * self.periods
        target = self.amplitude * sines(steps, self.period_steps)
        features = {"pulse": np.arange(steps) == 0, "target": target}
        kind = tf.as_dtype(dtype).as_numpy_dtype
        arrays = {name: x[None, :, None].astype(kind) for name, x in features.items()}
        database = Database(dict.fromkeys(SPLITS, from_arrays(arrays)))
        network = reservoir(self.model, 1, 1, 0.5 / LEAK, STEP_MS, seed, dtype)
        net = NetworkNode("network", InputNode("pulse"), network, db_name="target")
        loss = MSE.of_node(net.output)
        metrics = {"loss": loss, "mae": MAE.of_node(net.output), "nmse": NMSE.of_node(net.output)}
        pictures = PlotMaker(Traces(net.output, examples=1), Compare(net.output))
        return Task(*assemble_for_training(loss, metrics, plot_maker=pictures), database)


def sines(steps: int, period: int) -> np.ndarray:
    """The sum of `WAVES`, `[steps]`."""
    phase = 2.0 * np.pi * np.arange(1, steps + 1) / period
    return np.sum([weight * np.sin(k * phase) for k, weight in WAVES], axis=0)


@experiments.register("force_sines")
def force_sines() -> experiments.ExperimentConfig:
    """Figure 1A of Sussillo & Abbott (Neuron 63, 2009): 1000 units, learning at every second step.

    Ten sequences of two periods; the held-out one is the same sequence without learning.
    """
    return least_squares(
        ForceSinesConfig(), {"strategy": "inputs", "window": 2}, passes=10, interval=5
    )
