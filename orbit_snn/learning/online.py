"""A loss over a sequence, chunk by chunk: the gradient of the whole without its future.

Where a loss is a sum over steps, the gradient of a chunk is known as soon as the chunk is over:
the only thing that must be known beforehand is what means divide by, and that follows from the
masks. A firing-rate penalty is none of these, for it depends on a mean over all steps; but on that
alone, so its gradient is made at the end, from the mean and the mean of the traces.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums, feature_of
from orbit_snn.graph.nodes import Node
from orbit_snn.learning.base import Spec
from orbit_snn.learning.chunk_data import chunk_length, chunk_of, made_up, of_means
from orbit_snn.learning.online_probe import Probe, Reported, averaged_by
from orbit_snn.types import Batch, Trajectory
from orbit_snn.unroll import chunks


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
      reported: those of the evaluator's reductions, and keys of what it cannot know.

    Raises:
      GraphError: for a loss whose gradient at a step depends on later steps.
    """

    def __init__(self, modules: TrainingModules, spec: Spec, steps: int, size: int, replicas: int):
        self._modules = modules
        self.steps = steps
        self.size = min(size, steps)
        self.rates: tuple[str, ...] = ()
        self.reported = Reported((), ())
        if self.size < steps:
            self.rates, self.reported = Probe(modules, spec).online(replicas)

    @property
    def averaged(self) -> frozenset[str]:
        """Names of the cells' nodes whose mean outputs the loss needs."""
        return averaged_by(self._modules.loss, self.rates)

    def chunk_of(self, batch: Batch, start: Any, steps: int) -> Batch:
        """Some steps of a batch, with the shares that they have in each example."""
        return chunk_of(self._modules, batch, start, steps)

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

        before, last = chunks.lengths(self.steps, self.size)
        sums, reports = of(before * self.size, last)
        sums = chunks.consecutive(
            before,
            self.size,
            lambda total, start: tf.nest.map_structure(tf.add, total, of(start, self.size)[0]),
            sums,
        )
        return sums, tf.nest.map_structure(tf.zeros_like, reports)

    def of_means(self, batch: Batch, means: Mapping[str, tf.Tensor]) -> Sums:
        """Sums of `rates` of whole sequences, given the cells' mean outputs `[B, N]`."""
        return of_means(self._modules, self._modules.loss, self.rates, batch, means)

    def reports_of_means(self, batch: Batch, means: Mapping[str, tf.Tensor]) -> Sums:
        """Sums of `reported.rates`, as the evaluator takes them."""
        loss = self._modules.evaluator.loss
        found = of_means(self._modules, loss, self.reported.rates, batch, means)
        return {key: tf.cast(value, tf.float64) for key, value in found.items()}


def _silent(modules: TrainingModules, size: int) -> Callable[..., Trajectory]:
    """Every output 0."""
    return lambda node, xs, state, _: made_up(node, xs.shape[0], size, tf.zeros, state)
