"""Receptive fields: the weights onto each neuron as an image of what it receives."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.training.plot_checks import Values, check_network
from orbit_snn.training.plotters import Plotter

_GAP, _MOST = 1, 400


def ReceptiveFields(
    network_node: NetworkNode, shape: Sequence[int], cell: int = 0, name: str | None = None
) -> Plotter:
    """The feedforward weights of a cell, an image a neuron, as they are when they are drawn.

    Args:
      network_node: the network.
      shape: rows and columns of what the cell receives, of F = rows times columns inputs.
      cell: number of the cell.
      name: of the figure, default `receptive_fields/<network>`.

    Raises:
      GraphError: for another node, no such cell, or a shape that does not fit its inputs.
    """
    check_network("ReceptiveFields", network_node)
    cells = network_node.module.cells
    if not 0 <= cell < len(cells):
        raise GraphError(f"ReceptiveFields is of cell {cell}; the network has {len(cells)}.")
    connection = cells[cell].feedforward
    if len(shape) != 2 or math.prod(shape) != connection.inputs:
        raise GraphError(
            f"ReceptiveFields got the shape {tuple(shape)}; expected rows and columns whose "
            f"product is {connection.inputs}, the inputs of cell {cell}."
        )

    def draw(values: Values) -> dict[str, Figure]:
        weights = connection.weights()[0].numpy()
        title = f"{network_node.name}.cell{cell}"
        return {"": fields_figure(weights.T.reshape(-1, *shape), title)}

    return Plotter(name or f"receptive_fields/{network_node.name}", (), draw)


def fields_figure(fields: np.ndarray, title: str = "") -> Figure:
    """Images on a grid, on one scale of grey; of the first 400.

    Args:
      fields: `[N, rows, columns]`.
      title: above them.

    Raises:
      ValueError: for another rank, or no images.
    """
    if fields.ndim != 3 or not fields.size:
        raise ValueError(f"fields have shape {fields.shape}; expected [N, rows, columns].")
    shown = fields[:_MOST].astype(np.float64)
    count, rows, columns = shown.shape
    across = math.ceil(math.sqrt(count * rows / columns))
    down = -(-count // across)
    sheet = np.full([down * (rows + _GAP) - _GAP, across * (columns + _GAP) - _GAP], np.nan)
    for index, field in enumerate(shown):
        top, left = index // across * (rows + _GAP), index % across * (columns + _GAP)
        sheet[top : top + rows, left : left + columns] = field
    figure = Figure((6.0, 0.6 + 5.4 * sheet.shape[0] / sheet.shape[1]), layout="constrained")
    ax = figure.add_subplot()
    image = ax.imshow(sheet, cmap="gray_r", interpolation="nearest")
    ax.set_axis_off()
    left_out = f", {count} of {len(fields)} neurons" if count < len(fields) else ""
    ax.set_title(f"{title} receptive fields{left_out}", fontsize=9, loc="left")
    figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02).ax.tick_params(labelsize=7)
    return figure
