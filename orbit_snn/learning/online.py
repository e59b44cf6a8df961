"""A loss over a sequence, chunk by chunk: the gradient of the whole without its future.

Where a loss is a sum over steps, the gradient of a chunk is known as soon as the chunk is over:
the only thing that must be known beforehand is what means divide by, and that follows from the
masks. A firing-rate penalty is none of these, for it depends on a mean over all steps; but on that
alone, so its gradient is made at the end, from the mean and the mean of the traces.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.loss_module import LossModule, Sums, feature_of, needed_by, share_of
from orbit_snn.graph.module import GraphState
from orbit_snn.graph.nodes import Node
from orbit_snn.graph.sequences import NetworkNode, SequenceNode
from orbit_snn.learning.base import Spec, window_of
from orbit_snn.types import Batch, CellTrajectory, Trajectory

Outputs = dict[str, Trajectory]


class OnlineLoss:
    """The training loss of a model over chunks of a sequence.

    Args:
      modules: what is trained.
      spec: of every feature of one example.
      steps: T.
      size: steps of a chunk; the last one has what is left.
      replicas: how many share the batch.

    Attributes:
      rates: keys of the reductions that are made of mean outputs of cells.

    Raises:
      GraphError: for a loss whose gradient at a step depends on later steps.
    """

    def __init__(self, modules: TrainingModules, spec: Spec, steps: int, size: int, replicas: int):
        self._modules = modules
        self.steps = steps
        self.size = min(size, steps)
        self.rates: tuple[str, ...] = ()
        if self.size < steps:
            self.rates = _Probe(modules, spec).rates(replicas)

    @property
    def chunks(self) -> tuple[int, int]:
        """Number of chunks before the last one, and the steps of that."""
        before = (self.steps - 1) // self.size
        return before, self.steps - before * self.size

    @property
    def averaged(self) -> frozenset[str]:
        """Names of the cells' nodes whose mean outputs the loss needs."""
        reductions = [self._modules.loss.reductions[key] for key in self.rates]
        return frozenset(node.name for node in needed_by(reductions).outputs)

    def chunk_of(self, batch: Batch, start: Any, steps: int) -> Batch:
        """Some steps of a batch, with the shares that they have in each example."""
        return _chunk_of(self._modules, batch, start, steps)

    def weights(self, batch: Batch, chunk: Batch, mask: Node | None, dtype: tf.DType) -> tf.Tensor:
        """Of each step of a chunk in the mean over an example's real steps, `[C, B, 1]`."""
        size = next(iter(batch.values())).shape[0]
        if mask is None:
            steps = chunk_length(self._modules, chunk)
            return tf.fill([steps, size, 1], tf.constant(1.0 / self.steps, dtype))
        name = feature_of(mask)
        real = tf.cast(chunk[name], dtype)
        total = tf.reduce_sum(tf.cast(batch[name], dtype), axis=1)
        share = tf.math.divide_no_nan(real, total[:, tf.newaxis])
        return tf.transpose(share)[:, :, tf.newaxis]

    def counts(self, batch: Batch) -> tuple[Sums, dict[str, tf.Tensor]]:
        """Sums of the loss as they are where every output is 0: what means divide by is right.

        Returns:
          Them, and zeros of the shape of what the evaluator reports.
        """
        modules = self._modules
        size = next(iter(batch.values())).shape[0]

        def of(start: Any, steps: int) -> tuple[Sums, dict[str, tf.Tensor]]:
            chunk = self.chunk_of(batch, start, steps)
            run = modules.model.run(chunk, unroll=_silent(modules, size))
            reports = modules.evaluator.sums(run, chunk, skip=("loss",))
            return modules.loss.sums(run.values, chunk), reports

        before, last = self.chunks
        sums, reports = of(before * self.size, last)
        _, sums = tf.while_loop(
            lambda index, _: index < before,
            lambda index, total: (
                index + 1,
                tf.nest.map_structure(tf.add, total, of(index * self.size, self.size)[0]),
            ),
            (0, sums),
        )
        return sums, tf.nest.map_structure(tf.zeros_like, reports)

    def of_means(
        self, loss: LossModule, keys: Sequence[str], batch: Batch, means: Mapping[str, tf.Tensor]
    ) -> Sums:
        """Sums of some reductions of a whole sequence, given the cells' mean outputs `[B, N]`."""
        return _of_means(self._modules, loss, keys, batch, means)


def chunk_length(modules: TrainingModules, batch: Batch) -> int:
    """Steps of a batch."""
    temporal = (batch[n] for n in modules.temporal if n in batch and batch[n].shape.rank > 1)
    return next(temporal).shape[1]


def over_chunks(loss: OnlineLoss, step: Callable[[Any, Any, int, bool], Any], carry: Any) -> Any:
    """Runs `step(carry, start, steps, is_last)` over all chunks of a sequence."""
    before, last = loss.chunks
    _, carry = tf.while_loop(
        lambda index, _: index < before,
        lambda index, carry: (index + 1, step(carry, index * loss.size, loss.size, False)),
        (0, carry),
        maximum_iterations=before,
    )
    return step(carry, before * loss.size, last, True)


def masks_of(modules: TrainingModules) -> dict[str, Node]:
    """The masks that losses, reports and cells look at, by their features."""
    nodes = [
        *modules.loss.reductions.values(),
        *modules.evaluator.loss.reductions.values(),
        *modules.evaluator.cells.values(),
    ]
    return {feature_of(node.mask): node.mask for node in nodes if node.mask is not None}


def _chunk_of(modules: TrainingModules, batch: Batch, start: Any, steps: int) -> Batch:
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


