"""The textbook forward form of e-prop in float64: per-synapse traces, stepped forward in time.

Equation numbers are the sections of the specification of e-prop. Arrays are time-major [T, B, .];
weights are presynaptic-first. Synapses are laid along one axis P = F + N + 1: the inputs, the
recurrent spikes (with weights 0 if there are none) and a constant 1, whose weight is the bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Maybe = np.ndarray | None
Signal = tuple[float, Array]  # loss, and its derivative by y or z


@dataclass(frozen=True, eq=False)
class Population:
    """LIF (beta 0) and ALIF neurons (1.1); numbers broadcast to [N].

    `threshold` is v_th, what a reset subtracts and the unit of s; `zeta` is the gain of the whole
    current, the bias too; `refractory_steps` is n_ref, n_ref - 1 steps are blocked after a spike.
    With `keep_reset` eps_v knows the reset (SnAp-1), without it does not (e-prop).
    """

    alpha: Any
    rho: Any = 0.0
    beta: Any = 0.0
    threshold: Any = 1.0
    zeta: Any = 1.0
    refractory_steps: Any = 0
    dampening: Any = 0.3
    keep_reset: bool = False


@dataclass(frozen=True, eq=False)
class Record:
    """A run: v, a, z, psi and z_prev = z(t-1) of every step, [T, B, N] each.

    `state` is what it ends in: v, a, z and the refractory counter, [4, B, N].
    """

    population: Population
    x: Array
    v: Array
    a: Array
    z: Array
    psi: Array
    z_prev: Array
    state: Array


@dataclass(frozen=True, eq=False)
class Readouts:
    """Constants of the readouts, broadcast to [K]. `bias_gain` is used inside the integrator."""

    kappa: Any
    gain: Any = 1.0
    bias_inside: bool = False
    bias_gain: Any = 1.0


@dataclass(frozen=True, eq=False)
class Traces:
    """Traces after a step (1.3, 1.5), by M distinct pairs (kappa, g) where they are filtered.

    eps_v, eps_a, e (unfiltered) are [B, P, N], e_bar is [M, B, P, N], z_bar = F_kappa(z) is
    [M, B, N] and one_bar = dy/db of the readout bias is [K].
    """

    eps_v: Array
    eps_a: Array
    e: Array
    e_bar: Array
    z_bar: Array
    one_bar: Array


def _spikes(p: Population, v: Array, a: Array, counter: Array) -> tuple[Array, Array]:
    """z (1.1), strict, and the triangular psi (1.2); both 0 while refractory."""
    adaptive, allowed = p.threshold + p.beta * a, counter == 0
    s = (v - adaptive) / p.threshold
    psi = p.dampening / p.threshold * np.maximum(0.0, 1.0 - np.abs(s)) * allowed
    return (v > adaptive) * allowed * 1.0, psi


def simulate(
    population: Population, w_in: Array, w_rec: Maybe, bias: Maybe, x: Array, state: Maybe = None
) -> Record:
    """Run (1.1): x [T, B, F], w_in [F, N], w_rec [N, N] (diagonal ignored), bias [N], state."""
    p, units, rows = population, w_in.shape[1], []
    v, a, z, counter = np.zeros((4, x.shape[1], units)) if state is None else state
    masked = np.zeros((units, units)) if w_rec is None else w_rec * (1.0 - np.eye(units))
    for x_now in x:
        z_prev, current = z, x_now @ w_in + z @ masked + (0.0 if bias is None else bias)
        v = p.alpha * v + p.zeta * current - p.threshold * z_prev
        a = p.rho * a + z_prev
        z, psi = _spikes(p, v, a, counter)
        counter = np.clip(counter + np.multiply(p.refractory_steps, z) - 1, 0, p.refractory_steps)
        rows.append((v, a, z, psi, z_prev))
    series = (np.stack(column) for column in zip(*rows, strict=True))
    return Record(p, x, *series, state=np.stack((v, a, z, counter)))


def readout(readouts: Readouts, w_out: Array, bias: Maybe, z: Array, y0: Maybe = None) -> Array:
    """Leaky readout (1.1), y [T, B, K].

    Inside the integrator the bias enters as `bias_gain` * bias, not scaled by `gain`, as in (1.1).
    `y0` [B, K] is the integrator before the first step: the last y, less a bias that is outside.
    """
    r, bias = readouts, np.zeros(w_out.shape[1]) if bias is None else bias
    y, rows = 0.0 if y0 is None else y0, []
    for z_now in z:
        y = r.kappa * y + r.gain * (z_now @ w_out) + (r.bias_gain * bias if r.bias_inside else 0.0)
        rows.append(y if r.bias_inside else y + bias)
    return np.stack(rows)


def _filters(readouts: Readouts, outputs: int) -> tuple[Array, Array, Array]:
    """Distinct pairs (kappa [M], gain [M]) and which of them each readout uses, one-hot [M, K]."""
    pairs = [np.broadcast_to(np.float64(c), outputs) for c in (readouts.kappa, readouts.gain)]
    (kappa, gain), index = np.unique(np.stack(pairs), axis=1, return_inverse=True)
    return kappa, gain, np.eye(len(kappa))[:, index.ravel()]


def _presynaptic(record: Record) -> tuple[Array, Array]:
    """p(t) of all synapses [T, B, P] and which synapses exist [P, N] (no autapses)."""
    ones, units, inputs = np.ones_like(record.z[:, :, :1]), record.z.shape[2], record.x.shape[2]
    exists = np.ones((inputs + units + 1, units))
    exists[inputs:-1] -= np.eye(units)
    return np.concatenate([record.x, record.z_prev, ones], axis=2), exists


def trace_steps(
    record: Record, readouts: Readouts, outputs: int, start: Traces | None = None
) -> Iterator[Traces]:
    """Step (1.3) and F_kappa(z) of (1.5) from `start` (default 0) through a run."""
    p, (kappa, gain, _) = record.population, _filters(readouts, outputs)
    presynaptic, exists = _presynaptic(record)
    zero = np.zeros((*presynaptic.shape[1:], record.z.shape[2]))
    filtered = np.zeros((len(kappa), *zero.shape))
    now = start or Traces(zero, zero, zero, filtered, filtered[:, :, 0], np.zeros(outputs))
    kappa, gain = kappa[:, None, None], gain[:, None, None]
    for t, z in enumerate(record.z):
        eps_v = p.alpha * now.eps_v + p.zeta * presynaptic[t][:, :, None] * exists
        eps_v = eps_v - p.threshold * now.e * p.keep_reset
        eps_a = p.rho * now.eps_a + now.e
        e = record.psi[t][:, None, :] * (eps_v - p.beta * eps_a)
        e_bar = kappa[..., None] * now.e_bar + gain[..., None] * e
        z_bar = kappa * now.z_bar + gain * z
        inside = readouts.kappa * now.one_bar + readouts.bias_gain
        one_bar = inside if readouts.bias_inside else np.ones(outputs)
        now = Traces(eps_v, eps_a, e, e_bar, z_bar, one_bar)
        yield now


def _terms(now: Traces, err: Array, b: Array, uses: Array) -> tuple[Array, Array, Array]:
    """By example, for err [B, K]: sum_m L_j e-bar (1.4), and (1.5) for w_out and its bias."""
    signals = np.einsum("bk,mk,nk->mbn", err, uses, b)
    hidden = (signals[:, :, None, :] * now.e_bar).sum(axis=0)
    return hidden, np.einsum("bk,mk,mbn->bnk", err, uses, now.z_bar), err * now.one_bar


def _by_kind(flat: Array, inputs: int) -> dict[str, Array]:
    """Gradients [P, N] by the kind of synapse."""
    return {"input": flat[:inputs], "recurrent": flat[inputs:-1], "bias": flat[-1]}


def traces(
    record: Record,
    readouts: Readouts,
    err: Array,
    b: Array,
    dz: Maybe = None,
    dv: Maybe = None,
    start: Traces | None = None,
) -> tuple[dict[str, Array], Traces]:
    """Gradients of e-prop (1.3-1.6), summed over time and batch, and the last traces.

    `err` [T, B, K] is dE/dy(t) with all factors such as 1 / (B T); `b` [N, K] the feedback, w_out
    itself for symmetric e-prop. `dz` and `dv` [T, B, N] are direct gradients of regularisers to
    spikes (they multiply the unfiltered e) and to v (eps_v). `start`: traces before the first step.

    Returns gradients input [F, N], recurrent [N, N] (without w_rec: at 0), bias [N], w_out [N, K],
    readout_bias [K]; and the traces.
    """
    uses, now, totals = _filters(readouts, b.shape[1])[2], start, [0.0] * 3
    for t, now in enumerate(trace_steps(record, readouts, b.shape[1], start)):
        terms = list(_terms(now, err[t], b, uses))
        if dz is not None:
            terms[0] = terms[0] + dz[t][:, None, :] * now.e
        if dv is not None:
            terms[0] = terms[0] + dv[t][:, None, :] * now.eps_v
        totals = [total + term.sum(axis=0) for total, term in zip(totals, terms, strict=True)]
    heads = {"w_out": totals[1], "readout_bias": totals[2]}
    return {**_by_kind(totals[0], record.x.shape[2]), **heads}, now


def _shares(mask: Maybe, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Mask as booleans [T, B, 1] (default all), and that over an example's number of real steps."""
    real = np.ones(shape[:2], bool) if mask is None else np.asarray(mask).astype(bool)
    if real.shape != shape[:2] or not real.any(axis=0).all():
        raise ValueError("a mask of another shape, or an example without a real step")
    return real[:, :, None], (real / real.sum(axis=0))[:, :, None]


