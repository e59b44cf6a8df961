"""The contract of a learning rule, and what the gradient-based ones share.

A pass through an assembled model is cut in two, with the sums of the loss in between:

    passed = rule.forward(modules, batch, state)             # trajectories, sums of the loss
    slopes = modules.loss.slopes(all_reduce(passed.sums))    # dE/d(sums)
    gradients = rule.backward(modules, batch, passed, slopes)

So the gradient is that of the loss of the global batch, a root of a mean included, on any number of
replicas. On one replica the three are one compiled program.
"""

import abc
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.measures import parameters_of
from orbit_snn.graph.module import GraphState
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.types import Batch, Trajectory


class Window(NamedTuple):
    """Steps `start` to `stop` of a sequence, after which parameters are updated once."""

    start: int
    stop: int


class Forward(NamedTuple):
    """What a rule keeps of the forward pass over one window, in replica context.

    Attributes:
      trajectories: of every network by name of its node.
      before: state of the model before the window.
      state: after it, for the next one.
      sums: of the training loss, of this replica's examples.
      reports: sums of the validation losses and rates, see `GraphEvaluator.sums`.
    """

    trajectories: dict[str, Trajectory]
    before: GraphState
    state: GraphState
    sums: Sums
    reports: dict[str, tf.Tensor]


class Update(NamedTuple):
    """What a rule makes of one window on a single replica.

    Attributes:
      gradients: one tensor for each of `model.parameters`.
      loss: of the window, `[]`.
      state: of the model after the window.
      sums: of the training loss.
      reports: sums of the validation losses and rates.
    """

    gradients: tuple[tf.Tensor, ...]
    loss: tf.Tensor
    state: GraphState
    sums: Sums
    reports: dict[str, tf.Tensor]


class LearningRule(tf.Module, metaclass=abc.ABCMeta):
    """Turns a batch into updates of a model's parameters.

    A trainer runs a rule as

        state = model.initial_state(batch_size)
        for start, stop in rule.windows(steps):
            passed = rule.forward(modules, batch[start:stop], state)
            slopes = modules.loss.slopes(all_reduce(passed.sums))
            gradients = rule.backward(modules, batch[start:stop], passed, slopes)
            optimizer.apply(all_reduce(gradients))
            state = passed.state

    `forward` and `backward` are pure: tensors in, tensors out, static shapes, so that they compile
    under XLA.
    """

    @abc.abstractmethod
    def windows(self, steps: int) -> tuple[Window, ...]:
        """The windows of a sequence of that many steps; together they cover it."""

    @abc.abstractmethod
    def forward(
        self, modules: TrainingModules, batch: Batch, state: GraphState, reports: bool = True
    ) -> Forward:
        """Runs the model over one window.

        Args:
          modules: what is trained.
          batch: this replica's examples, batch-major, cut to the window.
          state: of the model before the window.
          reports: whether the validation losses are wanted too.
        """

    @abc.abstractmethod
    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> tuple[tf.Tensor, ...]:
        """This replica's share of the gradient, one tensor for each of `model.parameters`.

        Args:
          modules: what is trained.
          batch: as in `forward`.
          passed: what `forward` gave.
          slopes: derivative of the loss by the sums over all replicas.
        """

    def update(self, modules: TrainingModules, batch: Batch, state: GraphState) -> Update:
        """Both passes over one window, where this replica is the only one."""
        passed = self.forward(modules, batch, state)
        (loss,) = modules.loss.values(passed.sums)
        gradients = self.backward(modules, batch, passed, modules.loss.slopes(passed.sums))
        return Update(gradients, loss, passed.state, passed.sums, passed.reports)


def run_forward(
    modules: TrainingModules, batch: Batch, state: GraphState, reports: bool = True
) -> Forward:
    """A forward pass that keeps the networks' whole trajectories."""
    run = modules.model.run(batch, state)
    reported = modules.evaluator.sums(run, batch, skip=("loss",)) if reports else {}
    sums = modules.loss.sums(run.values, batch)
    return Forward(run.trajectories(), state, run.state, sums, reported)


def back_propagate(
    modules: TrainingModules,
    batch: Batch,
    passed: Forward,
    slopes: Sums,
    cut_every: int | None = None,
) -> tuple[tf.Tensor, ...]:
    """Gradients of the loss by reverse passes over the trajectories.

    What is outside of the networks is differentiated by TensorFlow; each network is a leaf of that,
    and its own reverse pass takes the gradient on to what feeds it.

    Args:
      modules: what is trained.
      batch: as in `run_forward`.
      passed: what `run_forward` gave.
      slopes: derivative of the loss by its sums.
      cut_every: see `unroll.reverse`.
    """
    model = modules.model
    parameters = model.parameters
    replay = _Replay(passed.trajectories)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        replay.tape = tape
        tape.watch(parameters)
        run = model.run(batch, passed.before, replay.unroll)
        sums = modules.loss.sums(run.values, batch)
    ends, seeds = [sums[key] for key in sums], [slopes[key] for key in sums]
    total: dict[Any, tf.Tensor] = {}
    for node in reversed(model.networks):
        trajectory = replay.trajectories[node.name]
        hidden, readouts = replay.leaves[node.name]
        dhidden, dreadouts = tape.gradient(ends, [hidden, readouts], seeds)
        dreadouts = {
            name: tf.zeros_like(readouts[name]) if gradient is None else gradient
            for name, gradient in dreadouts.items()
        }
        received = replay.received[node.name]
        gradients, dinputs = node.module.reverse(
            trajectory, dhidden, dreadouts, cut_every, inputs_needed=_learns(node)
        )
        _add(total, node.module.parameters, gradients)
        if dinputs is not None:
            ends, seeds = [*ends, received], [*seeds, dinputs]
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


class _Replay:
    """Runs a model again with trajectories that are known, whose outputs are leaves of a tape."""

    def __init__(self, trajectories: dict[str, Trajectory]):
        self.trajectories = trajectories
        self.leaves: dict[str, tuple[list[tf.Tensor], dict[str, tf.Tensor]]] = {}
        self.received: dict[str, tf.Tensor] = {}
        self.tape: Any = None

    def unroll(self, node: NetworkNode, xs: tf.Tensor, state: Any) -> Trajectory:
        """The known trajectory, as a function of nothing."""
        done = self.trajectories[node.name]
        hidden = [tf.identity(cell.outputs) for cell in done.cells]
        readouts = {name: tf.identity(cell.outputs) for name, cell in done.readouts.items()}
        self.tape.watch([hidden, readouts])
        self.leaves[node.name] = hidden, readouts
        self.received[node.name] = xs
        cells = zip(done.cells, hidden, strict=True)
        return Trajectory(
            tuple(cell._replace(outputs=z) for cell, z in cells),
            {name: done.readouts[name]._replace(outputs=y) for name, y in readouts.items()},
        )
