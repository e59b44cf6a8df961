"""Plotters: which figures a plot maker draws of which nodes of a model."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from orbit_snn.graph.algebra import LossNode
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.nodes import Node
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.graph.types import IdxType
from orbit_snn.training import pictures, plot_figures
from orbit_snn.training.actions import at_least
from orbit_snn.training.plot_checks import (
    Values,
    alike,
    check_classes,
    check_mask,
    check_network,
    column,
    needed_to_judge,
    one_value_a_class,
)
from orbit_snn.training.plot_figures import Figure


@dataclasses.dataclass(frozen=True)
class Plotter:
    """Some figures of a model's nodes; `Compare`, `Confusion`, ... make one, and so may you.

    Attributes:
      name: tag of its figures, unlike that of any other; `a/b` is grouped under `a`.
      required_nodes: predictions and targets that it draws, with the masks (`mask.true`) it needs.
      draw: makes figures of arrays, of real examples only, by what is added to the name:
        `{"": figure}` for one, `{"0": figure, "1": figure}` for `name/0` and `name/1`.
      check: raises GraphError where shapes or types do not fit; of tensors of a batch, when a step
        is traced, and of the arrays.
      examples: how many of the first examples it draws; None for as many as there are.
    """

    name: str
    required_nodes: tuple[LossNode, ...]
    draw: Callable[[Values], Mapping[str, Figure]]
    check: Callable[[Values], None] = lambda values: None
    examples: int | None = None


def Compare(node: Node, name: str | None = None) -> Plotter:
    """Predictions over the truth, with the RMSE and R^2 of all elements; padded steps are left out.

    Args:
      node: of `[B, K]` or `[B, T, K]`, with a `db_name` of the same shape.
      name: of the figure, default `compare/<node>`.

    Raises:
      GraphError: for something else than such a node.
    """

    def draw(values: Values) -> dict[str, Figure]:
        pred, true = _pairs(node, values)
        return {"": plot_figures.comparison_figure(pred, true, node.name, str(node.db_name))}

    needed = needed_to_judge("Compare", node, compared=True)
    return Plotter(name or f"compare/{node.name}", needed, draw, alike("Compare", node))


def Errors(node: Node, name: str | None = None) -> Plotter:
    """Histogram of predicted - true of all elements; padded steps are left out.

    Args:
      node: of `[B, K]` or `[B, T, K]`, with a `db_name` of the same shape.
      name: of the figure, default `errors/<node>`.

    Raises:
      GraphError: for something else than such a node.
    """

    def draw(values: Values) -> dict[str, Figure]:
        pred, true = _pairs(node, values)
        return {"": plot_figures.errors_figure(pred - true, node.name)}

    needed = needed_to_judge("Errors", node, compared=True)
    return Plotter(name or f"errors/{node.name}", needed, draw, alike("Errors", node))


def Confusion(node: Node, names: Sequence[str] | None = None, name: str | None = None) -> Plotter:
    """Which class was taken for which, by the largest score; padded steps are left out.

    Args:
      node: scores `[B, K]`, or of every step `[B, T, K]`, with a `db_name` of labels: integers, or
        one value a class such as one-hot rows; for all steps of a sequence, or for each.
      names: of the K classes, default their numbers.
      name: of the figure, default `confusion/<node>`.

    Raises:
      GraphError: for something else than such a node.
    """

    def draw(values: Values) -> dict[str, Figure]:
        scores = values[node.pred]
        labels = _class_indices(scores, values[node.true])
        real = _real(node, values, scores)
        scores, labels = scores[real].reshape(-1, scores.shape[-1]), labels[real].reshape(-1)
        figure = plot_figures.classes_figure(scores, labels, names, node.name, str(node.db_name))
        return {"": figure}

    needed = needed_to_judge("Confusion", node, compared=True)
    check = functools.partial(check_classes, node, names)
    return Plotter(name or f"confusion/{node.name}", needed, draw, check)


def Traces(node: Node, examples: int = 3, name: str | None = None) -> Plotter:
    """A readout over time, with targets where the node has a feature of the same shape.

    Args:
      node: of `[B, T, K]`.
      examples: how many of the first ones are drawn, below each other.
      name: of the figure, default `traces/<node>`.

    Raises:
      GraphError: for something else than such a node.
      ValueError: for no examples.
    """
    needed = needed_to_judge("Traces", node, compared=False)
    if node.db_name is not None:
        needed = (*needed, node.true)
    networks = [other for other in ancestors([node]) if isinstance(other, NetworkNode)]
    dt_ms = _dt_ms(networks[-1]) if networks else None

    def draw(values: Values) -> dict[str, Figure]:
        pred = column(node, values[node.pred])
        true = column(node, values[node.true]) if node.true in needed else None
        targets = None if true is None or true.shape != pred.shape else true
        ends, title = _ends(node, values), plot_figures.plain(node.name)
        return {"": plot_figures.traces_figure(pred, targets, ends, dt_ms, title)}

    def check(values: Values) -> None:
        shape = values[node.pred].shape
        if len(shape) != 3 and not (len(shape) == 2 and node.index is IdxType.SEQ_STEP):
            raise GraphError(
                f"Traces: `{node.name}` has shape {shape}; expected a sequence, [B, T, K]."
            )
        check_mask("Traces", node, values)

    return Plotter(name or f"traces/{node.name}", needed, draw, check, _at_least_one(examples))


def Raster(network_node: NetworkNode, examples: int = 1, name: str | None = None) -> Plotter:
    """The inputs of a network and the outputs of all its cells, such as spikes, over time.

    Args:
      network_node: the network.
      examples: how many of the first ones are drawn, a figure each.
      name: of the figures, default `raster/<network>`; the number of the example is added.

    Raises:
      GraphError: for another node.
      ValueError: for no examples.
    """
    check_network("Raster", network_node)
    source = network_node.parents[0]
    nodes = (source, *network_node.cells)
    mask = () if network_node.mask is None else (network_node.mask.true,)

    def draw(values: Values) -> dict[str, Figure]:
        return {str(k): figure(values, k) for k in range(len(values[source.pred]))}

    def figure(values: Values, k: int) -> Figure:
        def of(node: Node) -> np.ndarray:
            return values[node.pred][k].astype(float)

        cells = [
            pictures.CellActivity(node.key, of(node), cell.neuron.spiking)
            for node, cell in zip(network_node.cells, network_node.module.cells, strict=True)
        ]
        title = f"{plot_figures.plain(network_node.name)}, example {k}"
        ends = _ends(network_node, values)
        return pictures.activity_figure(
            of(source),
            cells,
            {},
            _dt_ms(network_node),
            title,
            real_steps=None if ends is None else ends[k],
        )

    needed = (*(node.pred for node in nodes), *mask)
    check = functools.partial(check_mask, "Raster", network_node.cells[0])
    return Plotter(
        name or f"raster/{network_node.name}", needed, draw, check, _at_least_one(examples)
    )


def Weights(network_node: NetworkNode, name: str | None = None) -> Plotter:
    """Heat maps of a network's weight matrices as they are in effect when they are drawn.

    A kernel of a convolution has a column for each filter; vectors are not drawn.

    Args:
      network_node: the network.
      name: of the figure, default `weights/<network>`.

    Raises:
      GraphError: for another node.
    """
    check_network("Weights", network_node)
    network = network_node.module
    numbered = {f"cell{number}": cell for number, cell in enumerate(network.cells)}

    def draw(values: Values) -> dict[str, Figure]:
        found = {}
        for key, cell in (numbered | dict(network.readouts)).items():
            for kind in ("feedforward", "recurrent"):
                connection = getattr(cell, kind)
                weights = () if connection is None else connection.weights()
                matrices = [
                    w.numpy().astype(float).reshape(-1, w.shape[-1])
                    for w in weights
                    if isinstance(w, tf.Tensor) and w.shape.rank > 1
                ]
                for number, matrix in enumerate(matrices):
                    found[f"{plot_figures.plain(key, 20)} {kind}{number or ''}"] = matrix
        return {"": pictures.weights_figure(found)} if found else {}

    return Plotter(name or f"weights/{network_node.name}", (), draw)


def _at_least_one(examples: int) -> int:
    return at_least("examples", examples, 1)


def _dt_ms(network_node: NetworkNode) -> float:
    return float(network_node.module.cells[0].neuron.dt_ms)


def _real(node: Node, values: Values, x: np.ndarray) -> np.ndarray:
    """Which examples `[B]`, or steps `[B, T]`, count, as `reductions.Real.elements` has it."""
    if node.mask is None:
        return np.ones(len(x), bool)
    mask = values[node.mask.true].astype(bool)
    return mask if node.index is IdxType.SEQ_STEP else mask.any(axis=1)


def _pairs(node: Node, values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth of everything that counts, `[n, K]`."""
    pred, true = (column(node, np.asarray(values[n], np.float64)) for n in (node.pred, node.true))
    real = _real(node, values, pred)
    return tuple(x[real].reshape(-1, x.shape[-1]) for x in (pred, true))  # type: ignore


def _class_indices(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels as integers of the shape of the scores without the last axis; -1 for none."""
    if one_value_a_class(scores, labels):
        labels = np.where((labels != 0).any(axis=-1), labels.argmax(axis=-1), -1)
    if labels.ndim < scores.ndim - 1:
        labels = np.broadcast_to(labels[:, np.newaxis], scores.shape[:-1])
    return labels


def _ends(node: Node, values: Values) -> list[int] | None:
    """The number of steps up to the last real one, of each example; None without a mask."""
    if node.mask is None:
        return None
    mask = values[node.mask.true].astype(bool)
    steps = np.arange(1, mask.shape[1] + 1)
    return [int(end) for end in np.max(mask * steps, axis=1, initial=0)]
