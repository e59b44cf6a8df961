"""Recursive least squares, FORCE and EKF learning, written literally in float64.

Section numbers are those of the specification of RLS. Row vectors: y = x W, kernels presynaptic
first, E = prediction - target, updates subtract, P0 = I / alpha. X is [B, f_in], B all rows of one
update; time is the first axis. Rate networks that take a state x [N] also take [B, N], parallel
trials, a block of B rows each update (not `curbd`); targets are then [T, B, k].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Arr = np.ndarray
Blocks = Sequence[np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]
TAUS = (0.02, 0.002)  # tau_d, tau_r in s
LIF = (5e-5, 0.01, 40, -65.0, -40.0, -40.0)  # dt, tau_m in s, refractory steps, reset, peak, BIAS


class Force(NamedTuple):
    """A run: readout w [N, k], recurrent m [N, N], outputs z [T, k] before the update of a step,
    rates r [T, N], P; extra [T, N]: the target network's rates (full-FORCE), or the spikes."""

    w: Arr
    m: Arr
    z: Arr
    r: Arr
    p: Any
    extra: Arr | None = None


def ridge(x: Blocks, y: Blocks, w0: Arr, alpha=1.0, forgetting=1.0, kappa=1.0, weights=None):
    """(1) Minimiser of J_n for n blocks x_i [B_i, f_in], y_i [B_i, f_out]: W, and P = inverse of
    lambda^n alpha I + sum_i lambda^(n-i) kappa X_i' D_i X_i, D_i = diag(weights_i [B_i]) or I.
    `forgetting` may be [n], a lambda per block: then lambda^(n-i) is the product of the later ones.
    """
    eye, lam = np.eye(len(w0)), np.broadcast_to(np.float64(forgetting), len(x))
    information, right = lam.prod() * alpha * eye, lam.prod() * alpha * w0
    for i in range(len(x)):
        d = np.ones(len(x[i])) if weights is None else weights[i]
        information = information + lam[i + 1 :].prod() * kappa * (x[i].T * d) @ x[i]
        right = right + lam[i + 1 :].prod() * kappa * (x[i].T * d) @ y[i]
    solution = np.linalg.solve(information, np.hstack([right, eye]))
    return solution[:, : w0.shape[1]], solution[:, w0.shape[1] :]


def kalman(x: Blocks, y: Blocks, w0: Arr, alpha=1.0, forgetting=1.0, kappa=1.0, q=0.0) -> Pair:
    """Textbook covariance recursion, H = X and R = lambda / kappa, in Joseph form; then
    P / lambda + q I, as in section 3. (To measure with P / lambda, R = 1 / kappa is the same.)"""
    w, p, eye = w0, np.eye(len(w0)) / alpha, np.eye(len(w0))
    for h, yi in zip(x, y, strict=True):
        r = forgetting / kappa * np.eye(len(h))
        k = p @ h.T @ np.linalg.inv(h @ p @ h.T + r)
        w = w + k @ (yi - h @ w)
        p = ((eye - k @ h) @ p @ (eye - k @ h).T + k @ r @ k.T) / forgetting + q * eye
    return w, p


def sequential(x: Arr, error: Callable, w0: Arr, p0: Arr, forgetting=1.0, kappa=1.0) -> Pair:
    """(1) Rank-1 loop over the rows of x [n, f_in]; error(W, i) is e_i [f_out] at the current W.
    `forgetting` is per row here, so this is a block update only where it is 1."""
    w, p = w0, p0
    for i, row in enumerate(x):
        g = p @ row
        c = 1.0 / (forgetting / kappa + row @ g)
        w = w - c * np.outer(g, error(w, i))
        p = (p - c * np.outer(g, g)) / forgetting
    return w, p


def block_update(w: Arr, p: Arr, x: Arr, e: Arr, forgetting=1.0, kappa=1.0) -> Pair:
    """(1) Exact rank-B update, strategies `inputs` and `outputs` (3): x [B, f_in], e [B, f_out], or
    a single row of each. Returns W, P."""
    x, e = np.atleast_2d(x), np.atleast_2d(e)
    g = p @ x.T
    k = g @ np.linalg.inv(forgetting / kappa * np.eye(len(x)) + x @ g)
    return w - k @ e, (p - k @ g.T) / forgetting


