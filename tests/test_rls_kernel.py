"""The kernel of recursive least squares against the ridge solution, and in single precision."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.learning.rls import Kernel, kernel

SIZE, OUTPUTS = 6, 2
FORMS = ("block", "potter", "information")
TOLERANCE = {tf.float64: 1e-9, tf.float32: 1e-4}


def blocks(sizes, seed=0, rank=SIZE):
    """Rows, targets and first weights of blocks of some sizes."""
    draw = np.random.default_rng(seed)
    basis = draw.normal(size=(rank, SIZE))
    rows = [draw.normal(size=(size, rank)) @ basis for size in sizes]
    return (
        rows,
        [draw.normal(size=(len(x), OUTPUTS)) for x in rows],
        draw.normal(size=(SIZE, OUTPUTS)),
    )


def ridge(constants, rows, targets, first):
    """The minimiser of the cost in `kernel`'s docstring and the inverse of its curvature."""
    count, forgetting = len(rows), constants.forgetting
    curvature = forgetting**count * constants.alpha * np.eye(SIZE)
    right = curvature @ first
    for index, (x, y) in enumerate(zip(rows, targets, strict=True)):
        weight = forgetting ** (count - 1 - index) * constants.row_weight
        curvature = curvature + weight * x.T @ x
        right = right + weight * x.T @ y
    return np.linalg.solve(curvature, right), np.linalg.inv(curvature)


def learn(constants, rows, targets, first, dtype=tf.float64, compiled=False):
    """Weights, P and the last result of the kernel."""
    absorb = functools.partial(kernel.absorb, constants)
    if compiled:
        absorb = tf.function(absorb, jit_compile=True)
    weights = tf.constant(first, dtype)
    matrix = kernel.initial(constants, (SIZE, SIZE), dtype)
    for step, (x, y) in enumerate(zip(rows, targets, strict=True)):
        x, y = tf.constant(x, dtype), tf.constant(y, dtype)
        done = absorb([matrix], [x], tf.constant(step, tf.int64))
        error = x @ weights - y
        weights -= done.gains[0] @ error
        np.testing.assert_allclose(x @ weights - y, done.remaining[0] @ error, atol=1e-3)
        (matrix,) = done.matrices
    return weights.numpy(), kernel.covariance(constants, matrix).numpy(), done


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=lambda d: d.name)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("forgetting,weight,alpha", [(1.0, 1.0, 1.0), (0.9, 2.5, 0.3)])
@pytest.mark.parametrize("sizes", [[1] * 12, [4, 4, 4], [12], [1, 7, 2, 2]], ids=str)
def test_the_solution_is_ridge_regression(sizes, forgetting, weight, alpha, form, dtype):
    constants = Kernel(forgetting, weight, alpha, numerics=form)
    problem = blocks(sizes)
    weights, matrix, done = learn(constants, *problem, dtype)
    want, inverse = ridge(constants, *problem)
    np.testing.assert_allclose(weights, want, rtol=0, atol=TOLERANCE[dtype] * np.abs(want).max())
    np.testing.assert_allclose(matrix, inverse, rtol=0, atol=TOLERANCE[dtype] * inverse.max())
    assert done.positive


