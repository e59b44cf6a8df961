"""Random networks of rate units whose readouts feed back, as FORCE trains them."""

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf
from official.modeling.hyperparams import Config

from orbit_snn import experiments
from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.connections import Dense
from orbit_snn.networks import Network
from orbit_snn.neurons import LeakyIntegrator, LeakyTanh
from orbit_snn.seeds import derive

LEAK = 0.1
"""Of a step, dt / tau: `x <- (1 - LEAK) x + LEAK I`."""


@dataclasses.dataclass
class ReservoirConfig(Config):
    """A recurrent network that is not trained, and readouts that are.

    Attributes:
      units: N.
      density: which part of the recurrent weights there is.
      gain: g: of the recurrent weights, `g N(0, 1) / sqrt(density N)`.
      feedback_gain: weights from the readouts back are uniform between minus and plus it.
    """

    units: int = ranged(1000, low=1)
    density: float = ranged(0.1, above=0.0, high=1.0)
    gain: float = ranged(1.5, low=0.0)
    feedback_gain: float = ranged(1.0, low=0.0)


def reservoir(
    config: ReservoirConfig,
    inputs: int,
    outputs: int,
    input_gain: float,
    step_ms: float,
    seed: int,
    dtype: tf.DType,
) -> Network:
    """Makes the network of a config; a step is a tenth of the units' time constant.

    Args:
      config: of the network.
      inputs: F.
      outputs: K, of the readout, which starts at 0 and forgets nothing into the next step.
      input_gain: input weights are `input_gain N(0, 1)`.
      step_ms: dt.
      seed: of all weights.
      dtype: of weights and states.
    """
    units = config.units

    def sparse(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
        drawn = sparse_weights(derive(seed, "recurrent"), units, config.density)
        return tf.constant(drawn / math.sqrt(config.density * units), dtype)

    def between(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
        draw = np.random.default_rng(derive(seed, "feedback"))
        return tf.constant(draw.uniform(-1.0, 1.0, size=shape), dtype)

    drawn: dict[str, Any] = {"initializer": "standard_normal", "gain": input_gain}
    kept = {"trainable": False, "dtype": dtype}
    with tf.name_scope("network"):
        hidden = Cell(
            rate_units(units, step_ms, dtype),
            Dense(inputs, units, seed=derive(seed, "inputs"), **drawn, **kept),
            Dense(units, units, initializer=sparse, gain=config.gain, **kept),
        )
        readout = instant_readout(units, outputs, step_ms, dtype)
        back = Dense(outputs, units, initializer=between, gain=config.feedback_gain, **kept)
        return Network([hidden], readout, feedback={"output": back})


def rate_units(units: int, step_ms: float, dtype: tf.DType) -> LeakyTanh:
    """Units of which a step is `LEAK` of the time constant."""
    tau_ms = -step_ms / math.log(1.0 - LEAK)
    return LeakyTanh(units, tau_mem_ms=tau_ms, dt_ms=step_ms, dtype=dtype)


def instant_readout(units: int, outputs: int, step_ms: float, dtype: tf.DType) -> Cell:
    """A trained readout of N units that starts at 0 and keeps nothing for the next step."""
    instant = LeakyIntegrator(outputs, tau_mem_ms=1e-3 * step_ms, dt_ms=step_ms, dtype=dtype)
    return Cell(instant, Dense(units, outputs, initializer="zeros", dtype=dtype))


def fixed(weights: np.ndarray, dtype: tf.DType) -> Dense:
    """A connection of weights `[F, N]` that nobody trains."""
    given = lambda shape, dtype: tf.constant(weights, dtype)  # noqa: E731
    inputs, units = weights.shape
    return Dense(inputs, units, initializer=given, trainable=False, dtype=dtype)


def sparse_weights(seed: int, units: int, density: float, balanced: bool = False) -> np.ndarray:
    """N(0, 1) in a part `density` of all places and 0 elsewhere, presynaptic first, `[N, N]`.

    Args:
      seed: of the draw.
      units: N.
      density: how likely a weight is there.
      balanced: take the mean of what is there off the weights onto each neuron.
    """
    draw = np.random.default_rng(seed)
    there = draw.random((units, units)) < density
    weights = draw.normal(size=(units, units)) * there
    if balanced:
        weights -= there * (weights.sum(axis=0) / np.maximum(there.sum(axis=0), 1))
    return weights


def least_squares(
    task: experiments.TaskConfig, rule: dict[str, Any], passes: int, interval: int, batch: int = 1
) -> experiments.ExperimentConfig:
    """An experiment that learns a task by least squares, by default of the last step of windows.

    Args:
      task: its config.
      rule: strategy and window.
      passes: batches, each a loop of its own.
      interval: of checkpoints and validations.
      batch: sequences at once.
    """
    config = experiments.ExperimentConfig(task=task)
    config.learning.override({"type": "rls", "rls": {"rows": "last", **rule}})
    config.trainer.override(
        {
            "train_steps": passes,
            "batch_size": batch,
            "steps_per_loop": 1,
            "checkpoint_interval": interval,
            "validation_interval": interval,
            "pictures": 1,
        }
    )
    return config