def _of_means(
    modules: TrainingModules,
    loss: LossModule,
    keys: Sequence[str],
    batch: Batch,
    means: Mapping[str, tf.Tensor],
) -> Sums:
    masks = {
        name: tf.reduce_any(tf.cast(batch[name], tf.bool), axis=1, keepdims=True)
        for name in masks_of(modules)
    }
    outputs = {name: mean[:, tf.newaxis] for name, mean in means.items()}
    return loss.sums(outputs, batch | masks, wanted=keys)


def _silent(modules: TrainingModules, size: int) -> Callable[..., Trajectory]:
    """Every output 0."""
    zeros = lambda shape, dtype: tf.zeros(shape, dtype)  # noqa: E731
    return lambda node, xs, state: made_up(node, xs.shape[0], size, zeros, state)


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


class _Sums(NamedTuple):
    """Sums of the loss of made-up outputs, computed in three ways."""

    whole: Sums
    chunks: Sums
    means: Sums


class _Probe:
    """A short made-up sequence on which is seen what a loss needs of the future."""

    STEPS, SIZE, CHUNKS = 5, 2, ((0, 2), (2, 2), (4, 1))

    def __init__(self, modules: TrainingModules, spec: Spec):
        self._modules = modules
        self._batch = self._make_up(spec)

    def rates(self, replicas: int) -> tuple[str, ...]:
        """Keys of the reductions that are known from mean outputs alone."""
        self._check_nodes()
        loss, found = self._modules.loss, self._sums()
        silent = loss.slopes(self._sums(silent=True).chunks)
        slopes = loss.slopes(found.whole)
        rates = []
        for key, node in loss.reductions.items():
            # No output changes the last of the sums, which is what means divide by.
            known = _equal(slopes[key][:-1], silent[key][:-1])
            if known and (node.constant or _equal(found.whole[key], found.chunks[key])):
                continue
            if key not in found.means or not _equal(found.whole[key], found.means[key]):
                raise GraphError(_needs_the_future(node.name))
            if replicas > 1 and not known:
                raise GraphError(
                    f"{node.name} is of rates over the whole batch, which an online mode cannot "
                    f"add up over {replicas} replicas; use rate_reduction=sample, or mode=factored."
                )
            rates.append(key)
        return tuple(rates)

    def _check_nodes(self) -> None:
        for node in self._modules.model.nodes:
            if isinstance(node, SequenceNode) and any(
                isinstance(below, NetworkNode) for below in ancestors(node.parents)
            ):
                raise GraphError(_needs_the_future(f"node `{node.name}`"))

    def _make_up(self, spec: Spec) -> Batch:
        draw = np.random.default_rng(0)
        masks, temporal = masks_of(self._modules), self._modules.temporal
        batch = {}
        for name, feature in spec.items():
            shape = [self.SIZE, *feature.shape]
            if name in temporal and len(shape) > 1:
                shape[1] = self.STEPS
            if name in masks:
                value = np.arange(self.STEPS) < np.array([[self.STEPS], [3]])
            elif feature.dtype.is_floating:
                value = draw.normal(size=shape)
            else:
                value = np.zeros(shape)
            batch[name] = tf.cast(tf.constant(value), feature.dtype)
        return batch

    def _outputs(self, silent: bool) -> Outputs:
        draw = np.random.default_rng(1)

        def make(shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
            return tf.constant(draw.normal(size=shape) * (not silent), dtype)

        model = self._modules.model
        state = model.initial_state(self.SIZE)
        return {
            node.name: made_up(node, self.STEPS, self.SIZE, make, state[node.name])
            for node in model.networks
        }

    def _sums(self, silent: bool = False) -> _Sums:
        loss, outputs = self._modules.loss, self._outputs(silent)
        whole = self._of(outputs, self._batch, None)[0]
        chunks: Sums = {}
        state = None
        for start, steps in self.CHUNKS:
            batch = _chunk_of(self._modules, self._batch, start, steps)
            cut = {name: _cut(each, start, steps) for name, each in outputs.items()}
            sums, state = self._of(cut, batch, state)
            chunks = {key: value + chunks.get(key, 0.0) for key, value in sums.items()}
        keys = [key for key in loss.reductions if self._of_cells_alone(key)]
        means = {node.name: self._mean(outputs, node) for node in self._cells()}
        return _Sums(whole, chunks, _of_means(self._modules, loss, keys, self._batch, means))

    def _of(self, outputs: Outputs, batch: Batch, state: Any) -> tuple[Sums, GraphState]:
        run = self._modules.model.run(batch, state, lambda node, *_: outputs[node.name])
        return self._modules.loss.sums(run.values, batch), run.state

    def _cells(self) -> Iterator[Any]:
        return (cell for node in self._modules.model.networks for cell in node.cells)

    def _of_cells_alone(self, key: str) -> bool:
        needed = needed_by([self._modules.loss.reductions[key]])
        cells = {node.name for node in self._cells()}
        masks = masks_of(self._modules)
        return (
            bool(needed.outputs)
            and all(node.name in cells for node in needed.outputs)
            and all(feature_of(node) in masks for node in needed.targets)
        )

    def _mean(self, outputs: Outputs, node: Any) -> tf.Tensor:
        index = int(node.key.removeprefix("cell"))
        z = outputs[node.parents[0].name].cells[index].outputs
        if node.mask is None:
            return tf.reduce_mean(z, axis=0)
        real = tf.transpose(tf.cast(self._batch[feature_of(node.mask)], z.dtype))[..., tf.newaxis]
        return tf.reduce_sum(real * z, axis=0) / tf.reduce_sum(real, axis=0)


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
        "its end; use learning.eprop.mode=factored, update_every=window, which scores every chunk "
        "on its own, or a loss that is a sum over steps."
    )
