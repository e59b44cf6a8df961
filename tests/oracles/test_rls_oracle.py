"""Self-tests of the RLS oracle: identities of the specification, finite differences, small runs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from . import rls

ALPHA, KAPPA = 0.7, 1.6
F, N, K = 2, 5, 3  # the tanh RNN
LEARN = rls.learning_steps(2, 6600) & (np.arange(6600) < 6000)


def regression(n=5, f_in=4, f_out=3, batch=6):
    rng = np.random.default_rng(0)
    x, true = rng.normal(size=(n, batch, f_in)), rng.normal(size=(f_in, f_out))
    return x, x @ true + 0.1 * rng.normal(size=(n, batch, f_out)), rng.normal(size=(f_in, f_out))


def blocks(x, y, w, step, **options):
    p = np.eye(len(w)) / ALPHA
    for xi, yi in zip(x, y, strict=True):
        w, p = step(w, p, xi, xi @ w - yi, **options)
    return w, p


def same(got, wanted, tolerance=1e-11):
    for a, b in zip(got, wanted, strict=True):
        assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("lam", [1.0, 0.9])
def test_ridge_kalman_block_and_rank_1_agree(lam):
    """(1) And the gradient of the cost is 0."""
    x, y, w0 = regression()
    wanted = rls.ridge(x, y, w0, ALPHA, lam, KAPPA)
    same(rls.kalman(x, y, w0, ALPHA, lam, KAPPA), wanted)
    same(blocks(x, y, w0, rls.block_update, forgetting=lam, kappa=KAPPA), wanted)
    slope = lam**5 * ALPHA * (wanted[0] - w0)
    for i in range(5):
        slope += lam ** (4 - i) * KAPPA * x[i].T @ (x[i] @ wanted[0] - y[i])
    assert_allclose(slope, 0.0, atol=1e-12)
    rows, targets, p0 = x.reshape(-1, 4), y.reshape(-1, 3), np.eye(4) / ALPHA
    one = rls.sequential(rows, lambda w, i: rows[i] @ w - targets[i], w0, p0, lam, KAPPA)
    same(one, rls.ridge(rows[:, None], targets[:, None], w0, ALPHA, lam, KAPPA))


def test_weights_and_forgetting_per_row():
    """Row weights are scaled rows; lambda^(B-1-b) by row with lambda^B by block is rank-1 (1)."""
    x, y, w0 = regression()
    lam, size = 0.95, x.shape[1]
    weights = np.broadcast_to(lam ** np.arange(size - 1, -1, -1.0), x.shape[:2])
    root = np.sqrt(weights)[..., None]
    wanted = rls.ridge(x.reshape(-1, 1, 4), y.reshape(-1, 1, 3), w0, ALPHA, lam)
    same(rls.ridge(x, y, w0, ALPHA, lam**size, 1.0, weights), wanted)
    same(blocks(x * root, y * root, w0, rls.block_update, forgetting=lam**size), wanted)
    kept = rls.ridge([*x, x[0]], [*y, y[0]], w0, ALPHA, [lam] * 5 + [1.0], KAPPA)
    joined = [*x[:4], np.vstack([x[4], x[0]])], [*y[:4], np.vstack([y[4], y[0]])]
    same(kept, rls.ridge(*joined, w0, ALPHA, lam, KAPPA))


def test_process_noise_is_a_random_walk():
    """Q: as least squares over the weights of all 3 blocks and their steps; lambda < 1: as (3)."""
    x, y, w0 = regression(n=3, f_in=2, f_out=1, batch=2)
    q, design, right = 0.3, [], []
    for i, now in enumerate(np.eye(3)):
        scale, step = (1.0 / q, now - np.eye(3)[i - 1]) if i else (ALPHA, now)
        design += [np.kron(step, np.sqrt(scale) * np.eye(2)), np.kron(now, np.sqrt(KAPPA) * x[i])]
        right += [np.sqrt(scale) * w0[:, 0] * (i == 0), np.sqrt(KAPPA) * y[i, :, 0]]
    a, b = np.vstack(design), np.concatenate(right)
    w, p = rls.kalman(x, y, w0, ALPHA, 1.0, KAPPA, q)
    assert_allclose(w[:, 0], np.linalg.solve(a.T @ a, a.T @ b)[-2:])
    assert_allclose(p - q * np.eye(2), np.linalg.inv(a.T @ a)[-2:, -2:], atol=1e-13)
    by_ekf = blocks(x, y, w0, rls.jacobian_step, forgetting=0.9, kappa=KAPPA, q=q)
    same(rls.kalman(x, y, w0, ALPHA, 0.9, KAPPA, q), by_ekf)


@pytest.mark.parametrize("lam", [1.0, 0.9])
def test_five_strategies_give_the_same_weights(lam):
    """(0, fact 1) On a linear model; `outputs` on a linear leaky network, its step by a."""
    x, y, w0 = regression(f_in=3)
    options = {"forgetting": lam, "kappa": KAPPA}
    wanted, p_wanted = rls.ridge(x, y, w0, ALPHA, lam, KAPPA)
    same(blocks(x, y, w0, rls.block_update, **options), (wanted, p_wanted))
    same(blocks(x, y, w0, rls.grad_step, **options), (wanted, p_wanted))
    a, w, p = 0.5, w0, np.eye(3) / ALPHA
    for r, c in zip(x / a, y / a, strict=True):
        rates, data = (1 - a) * r + a * r @ w, (1 - a) * r + a * c
        w, p = rls.block_update(w, p, a * r, rates - data, **options)
    same((w, p), (wanted, p_wanted))
    theta, node, whole, columns = *[w0.ravel()] * 3, list(np.arange(9).reshape(3, 3).T)
    big, small, single = np.eye(9) / ALPHA, [np.eye(3) / ALPHA] * 3, [np.eye(9) / ALPHA]
    for xi, yi in zip(x, y, strict=True):
        h, e = np.kron(xi, np.eye(3)), [(xi @ v.reshape(3, 3) - yi).ravel() for v in (theta, node)]
        theta, big = rls.jacobian_step(theta, big, h, e[0], **options)
        node, small = rls.scaled_jacobian_step(node, small, h, e[1], columns, **options)
        whole, single = rls.scaled_jacobian_step(whole, single, h, e[0], [np.arange(9)], **options)
    same([theta, node, whole], [wanted.ravel()] * 3, 1e-9)
    same([big, *small, *single], [np.kron(p_wanted, np.eye(3)), *[p_wanted] * 3, big])


def test_one_block_update():
    """(1) Error after it, new P in the gain, opposite samples teach (0, fact 5), clipped `grad`."""
    (x, *_), (y, *_), w0 = regression()
    e, lam = x @ w0 - y, 0.9
    w, p = rls.block_update(w0, np.eye(4) / ALPHA, x, e, lam, KAPPA)
    s = lam / KAPPA * np.eye(6) + x @ x.T / ALPHA
    assert_allclose(x @ w - y, lam / KAPPA * np.linalg.inv(s) @ e, atol=1e-13)
    assert_allclose(w0 - w, KAPPA * p @ x.T @ e, atol=1e-13)
    row, pair = x[0], np.stack([x[0], -x[0]])
    w, p = rls.block_update(w0, np.eye(4), pair, pair @ (w0 - 1.0))
    assert_allclose(row @ (w - 1.0), row @ (w0 - 1.0) / (1 + 2 * row @ row))
    assert_allclose(np.linalg.inv(p), np.eye(4) + 2 * np.outer(row, row), atol=1e-11)
    change = rls.grad_step(w0, np.eye(4), x, e, lr=0.5, clip=0.01)[0] - w0
    assert_allclose(np.sqrt(((x @ change) ** 2).mean()), 0.01)


@pytest.mark.parametrize(("lam", "bound"), [(1.0, 1.01), (0.999, 1.04), (0.95, 7.7)])
def test_cyclic_rows_bound_p(lam, bound):
    """(5.2, 5.4) n = 64, rank 4: r = 1 as the table (1.03, 7.3); r = n, the prior; 0, `ridge`."""
    rng, n, steps = np.random.default_rng(1), 64, 320
    x, y = rng.normal(size=(steps, 1, 4)) @ rng.normal(size=(4, n)), np.zeros((steps, 1, 1))
    w0 = rng.normal(size=(n, 1))
    _, p, index = rls.regularised(x, y, w0, 1.0, lam, 1.0, rows=1)
    assert 0.9 < np.linalg.eigvalsh(p)[-1] < bound and index == steps % n
    _, p, _ = rls.regularised(x, y, w0, 1.0, lam, 1.0, rows=n)
    assert_allclose(np.linalg.eigvalsh(p)[-1], 1.0)
    assert_allclose(np.linalg.norm(rls.ridge(x, y, w0, 1.0, lam)[1], 2), lam**-steps, rtol=1e-4)
    few = x[:20], y[:20], w0, 1.0, lam, 1.0
    same(rls.regularised(*few, rows=0)[:2], rls.ridge(*few), 1e-9)


def rnn(steps=6, batch=2):
    rng = np.random.default_rng(3)
    theta = 0.5 * rng.normal(size=(F + N + 1) * N + (N + 1) * K)
    return theta, rng.normal(size=(steps, batch, F)), rng.normal(size=(batch, N)) * 0.3


@pytest.mark.parametrize("first", [0, 2, -1])
def test_rnn_jacobian_against_finite_differences(first):
    theta, u, h0 = rnn()
    y, jacobian, last = rls.tanh_rnn_jacobian(theta, u, h0, K, first)
    assert jacobian.shape == (y.size, len(theta)) and len(y) == len(range(6)[first:])
    w_in, w_rec, b, w_out, c = rls.rnn_parameters(theta, F, N, K)
    assert_allclose(y[-1], last @ w_out + c)
    y_first = np.tanh(u[0] @ w_in + h0 @ w_rec + b) @ w_out + c
    assert_allclose(rls.tanh_rnn_jacobian(theta, u[:1], h0, K)[0][0], y_first)
    for i, direction in enumerate(np.eye(len(theta)) * 1e-5):
        up, down = (rls.tanh_rnn_jacobian(theta + s * direction, u, h0, K, first) for s in (1, -1))
        assert_allclose(jacobian[:, i], (up[0] - down[0]).ravel() / 2e-5, atol=1e-8)
    by_variable, by_node = (rls.rnn_groups(F, N, K, per_node) for per_node in (False, True))
    assert len(by_variable) == 5 and len(by_node) == N + K
    same([np.sort(np.hstack(g)) for g in (by_variable, by_node)], [np.arange(len(theta))] * 2)
    assert_allclose(theta[by_node[1]], [*w_in[:, 1], *w_rec[:, 1], b[1]])
    assert_allclose(theta[by_node[N + 2]], [*w_out[:, 2], c[2]])


@pytest.mark.parametrize("per_node", [None, False, True])
def test_ekf_trains_the_rnn(per_node):
    """(3) jacobian (None: one group, both forms the same) and decoupled, on a teacher's outputs."""
    theta, u, h0 = rnn(steps=12, batch=4)
    target = rls.tanh_rnn_jacobian(theta, u, h0, K)[0]
    whole = learned = theta + 0.3 * np.random.default_rng(0).normal(size=len(theta))
    groups = rls.rnn_groups(F, N, K, per_node) if per_node is not None else [np.arange(58)]
    p, ps, losses = np.eye(len(theta)), [np.eye(len(g)) for g in groups], []
    for _ in range(8):
        y, h, _ = rls.tanh_rnn_jacobian(learned, u, h0, K)
        e = (y - target).ravel()
        losses.append((e**2).mean())
        whole, p = rls.jacobian_step(whole, p, h, e, 0.99, 1.0, 1e-4)
        learned, ps = rls.scaled_jacobian_step(learned, ps, h, e, groups, 0.99, 1.0, 1e-4)
    assert losses[-1] < 0.02 * losses[0], losses
    if per_node is None:
        same([learned, ps[0]], [whole, p], 1e-9)


