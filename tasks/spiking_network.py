"""Random networks of spiking neurons whose readouts feed back, and what FORCE teaches them.

Neurons are heard through synapses with a rise and a decay, in spikes a second; readouts of these
currents feed back while least squares teaches them, and go on alone when learning stops (Nicola &
Clopath, Nat. Commun. 8:2208, 2017).
"""

import dataclasses

import numpy as np
import tensorflow as tf
from official.modeling.hyperparams import Config

from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.connections import Dense
from orbit_snn.data import Examples, from_arrays
from orbit_snn.models import NeuronConfig, build_neuron
from orbit_snn.networks import Network
from orbit_snn.neurons import Filtered, LeakyIntegrator, Neuron
from orbit_snn.seeds import derive
from orbit_snn.tasks.reservoir import sparse_weights


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

    def fixed(weights: np.ndarray) -> Dense:
        given = lambda shape, dtype: tf.constant(weights, dtype)  # noqa: E731
        return Dense(len(weights), units, initializer=given, trainable=False, dtype=dtype)

    with tf.name_scope("network"):
        heard = Filtered(neuron, config.decay_ms, config.rise_ms)
        inputs = fixed(np.stack([first, np.full(units, config.bias)]))
        instant = LeakyIntegrator(
            outputs, tau_mem_ms=1e-3 * config.dt_ms, dt_ms=config.dt_ms, dtype=dtype
        )
        readout = Cell(instant, Dense(units, outputs, initializer="zeros", dtype=dtype))
        return Network(
            [Cell(heard, inputs, fixed(recurrent))], readout, feedback={"output": fixed(back)}
        )


def first_current(neuron: Neuron, v: np.ndarray) -> np.ndarray:
    """Currents `[N]` that take neurons at rest to potentials `[N]` in one step."""
    start = neuron.initial_state(1)
    shape = [1, neuron.units]
    alone = neuron.step(start, tf.zeros(shape, neuron.dtype)).v.numpy()[0].astype(np.float64)
    driven = neuron.step(start, tf.ones(shape, neuron.dtype)).v.numpy()[0].astype(np.float64)
    return (v - alone) / (driven - alone)
