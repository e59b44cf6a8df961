"""What TensorBoard gets: scalars, histograms, pictures, the configuration as text."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn import data
from orbit_snn.data import Examples
from orbit_snn.learning.base import run
from orbit_snn.networks import Network
from orbit_snn.training import pictures
from orbit_snn.training.task import Task
from orbit_snn.types import Batch, Trajectory


def write_histograms(metrics: dict[str, Any], writer: Any, step: int) -> None:
    """Writes everything longer than a number as a histogram, and takes it out of `metrics`."""
    longer = [name for name, value in metrics.items() if np.ndim(value)]
    with writer.as_default():
        for name in longer:
            tf.summary.histogram(name, metrics.pop(name), step=step)


def parameter_names(network: Network) -> dict[str, tf.Variable]:
    """Trainable variables by their path in the network, `cells/0/recurrent/kernel`."""
    trained = {id(parameter) for parameter in network.parameters}
    leaves = network._flatten(lambda leaf: isinstance(leaf, tf.Variable), with_path=True)
    return {"/".join(map(str, path)): leaf for path, leaf in leaves if id(leaf) in trained}


def weight_histograms(network: Network) -> dict[str, np.ndarray]:
    """Values of every trainable variable, by `weights/<path>`."""
    return {f"weights/{name}": value.numpy() for name, value in parameter_names(network).items()}


def write_text(name: str, text: str, writer: Any, step: int = 0) -> None:
    """A text in a fixed-width block."""
    with writer.as_default():
        tf.summary.text(name, f"```\n{text}\n```", step=step)
    writer.flush()


class ActivityPictures:
    """Draws the activity of a few examples: inputs, spikes of every cell, readouts.

    Args:
      task: whose network is drawn.
      examples: of which the first ones are drawn.
      count: how many.
      seed: of what is random in them.
    """

    def __init__(self, task: Task, examples: Examples, count: int, seed: int):
        self._task = task
        size = count if examples.size is None else min(count, examples.size)
        batches = data.evaluation_dataset(examples, max(size, 1), seed, size=max(size, 1))
        self._batch: Batch = next(iter(batches))
        self._count = size
        self._run = tf.function(lambda batch: run(task.network, batch), autograph=False)

    def figures(self) -> list[Any]:
        """One matplotlib figure an example."""
        if not self._count:
            return []
        trajectory = self._run(self._batch)
        return [self._figure(trajectory, index) for index in range(self._count)]

    def write(self, writer: Any, step: int) -> None:
        """Writes the pictures as image summaries."""
        with writer.as_default():
            for index, figure in enumerate(self.figures()):
                tf.summary.image(f"activity/{index}", pictures.to_image(figure), step=step)
        writer.flush()

    def _figure(self, trajectory: Trajectory, index: int) -> Any:
        cells = [
            pictures.CellActivity(
                f"cell {number}", np.asarray(own.outputs)[:, index], cell.neuron.spiking
            )
            for number, (cell, own) in enumerate(
                zip(self._task.network.cells, trajectory.cells, strict=True)
            )
        ]
        readouts = {
            name: np.asarray(own.outputs)[:, index] for name, own in trajectory.readouts.items()
        }
        mask = self._batch.get("mask")
        return pictures.activity_figure(
            np.asarray(self._batch["inputs"])[index],
            cells,
            readouts,
            self._task.network.cells[0].neuron.dt_ms,
            title=self._title(index),
            targets=self._targets(index, readouts),
            real_steps=None if mask is None else int(np.sum(np.asarray(mask)[index])),
        )

    def _title(self, index: int) -> str:
        label = self._batch.get("label")
        return f"example {index}" if label is None else f"example {index}, label {label[index]}"

    def _targets(self, index: int, readouts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = {}
        for name in self._task.objective.temporal:
            value = np.asarray(self._batch[name])[index]
            for readout, y in readouts.items():
                if value.shape == y.shape:
                    found[readout] = value
        return found
