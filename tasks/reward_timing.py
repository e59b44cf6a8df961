"""Reward timing: neurons learn when to spike from a reward that comes some time after their spikes.

Afferents spike at times of their own in every trial, others at random, so that the neurons spike
now and then. A spike in the window that is asked for is rewarded, one outside of it punished, after
a delay: only an eligibility trace still knows which synapses caused it (Florian, Neural Comput.
19:1468, 2007).
"""

import dataclasses

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.cells import Cell
from orbit_snn.configuration import ranged
from orbit_snn.connections import Dense
from orbit_snn.draws import chance, uniform
from orbit_snn.graph import (
    GraphError,
    IdxType,
    InputNode,
    Mean,
    ModelNode,
    NetworkNode,
    assemble_for_training,
)
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF
from orbit_snn.seeds import derive
from orbit_snn.tasks.generated import generated, seeds
from orbit_snn.training import PlotMaker, Raster, Task, Weights


@dataclasses.dataclass
class RewardTimingConfig(experiments.TaskConfig):
    """One population that hears two groups of afferents.

    Durations are in steps of 1 ms.

    Attributes:
      units: neurons that are to spike in the window.
      timed: afferents that spike at a time of their own.
      reliability: how likely a timed afferent spikes in a trial.
      jitter_steps: a timed spike comes up to so many steps before or after its time.
      random: afferents that spike at random.
      random_hz: their rate.
      steps: of a trial.
      window_start: first step of the window that is asked for.
      window_steps: its length.
      delay_steps: from a spike to its reward.
      punishment: for a spike outside of the window, 0 or more; inside the reward is 1.
      refractory_ms: of the neurons; longer than the delay, so that no spike comes between another
        one and its reward, and would be credited with it.
      weight: mean of all weights at first, in thresholds.
      validation_examples: how many there are, the same at every validation.
      test_examples: how many are held out.
    """

    name: str = "reward_timing"
    units: int = ranged(1, low=1)
    timed: int = ranged(200, low=1)
    reliability: float = ranged(0.9, above=0.0, high=1.0)
    jitter_steps: int = ranged(2, low=0)
    random: int = ranged(50, low=0)
    random_hz: float = ranged(20.0, low=0.0)
    steps: int = ranged(200, low=1)
    window_start: int = ranged(120, low=0)
    window_steps: int = ranged(20, low=1)
    delay_steps: int = ranged(10, low=0)
    punishment: float = ranged(1.5, low=0.0)
    refractory_ms: float = ranged(20.0, low=0.0)
    weight: float = ranged(0.08, above=0.0)
    validation_examples: int = ranged(64, low=1)
    test_examples: int = ranged(256, low=1)

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        times = np.random.default_rng(derive(seed, "times")).integers(0, self.steps, self.timed)
        database = generated(
            lambda own: self.draw(tf.constant(np.sort(times), tf.int32), own, dtype),
            self.validation_examples,
            self.test_examples,
        )
        net = NetworkNode("network", InputNode("inputs"), self._network(seed, dtype))
        reward = ModelNode("reward", net.cell0, self.rewards)
        good = ModelNode("good", net.cell0, lambda z: self._inside(z, 1.0, 0.0), IdxType.SEQUENCES)
        every = ModelNode(
            "spikes", net.cell0, lambda z: self._inside(z, 1.0, 1.0), IdxType.SEQUENCES
        )
        hit = ModelNode("hit", good, lambda n: tf.cast(n > 0.0, n.dtype))
        metrics = {
            "loss": 1.0 - Mean.of_node(hit),
            "hits": Mean.of_node(hit),
            "spikes": Mean.of_node(every),
            "in_window": Mean.of_node(good) / (1e-6 + Mean.of_node(every)),
            "reward": Mean.of_node(reward),
        }
        pictures = PlotMaker(Raster(net, examples=1), Weights(net))
        assembled = assemble_for_training(metrics["loss"], metrics, plot_maker=pictures)
        return Task(*assembled, database)

    def _network(self, seed: int, dtype: tf.DType) -> Network:
        def drawn(shape: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
            draw = np.random.default_rng(derive(seed, "weights"))
            return tf.constant(2.0 * self.weight * draw.random(shape), dtype)

        with tf.name_scope("network"):
            neurons = LIF(
                self.units, tau_mem_ms=10.0, refractory_ms=self.refractory_ms, dtype=dtype
            )
            onto = Dense(self.timed + self.random, self.units, initializer=drawn, dtype=dtype)
            return Network([Cell(neurons, onto)])

    def _inside(self, z: tf.Tensor, inside: float, outside: float) -> tf.Tensor:
        """Spikes of every neuron, `[B, N]`, each counted as where it falls."""
        return tf.reduce_sum(self._worth(inside, outside)[:, tf.newaxis] * z, axis=1)

    def _worth(self, inside: float, outside: float) -> np.ndarray:
        step = np.arange(self.steps)
        within = (step >= self.window_start) & (step < self.window_start + self.window_steps)
        return np.where(within, inside, outside).astype(np.float32)

    def rewards(self, spikes: tf.Tensor) -> tf.Tensor:
        """Mean over neurons of the reward of spikes `[B, T, N]` some time before, `[B, T]`.

        Raises:
          GraphError: for a part of a trial.
        """
        if spikes.shape[1] != self.steps:
            raise GraphError(
                f"reward_timing: a spike is rewarded {self.delay_steps} steps later, so a rule has "
                f"to see all {self.steps} steps at once; use apply_every=sequence."
            )
        worth = self._worth(1.0, -self.punishment) * tf.reduce_mean(spikes, axis=-1)
        late = min(self.delay_steps, self.steps)
        return tf.pad(worth, [[0, 0], [late, 0]])[:, : self.steps]

    def draw(self, times: tf.Tensor, seed: tf.Tensor, dtype: tf.DType) -> dict[str, tf.Tensor]:
        """An example: `inputs` `[T, F]`.

        Args:
          times: step at which each timed afferent spikes, `[timed]`.
          seed: int32 `[2]`, of all that is random in it.
          dtype: of the spikes.
        """
        there, moved, noise = seeds(seed, 3)
        width = 2 * self.jitter_steps + 1
        shift = tf.cast(width * uniform([self.timed], moved), tf.int32) - self.jitter_steps
        step = tf.clip_by_value(times + shift, 0, self.steps - 1)
        spikes = tf.one_hot(step, self.steps, axis=0, dtype=dtype)
        spikes *= tf.cast(chance([self.timed], self.reliability, there), dtype)
        others = chance([self.steps, self.random], 1e-3 * self.random_hz, noise)
        return {"inputs": tf.concat([spikes, tf.cast(others, dtype)], axis=1)}


@experiments.register("reward_timing")
def reward_timing() -> experiments.ExperimentConfig:
    """A neuron learns to spike between 120 and 140 ms, of a reward 10 ms late."""
    config = experiments.ExperimentConfig(task=RewardTimingConfig())
    rule = {"lr_post": 0.03, "lr_pre": -0.006, "tc_pre_ms": 10.0, "tc_post_ms": 10.0}
    config.learning.override(
        {
            "type": "plasticity",
            "plasticity": {
                "rule": {"type": "mstdpet", "mstdpet": {**rule, "tc_eligibility_ms": 20.0}},
                "reward": "reward",
                "limits": {"minimum": 0.0, "maximum": 0.5, "hard": True},
            },
        }
    )
    config.trainer.override(
        {
            "train_steps": 2000,
            "batch_size": 16,
            "steps_per_loop": 50,
            "checkpoint_interval": 250,
            "validation_interval": 250,
            "pictures": 1,
        }
    )
    return config
