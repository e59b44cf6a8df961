"""What plotters need of a node, and whether the values that they get can be drawn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.graph.algebra import LossNode
from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.nodes import MultiNode, Node
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.graph.types import IdxType

Values = Mapping[LossNode, Any]
"""Values `[n, ...]` of `node.pred`, `node.true` and `mask.true`: arrays, or tensors of a batch."""


def needed_to_judge(kind: str, node: Node, compared: bool) -> tuple[LossNode, ...]:
    """What is needed to judge a node: its prediction and mask, and its truth if `compared`.

    Raises:
      GraphError: for something that cannot be judged.
    """
    if not isinstance(node, Node):
        hint = " (a node of the loss)" if isinstance(node, LossNode) else ""
        raise GraphError(
            f"{kind} got {node!r}{hint}; expected a node of the model, such as net.output."
        )
    if isinstance(node, (NetworkNode, MultiNode)):
        outputs = node.readouts if isinstance(node, NetworkNode) else node.outputs
        known = ", ".join(f"{node.name}.{key}" for key in outputs) or "none, but cells"
        raise GraphError(
            f"{kind} got `{node.name}`, which has several values; give one of its outputs: {known}."
        )
    if node.index is IdxType.SCALAR:
        raise GraphError(f"{kind} got `{node.name}`, one number a batch; expected one an example.")
    if compared and node.db_name is None:
        raise GraphError(
            f"{kind} of `{node.name}` has nothing to compare it with; set the node's db_name to a "
            "feature of the data set first."
        )
    truth = (node.true,) if compared else ()
    mask = () if node.mask is None else (node.mask.true,)
    return (node.pred, *truth, *mask)


def check_network(kind: str, node: NetworkNode) -> None:
    """Raises GraphError for anything but the node of a network."""
    if not isinstance(node, NetworkNode):
        raise GraphError(f"{kind} got {node!r}; expected a NetworkNode.")


def alike(kind: str, node: Node) -> Callable[[Values], None]:
    """Raises GraphError where prediction and truth differ in shape."""

    def check(values: Values) -> None:
        pred, true = (column(node, values[n]).shape for n in (node.pred, node.true))
        if len(pred) < 2:
            raise GraphError(f"{kind}: `{node.name}` has shape {list(pred)}; expected [B, ...].")
        if not tf.TensorShape(pred).is_compatible_with(true):
            raise GraphError(
                f"{kind}: `{node.name}` has shape {list(pred)} and `{node.db_name}` {list(true)}; "
                "both must be the same. For labels of classes use Confusion."
            )
        check_mask(kind, node, values)

    return check


def check_classes(node: Node, names: Sequence[str] | None, values: Values) -> None:
    """Raises GraphError where these are no scores and labels of classes."""
    scores, labels = (tf.TensorShape(values[n].shape) for n in (node.pred, node.true))
    per_step = node.index is IdxType.SEQ_STEP
    if scores.rank != 3 and (per_step or scores.rank != 2):
        raise GraphError(
            f"Confusion: `{node.name}` has shape {scores}; expected scores of classes, "
            f"{'[B, T, K]' if per_step else '[B, K]'}."
        )
    values_a_class = one_value_a_class(values[node.pred], values[node.true])
    last = scores[-1:] if values_a_class else []
    wanted = [scores[:end].concatenate(last) for end in (-1, 1)]
    if not any(labels.is_compatible_with(shape) for shape in wanted):
        raise GraphError(
            f"Confusion: the labels `{node.db_name}` have shape {labels} for scores `{node.name}` "
            f"{scores}; expected integers {scores[:-1]}, or one value a class, {scores}."
        )
    if names is not None and not scores[-1:].is_compatible_with([len(names)]):
        raise GraphError(
            f"Confusion got {len(names)} names for the {scores[-1]} classes of `{node.name}`; give "
            "one for each."
        )
    check_mask("Confusion", node, values)


def check_mask(kind: str, node: Node, values: Values) -> None:
    """Raises GraphError where the mask of a node is not one of its steps."""
    if node.mask is None:
        return
    mask, pred = (tf.TensorShape(values[n].shape) for n in (node.mask.true, node.pred))
    steps = pred[:2] if node.index is IdxType.SEQ_STEP else pred[:1].concatenate([None])
    if not mask.is_compatible_with(steps):
        raise GraphError(
            f"{kind}: the mask `{node.mask.db_name}` has shape {mask} for `{node.name}` of shape "
            f"{pred}; expected [B, T]."
        )


def column(node: Node, x: Any) -> Any:
    """As `algebra.at_least_column`, for arrays and tensors."""
    return x[..., np.newaxis] if len(x.shape) == 1 + (node.index is IdxType.SEQ_STEP) else x


def one_value_a_class(scores: Any, labels: Any) -> bool:
    """Whether labels are distributions over classes, such as one-hot rows, and no indices."""
    return len(labels.shape) == len(scores.shape) or not tf.as_dtype(labels.dtype).is_integer
