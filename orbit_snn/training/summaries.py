"""What TensorBoard gets: scalars, histograms, pictures, the configuration as text."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn import data
from orbit_snn.data import Examples
from orbit_snn.graph.module import GraphModule
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.training import pictures
from orbit_snn.types import Batch, Trajectory


def write_histograms(metrics: dict[str, Any], writer: Any, step: int) -> None:
    """Writes everything longer than a number as a histogram, and takes it out of `metrics`."""
    longer = [name for name, value in metrics.items() if np.ndim(value)]
    with writer.as_default():
        for name in longer:
            tf.summary.histogram(name, metrics.pop(name), step=step)


def parameter_names(model: GraphModule) -> dict[str, tf.Variable]:
    """Trained variables by their path in the model, `network/cells/0/recurrent/kernel`."""
    trained = {id(parameter) for parameter in model.parameters}
    leaves = model._flatten(lambda leaf: isinstance(leaf, tf.Variable), with_path=True)
    names = {}
    for path, leaf in leaves:
        if id(leaf) in trained:
            name = "/".join(map(str, path)).removeprefix("modules/")
            names[name] = leaf
    return names


def weight_histograms(model: GraphModule) -> dict[str, np.ndarray]:
    """Values of every trained variable, by `weights/<path>`."""
    return {f"weights/{name}": value.numpy() for name, value in parameter_names(model).items()}


def write_text(name: str, text: str, writer: Any, step: int = 0) -> None:
    """A text in a fixed-width block."""
    with writer.as_default():
        tf.summary.text(name, f"```\n{text}\n```", step=step)
    writer.flush()


class ActivityPictures:
    """Draws the activity of a few examples: inputs, spikes of every cell, readouts.

    Args:
      model: whose networks are drawn.
      examples: of which the first ones are drawn.
      count: how many.
      seed: of what is random in them.
    """

    def __init__(self, model: GraphModule, examples: Examples, count: int, seed: int):
        self._networks = model.networks
        size = count if examples.size is None else min(count, examples.size)
        self._count = size if self._networks else 0
        if self._count:
            batches = data.evaluation_dataset(examples, size, seed, size=size)
            self._batch: Batch = next(iter(batches))
            self._run = tf.function(lambda batch: model.run(batch).values, autograph=False)

    def figures(self) -> dict[str, Any]:
        """One matplotlib figure an example and network, by name."""
        if not self._count:
            return {}
        values = self._run(self._batch)
        several = len(self._networks) > 1
        return {
            f"activity/{node.name}/{index}" if several else f"activity/{index}": self._figure(
                node, values[node.name], np.asarray(values[node.parents[0].name]), index
            )
            for node in self._networks
            for index in range(self._count)
        }

    def write(self, writer: Any, step: int) -> None:
        """Writes the pictures as image summaries."""
        with writer.as_default():
            for name, figure in self.figures().items():
                tf.summary.image(name, pictures.to_image(figure), step=step)
        writer.flush()

    def _figure(
        self, node: NetworkNode, trajectory: Trajectory, inputs: np.ndarray, index: int
    ) -> Any:
        pairs = zip(node.module.cells, trajectory.cells, strict=True)
        cells = [
            pictures.CellActivity(
                f"cell {number}", np.asarray(own.outputs)[:, index], cell.neuron.spiking
            )
            for number, (cell, own) in enumerate(pairs)
        ]
        readouts = {
            name: np.asarray(own.outputs)[:, index] for name, own in trajectory.readouts.items()
        }
        mask = None if node.mask is None else self._batch.get(str(node.mask.db_name))
        return pictures.activity_figure(
            inputs[index],
            cells,
            readouts,
            node.module.cells[0].neuron.dt_ms,
            title=self._title(index),
            targets=self._targets(node, index, readouts),
            real_steps=None if mask is None else int(np.sum(np.asarray(mask)[index])),
        )

    def _title(self, index: int) -> str:
        label = self._batch.get("label")
        if label is None or label.shape.rank != 1:
            return f"example {index}"
        return f"example {index}, label {label[index]}"

    def _targets(
        self, node: NetworkNode, index: int, readouts: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        found = {}
        for name, output in node.readouts.items():
            if output.db_name in self._batch:
                value = np.asarray(self._batch[output.db_name])[index]
                if value.shape == readouts[name].shape:
                    found[name] = value
        return found
