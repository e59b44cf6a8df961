"""Unsupervised digits: spikes of pixels onto neurons that inhibit each other and learn by STDP."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from official.modeling.hyperparams import Config

from orbit_snn import experiments
from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.connections import Dense, Lateral
from orbit_snn.encoders import poisson
from orbit_snn.graph import (
    Accuracy,
    CrossEntropy,
    Decision,
    IdxType,
    InputNode,
    ModelNode,
    NetworkNode,
    assemble_for_training,
)
from orbit_snn.learning.plasticity import MaxRateClassifier
from orbit_snn.networks import Network
from orbit_snn.neurons import AdaptiveVoltageLIF
from orbit_snn.seeds import derive
from orbit_snn.tasks.digits import ImagesConfig
from orbit_snn.training import Confusion, PlotMaker, Raster, Task
from orbit_snn.training.receptive_fields import ReceptiveFields


@dataclasses.dataclass
class DiehlCookNetworkConfig(Config):
    """The network.

    Attributes:
      units: excitatory neurons, N.
      weight_share: sum of the weights onto a neuron at first, for each of its inputs.
      inhibition: weight from every neuron onto every other one, 0 or more.
      resistance_mohm: of the membrane: a spike at a weight of 1 raises it by about a hundredth of
        this, in mV.
      tau_theta_ms: of the adaptation of thresholds.
      jump_mv: what a spike adds to the neuron's threshold.
      dt_ms: length of a step.
    """

    units: int = ranged(100, low=1)
    weight_share: float = ranged(0.1, above=0.0)
    inhibition: float = ranged(17.0, low=0.0)
    resistance_mohm: float = ranged(250.0, above=0.0)
    tau_theta_ms: float = ranged(1e6, above=0.0)
    jump_mv: float = ranged(0.4, low=0.0)
    dt_ms: float = ranged(1.0, above=0.0)


@dataclasses.dataclass
class DiehlCookConfig(ImagesConfig):
    """Images as Poisson spikes, learned without labels; fields of `ImagesConfig` too.

    After Diehl & Cook (Front. Comput. Neurosci. 9:99, 2015), with one population whose neurons
    inhibit each other directly. Labels only tell which neuron votes for which class.

    Attributes:
      duration_ms: how long an image is shown.
      brightest_hz: rate of the brightest pixel.
      forgetting: of the votes, a sample of the class.
      model: the network.
    """

    name: str = "diehl_cook"
    duration_ms: float = ranged(350.0, above=0.0)
    brightest_hz: float = ranged(128.0, above=0.0)
    forgetting: float = ranged(0.02, low=0.0)
    model: DiehlCookNetworkConfig = dataclasses.field(default_factory=DiehlCookNetworkConfig)

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        images = self.read()
        shape = images.splits["train"]["image"].shape[1:]
        pixels = int(np.prod(shape))
        database = images.database(lambda train: self._encoder(images.brightest, dtype))
        net = NetworkNode("network", InputNode("inputs"), self._network(pixels, seed, dtype))
        rates = Decision("rates", net.cell0, "mean")
        votes = MaxRateClassifier(self.model.units, images.classes, self.forgetting, dtype=dtype)
        digit = ModelNode("digit", rates, votes, IdxType.SEQUENCES, db_name="label")
        loss = CrossEntropy.of_node(digit)
        metrics = {"loss": loss, "accuracy": Accuracy.of_node(digit)}
        fields = ReceptiveFields(net, (shape[0], pixels // shape[0]))
        pictures = PlotMaker(fields, Raster(net, examples=1), Confusion(digit))
        return Task(*assemble_for_training(loss, metrics, plot_maker=pictures), database)

    def _network(self, pixels: int, seed: int, dtype: tf.DType) -> Network:
        model = self.model

        def drawn(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
            weights = np.random.default_rng(derive(seed, "weights")).random(shape)
            total = model.weight_share * pixels
            return tf.constant(total * weights / weights.sum(axis=0), dtype)

        def inhibiting(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
            return tf.fill(shape, tf.constant(-model.inhibition, dtype))

        with tf.name_scope("network"):
            neuron = AdaptiveVoltageLIF(
                model.units,
                resistance_mohm=model.resistance_mohm,
                tau_theta_ms=model.tau_theta_ms,
                jump_mv=model.jump_mv,
                dt_ms=model.dt_ms,
                dtype=dtype,
            )
            onto = Dense(pixels, model.units, initializer=drawn, dtype=dtype)
            between = Lateral(model.units, initializer=inhibiting, trainable=False, dtype=dtype)
            return Network([Cell(neuron, onto, between)])

    def _encoder(self, brightest: float, dtype: tf.DType) -> Callable[..., dict[str, tf.Tensor]]:
        steps = round(self.duration_ms / self.model.dt_ms)

        def encode(example: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = tf.reshape(tf.cast(example["image"], tf.float32) / brightest, [-1])
            spikes = poisson(self.brightest_hz * pixels, steps, self.model.dt_ms, seed)
            return {"inputs": tf.cast(spikes, dtype), "label": example["label"]}

        return encode


@experiments.register("diehl_cook")
def diehl_cook() -> experiments.ExperimentConfig:
    """100 neurons, scikit-learn's digits, pair STDP in every step, one image at a time."""
    config = experiments.ExperimentConfig(task=DiehlCookConfig())
    stdp = {"lr_post": 1e-2, "lr_pre": -1e-4, "trace": "nearest"}
    config.learning.override(
        {
            "type": "plasticity",
            "plasticity": {
                "rule": {"type": "stdp", "stdp": stdp},
                "apply_every": "step",
                "limits": {"minimum": 0.0, "maximum": 1.0, "hard": True, "total": 6.4},
            },
        }
    )
    config.trainer.override(
        {
            "train_steps": 2600,
            "batch_size": 1,
            "steps_per_loop": 200,
            "checkpoint_interval": 1000,
            "validation_interval": 400,
            "pictures": 1,
        }
    )
    return config
