"""Losses of a graph, ready to be computed from a model's outputs and the features of a data set."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.graph.algebra import LossNode, Prediction, Target, evaluate
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.measures import DatasetLoss
from orbit_snn.graph.nodes import Node
from orbit_snn.graph.reductions import Real, Reduction
from orbit_snn.graph.types import IdxType, Origin

Sums = dict[str, tf.Tensor]
"""By reduction: what is added up over batches and replicas, `[S]` each."""


class LossModule:
    """Some losses, each one number of a data set.

        sums = loss.sums(predictions, batch)     # of a batch, on a replica
        ...                                      # added up over replicas (and batches)
        (value,) = loss.values(sums)

    Args:
      losses: the nodes to compute.

    Attributes:
      predictions: nodes of the model whose values are needed.
      targets: nodes whose `db_name` is the feature that is needed, masks included.
      reductions: what gives sums, by a key of its own.
      collected: losses that need all examples at once.

    Raises:
      GraphError: for a loss that has a value for every example.
    """

    def __init__(self, losses: Sequence[LossNode]):
        for loss in losses:
            if not isinstance(loss, LossNode) or not loss.scalar:
                raise GraphError(
                    f"the loss {getattr(loss, 'name', loss)!r} is not one number; reduce it, for "
                    "instance with Mean, or use a measure such as MSE.of_node(y)."
                )
        self.nodes_to_compute = tuple(losses)
        found = ancestors(losses)
        reductions = [node for node in found if isinstance(node, (Reduction, DatasetLoss))]
        self.reductions = {f"{i}:{node.kind}": node for i, node in enumerate(reductions)}
        self.collected = tuple(node for node in found if isinstance(node, DatasetLoss))
        self.predictions, self.targets = needed_by(losses)

    @property
    def temporal(self) -> tuple[str, ...]:
        """The features that have a time axis, `[B, T, ...]`."""
        nodes = (node for node in self.targets if node.index is IdxType.SEQ_STEP)
        return tuple(node.db_name for node in nodes if node.db_name is not None)

    def __call__(
        self, predictions: Mapping[str, tf.Tensor], targets: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        """The losses of one batch: predictions by name of node, targets by feature."""
        return self.values(self.sums(predictions, targets))

    def sums(
        self,
        predictions: Mapping[str, tf.Tensor],
        batch: Mapping[str, tf.Tensor],
        dtype: tf.DType | None = None,
        wanted: Collection[str] | None = None,
    ) -> Sums:
        """What is to be added up.

        Args:
          predictions: of the model, by name of node.
          batch: features; `weight` `[B]`, where it is given, is 0 for padded examples.
          dtype: in which to add up, default that of the predictions.
          wanted: keys of reductions, default all.

        Raises:
          GraphError: for a missing feature, or shapes that do not fit.
        """
        nodes = {k: n for k, n in self.reductions.items() if wanted is None or k in wanted}
        known = _known(list(nodes.values()), predictions, batch)
        return {
            key: node.sums(
                [evaluate(p, known) for p in node.parents], real_of(batch, node.mask, dtype)
            )
            for key, node in nodes.items()
        }

    def needed_for(self, losses: Iterable[int]) -> list[str]:
        """Keys of the reductions that some losses, by their place, add up over batches."""
        found = ancestors([self.nodes_to_compute[place] for place in losses])
        wanted = {id(node) for node in found if node not in self.collected}
        return [key for key, node in self.reductions.items() if id(node) in wanted]

    def collected_by(self) -> "Needed":
        """What the losses that need all examples at once look at."""
        return needed_by(self.collected)

    def values(self, sums: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """The losses, of added sums; in double precision where some of them are."""
        known = {id(node): node.value(sums[key]) for key, node in self.reductions.items()}
        if any(value.dtype == tf.float64 for value in known.values()):
            known = {key: tf.cast(value, tf.float64) for key, value in known.items()}
        return tuple(evaluate(loss, known) for loss in self.nodes_to_compute)

    def whole(
        self, predictions: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]
    ) -> dict[str, np.ndarray]:
        """Sums of the `collected` losses, for which these are all examples there are."""
        known = _known(self.collected, predictions, batch)
        sums = {}
        for key, node in self.reductions.items():
            if node in self.collected:
                masked = node.mask is not None
                mask = _given(batch, feature_of(node.mask), "mask") if masked else None
                values = [_real_steps(evaluate(p, known), p, mask) for p in node.parents]
                sums[key] = np.array([_number(node, values), 1.0])
        return sums

    def slopes(self, sums: Mapping[str, tf.Tensor]) -> Sums:
        """Derivative of the (first) loss by the sums over all replicas."""
        sums = {key: tf.identity(value) for key, value in sums.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sums)
            loss = self.values(sums)[0]
        return tape.gradient(loss, sums, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def results(self, sums: Mapping[str, np.ndarray], learning: bool = False) -> list[float | None]:
        """The losses of a data set as numbers; NaN where nothing was counted.

        Args:
          sums: added over all examples; a loss for which some are missing is None.
          learning: whether the model changed in between.

        Raises:
          GraphError: where something that must not change did, see `measures.constant`.
        """
        results: list[float | None] = []
        known = {}
        for key, value in sums.items():
            node = self.reductions[key]
            if not learning:
                _check_constant(node, np.asarray(value))
            known[id(node)] = node.value(tf.constant(value, tf.float64))
        for loss in self.nodes_to_compute:
            below = set(map(id, ancestors([loss])))
            own = [key for key, node in self.reductions.items() if id(node) in below]
            if not set(own) <= sums.keys():
                results.append(None)
            elif all(np.asarray(sums[key])[-1] for key in own):
                results.append(float(evaluate(loss, known)))
            else:
                results.append(float("nan"))
        return results


def _known(
    nodes: Sequence[LossNode],
    predictions: Mapping[str, tf.Tensor],
    batch: Mapping[str, tf.Tensor],
) -> dict[int, tf.Tensor]:
    """Values of all predictions and targets that some nodes are made of."""
    known = {}
    for node in ancestors(nodes):
        if isinstance(node, Prediction):
            known[id(node)] = _given(predictions, node.origin.name, "value")
        elif isinstance(node, Target):
            known[id(node)] = _given(batch, feature_of(node.origin), "feature")
    return known


def real_of(
    batch: Mapping[str, tf.Tensor], mask: Node | None, dtype: tf.DType | None = None
) -> Real:
    """What of a batch is real: by its feature `weight`, where it has one, and a mask's node.

    In a chunk of a sequence also `Real.share`, from the feature `share_of(mask)`.
    """
    steps = None if mask is None else _given(batch, feature_of(mask), "mask")
    share = batch.get(share_of(mask))
    if "weight" in batch:
        return Real(batch["weight"], steps, dtype, share)
    sizes = [value.shape[0] for value in batch.values() if value.shape.rank]
    return Real(tf.ones([sizes[0] if sizes else 1]), steps, dtype, share)


def share_of(mask: Node | None) -> str:
    """The feature of a chunk of a sequence that holds `Real.share`."""
    return "share" if mask is None else f"share/{feature_of(mask)}"


def feature_of(node: Origin) -> str:
    """The feature of the data set that a node stands for.

    Raises:
      GraphError: where it has none.
    """
    if node.db_name is None:
        raise GraphError(
            f"node `{node.name}` has no db_name, so nothing is known to compare it with; set "
            f"{node.name}.db_name to a feature of the data set."
        )
    return node.db_name


class Needed(NamedTuple):
    """Nodes of the model whose values losses need, and nodes whose features they need."""

    outputs: tuple[Node, ...]
    targets: tuple[Node, ...]


def needed_by(losses: Sequence[LossNode]) -> Needed:
    """What losses need; among the features are the masks of padded sequences."""
    found = ancestors(losses)
    reducing = [node for node in found if isinstance(node, (Reduction, DatasetLoss))]
    masks = [node.mask for node in reducing if node.mask is not None]
    targets = [node.origin for node in found if isinstance(node, Target)]
    return Needed(
        unique(node.origin for node in found if isinstance(node, Prediction)),
        unique([*targets, *masks]),
    )


def unique(nodes: Iterable[Any]) -> tuple[Node, ...]:
    """Each node once, in the order of their first appearance."""
    return tuple({id(node): node for node in nodes}.values())


def _given(values: Mapping[str, tf.Tensor], name: str, what: str) -> tf.Tensor:
    if name not in values:
        raise GraphError(f"the loss needs the {what} `{name}`; got {', '.join(values)}.")
    return tf.convert_to_tensor(values[name])


def _real_steps(x: tf.Tensor, node: LossNode, mask: tf.Tensor | None) -> tf.Tensor:
    """`[B, T, ...]` to `[real steps, ...]`, where there is a mask and a time axis."""
    if mask is None or node.index is not IdxType.SEQ_STEP or x.shape.rank < 2:
        return x
    return tf.boolean_mask(x, tf.cast(mask, tf.bool))


def _number(node: Any, values: Sequence[tf.Tensor]) -> float:
    found = np.asarray(node.function(*values))
    if found.size != 1:
        raise GraphError(f"{node.name} gave values of shape {found.shape}; expected one number.")
    return float(found.reshape(()))


def _check_constant(node: Reduction | DatasetLoss, sums: np.ndarray) -> None:
    if not node.constant or not sums[-1]:
        return
    mean = sums[0] / sums[-1]
    if abs(sums[1] / sums[-1] - mean**2) > 1e-6 * max(mean**2, 1e-30):
        raise GraphError(
            f"{node.name} is said to be the same for every batch, and is not; use a reduction over "
            "examples."
        )
