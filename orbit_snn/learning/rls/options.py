"""What the files of recursive least squares hand to each other."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.module import GraphState
from orbit_snn.learning.feedback import Feedback, FeedbackMatrices
from orbit_snn.learning.passes import Passed
from orbit_snn.learning.rls.kernel import Kernel
from orbit_snn.types import Batch

Shapes = dict[str, list[tuple[tuple[int, ...], tf.DType]]]
"""Of P and its dtype, for each part of each problem."""


OF_CURRENTS = ("current", "own_current")
"""Alignments for which targets are turned into currents."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How least squares is to be set up; see `learning.rls.RLS`."""

    strategy: str
    alignment: str
    groups: str
    gradient: str
    trust: float
    rows: str
    corrected: bool
    feedback: Feedback
    seed: int


class Shared(NamedTuple):
    """What one replica makes of a window.

    Attributes:
      rows: that every replica needs of all of them.
      filters: what readouts remember after the window, by problem.
      gradients: of the replica, for each of `Solver.trained`.
    """

    rows: Any
    filters: dict[str, tf.Tensor]
    gradients: tuple[tf.Tensor, ...]


class Solved(NamedTuple):
    """What the rows of all replicas make of one window.

    Attributes:
      weights: new values of `Solver.weights`.
      matrices: what stands for P after the window, by problem.
      gradients: for each of `Solver.trained`, a share.
      positive: whether every P is a covariance still, `[]`.
      least: smallest `x P x^T`, `[]`.
      trace: of all P, `[]`.
      ratio: error after over error before, `[]`.
    """

    weights: tuple[tf.Tensor, ...]
    matrices: Mapping[str, Sequence[tf.Tensor]]
    gradients: tuple[tf.Tensor, ...]
    positive: tf.Tensor
    least: tf.Tensor
    trace: tf.Tensor
    ratio: tf.Tensor


class Solver(Protocol):
    """What a strategy does for `learning.rls.RLS`.

    Attributes:
      shapes: of P and its dtype, for each part of each problem.
      weights: variables that it gives new values.
      trained: variables that it gives gradients to.
      feedback: matrices that it uses, or None.
    """

    shapes: Shapes
    weights: tuple[tf.Variable, ...]
    trained: tuple[tf.Variable, ...]
    feedback: FeedbackMatrices | None

    def remember(self, batch_size: int) -> dict[str, tf.Tensor]:
        """What readouts remember before the first window."""

    def corrected(
        self, state: GraphState, filters: Mapping[str, tf.Tensor], weights: Sequence[tf.Tensor]
    ) -> GraphState:
        """The model's state with readouts as their new weights make them."""

    def share(
        self, batch: Batch, done: Passed, slopes: Sums, filters: Mapping[str, tf.Tensor]
    ) -> Shared:
        """Makes rows of one replica's window."""

    def solve(
        self,
        kernel: Kernel,
        matrices: Mapping[str, Sequence[tf.Tensor]],
        blocks: tf.Tensor,
        rows: Any,
        gradients: Sequence[tf.Tensor],
    ) -> Solved:
        """Absorbs the rows of all replicas."""


def flat(x: tf.Tensor) -> tf.Tensor:
    """`[T, B, ...]` to `[T B, ...]`."""
    return tf.reshape(x, [-1, *x.shape[2:]])
