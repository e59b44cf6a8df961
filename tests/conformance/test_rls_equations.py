"""Least squares against loops over rows and steps that were written from the equations."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense, Sparse
from orbit_snn.graph import InputNode, NetworkNode
from orbit_snn.learning import RLS, Feedback, Kernel
from orbit_snn.learning.base import window_of
from orbit_snn.learning.rls import kernel as rls_kernel
from orbit_snn.networks import Network
from orbit_snn.neurons import LeakyIntegrator, LeakyTanh
from tests.oracles import rls as oracle

F, N, K, STEPS, SIZE, WINDOW = 2, 5, 2, 12, 3, 4
INSTANT = 1e-3
KIND = {"dtype": tf.float64}
CONSTANTS = {"forgetting": 0.97, "kappa": 1.6}
ALPHA, NOISE = 0.7, 0.01


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def network():
    hidden = Cell(
        LeakyTanh(N, tau_mem_ms=INSTANT, **KIND),
        Dense(F, N, bias=True, seed=1, **KIND),
        Dense(N, N, seed=2, **KIND),
    )
    readout = Dense(N, K, bias=True, seed=3, **KIND)
    return Network([hidden], Cell(LeakyIntegrator(K, tau_mem_ms=INSTANT, **KIND), readout))


def learn(made, rule, batch, before=None):
    """All windows of one batch, after the inputs `before`, which are not learned from."""
    net = NetworkNode("net", InputNode("x"), made)
    net.output.db_name = "y"
    loss = graph.MSE.of_node(net.output)
    modules, _ = graph.assemble_for_training(loss, {"loss": loss})
    batch = {name: tf.constant(x) for name, x in batch.items()}
    steps = batch["x"].shape[1]
    rule.prepare(modules, {n: tf.TensorSpec(x.shape[1:], x.dtype) for n, x in batch.items()}, steps)
    state = rule.initial_state(modules, batch["x"].shape[0])
    if before is not None:
        state = state._replace(model=modules.model.run({"x": tf.constant(before)}).state)
    for start, stop in rule.windows(steps):
        cut = window_of(batch, modules.temporal, start, stop - start)
        done = rule.update(modules, cut, state)
        for variable, value in zip(rule.assigned(modules), done.assigned, strict=True):
            variable.assign(value)
        state = done.state


def parameters_of(made):
    """Concatenated as the oracle has them: W_in, W_rec, b, W_out, c."""
    cell, readout = made.cells[0], made.readouts["output"].feedforward
    parts = (cell.feedforward.kernel, cell.recurrent.kernel, cell.feedforward.bias)
    return np.concatenate([p.numpy().reshape(-1) for p in (*parts, readout.kernel, readout.bias)])


@pytest.mark.parametrize("numerics", ["block", "potter", "information"])
@pytest.mark.parametrize("strategy", ["jacobian", "scaled_jacobian"])
def test_kalman_filters_of_a_tanh_network(strategy, numerics):
    """Derivatives forward in time (RTRL), restarted at every window, as the rule's are."""
    made = network()
    theta = parameters_of(made)
    x, y = draw(4, SIZE, STEPS, F), draw(5, SIZE, STEPS, K)
    u, target = x.transpose(1, 0, 2), y.transpose(1, 0, 2)
    size = len(theta)
    groups = oracle.rnn_groups(F, N, K, per_node=True)
    whole = np.eye(size) / ALPHA
    parts = [np.eye(len(group)) / ALPHA for group in groups]
    h = np.zeros((SIZE, N))
    for start in range(0, STEPS, WINDOW):
        cut = slice(start, start + WINDOW)
        outputs, rows, h = oracle.tanh_rnn_jacobian(theta, u[cut], h, K)
        error = (outputs - target[cut]).reshape(-1)
        if strategy == "jacobian":
            theta, whole = oracle.jacobian_step(theta, whole, rows, error, **CONSTANTS, q=NOISE)
        else:
            theta, parts = oracle.scaled_jacobian_step(
                theta, parts, rows, error, groups, **CONSTANTS, q=NOISE
            )
    kernel = Kernel(CONSTANTS["forgetting"], CONSTANTS["kappa"], ALPHA, NOISE, numerics)
    learn(made, RLS(strategy, kernel, window=WINDOW), {"x": x, "y": y})
    np.testing.assert_allclose(parameters_of(made), theta, rtol=0, atol=1e-9)


