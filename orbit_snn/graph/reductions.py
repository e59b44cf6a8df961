"""Reductions: numbers of a whole data set, from sums over its examples.

A reduction is two functions: `sums`, numbers that are added up over batches and replicas, and
`value`, which makes the one number of the data set of them. So metrics are exact whatever the batch
size, and a loss such as a root of a mean has the gradient of the global batch on any number of
replicas. A measure makes reductions:

    mse = MSE.of_node(y)                # of y.pred against y.true
    spread = Std(y.pred - y.true)       # of any tensors
    loss = mse ** 0.5 + 0.1 * spread
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from orbit_snn.graph.algebra import LossNode, at_least_column, check_same_shape, power
from orbit_snn.graph.errors import GraphAssertionError, GraphError
from orbit_snn.graph.nodes import Node
from orbit_snn.graph.types import IdxType


class Real(NamedTuple):
    """What of a batch is real.

    Attributes:
      weight: 1 for an example, 0 for one that only fills the batch, `[B]`.
      mask: 1 at the real steps, `[B, T]`, or None.
      dtype: in which sums are taken, None for that of what is summed.
      share: which part of each example's real steps a chunk of a sequence holds, `[B]`, so that
        sums of means over steps add up to those of the sequence; None for a whole sequence.
    """

    weight: tf.Tensor
    mask: tf.Tensor | None
    dtype: tf.DType | None = None
    share: tf.Tensor | None = None

    @property
    def examples(self) -> tf.Tensor:
        """1 for every example that counts: not where no step is real, `[B]`."""
        if self.mask is None:
            return self.weight
        any_real = tf.reduce_any(tf.cast(self.mask, tf.bool), axis=1)
        return self.weight * tf.cast(any_real, self.weight.dtype)

    def exact(self, x: tf.Tensor) -> tf.Tensor:
        """`x` in the type in which sums are taken."""
        return x if self.dtype is None else tf.cast(x, self.dtype)

    def elements(self, x: tf.Tensor, index: IdxType | None) -> tf.Tensor:
        """1 for every element of `x` that counts, of a shape that broadcasts to that of `x`."""
        weight = tf.cast(self.examples, x.dtype)
        if index is not IdxType.SEQ_STEP and self.share is not None:
            weight *= tf.cast(self.share, x.dtype)
        if index is not IdxType.SEQ_STEP or self.mask is None:
            return tf.reshape(weight, [-1] + [1] * (x.shape.rank - 1))
        weight = weight[:, tf.newaxis] * tf.cast(self.mask, x.dtype)
        return tf.reshape(weight, [*weight.shape, *[1] * (x.shape.rank - 2)])


Sums = Callable[[Sequence[tf.Tensor], Real, "Reduction"], tf.Tensor]


class Reduction(LossNode):
    """One number of a data set, from tensors of its examples.

    Args:
      kind: what it computes, for its name.
      parents: the tensors.
      sums: of their values, what is real and this node, the numbers `[S]` to be added up; the last
        one counts what they are sums over.
      value: the number of the data set, given the added sums.
      detail: what else belongs to its name.
      classes: whether the parents are scores of classes and labels.
      constant: whether it must be the same in every batch, as a penalty on weights is.

    Raises:
      GraphAssertionError: for a node of the model as a parent.
      GraphError: for another parent that is no tensor of the loss.
    """

    scalar = True

    def __init__(
        self,
        kind: str,
        parents: Sequence[LossNode],
        sums: Sums,
        value: Callable[[tf.Tensor], tf.Tensor],
        detail: str = "",
        classes: bool = False,
        constant: bool = False,
    ):
        for parent in parents:
            if isinstance(parent, Node):
                raise GraphAssertionError(
                    f"{kind} got the model's node `{parent.name}`; give it .pred or .true of that "
                    "node, or use of_node."
                )
            outputs = getattr(getattr(parent, "origin", None), "outputs", {})
            if outputs:
                raise GraphAssertionError(
                    f"{kind} got `{parent.origin.name}`, which has several values; use one of "  # type: ignore[attr-defined]
                    f"its outputs, such as {next(iter(outputs.values())).name}."
                )
            if not isinstance(parent, LossNode) or parent.scalar:
                raise GraphError(
                    f"{kind} got {parent!r}; expected tensors of the loss, such as y.pred."
                )
        super().__init__(f"{kind}({','.join(node.name for node in parents)}{detail})", parents)
        self.kind = kind
        self.classes = classes
        self.constant = constant
        self._sums = sums
        self._value = value

    def sums(self, values: Sequence[tf.Tensor], real: Real) -> tf.Tensor:
        """Numbers to be added up over batches and replicas, `[S]`, of values of the parents."""
        return self._sums(values, real, self)

    def value(self, sums: tf.Tensor) -> tf.Tensor:
        """The number of the data set; 0 where nothing was counted."""
        return self._value(sums)


@dataclasses.dataclass(frozen=True)
class Measure:
    """Makes reductions of one kind: `MSE(pred, true)`, or `MSE.of_node(y)`.

    Attributes:
      kind: for names.
      sums: see `Reduction`.
      value: see `Reduction`.
      compares: whether it takes the truth beside the prediction.
      classes: see `Reduction`.
      doc: what it computes.
    """

    kind: str
    sums: Sums
    value: Callable[[tf.Tensor], tf.Tensor]
    compares: bool = True
    classes: bool = False
    doc: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.doc or Measure.__doc__)

    def __call__(self, *nodes: LossNode) -> Reduction:
        """The reduction of these nodes: a prediction and a truth, or one tensor.

        Raises:
          GraphError: for another number of nodes, or something that is no tensor of a loss.
        """
        wanted = 1 + self.compares
        if len(nodes) != wanted:
            raise GraphError(f"{self.kind} got {len(nodes)} nodes; expected {wanted}.")
        return Reduction(self.kind, nodes, self.sums, self.value, classes=self.classes)

    def of_node(self, node: Node) -> Reduction:
        """The reduction of `node.pred`, against `node.true` where it compares."""
        return self(node.pred, node.true) if self.compares else self(node.pred)


def divide(total: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """`total / count`, and 0 where nothing was counted."""
    return tf.math.divide_no_nan(total, count)


def mean(sums: tf.Tensor) -> tf.Tensor:
    """The mean of what `total_and_count` counted."""
    return divide(sums[0], sums[-1])


def ratio(total: tf.Tensor, by: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """`total / by`, infinite where `by` is 0; 0 where nothing was counted."""
    counted = count > 0
    return tf.where(counted, total / tf.where(counted, by, tf.ones_like(by)), tf.zeros_like(total))


def total_and_count(x: tf.Tensor, real: Real, index: IdxType | None) -> tf.Tensor:
    """Sum of the elements of `x` that count, and their number, `[2]`."""
    x = real.exact(x)
    weight = real.elements(x, index)
    return tf.stack([tf.reduce_sum(weight * x), _count(x, weight)])


def per_example(x: tf.Tensor, real: Real) -> tf.Tensor:
    """Sum of one number an example, `[B]`, and the number of examples, `[2]`."""
    return total_and_count(x, real, IdxType.SEQUENCES)


def compared(
    name: str, nodes: Sequence[LossNode], values: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Prediction and truth of the same shape and type.

    Raises:
      GraphError: where the shapes differ; nothing is broadcast.
    """
    pred, true = (at_least_column(*pair) for pair in zip(nodes[:2], values[:2], strict=True))
    check_same_shape(name, nodes, (pred, true))
    return pred, tf.cast(true, pred.dtype)


