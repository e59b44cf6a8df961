"""A least-squares problem: what a strategy has to say for the one kernel to solve it."""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from orbit_snn.graph.module import GraphState
from orbit_snn.learning.places import Place
from orbit_snn.learning.rls.errors import Errors
from orbit_snn.learning.rls.layers import Layer
from orbit_snn.types import Trajectory

Changes = list[tuple[tf.Variable, tf.Tensor]]
"""By how much each variable is to become smaller."""


class Rows(NamedTuple):
    """Rows of one problem, each an observation; the leading dimension is R.

    Attributes:
      seen: regressors of each part, `[R, ...]`.
      error: output minus target, `[R, M]`.
      weight: how much a row counts, relative to the others, `[R]`.
    """

    seen: tuple[tf.Tensor, ...]
    error: tf.Tensor
    weight: tf.Tensor


class Window(NamedTuple):
    """What problems make their rows of.

    Attributes:
      trajectories: of the networks.
      errors: of the taught places, at the last steps of the window or at all of them.
      filters: what readouts remember of what arrived before the window, by problem.
    """

    trajectories: Mapping[str, Trajectory]
    errors: Mapping[Place, Errors]
    filters: Mapping[str, tf.Tensor]


class Problem(abc.ABC):
    """One least-squares problem of its own: which weights explain which errors.

    Attributes:
      name: of the problem.
      shapes: of P for each part of the weights, `[..., n, n]`.
      joint: whether the parts explain the same errors together.
    """

    joint = False

    def __init__(self, name: str, shapes: Sequence[tuple[int, ...]]):
        self.name = name
        self.shapes = tuple(shapes)

    def remember(self, batch_size: int) -> tf.Tensor | None:
        """What it carries from window to window, before the first one."""
        return None

    def corrected(
        self, state: GraphState, kept: tf.Tensor | None, weights: Sequence[tf.Tensor]
    ) -> GraphState:
        """The model's state, with the output that new weights would have given.

        Args:
          state: after the window.
          kept: what the problem remembers after it.
          weights: new values of `variables`.
        """
        return state

    @abc.abstractmethod
    def rows(self, window: Window) -> tuple[Rows, tf.Tensor | None]:
        """Rows of one replica's window, and what it remembers after it."""

    @abc.abstractmethod
    def regressors(self, rows: Rows) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """The rows of all replicas as the kernel takes them: `[..., R, n]` a part, and errors."""

    @abc.abstractmethod
    def changes(self, steps: Sequence[tf.Tensor]) -> Changes:
        """The step `[..., n, M]` of every part as changes of variables."""

    @property
    @abc.abstractmethod
    def variables(self) -> tuple[tf.Variable, ...]:
        """What it trains."""


class Linear(Problem):
    """Outputs that are linear in what arrives: one P for all neurons that it arrives at.

    Neurons with synapses on rows of their own have a P each, `[N, M, M]`, over these alone.

    Args:
      layer: whose weights are found.
    """

    def __init__(self, layer: Layer):
        super().__init__(layer.place.name, [layer.covariance_shape])
        self._layer = layer

    def regressors(self, rows: Rows) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """As they are, or by neuron."""
        (seen,) = rows.seen
        return (self._layer.regressors(seen),), self._layer.columns(rows.error)

    def changes(self, steps: Sequence[tf.Tensor]) -> Changes:
        """By parameter."""
        return by_parameter(self._layer, self._layer.matrix_of(steps[0]))

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """Of the layer's connections."""
        return self._layer.parameters


def gigabytes(problem: Problem, dtype: tf.DType) -> float:
    """Memory of the problem's P."""
    return sum(math.prod(shape) for shape in problem.shapes) * dtype.size / 1e9


def by_parameter(layer: Layer, matrix: tf.Tensor) -> Changes:
    """A step of a layer as changes of its parameters."""
    return list(zip(layer.parameters, layer.by_parameter(matrix), strict=True))


def relative(weight: tf.Tensor) -> tf.Tensor:
    """Weights of rows, the largest 1."""
    return tf.math.divide_no_nan(weight, tf.reduce_max(weight))
