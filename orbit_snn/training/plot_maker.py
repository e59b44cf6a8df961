"""The plot maker: draws what a model predicts, at evaluations.

    plot_maker = PlotMaker(Confusion(choice), Traces(net.output), Raster(net), plot_every=5)
    modules, db_info = assemble_for_training(loss, {"loss": loss}, plot_maker=plot_maker)

What it draws is among the model's outputs and the targets, so nothing is computed twice. An
evaluation that is `due` keeps tensors of its batches, and draws at the end:

    tensors = plot_maker.collect(run.values, batch)    # in the traced step, on each replica
    plot_maker.keep(collected, tensors)                # on the host, with a list
    plot_maker.write(plot_maker.figures(collected), writer, step, directory)
"""

import functools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from orbit_snn.graph.algebra import LossNode, Prediction, Target
from orbit_snn.graph.errors import GraphError
from orbit_snn.training import pictures
from orbit_snn.training.actions import at_least
from orbit_snn.training.plotters import Compare as Compare
from orbit_snn.training.plotters import Confusion as Confusion
from orbit_snn.training.plotters import Errors as Errors
from orbit_snn.training.plotters import Plotter as Plotter
from orbit_snn.training.plotters import Raster as Raster
from orbit_snn.training.plotters import Traces as Traces
from orbit_snn.training.plotters import Weights as Weights

Collected = Mapping[str, np.ndarray]
"""Tensors `[B, ...]` of a batch, see `PlotMaker.collect`."""


