"""The contract of a learning rule, and what the gradient-based ones share.

A pass through an assembled model is cut in two, with the sums of the loss in between:

    passed = rule.forward(modules, batch, state)             # sums of the loss
    slopes = modules.loss.slopes(all_reduce(passed.sums))    # dE/d(sums)
    learned = rule.backward(modules, batch, passed, slopes)  # gradients

So the gradient is that of the loss of the global batch, a root of a mean included, on any number of
replicas. On one replica the three are one compiled program.
"""

import abc
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.measures import parameters_of
from orbit_snn.graph.module import GraphState
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.types import Batch, OutputGradients, Trajectory

Spec = Mapping[str, tf.TensorSpec]
"""Shape and dtype of every feature of one example."""


class Window(NamedTuple):
    """Steps `start` to `stop` of a sequence, after which parameters are updated once."""

    start: int
    stop: int


def window_of(batch: Batch, temporal: Collection[str], start: Any, steps: int) -> Batch:
    """The features of some steps of a batch; those without a time axis stay whole.

    Args:
      batch: features `[B, ...]`; a label for all steps of a sequence, `[B]`, has no time axis.
      temporal: names of those that are `[B, T, ...]`.
      start: the first step, a number or a scalar tensor.
      steps: how many.
    """

    def cut(x: tf.Tensor) -> tf.Tensor:
        begin = tf.concat([[0, start], tf.zeros([x.shape.rank - 2], tf.int32)], axis=0)
        return tf.slice(x, begin, [x.shape[0], steps, *x.shape[2:]])

    return {
        name: cut(x) if name in temporal and x.shape.rank > 1 else x for name, x in batch.items()
    }


class Forward(NamedTuple):
    """What a rule keeps of the forward pass over one window, in replica context.

    Attributes:
      sums: of the training loss, of this replica's examples.
      kept: whatever `backward` needs; tensors in any structure.
    """

    sums: Sums
    kept: Any


class Learned(NamedTuple):
    """What a rule makes of one window on one replica.

    Attributes:
      gradients: this replica's share, one tensor for each of `model.parameters` and then for each
        of the rule's own `parameters`.
      state: of the model and the rule after the window.
      sums: of the training loss.
      reports: sums of the validation losses and rates, see `GraphEvaluator.sums`.
    """

    gradients: tuple[tf.Tensor, ...]
    state: Any
    sums: Sums
    reports: dict[str, tf.Tensor]


class Update(NamedTuple):
    """What a rule makes of one window where this replica is the only one.

    Attributes:
      gradients: as in `Learned`.
      loss: of the window, `[]`.
      state: as in `Learned`.
      sums: as in `Learned`.
      reports: as in `Learned`.
    """

    gradients: tuple[tf.Tensor, ...]
    loss: tf.Tensor
    state: Any
    sums: Sums
    reports: dict[str, tf.Tensor]


class LearningRule(tf.Module, metaclass=abc.ABCMeta):
    """Turns a batch into updates of a model's parameters.

    A trainer runs a rule as

        rule.prepare(modules, spec, steps)                       # once
        state = rule.initial_state(modules, batch_size)
        for start, stop in rule.windows(steps):
            passed = rule.forward(modules, batch[start:stop], state)
            slopes = modules.loss.slopes(all_reduce(passed.sums))
            learned = rule.backward(modules, batch[start:stop], passed, slopes)
            optimizer.apply(all_reduce(learned.gradients))
            for variable, factor in rule.decays: variable *= factor
            state = learned.state

    `forward` and `backward` are pure: tensors in, tensors out, static shapes, so that they compile
    under XLA.

    Attributes:
      parameters: variables of the rule itself that are trained like the model's.
      decays: variables that shrink after every update, each with its factor.
    """

    def __init__(self, name: str):
        super().__init__(name=name)
        self.parameters: tuple[tf.Variable, ...] = ()
        self.decays: tuple[tuple[tf.Variable, float], ...] = ()

    @abc.abstractmethod
    def prepare(self, modules: TrainingModules, spec: Spec, steps: int) -> None:
        """Makes the rule's variables for a model, and refuses what it cannot train.

        Args:
          modules: what will be trained.
          spec: of every feature of one example.
          steps: T.

        Raises:
          ValueError: in one line, what cannot be trained and what to do.
        """

    @abc.abstractmethod
    def windows(self, steps: int) -> tuple[Window, ...]:
        """The windows of a sequence of that many steps; together they cover it."""

    @abc.abstractmethod
    def initial_state(self, modules: TrainingModules, batch_size: int) -> Any:
        """State of the model, and of the rule where it carries something over windows."""

    @abc.abstractmethod
    def forward(self, modules: TrainingModules, batch: Batch, state: Any) -> Forward:
        """Runs the model over one window, so far that the sums of its loss are known.

        Args:
          modules: what is trained.
          batch: this replica's examples, batch-major, cut to the window.
          state: before the window.
        """

    @abc.abstractmethod
    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Learned:
        """This replica's share of the gradient, and what is left of the window.

        Args:
          modules: what is trained.
          batch: as in `forward`.
          passed: what `forward` gave.
          slopes: derivative of the loss by the sums over all replicas.
        """

    def update(self, modules: TrainingModules, batch: Batch, state: Any) -> Update:
        """Both passes over one window, where this replica is the only one."""
        passed = self.forward(modules, batch, state)
        learned = self.backward(modules, batch, passed, modules.loss.slopes(passed.sums))
        (loss,) = modules.loss.values(learned.sums)
        return Update(learned.gradients, loss, *learned[1:])