def regularised(x: Blocks, y: Blocks, w0: Arr, alpha, forgetting, kappa, rows: int, index=0):
    """(5.4) Forgetting with cyclic re-regularisation, in information form. Returns W, P, index.

    Each block adds `rows` = r pseudo-rows sqrt(alpha n / r) e_i, n = dim P, i = index, index + 1..
    modulo n, going on from block to block. Chosen where 5.4 is silent: a pseudo-row has the weight
    (1 - lambda), not kappa, so that a cycle returns what lambda takes from the prior: lambda alpha
    I + (1 - lambda) alpha I = alpha I (in each block if r = n; r = 1 has the bounds of 5.2). Its
    target is e_i W of the current W: zero error, it changes W only through P_new, which has it.
    """
    n, w, information = len(w0), w0, alpha * np.eye(len(w0))
    for xi, yi in zip(x, y, strict=True):
        information = forgetting * information + kappa * xi.T @ xi
        for _ in range(rows):
            information[index, index] += (1.0 - forgetting) * alpha * n / rows
            index = (index + 1) % n
        w = w - kappa * np.linalg.solve(information, xi.T @ (xi @ w - yi))
    return w, np.linalg.inv(information), index


def learning_steps(learn: int | Arr, steps: int) -> Arr:
    """Boolean [T]: given so, or every `learn` steps, of each `learn` steps the last one (2.1)."""
    return (np.arange(steps) + 1) % learn == 0 if np.ndim(learn) == 0 else np.asarray(learn, bool)


def _force(m, w, x, target, alpha, learn, dt, w_f, errors, sources) -> Force:
    """Loop of 2.1-2.3. errors [k, N]: error e errors of the units, or None; sources: of each unit
    the units it learns from, or None if all learn from all."""
    m, r, p, rows = m.copy(), np.tanh(x), np.eye(len(m)) / alpha, []
    z, p_units = r @ w, [np.eye(len(s)) / alpha for s in sources or []]
    for f, learns in zip(target, learning_steps(learn, len(target)), strict=True):
        x = (1.0 - dt) * x + dt * (r @ m + z @ w_f)
        r = np.tanh(x)
        z = r @ w
        rows.append((z, r))
        if not learns:
            continue
        if errors is not None and sources is None:
            m, _ = block_update(m, p, r, (z - f) @ errors)
        for j, s in enumerate(sources or []):
            own = m[s, j : j + 1], p_units[j], r[..., s], ((z - f) @ errors)[..., j : j + 1]
            m[s, j : j + 1], p_units[j] = block_update(*own)
        w, p = block_update(w, p, r, z - f)
    return Force(w, m, *map(np.stack, zip(*rows, strict=True)), (p, p_units) if sources else p)


def force_output(m: Arr, w_f: Arr, w0: Arr, x: Arr, target: Arr, alpha=1.0, learn=2, dt=0.1):
    """(2.1) m [N, N], w_f [k, N], w0 [N, k], x [N], target [T, k]; z is not recomputed after an
    update, so the next step feeds back the z of the old w. The first z is tanh(x) w0."""
    return _force(m, w0, x, target, alpha, learn, dt, w_f, None, None)


def force_internal(m: Arr, w0: Arr, x: Arr, target: Arr, alpha=1.0, learn=2, dt=0.1, errors=None):
    """(2.2) No feedback; unit j learns with the error (e errors)_j, errors [k, N] = 1, by one P for
    all: m gains dw errors, which is `M + 1 dw'` for k = 1."""
    b = np.ones((w0.shape[1], len(m))) if errors is None else errors
    return _force(m, w0, x, target, alpha, learn, dt, 0.0 * b, b, None)


