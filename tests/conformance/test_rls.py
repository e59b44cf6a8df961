"""Least squares on every neuron: each strategy against its formula, with autodiff's derivatives."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.learning import RLS, Feedback, Kernel
from orbit_snn.types import Trajectory
from tests.conformance import zoo
from tests.conformance.rls import (
    ALPHA,
    FORGETTING,
    KERNEL,
    OUTPUTS,
    ROWS,
    SIZE,
    STEPS,
    TRAINED,
    UNITS,
    WEIGHT,
    Case,
    absorbed,
    jacobian,
    readout_of,
    with_all,
)

SPARSE = ("lif", "leaky-tanh-gain")


@pytest.mark.parametrize(
    "row,groups,fan_in",
    [
        *[(*each, None) for each in with_all(ROWS, "all", "variable", "node")],
        *[(row, groups, 2) for row in SPARSE for groups in ("all", "variable", "node")],
    ],
)
def test_derivatives_of_outputs_are_those_of_autodiff(
    row: str, groups: str, fan_in: int | None
) -> None:
    strategy = "jacobian" if groups == "all" else "scaled_jacobian"
    kind = "node" if groups == "all" else groups
    case = Case(row, RLS(strategy, KERNEL, window=None, groups=kind), fan_in=fan_in)
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
        first, last = flat[0].shape[1], flat[3].shape[1]
        steps = [*np.split(ff, [first]), rec, *np.split(out, [last])]
    else:
        onto = [np.concatenate([rows[0], rows[1][:, None], rows[2]], axis=1)]
        onto.append(np.concatenate([rows[3], rows[4][:, None]], axis=1))
        found = absorbed([h[:, :, n] for h in onto for n in range(h.shape[2])], error)
        hidden, output = np.stack(found[:UNITS], 1), np.stack(found[UNITS:], 1)
        first, last = before[0].shape[0], before[3].shape[0]
        steps = [hidden[:first], hidden[first], hidden[first + 1 :], output[:last], output[last]]
    case.run()
    for parameter, old, step in zip(parameters, before, steps, strict=True):
        want = old - step.reshape(old.shape)
        if parameter is cell.recurrent.kernel and fan_in is None:
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


@pytest.mark.parametrize(
    "row,fan_in", [*[(row, None) for row in TRAINED], *[(row, 2) for row in SPARSE]]
)
def test_a_population_with_targets_learns_by_its_eligibility(row: str, fan_in: int | None) -> None:
    case = Case(row, RLS("inputs", KERNEL, window=None), readout=False, fan_in=fan_in)
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


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize(
    "given,readout",
    [
        ({"strategy": "inputs"}, True),
        ({"strategy": "inputs"}, False),
        ({"strategy": "outputs"}, False),
        ({"strategy": "outputs", "alignment": "published"}, False),
        ({"strategy": "outputs", "feedback": Feedback("random")}, True),
        ({"strategy": "jacobian"}, True),
        ({"strategy": "jacobian"}, False),
        ({"strategy": "scaled_jacobian", "groups": "node"}, True),
    ],
)
def test_rows_of_last_steps_are_those_of_a_loss_that_looks_there_alone(
    given: dict, readout: bool, window: int | None
) -> None:
    ends = [stop - 1 for _, stop in RLS(window=window).windows(STEPS)]
    cases = [
        Case("mixed", RLS(kernel=KERNEL, window=window, rows=rows, **given), readout, rows == "all")
        for rows in ("last", "all")
    ]
    before = [v.numpy() for v in cases[0].rule.assigned(cases[0].modules)]
    cases[1].batch["mask"] = tf.constant(np.isin(np.arange(STEPS), ends) & np.ones([SIZE, 1], bool))
    for case in cases:
        case.run()
    one, other = ([v.numpy() for v in c.rule.assigned(c.modules)] for c in cases)
    assert max(np.abs(new - old).max() for new, old in zip(one[:-2], before, strict=False)) > 1e-3
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def masked(cell: Cell, parameter: tf.Variable, values: np.ndarray) -> np.ndarray:
    """Without autapses."""
    recurrent = cell.recurrent is not None and parameter is cell.recurrent.kernel
    return values * (1.0 - np.eye(UNITS)) if recurrent else values