@pytest.mark.parametrize("numerics", ["block", "potter", "information"])
def test_a_kernel_is_the_closed_form_and_the_kalman_filter(numerics):
    rows = [draw(seed, count, N) for seed, count in enumerate((1, 4, 3, 9))]
    targets = [draw(10 + seed, len(x), K) for seed, x in enumerate(rows)]
    first = draw(20, N, K)
    for q, solution in ((0.0, oracle.ridge), (NOISE, oracle.kalman)):
        given = {"q": q} if q else {}
        wanted, p = solution(rows, targets, first, ALPHA, **CONSTANTS, **given)
        kernel = Kernel(CONSTANTS["forgetting"], CONSTANTS["kappa"], ALPHA, q, numerics)
        weights, matrix = first, rls_kernel.initial(kernel, (N, N), tf.float64)
        for step, (x, y) in enumerate(zip(rows, targets, strict=True)):
            done = rls_kernel.absorb(kernel, [matrix], [tf.constant(x)], tf.constant(step))
            weights = weights - done.gains[0].numpy() @ (x @ weights - y)
            (matrix,) = done.matrices
        np.testing.assert_allclose(weights, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())
        np.testing.assert_allclose(rls_kernel.covariance(kernel, matrix), p, rtol=0, atol=1e-9)


@pytest.mark.parametrize("numerics", ["block", "potter", "information"])
@pytest.mark.parametrize("count", [1, 3])
def test_rows_that_regularise(numerics, count):
    rows = [draw(seed, 2, N) for seed in range(7)]
    targets = [draw(10 + seed, 2, K) for seed in range(7)]
    first, forgetting = draw(20, N, K), 0.9
    wanted, p, _ = oracle.regularised(rows, targets, first, ALPHA, forgetting, 1.6, count)
    kernel = Kernel(forgetting, 1.6, ALPHA, numerics=numerics, regularising_rows=count)
    weights, matrix = first, rls_kernel.initial(kernel, (N, N), tf.float64)
    for step, (x, y) in enumerate(zip(rows, targets, strict=True)):
        done = rls_kernel.absorb(kernel, [matrix], [tf.constant(x)], tf.constant(step))
        weights = weights - done.gains[0].numpy() @ (x @ weights - y)
        (matrix,) = done.matrices
    np.testing.assert_allclose(weights, wanted, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rls_kernel.covariance(kernel, matrix), p, rtol=0, atol=1e-9)


def constant(value):
    """Weights that are given."""
    return lambda shape, dtype: tf.constant(value, dtype)


def reservoir(start, recurrent, leak, feedback=None):
    """A tanh network with one readout at zero, and inputs that take it to its first states.

    Those are of the first step alone, which takes every trial from 0 to `start`.
    """
    size, units = start.shape
    fixed = {"trainable": False, **KIND}
    hidden = Cell(
        LeakyTanh(units, tau_mem_ms=-1.0 / np.log(1.0 - leak), **KIND),
        Dense(units, units, initializer="identity", **fixed),
        recurrent,
    )
    readout = Dense(units, K, initializer="zeros", **KIND)
    back = (
        {}
        if feedback is None
        else {"output": Dense(K, units, initializer=constant(feedback), **fixed)}
    )
    cell = Cell(LeakyIntegrator(K, tau_mem_ms=INSTANT, **KIND), readout)
    return Network([hidden], cell, feedback=back), (start / leak)[:, np.newaxis]


