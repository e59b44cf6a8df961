"""Errors of outputs, read off a loss.

A squared error, of whatever name and scale, has a gradient that is linear in the outputs: with the
gradient `g` and the curvature `h` of an output, its error is `g / h`, and `h` says how much it
counts, which is nothing where a mask leaves it out. Both are derivatives of the loss.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.module import GraphState
from orbit_snn.learning.base import Spec
from orbit_snn.learning.chunk_data import made_up_batch, made_up_outputs
from orbit_snn.learning.passes import Replay
from orbit_snn.learning.places import Place, places
from orbit_snn.types import Batch, OutputGradients, Trajectory

_STEPS, _SIZE = 4, 2
_TOLERANCE = {tf.float32: 1e-3, tf.float64: 1e-8}


class Errors(NamedTuple):
    """What a loss has against some outputs.

    Attributes:
      error: output minus target, `[T, B, K]`; 0 where the loss does not look.
      weight: how much a row counts, `[T, B]`: the loss's second derivative by its outputs.
    """

    error: tf.Tensor
    weight: tf.Tensor

    @property
    def steps(self) -> int:
        """T."""
        return self.error.shape[0]


class _Slopes(NamedTuple):
    """First and second derivatives of a loss by the outputs of one place; None for zeros."""

    gradient: Any
    curvature: Any


def errors_of(
    taught: tuple[Place, ...],
    modules: TrainingModules,
    batch: Batch,
    trajectories: dict[str, Trajectory],
    before: GraphState,
    slopes: Sums,
) -> dict[Place, Errors]:
    """Errors of every place that the loss compares with something.

    Args:
      taught: those places, of `taught_places`.
      modules: what is trained.
      batch: examples.
      trajectories: of every network.
      before: state of the model before them.
      slopes: derivative of the loss by its sums.
    """
    found = _slopes(modules, batch, trajectories, before, slopes)
    return {place: _errors(found[place]) for place in taught}


def taught_places(modules: TrainingModules, spec: Spec, strategy: str) -> tuple[Place, ...]:
    """Cells and readouts whose outputs the loss compares with something.

    Raises:
      GraphError: for a loss that is no squared error of outputs.
    """
    batch = made_up_batch(modules, spec, _SIZE, _STEPS)
    before = modules.model.initial_state(_SIZE)
    first, other = (made_up_outputs(modules, _STEPS, _SIZE, seed, before) for seed in (1, 2))
    run = modules.model.run(batch, before, lambda node, *_: first[node.name])
    slopes = modules.loss.slopes(modules.loss.sums(run.values, batch))
    at_first = _slopes(modules, batch, first, before, slopes)
    looked_at = {place.node.name for place, own in at_first.items() if own.gradient is not None}
    second = {name: (other if name in looked_at else first)[name] for name in first}
    at_second = _slopes(modules, batch, second, before, slopes)
    for node in modules.loss.reductions.values():
        if node.constant:
            raise GraphError(_not_squared(node.name, strategy))
    taught = []
    for place, own in at_first.items():
        if own.gradient is None:
            continue
        moved = place.trajectory(second).outputs - place.trajectory(first).outputs
        if not _is_squared(own, at_second[place], moved):
            raise GraphError(_not_squared(f"the loss of `{place.name}`", strategy))
        taught.append(place)
    if not taught:
        raise GraphError(
            f"the loss compares no output of a network with a target, which strategy={strategy} "
            "learns from; add MSE.of_node(net.output)."
        )
    return tuple(taught)


def _is_squared(first: _Slopes, second: _Slopes, moved: tf.Tensor) -> bool:
    """Whether the gradient is the curvature times the outputs, and one for all outputs of a row."""
    if first.curvature is None or second.curvature is None:
        return False
    tolerance = _TOLERANCE.get(moved.dtype, 1e-2)
    scale = float(tf.reduce_max(tf.abs(first.curvature)))
    close = lambda a, b: np.allclose(a, b, rtol=0, atol=tolerance * scale)  # noqa: E731
    return (
        scale > 0
        and close(first.curvature, second.curvature)
        and close(second.gradient - first.gradient, first.curvature * moved)
        and close(first.curvature, first.curvature[..., :1])
    )


def _slopes(
    modules: TrainingModules,
    batch: Batch,
    trajectories: dict[str, Trajectory],
    before: GraphState,
    slopes: Sums,
) -> Mapping[Place, _Slopes]:
    replay = Replay(trajectories)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as inner:
            replay.tape = _Both(outer, inner)
            run = modules.model.run(batch, before, replay.unroll)
            sums = modules.loss.sums(run.values, batch, wanted=slopes)
            total = tf.add_n([tf.reduce_sum(slopes[key] * sums[key]) for key in sums])
        firsts = {name: inner.gradient(total, leaves) for name, leaves in replay.leaves.items()}
    found = {}
    for node in modules.model.networks:
        leaves: OutputGradients = replay.leaves[node.name]
        _refuse_states(node.name, firsts[node.name])
        for place in places(node):
            gradient = place.gradient(firsts[node.name])
            curvature = None
            if gradient is not None:
                curvature = outer.gradient(gradient, place.gradient(leaves))
            found[place] = _Slopes(gradient, curvature)
    return found


class _Both:
    """Two tapes that watch the same."""

    def __init__(self, *tapes: tf.GradientTape):
        self._tapes = tapes

    def watch(self, tensors: Any) -> None:
        for tape in self._tapes:
            tape.watch(tensors)


def _errors(found: _Slopes) -> Errors:
    error = tf.math.divide_no_nan(found.gradient, found.curvature)
    return Errors(error, tf.reduce_mean(found.curvature, axis=-1))


def _refuse_states(name: str, gradients: OutputGradients) -> None:
    if any(x is not None for x in tf.nest.flatten(gradients.histories)):
        raise GraphError(
            f"the loss looks at membrane potentials of `{name}`, which least squares of outputs "
            "cannot follow; leave that term out, or use strategy=grad."
        )


def _not_squared(what: str, strategy: str) -> str:
    return (
        f"{what} is no squared error of outputs, one weight for all of a row, which strategy="
        f"{strategy} solves for; use MSE or SquaredError alone (alpha is the penalty on weights), "
        "or strategy=grad, which takes any loss."
    )
