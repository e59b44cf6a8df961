"""Loss nodes and their arithmetic: what a model gives, what the data set says, and formulas.

A formula is made of two kinds of nodes. Those of tensors, such as `y.pred - y.true`, have a value
for every example; those of numbers, such as `MSE.of_node(y) ** 0.5`, one for the data set. A
reduction (see `reductions`) leads from the first to the second.
"""

import numbers
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.graph.errors import GraphAssertionError, GraphError
from orbit_snn.graph.types import IdxType, Origin

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": lambda x, y: power(x, y),
    "neg": operator.neg,
}


def power(base: Any, exponent: Any) -> Any:
    """`base ** exponent`; a root of 0 has the gradient 0, where it would be infinite."""
    if not isinstance(exponent, numbers.Real) or not 0.0 < float(exponent) < 1.0:
        return base**exponent
    zero = tf.equal(base, 0)
    return tf.where(zero, tf.zeros_like(base), tf.where(zero, tf.ones_like(base), base) ** exponent)


class LossNode:
    """A node of a loss; `+ - * / **` and unary minus, with numbers too, make new ones.

    Attributes:
      name: says what it computes, `add(mse_loss(y-pred,y-true), mul(Value(2), ...))`.
      parents: nodes that it is computed from.
      scalar: whether it has one value for the whole data set, not one for every example.
      index: how its values are indexed, see `IdxType`; None where that is not known.
      mask: the input node that marks the real steps of padded sequences, or None.
    """

    __array_ufunc__ = None  # so that NumPy's numbers leave arithmetic to this class
    scalar = False

    def __init__(self, name: str, parents: Sequence["LossNode"]):
        self.name = name
        self.parents = tuple(parents)

    @property
    def index(self) -> IdxType | None:
        """That of the first parent that has one."""
        return next((node.index for node in self.parents if node.index is not None), None)

    @property
    def mask(self) -> Any:
        """That of the first parent that has one."""
        return next((node.mask for node in self.parents if node.mask is not None), None)

    def __add__(self, other: Any) -> "LossNode":
        return Operation("add", self, other)

    def __radd__(self, other: Any) -> "LossNode":
        return Operation("add", other, self)

    def __sub__(self, other: Any) -> "LossNode":
        return Operation("sub", self, other)

    def __rsub__(self, other: Any) -> "LossNode":
        return Operation("sub", other, self)

    def __mul__(self, other: Any) -> "LossNode":
        return Operation("mul", self, other)

    def __rmul__(self, other: Any) -> "LossNode":
        return Operation("mul", other, self)

    def __truediv__(self, other: Any) -> "LossNode":
        return Operation("div", self, other)

    def __rtruediv__(self, other: Any) -> "LossNode":
        return Operation("div", other, self)

    def __pow__(self, other: Any) -> "LossNode":
        return Operation("pow", self, other)

    def __rpow__(self, other: Any) -> "LossNode":
        return Operation("pow", other, self)

    def __neg__(self) -> "LossNode":
        return Operation("neg", self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Value(LossNode):
    """A constant number."""

    scalar = True

    def __init__(self, value: float):
        super().__init__(f"Value({value})", ())
        self.value = value


class Prediction(LossNode):
    """What a model's node gives: `node.pred`."""

    def __init__(self, origin: Origin):
        super().__init__(f"{origin.name}-pred", ())
        self.origin = origin

    @property
    def index(self) -> IdxType | None:
        """That of the model's node."""
        return self.origin.index

    @property
    def mask(self) -> Any:
        """That of the model's node."""
        return self.origin.mask


class Target(LossNode):
    """What the data set says of a model's node, under the node's `db_name`: `node.true`."""

    def __init__(self, origin: Origin):
        super().__init__(f"{origin.name}-true", ())
        self.origin = origin

    @property
    def index(self) -> IdxType | None:
        """That of the model's node."""
        return self.origin.index

    @property
    def mask(self) -> Any:
        """That of the model's node."""
        return self.origin.mask


class Operation(LossNode):
    """Arithmetic on two nodes, or a node and a number; tensors must have the same shape.

    Raises:
      GraphAssertionError: for a node of the model.
      GraphError: for something else that is neither, or a number of the data set (a reduction)
        together with a tensor: that number is known only when all examples have been seen.
    """

    def __init__(self, kind: str, *operands: Any):
        nodes = [_as_node(operand, kind) for operand in operands]
        super().__init__(f"{kind}({', '.join(node.name for node in nodes)})", nodes)
        self.kind = kind
        tensors = [node for node in nodes if not node.scalar]
        self.scalar = not tensors
        if tensors:
            mixed = [node for node in nodes if node.scalar and not isinstance(node, Value)]
            if mixed:
                raise GraphError(
                    f"{self.name} mixes {mixed[0].name}, one number for the data set, with "
                    f"{tensors[0].name}, which has a value for every example; reduce it first, as "
                    f"in Mean({tensors[0].name})."
                )

    def compute(self, *values: Any) -> Any:
        """The result for values of the operands.

        Raises:
          GraphError: for tensors of different shapes, which are never broadcast.
        """
        tensors = [
            at_least_column(node, value)
            for node, value in zip(self.parents, values, strict=True)
            if not node.scalar
        ]
        if len(tensors) == 2:
            check_same_shape(self.name, self.parents, tensors)
            tensors[1] = tf.cast(tensors[1], tensors[0].dtype)
        fed = iter(tensors)
        operands = [
            value if node.scalar else next(fed)
            for node, value in zip(self.parents, values, strict=True)
        ]
        return _OPERATIONS[self.kind](*operands)


def at_least_column(node: LossNode, x: tf.Tensor) -> tf.Tensor:
    """`[B]` to `[B, 1]`, and of sequences `[B, T]` to `[B, T, 1]`; everything else as it is."""
    rank = 3 if node.index is IdxType.SEQ_STEP else 2
    if node.index is IdxType.SCALAR or x.shape.rank != rank - 1:
        return x
    return x[..., tf.newaxis]


def check_same_shape(name: str, nodes: Sequence[LossNode], tensors: Sequence[tf.Tensor]) -> None:
    """Raises GraphError, which names both, where two tensors differ in shape."""
    first, second = tensors[0].shape, tensors[1].shape
    if first.rank != second.rank or not first.is_compatible_with(second):
        raise GraphError(
            f"{name}: {nodes[0].name} has shape {first.as_list()} and {nodes[1].name} "
            f"{second.as_list()}; nothing is broadcast, give both the same shape."
        )


def evaluate(node: LossNode, known: Mapping[int, Any]) -> Any:
    """Value of a formula, given those of its leaves by their `id`; constants know their own."""
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, Value):
        return node.value
    assert isinstance(node, Operation), f"{node.name} has no value yet"
    return node.compute(*(evaluate(parent, known) for parent in node.parents))


def _as_node(operand: Any, kind: str) -> LossNode:
    if isinstance(operand, LossNode):
        return operand
    if isinstance(operand, numbers.Real):
        return Value(operand.item() if hasattr(operand, "item") else operand)  # type: ignore
    if isinstance(operand, Origin):
        raise GraphAssertionError(
            f"{kind} got the model's node `{operand.name}`; give it .pred or .true of that node."
        )
    raise GraphError(
        f"{kind} got {operand!r}; expected a loss node, such as MSE.of_node(y) or y.pred, or a "
        "number."
    )
