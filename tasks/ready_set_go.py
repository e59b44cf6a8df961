"""Ready-set-go: a network measures the time between two pulses and waits as long again.

Full-FORCE with a hint: the target network is shown a ramp that counts the time up and down again,
which makes the right currents easy to learn (DePasquale et al., PLoS ONE 13:e0191527, 2018).
"""

import dataclasses

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ranged
from orbit_snn.draws import uniform
from orbit_snn.graph import MSE, DatasetLoss, MeanSq, assemble_for_training
from orbit_snn.tasks.full_force import FullForceConfig, features, full_force, target_weights
from orbit_snn.tasks.generated import generated, seeds
from orbit_snn.tasks.reservoir import least_squares
from orbit_snn.training import PlotMaker, Task, Traces

STEP_MS = 1.0
BASELINE, HEIGHT = -0.5, 1.5


@dataclasses.dataclass
class ReadySetGoConfig(experiments.TaskConfig):
    """One trial a sequence; every trial has a delay of its own. Durations are in steps of 1 ms.

    `error` is the sum of squared errors over that of squared targets, `go_error_ms` the mean
    distance of the output's peak from the time at which it should be.

    Attributes:
      model: both networks.
      shortest_delay: between the pulses.
      longest_delay: between the pulses.
      lead: before the first pulse, at least; as many more are random.
      pulse_steps: duration of a pulse.
      go_steps: duration of the answer, a bump whose peak is in its middle.
      hint: show the target network the ramp.
      validation_examples: how many.
      test_examples: how many.
    """

    name: str = "ready_set_go"
    model: FullForceConfig = dataclasses.field(default_factory=lambda: FullForceConfig(units=1000))
    shortest_delay: int = ranged(100, low=1)
    longest_delay: int = ranged(2100, low=1)
    lead: int = ranged(200, low=1)
    pulse_steps: int = ranged(50, low=1)
    go_steps: int = ranged(500, low=2)
    hint: bool = True
    validation_examples: int = ranged(20, low=1)
    test_examples: int = ranged(100, low=1)

    @property
    def steps(self) -> int:
        """T, of the longest trial and a little more."""
        return 2 * self.lead + 2 * self.longest_delay + self.go_steps + self.lead

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """See `TaskConfig.build`.

        Raises:
          ConfigError: for a longest delay below the shortest one.
        """
        if self.longest_delay < self.shortest_delay:
            raise experiments.ConfigError(
                f"task.longest_delay is {self.longest_delay}; expected at least the shortest one, "
                f"{self.shortest_delay}."
            )

        def draw(key: tf.Tensor) -> dict[str, tf.Tensor]:
            made = self.trial(key)
            return {name: tf.cast(x, dtype) for name, x in made.items()}

        database = generated(draw, self.validation_examples, self.test_examples)
        waiting = np.tile([[BASELINE, 0.0]], [500, 1])
        weights = target_weights(self.model, 2, 2, seed)
        start = weights.settled(np.zeros([500, 2]), waiting)
        net, wanted = full_force(weights, 1, start, STEP_MS, dtype)
        net.output.db_name = "go"
        error = MSE(net.current.pred, wanted.pred)
        output = MSE.of_node(net.output)
        metrics = {
            "loss": error + output,
            "current": error,
            "error": output / MeanSq(net.output.true),
            "go_error_ms": DatasetLoss(
                "go_error_ms", peak_distance, net.output.pred, net.output.true
            ),
        }
        pictures = PlotMaker(Traces(net.output, examples=4))
        return Task(*assemble_for_training(metrics["loss"], metrics, plot_maker=pictures), database)

    def trial(self, key: tf.Tensor) -> dict[str, tf.Tensor]:
        """Features of `tasks.full_force` and the answer `go`, `[T, ...]`, of a seed int32 `[2]`."""
        first, second = seeds(key, 2)
        span = self.longest_delay - self.shortest_delay
        delay = float(self.shortest_delay) + tf.floor(uniform([], first) * (span + 1))
        ready = float(self.lead) + tf.floor(uniform([], second) * self.lead)
        step = tf.range(self.steps, dtype=tf.float32)
        set_, go = ready + delay, ready + 2.0 * delay
        on = [self._within(step - begin, self.pulse_steps) for begin in (ready, set_)]
        output = BASELINE + HEIGHT * self.bump(step - go)
        ramp = tf.minimum(step - ready, go - step) * STEP_MS / 1e3
        hint = tf.nn.relu(ramp) * float(self.hint)
        private = tf.stack([output, hint], axis=1)
        return {**features(tf.stack(on, axis=1), private), "go": output[:, tf.newaxis]}

    def bump(self, since: tf.Tensor) -> tf.Tensor:
        """The density of Beta(4, 4) over its peak, of the steps since it began; 0 outside."""
        x = tf.clip_by_value(since / self.go_steps, 0.0, 1.0)
        return 64.0 * (x * (1.0 - x)) ** 3

    def _within(self, since: tf.Tensor, steps: int) -> tf.Tensor:
        return tf.cast((since >= 0.0) & (since < float(steps)), tf.float32)


def peak_distance(pred: np.ndarray, true: np.ndarray) -> float:
    """Mean distance in ms of the outputs' largest values, `[E, T, 1]` each."""
    given, wanted = (np.argmax(np.asarray(x)[..., 0], axis=1) for x in (pred, true))
    return float(np.mean(np.abs(given - wanted))) * STEP_MS


@experiments.register("ready_set_go")
def ready_set_go() -> experiments.ExperimentConfig:
    """1000 units, 1000 trials, ten at once, learning at every step."""
    rule = {"strategy": "inputs", "window": 1, "corrected": True}
    return least_squares(ReadySetGoConfig(), rule, passes=100, interval=25, batch=10)