def network(n=100, seed=6, g=1.3):
    rng = np.random.default_rng(seed)
    m = g * rng.normal(size=(n, n)) / np.sqrt(n)
    return rng, m, rng.uniform(-1, 1, (1, n)), np.zeros((n, 1)), 0.5 * rng.normal(size=n)


def sine(steps, period=100.0):
    return 0.8 * np.sin(2 * np.pi * np.arange(steps) / period)[:, None]


def late_error(run):  # of 6600 steps, free for the last 600; the target's rms is .57
    return np.sqrt(((run.z - sine(6600))[6000:] ** 2).mean())


def test_force_learns_a_sine():
    """(2.1, 2.2) And P, steps, the first update; parallel trials as one block."""
    _, m, w_f, w0, x = network()
    assert late_error(rls.force_internal(m, w0, x, sine(6600), 1.0, LEARN)) < 0.1
    assert late_error(rls.force_output(m, w_f, w0, x, sine(6600), 1.0, LEARN)) < 0.1
    run = rls.force_output(m, w_f, w0, x, sine(200), 2.0)
    assert_allclose(np.linalg.inv(run.p), 2 * np.eye(100) + run.r[1::2].T @ run.r[1::2], atol=1e-9)
    moved = 0.9 * np.arctanh(run.r) + 0.1 * (run.r @ m + run.z @ w_f)
    assert_allclose(run.r[1:], np.tanh(moved)[:-1])
    two = rls.force_output(m, w_f, w0, x, sine(2))
    for gain in (two.r[1] / (1 + two.r[1] @ two.r[1]), two.p @ two.r[1]):  # z = 0
        assert_allclose(two.w[:, 0], sine(2)[1] * gain)
    f = np.stack([sine(3), sine(3, 50), sine(3, 40)], axis=1)
    run = rls.force_output(m, w_f, w0, np.stack([x, -0.5 * x, 0.1 * x]), f, learn=3)
    same((run.w, run.p), rls.ridge([run.r[2]], [f[2]], w0))


