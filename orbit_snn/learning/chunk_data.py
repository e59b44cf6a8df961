"""Batches and trajectories of a part of a sequence, for losses that see one chunk at a time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import LossModule, Sums, feature_of, share_of
from orbit_snn.graph.module import GraphState
from orbit_snn.graph.nodes import Node
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.learning.base import Spec, window_of
from orbit_snn.types import Batch, CellTrajectory, Trajectory


def chunk_length(modules: TrainingModules, batch: Batch) -> int:
    """Steps of a batch."""
    temporal = (batch[n] for n in modules.temporal if n in batch and batch[n].shape.rank > 1)
    return next(temporal).shape[1]


def masks_of(modules: TrainingModules) -> dict[str, Node]:
    """The masks that losses, reports and cells look at, by their features."""
    nodes = [
        *modules.loss.reductions.values(),
        *modules.evaluator.loss.reductions.values(),
        *modules.evaluator.cells.values(),
    ]
    return {feature_of(node.mask): node.mask for node in nodes if node.mask is not None}


def chunk_of(modules: TrainingModules, batch: Batch, start: Any, steps: int) -> Batch:
    """Some steps of a batch, with the share that they have in each example's real steps."""
    whole = chunk_length(modules, batch)
    chunk = window_of(batch, modules.temporal, start, steps)
    size = next(iter(batch.values())).shape[0]
    shares = {share_of(None): tf.fill([size], tf.constant(steps / whole, tf.float64))}
    for name, mask in masks_of(modules).items():
        counts = [
            tf.reduce_sum(tf.cast(features[name], tf.float64), axis=1)
            for features in (chunk, batch)
        ]
        shares[share_of(mask)] = tf.math.divide_no_nan(*counts)
    return chunk | shares


def of_means(
    modules: TrainingModules,
    loss: LossModule,
    keys: Sequence[str],
    batch: Batch,
    means: Mapping[str, tf.Tensor],
) -> Sums:
    """Sums of some reductions of whole sequences, given the cells' mean outputs `[B, N]` alone."""
    masks = {
        name: tf.reduce_any(tf.cast(batch[name], tf.bool), axis=1, keepdims=True)
        for name in masks_of(modules)
    }
    outputs = {name: mean[:, tf.newaxis] for name, mean in means.items()}
    return loss.sums(outputs, batch | masks, wanted=keys)


def made_up_batch(modules: TrainingModules, spec: Spec, size: int, steps: int) -> Batch:
    """Examples that are not the data's: drawn numbers, labels 0, the last example cut short."""
    draw = np.random.default_rng(0)
    masks, temporal = masks_of(modules), modules.temporal
    batch = {}
    for name, feature in spec.items():
        shape = [size, *feature.shape]
        if name in temporal and len(shape) > 1:
            shape[1] = steps
        value: np.ndarray = np.zeros(shape)
        if name in masks:
            lengths = np.array([[steps]] * (size - 1) + [[max(steps - 2, 1)]])
            value = np.arange(steps) < lengths
        elif feature.dtype.is_floating:
            value = draw.normal(size=shape)
        batch[name] = tf.cast(tf.constant(value), feature.dtype)
    return batch


def made_up_outputs(
    modules: TrainingModules, steps: int, size: int, seed: int, state: GraphState, gain: float = 1.0
) -> dict[str, Trajectory]:
    """Trajectories of every network whose outputs are drawn, times `gain`."""
    draw = np.random.default_rng(seed)

    def make(shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
        return tf.constant(draw.normal(size=shape) * gain, dtype)

    return {
        node.name: made_up(node, steps, size, make, state[node.name])
        for node in modules.model.networks
    }


def made_up(
    node: NetworkNode, steps: int, size: int, make: Callable[..., tf.Tensor], state: Any
) -> Trajectory:
    """A trajectory of a network whose outputs and states are not its own.

    Args:
      node: of the network.
      steps: C.
      size: B.
      make: gives a tensor of a shape and dtype.
      state: of the network, which stays as it is.
    """

    def of(cell: Any, own: Any) -> CellTrajectory:
        neuron = cell.neuron
        history = tf.nest.map_structure(
            lambda leaf: make([steps + 1, *leaf.shape], leaf.dtype), own
        )
        outputs = make([steps, size, neuron.units], neuron.dtype)
        return CellTrajectory(
            inputs=outputs[..., :0],
            initial=own,
            history=history,
            currents=None,
            checkpoints=None,
            outputs=outputs,
            previous_outputs=None,
            final=own,
        )

    network = node.module
    pairs = zip(network.cells, state.cells, strict=True)
    readouts = {name: of(cell, state.readouts[name]) for name, cell in network.readouts.items()}
    return Trajectory(tuple(of(*pair) for pair in pairs), readouts)
