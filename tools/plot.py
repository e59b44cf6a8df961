"""Draws what TensorBoard would show of one or several runs into one PNG file.

    python -m orbit_snn.tools.plot runs/a runs/b --out curves.png

Learning curves are on top, a panel each: training against validation, several runs in different
colours. Below them is the newest picture of every picture summary. The file is `curves.png` in the
first run's directory unless `--out` says otherwise.
"""

import argparse
import io
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

if __name__ == "__main__":  # before TensorFlow is loaded, and in a checkout without installation
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

from orbit_snn.training import pictures

Path = str | os.PathLike[str]
Curves = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]

SPLITS = ("train", "validation")
LEFT_OUT = ("examples",)  # constant, nothing to see
LAST = ("learning_rate", "gradient_norm", "rate_hz", "silent", "saturated", "steps_per_second")
COLUMNS = 4
WIDTH, PIXEL, MARGIN, CAPTION = 12.7, 0.0075, 0.2, 0.3  # inches


class RunError(Exception):
    """A run cannot be drawn; the message says why."""


class Picture(NamedTuple):
    """The newest image of one tag: pixels `[H, W, ...]`, and the step it was made at."""

    tag: str
    step: int
    pixels: np.ndarray


class Run(NamedTuple):
    """What a run's event files hold."""

    name: str
    curves: Curves
    pictures: list[Picture]


def curves(run_dir: Path) -> Curves:
    """Scalars by split and tag, such as `curves(d)["train"]["loss"]`: (steps `[n]`, values `[n]`).

    Where training was resumed and wrote a step again, the later value counts. Scalars in a
    directory below the split's have its path before their tag.

    Raises:
      RunError: where the directory, or anything in it to draw, is missing.
    """
    return read(run_dir).curves


def read(run_dir: Path) -> Run:
    """Scalars and newest pictures of a run.

    Raises:
      RunError: where the directory, or anything in it to draw, is missing.
    """
    root = pathlib.Path(run_dir)
    if not root.is_dir():
        raise RunError(f"there is no directory {root}.")
    found: Curves = {}
    images: list[Picture] = []
    for split in SPLITS:
        for prefix, accumulator in _accumulators(root / split):
            for tag in accumulator.Tags()["tensors"]:
                plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
                if plugin == "scalars":
                    found.setdefault(split, {})[prefix + tag] = _series(accumulator.Tensors(tag))
                elif plugin == "images":
                    name = f"{split}/{prefix}{tag}"
                    images.append(_newest(name, accumulator.Tensors(tag)))
    if not found and not images:
        raise RunError(f"no events to draw in {root / SPLITS[0]} or {root / SPLITS[1]}.")
    return Run(root.resolve().name, found, images)