def _count(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(weight) * tf.cast(tf.size(x) // tf.size(weight), weight.dtype)


def _elements(function: Callable[..., tf.Tensor], compares: bool) -> Sums:
    """Sums of a function of each element."""

    def sums(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
        if compares:
            x = function(*compared(node.name, node.parents, values))
        else:
            x = function(at_least_column(node.parents[0], values[0]))
        return total_and_count(x, real, node.index)

    return sums


def _moments(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
    """Sum, sum of squares and count; always in double precision, for their difference is taken."""
    x = tf.cast(at_least_column(node.parents[0], values[0]), tf.float64)
    weight = real.elements(x, node.index)
    powers = [tf.reduce_sum(weight * x), tf.reduce_sum(weight * tf.square(x))]
    return tf.stack([*powers, _count(x, weight)])


def _variance(sums: tf.Tensor) -> tf.Tensor:
    """Of `_moments`, with n - 1."""
    total, squares, count = tf.unstack(sums)
    about_mean = squares - divide(tf.square(total), count)
    return divide(tf.maximum(about_mean, 0.0), count - 1.0)


def _rsq_sums(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
    pred, true = compared(node.name, node.parents, values)
    pred, true = tf.cast(pred, tf.float64), tf.cast(true, tf.float64)
    error = tf.reduce_sum(real.elements(pred, node.index) * tf.square(pred - true))
    return tf.concat([[error], _moments([true], real, node)], axis=0)


def _rsq(sums: tf.Tensor) -> tf.Tensor:
    error, total, squares, count = tf.unstack(sums)
    variance = (squares - divide(tf.square(total), count)) / (count - 1.0)
    return tf.where(count > 0, 1.0 - ratio(divide(error, count), variance, count), 0.0)


def _weighted(function: Callable[..., tf.Tensor]) -> Sums:
    def sums(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
        pred, true = compared(node.name, node.parents, values)
        pred, true = real.exact(pred), real.exact(true)
        weight = tf.cast(at_least_column(node.parents[2], values[2]), pred.dtype)
        if weight.shape.rank == 2 and weight.shape[1] == 1 and pred.shape.rank == 3:
            weight = tf.repeat(weight[:, :, tf.newaxis], pred.shape[1], axis=1)
        if weight.shape[:-1] != pred.shape[:-1] or weight.shape[-1] not in (1, pred.shape[-1]):
            raise GraphError(
                f"{node.name}: the weights have shape {values[2].shape}, the prediction "
                f"{pred.shape}; give one weight for each example or step, or for each element."
            )
        counted = tf.broadcast_to(weight * real.elements(pred, node.index), pred.shape)
        return tf.stack([tf.reduce_sum(counted * function(pred, true)), tf.reduce_sum(counted)])

    return sums


@dataclasses.dataclass(frozen=True)
class WeightedMeasure:
    """As `Measure`, with a weight for every example, step or element: `sum w e / sum w`."""

    kind: str
    sums: Sums
    doc: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.doc or WeightedMeasure.__doc__)

    def __call__(self, pred: LossNode, true: LossNode, weight: LossNode) -> Reduction:
        """The reduction of a prediction and a truth, weighted."""
        return Reduction(self.kind, (pred, true, weight), self.sums, mean)

    def of_node(self, node: Node, weight: Node) -> Reduction:
        """Of `node.pred` against `node.true`; `weight` is a feature, or a node of the model."""
        given = weight.true if weight.db_name is not None else weight.pred
        return self(node.pred, node.true, given)


MSE = Measure(
    "mse_loss",
    _elements(lambda y, t: tf.square(y - t), True),
    mean,
    doc="Mean of the squared errors of all elements.",
)

MAE = Measure(
    "l1_loss",
    _elements(lambda y, t: tf.abs(y - t), True),
    mean,
    doc="Mean of the absolute errors of all elements.",
)

Mean = Measure(
    "mean",
    _elements(lambda x: x, False),
    mean,
    compares=False,
    doc="Mean of all elements.",
)

MeanSq = Measure(
    "mean_sq",
    _elements(tf.square, False),
    mean,
    compares=False,
    doc="Mean of the squares of all elements.",
)

Var = Measure(
    "var",
    _moments,
    _variance,
    compares=False,
    doc="Variance of all elements about their mean, with n - 1 (Bessel).",
)

Std = Measure(
    "std",
    _moments,
    lambda sums: power(_variance(sums), 0.5),
    compares=False,
    doc="Root of `Var`.",
)

Rsq = Measure(
    "rsq",
    _rsq_sums,
    _rsq,
    doc="`1 - MSE / Var(true)`, with the n - 1 of `Var`: of n elements 1 - (n - 1) / n (1 - R^2); "
    "minus infinity for a truth that never changes.",
)

WeightedMSE = WeightedMeasure(
    "weighted_mse_loss",
    _weighted(lambda y, t: tf.square(y - t)),
    doc="Mean of the squared errors, each with its weight.",
)

WeightedMAE = WeightedMeasure(
    "weighted_l1_loss",
    _weighted(lambda y, t: tf.abs(y - t)),
    doc="Mean of the absolute errors, each with its weight.",
)
