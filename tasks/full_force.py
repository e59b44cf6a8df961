"""Full-FORCE: a random target network shows another one which currents make a task easy.

The target network gets the task's outputs (and hints, if any) as inputs. The task network does not;
its recurrent current learns to be what the target network gets from inside and from those inputs,
and its readout learns the outputs (DePasquale et al., PLoS ONE 13:e0191527, 2018).

A current has a target where it is a readout that feeds back, so the recurrent weights are those of
the readout `current`, which the first cell receives as it is.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf
from official.modeling.hyperparams import Config

from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.connections import Dense
from orbit_snn.graph import MSE, InputNode, ModelNode, NetworkNode
from orbit_snn.graph.algebra import LossNode
from orbit_snn.graph.types import IdxType
from orbit_snn.networks import Network
from orbit_snn.neurons import LeakyIntegrator, LeakyTanh
from orbit_snn.seeds import derive
from orbit_snn.tasks.reservoir import LEAK


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


def full_force(
    config: FullForceConfig,
    shared: int,
    private: int,
    outputs: int,
    step_ms: float,
    seed: int,
    dtype: tf.DType,
) -> tuple[NetworkNode, LossNode]:
    """Both networks as a graph; a step is a tenth of the units' time constant.

    Features: `shared` `[T, shared]`, inputs of both networks; `private` `[T, private]`, of the
    target network alone; `ahead` `[T, private]`, the same one step later.

    Args:
      config: of the networks.
      shared: number of inputs of both.
      private: number of inputs of the target network alone.
      outputs: K, of the readout `output`, whose truth has no name yet.
      step_ms: dt.
      seed: of all weights.
      dtype: of weights and states.

    Returns:
      The task network, and the error of its recurrent current.
    """
    units = config.units
    common = {"tau_mem_ms": -step_ms / math.log(1.0 - LEAK), "dt_ms": step_ms, "dtype": dtype}
    fixed = {"trainable": False, "dtype": dtype}
    draw = np.random.default_rng(derive(seed, "inputs"))
    width = config.input_gain
    weights = draw.uniform(-width, width, size=(shared + private, units))

    def incoming(count: int) -> Dense:
        given = lambda shape, dtype: tf.constant(weights[:count], dtype)  # noqa: E731
        return Dense(count, units, initializer=given, **fixed)

    with tf.name_scope("teacher"):
        within = Dense(units, units, gain=config.gain, seed=derive(seed, "teacher"), **fixed)
        teacher = Network([Cell(LeakyTanh(units, **common), incoming(shared + private), within)])
    with tf.name_scope("network"):
        instant = {"tau_mem_ms": 1e-3 * step_ms, "dt_ms": step_ms, "dtype": dtype}
        readouts = {
            name: Cell(
                LeakyIntegrator(size, **instant),
                Dense(units, size, initializer="zeros", dtype=dtype),
            )
            for name, size in (("current", units), ("output", outputs))
        }
        back = Dense(units, units, initializer="identity", **fixed)
        hidden = Cell(LeakyTanh(units, **common), incoming(shared))
        network = Network([hidden], readouts, feedback={"current": back})

    inputs, alone = InputNode("shared"), InputNode("private")
    both = ModelNode("driven", (inputs, alone), lambda *x: tf.concat(x, axis=-1))
    shown = NetworkNode("teacher", both, teacher)
    net = NetworkNode("network", inputs, network)
    outside = tf.constant(weights[shared:], dtype)

    def current(rates: tf.Tensor, ahead: tf.Tensor) -> tf.Tensor:
        """What the target network gets in the next step and the task network does not."""
        return within(tf.stop_gradient(rates)) + tf.tensordot(ahead, outside, 1)

    later = InputNode("ahead", index=IdxType.SEQ_STEP)
    wanted = ModelNode("wanted", (shown.cell0, later), current)
    return net, MSE(net.current.pred, wanted.pred)


def ahead(x: np.ndarray) -> np.ndarray:
    """`[T, ...]` one step later; the last one stays."""
    return np.concatenate([x[1:], x[-1:]])