def test_the_size_of_blocks_does_not_matter_without_forgetting():
    rows, targets, first = blocks([12])
    whole, _, _ = learn(Kernel(), rows, targets, first)
    for form in FORMS:
        for parts in (2, 3, 12):
            cut = np.split(rows[0], parts), np.split(targets[0], parts)
            found, _, _ = learn(Kernel(numerics=form), *cut, first)
            np.testing.assert_allclose(found, whole, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_opposite_samples_learns(form):
    draw = np.random.default_rng(0)
    x, truth = draw.normal(size=(8, SIZE)), draw.normal(size=(SIZE, OUTPUTS))
    rows = np.concatenate([x, -x])
    weights, matrix, _ = learn(
        Kernel(alpha=1e-9, numerics=form), [rows], [rows @ truth], np.zeros_like(truth)
    )
    np.testing.assert_allclose(weights, truth, atol=1e-6)
    assert np.trace(matrix) < SIZE


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_do_not_count_are_not_the_least(form):
    rows = np.vstack([np.zeros(SIZE), np.eye(SIZE)[0], 3 * np.eye(SIZE)[1]])
    constants = Kernel(alpha=2.0, numerics=form)
    matrix = kernel.initial(constants, [SIZE, SIZE], tf.float64)
    for taken, least in ((rows, 0.5), (rows[:1], 0.0)):
        done = kernel.absorb(constants, [matrix], [tf.constant(taken)], tf.constant(0))
        np.testing.assert_allclose(done.least, least, rtol=1e-9)
        assert done.positive


@pytest.mark.parametrize("form", FORMS)
def test_process_noise_is_a_random_walk_of_weights(form):
    """A Kalman filter in covariance form, in the words of any textbook."""
    noise, weight, alpha = 0.02, 1.5, 0.7
    rows, targets, weights = blocks([3, 1, 4])
    found, matrix, _ = learn(
        Kernel(1.0, weight, alpha, noise, form), rows, targets, weights, compiled=form != "block"
    )
    p = np.eye(SIZE) / alpha
    for x, y in zip(rows, targets, strict=True):
        gain = p @ x.T @ np.linalg.inv(x @ p @ x.T + np.eye(len(x)) / weight)
        weights = weights + gain @ (y - x @ weights)
        p = (np.eye(SIZE) - gain @ x) @ p + noise * np.eye(SIZE)
    np.testing.assert_allclose(found, weights, atol=1e-12)
    np.testing.assert_allclose(matrix, p, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_parts_that_explain_the_same_errors_share_the_innovation(form):
    """A decoupled Kalman filter; of one part it is the whole one."""
    constants = Kernel(0.9, 1.3, 0.5, numerics=form)
    rows, _, _ = blocks([4, 3])
    halves = [kernel.initial(constants, (3, 3), tf.float64) for _ in range(2)]
    dense = [np.eye(3) / constants.alpha for _ in range(2)]
    stacked = [kernel.initial(constants, (2, 3, 3), tf.float64)]
    for step, x in enumerate(rows):
        parts, step = np.split(x, 2, axis=1), tf.constant(step)
        done = kernel.absorb(constants, halves, [tf.constant(p) for p in parts], step, joint=True)
        again = kernel.absorb(constants, stacked, [tf.constant(np.stack(parts))], step, joint=True)
        shared = sum(h @ p @ h.T for h, p in zip(parts, dense, strict=True))
        shared += constants.forgetting / constants.row_weight * np.eye(len(x))
        inverse = np.linalg.inv(shared)
        for index, (h, p) in enumerate(zip(parts, dense, strict=True)):
            np.testing.assert_allclose(done.gains[index], p @ h.T @ inverse, atol=1e-12)
            np.testing.assert_allclose(again.gains[0][index], p @ h.T @ inverse, atol=1e-12)
            dense[index] = (p - p @ h.T @ inverse @ h @ p) / constants.forgetting
        halves, stacked = done.matrices, again.matrices
    for index, p in enumerate(dense):
        np.testing.assert_allclose(kernel.covariance(constants, halves[index]), p, atol=1e-12)
        np.testing.assert_allclose(kernel.covariance(constants, stacked[0])[index], p, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_regularising_rows_put_back_what_is_forgotten(form):
    """The information of a cycle through all rows of the identity, added by hand."""
    forgetting, alpha, each = 0.9, 0.4, 2
    constants = Kernel(forgetting, 1.0, alpha, numerics=form, regularising_rows=each)
    rows, targets, first = blocks([1] * 7, rank=1)
    _, matrix, _ = learn(constants, rows, targets, first)
    curvature = alpha * np.eye(SIZE)
    for step, x in enumerate(rows):
        back = np.zeros(SIZE)
        back[(step * each + np.arange(each)) % SIZE] = (1 - forgetting) * alpha * SIZE / each
        curvature = forgetting * curvature + np.diag(back) + x.T @ x
    np.testing.assert_allclose(matrix, np.linalg.inv(curvature), atol=1e-10)


LONG = {
    "plain": ({}, False),
    "potter": ({"numerics": "potter"}, True),
    "cyclic": ({"regularising_rows": 1}, True),
    "cap": ({"cap_trace": True}, False),
    "potter-cap": ({"numerics": "potter", "cap_trace": True}, True),
    "potter-cyclic": ({"numerics": "potter", "regularising_rows": 1}, True),
}


@pytest.mark.parametrize("forgetting", [0.999, 0.95])
@pytest.mark.parametrize("name", LONG)
def test_what_keeps_a_covariance_positive_in_single_precision(name, forgetting):
    """20,000 rows of rank 4 and a little noise, as the rates of FORCE are."""
    given, lasts = LONG[name]
    size, steps = 64, 20_000
    constants = Kernel(forgetting, **given)
    draw = np.random.default_rng(0)
    low = draw.normal(size=(steps, 4)) @ draw.normal(size=(4, size)) / 2.0
    rows = tf.constant(low + 1e-3 * draw.normal(size=(steps, size)), tf.float32)

    @tf.function(jit_compile=True)
    def run():
        def body(step, matrix, least):
            done = kernel.absorb(constants, [matrix], [rows[step][tf.newaxis]], step)
            return step + 1, done.matrices[0], tf.minimum(least, done.least)

        start = (0, kernel.initial(constants, (size, size), tf.float32), tf.constant(1e9))
        return tf.while_loop(lambda step, *_: step < steps, body, start)[1:]

    matrix, least = run()
    p = kernel.covariance(constants, tf.cast(matrix, tf.float64)).numpy()
    healthy = float(least) >= 0.0 and np.isfinite(p).all() and np.linalg.eigvalsh(p).min() > 0
    assert healthy == lasts


@pytest.mark.parametrize(
    "given,message",
    [
        ({"forgetting": 0.0}, "forgetting is 0.0; expected more than 0 and at most 1"),
        ({"forgetting": 1.1}, "forgetting is 1.1"),
        ({"forgetting": float("nan")}, "forgetting is nan"),
        ({"alpha": 0.0}, "alpha is 0.0; expected more than 0"),
        ({"row_weight": -1.0}, "row_weight is -1.0; expected more than 0"),
        ({"process_noise": -1.0}, "process_noise is -1.0; expected 0 or more"),
        ({"numerics": "qr"}, "numerics is 'qr'; expected one of block, potter, information"),
        ({"regularising_rows": -1}, "regularising_rows is -1"),
        ({"regularising_rows": 1}, "forgetting is 1; leave one of them"),
        ({"averaging": True}, "forgetting is 1"),
        ({"cap_trace": True, "numerics": "information"}, "use block or potter"),
    ],
)
def test_constants_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Kernel(**given)
