"""Digits: images classified from their rows, which arrive one after the other.

The default data are scikit-learn's 1797 handwritten digits of 8 x 8 pixels; any TFDS data set of
images with labels can stand in their place (`task.dataset=mnist`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import choice, ranged
from orbit_snn.data import DataError, from_arrays
from orbit_snn.database import SPLITS, Database
from orbit_snn.graph import (
    Accuracy,
    CrossEntropy,
    Decision,
    InputNode,
    NetworkNode,
    TrainingModules,
    assemble_for_training,
)
from orbit_snn.graph.assembly import DatabaseInfo
from orbit_snn.losses import MODES
from orbit_snn.models import ModelConfig, build_network
from orbit_snn.networks import Network
from orbit_snn.tasks import digits_dataset
from orbit_snn.tfds_source import load_tfds
from orbit_snn.training import Confusion, PlotMaker, Task

ENCODINGS = ("current", "poisson")


class Images(NamedTuple):
    """Images and labels that were read.

    Attributes:
      splits: by name, `image` `[size, rows, columns, ...]` and `label` int32 `[size]`.
      brightest: the largest pixel of the training images.
      classes: K.
    """

    splits: dict[str, dict[str, np.ndarray]]
    brightest: float
    classes: int

    def database(self, encoder: Callable[[bool], Callable[..., Any]]) -> Database:
        """All splits, encoded.

        Args:
          encoder: gives the `encode` of `from_arrays`, told whether it is for training.
        """
        splits = self.splits.items()
        return Database({k: from_arrays(split, encoder(k == "train")) for k, split in splits})


@dataclasses.dataclass
class ImagesConfig(experiments.TaskConfig):
    """Images with labels, of scikit-learn's digits or of TFDS; what tasks of images share.

    Attributes:
      dataset: `digits`, or the name of any TFDS data set of images with labels.
      data_dir: where data sets are prepared; default that of TFDS.
      image: the feature that holds the image.
      label: the feature that holds the class.
      train_split: examples to learn from, in TFDS notation.
      validation_split: examples to choose by.
      test_split: held-out examples.
    """

    dataset: str = "digits"
    data_dir: str = ""
    image: str = "image"
    label: str = "label"
    train_split: str = "train[:90%]"
    validation_split: str = "train[90%:]"
    test_split: str = "test"

    def read(self) -> Images:
        """All splits, in memory.

        Raises:
          DataError: where there are none, or no images.
        """
        names = (self.train_split, self.validation_split, self.test_split)
        splits = dict(zip(SPLITS, map(self._arrays, names), strict=True))
        brightest = float(np.max(splits["train"]["image"])) or 1.0
        classes = 1 + max(int(split["label"].max()) for split in splits.values())
        return Images(splits, brightest, classes)

    def _arrays(self, split: str) -> dict[str, np.ndarray]:
        source: Any = self.dataset
        if self.dataset == "digits":
            source = digits_dataset.builder(self.data_dir or None)
        arrays = load_tfds(source, split, self.data_dir or None, [self.image, self.label])
        image, label = arrays[self.image], arrays[self.label]
        if image.ndim < 3:
            raise DataError(
                f"feature {self.image!r} of {self.dataset} has shape {image.shape[1:]}; expected "
                "an image [rows, columns, ...]; choose another with task.image."
            )
        return {"image": image, "label": label.astype(np.int32)}


@dataclasses.dataclass
class DigitsConfig(ImagesConfig):
    """Rows of images over time; fields of `ImagesConfig` too.

    Attributes:
      steps_per_row: how many steps each row of pixels is presented for.
      encoding: `current` injects pixel values between 0 and 1; `poisson` draws spikes of that
        probability, times `max_probability`.
      max_probability: spike probability per step of the brightest pixel.
      shift: training images are moved by up to so many pixels, rows and columns on their own.
      noise: standard deviation of Gaussian noise on the pixels of training images.
      decision: what of the readout counts, see `losses.decision`.
      model: the network.
      regularizer: what is added to the loss.
    """

    name: str = "digits"
    steps_per_row: int = ranged(4, low=1)
    encoding: str = choice("current", ENCODINGS)
    max_probability: float = ranged(0.5, above=0.0, high=1.0)
    shift: float = ranged(0.0, low=0.0)
    noise: float = ranged(0.0, low=0.0)
    decision: str = choice("mean", MODES)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    regularizer: experiments.RegularizerConfig = dataclasses.field(
        default_factory=experiments.RegularizerConfig
    )

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        images = self.read()
        database = images.database(lambda train: self._encoder(images.brightest, dtype, train))
        columns = int(np.prod(images.splits["train"]["image"].shape[2:]))
        network = build_network(self.model, columns, images.classes, seed, dtype, "task.model")
        return Task(*self._graph(network), database)

    def _graph(self, network: Network) -> tuple[TrainingModules, DatabaseInfo]:
        net = NetworkNode("network", InputNode("inputs"), network)
        decision = Decision("decision", net.output, self.decision, db_name="label")
        losses = experiments.reported(
            CrossEntropy.of_node(decision), self.regularizer.penalties(net), "cross_entropy"
        )
        metrics = {**losses, "accuracy": Accuracy.of_node(decision)}
        pictures = PlotMaker(Confusion(decision))
        return assemble_for_training(losses["loss"], metrics, plot_maker=pictures)

    def _encoder(
        self, brightest: float, dtype: tf.DType, augment: bool
    ) -> Callable[..., dict[str, tf.Tensor]]:
        def encode(example: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
            image = tf.cast(example["image"], dtype) / brightest
            if augment:
                image = augmented(image, self.shift, self.noise, seed)
            rows = tf.reshape(image, [image.shape[0], -1])
            inputs = tf.repeat(rows, self.steps_per_row, axis=0)
            if self.encoding == "poisson":
                draw = tf.random.stateless_uniform(inputs.shape, seed, dtype=dtype, alg="philox")
                inputs = tf.cast(draw < self.max_probability * inputs, dtype)
            return {"inputs": inputs, "label": example["label"]}

        return encode


def augmented(image: tf.Tensor, shift: float, noise: float, seed: tf.Tensor) -> tf.Tensor:
    """The image `[rows, columns, channels]`, moved and blurred by chance.

    Args:
      image: pixels between 0 and 1.
      shift: it is moved by up to so many pixels, rows and columns on their own.
      noise: standard deviation of Gaussian noise on the pixels.
      seed: `[2]`.
    """
    seeds = tf.unstack(tf.random.split(seed, 2, alg="philox")) if shift or noise else []
    if shift:
        image = moved(image, shift, seeds[0])
    if noise:
        draw = tf.random.stateless_normal(image.shape, seeds[1], dtype=image.dtype, alg="philox")
        image += noise * draw
    return image


def moved(image: tf.Tensor, limit: float, seed: tf.Tensor) -> tf.Tensor:
    """The image moved by up to `limit` pixels, between pixels by linear interpolation.

    Args:
      image: `[rows, columns, channels]`; what comes in from outside is 0.
      limit: largest shift along each axis, drawn uniformly.
      seed: `[2]`.
    """
    shift = tf.random.stateless_uniform([2], seed, -limit, limit, image.dtype, alg="philox")
    for axis in (0, 1):
        size = image.shape[axis]
        source = tf.range(size, dtype=image.dtype)[:, tf.newaxis] + shift[axis]
        distance = tf.abs(source - tf.range(size, dtype=image.dtype))
        image = tf.tensordot(tf.nn.relu(1.0 - distance), image, [[1], [axis]])
        image = tf.transpose(image, [1, 0, 2]) if axis else image
    return image


@experiments.register("digits")
def digits() -> experiments.ExperimentConfig:
    """The default experiment: recurrent spiking network, BPTT, a minute on a laptop."""
    config = experiments.ExperimentConfig(task=DigitsConfig(noise=0.2, decision="last"))
    neuron = {"type": "alif", "alif": {"tau_adaptation_ms": 50.0}}
    config.task.model.override({"units": [256], "bias": True, "neuron": neuron})
    optimizer = experiments.adam(5e-3).as_dict()
    config.trainer.override({"train_steps": 2500, "optimizer_config": optimizer})
    return config
