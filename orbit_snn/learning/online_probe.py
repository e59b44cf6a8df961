"""What a loss needs of the future, seen on a short sequence of made-up outputs."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.loss_module import LossModule, Sums, feature_of, needed_by
from orbit_snn.graph.module import GraphState
from orbit_snn.graph.sequences import NetworkNode, SequenceNode, outputs_of
from orbit_snn.learning.base import Spec
from orbit_snn.learning.chunk_data import (
    chunk_of,
    made_up_batch,
    made_up_outputs,
    masks_of,
    of_means,
)
from orbit_snn.losses import mean_over_steps
from orbit_snn.types import Batch, CellTrajectory, Trajectory

Outputs = dict[str, Trajectory]


class _Sums(NamedTuple):
    """Sums of the loss of made-up outputs, computed in three ways."""

    whole: Sums
    chunks: Sums
    means: Sums

    def adds_up(self, key: str) -> bool:
        """Whether sums over chunks add up to those of the sequence."""
        return _equal(self.whole[key], self.chunks[key])

    def of_means(self, key: str) -> bool:
        """Whether the sums depend on mean outputs of cells alone."""
        return key in self.means and _equal(self.whole[key], self.means[key])


class Reported(NamedTuple):
    """Keys of reported reductions that are no sums over steps.

    Attributes:
      rates: those that are known from mean outputs of cells alone.
      unknown: all others.
    """

    rates: tuple[str, ...]
    unknown: tuple[str, ...]


class Probe:
    """A short made-up sequence on which is seen what a loss needs of the future.

    What the training loss and the reported ones have in common is computed once: sums have the keys
    of one loss module of both.
    """

    STEPS, SIZE, CHUNKS = 5, 16, ((0, 2), (2, 2), (4, 1))

    def __init__(self, modules: TrainingModules, spec: Spec):
        self._modules = modules
        self._batch = made_up_batch(modules, spec, self.SIZE, self.STEPS)
        both = (modules.loss, modules.evaluator.loss)
        self._losses = LossModule([node for loss in both for node in loss.nodes_to_compute])

    def online(self, replicas: int) -> tuple[tuple[str, ...], "Reported"]:
        """Keys of the training loss's reductions that are known from mean outputs alone.

        Args:
          replicas: how many share a batch.

        Returns:
          Them, and what of the reported losses can be known, given the mean outputs they need.

        Raises:
          GraphError: for a reduction that needs the future in another way.
        """
        self._check_nodes()
        loss, reports = self._modules.loss, self._reports()
        keys = self._keys(loss, loss.reductions)
        found, silent = self._in_a_graph(
            lambda batch: (
                self._sums(batch, {*keys.values(), *reports.values()}),
                self._of_chunks(batch, keys.values(), self._outputs(0.0)),
            )
        )
        slopes, known_slopes = (
            loss.slopes({key: sums[own] for key, own in keys.items()})
            for sums in (found.whole, silent)
        )
        rates = []
        for key, node in loss.reductions.items():
            # No output changes the last of the sums, which is what means divide by.
            known = _equal(slopes[key][:-1], known_slopes[key][:-1])
            if node.constant or known and found.adds_up(keys[key]):
                continue
            if not found.of_means(keys[key]):
                raise GraphError(_needs_the_future(node.name))
            if replicas > 1 and not known:
                raise GraphError(
                    f"{node.name} is of rates over the whole batch, which an online mode cannot "
                    f"add up over {replicas} replicas; use rate_reduction=sample, or mode=factored."
                )
            rates.append(key)
        return tuple(rates), self._judged(found, averaged_by(loss, rates))

    def reported(self) -> "Reported":
        """What of the reported losses can be known of chunks alone."""
        keys = self._reports().values()
        return self._judged(self._in_a_graph(lambda batch: self._sums(batch, keys)), ())

    def _keys(self, loss: LossModule, keys: Collection[str]) -> dict[str, str]:
        """What some keys of a loss are called here."""
        own = {id(node): key for key, node in self._losses.reductions.items()}
        return {key: own[id(loss.reductions[key])] for key in keys}

    def _reports(self) -> dict[str, str]:
        evaluator = self._modules.evaluator
        keys = evaluator.loss.needed_for(range(len(evaluator.names)))
        changing = [key for key in keys if not evaluator.loss.reductions[key].constant]
        return self._keys(evaluator.loss, changing)

    def _judged(self, found: _Sums, averaged: Collection[str]) -> "Reported":
        loss = self._modules.evaluator.loss
        future = {key: own for key, own in self._reports().items() if not found.adds_up(own)}
        rates = [
            key
            for key, own in future.items()
            if found.of_means(own) and averaged_by(loss, [key]) <= set(averaged)
        ]
        return Reported(tuple(rates), tuple(key for key in future if key not in rates))

    def _check_nodes(self) -> None:
        for node in self._modules.model.nodes:
            if isinstance(node, SequenceNode) and any(
                isinstance(below, NetworkNode) for below in ancestors(node.parents)
            ):
                raise GraphError(_needs_the_future(f"node `{node.name}`"))

    def _in_a_graph(self, function: Callable[[Batch], Any]) -> Any:
        """What a function gives where nodes do not judge the values of the made-up features."""
        traced = tf.function(function, autograph=False).get_concrete_function(self._batch)
        return traced(self._batch)

    def _outputs(self, gain: float) -> Outputs:
        state = self._modules.model.initial_state(self.SIZE)
        return made_up_outputs(self._modules, self.STEPS, self.SIZE, 1, state, gain)

    def _sums(self, batch: Batch, keys: Collection[str]) -> _Sums:
        outputs = self._outputs(1.0)
        whole, _ = self._of(batch, keys, outputs, None)
        means = {node.name: _mean(batch, outputs, node) for node in self._cells()}
        of_cells = [key for key in keys if self._of_cells_alone(self._losses.reductions[key])]
        alone = of_means(self._modules, self._losses, of_cells, batch, means)
        return _Sums(whole, self._of_chunks(batch, keys, outputs), alone)

    def _of_chunks(self, batch: Batch, keys: Collection[str], outputs: Outputs) -> Sums:
        total: Sums = {}
        state = None
        for start, steps in self.CHUNKS:
            chunk = chunk_of(self._modules, batch, start, steps)
            cut = {name: _cut(each, start, steps) for name, each in outputs.items()}
            sums, state = self._of(chunk, keys, cut, state)
            total = {key: value + total.get(key, 0.0) for key, value in sums.items()}
        return total

    def _of(
        self, batch: Batch, keys: Collection[str], outputs: Outputs, state: Any
    ) -> tuple[Sums, GraphState]:
        run = self._modules.model.run(batch, state, lambda node, *_: outputs[node.name])
        return self._losses.sums(run.values, batch, wanted=keys), run.state

    def _cells(self) -> Iterator[Any]:
        return (cell for node in self._modules.model.networks for cell in node.cells)

    def _of_cells_alone(self, node: Any) -> bool:
        needed = needed_by([node])
        cells = {node.name for node in self._cells()}
        masks = masks_of(self._modules)
        return (
            bool(needed.outputs)
            and all(node.name in cells for node in needed.outputs)
            and all(feature_of(node) in masks for node in needed.targets)
        )


def averaged_by(loss: LossModule, keys: Collection[str]) -> frozenset[str]:
    """Names of the nodes whose outputs some reductions of a loss look at."""
    return frozenset(n.name for n in needed_by([loss.reductions[k] for k in keys]).outputs)


def _mean(batch: Batch, outputs: Outputs, node: Any) -> tf.Tensor:
    z = tf.transpose(outputs_of(node, outputs[node.parents[0].name]), [1, 0, 2])
    mask = None if node.mask is None else batch[feature_of(node.mask)]
    return mean_over_steps(z, mask)


def _cut(trajectory: Trajectory, start: int, steps: int) -> Trajectory:
    def of(cell: CellTrajectory) -> CellTrajectory:
        history = tf.nest.map_structure(lambda x: x[start : start + steps + 1], cell.history)
        return cell._replace(outputs=cell.outputs[start : start + steps], history=history)

    readouts = {name: of(cell) for name, cell in trajectory.readouts.items()}
    return Trajectory(tuple(of(cell) for cell in trajectory.cells), readouts)


def _equal(a: tf.Tensor, b: tf.Tensor) -> bool:
    return np.allclose(a, b, rtol=1e-4, atol=1e-6)


def _needs_the_future(what: str) -> str:
    return (
        f"{what} depends on the whole sequence, so what it says about a step is not known before "
        "its end; use learning.eprop.mode=factored, or a loss that is a sum over steps: of a "
        'Decision(mode="per_step"), or of the steps of a During.'
    )
