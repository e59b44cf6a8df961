"""Measures of sequences and networks: what spiking networks are trained and judged on.

Where a mean over steps is taken, every example counts the same however long it is, and padded steps
never count.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn import losses
from orbit_snn.graph.algebra import LossNode
from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.nodes import Node, OutputNode
from orbit_snn.graph.reductions import (
    Measure,
    Real,
    Reduction,
    compared,
    divide,
    mean,
    per_example,
    ratio,
)
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.graph.types import IdxType

REDUCTIONS = ("sample", "batch")


def _cross_entropy(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
    logits, labels = values
    return per_example(losses.cross_entropy(logits, labels, "per_step", real.mask), real)


def _accuracy(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
    logits, labels = values
    return per_example(losses.correct(logits, labels, "per_step", real.mask), real)


def _squared_error(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
    pred, true = compared(node.name, node.parents, values)
    return per_example(losses.squared_error(pred, true, real.mask), real)


def _nmse(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
    pred, true = compared(node.name, node.parents, values)
    if pred.shape.rank != 3:
        raise GraphError(f"{node.name} is of sequences [B, T, K]; got {pred.shape}, use Rsq.")
    parts = losses.squares_about_mean(pred, true, real.mask)
    errors, deviations = (per_example(part, real) for part in parts)
    return tf.stack([errors[0], *tf.unstack(deviations)])


CrossEntropy = Measure(
    "cross_entropy",
    _cross_entropy,
    mean,
    classes=True,
    doc="Softmax cross-entropy in nats of scores `[B, K]` or `[B, T, K]` against class indices, or "
    "one value a class. Of scores at every step, the mean over an example's real steps, then over "
    "examples: each counts the same however long it is.",
)
Accuracy = Measure(
    "accuracy",
    _accuracy,
    mean,
    classes=True,
    doc="Fraction whose largest score is that of the label. Of scores at every step, the fraction "
    "of an example's real steps, then the mean over examples.",
)
SquaredError = Measure(
    "squared_error",
    _squared_error,
    mean,
    doc="`1/2 sum_k (y - y*)^2`, mean over an example's real steps, then over examples (Bellec et "
    "al. 2020).",
)
NMSE = Measure(
    "nmse",
    _nmse,
    lambda sums: ratio(sums[0], sums[1], sums[2]),
    doc="Sum of squared errors over that of squared targets about their own mean in time; infinite "
    "for a target that never changes.",
)


def FiringRate(
    node: OutputNode,
    target_hz: float,
    reduction: str = "sample",
    dt_ms: float | None = None,
) -> Reduction:
    """Firing-rate penalty `1/2 sum_j (f_j - f*)^2`, rates in spikes per step (Bellec et al. 2020).

    Args:
      node: outputs of a cell's neurons, `net.cell0`.
      target_hz: f* in Hz.
      reduction: `sample` takes each example's own rates; `batch` their mean over all examples of
        the (global) batch, as in the paper.
      dt_ms: length of a step, default that of the cell's neurons.

    Raises:
      GraphError: for an unknown reduction, or a node of which no step length is known.
    """
    if reduction not in REDUCTIONS:
        raise GraphError(
            f"the rate penalty's reduction is {reduction!r}; expected sample or batch."
        )
    if dt_ms is None:
        neuron = getattr(node, "neuron", None)
        if neuron is None:
            raise GraphError(
                f"firing_rate: `{node.name}` is not the output of a cell such as net.cell0; give "
                "dt_ms."
            )
        dt_ms = float(neuron.dt_ms)
    target = target_hz * dt_ms / 1000.0
    detail = f",{target_hz:g}Hz" + (",batch" if reduction == "batch" else "")

    def of_samples(values: Sequence[tf.Tensor], real: Real, _: Reduction) -> tf.Tensor:
        rates = losses.mean_over_steps(values[0], real.mask)
        return per_example(losses.rate_penalty(rates, target), real)

    def rates(values: Sequence[tf.Tensor], real: Real, _: Reduction) -> tf.Tensor:
        return total_and_number(losses.mean_over_steps(values[0], real.mask), real)

    def of_mean(sums: tf.Tensor) -> tf.Tensor:
        return losses.rate_penalty(divide(sums[:-1], sums[-1]), target)

    sums, value = (of_samples, mean) if reduction == "sample" else (rates, of_mean)
    return Reduction("firing_rate", (node.pred,), sums, value, detail)


def Voltage(node: OutputNode, low: float, high: float) -> Reduction:
    """Penalty `1/2 sum_j max(0, v_j - high)^2 + max(0, low - v_j)^2` on membrane potentials.

    The mean over an example's real steps, then over examples. Neurons that stay far from their
    threshold have no pseudo-derivative and cannot learn; it brings them back.

    Args:
      node: outputs of a cell's neurons, `net.cell0`.
      low: potentials below it are penalised, in units of the potential.
      high: those above it are.

    Raises:
      GraphError: for a node that is not a cell with membrane potentials, or low above high.
    """
    parent = node.parents[0] if node.parents else None
    known = parent.potentials if isinstance(parent, NetworkNode) else {}
    if getattr(node, "key", None) not in known:
        raise GraphError(
            f"voltage: `{node.name}` is not the output of a cell with membrane potentials, such as "
            "net.cell0."
        )
    if low > high:
        raise GraphError(f"voltage: low is {low} and high {high}; low must not be above high.")

    def sums(values: Sequence[tf.Tensor], real: Real, _: Reduction) -> tf.Tensor:
        (v,) = values
        outside = tf.square(tf.nn.relu(v - high)) + tf.square(tf.nn.relu(low - v))
        penalty = 0.5 * tf.reduce_sum(outside, axis=-1)
        return per_example(losses.mean_over_steps(penalty, real.mask), real)

    return Reduction("voltage", (known[node.key].pred,), sums, mean, f",{low:g}..{high:g}")


def total_and_number(x: tf.Tensor, real: Real) -> tf.Tensor:
    """Sums over examples of each of the N values `[B, N]`, and their number, `[N + 1]`."""
    x = real.exact(x)
    weight = real.elements(x, IdxType.SEQUENCES)
    count = tf.reshape(tf.reduce_sum(weight), [1])
    return tf.concat([tf.reduce_sum(weight * x, axis=0), count], axis=0)


class Penalty(Node):
    """A number made of the trained weights of a node's module; biases and the like are left out.

    Vectors, such as biases, time constants and thresholds, are no weights.
    """

    def __init__(self, kind: str, node: Node, function: Callable[[tf.Tensor], tf.Tensor]):
        super().__init__(f"{kind}({node.name})", (node,), IdxType.SCALAR)
        self._function = function
        self._parameters = parameters_of(node)
        if not self._weights:
            raise GraphError(f"{self.name}: `{node.name}` has no trained weights to penalise.")

    @property
    def _weights(self) -> list[tf.Variable]:
        return [p for p in self._parameters if p.shape.rank > 1]

    def compute(self, *_: Any) -> tf.Tensor:
        """The sum of the function over all weights, `[]`."""
        return tf.add_n([tf.reduce_sum(self._function(weight)) for weight in self._weights])


def L1(node: Node) -> Reduction:
    """`sum |w|` over the trained weights of a network's (or another module's) node."""
    return _penalty("l1", node, tf.abs)


def L2(node: Node) -> Reduction:
    """`1/2 sum w^2` over the trained weights of a network's (or another module's) node."""
    return _penalty("l2", node, lambda w: 0.5 * tf.square(w))


def _penalty(kind: str, node: Node, function: Callable[[tf.Tensor], tf.Tensor]) -> Reduction:
    if kind not in node.penalties:
        node.penalties[kind] = Penalty(kind, node, function)
    return constant(node.penalties[kind])


def constant(node: Node) -> Reduction:
    """A model's number that no example changes, as a term of a loss.

    Args:
      node: whose value is one number, `[]`.
    """

    def sums(values: Sequence[tf.Tensor], real: Real, reduction: Reduction) -> tf.Tensor:
        (x,) = values
        if x.shape.rank != 0:
            raise GraphError(f"{reduction.name}: `{node.name}` gives {x.shape}; expected a number.")
        x = real.exact(x)
        return tf.stack([x, tf.square(x), tf.ones_like(x)])

    return Reduction("constant", (node.pred,), sums, mean, constant=True)


def parameters_of(node: Node) -> tuple[tf.Variable, ...]:
    """Trained variables of a node's module, in an order that does not change."""
    if isinstance(node, NetworkNode):
        return node.module.parameters
    return () if node.module is None else tuple(node.module.trainable_variables)