def squared_error_signal(y: Array, target: Array, mask: Maybe = None) -> Signal:
    """Mean over examples of the mean over their real steps of 1/2 sum_k (y - y*)^2; (loss, err)."""
    real, share = _shares(mask, y.shape)
    error = np.where(real, y - target, 0.0)
    return float((0.5 * share * error**2).sum() / y.shape[1]), share * error / y.shape[1]


def mse_signal(y: Array, target: Array, mask: Maybe = None) -> Signal:
    """Mean of (y - y*)^2 over all real elements; (loss, err)."""
    real, _ = _shares(mask, y.shape)
    error, count = np.where(real, y - target, 0.0), real.sum() * y.shape[2]
    return float((error**2).sum() / count), 2.0 * error / count


def _softmax(y: Array) -> Array:
    exponential = np.exp(y - y.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def cross_entropy_signal(y: Array, labels: Array, mask: Maybe = None, mode: str = "mean") -> Signal:
    """Softmax cross-entropy (1.4), mean over examples; (loss, err). The mask is also the window.

    "per_step": labels [B] or [T, B], mean over real steps; "mean": softmax of mean logits.
    """
    real, share = _shares(mask, y.shape)
    y, one_hot = np.where(real, y, 0.0), np.eye(y.shape[2])
    if mode == "mean":
        p, wanted = _softmax((share * y).sum(axis=0)), one_hot[labels]
        loss = -np.log((p * wanted).sum(axis=-1)).mean()
    elif mode == "per_step":
        padded = np.where(real[:, :, 0], labels, 0)
        p, wanted = _softmax(y), one_hot[padded]
        loss = -(share[:, :, 0] * np.log((p * wanted).sum(axis=-1))).sum() / y.shape[1]
    else:
        raise ValueError(f"mode {mode!r}")
    return float(loss), share * (p - wanted) / y.shape[1]


def rate_signal(z: Array, target: Any, reduction: str = "batch", mask: Maybe = None) -> Signal:
    """(1.6) 1/2 sum_j (f_j - f*)^2, f in spikes per step over the real steps; (loss, dz).

    "sample": mean over examples of each one's own penalty; "batch": of the mean of their rates.
    """
    if reduction not in ("sample", "batch"):
        raise ValueError(f"reduction {reduction!r}")
    _, share = _shares(mask, z.shape)
    rates = (share * z).sum(axis=0)
    excess = (rates.mean(axis=0, keepdims=True) if reduction == "batch" else rates) - target
    return float(0.5 * (excess**2).sum(axis=-1).mean()), share * excess / z.shape[1]


def td_errors(values: Array, rewards: Array, discount: float) -> Array:
    """(1.8) delta(t) = r(t) + gamma V(t+1) - V(t), [T, B]; V after the end is 0."""
    return rewards + discount * np.concatenate([values[1:], 0.0 * values[:1]]) - values


def actor_critic(
    record: Record,
    readouts: Readouts,
    y: Array,
    b: Array,
    actions: Array,
    rewards: Array,
    discount: float,
    value_weight: float,
) -> dict[str, Array]:
    """Reward-based e-prop (1.8), F_gamma traces of L_j e-bar; sum over time, MEAN over batch.

    y is [T, B, K + 1]: K logits of the policy, then the value; b [N, K + 1] and `readouts` follow
    that order. actions (integers) and rewards are [T, B], `value_weight` is c_V. Returns gradients
    (-dW / eta) input, recurrent, bias, policy [N, K], value [N, 1], policy_bias, value_bias.
    """
    policy = _softmax(y[:, :, :-1]) - np.eye(y.shape[2] - 1)[actions]
    err = np.concatenate([policy, np.full((*y.shape[:2], 1), -value_weight)], axis=2)
    delta, uses = td_errors(y[:, :, -1], rewards, discount), _filters(readouts, y.shape[2])[2]
    eligibility, totals = [0.0] * 3, [0.0] * 3
    for t, now in enumerate(trace_steps(record, readouts, y.shape[2])):
        for i, term in enumerate(_terms(now, err[t], b, uses)):
            eligibility[i] = discount * eligibility[i] + term
            totals[i] += np.tensordot(delta[t], eligibility[i], 1) / len(delta[t])
    flat, w, biases = totals
    by_kind = {"policy": w[:, :-1], "value": w[:, -1:], **_by_kind(flat, record.x.shape[2])}
    return {"policy_bias": biases[:-1], "value_bias": biases[-1:], **by_kind}


def kolen_pollack_step(
    w_out: Array, b: Array, gradient: Array, rate: float, decay: float
) -> tuple[Array, Array]:
    """(1.7) w_out and b take the same SGD step, then both lose the fraction `decay`; all [N, K]."""
    return (1.0 - decay) * (w_out - rate * gradient), (1.0 - decay) * (b - rate * gradient)
