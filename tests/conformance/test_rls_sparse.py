"""Least squares of sparse connections: every unit by formulas on its own inputs alone."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.learning import RLS, Kernel
from tests.conformance import zoo
from tests.conformance.rls import (
    ALPHA,
    FORGETTING,
    KERNEL,
    SIZE,
    STEPS,
    UNITS,
    WEIGHT,
    Case,
    absorbed,
)

ROWS = ("lif", "alif-refractory", "leaky-tanh-gain")
FAN_IN = 2


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("window", [None, 2])
def test_a_readout_gets_the_ridge_solution_of_every_output(row: str, window: int | None) -> None:
    kernel = Kernel(1.0, WEIGHT, ALPHA)
    case = Case(row, RLS("inputs", kernel, window=window), fan_in=FAN_IN)
    connection = case.readout.feedforward
    before = np.vstack([connection.kernel.numpy(), connection.bias.numpy()[None]])
    spikes = case.network.unroll(case.xs).cells[0].outputs.numpy()
    decay = np.exp(-1.0 / zoo.READOUTS["a"].settings["tau_mem_ms"])
    seen = np.concatenate([spikes, np.ones((STEPS, SIZE, 1))], axis=2)
    for t in range(1, STEPS):
        seen[t] += decay * seen[t - 1]
    real = case.mask.T
    y = case.batch["y"].numpy().transpose(1, 0, 2)[real]
    case.run()
    got = np.vstack([connection.kernel.numpy(), connection.bias.numpy()[None]])
    (matrices,) = case.rule.matrices["net.output"]
    assert matrices.shape == (2, FAN_IN + 1, FAN_IN + 1)
    for k, own in enumerate(connection.sources.numpy().T):
        x, old = seen[real][:, [*own, UNITS]], before[:, k]
        curvature = ALPHA * np.eye(FAN_IN + 1) + WEIGHT * x.T @ x
        want = old + np.linalg.solve(curvature, WEIGHT * x.T @ (y[:, k] - x @ old))
        np.testing.assert_allclose(got[:, k], want, rtol=0, atol=1e-9)
        np.testing.assert_allclose(matrices[k], np.linalg.inv(curvature), rtol=0, atol=1e-9)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("alignment", ["previous", "published"])
def test_recurrent_weights_learn_from_the_rates_that_they_receive(row: str, alignment: str) -> None:
    rule = RLS("outputs", KERNEL, window=None, alignment=alignment)
    case = Case(row, rule, readout=False, fan_in=FAN_IN)
    recurrent = case.cell.recurrent
    before = recurrent.kernel.numpy()
    own = case.network.unroll(case.xs).cells[0]
    seen = (own.previous_outputs if alignment == "previous" else own.outputs).numpy()
    real = case.mask.T
    error = case.error(own.outputs.numpy()).transpose(0, 2, 1)[real]
    case.run()
    assert rule.matrices["net.cell0"][0].shape == (UNITS, FAN_IN, FAN_IN)
    for n, sources in enumerate(recurrent.sources.numpy().T):
        (step,) = absorbed([seen[real][:, sources]], error[:, n])
        np.testing.assert_allclose(recurrent.kernel[:, n], before[:, n] - step, atol=1e-9)


@pytest.mark.parametrize("row", ROWS)
def test_a_gradient_is_preconditioned_by_what_arrives_at_each_unit(row: str) -> None:
    case = Case(row, RLS("grad", KERNEL, window=None), mask=False, fan_in=FAN_IN)
    with tf.GradientTape() as tape:
        trajectory = case.network.unroll(case.xs)
        error = trajectory.readouts["output"].outputs - tf.transpose(case.batch["y"], [1, 0, 2])
        loss = 0.5 * tf.reduce_sum(error**2)
    parameters = case.network.parameters
    gradients = [g.numpy() for g in tape.gradient(loss, parameters)]
    own, ones = trajectory.cells[0], np.ones((STEPS, SIZE, 1))
    hidden = np.concatenate([own.inputs, ones, own.previous_outputs], axis=2)
    readout = np.concatenate([own.outputs, ones], axis=2)
    got = case.run().gradients
    inputs = own.inputs.shape[2]
    below, again = case.cell.feedforward, case.cell.recurrent
    last = case.readout.feedforward
    bias = lambda count, row: np.full([1, count], row)  # noqa: E731
    onto = np.vstack([below.sources, bias(UNITS, inputs), inputs + 1 + again.sources.numpy()])
    outwards = np.vstack([last.sources, bias(last.units, UNITS)])
    for rows, sources, parts in ((hidden, onto, slice(0, 3)), (readout, outwards, slice(3, 5))):
        x = rows.reshape(STEPS * SIZE, -1)
        stacked = np.vstack([np.atleast_2d(g) for g in gradients[parts]])
        found = np.vstack([np.atleast_2d(g) for g in got[parts]])
        for n, which in enumerate(sources.T):
            own_rows = x[:, which]
            curvature = FORGETTING * ALPHA * np.eye(len(which)) + WEIGHT * own_rows.T @ own_rows
            want = WEIGHT * np.linalg.solve(curvature, stacked[:, n])
            np.testing.assert_allclose(found[:, n], want, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize("strategy", ["inputs", "outputs", "grad", "scaled_jacobian"])
def test_compiled(strategy: str) -> None:
    case = Case("lif", RLS(strategy, KERNEL, window=None), fan_in=FAN_IN)
    state = case.rule.initial_state(case.modules, SIZE)

    def update() -> list[tf.Tensor]:
        done = case.rule.update(case.modules, case.batch, state)
        return [*done.gradients, *done.assigned]

    for got, want in zip(tf.function(update, jit_compile=True)(), update(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)
