"""Random networks of spiking neurons whose readouts feed back, and what FORCE teaches them.

Neurons are heard through synapses with a rise and a decay, in spikes a second; readouts of these
currents feed back while least squares teaches them, and go on alone when learning stops (Nicola &
Clopath, Nat. Commun. 8:2208, 2017).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from official.modeling.hyperparams import Config

from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.data import Examples, from_arrays
from orbit_snn.database import SPLITS, Database
from orbit_snn.graph import MSE, During, InputNode, NetworkNode
from orbit_snn.graph.algebra import LossNode
from orbit_snn.models import NeuronConfig, build_neuron
from orbit_snn.networks import Network
from orbit_snn.neurons import Filtered, Neuron
from orbit_snn.seeds import derive
from orbit_snn.tasks.reservoir import fixed, instant_readout, sparse_weights


@dataclasses.dataclass
class SpikingNetworkConfig(Config):
    """The network.

    Attributes:
      units: N.
      neuron: the model of all neurons.
      dt_ms: length of a step.
      decay_ms: of synaptic currents.
      rise_ms: of synaptic currents.
      density: which part of the recurrent weights there is.
      gain: G: these are `G N(0, 1) / (density sqrt(N))`.
      balanced: whether the recurrent weights onto each neuron have mean 0.
      feedback_gain: Q: weights from the readouts back are uniform between minus and plus it.
      bias: constant current of every neuron.
      first_v: potentials at the start are uniform between these two.
    """

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


@dataclasses.dataclass
class ScheduleConfig(Config):
    """When the readouts learn.

    Attributes:
      quiet_seconds: before they do.
      learning_seconds: in which they do.
      free_seconds: after it.
      test_seconds: of evaluation, without learning, of which the last second counts.
    """

    quiet_seconds: float = ranged(5.0, low=0.0)
    learning_seconds: float = ranged(5.0, above=0.0)
    free_seconds: float = ranged(5.0, low=0.0)
    test_seconds: float = ranged(2.0, low=1.0)

    @property
    def seconds(self) -> float:
        """Of the sequence to learn from."""
        return self.quiet_seconds + self.learning_seconds + self.free_seconds

    def examples(self, target: np.ndarray, dt_ms: float, dtype: tf.DType, test: bool) -> Examples:
        """One sequence: `inputs` `[T, 2]`, `target` `[T, K]`, `learned` and `after` bool `[T]`.

        Args:
          target: `[T, K]`, at least as long as the sequence.
          dt_ms: length of a step.
          dtype: of inputs and target.
          test: make that of evaluation.
        """
        seconds = self.test_seconds if test else self.seconds
        time = np.arange(round(1e3 * seconds / dt_ms)) * dt_ms / 1e3
        until = self.quiet_seconds + self.learning_seconds
        learned = (time >= self.quiet_seconds) & (time < until)
        free = seconds - 1.0 if test else until
        kind = dtype.as_numpy_dtype
        arrays = {
            "inputs": np.stack([time == 0.0, np.ones_like(time)], axis=1).astype(kind),
            "target": target[: len(time)].astype(kind),
            "learned": np.ones_like(learned) if test else learned,
            "after": (time >= free) & (time < free + 1.0),
        }
        return from_arrays({name: x[np.newaxis] for name, x in arrays.items()})


def spiking_network(
    config: SpikingNetworkConfig, outputs: int, seed: int, dtype: tf.DType, key: str
) -> Network:
    """Makes the network of a config.

    Args:
      config: of the network.
      outputs: K, of the readout, which starts at 0 and forgets nothing into the next step.
      seed: of all weights.
      dtype: of weights and states.
      key: where the config stands, for messages.

    Raises:
      ConfigError: where the neuron model refuses a value.
    """
    units = config.units
    neuron = build_neuron(config.neuron, units, config.dt_ms, dtype, f"{key}.neuron")
    low, high = config.first_v
    start = np.random.default_rng(derive(seed, "start")).uniform(low, high, units)
    first = first_current(neuron, start) - config.bias
    recurrent = sparse_weights(derive(seed, "recurrent"), units, config.density, config.balanced)
    recurrent *= config.gain / (config.density * np.sqrt(units))
    width = config.feedback_gain
    back = np.random.default_rng(derive(seed, "feedback")).uniform(-width, width, (outputs, units))

    with tf.name_scope("network"):
        heard = Filtered(neuron, config.decay_ms, config.rise_ms)
        inputs = fixed(np.stack([first, np.full(units, config.bias)]), dtype)
        hidden = Cell(heard, inputs, fixed(recurrent, dtype))
        readout = instant_readout(units, outputs, config.dt_ms, dtype)
        return Network([hidden], readout, feedback={"output": fixed(back, dtype)})


class Taught(NamedTuple):
    """A network, and what is measured while its readouts learn a signal and go on alone.

    Attributes:
      net: the network as a node.
      loss: mean squared error of the steps to learn from.
      metrics: that; `rmse`, its root; `rmse_after`, that of the second after it.
      database: of the one sequence to learn from, and one without learning.
    """

    net: NetworkNode
    loss: LossNode
    metrics: dict[str, LossNode]
    database: Database


def taught(
    model: SpikingNetworkConfig,
    schedule: ScheduleConfig,
    signal: Callable[[int, float], np.ndarray],
    seed: int,
    dtype: tf.DType,
) -> Taught:
    """Makes a network and the data of what it is to generate, of the config of a task.

    Args:
      model: the network.
      schedule: when the readouts learn.
      signal: gives so many steps of what they learn, `[T, K]`, of so many seconds each.
      seed: of all weights.
      dtype: of weights, states, inputs and targets.

    Raises:
      ConfigError: where the neuron model refuses a value.
    """
    step_s = model.dt_ms / 1e3
    longest = max(schedule.seconds, schedule.test_seconds)
    target = signal(round(longest / step_s) + 1, step_s)
    examples = {
        split: schedule.examples(target, model.dt_ms, dtype, split != "train") for split in SPLITS
    }
    network = spiking_network(model, target.shape[1], seed, dtype, "task.model")
    net = NetworkNode("network", InputNode("inputs"), network, db_name="target")
    learned = During("learned_output", net.output, "learned", db_name="target")
    after = During("free_output", net.output, "after", db_name="target")
    loss = MSE.of_node(learned)
    metrics = {"loss": loss, "rmse": loss**0.5, "rmse_after": MSE.of_node(after) ** 0.5}
    return Taught(net, loss, metrics, Database(examples))


def first_current(neuron: Neuron, v: np.ndarray) -> np.ndarray:
    """Currents `[N]` that take neurons at rest to potentials `[N]` in one step."""
    start = neuron.initial_state(1)
    shape = [1, neuron.units]
    alone = neuron.step(start, tf.zeros(shape, neuron.dtype)).v.numpy()[0].astype(np.float64)
    driven = neuron.step(start, tf.ones(shape, neuron.dtype)).v.numpy()[0].astype(np.float64)
    return (v - alone) / (driven - alone)
