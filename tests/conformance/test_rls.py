"""Least squares on every neuron: each strategy against its formula, with autodiff's derivatives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.graph import TrainingModules
from orbit_snn.learning import RLS, Feedback, Kernel
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
    """

    def __init__(self, row: str, rule: RLS, readout: bool = True, mask: bool = True):
        known, draw = zoo.BY_NAME[row], np.random.default_rng(3)
        neuron = known.library(UNITS, tf.float64)
        trained = not (rule.strategy == "outputs" and not readout)
        self.cell = Cell(
            neuron,
            Dense(INPUTS, UNITS, bias=True, trainable=trained, dtype=tf.float64),
            Dense(UNITS, UNITS, autapses=readout is False, dtype=tf.float64),
        )
        self.readout = zoo.make_cell(
            zoo.READOUTS["a"], UNITS, zoo.Hidden(OUTPUTS, recurrent=False, bias=True), tf.float64
        )
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


@pytest.mark.parametrize("row,groups", with_all(ROWS, "all", "variable", "node"))
def test_derivatives_of_outputs_are_those_of_autodiff(row: str, groups: str) -> None:
    strategy = "jacobian" if groups == "all" else "scaled_jacobian"
    kind = "node" if groups == "all" else groups
    case = Case(row, RLS(strategy, KERNEL, window=None, groups=kind))
    cell, readout = case.cell, case.readout
    connections = (cell.feedforward, cell.recurrent, readout.feedforward)
    parameters = [p for each in connections for p in each.parameters]
    before = [p.numpy() for p in parameters]
    counted = case.counted(OUTPUTS)[:, None]
    rows = [
        (j.reshape(-1, *p.shape) * counted.reshape(-1, *[1] * p.shape.rank)).reshape(-1, *p.shape)
        for j, p in zip(jacobian(case, parameters, readout_of), parameters, strict=True)
    ]
    flat = [h.reshape(len(counted), -1) for h in rows]
    error = case.error(case.network.unroll(case.xs).readouts["output"].outputs.numpy()).reshape(-1)
    if groups == "all":
        (step,) = absorbed([np.concatenate(flat, axis=1)], error)
        steps = np.split(step, np.cumsum([h.shape[1] for h in flat])[:-1])
    elif groups == "variable":
        joined = [np.concatenate(flat[:2], 1), flat[2], np.concatenate(flat[3:], 1)]
        ff, rec, out = absorbed(joined, error)
        steps = [*np.split(ff, [INPUTS * UNITS]), rec, *np.split(out, [UNITS * OUTPUTS])]
    else:
        onto = [np.concatenate([rows[0], rows[1][:, None], rows[2]], axis=1)]
        onto.append(np.concatenate([rows[3], rows[4][:, None]], axis=1))
        found = absorbed([h[:, :, n] for h in onto for n in range(h.shape[2])], error)
        hidden, output = np.stack(found[:UNITS], 1), np.stack(found[UNITS:], 1)
        steps = [
            hidden[:INPUTS],
            hidden[INPUTS],
            hidden[INPUTS + 1 :],
            output[:UNITS],
            output[UNITS],
        ]
    case.run()
    for parameter, old, step in zip(parameters, before, steps, strict=True):
        want = old - step.reshape(old.shape)
        if parameter is cell.recurrent.kernel:
            want = np.where(np.eye(UNITS), parameter.numpy(), want)
        np.testing.assert_allclose(parameter.numpy(), want, rtol=0, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize("row,window", with_all(zoo.EVERY_NEURON, 2, 1, None))
def test_a_readout_gets_the_ridge_solution_whatever_the_windows(row: str, window: int) -> None:
    kernel = Kernel(1.0, WEIGHT, ALPHA)
    case = Case(row, RLS("inputs", kernel, window=window))
    connection = case.readout.feedforward
    before = np.vstack([connection.kernel.numpy(), connection.bias.numpy()[None]])
    spikes = case.network.unroll(case.xs).cells[0].outputs.numpy()
    decay = np.exp(-1.0 / zoo.READOUTS["a"].settings["tau_mem_ms"])
    seen = np.concatenate([spikes, np.ones((STEPS, SIZE, 1))], axis=2)
    for t in range(1, STEPS):
        seen[t] += decay * seen[t - 1]
    real = case.mask.T
    x, y = seen[real], case.batch["y"].numpy().transpose(1, 0, 2)[real]
    curvature = ALPHA * np.eye(UNITS + 1) + WEIGHT * x.T @ x
    want = before + np.linalg.solve(curvature, WEIGHT * x.T @ (y - x @ before))
    case.run()
    got = np.vstack([connection.kernel.numpy(), connection.bias.numpy()[None]])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())
    (matrix,) = case.rule.matrices["net.output"]
    np.testing.assert_allclose(matrix, np.linalg.inv(curvature), rtol=0, atol=1e-9)


