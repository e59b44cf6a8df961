"""Lorenz: a spiking network learns a chaotic system by FORCE and goes on by itself."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from orbit_snn import experiments
from orbit_snn.graph import DatasetLoss, assemble_for_training
from orbit_snn.graph.algebra import LossNode
from orbit_snn.tasks.spiking_force import learning_once
from orbit_snn.tasks.spiking_network import ScheduleConfig, SpikingNetworkConfig, taught
from orbit_snn.training import PlotMaker, Plotter, Raster, Task, Traces

SIGMA, RHO, BETA, SCALE = 10.0, 28.0, 8.0 / 3.0, 70.0


@dataclasses.dataclass
class LorenzConfig(experiments.TaskConfig):
    """A network of spiking neurons, and three readouts that are to be the Lorenz system.

    Two chaotic systems part, so after learning it is the attractor that counts: `spread` compares
    how often each value is taken, as the mean distance between sorted values of outputs and target
    (Wasserstein's), over the target's standard deviation. `rmse` is the error while it learns.

    Attributes:
      model: the network.
      schedule: when the readouts learn.
    """

    name: str = "lorenz"
    model: SpikingNetworkConfig = dataclasses.field(default_factory=SpikingNetworkConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        made = taught(self.model, self.schedule, trajectory, seed, dtype)
        output = made.net.output
        metrics = {
            **made.metrics,
            "spread": DatasetLoss("spread", spread, output.pred, output.true),
        }

        def draw(values: Mapping[LossNode, Any]) -> dict[str, Figure]:
            shown = (values[each][0] for each in (output.pred, output.true))
            return {"": attractor_figure(*shown)}

        attractor = Plotter("attractor", (output.pred, output.true), draw, examples=1)
        pictures = PlotMaker(attractor, Traces(output, examples=1), Raster(made.net, examples=1))
        assembled = assemble_for_training(made.loss, metrics, plot_maker=pictures)
        return Task(*assembled, made.database)


def trajectory(steps: int, step_s: float) -> np.ndarray:
    """The Lorenz system over `SCALE`, from (0.1, 0.1, 0.1) on by Euler steps, `[steps, 3]`."""
    found = np.empty([steps, 3])
    x = y = z = 0.1
    for row in found:
        row[:] = x, y, z
        dx = SIGMA * (y - x)
        dy = x * (RHO - SCALE * z) - y
        dz = SCALE * x * y - BETA * z
        x, y, z = x + step_s * dx, y + step_s * dy, z + step_s * dz
    return found


def spread(pred: np.ndarray, true: np.ndarray) -> float:
    """Wasserstein distance of values, over the target's standard deviation; mean of outputs."""
    pred, true = (np.sort(np.asarray(x), axis=1) for x in (pred, true))
    return float(np.mean(np.abs(pred - true).mean(axis=1) / true.std(axis=1)))


def attractor_figure(pred: np.ndarray, true: np.ndarray) -> Figure:
    """Draws x against z, of the target and of the readouts, `[T, 3]` each."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, x, title in zip(axes, (true, pred), ("target", "network"), strict=True):
        every = max(1, len(x) // 20_000)
        ax.plot(x[::every, 0], x[::every, 2], linewidth=0.5, color="#1f4e79")
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_xlabel("x")
        ax.spines[["top", "right"]].set_visible(False)
    low, high = true.min(axis=0), true.max(axis=0)
    margin = 0.3 * (high - low)
    axes[0].set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylabel="z")
    axes[0].set_ylim(low[2] - margin[2], high[2] + margin[2])
    return figure


@experiments.register("lorenz")
def lorenz() -> experiments.ExperimentConfig:
    """Theta neurons as in Nicola & Clopath (2017): they took 5000, these are 1000.

    Learning from 5 to 50 s of 100, at every 50th step of 10 us; P starts at dt.
    """
    model = {
        "units": 1000,
        "neuron": {"type": "theta"},
        "dt_ms": 0.01,
        "gain": 15.0,
        "feedback_gain": 1e4,
        "first_v": [-np.pi, np.pi],
    }
    config = learning_once(LorenzConfig(), model, window=50, alpha=1e5)
    seconds = {"quiet_seconds": 5.0, "learning_seconds": 45.0, "free_seconds": 50.0}
    config.task.override({"schedule": {**seconds, "test_seconds": 20.0}})
    return config