def draw(runs: Sequence[Run]) -> Figure:
    """Learning curves of all runs above their newest pictures."""
    found = [split for run in runs for split in run.curves.values()]
    tags = sorted({tag for split in found for tag in split} - set(LEFT_OUT), key=_order)
    shown = [(p.tag, run.name, p) for run in runs for p in run.pictures]
    shown.sort(key=lambda entry: entry[0])
    boxes = _flow([picture for _, _, picture in shown])
    rows = -(-len(tags) // COLUMNS)
    below = max((y + h + MARGIN for _, y, _, h in boxes), default=0.0)
    heights = [2.1 * rows + 0.6 if tags else 0.0, below]
    used = [height for height in heights if height]
    figure = Figure((WIDTH, sum(used)), dpi=100, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    parts = np.ravel(np.asarray(figure.subfigures(len(used), 1, height_ratios=used)))
    if tags:
        _draw_curves(parts[0], runs, tags, rows)
    for (tag, name, picture), (x, y, w, h) in zip(shown, boxes, strict=True):
        box = (x / WIDTH, 1 - (y + h) / below, w / WIDTH, h / below)
        title = f"{tag}, step {picture.step}"
        _draw_picture(parts[-1].add_axes(box), picture, f"{name}: {title}" if runs[1:] else title)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, draws, and says where the file is."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="with train/, validation/")
    parser.add_argument("--out", metavar="FILE.png", help="default RUN_DIR/curves.png, the first's")
    options = parser.parse_args(arguments)
    out = pathlib.Path(options.out or pathlib.Path(options.run_dirs[0], "curves.png"))
    try:
        if out.suffix.lower() != ".png":
            raise RunError(f"--out is {out}; expected a name that ends in .png.")
        figure = draw(distinct([read(run_dir) for run_dir in options.run_dirs], options.run_dirs))
        pictures.save(figure, out)
    except (RunError, OSError) as error:
        sys.exit(f"plot: {error}")
    print(out)


def _accumulators(root: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """Every directory with event files from `root` down: prefix of its tags, and its events."""
    from tensorboard.backend.event_processing import event_accumulator

    everything = dict.fromkeys(event_accumulator.DEFAULT_SIZE_GUIDANCE, 0)
    for directory in sorted({file.parent for file in root.rglob("*.tfevents.*")}):
        accumulator = event_accumulator.EventAccumulator(str(directory), everything)
        below = directory.relative_to(root).as_posix()
        yield "" if below == "." else f"{below}/", accumulator.Reload()


def _series(events: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Steps in order and their values, the one written last where there are several."""
    import tensorflow as tf

    values = {
        event.step: float(tf.make_ndarray(event.tensor_proto))
        for event in sorted(events, key=lambda event: event.wall_time)
    }
    steps = sorted(values)
    return np.array(steps, np.int64), np.array([values[step] for step in steps], np.float64)


def _newest(tag: str, events: Sequence[Any]) -> Picture:
    """The first image of the summary that was written last."""
    import tensorflow as tf

    event = max(events, key=lambda event: event.wall_time)
    _width, _height, png, *_ = tf.make_ndarray(event.tensor_proto)
    return Picture(tag, int(event.step), imread(io.BytesIO(png), format="png"))


def _order(tag: str) -> tuple[int, str]:
    """Losses first, then metrics by name, then what training itself did."""
    family = tag.split("/")[0]
    if family in LAST:
        return 2 + LAST.index(family), tag
    return int("loss" not in tag), tag


def distinct(runs: Sequence[Run], run_dirs: Sequence[str]) -> list[Run]:
    """Runs that all have different names: paths where names of directories would not do."""
    if len({run.name for run in runs}) == len(runs):
        return list(runs)
    return [run._replace(name=name) for run, name in zip(runs, run_dirs, strict=True)]


def _flow(images: Sequence[Picture]) -> list[tuple[float, float, float, float]]:
    """Left, top, width and height in inches: at one scale, in lines like the words of a text."""
    boxes, x, top, bottom = [], MARGIN, 0.0, 0.0
    for image in images:
        height, width = PIXEL * np.array(image.pixels.shape[:2])
        shrunk = min(1.0, (WIDTH - 2 * MARGIN) / width)
        height, width = float(height * shrunk), float(width * shrunk)
        if x > MARGIN and x + width + MARGIN > WIDTH:
            x, top = MARGIN, bottom + MARGIN
        boxes.append((x, top + CAPTION, width, height))
        x, bottom = x + width + MARGIN, max(bottom, top + CAPTION + height)
    return boxes


def _draw_curves(part: Any, runs: Sequence[Run], tags: Sequence[str], rows: int) -> None:
    """Small multiples, one tag each, with one legend on top."""
    styles = _styles(runs)
    part.supxlabel("step", fontsize=pictures.NORMAL, color=pictures.INK)
    for index, tag in enumerate(tags):
        ax = part.add_subplot(rows, COLUMNS, index + 1)
        drawn = []
        for run in runs:
            for split in SPLITS:
                if tag in run.curves.get(split, {}):
                    steps, values = run.curves[split][tag]
                    dot = _dot(split) if len(steps) < 2 else {}
                    ax.plot(steps, values, **styles[run.name, split], **dot)
                    drawn.append(values)
        _dress(ax, tag, np.concatenate(drawn))
    handles = [
        Line2D([], [], label=f"{name} {split}" if runs[1:] else split, **style)
        for (name, split), style in styles.items()
    ]
    look = {"frameon": False, "fontsize": pictures.NORMAL, "labelcolor": pictures.INK}
    part.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 6), **look)


def _dot(split: str) -> dict[str, Any]:
    """How to draw a single value: open where it is validation's, so that both are seen."""
    if split == SPLITS[0]:
        return {"marker": "o", "markersize": 3}
    return {"marker": "o", "markersize": 6, "markerfacecolor": "none"}


def _styles(runs: Sequence[Run]) -> dict[tuple[str, str], dict[str, Any]]:
    """How to draw each split of each run: one run by colour, several by colour and dashes."""
    styles: dict[tuple[str, str], dict[str, Any]] = {}
    for index, run in enumerate(runs):
        for place, split in enumerate(SPLITS):
            colour = pictures.PALETTE[(place if len(runs) == 1 else index) % len(pictures.PALETTE)]
            line = "--" if place and len(runs) > 1 else "-"
            if split in run.curves:
                styles[run.name, split] = {"color": colour, "linestyle": line, "linewidth": 1.3}
    return styles


def _dress(ax: Axes, tag: str, values: np.ndarray) -> None:
    """Title, quiet axes, and a logarithmic scale where values spread over a factor of 50."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 50 * finite.min():
        ax.set_yscale("log")
    title = {"fontsize": pictures.NORMAL, "fontweight": "bold", "color": pictures.INK}
    ax.set_title(tag, loc="left", pad=4, **title)  # type: ignore[arg-type]
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_color(pictures.PALE)
    ax.tick_params(labelsize=pictures.SMALL, labelcolor=pictures.INK, length=2)
    ax.tick_params(which="both", color=pictures.PALE)
    ax.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    ax.locator_params(axis="x", nbins=5)


def _draw_picture(ax: Axes, picture: Picture, title: str) -> None:
    """A picture as it is, under its title."""
    ax.imshow(picture.pixels, cmap="gray", aspect="auto", interpolation="antialiased")
    ax.set_title(title, loc="left", fontsize=pictures.NORMAL, color=pictures.FAINT)
    ax.set_axis_off()


if __name__ == "__main__":
    main()
