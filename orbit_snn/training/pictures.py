"""Pictures of a network at work: activity over time, weights, confusion between classes.

Pure functions from arrays to figures of matplotlib's object interface: no pyplot, no settings of
the process, nothing to close, and no TensorFlow.
"""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Paul Tol's "muted" set, which colour-blind readers can tell apart.
PALETTE = (
    *("#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE", "#882255"),
    *("#44AA99", "#999933", "#AA4499", "#661100", "#6699CC", "#888888"),
)
INK, FAINT, PALE = "#333333", "#8A8A8A", "#BBBBBB"
SMALL, NORMAL, LARGE = 7.5, 8.5, 10.0  # points

_PAPER: dict[str, Any] = {"dpi": 100, "facecolor": "white"}
_VEIL: dict[str, Any] = {"facecolor": "#DDDDDD", "alpha": 0.6, "linewidth": 0, "zorder": 3}
_BOLD: dict[str, Any] = {"fontweight": "bold", "color": INK}
_CENTRE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL}
_MATRIX: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest"}
_DASHES: dict[str, Any] = {"linewidth": 1.0, "dashes": (3, 2)}
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": SMALL, "labelcolor": INK, "loc": 2}
_DENSE: dict[str, Any] = {"handlelength": 1.3, "columnspacing": 1, "bbox_to_anchor": (1, 1.06)}
_WIDTH, _LEFT, _RIGHT, _BOTTOM, _GAP = 8.0, 0.62, 0.95, 0.5, 0.36  # inches


class CellActivity(NamedTuple):
    """What one cell gave for one example, `[T, N]`; if it is spiking, what is not 0 is a spike."""

    name: str
    outputs: np.ndarray
    spiking: bool


class _Panel(NamedTuple):
    """One strip of the activity figure, with values and targets `[T, N]`."""

    name: str
    values: np.ndarray
    draw: Callable[..., None]
    targets: np.ndarray | None = None


def activity_figure(
    inputs: np.ndarray,
    cells: Sequence[CellActivity],
    readouts: Mapping[str, np.ndarray],
    dt_ms: float,
    title: str = "",
    targets: Mapping[str, np.ndarray] | None = None,
    real_steps: int | None = None,
    max_neurons: int = 100,
) -> Figure:
    """One example on its way through the network: panels below each other on one time axis.

    Args:
      inputs: `[T, F]`; a raster where they hold only 0 and 1, a heat map otherwise.
      cells: a panel each, a raster for spiking ones and a heat map for the others.
      readouts: outputs by name, `[T, K]`: lines, with a legend for up to 12 outputs.
      dt_ms: length of a step.
      title: of the figure.
      targets: of some or all readouts by name, `[T, K]`; dashed lines.
      real_steps: steps from this one on are padding and shaded; default none are.
      max_neurons: of a panel; of more, this many are picked evenly and the panel says so.
    """
    panels = _panels(inputs, cells, readouts, targets or {})
    steps = panels[0].values.shape[0]
    real = steps if real_steps is None else real_steps
    if not 0 <= real <= steps:
        raise ValueError(f"real_steps is {real_steps}; expected 0 to {steps}, the steps there are.")
    if max_neurons < 1:
        raise ValueError(f"max_neurons is {max_neurons}; expected at least 1.")
    rows = [80 if p.draw is _lines else min(p.values.shape[1], max_neurons) for p in panels]
    figure, axes = _strips(np.clip(np.multiply(rows, 0.017), 0.5, 1.7), title)
    for panel, ax in zip(panels, axes, strict=True):
        panel.draw(ax, panel, dt_ms, real, max_neurons)
        if real < steps:
            ax.axvspan((real - 0.5) * dt_ms, (steps - 0.5) * dt_ms, **_VEIL)
        ax.set_xlim(-0.5 * dt_ms, (steps - 0.5) * dt_ms)
    if real < steps:
        axes[0].set_title("padding", loc="right", fontsize=SMALL, color=FAINT, pad=4)
    axes[-1].set_xlabel("time (ms)", fontsize=NORMAL, color=INK)
    return figure


