"""Figures of what a model predicts: against the truth, as errors, over time, as classes.

Pure functions from arrays to figures, in the look of `pictures`. What is not finite is left out,
and the figure says so: a run that has diverged can still be drawn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure

from orbit_snn.training import pictures
from orbit_snn.training.pictures import (
    _CENTRE,
    _LEGEND,
    _PAPER,
    _VEIL,
    FAINT,
    INK,
    NORMAL,
    PALE,
    PALETTE,
    SMALL,
    _dress,
    _lines,
    _Panel,
    _strips,
)

_MANY = 2000  # points from which on their density is drawn
_LARGEST = 1e100  # of what counts as finite, so that squares do too
_TRACE_HEIGHT = 1.35  # inches
_MARGIN = {"w_pad": 0.1, "h_pad": 0.1}  # inches
_BESIDE: dict[str, Any] = {"bbox_to_anchor": (1.0, 1.02), "markerscale": 1.3}


def plain(text: str, longest: int = 42) -> str:
    """Text for matplotlib that is never taken for mathematics, cut in the middle if it is long."""
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}…{text[-half + 1 :]}"
    return text.replace("$", r"\$")


def comparison_figure(
    pred: np.ndarray, true: np.ndarray, pred_name: str = "", true_name: str = ""
) -> Figure:
    """Predictions over the truth with the diagonal; RMSE and R^2 = 1 - SSE / SST in the title.

    Up to 2000 points are dots, in a colour for each of up to 12 outputs; of more, the density is
    drawn. All outputs are judged together.

    Args:
      pred: `[n, K]`.
      true: `[n, K]`.
      pred_name: of what was predicted.
      true_name: of what it should have been.
    """
    pred, true = np.asarray(pred, np.float64), np.asarray(true, np.float64)
    output = np.broadcast_to(np.arange(pred.shape[-1]), pred.shape)
    good = _finite(pred) & _finite(true)
    x, y = true[good], pred[good]
    beside = x.size > _MANY or 1 < pred.shape[-1] <= len(PALETTE)  # a colour bar or a legend
    figure, ax = _single(5.3 if beside else 4.7, 4.6)
    _dress(ax, _scores(y, x), _count(good, "point"))
    low, high = _limits(np.concatenate([x, y]))
    if x.size > _MANY:
        _density(ax, x, y, (low, high))
    elif x.size:
        _dots(ax, x, y, output[good], pred.shape[-1])
    if x.size:
        ax.plot((low, high), (low, high), color=FAINT, linewidth=0.8, dashes=(4, 3), zorder=1)
    ax.set(xlim=(low, high), aspect="equal")
    ax.locator_params(axis="x", nbins=6)
    ax.set_yticks(ax.get_xticks())
    ax.set_ylim(low, high)
    _frame(ax, _labelled("true", true_name), _labelled("predicted", pred_name), not x.size)
    return figure


def errors_figure(errors: np.ndarray, name: str = "") -> Figure:
    """Histogram of errors, with their mean and standard deviation (with n) in the title.

    Args:
      errors: predicted - true, of any shape.
      name: of what was predicted.
    """
    errors = np.asarray(errors, np.float64)
    good = _finite(errors)
    errors = errors[good]
    figure, ax = _single(5.3, 3.4)
    title = f"mean {errors.mean():.3g}, std {errors.std():.3g}" if errors.size else "no errors"
    _dress(ax, title, _count(good, "error"))
    limits = _limits(errors, 0.0)
    bins = int(np.clip(2 * np.cbrt(errors.size), 10, 80)) | 1  # odd: 0 is amid one, not between
    ax.hist(errors, bins, range=limits, color=PALETTE[4], edgecolor="white", lw=0.4)
    if limits[0] < 0 < limits[1]:
        ax.axvline(0.0, color=INK, linewidth=0.9, dashes=(4, 3))
    ax.set_xlim(*limits)
    ax.locator_params(axis="y", integer=True)
    _frame(ax, _labelled("predicted − true", name), "count", not errors.size)
    return figure


def traces_figure(
    values: np.ndarray,
    targets: np.ndarray | None = None,
    real_steps: Sequence[int] | None = None,
    dt_ms: float | None = None,
    title: str = "",
) -> Figure:
    """Outputs over time, a panel for each example, with dashed targets and shaded padding.

    Args:
      values: `[E, T, K]`.
      targets: `[E, T, K]`.
      real_steps: of every example; steps from this one on are padding. Default none are.
      dt_ms: length of a step; without it the axis counts steps.
      title: of the figure.
    """
    values = np.asarray(values, np.float64)
    count, steps, _ = values.shape
    step = 1.0 if dt_ms is None else dt_ms
    figure, axes = _strips(np.full(count, _TRACE_HEIGHT), title)
    for k, ax in enumerate(axes):
        target = None if targets is None else targets[k]
        real = steps if real_steps is None else real_steps[k]
        _lines(ax, _Panel(f"example {k}", values[k], _lines, target), step, real, 100)
        if not _finite(values[k]).any():
            _say_empty(ax)
        if not 1e-3 < max(map(abs, ax.get_ylim())) < 1e5:  # else a power of ten is in the title
            ax.yaxis.set_major_formatter("{x:.3g}")
        if (legend := ax.get_legend()) and k:  # the first panel's will do
            legend.remove()
        if real < steps:
            ax.axvspan((real - 0.5) * step, (steps - 0.5) * step, **_VEIL)
            ax.set_title("padding", loc="right", fontsize=SMALL, color=FAINT, pad=4)
        ax.set_xlim(-0.5 * step, (steps - 0.5) * step)
    label = "step" if dt_ms is None else "time (ms)"
    axes[-1].set_xlabel(label, fontsize=NORMAL, color=INK)
    return figure


def classes_figure(
    scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str] | None = None,
    pred_name: str = "",
    true_name: str = "",
) -> Figure:
    """Confusion matrix of the classes with the largest scores, see `pictures.confusion_figure`.

    Scores with NaN, and labels that no class has, are left out, and the figure says how many.

    Args:
      scores: `[n, K]`.
      labels: integers `[n]`.
      names: of the K classes, default their numbers.
      pred_name: of the scores.
      true_name: of the labels.
    """
    scores, labels = np.asarray(scores), np.asarray(labels).astype(np.int64)
    size = scores.shape[-1]
    known = (labels >= 0) & (labels < size)
    number = ~np.isnan(scores.astype(np.float64)).any(axis=-1)
    good = known & number
    cells = labels[good] * size + scores[good].argmax(axis=-1)
    counts = np.bincount(cells, minlength=size * size).reshape(size, size)
    shown = None if names is None else [plain(str(name), 16) for name in names]
    figure = pictures.confusion_figure(counts, shown)
    figure.get_layout_engine().set(**_MARGIN)  # type: ignore[union-attr]
    figure.axes[0].set_xlabel(_labelled("predicted", pred_name))
    figure.axes[0].set_ylabel(_labelled("true", true_name))
    left_out = {
        "with NaN": np.sum(~number),
        "of no such class": np.sum(number & ~known),
    }
    notes = [f"{count} {why}" for why, count in left_out.items() if count]
    if notes:
        figure.supxlabel(f"left out: {', '.join(notes)}", fontsize=SMALL, color=FAINT)
    return figure


def _dots(ax: Axes, x: np.ndarray, y: np.ndarray, output: np.ndarray, outputs: int) -> None:
    """A dot for each point, in a colour for each output where they can be told apart."""
    named = 1 < outputs <= len(PALETTE)
    size = float(np.clip(4000 / max(x.size, 1), 6, 22))
    for k in range(outputs if named else 1):
        own = output == k if named else np.ones(x.shape, bool)
        ax.scatter(x[own], y[own], s=size, color=PALETTE[k], alpha=0.65, lw=0, label=str(k))
    if named:
        ax.legend(title="output", title_fontsize=SMALL, handletextpad=0.1, **_LEGEND, **_BESIDE)


def _density(ax: Axes, x: np.ndarray, y: np.ndarray, limits: tuple[float, float]) -> None:
    """Logarithm of the number of points in hexagons, with a colour bar."""
    places: Any = ax.hexbin(
        x, y, gridsize=48, bins="log", mincnt=1, cmap="viridis", extent=(*limits, *limits), lw=0.1
    )
    bar: Any = ax.figure.colorbar(places, ax=ax, shrink=0.8, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, labelcolor=INK, length=2, color=PALE, which="both")
    bar.set_label("points", fontsize=SMALL, color=INK)


def _single(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure, so many inches large, with one pair of axes."""
    figure = Figure((width, height), layout="constrained", **_PAPER)
    figure.get_layout_engine().set(**_MARGIN)  # type: ignore[union-attr]
    return figure, figure.add_subplot()


