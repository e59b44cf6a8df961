"""e-prop over a sequence in chunks, with one update at its end."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.sequences import outputs_of
from orbit_snn.learning.base import Learned
from orbit_snn.learning.eprop_chunks import ChunkReverse, Plan, RuleTraces
from orbit_snn.learning.eprop_factored import Factored
from orbit_snn.learning.feedback import FeedbackMatrices
from orbit_snn.learning.online import OnlineLoss
from orbit_snn.learning.passes import Passed, back_propagate, run_forward
from orbit_snn.types import Batch
from orbit_snn.unroll import chunks
from orbit_snn.unroll.eligibility import mean_gradients


class EpropState(NamedTuple):
    """What goes from one window to the next.

    Attributes:
      model: state of the model.
      traces: eligibility traces by network.
    """

    model: Any
    traces: RuleTraces


class _Carry(NamedTuple):
    """What goes from one chunk to the next."""

    state: EpropState
    gradients: tuple[tf.Tensor, ...]
    sums: Sums
    reports: dict[str, tf.Tensor]
    means: dict[str, tf.Tensor]


class OnlinePass:
    """One pass through a sequence, forward and learning, in memory that does not grow with it.

    Args:
      loss: over chunks.
      plan: which traces there are.
      feedback: from readouts to cells.
    """

    def __init__(self, loss: OnlineLoss, plan: Plan, feedback: FeedbackMatrices):
        self.loss = loss
        self._plan = plan
        self._feedback = feedback

    def __call__(
        self,
        modules: TrainingModules,
        batch: Batch,
        counts: Sums,
        slopes: Sums,
        state: EpropState,
        reports: dict[str, tf.Tensor],
    ) -> Learned:
        """Gradients of a batch.

        Args:
          modules: what is trained.
          batch: this replica's examples.
          counts: `loss.counts` of them.
          slopes: derivative of the loss by its sums.
          state: before the first step.
          reports: zeros of the shape of what the evaluator reports.
        """
        loss, adaptive = self.loss, self._feedback.trained
        known = {key: slope for key, slope in slopes.items() if key not in loss.rates}
        size = next(iter(batch.values())).shape[0]
        averaged = [
            (node, cell.neuron)
            for network in modules.model.networks
            for node, cell in zip(network.cells, network.module.cells, strict=True)
            if node.name in loss.averaged
        ]
        zeros = tf.nest.map_structure(tf.zeros_like, counts)
        start = _Carry(
            state,
            tuple(tf.zeros(v.shape, v.dtype) for v in (*modules.model.parameters, *adaptive)),
            zeros,
            reports,
            {node.name: tf.zeros([size, own.units], own.dtype) for node, own in averaged},
        )

        def step(carry: _Carry, start: Any, steps: int, is_last: bool) -> _Carry:
            chunk = loss.chunk_of(batch, start, steps)
            done = run_forward(modules, chunk, carry.state.model)
            outputs = {
                node.name: outputs_of(node, done.trajectories[node.parents[0].name])
                for node, _ in averaged
            }
            weights = {
                node.name: loss.weights(batch, chunk, node.mask, own.dtype)
                for node, own in averaged
            }
            advance = not is_last or bool(averaged)
            reverse = ChunkReverse(self._plan, self._feedback, carry.state.traces, weights, advance)
            gradients = gradients_of(modules, chunk, done, known, reverse, adaptive)
            means = {
                name: carry.means[name] + tf.reduce_sum(weights[name] * z, axis=0)
                for name, z in outputs.items()
            }
            plus = lambda *values: tf.nest.map_structure(tf.add, *values)  # noqa: E731
            return _Carry(
                EpropState(done.state, reverse.after),
                plus(carry.gradients, gradients),
                plus(carry.sums, done.sums),
                plus(carry.reports, done.reports),
                means,
            )

        before, last = chunks.lengths(loss.steps, loss.size)
        done = chunks.consecutive(
            before, loss.size, lambda carry, at: step(carry, at, loss.size, False), start
        )
        done = step(done, before * loss.size, last, True)
        return self._with_rates(modules, batch, done, slopes)

    def _with_rates(
        self, modules: TrainingModules, batch: Batch, done: _Carry, slopes: Sums
    ) -> Learned:
        """Adds what depends on mean outputs, which are known now."""
        if not self.loss.rates:
            return Learned(done.gradients, done.state, done.sums, done.reports)
        with tf.GradientTape() as tape:
            tape.watch(done.means)
            rates = self.loss.of_means(batch, done.means)
        sums = {**done.sums, **rates}
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            slopes = modules.loss.slopes(sums)
        seeds = {key: slopes[key] for key in rates}
        dmeans = tape.gradient(rates, done.means, seeds)
        total = {p.ref(): g for p, g in zip(modules.model.parameters, done.gradients, strict=False)}
        for node in modules.model.networks:
            for index, cell in enumerate(node.cells):
                if cell.name in dmeans:
                    module = node.module.cells[index]
                    traces = done.state.traces[node.name].cells[index]
                    found = mean_gradients(module, traces, dmeans[cell.name])
                    for parameter, gradient in zip(module.parameters, found, strict=True):
                        total[parameter.ref()] += gradient
        own = done.gradients[len(modules.model.parameters) :]
        gradients = (*[total[p.ref()] for p in modules.model.parameters], *own)
        exact = self.loss.reports_of_means(batch, done.means)
        reports = {key: exact.get(key, value) for key, value in done.reports.items()}
        return Learned(gradients, done.state, sums, reports)


def gradients_of(
    modules: TrainingModules,
    batch: Batch,
    done: Passed,
    slopes: Sums,
    reverse: Factored | ChunkReverse,
    matrices: Sequence[tf.Variable],
) -> tuple[tf.Tensor, ...]:
    """Gradients to the model's parameters, then those to adaptive feedback.

    Args:
      modules: what is trained.
      batch: that was run.
      done: its forward pass.
      slopes: see `passes.back_propagate`.
      reverse: goes back through one network.
      matrices: adaptive feedback.
    """
    found = back_propagate(modules, batch, done, slopes, reverse)
    return (*found, *[reverse.adaptive[matrix.ref()] for matrix in matrices])
