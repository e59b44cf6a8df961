"""Delayed reward: a cue, a wait, an action, and some time later a reward if it fitted the cue.

The smallest task that needs reward-based e-prop (Bellec et al., Nat. Commun. 11:3625, 2020): nobody
says which action was right, and the reward comes when the neurons that caused it are silent again.
The critic learns to expect it, the actor to get it.
"""

import dataclasses

import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.draws import uniform
from orbit_snn.graph import (
    ActorCritic,
    GraphError,
    InputNode,
    Mean,
    ModelNode,
    NetworkNode,
    SampledActions,
    assemble_for_training,
)
from orbit_snn.graph.types import IdxType
from orbit_snn.models import ModelConfig, build_network
from orbit_snn.tasks.generated import generated, group_spikes, seeds
from orbit_snn.training import PlotMaker, Raster, Task


@dataclasses.dataclass
class DelayedRewardConfig(experiments.TaskConfig):
    """One decision a sequence.

    Input neurons are in groups: one for each cue, and one for the signal to act. Durations are in
    steps; the action of the last step of the signal counts.

    Attributes:
      cues: how many there are, and as many actions.
      cue_steps: duration of a cue.
      delay_steps: between the cue and the signal.
      act_steps: duration of the signal.
      reward_steps: from the action to the reward; the sequence ends then.
      neurons_per_group: of each group of inputs.
      spike_probability: of a group that is on.
      discount: of a reward, by step.
      value_weight: of the critic's error in the loss, a sum over all steps beside one action.
      entropy_weight: of the bonus for an undecided policy.
      validation_examples: how many there are, the same at every validation.
      test_examples: how many are held out.
      model: the network; its readouts are `policy` and `value`.
      regularizer: what is added to the loss.
    """

    name: str = "delayed_reward"
    cues: int = ranged(2, low=2)
    cue_steps: int = ranged(40, low=1)
    delay_steps: int = ranged(40, low=0)
    act_steps: int = ranged(20, low=1)
    reward_steps: int = ranged(30, low=0)
    neurons_per_group: int = ranged(10, low=1)
    spike_probability: float = ranged(0.1, above=0.0, high=1.0)
    discount: float = ranged(0.99, low=0.0, high=1.0)
    value_weight: float = ranged(0.02, low=0.0)
    entropy_weight: float = ranged(0.0, low=0.0)
    validation_examples: int = ranged(256, low=1)
    test_examples: int = ranged(1024, low=1)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    regularizer: experiments.RegularizerConfig = dataclasses.field(
        default_factory=experiments.RegularizerConfig
    )

    @property
    def decision(self) -> int:
        """The step whose action counts."""
        return self.cue_steps + self.delay_steps + self.act_steps - 1

    @property
    def steps(self) -> int:
        """T."""
        return self.decision + self.reward_steps + 1

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        database = generated(self.draw, self.validation_examples, self.test_examples)
        inputs = self.neurons_per_group * (self.cues + 1)
        outputs = {"policy": self.cues, "value": 1}
        network = build_network(self.model, inputs, outputs, seed, dtype, "task.model")
        net = NetworkNode("network", InputNode("inputs"), network)
        actions = SampledActions("actions", net.policy, "chance")
        cue, acting = InputNode("cue"), InputNode("acting", index=IdxType.SEQ_STEP)
        rewards = ModelNode("rewards", (actions, cue), self.rewards)
        reward = ModelNode(
            "reward", rewards, lambda r: tf.reduce_sum(r, axis=1), index=IdxType.SEQUENCES
        )
        error = ActorCritic(
            net.policy,
            net.value,
            actions,
            rewards,
            self.discount,
            self.value_weight,
            self.entropy_weight,
            acting,
        )
        losses = experiments.reported(error, self.regularizer.penalties(net), "actor_critic")
        metrics = {**losses, "reward": Mean.of_node(reward)}
        pictures = PlotMaker(Raster(net, examples=2), plot_every=10)
        assembled = assemble_for_training(losses["loss"], metrics, plot_maker=pictures)
        return Task(*assembled, database)

    def rewards(self, actions: tf.Tensor, cue: tf.Tensor) -> tf.Tensor:
        """1 at the last step where the action fitted the cue, `[B, T]`.

        Raises:
          GraphError: for a part of a sequence, in which nothing can be judged.
        """
        if actions.shape[1] != self.steps:
            raise GraphError(
                f"delayed_reward: an action is rewarded {self.reward_steps} steps later, so a rule "
                f"has to see all {self.steps} steps at once; use bptt, tbptt with "
                "update_every=sequence, or eprop with mode=factored."
            )
        fits = tf.cast(actions[:, self.decision] == cue, tf.float32)
        return fits[:, tf.newaxis] * tf.one_hot(self.steps - 1, self.steps)

    def draw(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """An example: `inputs`, `acting` bool `[T, F]`, `[T]`; `cue` int32 `[]`; `chance` `[T]`.

        Args:
          seed: int32 `[2]`, of all that is random in it.
        """
        which, spikes, luck = seeds(seed, 3)
        cue = tf.random.stateless_uniform([], which, 0, self.cues, tf.int32, alg="philox")
        step = tf.range(self.steps)
        on = tf.cast(step < self.cue_steps, tf.float32)[:, tf.newaxis] * tf.one_hot(cue, self.cues)
        signal = (step > self.decision - self.act_steps) & (step <= self.decision)
        groups = tf.concat([on, tf.cast(signal, tf.float32)[:, tf.newaxis]], axis=1)
        return {
            "inputs": group_spikes(self.spike_probability * groups, self.neurons_per_group, spikes),
            "cue": cue,
            "acting": step == self.decision,
            "chance": uniform([self.steps], luck),
        }


@experiments.register("delayed_reward")
def delayed_reward() -> experiments.ExperimentConfig:
    """30 LIF and 30 ALIF neurons, Adam; about a minute on a laptop."""
    config = experiments.ExperimentConfig(task=DelayedRewardConfig())
    adaptive = {"tau_adaptation_ms": 200.0, "beta": 0.1}
    config.task.override(
        {
            "model": {
                "units": [60],
                "other_neuron": {"type": "alif", "alif": adaptive},
                "other_share": 0.5,
                "gain": 0.5,
                "readout": {"neuron": {"input_gain": "one_minus_decay"}},
            },
            "regularizer": {"rate_strength": 1.0, "rate_target_hz": 20.0},
        }
    )
    config.trainer.override(
        {
            "train_steps": 400,
            "batch_size": 64,
            "steps_per_loop": 20,
            "checkpoint_interval": 100,
            "validation_interval": 20,
            "best_metric": "reward",
            "pictures": 1,
            "optimizer_config": experiments.adam(5e-3).as_dict(),
        }
    )
    return config
