"""Spiking FORCE: a random network of spiking neurons learns to oscillate."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.graph import DatasetLoss, assemble_for_training
from orbit_snn.tasks.reservoir import least_squares
from orbit_snn.tasks.spiking_network import ScheduleConfig, SpikingNetworkConfig, taught
from orbit_snn.training import PlotMaker, Raster, Task, Traces


@dataclasses.dataclass
class SpikingForceConfig(experiments.TaskConfig):
    """A network of spiking neurons, one readout that feeds back, and a sine.

    `rmse` is the error while the readout learns, `rmse_after` that of the first second after it.
    Both are of training, where the network runs from the start; evaluation starts it anew and
    without learning, which takes its own phase, so `rmse_shifted` is that at the best shift.

    Attributes:
      model: the network.
      schedule: when the readout learns.
      frequency_hz: of the sine.
    """

    name: str = "spiking_force"
    model: SpikingNetworkConfig = dataclasses.field(default_factory=SpikingNetworkConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    frequency_hz: float = ranged(5.0, above=0.0)

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        made = taught(self.model, self.schedule, self.sine, seed, dtype)
        output = made.net.output
        shifted = DatasetLoss("rmse_shifted", self.shifted, output.pred, output.true)
        metrics = {**made.metrics, "rmse_shifted": shifted}
        pictures = PlotMaker(Traces(output, examples=1), Raster(made.net, examples=1))
        assembled = assemble_for_training(made.loss, metrics, plot_maker=pictures)
        return Task(*assembled, made.database)

    def sine(self, steps: int, step_s: float) -> np.ndarray:
        """What is to be learned, `[steps, 1]`."""
        time = np.arange(steps) * step_s
        return np.sin(2.0 * np.pi * self.frequency_hz * time)[:, np.newaxis]

    def shifted(self, pred: np.ndarray, true: np.ndarray) -> float:
        """Root mean squared error of the last second at the best shift within a period."""
        second = round(1e3 / self.model.dt_ms)
        period = round(second / self.frequency_hz)
        given, wanted = np.asarray(pred)[0, -second:, 0], np.asarray(true)[0, -second:, 0]
        rolled = (np.roll(wanted, shift) for shift in range(0, period, max(1, period // 200)))
        return float(min(np.sqrt(np.mean((given - each) ** 2)) for each in rolled))


LIF = {
    "type": "voltage_lif",
    "voltage_lif": {
        "tau_mem_ms": 10.0,
        "rest_mv": -40.0,
        "reset_mv": -65.0,
        "threshold_mv": -40.0,
        "refractory_ms": 2.0,
    },
}


def learning_once(
    task: experiments.TaskConfig, model: dict[str, Any], window: int, alpha: float
) -> experiments.ExperimentConfig:
    """An experiment of one sequence, in which a readout learns at every `window`-th step."""
    rule = {"strategy": "inputs", "window": window, "kernel": {"alpha": alpha}}
    config = least_squares(task, rule, passes=1, interval=1)
    config.task.override({"model": model})
    return config


@experiments.register("spiking_force")
def spiking_force() -> experiments.ExperimentConfig:
    """2000 LIF neurons and a sine of 5 Hz, learning every 2.5 ms for 5 s; P starts at dt."""
    return learning_once(SpikingForceConfig(), {"neuron": LIF}, window=50, alpha=2e4)