def weights_figure(weights: Mapping[str, np.ndarray]) -> Figure:
    """Heat maps by name: rows give, columns receive; each has its own colour scale about 0.

    Args:
      weights: of any rank; a vector is one row, all axes but the last are rows. NaN is black.
    """
    if not weights:
        raise ValueError("there are no weights to draw.")
    columns = min(len(weights), 3)
    rows = -(-len(weights) // columns)
    figure = Figure((3.3 * columns, 2.7 * rows), layout="constrained", **_PAPER)
    for index, (name, values) in enumerate(weights.items()):
        values = np.asarray(values)
        ax = figure.add_subplot(rows, columns, index + 1)
        matrix = values.reshape(-1, values.shape[-1] if values.ndim else 1)
        image = ax.imshow(matrix, **_MATRIX, **_signed(matrix))
        _colour_bar(ax, image, 0.04)
        _dress(ax, name, " × ".join(map(str, values.shape)))
        ax.set_xticks(_ticks(matrix.shape[1]))
        ax.set_yticks(_ticks(matrix.shape[0]) if values.ndim > 1 else [])
        ax.set_xlabel("to", fontsize=SMALL, color=FAINT)
        ax.set_ylabel("from" if values.ndim > 1 else "", fontsize=SMALL, color=FAINT)
    return figure


def confusion_figure(counts: np.ndarray, names: Sequence[str] | None = None) -> Figure:
    """How often each class was taken for which: colours are fractions of a row, figures counts.

    Args:
      counts: `[K, K]`, a row for each true class and a column for each predicted one.
      names: of the K classes, default their numbers.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"counts has shape {list(counts.shape)}; expected [K, K].")
    size = counts.shape[0]
    names = [str(k) for k in range(size)] if names is None else list(names)
    if len(names) != size:
        raise ValueError(f"there are {len(names)} names; expected {size}, one for each class.")
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(0.36 * size, 2.4, 8.0))
    figure = Figure((side + 1.3, side + 1.0), layout="constrained", **_PAPER)
    ax = figure.add_subplot()
    ax.imshow(fractions, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for (row, column), count in np.ndenumerate(counts):
        if count and size <= 20:
            colour = "white" if fractions[row, column] > 0.5 else INK
            ax.text(column, row, f"{count:g}", color=colour, **_CENTRE)
    right = np.trace(counts) / max(counts.sum(), 1)
    _dress(ax, f"{right:.1%} of {counts.sum():g} right")
    shown = range(0, size, -(-size // 25))
    ax.set_xticks(shown, [names[k] for k in shown], rotation=90 * (max(map(len, names)) > 3))
    ax.set_yticks(shown, [names[k] for k in shown])
    ax.set_xlabel("predicted", fontsize=NORMAL, color=INK)
    ax.set_ylabel("true", fontsize=NORMAL, color=INK)
    return figure


def to_image(figure: Figure) -> np.ndarray:
    """The figure as `tf.summary.image` takes it: uint8 `[1, H, W, 4]`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), np.uint8)[np.newaxis]


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Writes a PNG file in one go: nobody sees half of it. Parent directories are made."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        FigureCanvasAgg(figure).print_figure(unfinished, format="png", dpi=dpi)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _panels(
    inputs: np.ndarray,
    cells: Sequence[CellActivity],
    readouts: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
) -> list[_Panel]:
    """What to draw, from top to bottom, once the shapes are known to fit."""
    inputs = np.asarray(inputs)
    steps = inputs.shape[0] if inputs.ndim == 2 else "T"
    panels = [_Panel("inputs", inputs, _raster if np.isin(inputs, (0, 1)).all() else _heat)]
    for name, values, spiking in cells:
        panels.append(_Panel(name, np.asarray(values), _raster if spiking else _heat))
    for name, values in readouts.items():
        target = np.asarray(targets[name]) if name in targets else None
        panels.append(_Panel(name, np.asarray(values), _lines, target))
    if unknown := sorted(set(targets) - set(readouts)):
        raise ValueError(f"targets are for {unknown}; there are readouts {sorted(readouts)}.")
    for name, values, _, target in panels:
        shape = list(values.shape)
        if len(shape) != 2 or shape[0] != steps or not values.size:
            raise ValueError(f"{name} has shape {shape}; expected [{steps}, N], not empty.")
        if target is not None and list(target.shape) != shape:
            raise ValueError(f"{name}: targets have shape {list(target.shape)}; expected {shape}.")
    return panels


def _raster(ax: Axes, panel: _Panel, dt_ms: float, real: int, limit: int) -> None:
    """Vertical bars, one row a neuron, and the mean rate over the real steps."""
    spikes = panel.values[:real] != 0
    rate = spikes.mean() * 1000.0 / dt_ms if spikes.size else 0.0
    picked = _neuron_axis(ax, panel, limit, f", mean {rate:.3g} Hz")
    steps, rows = np.nonzero(panel.values[:, picked])
    box = ax.get_window_extent()
    half = max(0.45, 1.3 * len(picked) / box.height)  # rows; no bar is below 2.6 pixels
    width = float(np.clip(0.25 * box.width / len(panel.values), 0.6, 1.4))
    ax.vlines(steps * dt_ms, rows - half, rows + half, color=INK, linewidth=width)


def _heat(ax: Axes, panel: _Panel, dt_ms: float, real: int, limit: int) -> None:
    """One row a neuron, with a colour bar in the right margin."""
    picked = _neuron_axis(ax, panel, limit)
    values = panel.values[:, picked].T
    extent = (-0.5 * dt_ms, (len(panel.values) - 0.5) * dt_ms, len(picked) - 0.5, -0.5)
    colours = _signed(values) if (values < 0).any() else {"cmap": "cividis"}
    image = ax.imshow(values, extent=extent, **_MATRIX, **colours)
    _colour_bar(ax, image, 0.012)


