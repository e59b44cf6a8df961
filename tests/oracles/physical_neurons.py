"""Neurons in mV and ms, and synaptic currents, as plain NumPy loops in float64.

Written from section 2.2 and 2.3 of the specification, in its order: within one step a neuron that
is not refractory integrates, spikes and is reset, and then its adaptation moves. Time constants and
step in ms, potentials in mV, currents `[T, N]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray


class Record(NamedTuple):
    """What a simulation leaves: potentials before any reset, spikes, and adaptation.

    `v` and `spikes` are `[T, N]`; `adaptation` is `[T, K, N]`, after what a spike of the step adds.
    """

    v: Array
    spikes: Array
    adaptation: Array


@dataclass
class Neuron:
    """A neuron as the functions that 2.2 has columns for.

    Attributes:
      integrate: `(v, current, adaptation) -> v` of a step.
      threshold: `adaptation -> threshold`.
      reset: `v -> v` after a spike.
      decay: `(adaptation, v) -> adaptation` of a step, with the potential after any reset.
      jumps: what a spike adds to each component of the adaptation, `[K]`.
      start: potential before the first step.
    """

    integrate: Callable[[Array, Array, Array], Array]
    threshold: Callable[[Array], Any]
    reset: Callable[[Array], Any]
    start: Any
    decay: Callable[[Array, Array], Array] = lambda adaptation, v: adaptation
    jumps: Sequence[float] = ()


def simulate(neuron: Neuron, currents: Array, refractory: float, dt: float, memory: Any = 0.0):
    """Runs a neuron; its adaptation starts at `memory`, a number or `[K, N]`."""
    steps, units = currents.shape
    jumps = np.asarray(neuron.jumps, np.float64)[:, None]
    v, wait = np.broadcast_to(np.float64(neuron.start), units), np.zeros(units)
    adaptation = np.broadcast_to(np.float64(memory), [len(jumps), units])
    whole, record = math.ceil(refractory / dt - 1e-9), []
    for current in currents:
        wait = np.maximum(wait - 1, 0)
        v = np.where(wait == 0, neuron.integrate(v, current, adaptation), v)
        z = (wait == 0) & (v > neuron.threshold(adaptation))
        record.append([v, z, adaptation])
        v = np.where(z, neuron.reset(v), v)
        wait = np.where(z, whole, wait)
        adaptation = np.where(wait > 0, adaptation, neuron.decay(adaptation, v)) + jumps * z
        record[-1][2] = adaptation
    return Record(*[np.array(each, np.float64) for each in zip(*record, strict=True)])


def leaky(tau: float, rest: float, resistance: float, dt: float) -> Callable:
    """`V = [V - Vr - R I] exp(-dt / tau) + Vr + R I`."""

    def integrate(v, current, adaptation):
        settled = rest + resistance * current
        return (v - settled) * np.exp(-dt / tau) + settled

    return integrate


def lif(tau, rest, reset, threshold, resistance, dt) -> Neuron:
    """LIF and GLIF1."""
    return Neuron(
        leaky(tau, rest, resistance, dt), lambda _: threshold, lambda v: reset, start=rest
    )


def alif(tau, rest, reset, threshold, resistance, taus, jumps, dt) -> Neuron:
    """`theta_k` decays with `tau_k`; the threshold is `threshold + sum_k theta_k`."""
    rho = np.exp(-dt / np.float64(taus))[:, None]
    return Neuron(
        leaky(tau, rest, resistance, dt),
        lambda theta: threshold + theta.sum(axis=0),
        lambda v: reset,
        decay=lambda theta, v: rho * theta,
        jumps=jumps,
        start=rest,
    )


def glif2(tau, rest, scale, shift, threshold, resistance, rates, jumps, dt) -> Neuron:
    """`theta_k` decays at the rate `lambda_k`; `V = Vr + m (V - Vr) - b` after a spike."""
    rho = np.exp(-np.float64(rates) * dt)[:, None]
    return Neuron(
        leaky(tau, rest, resistance, dt),
        lambda theta: threshold + theta.sum(axis=0),
        lambda v: rest + scale * (v - rest) - shift,
        decay=lambda theta, v: rho * theta,
        jumps=jumps,
        start=rest,
    )


def qif(tau, rest, critical, a, reset, threshold, resistance, dt) -> Neuron:
    """`V += dt / tau [a (V - Vr)(V - Vc) + R I]`."""

    def integrate(v, current, adaptation):
        return v + dt / tau * (a * (v - rest) * (v - critical) + resistance * current)

    return Neuron(integrate, lambda _: threshold, lambda v: reset, start=rest)


def adex(
    tau, rest, rheobase, sharpness, reset, threshold, resistance, taus, couplings, jumps, dt
) -> Neuron:
    """`V += dt / tau [-(V - Vr) + D exp((V - V_T) / D) + R (I - sum_k w_k)]`; EIF without any w.

    `w_k += dt / tau_k [a_k (V - Vr) - w_k]`, with V after the reset.
    """
    tau_w, a = np.float64(taus)[:, None], np.float64(couplings)[:, None]

    def integrate(v, current, w):
        spike = sharpness * np.exp((v - rheobase) / sharpness)
        return v + dt / tau * (rest - v + spike + resistance * (current - w.sum(axis=0)))

    return Neuron(
        integrate,
        lambda _: threshold,
        lambda v: reset,
        decay=lambda w, v: w + dt / tau_w * (a * (v - rest) - w),
        jumps=jumps,
        start=rest,
    )


def delta(x: Array, charge: float, dt: float) -> Array:
    """`I = Q / dt x`."""
    return charge / dt * x


def single_exponential(x: Array, charge: float, tau: float, dt: float) -> Array:
    """`I <- I exp(-dt / tau) + Q / tau x`."""
    current, found = np.zeros(x.shape[1:]), []
    for now in x:
        current = current * np.exp(-dt / tau) + charge / tau * now
        found.append(current)
    return np.array(found)


def double_exponential(x: Array, charge: float, rise: float, decay: float, dt: float) -> Array:
    """`I = I_d - I_r`, to each of which a spike adds `Q / (tau_d - tau_r)`."""
    slow, fast, found = np.zeros(x.shape[1:]), np.zeros(x.shape[1:]), []
    for now in x:
        slow = slow * np.exp(-dt / decay) + charge / (decay - rise) * now
        fast = fast * np.exp(-dt / rise) + charge / (decay - rise) * now
        found.append(slow - fast)
    return np.array(found)