def force_sparse(m: Arr, mask: Arr, w0, x: Arr, target, alpha=1.0, learn=2, dt=0.1, errors=None):
    """(2.3) As 2.2, but unit j learns only from the units i with mask[i, j], by a P_j over them (if
    none, it is fixed). The readout sees all, by its own P. p is (P of the readout, [P_j])."""
    b = np.ones((w0.shape[1], len(m))) if errors is None else errors
    sources = [np.flatnonzero(column) for column in mask.T]
    return _force(m, w0, x, target, alpha, learn, dt, 0.0 * b, b, sources)


def full_force(j_d: Arr, private, shared, f_out, x_d, x, a=0.1, alpha=1.0, learn=2, first=True):
    """(2.4) private [T, N] = f_out u_out + f_hint u_hint drives the target network only, shared
    [T, N] = f_in u_in both; a = dt / tau (Euler) or 1 - exp(-dt / tau) (exponential Euler). J and W
    start at 0. `first`: a step learns and reads out at the rates it starts from, J r is fitted to
    the very current x_d integrates in this step, then both integrate, the task network with the new
    J. Otherwise it integrates, then learns and reads out at the new rates."""
    n, p, rows = len(j_d), np.eye(len(j_d)) / alpha, []
    both = np.zeros((n, n + f_out.shape[-1]))
    for t, learns in enumerate(learning_steps(learn, len(f_out))):
        for learning in (first, not first):
            r, r_d = np.tanh(x), np.tanh(x_d)
            if learning:
                rows.append((r @ both[:, n:], r, r_d))
                wanted = np.concatenate([r_d @ j_d + private[t], f_out[t]], axis=-1)
                both, p = block_update(both, p, r, r @ both - wanted) if learns else (both, p)
            else:
                x_d = x_d + a * (-x_d + r_d @ j_d + private[t] + shared[t])
                x = x + a * (-x + r @ both[:, :n] + shared[t])
    z, r, r_d = map(np.stack, zip(*rows, strict=True))
    return Force(both[:, n:], both[:, :n], z, r, p, r_d)


def curbd(data, j, noise, a, dt_factor=1, p0=1.0, h0=None, regressor="previous", offset=1) -> tuple:
    """(2.5) data [T, N] (rates), j [N, N], noise [runs, steps, N] is xi, a = dt / tau. Returns J, P
    and the rates [steps, N] of the last run; each run starts at h0 = data[0], P and J go on.

    Step t: r_t = tanh(h), h integrates with the old J, and if t > 0 is a multiple of dt_factor, J
    learns with the error r_t - data[t / dt_factor - offset] (offset 1 is published, 0 aligned). The
    regressor is r_t-1 ("previous") or r_t ("current", published; the names are those of 3).
    """
    p, rates = p0 * np.eye(len(j)), np.zeros((0, len(j)))
    for xi in noise:
        h, rates = data[0] if h0 is None else h0, np.zeros_like(xi)
        for t, noise_now in enumerate(xi):
            rates[t] = np.tanh(h)
            h = h + a * (-h + rates[t] @ j + noise_now)
            i, ticks = t // dt_factor - offset, t > 0 and t % dt_factor == 0
            if ticks and 0 <= i < len(data):
                j, p = block_update(j, p, rates[t - (regressor == "previous")], rates[t] - data[i])
    return j, p, rates


def target_currents(h: Arr, a) -> Arr:
    """(2.5) c*_t, which takes h_t to h_t+1 in a step of a = dt / tau: h [T, N] to [T - 1, N]."""
    return (h[1:] - (1 - a) * h[:-1]) / a


def curbd_current(data: Arr, j: Arr, a, u=0.0, alpha=1.0, passes=1, clip=0.999) -> Pair:
    """(2.5) Target "current": r_t J + u_t -> c*_t = (h_t+1 - (1 - a) h_t) / a, h = arctanh(clipped
    data [T, N]), r = clipped data, u [T - 1, N] or 0: exact least squares. Returns J, P."""
    r = np.clip(data, -clip, clip)
    return ridge([r[:-1]] * passes, [target_currents(np.arctanh(r), a) - u] * passes, j, alpha)


