"""What the conformance tests of least squares share: a network, its data, and formulas."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense, Sparse
from orbit_snn.graph import TrainingModules
from orbit_snn.learning import RLS, Kernel
from orbit_snn.learning.base import Update, window_of
from orbit_snn.networks import Network
from orbit_snn.types import Trajectory
from tests.conformance import zoo

INPUTS, UNITS, OUTPUTS, STEPS, SIZE = 3, 4, 2, 5, 3
FORGETTING, WEIGHT, ALPHA = 0.9, 1.7, 0.6
KERNEL = Kernel(FORGETTING, WEIGHT, ALPHA)
FEW = ("lif", "alif-refractory", "mixed", "leaky-tanh-gain")
# The reverse pass behind these rows is held against autodiff for every neuron in test_gradients.
ROWS = (*FEW, "alif-per-neuron", "alif-gain", "mixed-rate")
TRAINED = (*ROWS, *zoo.HARD, "lif-train-tau", "alif-train-threshold")


def with_all(rows: tuple[str, ...], first: Any, *others: Any) -> list[tuple[str, Any]]:
    """All rows with the first setting, few with the others."""
    return [(row, first) for row in rows] + [(row, each) for each in others for row in FEW]


class Case:
    """A network of one row of the zoo, with drawn weights, data, and a squared error with a mask.

    Args:
      row: its name.
      rule: that trains it.
      readout: whether a readout has the target, or the cell itself.
      mask: whether sequences end early.
      fan_in: of sparse connections; None for dense ones.
    """

    def __init__(
        self,
        row: str,
        rule: RLS,
        readout: bool = True,
        mask: bool = True,
        fan_in: int | None = None,
    ):
        known, draw = zoo.BY_NAME[row], np.random.default_rng(3)
        neuron = known.library(UNITS, tf.float64)
        trained = not (rule.strategy == "outputs" and not readout)
        kind = Dense if fan_in is None else functools.partial(Sparse, fan_in=fan_in)
        self.cell = Cell(
            neuron,
            kind(INPUTS, UNITS, bias=True, trainable=trained, dtype=tf.float64),
            kind(UNITS, UNITS, autapses=readout is False, dtype=tf.float64),
        )
        output = zoo.Hidden(OUTPUTS, recurrent=False, bias=True, fan_in=fan_in)
        self.readout = zoo.make_cell(zoo.READOUTS["a"], UNITS, output, tf.float64)
        for cell, name, its in ((self.cell, "h0", known), (self.readout, "a", zoo.READOUTS["a"])):
            for key, variable in zoo.name_variables(name, cell, its).items():
                if variable.trainable and not zoo.is_log(key):
                    zoo.draw(draw, key, variable, known.drive)
        self.network = Network([self.cell], self.readout if readout else {})
        marked = graph.InputNode("x", mask="mask") if mask else graph.InputNode("x")
        net = graph.NetworkNode("net", marked, self.network)
        self.place = "net.output" if readout else "net.cell0"
        target = net.output if readout else net.cell0
        target.db_name = "y"
        error = graph.MSE.of_node(target)
        self.modules: TrainingModules = graph.assemble_for_training(error, {"loss": error})[0]
        width = OUTPUTS if readout else UNITS
        lengths = STEPS - np.arange(SIZE)[:, None] % 3
        self.mask = np.arange(STEPS) < (lengths if mask else np.full_like(lengths, STEPS))
        features = {
            "x": draw.normal(size=(SIZE, STEPS, INPUTS)) + 0.5,
            "y": draw.normal(size=(SIZE, STEPS, width)),
        }
        self.batch = {name: tf.constant(x) for name, x in features.items()}
        if mask:
            self.batch["mask"] = tf.constant(self.mask)
        self.rule = rule
        spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in self.batch.items()}
        rule.prepare(self.modules, spec, STEPS)

    @property
    def xs(self) -> tf.Tensor:
        """Inputs, time-major."""
        return tf.transpose(self.batch["x"], [1, 0, 2])

    def run(self) -> Update:
        """All windows of a sequence; assigns what the rule assigns."""
        state = self.rule.initial_state(self.modules, SIZE)
        for start, stop in self.rule.windows(STEPS):
            batch = window_of(self.batch, self.modules.temporal, start, stop - start)
            done = self.rule.update(self.modules, batch, state)
            assigned = self.rule.assigned(self.modules)
            for variable, value in zip(assigned, done.assigned, strict=True):
                variable.assign(value)
            state = done.state
        return done

    def error(self, outputs: np.ndarray) -> np.ndarray:
        """`[T, K, B]` error of outputs `[T, B, K]`, 0 where the mask is."""
        error = outputs - self.batch["y"].numpy().transpose(1, 0, 2)
        return (error * self.mask.T[:, :, None]).transpose(0, 2, 1)

    def counted(self, width: int) -> np.ndarray:
        """1 for real elements, in the order of `error`, `[T K B]`."""
        real = self.mask.T[:, None]
        return np.broadcast_to(real, (STEPS, width, SIZE)).reshape(-1).astype(float)


def jacobian(case: Case, parameters: list[tf.Variable], function: Callable) -> list[np.ndarray]:
    """Derivatives of `function(trajectory)` `[...]` by parameters, `[..., *shape]`, by autodiff."""
    with tf.GradientTape(persistent=True) as tape:
        outputs = function(case.network.unroll(case.xs))
    return [tape.jacobian(outputs, p, experimental_use_pfor=False).numpy() for p in parameters]


def readout_of(trajectory: Trajectory) -> tf.Tensor:
    """`[T, K, B]`."""
    return tf.transpose(trajectory.readouts["output"].outputs, [0, 2, 1])


def absorbed(groups: list[np.ndarray], error: np.ndarray) -> list[np.ndarray]:
    """Steps of one block of a decoupled Kalman filter, written as a formula (section 3)."""
    noise = FORGETTING / WEIGHT * np.eye(len(error))
    inverse = np.linalg.inv(noise + sum(h @ h.T / ALPHA for h in groups))
    return [h.T @ inverse @ error / ALPHA for h in groups]
