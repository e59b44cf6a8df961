"""Rules of spike-timing plasticity in float64, by loops over steps, samples and synapses.

Written from `shared/spec/plasticity.md` (2.1). Every rule takes spikes (0 or 1) of the presynaptic
neurons, [T, B, P] or per synapse [T, B, P, N], and of the postsynaptic ones [T, B, N], all to all
unless a `mask` [P, N] says which synapses exist, and gives `pos` and `neg` [T, B, P, N] before the
batch reduction. Times and dt are in ms. Traces have the spikes of the step itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .plasticity import (
    Array,
    cumulative_average,
    cumulative_trace,
    eligibility_trace,
)


class Terms(NamedTuple):
    """Both sides of an update, positive-valued, [T, B, P, N]; a side without a term is 0."""

    pos: Array
    neg: Array


def per_synapse(pre: Array, post: Array) -> tuple[Array, Array]:
    """Spikes as each synapse sees them, [T, B, P, N] twice."""
    pre, post = np.asarray(pre, np.float64), np.asarray(post, np.float64)
    steps, batch, neurons = post.shape
    shape = (steps, batch, pre.shape[2], neurons)
    wide, tall = np.zeros(shape), np.zeros(shape)
    for t, b, i, j in np.ndindex(shape):
        wide[t, b, i, j] = pre[t, b, i] if pre.ndim == 3 else pre[t, b, i, j]
        tall[t, b, i, j] = post[t, b, j]
    return wide, tall


def select(sequence: Array, delays: Array, dt: float = 1.0) -> Array:
    """The value `delays` ago, [T, B, P, N]; 0 before the first step.

    `sequence` is [T, B, P] or [T, B, P, N]; `delays` [P, N], or [T, P, N] if they change, are
    whole multiples of dt: ValueError otherwise.
    """
    counts = np.asarray(delays, np.float64) / dt
    if np.any(np.abs(counts - np.round(counts)) > 1e-6) or np.any(counts < -1e-6):
        raise ValueError("delays are not whole steps")
    counts = np.round(counts).astype(int)
    chosen = np.zeros((*np.shape(sequence)[:3], counts.shape[-1]))
    for t, b, i, j in np.ndindex(chosen.shape):
        source = t - (counts[i, j] if counts.ndim == 2 else counts[t, i, j])
        at = (source, b, i, j)[: np.ndim(sequence)]
        chosen[t, b, i, j] = sequence[at] if source >= 0 else 0.0
    return chosen


def signal(reward: Array | float | None, scale: float, steps: int, batch: int) -> Array:
    """gamma M as [T, B], from None (1), a number, [T] or per sample [T, B]."""
    m = np.asarray(1.0 if reward is None else reward, np.float64)
    m = m[:, None] if m.ndim == 1 else m
    return scale * np.broadcast_to(m, (steps, batch))


def route(
    dpost: Array,
    dpre: Array,
    lr_post: float,
    lr_pre: float,
    reward: Array | float | None = None,
    scale: float = 1.0,
    mask: Array | None = None,
) -> Terms:
    """Terms [T, B, P, N] (amplitudes |lr| inside) times |gamma M|, to pos where lr gamma M >= 0.

    Hebbian (+, -), anti-Hebbian (-, +), LTP (+, +) and LTD (-, -) by the signs of the rates.
    """
    pos, neg = np.zeros(dpost.shape), np.zeros(dpost.shape)
    m = signal(reward, scale, *dpost.shape[:2])
    for t, b, i, j in np.ndindex(dpost.shape):
        if mask is not None and not mask[i, j]:
            continue
        for lr, term in ((lr_post, dpost), (lr_pre, dpre)):
            side = pos if lr * m[t, b] >= 0 else neg
            side[t, b, i, j] += abs(m[t, b]) * term[t, b, i, j]
    return Terms(pos, neg)


def trace(spikes: Array, amplitude: float, tau: float, dt: float, mode: str) -> Array:
    """Trace of spikes, the amplitude by its absolute value; mode "cumulative" or "nearest"."""
    if mode not in ("cumulative", "nearest"):
        raise ValueError(f"no trace mode {mode!r}")
    nearest = mode == "nearest"
    return cumulative_trace(spikes, tau=tau, dt=dt, amplitude=abs(amplitude), nearest=nearest)


def pair_terms(
    pre: Array,
    post: Array,
    *,
    lr_post: float,
    lr_pre: float,
    tc_post: float,
    tc_pre: float,
    dt: float = 1.0,
    trace_mode: str = "cumulative",
    delays: Array | None = None,
) -> tuple[Array, Array]:
    """Dpost = i_post x_pre and dpre = i_pre x_post, [T, B, P, N] each, with |lr| inside.

    With `delays` [P, N] or [T, P, N] (learned) both i_pre and the trace x_pre of the undelayed
    spikes are read that much earlier (`delayed=True`). `delayed=False` is `select` of the spikes.
    """
    i_pre, i_post = per_synapse(pre, post)
    x_pre = trace(i_pre, lr_post, tc_pre, dt, trace_mode)
    x_post = trace(i_post, lr_pre, tc_post, dt, trace_mode)
    if delays is not None:
        i_pre, x_pre = select(i_pre, delays, dt), select(x_pre, delays, dt)
    dpost, dpre = np.zeros(i_pre.shape), np.zeros(i_pre.shape)
    for at in np.ndindex(i_pre.shape):
        dpost[at] = i_post[at] * x_pre[at]
        dpre[at] = i_pre[at] * x_post[at]
    return dpost, dpre


def pair_stdp(
    pre: Array,
    post: Array,
    *,
    lr_post: float,
    lr_pre: float,
    tc_post: float,
    tc_pre: float,
    dt: float = 1.0,
    trace_mode: str = "cumulative",
    delays: Array | None = None,
    reward: Array | float | None = None,
    scale: float = 1.0,
    mask: Array | None = None,
) -> Terms:
    """Pair STDP; x_pre has amplitude |lr_post| and tau tc_pre, x_post |lr_pre| and tc_post.

    With `reward` ([T], or per sample [T, B]) it is MSTDP: gamma M times the terms, gamma `scale`.
    """
    rates = {"lr_post": lr_post, "lr_pre": lr_pre, "tc_post": tc_post, "tc_pre": tc_pre}
    terms = pair_terms(pre, post, **rates, dt=dt, trace_mode=trace_mode, delays=delays)
    return route(*terms, lr_post, lr_pre, reward, scale, mask)


def mstdp(pre: Array, post: Array, reward: Array | float, **settings: Any) -> Terms:
    """Reward-modulated pair STDP, see `pair_stdp`."""
    return pair_stdp(pre, post, reward=reward, **settings)


def mstdpet(
    pre: Array,
    post: Array,
    reward: Array | float,
    *,
    lr_post: float,
    lr_pre: float,
    tc_post: float,
    tc_pre: float,
    tc_eligibility: float,
    dt: float = 1.0,
    scale: float = 1.0,
    dt_factor: bool = True,
    trace_mode: str = "cumulative",
    delays: Array | None = None,
    mask: Array | None = None,
) -> Terms:
    """gamma M z dt of both eligibilities z <- z exp(-dt/tau_z) + term / tau_z; z has this step.

    Without `dt_factor` the update is gamma M z.
    """
    rates = {"lr_post": lr_post, "lr_pre": lr_pre, "tc_post": tc_post, "tc_pre": tc_pre}
    terms = pair_terms(pre, post, **rates, dt=dt, trace_mode=trace_mode, delays=delays)
    z_post, z_pre = (
        eligibility_trace(x, np.ones(x.shape), tau=tc_eligibility, dt=dt) for x in terms
    )
    gamma = scale * (dt if dt_factor else 1.0)
    return route(z_post, z_pre, lr_post, lr_pre, reward, gamma, mask)


def triplet_stdp(
    pre: Array,
    post: Array,
    *,
    lr_post_pair: float,
    lr_post_triplet: float,
    lr_pre_pair: float,
    lr_pre_triplet: float,
    tc_post_fast: float,
    tc_post_slow: float,
    tc_pre_fast: float,
    tc_pre_slow: float,
    dt: float = 1.0,
    trace_mode: str = "cumulative",
    delays: Array | None = None,
    mask: Array | None = None,
) -> Terms:
    """Dpost = i_post x_a (1 + y_b a step before), dpre = i_pre y_a (1 + x_b a step before).

    Amplitudes: x_a |post pair|, y_b |post triplet / post pair|, y_a |pre pair|, x_b |pre triplet /
    pre pair|. The signs of the pair rates route. `delays` as in `pair_terms`.
    """
    i_pre, i_post = per_synapse(pre, post)
    x_a = trace(i_pre, lr_post_pair, tc_pre_fast, dt, trace_mode)
    x_b = trace(i_pre, lr_pre_triplet / lr_pre_pair, tc_pre_slow, dt, trace_mode)
    y_a = trace(i_post, lr_pre_pair, tc_post_fast, dt, trace_mode)
    y_b = trace(i_post, lr_post_triplet / lr_post_pair, tc_post_slow, dt, trace_mode)
    x_before, y_before = np.zeros(x_b.shape), np.zeros(y_b.shape)
    for t in range(1, len(x_b)):
        x_before[t], y_before[t] = x_b[t - 1], y_b[t - 1]
    if delays is not None:
        i_pre, x_a, x_before = (select(x, delays, dt) for x in (i_pre, x_a, x_before))
    dpost, dpre = np.zeros(i_pre.shape), np.zeros(i_pre.shape)
    for at in np.ndindex(i_pre.shape):
        dpost[at] = i_post[at] * x_a[at] * (1.0 + y_before[at])
        dpre[at] = i_pre[at] * y_a[at] * (1.0 + x_before[at])
    return route(dpost, dpre, lr_post_pair, lr_pre_pair, mask=mask)


def linear_homeostasis(
    post: Array,
    presynaptic: int,
    *,
    plasticity: float,
    target: Array | float,
    of_delay: bool = False,
    mask: Array | None = None,
) -> Terms:
    """k = plasticity (r* - r) / r* for every synapse onto a neuron; pos k+, neg -k- (2.1).

    r is the average number of spikes per step since the first one, per sample, and `target` r*,
    a number or [N], is in the same unit. A delay gets -k. `post` may be [T, B, L, N], for the mean
    of k over L positions. For a bias `presynaptic` (P) is 1.
    """
    rate = cumulative_average(post)
    rate = rate[:, :, None] if rate.ndim == 3 else rate
    goal = np.broadcast_to(np.asarray(target, np.float64), rate.shape[-1:])
    shape = (*rate.shape[:2], presynaptic, rate.shape[-1])
    pos, neg = np.zeros(shape), np.zeros(shape)
    for t, b, i, j in np.ndindex(shape):
        if mask is None or mask[i, j]:
            k = plasticity * np.mean((goal[j] - rate[t, b, :, j]) / goal[j])
            k = -k if of_delay else k
            pos[t, b, i, j], neg[t, b, i, j] = max(k, 0.0), max(-k, 0.0)
    return Terms(pos, neg)