def silent(start, steps):
    """No inputs `[B, T, N]`."""
    return np.zeros((start.shape[0], steps, start.shape[1]))


@pytest.mark.parametrize("every", [1, 2, 3])
def test_force_with_feedback_and_several_trials(every):
    """Batches are rows of one block; each trial starts elsewhere."""
    leak, units, steps = 0.1, 12, 30
    start, target = draw(1, SIZE, units), draw(2, SIZE, steps, K)
    weights, back = 1.3 * draw(3, units, units) / units**0.5, draw(4, K, units)
    recurrent = Dense(units, units, initializer=constant(weights), trainable=False, **KIND)
    made, pulse = reservoir(start, recurrent, leak, back)
    done = oracle.force_output(
        weights,
        back,
        np.zeros((units, K)),
        start,
        target.transpose(1, 0, 2),
        alpha=ALPHA,
        learn=every,
        dt=leak,
    )
    rule = RLS("inputs", Kernel(alpha=ALPHA), window=every, rows="last")
    learn(made, rule, {"x": silent(start, steps), "y": target}, before=pulse)
    readout = made.readouts["output"].feedforward
    np.testing.assert_allclose(readout.kernel, done.w, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rule.matrices["net.output"][0], done.p, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "every,numerics", [(1, "block"), (2, "block"), (2, "potter"), (2, "information")]
)
@pytest.mark.parametrize("fan_in", [None, 4, 12])
def test_force_inside_of_a_network(fan_in, every, numerics):
    """The readout's error trains all recurrent weights, by one P, or one of each unit's inputs."""
    leak, units, steps = 0.1, 12, 30
    start, target = draw(1, SIZE, units), 0.3 * draw(2, SIZE, steps, K)
    weights = 1.3 * draw(3, units, units) / units**0.5
    if fan_in is None:
        recurrent = Dense(units, units, initializer=constant(weights), **KIND)
    else:
        recurrent = Sparse(units, units, fan_in, seed=6, **KIND)
        recurrent.kernel.assign(np.take_along_axis(weights, recurrent.sources.numpy(), axis=0))
        weights = recurrent.weights()[0].numpy()
    run = oracle.force_internal
    if fan_in is not None:
        mask = np.zeros((units, units))
        np.put_along_axis(mask, recurrent.sources.numpy(), 1.0, axis=0)
        run = lambda m, *rest, **named: oracle.force_sparse(m, mask, *rest, **named)  # noqa: E731
    given = {"alpha": ALPHA, "learn": every, "dt": leak}
    trials = target.transpose(1, 0, 2)
    done = run(weights, np.zeros((units, K)), start, trials, **given)
    rule = RLS(
        "outputs",
        Kernel(alpha=ALPHA, numerics=numerics),
        window=every,
        rows="last",
        alignment="published",
        feedback=Feedback("random", initializer="ones"),
    )
    made, pulse = reservoir(start, recurrent, leak)
    learn(made, rule, {"x": silent(start, steps), "y": target}, before=pulse)
    assert np.abs(done.m - weights).max() > 0.1
    np.testing.assert_allclose(recurrent.weights()[0], done.m, rtol=0, atol=1e-9)
    readout = made.readouts["output"].feedforward
    np.testing.assert_allclose(readout.kernel, done.w, rtol=0, atol=1e-9)
    p_readout, p_units = (done.p, done.p) if fan_in is None else done.p
    for name, want in (("net.output", p_readout), ("net.cell0", np.stack(p_units))):
        got = rls_kernel.covariance(rule.kernel, tf.convert_to_tensor(rule.matrices[name][0]))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9, err_msg=name)
    if fan_in == units:
        shared = oracle.force_internal(weights, np.zeros((units, K)), start, trials, **given)
        np.testing.assert_allclose(recurrent.weights()[0], shared.m, rtol=0, atol=1e-9)