def test_internal_force_shared_is_sparse_with_all():
    """(2.3) Full fan-in collapses to one P; else a unit's weights outside its fan-in stay."""
    rng, m, _, w0, x = network(n=16)
    f, errors = sine(60), rng.normal(size=(1, 16))
    shared = rls.force_internal(m, w0, x, f, errors=errors)
    full = rls.force_sparse(m, np.ones((16, 16)), w0, x, f, errors=errors)
    same([*full[:4], full.p[0], full.p[1][3]], [*shared[:5], shared.p], 1e-9)
    assert_allclose(shared.m - m, (shared.w - w0) @ errors, atol=1e-12)
    mask = rng.random((16, 16)) < 0.4
    mask[:, 2] = False
    sparse = rls.force_sparse(m, mask, w0, x, f)
    assert ((sparse.m != m) == mask).all() and np.abs(sparse.m - shared.m).max() > 1e-3
    s, r = np.flatnonzero(mask[:, 5]), sparse.r[1::2]
    same([sparse.p[1][5]], [np.linalg.inv(np.eye(len(s)) + r[:, s].T @ r[:, s])], 1e-9)


@pytest.mark.parametrize("first", [True, False])
def test_full_force_learns_a_sine(first):
    """(2.4) Also: it is `inputs` RLS with the target [current | f_out]; one step by hand."""
    rng, j_d, u_out, _, x = network()
    private, shared = sine(6600) @ u_out, rng.normal(size=(150, 100))
    run = rls.full_force(j_d, private, 0 * private, sine(6600), x, x, 0.1, 1.0, LEARN, first)
    assert late_error(run) < 0.1
    run = rls.full_force(j_d, private[:150], shared, sine(150), x, -x, 0.1, 1.0, 1, first)
    wanted = np.hstack([run.extra @ j_d + private[:150], sine(150)])
    same([np.hstack(run[1::-1]), run.p], rls.ridge([run.r], [wanted], np.zeros((100, 101))), 1e-8)
    idle = rls.full_force(j_d, private[:9], shared[:9], sine(9), x, -x, learn=99, first=first)
    assert_allclose(idle.r[int(first)], np.tanh(-0.9 * x + 0.1 * shared[0]))
    moved = 0.9 * x + 0.1 * (np.tanh(x) @ j_d + private[0] + shared[0])
    assert_allclose(idle.extra[int(first)], np.tanh(moved))


