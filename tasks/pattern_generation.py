"""Pattern generation: a sum of four sines out of a frozen, random input.

Bellec et al., Nat. Commun. 11:3625 (2020), Fig. S7, with the constants of its published tutorial.
The input and the target are drawn once from the run's seed; every iteration presents the same
second.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.data import from_arrays
from orbit_snn.database import SPLITS, Database
from orbit_snn.graph import NMSE, InputNode, NetworkNode, SquaredError, assemble_for_training
from orbit_snn.models import ModelConfig, build_network
from orbit_snn.seeds import derive
from orbit_snn.training import Compare, PlotMaker, Task, Traces

PERIODS_MS = (1000, 500, 333, 200)


@dataclasses.dataclass
class PatternGenerationConfig(experiments.TaskConfig):
    """One second of input and target.

    Attributes:
      steps: length of the pattern.
      inputs: number of input neurons.
      input_rate_hz: of their frozen Poisson spikes.
      model: the network.
      regularizer: what is added to the loss.
    """

    name: str = "pattern_generation"
    steps: int = ranged(1000, low=2)
    inputs: int = ranged(100, low=1)
    input_rate_hz: float = ranged(50.0, above=0.0)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    regularizer: experiments.RegularizerConfig = dataclasses.field(
        default_factory=experiments.RegularizerConfig
    )

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        probability = self.input_rate_hz * self.model.dt_ms / 1000.0
        noise = np.random.default_rng(derive(seed, "pattern", "inputs"))
        spikes = noise.random((1, self.steps, self.inputs)) < probability
        target = sum_of_sines(self.steps, derive(seed, "pattern", "target"))
        kind = tf.as_dtype(dtype).as_numpy_dtype
        arrays = {"inputs": spikes.astype(kind), "target": target[np.newaxis].astype(kind)}
        database = Database(dict.fromkeys(SPLITS, from_arrays(arrays)))
        network = build_network(self.model, self.inputs, 1, seed, dtype, "task.model")
        net = NetworkNode("network", InputNode("inputs"), network, db_name="target")
        losses = experiments.reported(
            SquaredError.of_node(net.output), self.regularizer.penalties(net), "squared_error"
        )
        metrics = {**losses, "nmse": NMSE.of_node(net.output)}
        pictures = PlotMaker(Traces(net.output, examples=1), Compare(net.output))
        assembled = assemble_for_training(losses["loss"], metrics, plot_maker=pictures)
        return Task(*assembled, database)


def sum_of_sines(steps: int, seed: int) -> np.ndarray:
    """The target, `[steps, 1]`: four sines, from 0 on, of largest absolute value 1.

    Amplitudes are uniform in [0.5, 2], phases in [0, 2 pi]; the first value is taken off the sum.
    """
    draw = np.random.default_rng(seed)
    total = np.zeros(steps)
    for period in PERIODS_MS:
        cycles = max(1, steps // period)
        phase = draw.uniform(0.0, 2.0 * np.pi)
        amplitude = draw.uniform(0.5, 2.0)
        total += amplitude * np.sin(np.linspace(phase, phase + 2.0 * np.pi * cycles, steps))
    total -= total[0]
    return (total / np.abs(total).max())[:, np.newaxis]


@experiments.register("pattern_generation")
def pattern_generation() -> experiments.ExperimentConfig:
    """100 LIF neurons, one readout, the constants of the paper; Adam.

    The gradient goes through the reset: without it, it grows without bound over 1000 steps.
    """
    config = experiments.ExperimentConfig(task=PatternGenerationConfig())
    neuron = {
        "tau_mem_ms": 30.0,
        "threshold": 0.03,
        "input_gain": "one_minus_decay",
        "reset": {"gradient": True},
    }
    config.task.override(
        {
            "model": {
                "units": [100],
                "neuron": {"type": "lif", "lif": neuron},
                "readout": {
                    "neuron": {"tau_mem_ms": 30.0, "input_gain": "one_minus_decay"},
                    "bias": False,
                },
            }
        }
    )
    config.trainer.override(
        {
            "train_steps": 500,
            "batch_size": 1,
            "steps_per_loop": 20,
            "checkpoint_interval": 100,
            "validation_interval": 100,
            "clip_norm": 1.0,
            "pictures": 1,
            "optimizer_config": experiments.adam(3e-3).as_dict(),
        }
    )
    return config
