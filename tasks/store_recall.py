"""Store-recall: a bit is to be remembered at one command and given at another one, seconds later.

Bellec et al., NeurIPS 2018 (LSNN), with the constants of its published code. Two things differ:
its synapses have delays of up to 9 ms, which connections here do not have, and it carries the
network's state from batch to batch, where every sequence here starts at rest.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.decay import decay
from orbit_snn.draws import chance, uniform
from orbit_snn.graph import (
    Accuracy,
    CrossEntropy,
    During,
    IdxType,
    InputNode,
    ModelNode,
    NetworkNode,
    assemble_for_training,
)
from orbit_snn.models import ModelConfig, build_network
from orbit_snn.tasks.generated import generated, group_spikes, seeds
from orbit_snn.tasks.lsnn import partly_adaptive, published_rates, published_readout
from orbit_snn.training import Confusion, PlotMaker, Raster, Task

NOTHING, STORE, RECALL = 0, 1, 2


@dataclasses.dataclass
class StoreRecallConfig(experiments.TaskConfig):
    """A sequence of symbols, each a bit with or without a command to store it, or to recall.

    Input neurons are in four groups: bit 0, bit 1, store, recall. Every symbol is a random bit,
    alone or together with the store command, but for the recall command, which comes alone. The
    commands alternate, store first and recall last, with a bit in between at least.

    The loss is the cross-entropy at every step of the recalls, whose mean over them is what is
    minimised; accuracy is of recalls, each decided by the mean of the scores over its steps. Both
    are means over a sequence's recalls, then over sequences (the published code takes one mean
    over all recalls of a batch, and the cross-entropy of mean scores).

    Attributes:
      symbols: of a sequence.
      symbol_steps: duration of each.
      command_probability: of a symbol to be the next command in turn, before sequences that break
        the rules are left out.
      neurons_per_group: of each of the four groups.
      spike_probability: in a step, of the neurons of a group that is on.
      validation_examples: how many there are, the same at every validation.
      test_examples: how many are held out.
      model: the network.
      regularizer: what is added to the loss.
    """

    name: str = "store_recall"
    symbols: int = ranged(12, low=3, high=16)
    symbol_steps: int = ranged(200, low=1)
    command_probability: float = ranged(1.0 / 7.0, above=0.0, below=1.0)
    neurons_per_group: int = ranged(25, low=1)
    spike_probability: float = ranged(0.05, above=0.0, high=1.0)
    validation_examples: int = ranged(256, low=1)
    test_examples: int = ranged(1280, low=1)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    regularizer: experiments.RegularizerConfig = dataclasses.field(
        default_factory=experiments.RegularizerConfig
    )

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""
        drawn = Sentences(self)
        database = generated(drawn.draw, self.validation_examples, self.test_examples)
        network = build_network(
            self.model, 4 * self.neurons_per_group, 2, seed, dtype, "task.model"
        )
        net = NetworkNode("network", InputNode("inputs"), network)
        recall = InputNode("recall")
        answer = During("answer", net.output, recall, db_name="label")
        means = ModelNode(
            "means", (net.output, InputNode("symbol", index=IdxType.SEQ_STEP)), self._means
        )
        decision = During("decision", means, recall, db_name="label")
        losses = experiments.reported(
            CrossEntropy.of_node(answer), self.regularizer.penalties(net), "cross_entropy"
        )
        metrics = {**losses, "accuracy": Accuracy.of_node(decision)}
        pictures = PlotMaker(Confusion(decision), Raster(net, examples=2), plot_every=5)
        assembled = assemble_for_training(losses["loss"], metrics, plot_maker=pictures)
        return Task(*assembled, database)

    def _means(self, scores: tf.Tensor, symbol: tf.Tensor) -> tf.Tensor:
        """Scores `[B, T, K]`, at every step their mean over the steps of its symbol, `[B, T]`."""
        one_hot = tf.one_hot(symbol, self.symbols, dtype=scores.dtype)  # [B, T, S]
        totals = tf.matmul(one_hot, scores, transpose_a=True)  # [B, S, K]
        counts = tf.reduce_sum(one_hot, axis=1)[..., tf.newaxis]
        return tf.matmul(one_hot, tf.math.divide_no_nan(totals, counts))


class Sentences:
    """Draws examples of a config: `inputs` bool, `label`, `symbol` int32 and `recall` bool, `[T]`.

    The label of a step of a recall is the bit that was stored last, of every other step 0.

    Args:
      config: of the task.
    """

    def __init__(self, config: StoreRecallConfig):
        self._config = config
        commands, probability = orders(config.symbols, config.command_probability)
        self._commands = commands
        self._bounds = np.cumsum(probability)[:-1].astype(np.float32)

    def draw(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """An example of a seed int32 `[2]`."""
        config = self._config
        which, bits, spikes = seeds(seed, 3)
        order = tf.reduce_sum(tf.cast(uniform([], which) >= self._bounds, tf.int32))
        command = tf.gather(tf.constant(self._commands), order)  # [S]
        bit = tf.cast(chance([config.symbols], 0.5, bits), tf.int32)
        store, recall = command == STORE, command == RECALL
        shown = tf.one_hot(bit, 2, on_value=True, off_value=False) & ~recall[:, tf.newaxis]
        on = tf.concat([shown, store[:, tf.newaxis], recall[:, tf.newaxis]], axis=1)  # [S, 4]
        # The last store up to each symbol; where there is none yet, nothing is recalled.
        number = tf.range(config.symbols)
        last = tf.reduce_max(tf.where(store & (number <= number[:, tf.newaxis]), number, 0), axis=1)
        label = tf.where(recall, tf.gather(bit, last), 0)
        features = {"label": label, "symbol": number, "recall": recall}
        steps = {name: tf.repeat(x, config.symbol_steps, axis=0) for name, x in features.items()}
        probability = config.spike_probability * tf.cast(on, tf.float32)
        each = tf.repeat(probability, config.symbol_steps, axis=0)
        return {"inputs": group_spikes(each, config.neurons_per_group, spikes), **steps}


def orders(symbols: int, probability: float) -> tuple[np.ndarray, np.ndarray]:
    """Every allowed order of commands, and how probable it is among them.

    Args:
      symbols: S.
      probability: of a command at each symbol; those of one order alternate, store first.

    Returns:
      Orders `[n, S]` of `NOTHING`, `STORE` and `RECALL`, and probabilities `[n]`, which add up to
      1. Allowed are those that end with a recall, and have a symbol between store and recall.
    """
    numbers = np.arange(2**symbols)[:, np.newaxis]
    given = (numbers >> np.arange(symbols)) & 1  # [2^S, S]
    turn = np.cumsum(given, axis=1) % 2
    commands = np.where(given == 0, NOTHING, np.where(turn == 1, STORE, RECALL))
    total = given.sum(axis=1)
    together = (commands[:, :-1] == STORE) & (commands[:, 1:] == RECALL)
    allowed = (total > 0) & (total % 2 == 0) & ~together.any(axis=1)
    weight = probability ** total[allowed] * (1.0 - probability) ** (symbols - total[allowed])
    return commands[allowed].astype(np.int32), weight / weight.sum()


@experiments.register("store_recall")
def store_recall() -> experiments.ExperimentConfig:
    """10 LIF and 10 ALIF neurons, the constants of the published code.

    Its threshold rises by `beta (1 - rho)` a spike.
    """
    tau_adaptation_ms = 1200.0
    lif = {
        "tau_mem_ms": 20.0,
        "threshold": 0.01,
        "refractory_ms": 3.0,
        "input_gain": "one_minus_decay",
        "surrogate": {"name": "triangular", "dampening": 0.3},
        "reset": {"gradient": True},
    }
    beta = float(1.7 * (1.0 - decay(tau_adaptation_ms, 1.0)))
    config = experiments.ExperimentConfig(task=StoreRecallConfig())
    config.task.override(
        {
            "model": {
                **partly_adaptive(20, lif, tau_adaptation_ms=tau_adaptation_ms, beta=beta),
                "readout": published_readout(20.0),
            },
            "regularizer": published_rates(0.01),
        }
    )
    rate = {"initial_learning_rate": 0.01, "decay_steps": 100, "decay_rate": 0.3, "staircase": True}
    config.trainer.override(
        {
            "train_steps": 200,
            "batch_size": 128,
            "steps_per_loop": 10,
            "checkpoint_interval": 20,
            "validation_interval": 20,
            "best_metric": "accuracy",
            "stop_at": 0.95,
            "pictures": 1,
            "optimizer_config": {
                "optimizer": {"type": "adam", "adam": {"epsilon": 1e-8}},
                "learning_rate": {"type": "exponential", "exponential": rate},
            },
        }
    )
    return config