def generated(n=20, steps=300, a=0.1, u=0.0):
    _, m, _, _, h = network(seed=7, n=n, g=1.8)
    data = np.zeros((steps, n))
    for t in range(steps):
        data[t], h = np.tanh(h), (1 - a) * h + a * (np.tanh(h) @ m + u)
    return data, m, np.random.default_rng(2).normal(size=(n, n)) / np.sqrt(n)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("regressor", ["current", "previous"])
def test_curbd_fits(regressor, offset):
    """(2.5) Better over runs; then one tick, at step 2, by hand."""
    data, _, j = generated()
    noise, options = np.zeros((8, 301, 20)), {"regressor": regressor, "offset": offset}
    h0, end = np.arctanh(data[0]), 300 + offset
    runs = [rls.curbd(data, j, xi, 0.1, h0=h0, **options)[2] for xi in (noise[:1], noise)]
    once, fit = (rls.p_var(data, r[offset:end]) for r in runs)
    assert fit > 0.9 and fit > once
    new, p, r = rls.curbd(data, j, noise[:1, :3] + 0.1, 0.1, 2, 0.5, **options)
    assert_allclose(r[1], np.tanh(0.9 * data[0] + 0.1 * (np.tanh(data[0]) @ j + 0.1)))
    x, e = r[2:] if regressor == "current" else r[1:2], r[2:] - data[1 - offset]
    same((new, p), rls.ridge([x], [x @ j - e], j, 2.0))


