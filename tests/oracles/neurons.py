"""Neurons as plain functions of a parameter record: `initial_state`, `step`, `output`.

A state is a dictionary of Duals [B, N]. The output z is a function of the state, and the step from
t-1 to t takes the state of t-1, the output z(t-1) and the current I(t).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import surrogates
from .dual import Dual, chain, concatenate, dual, exp, stop_gradient, tanh

State = dict[str, Dual]
VARIABLES = {
    "lif": ("v", "q"),
    "alif": ("v", "a", "q"),
    "leaky_integrator": ("v",),
    "leaky_tanh": ("v",),
}
TRAINABLE = ("tau", "tau_adaptation", "threshold", "beta")


@dataclass(frozen=True, eq=False)
class Neuron:
    """Parameters of N neurons; numbers may be scalars or [N], the `TRAINABLE` ones Duals too.

    Attributes:
        kind: "lif", "alif", "leaky_integrator", "leaky_tanh" or "mixed".
        tau: membrane time constant in ms; the decay is alpha = exp(-dt / tau).
        tau_adaptation: time constant of a in ms ("alif"); rho = exp(-dt / tau_adaptation).
        threshold: in units of v; also the normaliser of s and what a reset subtracts.
        beta: threshold increase per unit of a ("alif").
        dt: step in ms.
        zeta: gain of the current: "one" or "one_minus_decay" (1 - alpha).
        refractory_steps: n_ref; n_ref - 1 steps are blocked after a spike.
        reset: "subtract", "zero" or "none".
        reset_timing: "next" (not leaked) or "same" (acts in the spike's step, remainder leaks).
        reset_gradient: whether the z(t-1) of the reset term carries a tangent.
        surrogate: a name of `surrogates.NAMES`.
        dampening: peak of the surrogate.
        slope: steepness of the surrogate.
        parts: for "mixed" only: pairs (number of neurons, Neuron), in order.
    """

    kind: str = "lif"
    tau: Any = 20.0
    tau_adaptation: Any = 200.0
    threshold: Any = 1.0
    beta: Any = 0.0
    dt: float = 1.0
    zeta: str = "one"
    refractory_steps: Any = 0
    reset: str = "subtract"
    reset_timing: str = "next"
    reset_gradient: bool = True
    surrogate: str = "triangular"
    dampening: Any = 0.3
    slope: Any = 1.0
    parts: tuple[tuple[int, Neuron], ...] = ()

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        allowed = {
            "kind": (*VARIABLES, "mixed"),
            "zeta": ("one", "one_minus_decay"),
            "reset": ("subtract", "zero", "none"),
            "reset_timing": ("next", "same"),
            "surrogate": surrogates.NAMES,
        }
        for field, names in allowed.items():
            if getattr(self, field) not in names:
                raise ValueError(f"{field} {getattr(self, field)!r} is none of {names}")
        if (self.kind == "mixed") != bool(self.parts):
            raise ValueError("'mixed' needs parts, the other kinds have none")


def mixed(*parts: tuple[int, Neuron]) -> Neuron:
    """A population whose first n1 neurons follow one record, the next n2 another, ..."""
    return Neuron("mixed", parts=parts)


def variable_names(neuron: Neuron) -> tuple[str, ...]:
    """Names of the state; of part i of a mixed population "part{i}.v" and so on."""
    if neuron.kind != "mixed":
        return VARIABLES[neuron.kind]
    parts = enumerate(neuron.parts)
    return tuple(f"part{i}.{name}" for i, (_, part) in parts for name in variable_names(part))


def with_parameter(neuron: Neuron, name: str, value: Any) -> Neuron:
    """Replace a `TRAINABLE` parameter by its name ("tau"; "part1.tau" of a mixed population)."""
    head, _, rest = name.partition(".")
    if neuron.kind == "mixed" and rest and head.startswith("part"):
        parts = list(neuron.parts)
        size, part = parts[int(head[4:])]
        parts[int(head[4:])] = (size, with_parameter(part, rest, value))
        return replace(neuron, parts=tuple(parts))
    if neuron.kind == "mixed" or name not in TRAINABLE:
        raise ValueError(f"{name!r} is no trainable parameter of {neuron.kind!r}")
    return replace(neuron, **{name: value})


def _split(neuron: Neuron, state: State, *arrays: Any) -> list[tuple[Neuron, State, list[Dual]]]:
    """The parts of a mixed population with their states and their slices of [B, N] arrays."""
    result, start = [], 0
    for i, (size, part) in enumerate(neuron.parts):
        own = {name: state[f"part{i}.{name}"] for name in variable_names(part)}
        slices = [dual(array)[:, start : start + size] for array in arrays]
        result.append((part, own, slices))
        start += size
    if any(dual(array).shape[-1] != start for array in arrays):
        raise ValueError(f"the parts are {start} neurons in all")
    return result


def initial_state(neuron: Neuron, batch: int, units: int) -> State:
    """All zeros, [batch, units] each."""
    if neuron.kind != "mixed":
        return {name: Dual(np.zeros((batch, units))) for name in VARIABLES[neuron.kind]}
    return {
        f"part{i}.{name}": value
        for i, (size, part) in enumerate(neuron.parts)
        for name, value in initial_state(part, batch, size).items()
    }


def decay(tau: Any, dt: float) -> Dual:
    """exp(-dt / tau), both in ms."""
    return exp(-dt / dual(tau))


def spike(s: Dual, neuron: Neuron) -> Dual:
    """H(s) in value, psi(s) ds in tangent; s is dimensionless, any shape."""
    slope = surrogates.psi(neuron.surrogate, s.value, neuron.dampening, neuron.slope)
    return chain(surrogates.heaviside(s.value), (slope, s))


def output(neuron: Neuron, state: State) -> Dual:
    """What a neuron emits in this state: z for spiking ones, v or tanh(v) for graded ones.

    Args:
        neuron: the parameters.
        state: Duals [B, N] by name.

    Returns:
        [B, N].
    """
    if neuron.kind == "mixed":
        return concatenate([output(part, own) for part, own, _ in _split(neuron, state)])
    v = state["v"]
    if neuron.kind == "leaky_integrator":
        return v
    if neuron.kind == "leaky_tanh":
        return tanh(v)
    threshold = dual(neuron.threshold)
    effective = threshold
    if neuron.kind == "alif":
        effective = threshold + neuron.beta * state["a"]
    s = (v - effective) / threshold
    return spike(s, neuron) * (state["q"].value == 0).astype(np.float64)


def step(neuron: Neuron, state: State, current: Any, spikes: Dual | None = None) -> State:
    """Advance the state by one step of dt.

    Args:
        neuron: the parameters.
        state: the state of step t-1, Duals [B, N] by name.
        current: I(t), [B, N], in units of v.
        spikes: z(t-1), [B, N]; by default `output(neuron, state)`.

    Returns:
        The state of step t. Its v is the potential that meets the threshold, before any reset.
    """
    spikes = output(neuron, state) if spikes is None else spikes
    if neuron.kind == "mixed":
        new = {}
        for i, (part, own, (i_part, z_part)) in enumerate(_split(neuron, state, current, spikes)):
            for name, value in step(part, own, i_part, z_part).items():
                new[f"part{i}.{name}"] = value
        return new
    alpha = decay(neuron.tau, neuron.dt)
    drive = dual(current) if neuron.zeta == "one" else (1.0 - alpha) * current
    v = state["v"]
    if neuron.kind in ("leaky_integrator", "leaky_tanh"):
        return {"v": alpha * v + drive}

    reset_spikes = spikes if neuron.reset_gradient else stop_gradient(spikes)
    threshold = dual(neuron.threshold)
    if neuron.reset == "none":
        new = {"v": alpha * v + drive}
    elif neuron.reset_timing == "next":
        if neuron.reset == "subtract":
            new = {"v": alpha * v + drive - threshold * reset_spikes}
        else:
            new = {"v": (1.0 - reset_spikes) * (alpha * v + drive)}
    elif neuron.reset == "subtract":
        new = {"v": alpha * (v - threshold * reset_spikes) + drive}
    else:
        new = {"v": alpha * v * (1.0 - reset_spikes) + drive}

    if neuron.kind == "alif":
        new["a"] = decay(neuron.tau_adaptation, neuron.dt) * state["a"] + spikes
    n_ref = np.asarray(neuron.refractory_steps, np.float64)
    counter = state["q"].value + n_ref * spikes.value - 1.0
    new["q"] = Dual(np.clip(counter, 0.0, n_ref))
    return new
