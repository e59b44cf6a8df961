"""FORCE: a random network learns to generate a sum of sines on its own."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.connections import Dense
from orbit_snn.data import from_arrays
from orbit_snn.database import SPLITS, Database
from orbit_snn.graph import MAE, MSE, NMSE, InputNode, NetworkNode, assemble_for_training
from orbit_snn.networks import Network
from orbit_snn.neurons import LeakyIntegrator, LeakyTanh
from orbit_snn.seeds import derive
from orbit_snn.training import Compare, PlotMaker, Task, Traces

WAVES = ((1, 1.0), (2, 1 / 2), (3, 1 / 6), (4, 1 / 3))
"""Harmonic and amplitude of each sine of the target."""
LEAK = 0.1
"""Of a step, dt / tau: `x <- (1 - LEAK) x + LEAK I`."""


@dataclasses.dataclass
class ForceSinesConfig(experiments.TaskConfig):
    """A network of rate units whose readout feeds back, and a periodic target.

    Every sequence starts in the same state, which the first step's input sets: 0.5 N(0, 1) for
    every unit.

    Attributes:
      units: N.
      density: which part of the recurrent weights there is.
      gain: g: of the recurrent weights, `g N(0, 1) / sqrt(density N)`.
      amplitude: of the sum of sines.
      period_steps: of the target; a step is a tenth of the units' time constant.
      periods: in a sequence.
    """

    name: str = "force_sines"
    units: int = ranged(1000, low=1)
    density: float = ranged(0.1, above=0.0, high=1.0)
    gain: float = ranged(1.5, low=0.0)
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
        with tf.name_scope("network"):
            network = self._network(seed, dtype)
        net = NetworkNode("network", InputNode("pulse"), network, db_name="target")
        loss = MSE.of_node(net.output)
        metrics = {"loss": loss, "mae": MAE.of_node(net.output), "nmse": NMSE.of_node(net.output)}
        pictures = PlotMaker(Traces(net.output, examples=1), Compare(net.output))
        return Task(*assemble_for_training(loss, metrics, plot_maker=pictures), database)

    def _network(self, seed: int, dtype: tf.DType) -> Network:
        units, fixed = self.units, {"trainable": False, "dtype": dtype}

        def sparse(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
            draw = np.random.default_rng(derive(seed, "recurrent"))
            there = draw.random(shape) < self.density
            weights = draw.normal(size=shape) * there / math.sqrt(self.density * units)
            return tf.constant(weights, dtype)

        def between(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
            draw = np.random.default_rng(derive(seed, "feedback"))
            return tf.constant(draw.uniform(-1.0, 1.0, size=shape), dtype)

        first = derive(seed, "first state")
        hidden = Cell(
            LeakyTanh(units, tau_mem_ms=-1.0 / math.log(1.0 - LEAK), dtype=dtype),
            Dense(1, units, initializer="standard_normal", gain=0.5 / LEAK, seed=first, **fixed),
            Dense(units, units, initializer=sparse, gain=self.gain, **fixed),
        )
        instant = LeakyIntegrator(1, tau_mem_ms=1e-3, dtype=dtype)
        readout = Cell(instant, Dense(units, 1, initializer="zeros", dtype=dtype))
        feedback = Dense(1, units, initializer=between, **fixed)
        return Network([hidden], readout, feedback={"output": feedback})


def sines(steps: int, period: int) -> np.ndarray:
    """The sum of `WAVES`, `[steps]`."""
    phase = 2.0 * np.pi * np.arange(1, steps + 1) / period
    return np.sum([weight * np.sin(k * phase) for k, weight in WAVES], axis=0)


@experiments.register("force_sines")
def force_sines() -> experiments.ExperimentConfig:
    """Figure 1A of Sussillo & Abbott (Neuron 63, 2009): 1000 units, learning at every second step.

    Ten sequences of two periods; the held-out one is the same sequence without learning.
    """
    config = experiments.ExperimentConfig(task=ForceSinesConfig())
    config.learning.override(
        {"type": "rls", "rls": {"strategy": "inputs", "window": 2, "rows": "last"}}
    )
    config.trainer.override(
        {
            "train_steps": 10,
            "batch_size": 1,
            "steps_per_loop": 1,
            "checkpoint_interval": 5,
            "validation_interval": 5,
            "pictures": 1,
        }
    )
    return config