class DatasetLoss(LossNode):
    """A function of all examples at once, where no sums will do: a median, an area under a curve.

    The evaluator collects the tensors of the whole data set on the host and calls the function
    once. A training loss may hold one on a single replica, of sequences without a mask; it is then
    of the batch, and the function has to be one of TensorFlow.

    Args:
      name: of the loss.
      function: of tensors `[n, ...]`, one for each node, without the examples that fill a batch;
        of sequences with a mask `[real steps, ...]`, those of all examples after each other. Gives
        a number.
      nodes: tensors of the loss, such as `y.pred` and `y.true`.
    """

    scalar = True
    constant = False
    kind = "dataset_loss"

    def __init__(self, name: str, function: Callable[..., Any], *nodes: LossNode):
        super().__init__(f"{name}({','.join(node.name for node in nodes)})", nodes)
        if not nodes or any(node.scalar for node in nodes):
            raise GraphError(f"{self.name} needs tensors of the loss, such as y.pred and y.true.")
        self.function = function

    def sums(self, values: Sequence[tf.Tensor], real: Real) -> tf.Tensor:
        """The function of one batch, and 1: what a training loss adds up, `[2]`."""
        if real.mask is not None:
            raise GraphError(
                f"{self.name} is of padded sequences, which cannot be trained on; report it as a "
                "validation loss, or train on a reduction such as MSE."
            )
        x = tf.convert_to_tensor(self.function(*values))
        return tf.stack([x, tf.ones_like(x)])

    def value(self, sums: tf.Tensor) -> tf.Tensor:
        """Mean over batches."""
        return mean(sums)