def _lines(ax: Axes, panel: _Panel, dt_ms: float, real: int, limit: int) -> None:
    """One line an output, dashed for targets, with the legend in the right margin."""
    picked, label = _pick(outputs := panel.values.shape[1], limit, "output")
    named = outputs <= len(PALETTE)
    colours = PALETTE if named else colormaps["viridis"](np.linspace(0, 0.92, len(picked)))
    times = np.arange(len(panel.values)) * dt_ms
    handles, width = [], 1.3 if named else 0.7
    for colour, k in zip(colours, picked, strict=False):
        handles += ax.plot(times, panel.values[:, k], color=colour, lw=width, label=str(k))
        if panel.targets is not None:
            ax.plot(times, panel.targets[:, k], color=colour, **_DASHES)
    handles = handles if named and outputs > 1 else []
    if panel.targets is not None:
        handles.append(Line2D([], [], color=FAINT, label="target", **_DASHES))
    if handles:
        ax.legend(handles=handles, ncols=1 + (len(handles) > 7), **_LEGEND, **_DENSE)
    _dress(ax, panel.name, label)
    ax.spines["bottom"].set_visible(True)
    ax.margins(y=0.08)
    ax.locator_params(axis="y", nbins=5)


def _strips(heights: np.ndarray, title: str) -> tuple[Figure, np.ndarray]:
    """A figure of panels below each other, so many inches high, on one time axis."""
    top = 0.65 if title else 0.35
    total = top + float(heights.sum()) + _GAP * (heights.size - 1) + _BOTTOM
    figure, left, right = Figure((_WIDTH, total), **_PAPER), _LEFT / _WIDTH, 1 - _RIGHT / _WIDTH
    grid = figure.add_gridspec(heights.size, 1, height_ratios=heights, hspace=_GAP / heights.mean())
    grid.update(left=left, right=right, top=1 - top / total, bottom=_BOTTOM / total)
    figure.text(left, 1 - 0.12 / total, title, va="top", fontsize=LARGE, **_BOLD)
    return figure, grid.subplots(sharex=True, squeeze=False)[:, 0]


def _pick(count: int, limit: int, word: str) -> tuple[np.ndarray, str]:
    """Indices of at most `limit` of `count` things, evenly spread, and `100 of 256 neurons`."""
    picked = np.linspace(0, count - 1, min(count, limit)).round().astype(int)
    some = f"{limit} of {count}" if limit < count else str(count)
    return picked, f"{some} {word}{'s' * (count != 1)}"


def _ticks(size: int) -> list[int]:
    """The first, the middle and the last of so many rows."""
    return sorted({0, (size - 1) // 2 if size > 5 else 0, size - 1})


def _neuron_axis(ax: Axes, panel: _Panel, limit: int, more: str = "") -> np.ndarray:
    """Row 0 on top, ticks with a neuron's own index; returns which neurons are to be drawn."""
    word = "channel" if panel.name == "inputs" else "neuron"
    picked, label = _pick(panel.values.shape[1], limit, word)
    _dress(ax, panel.name, label + more)
    rows = _ticks(len(picked))
    ax.set_yticks(rows, [str(picked[row]) for row in rows])
    ax.set_ylim(len(picked) - 0.3, -0.7)
    ax.spines["left"].set_visible(True)
    return picked


def _signed(values: np.ndarray) -> dict[str, Any]:
    """Arguments of `imshow` for colours that are symmetric about 0."""
    limit = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values))) or 1.0
    return {"cmap": colormaps["RdBu_r"].with_extremes(bad="black"), "vmin": -limit, "vmax": limit}


def _colour_bar(ax: Axes, image: Any, width: float) -> None:
    """A colour bar to the right of the axes, of a width in fractions of theirs."""
    bar: Any = ax.figure.colorbar(image, cax=ax.inset_axes((1.015, 0.0, width, 1.0)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, labelcolor=INK, length=2, color=PALE)
    bar.ax.locator_params(nbins=4)


def _dress(ax: Axes, name: str, detail: str = "") -> None:
    """Title to the left with a detail behind it, small ticks, no frame."""
    title = ax.set_title(name, loc="left", fontsize=NORMAL, pad=4, **_BOLD)
    after = {"xycoords": title, "textcoords": "offset points"}
    ax.annotate(detail, (1, 0), (6, 2), **after, fontsize=NORMAL, color=FAINT)  # type: ignore
    ax.spines[:].set_visible(False)
    ax.spines[:].set_color(PALE)
    ax.tick_params(labelsize=SMALL, labelcolor=INK, length=2, color=PALE)
