"""e-prop: eligibility propagation (Bellec et al., Nat. Commun. 11:3625, 2020)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn import unroll
from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.learning.base import (
    Forward,
    Learned,
    LearningRule,
    Passed,
    Spec,
    Window,
    back_propagate,
    run_forward,
)
from orbit_snn.learning.eprop_checks import check_adaptive, check_layers, check_readouts
from orbit_snn.learning.eprop_chunks import ChunkReverse, Plan, RuleTraces
from orbit_snn.learning.feedback import Feedback, FeedbackMatrices
from orbit_snn.learning.online import OnlineLoss
from orbit_snn.networks import add
from orbit_snn.types import Batch, OutputGradients, Trajectory
from orbit_snn.unroll import chunks
from orbit_snn.unroll.eligibility import mean_gradients

MODES = ("factored", "chunked", "stepwise")
LAYER_GRADIENTS = ("spatial", "stop")
UPDATES = ("sequence", "window")


class EpropState(NamedTuple):
    """What goes from one window to the next.

    Attributes:
      model: state of the model.
      traces: eligibility traces by network.
    """

    model: Any
    traces: RuleTraces


class Eprop(LearningRule):
    """Eligibility traces times learning signals: the gradient without paths between neurons.

    It is the gradient of the loss where the spikes that neurons send to each other are constants
    (eq. 1 and 4 of the paper): the recurrent current, and where the neuron's `reset.gradient` is
    False, which is the paper's choice, its reset. With `reset.gradient` it is SnAp-1. Scalings are
    those of the neurons: the paper's are `input_gain` `one` for hidden neurons and readouts, those
    of its published code (IGITUGraz) `one_minus_decay`.

    All modes give the same gradient. `factored` goes back once through a whole sequence, as cheap
    as a back-propagation without its recurrent product, and keeps the sequence. `chunked` goes
    forward in chunks and carries traces from one to the next: its memory does not grow with the
    sequence, and after every chunk the gradient so far is there. `stepwise` is chunks of one step,
    the online rule as it is written.

    Args:
      mode: `factored`, `chunked` or `stepwise`.
      chunk: steps of a chunk; the last one takes what is left.
      feedback: the way of errors from readouts to neurons.
      layer_gradient: between cells in series. `spatial` lets errors pass down through the weights
        and the memory of the cells above, `stop` does not: readouts then teach every cell of their
        network directly, through random feedback.
      update_every: `sequence` updates once a batch. `window` updates after every chunk, which is
        then scored on its own, with the state and the traces carried on.
      seed: of random feedback that has none.

    Raises:
      ValueError: for an unknown mode or kind, or a chunk below 1.
    """

    def __init__(
        self,
        mode: str = "factored",
        chunk: int = 250,
        feedback: Feedback = Feedback(),
        layer_gradient: str = "spatial",
        update_every: str = "sequence",
        seed: int = 0,
    ):
        super().__init__(name="eprop")
        for name, value, known in (
            ("mode", mode, MODES),
            ("layer_gradient", layer_gradient, LAYER_GRADIENTS),
            ("update_every", update_every, UPDATES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}.")
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; expected 1 step or more.")
        self.mode = mode
        self.chunk = 1 if mode == "stepwise" else int(chunk)
        self.layer_gradient = layer_gradient
        self.update_every = update_every
        self._kind = feedback
        self._seed = seed
        self.feedback: FeedbackMatrices | None = None
        self._plan: Plan | None = None
        self._loss: OnlineLoss | None = None
        self.online = False

    def prepare(self, modules: TrainingModules, spec: Spec, steps: int) -> None:
        """See `LearningRule.prepare`.

        Raises:
          GraphError: for a model or loss that cannot be trained in this mode.
          ValueError: for feedback of a wrong shape.
        """
        self.online = self.mode != "factored" and self.chunk < steps
        check_readouts(modules)
        check_layers(modules, self._kind.kind, self.layer_gradient, self.online)
        networks = modules.model.networks
        everywhere = self.layer_gradient == "stop"
        with self.name_scope:
            self.feedback = FeedbackMatrices(self._kind, networks, everywhere, self._seed)
        if self._kind.kind == "adaptive":
            check_adaptive(modules)
            taught = [(node, name) for node in networks for name in node.readouts]
            matrices = [v for each in taught for v in self.feedback.trained_like(*each)]
            kernels = [_kernel(*each) for each in taught]
            keep = 1.0 - self._kind.decay
            self.parameters = tuple(matrices)
            self.decays = tuple((variable, keep) for variable in (*matrices, *kernels))
        if not self.online:
            return
        averaged: frozenset[str] = frozenset()
        if self.update_every == "sequence":
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            self._loss = OnlineLoss(modules, spec, steps, self.chunk, replicas)
            averaged = self._loss.averaged
        self._plan = Plan(networks, averaged)

    def windows(self, steps: int) -> tuple[Window, ...]:
        """The whole sequence, or every chunk."""
        if self.mode == "factored" or self.update_every == "sequence":
            return (Window(0, steps),)
        starts = range(0, steps, self.chunk)
        return tuple(Window(start, min(start + self.chunk, steps)) for start in starts)

    def initial_state(self, modules: TrainingModules, batch_size: int) -> EpropState:
        """State of the model, and no traces."""
        plan = self._plan
        traces = {} if plan is None else plan.no_traces(modules.model.networks, batch_size)
        return EpropState(modules.model.initial_state(batch_size), traces)

    def forward(self, modules: TrainingModules, batch: Batch, state: EpropState) -> Forward:
        """See `LearningRule.forward`; online, only what means divide by is known beforehand."""
        self._check_prepared()
        if self._loss is not None:
            sums, reports = self._loss.counts(batch)
            return Forward(sums, (state, reports))
        passed = run_forward(modules, batch, state.model)
        return Forward(passed.sums, (passed, state.traces))

    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Learned:
        """See `LearningRule.backward`."""
        if self._loss is not None:
            state, reports = passed.kept
            return self._over_chunks(modules, batch, state, slopes, passed.sums, reports)
        done, traces = passed.kept
        if not self.online:
            factored = _Factored(self.feedback, self.layer_gradient == "spatial")
            gradients = self._gradients(modules, batch, done, slopes, factored)
            return Learned(gradients, EpropState(done.state, {}), done.sums, done.reports)
        reverse = ChunkReverse(self._plan, self.feedback, traces)
        gradients = self._gradients(modules, batch, done, slopes, reverse)
        state = EpropState(done.state, reverse.after)
        return Learned(gradients, state, done.sums, done.reports)

    def _check_prepared(self) -> None:
        if self.feedback is None:
            raise RuntimeError("call prepare(modules, spec, steps) before the first step.")

    def _gradients(
        self, modules: TrainingModules, batch: Batch, done: Passed, slopes: Sums, reverse: Any
    ) -> tuple[tf.Tensor, ...]:
        """Those of the model, then those of adaptive feedback."""
        found = back_propagate(modules, batch, done, slopes, reverse)
        return (*found, *[reverse.adaptive[matrix.ref()] for matrix in self.parameters])

    def _over_chunks(
        self,
        modules: TrainingModules,
        batch: Batch,
        state: EpropState,
        slopes: Sums,
        counts: Sums,
        reports: dict[str, tf.Tensor],
    ) -> Learned:
        """One pass through a sequence in chunks."""
        loss, plan = self._loss, self._plan
        known = {key: slope for key, slope in slopes.items() if key not in loss.rates}
        size = next(iter(batch.values())).shape[0]
        cells = [c for node in modules.model.networks for c in node.cells]
        averaged = [cell for cell in cells if cell.name in loss.averaged]
        zeros = tf.nest.map_structure(tf.zeros_like, counts)
        start = _Carry(
            state,
            tuple(
                tf.zeros(p.shape, p.dtype) for p in (*modules.model.parameters, *self.parameters)
            ),
            zeros,
            reports,
            {
                cell.name: tf.zeros([size, cell.neuron.units], cell.neuron.dtype)
                for cell in averaged
            },
        )

        def step(carry: _Carry, start: Any, steps: int, is_last: bool) -> _Carry:
            chunk = loss.chunk_of(batch, start, steps)
            done = run_forward(modules, chunk, carry.state.model)
            weights = {
                cell.name: loss.weights(batch, chunk, cell.mask, cell.neuron.dtype)
                for cell in averaged
            }
            advance = not is_last or bool(averaged)
            reverse = ChunkReverse(plan, self.feedback, carry.state.traces, weights, advance)
            gradients = self._gradients(modules, chunk, done, known, reverse)
            means = {
                cell.name: carry.means[cell.name]
                + tf.reduce_sum(weights[cell.name] * _outputs(cell, done.trajectories), axis=0)
                for cell in averaged
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
        self, modules: TrainingModules, batch: Batch, done: "_Carry", slopes: Sums
    ) -> Learned:
        """Adds what depends on mean outputs, which are known now."""
        if not self._loss.rates:
            return Learned(done.gradients, done.state, done.sums, done.reports)
        with tf.GradientTape() as tape:
            tape.watch(done.means)
            rates = self._loss.of_means(batch, done.means)
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
        exact = self._loss.reports_of_means(batch, done.means)
        reports = {key: exact.get(key, value) for key, value in done.reports.items()}
        return Learned(gradients, done.state, sums, reports)


class _Carry(NamedTuple):
    """What goes from one chunk to the next."""

    state: EpropState
    gradients: tuple[tf.Tensor, ...]
    sums: Sums
    reports: dict[str, tf.Tensor]
    means: dict[str, tf.Tensor]


class _Factored:
    """Goes back through a whole network; a `learning.base.Reverse`.

    Attributes:
      adaptive: gradients to adaptive feedback, by reference of the variable.
    """

    def __init__(self, feedback: FeedbackMatrices, spatial: bool):
        self._feedback = feedback
        self._spatial = spatial
        self.adaptive: dict[Any, tf.Tensor] = {}

    def __call__(
        self, node: NetworkNode, trajectory: Trajectory, direct: OutputGradients, below: bool
    ) -> tuple[Sequence[tf.Tensor], tf.Tensor | None]:
        """See `learning.base.Reverse`."""
        network = node.module
        every: dict[str, Any] = {"checkpoint_every": network.checkpoint_every, "couple": False}
        signals = list(direct.cells)
        readouts: list[tuple[tf.Tensor, ...]] = []
        for name, cell in network.readouts.items():
            back = unroll.reverse(cell, trajectory.readouts[name], direct.readouts[name], **every)
            readouts.append(back.gradients)
            for matrix in self._feedback.trained_like(node, name):
                self.adaptive[matrix.ref()] = back.gradients[0]
            for index, signal in enumerate(signals):
                if self._feedback.teaches(node, index):
                    taught = self._feedback.signal(node, name, index, back.currents)
                    signals[index] = add(signal, taught)
        above: tf.Tensor | None = None
        cells: list[tuple[tf.Tensor, ...]] = []
        for index in reversed(range(len(network.cells))):
            own = trajectory.cells[index]
            signal = add(signals[index], above)
            back = unroll.reverse(
                network.cells[index],
                own,
                tf.zeros_like(own.outputs) if signal is None else signal,
                inputs_needed=self._spatial and (below or index > 0),
                dhistory=direct.histories[index],
                **every,
            )
            cells.insert(0, back.gradients)
            above = back.inputs
        return tuple(g for group in (*cells, *readouts) for g in group), above


def _kernel(node: NetworkNode, readout: str) -> tf.Variable:
    """The weights of a readout, which adaptive feedback follows."""
    return node.module.readouts[readout].feedforward.parameters[0]


def _outputs(cell: Any, trajectories: dict[str, Trajectory]) -> tf.Tensor:
    """Outputs `[C, B, N]` of a cell, given its node."""
    return trajectories[cell.parents[0].name].cells[int(cell.key.removeprefix("cell"))].outputs
