"""Pictures of a network at work: activity over time, weights, confusion between classes.

Pure functions from arrays to figures of matplotlib's object interface: no pyplot, no settings of
the process, nothing to close, and no TensorFlow.

    figure = activity_figure(inputs, [CellActivity("cell0", spikes, True)], {"out": logits}, 1.0)
    save(figure, "activity.png")
    tf.summary.image("images/activity", to_image(figure), step)
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

_VEIL: dict[str, Any] = {"facecolor": "#DDDDDD", "alpha": 0.6, "linewidth": 0, "zorder": 3}
_BOLD: dict[str, Any] = {"fontweight": "bold", "color": INK}
_MATRIX: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest"}
_DASHES: dict[str, Any] = {"linewidth": 1.0, "dashes": (3, 2)}
_LEGEND: dict[str, Any] = {
    **{"frameon": False, "fontsize": SMALL, "labelcolor": INK, "loc": "upper left"},
    **{"bbox_to_anchor": (1.0, 1.06), "handlelength": 1.3, "handletextpad": 0.4},
    **{"labelspacing": 0.15, "columnspacing": 0.8},
}
_WIDTH, _LEFT, _RIGHT, _BOTTOM, _GAP = 8.0, 0.62, 0.95, 0.5, 0.36  # inches


class CellActivity(NamedTuple):
    """What one cell gave for one example, `[T, N]`; of a spiking one, what is not 0 is a spike."""

    name: str
    outputs: np.ndarray
    spiking: bool


class _Panel(NamedTuple):
    """One strip of the activity figure, with values and targets `[T, N]`."""

    name: str
    values: np.ndarray
    draw: Callable[..., None]
    targets: np.ndarray | None = None


class _Frame(NamedTuple):
    """What the panels have in common: steps, those that are real, their length, most rows."""

    steps: int
    real: int
    dt_ms: float
    limit: int


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
    frame = _Frame(steps, real, dt_ms, max(max_neurons, 1))
    sizes = [min(panel.values.shape[1], frame.limit) for panel in panels]
    rows = [80 if p.draw is _lines else size for p, size in zip(panels, sizes, strict=True)]
    figure, axes = _strips(np.clip(np.multiply(rows, 0.017), 0.5, 1.7), title)
    for panel, ax in zip(panels, axes, strict=True):
        panel.draw(ax, panel, frame)
        if real < steps:
            ax.axvspan((real - 0.5) * dt_ms, (steps - 0.5) * dt_ms, **_VEIL)
        ax.set_xlim(-0.5 * dt_ms, (steps - 0.5) * dt_ms)
        ax.tick_params(labelbottom=ax is axes[-1])
    if real < steps:
        axes[0].set_title("padding", loc="right", fontsize=SMALL, color=FAINT, pad=4)
    axes[-1].set_xlabel("time (ms)", fontsize=NORMAL, color=INK)
    return figure


def weights_figure(weights: Mapping[str, np.ndarray]) -> Figure:
    """Heat maps by name: rows give, columns receive; each has its own colour scale about 0.

    Args:
      weights: of any rank. A vector is one row; all axes but the last are rows. What is not finite
        is black.
    """
    if not weights:
        raise ValueError("there are no weights to draw.")
    columns = min(len(weights), 3)
    rows = -(-len(weights) // columns)
    figure = _figure(3.3 * columns, 2.7 * rows, layout="constrained")
    for index, (name, values) in enumerate(weights.items()):
        values = np.asarray(values)
        ax = figure.add_subplot(rows, columns, index + 1)
        matrix = values.reshape(-1, values.shape[-1] if values.ndim else 1)
        image = ax.imshow(matrix, **_MATRIX, **_signed(matrix))
        _colour_bar(figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02))
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
    figure = _figure(side + 1.3, side + 1.0, layout="constrained")
    ax = figure.add_subplot()
    ax.imshow(fractions, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for (row, column), count in np.ndenumerate(counts):
        if count and size <= 20:
            colour = "white" if fractions[row, column] > 0.5 else INK
            text = ax.text(column, row, f"{count:g}", color=colour, fontsize=SMALL)
            text.set(ha="center", va="center")
    total = counts.sum()
    accuracy = f"{np.trace(counts) / total:.1%} of {total:g} right" if total else "no examples"
    _dress(ax, accuracy)
    shown = range(0, size, -(-size // 25))
    turned = 90 if max(map(len, names)) > 3 else 0
    ax.set_xticks(shown, [names[k] for k in shown], rotation=turned)
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
        FigureCanvasAgg(figure)
        figure.savefig(unfinished, format="png", dpi=dpi)
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


def _raster(ax: Axes, panel: _Panel, frame: _Frame) -> None:
    """Vertical bars, one row a neuron, and the mean rate over the real steps."""
    picked = _pick(panel.values.shape[1], frame.limit)
    steps, rows = np.nonzero(panel.values[:, picked])
    box = ax.get_window_extent()
    half = max(0.45, 1.3 * len(picked) / box.height)  # rows; no bar is below 2.6 pixels
    width = float(np.clip(0.25 * box.width / frame.steps, 0.6, 1.4))
    ax.vlines(steps * frame.dt_ms, rows - half, rows + half, color=INK, linewidth=width)
    spikes = panel.values[: frame.real] != 0
    rate = spikes.mean() * 1000.0 / frame.dt_ms if spikes.size else 0.0
    _neuron_axis(ax, panel, picked, f", mean {rate:.3g} Hz")


def _heat(ax: Axes, panel: _Panel, frame: _Frame) -> None:
    """One row a neuron, with a colour bar in the right margin."""
    picked = _pick(panel.values.shape[1], frame.limit)
    values = panel.values[:, picked].T
    left, right = -0.5 * frame.dt_ms, (frame.steps - 0.5) * frame.dt_ms
    extent = (left, right, len(picked) - 0.5, -0.5)
    colours = _signed(values) if (values < 0).any() else {"cmap": "cividis"}
    image = ax.imshow(values, extent=extent, **_MATRIX, **colours)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.015, 0.0, 0.012, 1.0)))
    _colour_bar(bar)
    bar.ax.locator_params(nbins=4)
    _neuron_axis(ax, panel, picked)


def _lines(ax: Axes, panel: _Panel, frame: _Frame) -> None:
    """One line an output, dashed for targets, with the legend in the right margin."""
    outputs = panel.values.shape[1]
    picked = _pick(outputs, frame.limit)
    named = outputs <= len(PALETTE)
    colours = PALETTE if named else colormaps["viridis"](np.linspace(0, 0.92, len(picked)))
    times = np.arange(frame.steps) * frame.dt_ms
    width = 1.3 if named else 0.7
    handles = []
    for colour, k in zip(colours, picked, strict=False):
        handles += ax.plot(times, panel.values[:, k], color=colour, lw=width, label=str(k))
        if panel.targets is not None:
            ax.plot(times, panel.targets[:, k], color=colour, **_DASHES)
    handles = handles if named and outputs > 1 else []
    if panel.targets is not None:
        handles.append(Line2D([], [], color=FAINT, label="target", **_DASHES))
    if handles:
        ax.legend(handles=handles, ncols=1 + (len(handles) > 7), **_LEGEND)
    _dress(ax, panel.name, _count(outputs, picked, "output"))
    ax.spines["bottom"].set_visible(True)
    ax.margins(y=0.08)
    ax.locator_params(axis="y", nbins=5)


def _figure(width: float, height: float, layout: Any = None) -> Figure:
    """An empty figure of so many inches with an Agg canvas."""
    figure = Figure((width, height), dpi=100, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _strips(heights: np.ndarray, title: str) -> tuple[Figure, list[Axes]]:
    """A figure of panels below each other, so many inches high, on one time axis."""
    top = 0.65 if title else 0.35
    total = top + float(heights.sum()) + _GAP * (heights.size - 1) + _BOTTOM
    figure, left, edge = _figure(_WIDTH, total), _LEFT / _WIDTH, total - top
    axes: list[Axes] = []
    for height in heights:
        box = (left, (edge - height) / total, 1 - left - _RIGHT / _WIDTH, height / total)
        axes.append(figure.add_axes(box, sharex=axes[0] if axes else None))
        edge -= height + _GAP
    figure.text(left, 1 - 0.12 / total, title, va="top", fontsize=LARGE, **_BOLD)
    return figure, axes


def _pick(count: int, limit: int) -> np.ndarray:
    """Indices of at most `limit` of `count` things, evenly spread with both ends."""
    return np.linspace(0, count - 1, min(count, limit)).round().astype(int)


def _count(count: int, picked: np.ndarray, word: str) -> str:
    """Such as `100 of 256 neurons`."""
    some = f"{len(picked)} of {count}" if len(picked) < count else str(count)
    return f"{some} {word}{'s' * (count != 1)}"


def _ticks(size: int) -> list[int]:
    """The first, the middle and the last of so many rows."""
    return sorted({0, (size - 1) // 2 if size > 5 else 0, size - 1})


def _neuron_axis(ax: Axes, panel: _Panel, picked: np.ndarray, more: str = "") -> None:
    """Row 0 on top; ticks give a neuron's own index, whichever were picked."""
    word = "channel" if panel.name == "inputs" else "neuron"
    _dress(ax, panel.name, _count(panel.values.shape[1], picked, word) + more)
    rows = _ticks(len(picked))
    ax.set_yticks(rows, [str(picked[row]) for row in rows])
    ax.set_ylim(len(picked) - 0.3, -0.7)
    ax.spines["left"].set_visible(True)


def _signed(values: np.ndarray) -> dict[str, Any]:
    """Arguments of `imshow` for colours that are symmetric about 0."""
    limit = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values))) or 1.0
    return {"cmap": colormaps["RdBu_r"].with_extremes(bad="black"), "vmin": -limit, "vmax": limit}


def _colour_bar(bar: Any) -> None:
    """Makes a colour bar look like the axes."""
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, labelcolor=INK, length=2, color=PALE)


def _dress(ax: Axes, name: str, detail: str = "") -> None:
    """Title to the left with a detail behind it, small ticks, no frame."""
    title = ax.set_title(name, loc="left", fontsize=NORMAL, pad=4, **_BOLD)
    after = {"xycoords": title, "textcoords": "offset points"}
    ax.annotate(detail, (1, 0), (6, 2), **after, fontsize=NORMAL, color=FAINT)  # type: ignore
    ax.spines[:].set_visible(False)
    ax.spines[:].set_color(PALE)
    ax.tick_params(labelsize=SMALL, labelcolor=INK, length=2, color=PALE)