def test_curbd_current_is_exact():
    data, m, j = generated(n=8, u=0.3)
    found, _ = rls.curbd_current(data, j, 0.1, 0.3, alpha=1e-10, clip=1 - 1e-15)
    assert_allclose(data[:-1] @ found, data[:-1] @ m, atol=1e-7)
    thrice, once = (rls.curbd_current(data, j, 0.1, 0.2, a, n) for a, n in ((3, 3), (1, 1)))
    same(thrice, (once[0], once[1] / 3), 1e-9)


def test_curbd_own_current_follows():
    """Learning after every step takes the network, which J alone does not, along the data; one
    update of all steps is ridge regression on what the network did."""
    data, m, j = generated(n=8, u=0.3)
    a, u = 0.1, np.full(data.shape, 0.3)
    u[0] = np.arctanh(data[0]) / a

    def alone(weights):
        h = np.zeros((len(data) + 1, 8))
        for t in range(len(data)):
            h[t + 1] = (1 - a) * h[t] + a * (np.tanh(h[t]) @ weights + u[t])
        return np.tanh(h)

    assert_allclose(alone(m)[1:], data, atol=1e-12)
    new, p = rls.curbd_own_current(data, j, u, a, len(data), 0.7)
    h_star = np.vstack([np.zeros(8), np.arctanh(np.clip(data, -0.999, 0.999))])
    c_star = (h_star[1:] - (1 - a) * h_star[:-1]) / a
    same((new, p), rls.ridge([alone(j)[:-1]], [c_star - u], j, 0.7), 1e-9)
    found, _ = rls.curbd_own_current(data, j, u, a, 1, 1e-2, passes=5)
    before, after = (np.abs(alone(each)[1:] - data).mean() for each in (j, found))
    assert after < 0.05 * before


def test_spiking_force_orders():
    """(0.10, 2.6) Both fit a sine of 5 Hz at a small P0, only the exact order does at P0 = dt."""
    rng, dt, n, t = np.random.default_rng(0), 5e-4, 100, np.arange(3000)
    omega = 0.04 * rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.1) / (0.1 * np.sqrt(n))
    e, v, f = 10 * rng.uniform(-1, 1, (1, n)), -65 + 95 * rng.random(n), sine(3000, 400.0) / 0.8
    learn, lif, errors = (t > 400) & rls.learning_steps(5, 3000), (dt, 0.01, 4, -65, -40, -40), {}
    for p0, order in ((0.1 * dt, "exact"), (0.1 * dt, "old"), (dt, "old"), (dt, "exact")):
        run = rls.spiking_force(omega, e, v, f, p0, learn, order, lif=lif)
        errors[p0, order] = np.sqrt(((run.z - f)[1500:] ** 2).mean())
    assert errors.pop((dt, "old")) > 100 and max(errors.values()) < 0.25
    assert 10 < run.extra.mean() / dt < 40


@pytest.mark.parametrize("tau_r", [0.002, 0.0])
@pytest.mark.parametrize("order", ["exact", "old"])
def test_spikes_by_hand(tau_r, order):
    """(2.6) Unit 0 fires at step 0 only, unit 1 then as often as it may; one update, at the end."""
    lif, taus, k = (5e-4, 0.01, 4, -65, -40, -40), (0.02, tau_r), np.arange(8)
    omega, v, e = np.array([[0.0, 300.0], [0.0, 0.0]]), np.array([-39.0, -65.0]), np.zeros((1, 2))
    run = rls.spiking_force(omega, e, v, np.ones((8, 1)), 0.1, 8, order, taus, lif)
    assert run.extra[:, 0].nonzero()[0].tolist() == [0]
    assert np.diff(run.extra[:, 1].nonzero()[0]).tolist() == [5]
    d, r, last = np.exp(-5e-4 / 0.02), np.exp(-5e-4 / 0.002), run.r[7]
    double = (d**k - r**k) / (d - r) * 5e-4 / (0.002 * 0.02)
    assert_allclose(run.r[:, 0], double if tau_r else d**k / 0.02, atol=1e-12)
    scale = 1.0 if order == "old" else 1 + 0.1 * last @ last
    assert_allclose(run.w[:, 0], 0.1 * last / scale)
