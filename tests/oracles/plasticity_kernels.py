"""Kernel STDP and its delay-adjusted forms in float64; shapes, units: `plasticity_rules`."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, isnan
from typing import Any

import numpy as np

from .plasticity import Array, event_age
from .plasticity_rules import Terms, per_synapse, select, signal

Kernel = Callable[[float], float]  # of t_post - t_pre in ms
GATES = ("none", "own", "either", "arrival")


def causal_kernel(eta: float, tau: float) -> Kernel:
    """eta exp(-|t| / tau) for t >= 0, else 0; eta has its sign."""
    return lambda t: eta * exp(-abs(t) / tau) if t >= 0 else 0.0


def anticausal_kernel(eta: float, tau: float) -> Kernel:
    """eta exp(-|t| / tau) for t < 0, else 0; eta has its sign."""
    return lambda t: eta * exp(-abs(t) / tau) if t < 0 else 0.0


def kernel_stdp(
    pre: Array,
    post: Array,
    *,
    kernel_post: Kernel,
    kernel_pre: Kernel,
    gate: str,
    dt: float = 1.0,
    delays: Array | None = None,
    reward: Array | float | None = None,
    scale: float = 1.0,
    mask: Array | None = None,
) -> Terms:
    """gamma M K(t_D) of both kernels, t_D = t_post - t_pre - delay of the last spikes of both.

    Each value goes to pos or neg by its sign. Nothing happens before both neurons have spiked.
    |t_D| < 1e-9 ms is 0: rounding errors shall not make a causal pair an anticausal one.
    With `delays` [P, N] or [T, P, N] it is the delay-adjusted rule, of weights or of delays.

    Args:
        gate: when kernels act. "none": at every step, as the reference does. "own": kernel_post
            at postsynaptic and kernel_pre at presynaptic spikes. "either": both at either.
            "arrival": as "own", for the spikes that have arrived, one delay after their emission.
    """
    if gate not in GATES:
        raise ValueError(f"no gate {gate!r}")
    i_pre, i_post = per_synapse(pre, post)
    lag = np.zeros(i_pre.shape)
    if delays is not None and gate == "arrival":
        i_pre = select(i_pre, delays, dt)
    elif delays is not None:
        lag += np.asarray(delays, np.float64)[..., None, :, :]
    age_pre, age_post = (event_age(x, dt=dt, initial="nan") for x in (i_pre, i_post))
    m = signal(reward, scale, *i_pre.shape[:2])
    pos, neg = np.zeros(i_pre.shape), np.zeros(i_pre.shape)
    for at in np.ndindex(i_pre.shape):
        t_delta = float(age_pre[at] - age_post[at] - lag[at])
        t_delta = 0.0 if abs(t_delta) < 1e-9 else t_delta
        if isnan(t_delta) or (mask is not None and not mask[at[2:]]):
            continue
        any_spike = bool(i_pre[at] or i_post[at])
        for kernel, spike in ((kernel_post, i_post[at]), (kernel_pre, i_pre[at])):
            if gate == "none" or (any_spike if gate == "either" else spike):
                value = float(m[at[:2]]) * kernel(t_delta)
                (pos if value >= 0 else neg)[at] += abs(value)
    return Terms(pos, neg)


def delay_adjusted_stdp(
    pre: Array,
    post: Array,
    delays: Array,
    *,
    lr_pos: float,
    lr_neg: float,
    tc_pos: float,
    tc_neg: float,
    gate: str,
    **settings: Any,
) -> Terms:
    """Weights: rate and tau pos for t_D >= 0, neg for t_D < 0 (signed rates); see `kernel_stdp`.

    With `reward` it is the modulated rule.
    """
    late, early = causal_kernel(lr_pos, tc_pos), anticausal_kernel(lr_neg, tc_neg)
    settings.update(kernel_post=late, kernel_pre=early, gate=gate, delays=delays)
    return kernel_stdp(pre, post, **settings)


def delay_adjusted_stdpd(
    pre: Array,
    post: Array,
    delays: Array,
    *,
    lr_neg: float,
    lr_pos: float,
    tc_neg: float,
    tc_pos: float,
    gate: str,
    **settings: Any,
) -> Terms:
    """Delays: rate and tau neg for t_D >= 0, pos for t_D < 0 (signed rates); see `kernel_stdp`.

    With `reward` it is the modulated rule.
    """
    late, early = causal_kernel(lr_neg, tc_neg), anticausal_kernel(lr_pos, tc_pos)
    settings.update(kernel_post=late, kernel_pre=early, gate=gate, delays=delays)
    return kernel_stdp(pre, post, **settings)
