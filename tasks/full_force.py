"""Full-FORCE: a random target network shows another one which currents make a task easy.

The target network gets the task's outputs (and hints, if any) as inputs. The task network does not;
its recurrent current learns to be what the target network gets from inside and from those inputs,
and its readout learns the outputs (DePasquale et al., PLoS ONE 13:e0191527, 2018).

A current has a target where it is a readout that feeds back, so the recurrent weights are those of
the readout `current`, which the first cell receives as it is.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from official.modeling.hyperparams import Config

from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.graph import InputNode, ModelNode, NetworkNode
from orbit_snn.graph.types import IdxType
from orbit_snn.networks import Network
from orbit_snn.seeds import derive
from orbit_snn.tasks.reservoir import LEAK, fixed, instant_readout, rate_units


@dataclasses.dataclass
class FullForceConfig(Config):
    """Both networks.

    Attributes:
      units: N, of each.
      gain: g: recurrent weights of the target network are `g N(0, 1) / sqrt(N)`.
      input_gain: weights of all inputs are uniform between minus and plus it.
    """

    units: int = ranged(300, low=1)
    gain: float = ranged(1.5, low=0.0)
    input_gain: float = ranged(1.0, low=0.0)


class TargetWeights(NamedTuple):
    """Weights of the target network.

    Attributes:
      shared: from inputs that the task network gets too, `[S, N]`.
      private: from those that it does not get, `[P, N]`.
      recurrent: `[N, N]`.
    """

    shared: np.ndarray
    private: np.ndarray
    recurrent: np.ndarray

    def settled(self, shared: np.ndarray, private: np.ndarray) -> np.ndarray:
        """State `[N]` of the target network, at rest at first, after inputs `[T, S]`, `[T, P]`."""
        x = np.zeros(len(self.recurrent))
        for current in shared @ self.shared + private @ self.private:
            x = (1.0 - LEAK) * x + LEAK * (np.tanh(x) @ self.recurrent + current)
        return x


def target_weights(config: FullForceConfig, shared: int, private: int, seed: int) -> TargetWeights:
    """Draws them; numbers of inputs are S and P."""
    draw, units = np.random.default_rng(derive(seed, "teacher")), config.units
    width = config.input_gain
    own, alone = (draw.uniform(-width, width, size=(n, units)) for n in (shared, private))
    recurrent = config.gain / math.sqrt(units) * draw.normal(size=(units, units))
    return TargetWeights(own, alone, recurrent)


def full_force(
    weights: TargetWeights, outputs: int, start: np.ndarray, step_ms: float, dtype: tf.DType
) -> tuple[NetworkNode, ModelNode]:
    """Both networks as a graph; a step is a tenth of the units' time constant.

    Features, all `[T, ...]`: `start`, 1 at the first step, where all other inputs are 0; `shared`,
    inputs of both networks; `private`, of the target network alone; `ahead`, that of the next step.

    Args:
      weights: of the target network.
      outputs: K, of the readout `output`, whose truth has no name yet.
      start: state of both networks after the first step, `[N]`.
      step_ms: dt.
      dtype: of weights and states.

    Returns:
      The task network, and what its readout `current` should give.
    """
    units = len(weights.recurrent)
    own = np.concatenate([start[np.newaxis] / LEAK, weights.shared])
    with tf.name_scope("teacher"):
        within = fixed(weights.recurrent, dtype)
        driven = fixed(np.concatenate([own, weights.private]), dtype)
        teacher = Network([Cell(rate_units(units, step_ms, dtype), driven, within)])
    with tf.name_scope("network"):
        readouts = {
            name: instant_readout(units, size, step_ms, dtype)
            for name, size in (("current", units), ("output", outputs))
        }
        hidden = Cell(rate_units(units, step_ms, dtype), fixed(own, dtype))
        network = Network([hidden], readouts, feedback={"current": fixed(np.eye(units), dtype)})

    names = ("start", "shared", "private", "ahead")
    begin, shared, private, ahead = (InputNode(n, index=IdxType.SEQ_STEP) for n in names)
    both = ModelNode("inputs", (begin, shared), _side_by_side)
    every = ModelNode("all_inputs", (begin, shared, private), _side_by_side)
    shown = NetworkNode("teacher", every, teacher)
    net = NetworkNode("network", both, network)
    outside = tf.constant(weights.private, dtype)

    def current(rates: tf.Tensor, ahead: tf.Tensor) -> tf.Tensor:
        """What the target network gets in the next step and the task network does not."""
        return within(tf.stop_gradient(rates)) + tf.tensordot(ahead, outside, 1)

    return net, ModelNode("wanted", (shown.cell0, ahead), current)


def features(shared: tf.Tensor, private: tf.Tensor) -> dict[str, tf.Tensor]:
    """Those of `full_force`, for inputs `[T, S]` and `[T, P]` after the first step, `[T, ...]`."""
    shared, private = tf.convert_to_tensor(shared), tf.convert_to_tensor(private)
    start = tf.one_hot(0, shared.shape[0], dtype=private.dtype)[:, tf.newaxis]
    before = {"start": start, "ahead": private}
    return before | {"shared": _later(shared), "private": _later(private)}


def _later(x: tf.Tensor) -> tf.Tensor:
    return tf.concat([tf.zeros_like(x[:1]), x[:-1]], axis=0)


def _side_by_side(*inputs: tf.Tensor) -> tf.Tensor:
    return tf.concat(inputs, axis=-1)