def curbd_own_current(data: Arr, j: Arr, u: Arr, a, block, alpha=1.0, passes=1, clip=0.999) -> Pair:
    """(2.5 with the regressors of 2.4) c* as in `curbd_current`, from h* = 0 before the first step
    on; the network itself starts at 0 in every pass and runs with J, which learns after every block
    of steps from r_t-1 J + u_t -> c*_t. data, u [T, N]; returns J, P."""
    h_star = np.arctanh(np.clip(data, -clip, clip))
    c_star = target_currents(np.vstack([np.zeros(len(j)), h_star]), a)
    p = np.eye(len(j)) / alpha
    for _ in range(passes):
        h = np.zeros(len(j))
        for start in range(0, len(data), block):
            rows = []
            for t in range(start, min(start + block, len(data))):
                r = np.tanh(h)
                rows.append((r, r @ j + u[t] - c_star[t]))
                h = (1 - a) * h + a * (r @ j + u[t])
            j, p = block_update(j, p, *map(np.stack, zip(*rows, strict=True)))
    return j, p


def p_var(data: Arr, rates: Arr) -> float:
    """(2.5) 1 - |A - R|_F^2 / (n T std^2), both [T, n] (rates already at the data's steps)."""
    return float(1.0 - ((data - rates) ** 2).sum() / (data.size * data.std() ** 2))


def _psc(s, h, jump, dt, tau_d, tau_r) -> Pair:
    """(2.6) Double exponential: s sees the h of before the step; tau_r = 0: single."""
    if tau_r == 0:
        return s * np.exp(-dt / tau_d) + jump / tau_d, h
    return s * np.exp(-dt / tau_r) + h * dt, h * np.exp(-dt / tau_d) + jump / (tau_r * tau_d)


def spiking_force(
    omega: Arr, e: Arr, v: Arr, target: Arr, p0, learn=50, order="exact", taus=TAUS, lif=LIF
) -> Force:
    """(2.6) omega [N, N] presynaptic first, e [k, N], v [N] at first, target [T, k]; Phi starts at
    0, P at p0 I. A spike (v >= peak) blocks that many next steps; none is blocked at first. z of a
    step drives the next one and is not recomputed. `order` "exact", or "old": Phi by P_old r."""
    dt, tau_m, refractory, v_reset, v_peak, bias = lif
    phi, p, z, rows = np.zeros((len(v), len(e))), p0 * np.eye(len(v)), np.zeros(len(e)), []
    psc = h = r = h_r = blocked = np.zeros(len(v))
    for f, learns in zip(target, learning_steps(learn, len(target)), strict=True):
        v = v + dt / tau_m * (blocked == 0) * (psc + z @ e + bias - v)
        spikes = (v >= v_peak) * 1.0
        blocked = np.where(spikes, refractory, np.maximum(blocked - 1, 0))
        psc, h = _psc(psc, h, spikes @ omega, dt, *taus)
        r, h_r = _psc(r, h_r, spikes, dt, *taus)
        z = r @ phi
        rows.append((z, r, spikes))
        if learns:
            old = phi - np.outer(p @ r, z - f)
            exact, p = block_update(phi, p, r, z - f)
            phi = {"exact": exact, "old": old}[order]
        v = np.where(spikes, v_reset, v)
    zs, rs, fired = map(np.stack, zip(*rows, strict=True))
    return Force(phi, omega, zs, rs, p, fired)


def grad_step(w: Arr, p: Arr, x: Arr, delta: Arr, forgetting=1.0, kappa=1.0, lr=1.0, clip=np.inf):
    """(3) `grad`: P by the block x [B, f_in], then dW = -lr kappa P_new x' delta, delta [B, f_out]
    the gradient of the SUM 1/2 E^2 by x W; scaled to rms(x dW) <= clip. Returns W, P."""
    p = block_update(w, p, x, delta, forgetting, kappa)[1]
    dw = -lr * kappa * p @ x.T @ delta
    return w + dw * min(1.0, clip / max(np.sqrt(((x @ dw) ** 2).mean()), 1e-300)), p


