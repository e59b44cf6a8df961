"""Flip-flop: every output keeps the sign of the last pulse on its line."""

import dataclasses

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.draws import chance
from orbit_snn.graph import MSE, DatasetLoss, InputNode, NetworkNode, assemble_for_training
from orbit_snn.tasks.generated import generated, seeds
from orbit_snn.tasks.reservoir import ReservoirConfig, least_squares, reservoir
from orbit_snn.training import PlotMaker, Raster, Task, Traces


@dataclasses.dataclass
class FlipFlopConfig(experiments.TaskConfig):
    """Pulses of either sign on some lines, and what each line was told last.

    Attributes:
      lines: how many, which is K and F.
      steps: of a sequence.
      rate: of pulses on a line, a step.
      width: of a pulse, steps.
      input_gain: input weights are `input_gain N(0, 1)`.
      validation_examples: how many.
      test_examples: how many.
      model: the network.
    """

    name: str = "flip_flop"
    lines: int = ranged(3, low=1)
    steps: int = ranged(4000, low=1)
    rate: float = ranged(0.004, above=0.0, high=1.0)
    width: int = ranged(10, low=1)
    input_gain: float = ranged(2.0, low=0.0)
    validation_examples: int = ranged(16, low=1)
    test_examples: int = ranged(16, low=1)
    model: ReservoirConfig = dataclasses.field(
        default_factory=lambda: ReservoirConfig(units=400, density=1.0, gain=1.2)
    )

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`."""

        def draw(seed: tf.Tensor) -> dict[str, tf.Tensor]:
            pulses, states = pulses_and_states(self, seed)
            return {"pulses": tf.cast(pulses, dtype), "states": tf.cast(states, dtype)}

        database = generated(draw, self.validation_examples, self.test_examples)
        network = reservoir(self.model, self.lines, self.lines, self.input_gain, 1.0, seed, dtype)
        net = NetworkNode("network", InputNode("pulses"), network, db_name="states")
        loss = MSE.of_node(net.output)
        signs = DatasetLoss("sign_accuracy", sign_accuracy, net.output.pred, net.output.true)
        pictures = PlotMaker(Traces(net.output, examples=2), Raster(net, examples=2))
        metrics = {"loss": loss, "sign_accuracy": signs}
        return Task(*assemble_for_training(loss, metrics, plot_maker=pictures), database)


def pulses_and_states(config: FlipFlopConfig, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pulses, and the state of each line, 0 before its first pulse; -1, 0 or 1, `[T, K]`.

    Args:
      config: of the task.
      seed: `[2]`.
    """
    shape = [config.steps, config.lines]
    when, which = seeds(seed, 2)
    starts = tf.cast(chance(shape, config.rate, when), tf.int32)
    signs = tf.where(chance(shape, 0.5, which), 1, -1)
    number = tf.cumsum(starts)  # of pulses so far
    step = tf.range(config.steps)

    def line(starts: tf.Tensor, signs: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def of_last(values: tf.Tensor) -> tf.Tensor:
            each = tf.math.unsorted_segment_sum(values * starts, number, config.steps + 1)
            return tf.gather(each, number)

        state = of_last(signs)
        shown = step - of_last(step) < config.width
        return tf.where(shown, state, 0), state

    lines = [line(starts[:, k], signs[:, k], number[:, k]) for k in range(config.lines)]
    pulses, states = zip(*lines, strict=True)
    return tf.stack(pulses, axis=1), tf.stack(states, axis=1)


def sign_accuracy(pred: tf.Tensor, true: tf.Tensor) -> float:
    """Part of all steps after a line's first pulse in which the output has its state's sign."""
    pred, true = np.asarray(pred), np.asarray(true)
    return float(np.mean((pred * true > 0)[true != 0]))


@experiments.register("flip_flop")
def flip_flop() -> experiments.ExperimentConfig:
    """Three bits (Sussillo & Barak, Neural Comput. 25, 2013), 16 trials in parallel, FORCE."""
    return least_squares(
        FlipFlopConfig(), {"strategy": "inputs", "window": 2}, passes=2, interval=1, batch=16
    )
