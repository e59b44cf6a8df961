"""Sequential digits: images classified from their pixels, which arrive one after the other.

The task of sequential MNIST (Le et al., 2015) in the form of Bellec et al., NeurIPS 2018 (LSNN):
after the last pixel a cue asks for the class. The default data are scikit-learn's digits of 64
pixels; `task.dataset=mnist` takes those of 784.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import choice, ranged
from orbit_snn.draws import chance
from orbit_snn.graph import (
    Accuracy,
    CrossEntropy,
    Decision,
    During,
    InputNode,
    NetworkNode,
    assemble_for_training,
)
from orbit_snn.models import ModelConfig, build_network
from orbit_snn.tasks.digits import ImagesConfig, augmented
from orbit_snn.tasks.lsnn import partly_adaptive
from orbit_snn.training import Confusion, PlotMaker, Raster, Task

ENCODINGS = ("current", "crossings", "poisson")


@dataclasses.dataclass
class SequentialDigitsConfig(ImagesConfig):
    """Pixels of images over time, row by row; fields of `ImagesConfig` too.

    A sequence has `rows * columns * steps_per_pixel + recall_steps` steps. The last input channel
    is the cue: it is 1 in the last `recall_steps`, when nothing else is shown, and 0 before.

    Attributes:
      steps_per_pixel: how many steps each pixel is presented for.
      recall_steps: duration of the cue, in which the answer counts.
      encoding: `current` injects pixel values between 0 and 1; `crossings` gives one spike when
        the value rises to or above a threshold, on one channel, or falls below it, on another;
        `poisson` draws spikes with the probability of the pixel value times `max_probability`.
      thresholds: of `crossings`, evenly spaced from 0 to 1. That of 1 has one channel, which spikes
        as long as the value is 1; an image of C colours makes `C (2 thresholds - 1)` channels.
      max_probability: of `poisson`, spike probability per step of the brightest pixel.
      shift: training images are moved by up to so many pixels, rows and columns on their own.
      noise: standard deviation of Gaussian noise on the pixels of training images, which then are
        between 0 and 1 again.
      model: the network.
      regularizer: what is added to the loss.
    """

    name: str = "sequential_digits"
    steps_per_pixel: int = ranged(1, low=1)
    recall_steps: int = ranged(8, low=1)
    encoding: str = choice("current", ENCODINGS)
    thresholds: int = ranged(40, low=2)
    max_probability: float = ranged(0.5, above=0.0, high=1.0)
    shift: float = ranged(0.0, low=0.0)
    noise: float = ranged(0.0, low=0.0)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    regularizer: experiments.RegularizerConfig = dataclasses.field(
        default_factory=experiments.RegularizerConfig
    )

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        images = self.read()
        database = images.database(lambda train: self._encoder(images.brightest, dtype, train))
        colours = int(np.prod(images.splits["train"]["image"].shape[3:]))
        channels = 2 * self.thresholds - 1 if self.encoding == "crossings" else 1
        inputs = colours * channels + 1
        network = build_network(self.model, inputs, images.classes, seed, dtype, "task.model")
        net = NetworkNode("network", InputNode("inputs"), network)
        answer = During("answer", net.output, "recall", db_name="label")
        decision = Decision("decision", answer, "mean", db_name="label")
        losses = experiments.reported(
            CrossEntropy.of_node(answer), self.regularizer.penalties(net), "cross_entropy"
        )
        metrics = {**losses, "accuracy": Accuracy.of_node(decision)}
        pictures = PlotMaker(Confusion(decision), Raster(net, examples=2))
        assembled = assemble_for_training(losses["loss"], metrics, plot_maker=pictures)
        return Task(*assembled, database)

    def _encoder(
        self, brightest: float, dtype: tf.DType, augment: bool
    ) -> Callable[..., dict[str, tf.Tensor]]:
        def encode(example: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
            image = tf.cast(example["image"], dtype) / brightest
            if augment:
                image = augmented(image, self.shift, self.noise, seed)
            pixels = tf.reshape(image, [image.shape[0] * image.shape[1], -1])
            values = tf.repeat(pixels, self.steps_per_pixel, axis=0)  # [T - recall_steps, C]
            shown = self._channels(tf.clip_by_value(values, 0.0, 1.0), seed)
            steps = shown.shape[0] + self.recall_steps
            recall = tf.range(steps) >= shown.shape[0]
            blank = tf.pad(shown, [[0, self.recall_steps], [0, 0]])
            inputs = tf.concat([blank, tf.cast(recall, dtype)[:, tf.newaxis]], axis=1)
            return {"inputs": inputs, "recall": recall, "label": example["label"]}

        return encode

    def _channels(self, values: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Values `[T, C]` between 0 and 1 as the chosen encoding has them, `[T, F]`."""
        if self.encoding == "crossings":
            return crossings(values, self.thresholds)
        if self.encoding == "poisson":
            probability = self.max_probability * values
            spikes = chance(values.shape, tf.cast(probability, tf.float32), seed)
            return tf.cast(spikes, values.dtype)
        return values


def crossings(values: tf.Tensor, thresholds: int) -> tf.Tensor:
    """1 at the step at which a value crosses a threshold, `[T, C (2 thresholds - 1)]`.

    Before the first step every value is 0. A colour's channels are those of rising values, one for
    each threshold below 1, those of falling values, and that of the value 1.

    Args:
      values: between 0 and 1, `[T, C]`.
      thresholds: how many, evenly spaced from 0 to 1.
    """
    levels = tf.constant(np.linspace(0.0, 1.0, thresholds)[:-1], values.dtype)
    above = values[:, :, tf.newaxis] >= levels  # [T, C, thresholds - 1]
    start = tf.zeros_like(values[:1, :, tf.newaxis]) >= levels
    before = tf.concat([start, above[:-1]], axis=0)
    full = values[:, :, tf.newaxis] >= 1.0
    spikes = tf.concat([above & ~before, before & ~above, full], axis=2)
    return tf.cast(tf.reshape(spikes, [values.shape[0], -1]), values.dtype)


@experiments.register("sequential_digits")
def sequential_digits() -> experiments.ExperimentConfig:
    """120 LIF and 100 ALIF neurons, as LSNN has for sequential MNIST; a few minutes.

    Adaptation lasts about as long as the 128 steps of an image. For the 784 steps of MNIST, LSNN
    has 700 ms, 40 thresholds and 56 steps of recall.
    """
    lif = {"surrogate": {"dampening": 0.5}, "reset": {"gradient": True}}
    presented = {"encoding": "crossings", "thresholds": 9, "steps_per_pixel": 2, "noise": 0.05}
    config = experiments.ExperimentConfig(task=SequentialDigitsConfig())
    config.task.override({**presented, "recall_steps": 16})
    config.task.model.override(
        {
            **partly_adaptive(220, lif, 100 / 220, tau_adaptation_ms=100.0),
            "bias": True,
        }
    )
    optimizer = experiments.adam(5e-3).as_dict()
    config.trainer.override({"train_steps": 3000, "optimizer_config": optimizer})
    return config