def jacobian_step(theta: Arr, p: Arr, h: Arr, e: Arr, forgetting=1.0, kappa=1.0, q=0.0) -> Pair:
    """(3) `jacobian`: theta [L], p [L, L], h [R, L], e [R] in the rows' order. Returns theta, P."""
    s = forgetting / kappa * np.eye(len(h)) + h @ p @ h.T
    k = p @ h.T @ np.linalg.inv(s)
    return theta - k @ e, (p - k @ h @ p) / forgetting + q * np.eye(len(p))


def scaled_jacobian_step(theta: Arr, ps, h: Arr, e: Arr, groups, forgetting=1.0, kappa=1.0, q=0.0):
    """(3) `scaled_jacobian`: groups [index array into theta], each its P in ps; one S of all."""
    s = forgetting / kappa * np.eye(len(h))
    for p, g in zip(ps, groups, strict=True):
        s = s + h[:, g] @ p @ h[:, g].T
    theta, new = theta.copy(), []
    for p, g in zip(ps, groups, strict=True):
        k = p @ h[:, g].T @ np.linalg.inv(s)
        theta[g] -= k @ e
        new.append((p - k @ h[:, g] @ p) / forgetting + q * np.eye(len(g)))
    return theta, new


def rnn_parameters(theta: Arr, f: int, n: int, k: int) -> list[Arr]:
    """theta [L] = W_in [F, N], W_rec [N, N], b [N], W_out [N, K], c [K], row-major, in turn."""
    parts = np.split(theta, np.cumsum([f * n, n * n, n, n * k]))
    return [a.reshape(s) for a, s in zip(parts, [(f, n), (n, n), n, (n, k), k], strict=True)]


def rnn_groups(f: int, n: int, k: int, per_node: bool) -> list[Arr]:
    """Indices into theta by variable (5 groups), or by unit and output (N + K, biases included)."""
    w_in, w_rec, b, w_out, c = rnn_parameters(np.arange((f + n + 1) * n + (n + 1) * k), f, n, k)
    if not per_node:
        return [a.ravel() for a in (w_in, w_rec, b, w_out, c)]
    return [*np.vstack([w_in, w_rec, b]).T, *np.vstack([w_out, c]).T]


def tanh_rnn_jacobian(theta: Arr, u: Arr, h: Arr, outputs: int, first=0) -> tuple[Arr, Arr, Arr]:
    """h_t = tanh(u_t W_in + h_t-1 W_rec + b), y = h W_out + c, by RTRL: d = dh/dtheta [B, N, L].

    u [T, B, F], h [B, N] (no derivative), theta as `rnn_parameters`. Returns of the steps from
    `first` (-1: the last only) y [T', B, K], H = dy/dtheta [T' B K, L] in that order; the last h.
    """
    (batch, n), f = h.shape, u.shape[2]
    w_in, w_rec, b, w_out, c = rnn_parameters(theta, f, n, outputs)
    d, rows, one = np.zeros((batch, n, len(theta))), [], np.ones((batch, 1))
    kernel = (f + n + 1) * n
    for u_now in u:
        direct = np.einsum("bp,jn->bnpj", np.hstack([u_now, h, one]), np.eye(n))
        d = np.einsum("bml,mn->bnl", d, w_rec)
        d[:, :, :kernel] += direct.reshape(batch, n, kernel)
        h = np.tanh(u_now @ w_in + h @ w_rec + b)
        d = (1.0 - h**2)[:, :, None] * d
        dy = np.einsum("bnl,nk->bkl", d, w_out)
        direct = np.einsum("bp,jk->bkpj", np.hstack([h, one]), np.eye(outputs))
        dy[:, :, kernel:] += direct.reshape(batch, outputs, -1)
        rows.append((h @ w_out + c, dy))
    y, jacobian = map(np.stack, zip(*rows[first:], strict=True))
    return y, jacobian.reshape(-1, len(theta)), h