@pytest.mark.parametrize("row", TRAINED)
def test_a_population_with_targets_learns_by_its_eligibility(row: str) -> None:
    case = Case(row, RLS("inputs", KERNEL, window=None), readout=False)
    cell = case.cell
    parameters = [*cell.feedforward.parameters, *cell.recurrent.parameters]
    before = [p.numpy() for p in parameters]
    trajectory = case.network.unroll(case.xs)
    received = tf.stop_gradient(trajectory.cells[0].previous_outputs)

    def alone(_: Trajectory) -> tf.Tensor:
        """Outputs `[T, N, B]` where what neurons send to each other is a constant."""
        state, outputs = cell.initial_state(SIZE), []
        for t in range(STEPS):
            current = cell.feedforward(case.xs[t]) + cell.recurrent(received[t])
            state = cell.neuron.step(state, current)
            outputs.append(tf.transpose(cell.neuron.output(state)))
        return tf.stack(outputs)

    error = case.error(trajectory.cells[0].outputs.numpy())
    found = jacobian(case, parameters, alone)
    counted = case.counted(UNITS).reshape(STEPS, UNITS, SIZE)
    wanted = [old.copy() for old in before]
    for n in range(UNITS):
        own = [j[:, n, ..., n].reshape(STEPS * SIZE, -1) for j in found]
        rows = np.concatenate(own, axis=1) * counted[:, n].reshape(-1, 1)
        (step,) = absorbed([rows], error[:, n].reshape(-1))
        parts = np.split(step, np.cumsum([h.shape[1] for h in own])[:-1])
        for want, part in zip(wanted, parts, strict=True):
            want[..., n] -= part if want.ndim > 1 else part[0]
    case.run()
    for parameter, want in zip(parameters, wanted, strict=True):
        np.testing.assert_allclose(parameter.numpy(), want, rtol=0, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize("row,alignment", with_all(TRAINED, "previous", "published"))
def test_recurrent_weights_learn_from_rates(row: str, alignment: str) -> None:
    rule = RLS("outputs", KERNEL, window=None, alignment=alignment)
    case = Case(row, rule, readout=False)
    before = case.cell.recurrent.kernel.numpy()
    own = case.network.unroll(case.xs).cells[0]
    seen = own.previous_outputs if alignment == "previous" else own.outputs
    real = case.mask.T
    error = case.error(own.outputs.numpy()).transpose(0, 2, 1)
    (step,) = absorbed([seen.numpy()[real]], error[real])
    case.run()
    np.testing.assert_allclose(case.cell.recurrent.kernel.numpy(), before - step, atol=1e-9)


@pytest.mark.parametrize("row", TRAINED)
def test_a_readouts_error_reaches_recurrent_weights_through_feedback(row: str) -> None:
    rule = RLS("outputs", KERNEL, window=None, feedback=Feedback("random", initializer="ones"))
    case = Case(row, rule, mask=False)
    before = case.cell.recurrent.kernel.numpy()
    trajectory = case.network.unroll(case.xs)
    error = case.error(trajectory.readouts["output"].outputs.numpy()).transpose(0, 2, 1)
    everywhere = np.repeat(error.sum(axis=2, keepdims=True), UNITS, axis=2)
    seen = trajectory.cells[0].previous_outputs.numpy().reshape(-1, UNITS)
    (step,) = absorbed([seen], everywhere.reshape(-1, UNITS))
    case.run()
    want = np.where(np.eye(UNITS), before, before - step)
    np.testing.assert_allclose(case.cell.recurrent.kernel.numpy(), want, atol=1e-9)


@pytest.mark.parametrize("row", TRAINED)
def test_any_gradient_is_preconditioned_by_what_arrives(row: str) -> None:
    case = Case(row, RLS("grad", KERNEL, window=None), mask=False)
    cell, readout = case.cell, case.readout
    with tf.GradientTape() as tape:
        trajectory = case.network.unroll(case.xs)
        error = trajectory.readouts["output"].outputs - tf.transpose(case.batch["y"], [1, 0, 2])
        loss = 0.5 * tf.reduce_sum(error**2)
    parameters = case.network.parameters
    refs = [p.ref() for p in parameters]
    gradients = dict(zip(refs, tape.gradient(loss, parameters), strict=True))
    own = trajectory.cells[0]
    ones = np.ones((STEPS, SIZE, 1))
    arriving = {
        "hidden": np.concatenate([own.inputs, ones, own.previous_outputs], axis=2),
        "readout": np.concatenate([own.outputs, ones], axis=2),
    }
    done = case.run()
    got = dict(zip(refs, done.gradients, strict=True))
    for name, each in (("hidden", cell), ("readout", readout)):
        connections = [each.feedforward, *([each.recurrent] if each.recurrent else [])]
        of = [p for connection in connections for p in connection.parameters]
        rows = arriving[name].reshape(STEPS * SIZE, -1)
        matrix = np.linalg.inv(FORGETTING * ALPHA * np.eye(rows.shape[1]) + WEIGHT * rows.T @ rows)
        stacked = [np.atleast_2d(masked(each, p, gradients[p.ref()].numpy())) for p in of]
        step = WEIGHT * matrix @ np.concatenate(stacked)
        parts = np.split(step, np.cumsum([len(x) for x in stacked])[:-1])
        for p, part in zip(of, parts, strict=True):
            want = masked(each, p, part.reshape(p.shape))
            np.testing.assert_allclose(got[p.ref()], want, atol=1e-9 * np.abs(want).max())


def masked(cell: Cell, parameter: tf.Variable, values: np.ndarray) -> np.ndarray:
    """Without autapses."""
    recurrent = cell.recurrent is not None and parameter is cell.recurrent.kernel
    return values * (1.0 - np.eye(UNITS)) if recurrent else values