class PlotMaker:
    """Draws figures of predictions from the batches of an evaluation.

    Args:
      *plotters: what to draw.
      plot_every: one evaluation in so many is drawn.
      max_examples: the most examples that a figure is made of, the first ones.

    Raises:
      GraphError: for no plotters, two of the same name, or something that is none.
      ValueError: for numbers below 1.
    """

    def __init__(self, *plotters: Plotter, plot_every: int = 1, max_examples: int = 1000):
        if not plotters:
            raise GraphError(
                "the plot maker got no plotters; give it some, as Compare(net.output)."
            )
        for plotter in plotters:
            if not isinstance(plotter, Plotter):
                raise GraphError(f"{plotter!r} is no plotter; expected one such as Compare(node).")
            for node in plotter.required_nodes:
                if not isinstance(node, (Prediction, Target)):
                    raise GraphError(
                        f"the plotter {plotter.name!r} requires {node!r}; it may require "
                        "predictions and targets, node.pred and node.true."
                    )
        names = [plotter.name for plotter in plotters]
        for name in names:
            if names.count(name) > 1:
                raise GraphError(f"two plotters are called {name!r}; give one another name=...")
        self.plotters = plotters
        self.plot_every = at_least("plot_every", plot_every, 1)
        self.max_examples = at_least("max_examples", max_examples, 1)

    @property
    def required_nodes(self) -> tuple[LossNode, ...]:
        """Predictions and targets, masks included, that the figures need, each once."""
        nodes = (node for plotter in self.plotters for node in plotter.required_nodes)
        return tuple(dict.fromkeys(nodes))

    @property
    def features(self) -> tuple[str, ...]:
        """The features of a batch that `collect` reads; `weight` too, where there is one."""
        targets = (node for node in self.required_nodes if isinstance(node, Target))
        return tuple(dict.fromkeys(str(node.origin.db_name) for node in targets))

    def due(self, evaluation: int) -> bool:
        """Whether an evaluation, counted from 0, is to be drawn."""
        return evaluation % self.plot_every == 0

    def collect(
        self, run_values: Mapping[str, Any], batch: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Tensors of one batch that the figures need, `[B, ...]`; for a traced step.

        Args:
          run_values: of the model's nodes, by name.
          batch: features.

        Returns:
          `pred/<node>`, `true/<feature>`, `mask/<feature>`, and `weight` `[B]`, which is 0 for
          examples that only fill the batch.

        Raises:
          GraphError: for a value or feature that is missing, or shapes that do not fit a plotter.
        """
        given = {f"pred/{name}": value for name, value in run_values.items()}
        given |= {f"{kind}/{name}": x for name, x in batch.items() for kind in ("true", "mask")}
        values = {n: tf.convert_to_tensor(_given(given, self._key(n))) for n in self.required_nodes}
        for plotter in self.plotters:
            plotter.check(values)
        first = next(iter((*values.values(), *batch.values())))
        weight = batch["weight"] if "weight" in batch else tf.ones(tf.shape(first)[:1])
        return {self._key(node): value for node, value in values.items()} | {"weight": weight}

    def keep(self, collected: list[Collected], tensors: Mapping[str, Any]) -> None:
        """Appends what `collect` gave for a batch, as arrays, but nothing that is not drawn.

        Args:
          collected: of earlier batches; it does not grow once every figure has its examples.
          tensors: what `collect` gave.
        """
        seen = sum(len(_real(each)) for each in collected)
        real = _real(tensors)
        kept: dict[str, np.ndarray] = {}
        for key, limit in self._limits().items():
            wanted = real[: max(limit - seen, 0)]
            if wanted.size:
                kept[key] = np.asarray(tensors[key])[wanted]
        if kept or not seen:
            collected.append(kept | {"weight": np.ones(real.shape, np.float32)})

    def figures(self, collected: Sequence[Collected]) -> dict[str, Figure]:
        """The figures by tag; none where there are no real examples.

        Args:
          collected: what `collect` gave for every batch, as arrays, or what `keep` kept of it.

        Raises:
          GraphError: for shapes that do not fit a plotter, or each other.
        """
        if not any(len(_real(each)) for each in collected):
            return {}
        values = {node: self._joined(node, collected) for node in self.required_nodes}
        found = {}
        for plotter in self.plotters:
            first = slice(self._examples(plotter))
            own = {node: values[node][first] for node in plotter.required_nodes}
            plotter.check(own)
            for suffix, figure in plotter.draw(own).items():
                found[f"{plotter.name}/{suffix}" if suffix else plotter.name] = figure
        return found

    def write(
        self,
        figures: Mapping[str, Figure],
        writer: Any,
        step: int,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        """Writes figures as image summaries, and as files `<directory>/plots/step<step>/<tag>.png`.

        Args:
          figures: by tag; `a/b` is a file `b.png` in a directory `a`.
          writer: of summaries, or None for files only.
          step: at which the model was evaluated.
          directory: for the files, each of which is written in one go; None for no files.
        """
        for tag, figure in figures.items():
            if writer is not None:
                with writer.as_default():
                    tf.summary.image(tag, pictures.to_image(figure), step=step)
            if directory is not None:
                top = pathlib.Path(directory) / "plots" / f"step{step}"
                pictures.save(figure, top / f"{_path(tag)}.png")
        if writer is not None:
            writer.flush()

    @functools.cached_property
    def _masks(self) -> frozenset[int]:
        """The nodes of masks, by their `id`."""
        return frozenset(id(node.mask) for node in self.required_nodes if node.mask is not None)

    def _key(self, node: LossNode) -> str:
        """Under which a node's values are collected."""
        if isinstance(node, Prediction):
            return f"pred/{node.origin.name}"
        assert isinstance(node, Target)
        return f"{'mask' if id(node.origin) in self._masks else 'true'}/{node.origin.db_name}"

    def _examples(self, plotter: Plotter) -> int:
        """The most examples that a plotter draws."""
        return min(plotter.examples or self.max_examples, self.max_examples)

    def _limits(self) -> dict[str, int]:
        """The most examples that are drawn of what is collected under each key."""
        limits: dict[str, int] = {}
        for plotter in self.plotters:
            for key in map(self._key, plotter.required_nodes):
                limits[key] = max(limits.get(key, 0), self._examples(plotter))
        return limits

    def _joined(self, node: LossNode, collected: Sequence[Collected]) -> np.ndarray:
        """Values of all real examples, up to the node's limit."""
        parts: list[np.ndarray] = []
        key = self._key(node)
        left = self._limits()[key]
        for each in collected:
            if (real := _real(each)[:left]).size:
                parts.append(np.asarray(_given(each, key))[real])
                left -= real.size
        if len({part.shape[1:] for part in parts}) == 1:
            return np.concatenate(parts)
        if node.mask is None and id(getattr(node, "origin", None)) not in self._masks:
            shapes = ", ".join(str(list(part.shape)) for part in parts[:3])
            raise GraphError(
                f"{node.name} has the shapes {shapes}, ... in different batches; without a mask "
                "they must agree in all but the first axis."
            )
        return _padded(parts)


def _real(tensors: Mapping[str, Any]) -> np.ndarray:
    """Places of the examples of a batch that are real."""
    return np.flatnonzero(np.asarray(tensors["weight"]) > 0)


def _given(values: Mapping[str, Any], key: str) -> Any:
    if key not in values:
        kind = key.partition("/")[0]
        known = ", ".join(name for name in values if name.startswith(f"{kind}/"))
        raise GraphError(
            f"the plots need `{key}`; got {known or 'nothing of the kind'}. Give the plot maker to "
            "assemble_for_training, and read the features of db_info."
        )
    return values[key]


def _padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Batches of sequences, joined; zeros after the end of the shorter ones."""
    longest = max(part.shape[1] for part in parts)
    widths = (
        [(0, longest - part.shape[1]) if k == 1 else (0, 0) for k in range(part.ndim)]
        for part in parts
    )
    return np.concatenate([np.pad(*pair) for pair in zip(parts, widths, strict=True)])


def _path(tag: str) -> str:
    """A tag as a path below a directory, whatever the names of nodes are."""
    parts = (re.sub(r'[\x00-\x1f\\:*?"<>|]', "_", part) for part in tag.split("/"))
    return "/".join("_" if part.strip(".") == "" else part for part in parts)
