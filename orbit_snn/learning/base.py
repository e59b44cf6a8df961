"""The contract of a learning rule, and what the gradient-based ones share.

A pass through an assembled model is cut in two, with the sums of the loss in between:

    passed = rule.forward(modules, batch, state)             # sums of the loss
    slopes = modules.loss.slopes(all_reduce(passed.sums))    # dE/d(sums)
    learned = rule.backward(modules, batch, passed, slopes)  # gradients

So the gradient is that of the loss of the global batch, a root of a mean included, on any number of
replicas. On one replica the three are one compiled program.
"""

import abc
import numbers
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.types import Batch

Spec = Mapping[str, tf.TensorSpec]
"""Shape and dtype of every feature of one example."""


UPDATES = ("sequence", "window")


class Window(NamedTuple):
    """Steps `start` to `stop` of a sequence, after which parameters are updated once."""

    start: int
    stop: int


def check_steps(name: str, steps: Any) -> None:
    """Raises ValueError for what is no number of steps."""
    if isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or steps < 1:
        raise ValueError(f"{name} is {steps!r}; expected a whole number of steps, 1 or more.")


def windows_of(steps: int, size: int) -> tuple[Window, ...]:
    """Windows of `size` steps, of which the last one takes what is left."""
    return tuple(Window(start, min(start + size, steps)) for start in range(0, steps, size))


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
      rows: what every replica needs of all of them, see `LearningRule.share`; tensors whose first
        dimension counts rows.
    """

    sums: Sums
    kept: Any
    rows: Any = ()


class Learned(NamedTuple):
    """What a rule makes of one window on one replica.

    Attributes:
      gradients: this replica's share, one tensor for each variable of `LearningRule.trained`.
      state: of the model and the rule after the window.
      sums: of the training loss.
      reports: sums of the validation losses and rates, see `GraphEvaluator.sums`.
      assigned: new values of the variables that the rule sets itself, the same on every replica.
      measured: sum and count of each of `LearningRule.reported`.
    """

    gradients: tuple[tf.Tensor, ...]
    state: Any
    sums: Sums
    reports: dict[str, tf.Tensor]
    assigned: tuple[tf.Tensor, ...] = ()
    measured: dict[str, tf.Tensor] = {}


class Update(NamedTuple):
    """What a rule makes of one window where this replica is the only one: `Learned`, and the loss.

    Attributes:
      gradients: as in `Learned`.
      loss: of the window, `[]`.
      state: as in `Learned`.
      sums: as in `Learned`.
      reports: as in `Learned`.
      assigned: as in `Learned`.
      measured: as in `Learned`.
    """

    gradients: tuple[tf.Tensor, ...]
    loss: tf.Tensor
    state: Any
    sums: Sums
    reports: dict[str, tf.Tensor]
    assigned: tuple[tf.Tensor, ...]
    measured: dict[str, tf.Tensor]


class LearningRule(tf.Module, metaclass=abc.ABCMeta):
    """Turns a batch into updates of a model's parameters.

    A trainer runs a rule as

        rule.prepare(modules, spec, steps)                       # once
        state = rule.initial_state(modules, batch_size)
        for start, stop in rule.windows(steps):
            passed = rule.forward(modules, batch[start:stop], state)
            slopes = modules.loss.slopes(all_reduce(passed.sums))
            if rule.shares_rows:
                passed = gather(rule.share(modules, batch[start:stop], passed, slopes))
            learned = rule.backward(modules, batch[start:stop], passed, slopes)
            optimizer.apply(all_reduce(learned.gradients), rule.trained(modules))
            rule.assigned(modules) = learned.assigned
            for variable, factor in rule.decays(modules): variable *= factor
            state = learned.state

    All but `prepare` are pure: tensors in, tensors out, static shapes, so that they compile
    under XLA.

    Attributes:
      reported: names of what it measures, whose means the training loop reports.
      unreported: keys of the evaluator's reductions whose sums it does not know.
      shares_rows: whether `share` makes rows that every replica needs of all of them.
    """

    shares_rows = False

    def __init__(self, name: str):
        super().__init__(name=name)
        self.reported: tuple[str, ...] = ()
        self.unreported: tuple[str, ...] = ()

    @abc.abstractmethod
    def prepare(self, modules: TrainingModules, spec: Spec, steps: int) -> None:
        """Makes the rule's variables for a model, and refuses what it cannot train.

        Args:
          modules: what will be trained.
          spec: of every feature of one example; like batches, completed (`GraphModule.completed`).
          steps: T.

        Raises:
          ValueError: in one line, what cannot be trained and what to do.
        """

    def trained(self, modules: TrainingModules) -> tuple[tf.Variable, ...]:
        """The variables that `backward` gives gradients to: the model's, then the rule's own."""
        return modules.model.parameters

    def assigned(self, modules: TrainingModules) -> tuple[tf.Variable, ...]:
        """The variables that the rule gives new values instead of gradients."""
        return ()

    def decays(self, modules: TrainingModules) -> tuple[tuple[tf.Variable, float], ...]:
        """The variables that shrink after every update, each with its factor."""
        return ()

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

    def share(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Forward:
        """`passed` with rows, which are concatenated over all replicas before `backward` sees them.

        Args:
          modules: what is trained.
          batch: as in `forward`.
          passed: what `forward` gave.
          slopes: as in `backward`.
        """
        return passed

    def report(self) -> dict[str, float]:
        """Numbers about the rule's own variables and what it changes, at the end of a loop."""
        return {}

    def problem(self) -> str:
        """What is wrong with the rule's own variables and what to do, or nothing."""
        return ""

    def update(self, modules: TrainingModules, batch: Batch, state: Any) -> Update:
        """Both passes over one window, where this replica is the only one."""
        passed = self.forward(modules, batch, state)
        slopes = modules.loss.slopes(passed.sums)
        passed = self.share(modules, batch, passed, slopes)
        learned = self.backward(modules, batch, passed, slopes)
        (loss,) = modules.loss.values(learned.sums)
        return Update(learned.gradients, loss, *learned[1:])
