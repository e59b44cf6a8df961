"""Spiking FORCE: a random network of spiking neurons learns to oscillate.

The readout of synaptic currents feeds back while least squares teaches it, and goes on alone when
learning stops (Nicola & Clopath, Nat. Commun. 8:2208, 2017). The configs have their constants for
LIF, theta and Izhikevich neurons; rates are in spikes a second everywhere.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.connections import Dense
from orbit_snn.data import Examples, from_arrays
from orbit_snn.database import Database
from orbit_snn.graph import MSE, DatasetLoss, During, InputNode, NetworkNode, assemble_for_training
from orbit_snn.models import NeuronConfig, build_neuron
from orbit_snn.networks import Network
from orbit_snn.neurons import Filtered, LeakyIntegrator, Neuron
from orbit_snn.seeds import derive
from orbit_snn.tasks.reservoir import least_squares, sparse_weights
from orbit_snn.training import PlotMaker, Raster, Task, Traces


@dataclasses.dataclass
class SpikingForceConfig(experiments.TaskConfig):
    """A network of spiking neurons, one readout that feeds back, and a sine.

    `rmse` is the error while the readout learns, `rmse_after` that of the first second after it.
    Both are of training, where the network runs from the start; evaluation starts it anew and
    without learning, which takes its own phase, so `rmse_shifted` is that at the best shift.

    Attributes:
      units: N.
      neuron: the model of all neurons.
      dt_ms: length of a step.
      decay_ms: of synaptic currents.
      rise_ms: of synaptic currents.
      density: which part of the recurrent weights there is.
      gain: G: these are `G N(0, 1) / (density sqrt(N))`.
      balanced: whether the recurrent weights onto each neuron have mean 0.
      feedback_gain: Q: weights from the readout back are uniform between minus and plus it.
      bias: constant current of every neuron.
      first_v: potentials at the start are uniform between these two.
      frequency_hz: of the sine.
      quiet_seconds: before the readout learns.
      learning_seconds: in which it does.
      free_seconds: after it.
      test_seconds: of evaluation, of which the last second counts.
    """

    name: str = "spiking_force"
    units: int = ranged(2000, low=1)
    neuron: NeuronConfig = dataclasses.field(default_factory=NeuronConfig)
    dt_ms: float = ranged(0.05, above=0.0)
    decay_ms: float = ranged(20.0, above=0.0)
    rise_ms: float = ranged(2.0, low=0.0)
    density: float = ranged(0.1, above=0.0, high=1.0)
    gain: float = ranged(0.04, low=0.0)
    balanced: bool = True
    feedback_gain: float = ranged(10.0, low=0.0)
    bias: float = 0.0
    first_v: list[float] = dataclasses.field(default_factory=lambda: [-65.0, 30.0])
    frequency_hz: float = ranged(5.0, above=0.0)
    quiet_seconds: float = ranged(5.0, low=0.0)
    learning_seconds: float = ranged(5.0, above=0.0)
    free_seconds: float = ranged(5.0, low=0.0)
    test_seconds: float = ranged(2.0, low=1.0)

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        database = Database(
            {
                "train": self.examples(dtype),
                "validation": self.examples(dtype, self.test_seconds),
                "test": self.examples(dtype, self.test_seconds),
            }
        )
        network = self._network(seed, dtype)
        net = NetworkNode("network", InputNode("inputs"), network, db_name="target")
        learned = During("learned_output", net.output, "learned", db_name="target")
        after = During("free_output", net.output, "after", db_name="target")
        loss = MSE.of_node(learned)
        metrics = {
            "loss": loss,
            "rmse": loss**0.5,
            "rmse_after": MSE.of_node(after) ** 0.5,
            "rmse_shifted": DatasetLoss(
                "rmse_shifted", self.shifted, net.output.pred, net.output.true
            ),
        }
        pictures = PlotMaker(Traces(net.output, examples=1), Raster(net, examples=1))
        return Task(*assemble_for_training(loss, metrics, plot_maker=pictures), database)

    def examples(self, dtype: tf.DType, seconds: float | None = None) -> Examples:
        """The one sequence: `inputs` `[T, 2]`, `target` `[T, 1]`, `learned` and `after` `[T]`.

        Args:
          dtype: of inputs and target.
          seconds: of a sequence without learning; default the one to learn from.
        """
        until = self.quiet_seconds + self.learning_seconds
        steps = round(1e3 * (seconds or until + self.free_seconds) / self.dt_ms)
        time = np.arange(steps) * self.dt_ms / 1e3
        learning = (time >= self.quiet_seconds) & (time < until)
        free = until if seconds is None else seconds - 1.0
        kind = dtype.as_numpy_dtype
        arrays = {
            "inputs": np.stack([time == 0.0, np.ones_like(time)], axis=1).astype(kind),
            "target": np.sin(2.0 * np.pi * self.frequency_hz * time)[:, None].astype(kind),
            "learned": learning if seconds is None else np.ones_like(learning),
            "after": (time >= free) & (time < free + 1.0),
        }
        return from_arrays({name: x[np.newaxis] for name, x in arrays.items()})

    def shifted(self, pred: np.ndarray, true: np.ndarray) -> float:
        """Root mean squared error of the last second at the best shift within a period."""
        second, period = round(1e3 / self.dt_ms), round(1e3 / self.dt_ms / self.frequency_hz)
        given, wanted = np.asarray(pred)[0, -second:, 0], np.asarray(true)[0, -second:, 0]
        rolled = (np.roll(wanted, shift) for shift in range(0, period, max(1, period // 200)))
        return float(min(np.sqrt(np.mean((given - each) ** 2)) for each in rolled))

    def _network(self, seed: int, dtype: tf.DType) -> Network:
        common = {"dt_ms": self.dt_ms, "dtype": dtype}
        neuron = build_neuron(self.neuron, self.units, self.dt_ms, dtype, "task.neuron")
        recurrent = sparse_weights(
            derive(seed, "recurrent"), self.units, self.density, self.balanced
        )
        recurrent *= self.gain / (self.density * np.sqrt(self.units))
        low, high = self.first_v
        starting = np.random.default_rng(derive(seed, "start")).uniform(low, high, self.units)
        given = {
            "inputs": np.stack(
                [first_current(neuron, starting) - self.bias, np.full(self.units, self.bias)]
            ),
            "recurrent": recurrent,
            "feedback": np.random.default_rng(derive(seed, "feedback")).uniform(
                -self.feedback_gain, self.feedback_gain, size=(1, self.units)
            ),
        }

        def made(name: str) -> Dense:
            weights = given[name]
            count, units = weights.shape
            taken = lambda shape, dtype: tf.constant(weights, dtype)  # noqa: E731
            return Dense(count, units, initializer=taken, trainable=False, dtype=dtype)

        with tf.name_scope("network"):
            heard = Filtered(neuron, self.decay_ms, self.rise_ms)
            instant = LeakyIntegrator(1, tau_mem_ms=1e-3 * self.dt_ms, **common)
            readout = Cell(instant, Dense(self.units, 1, initializer="zeros", dtype=dtype))
            hidden = Cell(heard, made("inputs"), made("recurrent"))
            return Network([hidden], readout, feedback={"output": made("feedback")})


def first_current(neuron: Neuron, v: np.ndarray) -> np.ndarray:
    """Currents `[N]` that take neurons at rest to potentials `[N]` in one step."""
    start = neuron.initial_state(1)
    shape = [1, neuron.units]
    alone = neuron.step(start, tf.zeros(shape, neuron.dtype)).v.numpy()[0].astype(np.float64)
    driven = neuron.step(start, tf.ones(shape, neuron.dtype)).v.numpy()[0].astype(np.float64)
    return (v - alone) / (driven - alone)


def _experiment(neuron: dict[str, Any], task: dict[str, Any], window: int, alpha: float) -> Any:
    rule = {"strategy": "inputs", "window": window, "kernel": {"alpha": alpha}}
    config = least_squares(SpikingForceConfig(), rule, passes=1, interval=1)
    config.task.override({"neuron": neuron, **task})
    return config


@experiments.register("spiking_force")
def spiking_force() -> experiments.ExperimentConfig:
    """2000 LIF neurons and a sine of 5 Hz, learning every 2.5 ms for 5 s; P starts at dt."""
    neuron = {
        "type": "voltage_lif",
        "voltage_lif": {
            "tau_mem_ms": 10.0,
            "rest_mv": -40.0,
            "reset_mv": -65.0,
            "threshold_mv": -40.0,
            "refractory_ms": 2.0,
        },
    }
    return _experiment(neuron, {}, window=50, alpha=2e4)
