"""The passes that gradient-based rules are made of: forward, and back through every network."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.measures import parameters_of
from orbit_snn.graph.module import GraphState
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.learning.base import Forward, Learned
from orbit_snn.types import Batch, OutputGradients, Trajectory


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


def whole_forward(modules: TrainingModules, batch: Batch, state: GraphState) -> Forward:
    """`LearningRule.forward` of a rule that keeps everything and has no state of its own."""
    passed = run_forward(modules, batch, state)
    return Forward(passed.sums, passed)


def whole_backward(
    modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums, reverse: "Reverse"
) -> Learned:
    """`LearningRule.backward` after `whole_forward`."""
    done: Passed = passed.kept
    gradients = back_propagate(modules, batch, done, slopes, reverse)
    return Learned(gradients, done.state, done.sums, done.reports)


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

    def unroll(self, node: NetworkNode, xs: tf.Tensor, state: Any, given: Any) -> Trajectory:
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
            done.given,
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
