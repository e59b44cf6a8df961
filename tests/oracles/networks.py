"""A stack of cells and its readouts, run step by step on Duals; the gradient of any scalar loss.

Names of weights, for a layer (hidden or readout) called NAME:

    NAME.input        [F, N]  from xs, from the layer below, or (readouts) from the top hidden layer
    NAME.recurrent    [N, N]  optional, hidden layers only; presynaptic neuron first
    NAME.bias         [N]     optional, part of the current
    NAME.tau etc.     () or [N]  optional: a `neurons.TRAINABLE` parameter, instead of the record's
    NAME.initial.v    [N] or [B, N]  optional: a state variable before the first step, instead of 0
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from .dual import Dual, dual, gradients, stack, stop_gradient, variables
from .neurons import (
    Neuron,
    State,
    initial_state,
    output,
    step,
    variable_names,
    with_parameter,
)


@dataclass(frozen=True, eq=False)
class Layer:
    """A named population of `units` neurons. `no_autapse` masks the diagonal of W_rec."""

    name: str
    units: int
    neuron: Neuron
    no_autapse: bool = True


@dataclass(frozen=True, eq=False)
class Network:
    """Hidden layers from the bottom to the top, and the readouts of the top one."""

    hidden: tuple[Layer, ...]
    readouts: tuple[Layer, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """What a run leaves, as Duals.

    Attributes:
        outputs: by readout, [T, B, K].
        spikes: output of each hidden layer (graded for graded neurons), [T, B, N].
        states: by layer (readouts too) and variable, [T, B, N], after each step.
        weights: the weights that were used.
    """

    outputs: dict[str, Dual]
    spikes: dict[str, Dual]
    states: dict[str, dict[str, Dual]]
    weights: dict[str, Dual]


def _bind(layer: Layer, weights: dict[str, Dual], batch: int) -> tuple[Neuron, dict, State]:
    """Sort a layer's weights into neuron parameters, synapses and initial state."""
    neuron, synapses = layer.neuron, {}
    state = initial_state(layer.neuron, batch, layer.units)
    for full, value in weights.items():
        owner, _, name = full.partition(".")
        if owner != layer.name:
            continue
        if name in ("input", "recurrent", "bias"):
            synapses[name] = value
        elif name.startswith("initial."):
            variable = name.removeprefix("initial.")
            if variable not in variable_names(neuron):
                raise ValueError(f"{full}: no such state variable")
            state[variable] = state[variable] + value
        else:
            neuron = with_parameter(neuron, name, value)
    if "recurrent" in synapses and layer.no_autapse:
        synapses["recurrent"] = synapses["recurrent"] * (1.0 - np.eye(layer.units))
    return neuron, synapses, state


def run(
    network: Network,
    weights: dict[str, Any],
    xs: np.ndarray,
    cut_every: int | None = None,
    cut_spikes: bool = True,
) -> Run:
    """Run a network over a sequence.

    Args:
        network: its layers.
        weights: arrays or Duals by name, see the top of this file.
        xs: input, [T, B, F].
        cut_every: K: all states lose their tangents on entering step t = K, 2K, ... (never t = 0,
            so that K >= T is the same as None, for the initial state too).
        cut_spikes: at a cut, z(t-1) is recomputed from the cut state. True drops its whole tangent;
            False keeps what a trainable threshold, beta contributes directly. The same for weights.

    Returns:
        The run.
    """
    layers = (*network.hidden, *network.readouts)
    names = {layer.name for layer in layers}
    unknown = [name for name in weights if name.partition(".")[0] not in names]
    if unknown or len(names) != len(layers):
        raise ValueError(f"weights of no layer: {unknown}, or a layer's name used twice")
    if any(f"{layer.name}.recurrent" in weights for layer in network.readouts):
        raise ValueError("readouts have no recurrent weights")
    xs = np.asarray(xs, np.float64)
    duals = {name: dual(value) for name, value in weights.items()}
    bound = {layer.name: _bind(layer, duals, xs.shape[1]) for layer in layers}
    now = {name: state for name, (_, _, state) in bound.items()}
    states: dict[str, list[State]] = {name: [] for name in bound}
    emitted: dict[str, list[Dual]] = {name: [] for name in bound}

    for t, x in enumerate(xs):
        cut = cut_every is not None and t > 0 and t % cut_every == 0
        below = dual(x)
        for index, layer in enumerate(layers):
            neuron, synapses, _ = bound[layer.name]
            state = now[layer.name]
            if cut:
                state = {name: stop_gradient(value) for name, value in state.items()}
            previous = output(neuron, state)
            if cut and cut_spikes:
                previous = stop_gradient(previous)
            current = below @ synapses["input"]
            if "recurrent" in synapses:
                current = current + previous @ synapses["recurrent"]
            if "bias" in synapses:
                current = current + synapses["bias"]
            now[layer.name] = step(neuron, state, current, previous)
            z = output(neuron, now[layer.name])
            states[layer.name].append(now[layer.name])
            emitted[layer.name].append(z)
            if index < len(network.hidden):  # readouts all read the top hidden layer
                below = z

    return Run(
        outputs={layer.name: stack(emitted[layer.name]) for layer in network.readouts},
        spikes={layer.name: stack(emitted[layer.name]) for layer in network.hidden},
        states={
            name: {key: stack([state[key] for state in history]) for key in history[0]}
            for name, history in states.items()
        },
        weights=duals,
    )


def loss_gradient(
    network: Network,
    weights: dict[str, np.ndarray],
    xs: np.ndarray,
    loss: Callable[[Run], Dual],
    cut_every: int | None = None,
    cut_spikes: bool = True,
    trainable: Collection[str] | None = None,
) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and its gradient, by BPTT (`cut_every=None`) or TBPTT, computed by forward mode.

    Args:
        network: its layers.
        weights: arrays by name, see the top of this file.
        xs: input, [T, B, F].
        loss: scalar Dual of a run.
        cut_every: see `run`.
        cut_spikes: see `run`.
        trainable: names to differentiate by; default all of `weights`.

    Returns:
        The loss, and the gradient by name, each of the shape of its weight.
    """
    names = list(weights) if trainable is None else [name for name in weights if name in trainable]
    duals = variables({name: weights[name] for name in names})
    result = loss(run(network, {**weights, **duals}, xs, cut_every, cut_spikes))
    return float(result.value), gradients(result, duals)