class Passed(NamedTuple):
    """A forward pass over one window that keeps everything.

    Attributes:
      trajectories: of every network by name of its node.
      before: state of the model before the window.
      state: after it.
      sums: of the training loss.
      reports: sums of the validation losses and rates.
    """

    trajectories: dict[str, Trajectory]
    before: GraphState
    state: GraphState
    sums: Sums
    reports: dict[str, tf.Tensor]


def run_forward(modules: TrainingModules, batch: Batch, state: GraphState) -> Passed:
    """A forward pass that keeps the networks' whole trajectories."""
    run = modules.model.run(batch, state)
    reports = modules.evaluator.sums(run, batch, skip=("loss",))
    sums = modules.loss.sums(run.values, batch)
    return Passed(run.trajectories(), state, run.state, sums, reports)


class Reverse(Protocol):
    """Goes back through one network."""

    def __call__(
        self, node: NetworkNode, trajectory: Trajectory, direct: OutputGradients, below: bool
    ) -> tuple[Sequence[tf.Tensor], tf.Tensor | None]:
        """Gradients to the network's parameters and, if `below`, to its inputs, `[T, B, F]`."""


def by_time(cut_every: int | None = None) -> Reverse:
    """The reverse pass of back-propagation through time; see `unroll.reverse`."""

    def reverse(
        node: NetworkNode, trajectory: Trajectory, direct: OutputGradients, below: bool
    ) -> tuple[Sequence[tf.Tensor], tf.Tensor | None]:
        return node.module.reverse(trajectory, direct, cut_every, inputs_needed=below)

    return reverse


def back_propagate(
    modules: TrainingModules, batch: Batch, passed: Passed, slopes: Sums, reverse: Reverse
) -> tuple[tf.Tensor, ...]:
    """Gradients of the loss, one for each of `model.parameters`.

    What is outside of the networks is differentiated by TensorFlow; each network is a leaf of that,
    and its reverse pass takes the gradient on to what feeds it.

    Args:
      modules: what is trained.
      batch: as in `run_forward`.
      passed: what `run_forward` gave.
      slopes: derivative of the loss by its sums; those that are left out count as 0.
      reverse: goes back through one network.
    """
    model = modules.model
    parameters = model.parameters
    replay = Replay(passed.trajectories)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        replay.tape = tape
        tape.watch(parameters)
        run = model.run(batch, passed.before, replay.unroll)
        sums = modules.loss.sums(run.values, batch, wanted=slopes)
    ends, seeds = [sums[key] for key in sums], [slopes[key] for key in sums]
    total: dict[Any, tf.Tensor] = {}
    for node in reversed(model.networks):
        direct = replay.gradients(node, ends, seeds)
        trajectory = replay.trajectories[node.name]
        gradients, dinputs = reverse(node, trajectory, direct, _learns(node))
        _add(total, node.module.parameters, gradients)
        if dinputs is not None:
            ends, seeds = [*ends, replay.received[node.name]], [*seeds, dinputs]
    _add(total, parameters, tape.gradient(ends, list(parameters), seeds))
    return tuple(total.get(p.ref(), tf.zeros_like(p)) for p in parameters)


def _learns(node: NetworkNode) -> bool:
    """Whether something that feeds a network is trained, so that it wants a gradient."""
    return any(parameters_of(below) for below in ancestors(node.parents))


def _add(total: dict[Any, tf.Tensor], parameters: Any, gradients: Any) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            before = total.get(parameter.ref())
            total[parameter.ref()] = gradient if before is None else before + gradient


class Replay:
    """Runs a model again with trajectories that are known, whose outputs are leaves of a tape."""

    def __init__(self, trajectories: dict[str, Trajectory]):
        self.trajectories = trajectories
        self.leaves: dict[str, OutputGradients] = {}
        self.received: dict[str, tf.Tensor] = {}
        self.tape: Any = None

    def unroll(self, node: NetworkNode, xs: tf.Tensor, state: Any) -> Trajectory:
        """The known trajectory, as a function of nothing."""
        done = self.trajectories[node.name]
        copy = lambda x: tf.nest.map_structure(tf.identity, x)  # noqa: E731
        leaves = OutputGradients(
            [copy(cell.outputs) for cell in done.cells],
            [() if cell.history is None else copy(cell.history) for cell in done.cells],
            {name: copy(cell.outputs) for name, cell in done.readouts.items()},
        )
        self.tape.watch(leaves)
        self.leaves[node.name] = leaves
        self.received[node.name] = xs
        cells = zip(done.cells, leaves.cells, leaves.histories, strict=True)
        return Trajectory(
            tuple(cell._replace(outputs=z, history=h or None) for cell, z, h in cells),
            {name: done.readouts[name]._replace(outputs=y) for name, y in leaves.readouts.items()},
        )

    def gradients(self, node: NetworkNode, ends: Any, seeds: Any) -> OutputGradients:
        """What the tape has for one network's outputs."""
        leaves = self.leaves[node.name]
        found = self.tape.gradient(ends, leaves, seeds)
        readouts = {
            name: tf.zeros_like(leaves.readouts[name]) if gradient is None else gradient
            for name, gradient in found.readouts.items()
        }
        pairs = zip(found.histories, leaves.histories, strict=True)
        return OutputGradients(found.cells, [_filled(*pair) for pair in pairs], readouts)


def _filled(gradient: Any, like: Any) -> Any:
    """A structure with zeros where it has no gradient; None where it has none at all."""
    flat = tf.nest.flatten(gradient)
    if all(x is None for x in flat):
        return None
    pairs = zip(flat, tf.nest.flatten(like), strict=True)
    filled = [tf.zeros_like(leaf) if x is None else x for x, leaf in pairs]
    return tf.nest.pack_sequence_as(like, filled)