def _frame(ax: Axes, x_label: str, y_label: str, empty: bool) -> None:
    """Two spines and their labels; no ticks where there is nothing to read off."""
    ax.spines[["left", "bottom"]].set_visible(True)
    ax.set_xlabel(x_label, fontsize=NORMAL, color=INK)
    ax.set_ylabel(y_label, fontsize=NORMAL, color=INK)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set(fontsize=SMALL, color=INK)
    if empty:
        ax.set(xticks=[], yticks=[])
        _say_empty(ax)


def _say_empty(ax: Axes) -> None:
    ax.text(0.5, 0.5, "nothing finite to draw", color=FAINT, transform=ax.transAxes, **_CENTRE)


def _finite(x: np.ndarray) -> np.ndarray:
    return np.abs(np.asarray(x, np.float64)) < _LARGEST  # False for NaN


def _count(good: np.ndarray, word: str) -> str:
    """`17 points`, or `17 points, 3 not finite`."""
    count, bad = int(good.sum()), int(good.size - good.sum())
    return f"{count} {word}{'s' * (count != 1)}" + (f", {bad} not finite" if bad else "")


def _scores(pred: np.ndarray, true: np.ndarray) -> str:
    """RMSE and R^2, the latter where the truth varies."""
    if not pred.size:
        return "no points"
    squares = float(np.sum(np.square(pred - true)))
    about_mean = float(np.sum(np.square(true - true.mean())))
    rsq = f"{1 - squares / about_mean:.4g}" if about_mean > 0 else "undefined"
    return f"RMSE {np.sqrt(squares / pred.size):.3g}, R² {rsq}"


def _limits(values: np.ndarray, margin: float = 0.04) -> tuple[float, float]:
    """The smallest and the largest value with a margin, never the same."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    spread = high - low
    if spread <= 1e-9 * max(abs(low), abs(high)):
        spread = max(abs(low), 1.0)
        return low - 0.5 * spread, high + 0.5 * spread
    return low - margin * spread, high + margin * spread


def _labelled(what: str, name: str) -> str:
    return f"{what}: {plain(name)}" if name else what
