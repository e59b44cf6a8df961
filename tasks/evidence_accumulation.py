"""Evidence accumulation: on which side there were more cues, asked a second after the last one.

Bellec et al., Nat. Commun. 11:3625 (2020), Fig. 3, with the constants of its published code. The
mouse of the original runs along a corridor, sees cues to its left and right, and must turn to the
side that had more of them (Morcos & Harvey, 2016).
"""

import dataclasses

import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.decay import decay
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
from orbit_snn.tasks.generated import generated, group_spikes, seeds
from orbit_snn.tasks.lsnn import partly_adaptive, published_rates, published_readout
from orbit_snn.training import Confusion, PlotMaker, Raster, Task

SIDES = ("left", "right")


@dataclasses.dataclass
class EvidenceAccumulationConfig(experiments.TaskConfig):
    """Cues from the left and the right, a delay, and a time to answer.

    Input neurons are in four groups: left cues, right cues, the question, noise. Durations are in
    steps, probabilities are of a spike in a step. A sequence has
    `cues * (gap_steps + cue_steps) + delay_steps + recall_steps` steps. The label is 1 where more
    than half of the cues were on the right.

    Attributes:
      cues: how many there are.
      gap_steps: silence before each cue.
      cue_steps: duration of a cue.
      delay_steps: between the last cue and the question.
      recall_steps: duration of the question, in which the answer counts.
      neurons_per_group: of each of the four groups.
      cue_probability: of the group of a cue or of the question, while it is on.
      noise_probability: of the noise group, at every step.
      side_probability: of a cue to be on the right, or with probability 1/2 of an example, on the
        left; cues of an example are independent.
      validation_examples: how many there are, the same at every validation.
      test_examples: how many are held out.
      model: the network.
      regularizer: what is added to the loss.
    """

    name: str = "evidence_accumulation"
    cues: int = ranged(7, low=1)
    gap_steps: int = ranged(50, low=0)
    cue_steps: int = ranged(100, low=1)
    delay_steps: int = ranged(1050, low=0)
    recall_steps: int = ranged(150, low=1)
    neurons_per_group: int = ranged(10, low=1)
    cue_probability: float = ranged(0.04, above=0.0, high=1.0)
    noise_probability: float = ranged(0.01, low=0.0, high=1.0)
    side_probability: float = ranged(0.3, low=0.0, high=1.0)
    validation_examples: int = ranged(576, low=1)
    test_examples: int = ranged(2048, low=1)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    regularizer: experiments.RegularizerConfig = dataclasses.field(
        default_factory=experiments.RegularizerConfig
    )

    @property
    def steps(self) -> int:
        """T."""
        periods = self.cues * (self.gap_steps + self.cue_steps)
        return periods + self.delay_steps + self.recall_steps

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        database = generated(self.draw, self.validation_examples, self.test_examples)
        network = build_network(
            self.model, 4 * self.neurons_per_group, len(SIDES), seed, dtype, "task.model"
        )
        net = NetworkNode("network", InputNode("inputs"), network)
        answer = During("answer", net.output, "recall", db_name="label")
        decision = Decision("decision", answer, "mean", db_name="label")
        losses = experiments.reported(
            CrossEntropy.of_node(answer), self.regularizer.penalties(net), "cross_entropy"
        )
        metrics = {**losses, "accuracy": Accuracy.of_node(decision)}
        pictures = PlotMaker(Confusion(decision, SIDES), Raster(net, examples=2), plot_every=10)
        assembled = assemble_for_training(losses["loss"], metrics, plot_maker=pictures)
        return Task(*assembled, database)

    def draw(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """An example: `inputs` bool `[T, F]`, `label` int32 `[]`, `recall` bool `[T]`.

        Args:
          seed: int32 `[2]`, of all that is random in it.
        """
        swap, sides, spikes = seeds(seed, 3)
        right = tf.where(chance([], 0.5, swap), self.side_probability, 1.0 - self.side_probability)
        side = tf.cast(chance([self.cues], right, sides), tf.int32)  # [cues]
        asked = tf.range(self.steps) >= self.steps - self.recall_steps
        groups = tf.concat(
            [
                self.cue_probability * self._cues(side),
                self.cue_probability * tf.cast(asked, tf.float32)[:, tf.newaxis],
                tf.fill([self.steps, 1], self.noise_probability),
            ],
            axis=1,
        )
        return {
            "inputs": group_spikes(groups, self.neurons_per_group, spikes),
            "label": tf.cast(2 * tf.reduce_sum(side) > self.cues, tf.int32),
            "recall": asked,
        }

    def _cues(self, side: tf.Tensor) -> tf.Tensor:
        """1 where a cue of a side is on, `[T, 2]`."""
        on = tf.repeat(tf.one_hot(side, len(SIDES))[:, tf.newaxis], self.cue_steps, axis=1)
        periods = tf.pad(on, [[0, 0], [self.gap_steps, 0], [0, 0]])
        rest = self.delay_steps + self.recall_steps
        return tf.pad(tf.reshape(periods, [-1, len(SIDES)]), [[0, rest], [0, 0]])


@experiments.register("evidence_accumulation")
def evidence_accumulation() -> experiments.ExperimentConfig:
    """50 LIF and 50 ALIF neurons, the constants of the paper.

    Gradients go through the reset, which BPTT over thousands of steps needs to stay bounded.
    """
    tau_mem_ms, tau_adaptation_ms = 20.0, 2000.0
    beta = 1.7 * (1.0 - decay(tau_adaptation_ms, 1.0)) / (1.0 - decay(tau_mem_ms, 1.0))
    lif = {
        "tau_mem_ms": tau_mem_ms,
        "threshold": 0.6,
        "refractory_ms": 5.0,
        "surrogate": {"name": "triangular", "dampening": 0.3},
        "reset": {"gradient": True},
    }
    config = experiments.ExperimentConfig(task=EvidenceAccumulationConfig())
    config.task.override(
        {
            "model": {
                **partly_adaptive(100, lif, tau_adaptation_ms=tau_adaptation_ms, beta=float(beta)),
                "readout": published_readout(tau_mem_ms),
            },
            "regularizer": published_rates(1.0),
        }
    )
    config.trainer.override(
        {
            "train_steps": 2000,
            "batch_size": 64,
            "steps_per_loop": 10,
            "checkpoint_interval": 10,
            "validation_interval": 10,
            "best_metric": "accuracy",
            "stop_at": 0.93,
            "pictures": 1,
            "optimizer_config": {
                "optimizer": {"type": "adam", "adam": {"epsilon": 1e-8}},
                "learning_rate": {"type": "constant", "constant": {"learning_rate": 5e-3}},
            },
        }
    )
    return config
