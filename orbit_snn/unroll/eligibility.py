"""Eligibility traces of one cell, a chunk of steps at a time (Bellec et al. 2020).

A synapse from i to j has the eligibility vector `eps_ji(t) = A_j(t) eps_ji(t-1) + b_j(t) p_i(t)`
and the trace `e_ji = h_j eps_ji`; the gradient sums traces, filtered as readouts filter outputs,
times learning signals. Stepping them costs a pass over all synapses a step. Everything is linear
in them, so a chunk of C steps is C cheap steps of [B, N] backwards (`lanes`), and one product for
all kinds of traces:

    dW            = sum_b u_j eps_ji(t0) + sum_{t,b} c_j(t) p_i(t)
    eps_ji(t0+C)  = Phi_j eps_ji(t0)     + sum_t r_j(t) p_i(t)

which is the same numbers for every C. Where the decay of a leaf is common to a population, its
part of eps is a trace of presynaptic activity alone, `[B, P]`: one more step before the chunk.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.memory import Memory
from orbit_snn.neurons import Neuron, parts
from orbit_snn.types import CellTrajectory, State
from orbit_snn.unroll.lanes import Lane, LaneResult, Tangents, run_lanes, run_tangents
from orbit_snn.unroll.traces import (
    CellMemory,
    ChunkResult,
    Filters,
    Signals,
    Traces,
    populations,
    presynaptic,
    synaptic_gradients,
)


class _Population(NamedTuple):
    """The share of a population of one model in a chunk."""

    neuron: Neuron
    memory: Memory
    history: State
    currents: tf.Tensor
    outputs: tf.Tensor  # gradient to the outputs
    dhistory: State | None
    filters: tuple[tf.Tensor, ...]  # gradients to filtered outputs of before
    synapses: tuple[tf.Tensor, ...]
    tangents: tuple[Tangents, ...]

    @property
    def own(self) -> tuple[tf.Tensor, ...]:
        """Traces of the leaves that need them, without those of filters."""
        return self.synapses[: len(self.memory.own)]


def chunk(
    cell: Cell,
    known: CellMemory,
    trajectory: CellTrajectory,
    signals: Signals,
    filters: Filters,
    traces: Traces,
    advance: bool = True,
) -> ChunkResult:
    """Gradients of one chunk's errors by way of everything up to its end, and the traces after it.

    Args:
      cell: what was run.
      known: `cell_memory(cell)`.
      trajectory: of the chunk, with its history.
      signals: gradients of the loss of the chunk.
      filters: on the way from the outputs to the readouts.
      traces: before the chunk.
      advance: make the traces after it, which nothing needs after the last chunk.
    """
    shares = _populations(cell, known, trajectory, signals, traces)
    done = [run_lanes(p.neuron, p.history, p.currents, _lanes(p, filters, advance)) for p in shares]
    seen = presynaptic(cell, trajectory.inputs, trajectory.previous_outputs)
    rows = tf.concat([*[x[tf.newaxis] for x in traces.activity], seen], axis=0)
    products = _products(known, shares, [lanes[0] for lanes in done], rows)
    own: dict[Any, tf.Tensor] = {}
    for p, lanes in zip(shares, done, strict=True):
        own |= {v.ref(): g for v, g in zip(p.neuron.parameters, _own(p, lanes[0]), strict=True)}
    gradients = (
        *synaptic_gradients(cell, products),
        *[own[v.ref()] for v in cell.neuron.parameters],
    )
    if advance:
        traces = Traces(
            _filtered_activity(known, traces, seen),
            _advanced(known, shares, [lanes[1:] for lanes in done], filters, rows),
            tuple(_advanced_tangents(p, filters) for p in shares),
        )
    currents = tf.concat([lanes[0].currents for lanes in done], axis=-1)
    return ChunkResult(gradients, currents, tuple(lanes[0].initial for lanes in done), traces)


def mean_gradients(cell: Cell, traces: Traces, dmean: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Gradients by way of the weighted mean of outputs over the steps so far.

    Args:
      cell: whose traces hold that mean.
      traces: after the last step.
      dmean: gradient to the mean, `[B, N]`.
    """
    neurons = populations(cell)
    shares = tf.split(dmean, [neuron.units for neuron in neurons], axis=-1)
    products, own = [], {}
    for neuron, share, synapses, tangents in zip(
        neurons, shares, traces.synapses, traces.parameters, strict=True
    ):
        products.append(tf.reduce_sum(share[:, tf.newaxis] * synapses[-1], axis=0))
        for parameter, each in zip(neuron.parameters, tangents, strict=True):
            own[parameter.ref()] = tf.reduce_sum(share * each.mean[0], axis=0)
    weights = synaptic_gradients(cell, tf.concat(products, axis=-1))
    return (*weights, *[own[p.ref()] for p in cell.neuron.parameters])


def _populations(
    cell: Cell, known: CellMemory, trajectory: CellTrajectory, signals: Signals, traces: Traces
) -> list[_Population]:
    states = [trajectory.history, *([] if signals.history is None else [signals.history])]
    shares = parts(cell.neuron, *states)
    sizes = [neuron.units for neuron, *_ in shares]
    currents, outputs, *filters = (
        tf.split(x, sizes, axis=-1)
        for x in (trajectory.currents, signals.outputs, *signals.filters)
    )
    return [
        _Population(
            neuron,
            known.parts[i],
            history,
            currents[i],
            outputs[i],
            dhistory[0] if dhistory else None,
            tuple(x[i] for x in filters),
            traces.synapses[i],
            traces.parameters[i],
        )
        for i, (neuron, history, *dhistory) in enumerate(shares)
    ]


def _lanes(p: _Population, filters: Filters, advance: bool) -> list[Lane]:
    """The gradient's lane; then those of the traces of each synapse, in the order of `Traces`."""
    last = [leaf[-1] for leaf in tf.nest.flatten(p.history)]
    pack = lambda leaves: tf.nest.pack_sequence_as(p.history, leaves)  # noqa: E731
    zeros = pack([tf.zeros_like(x) for x in last])
    lanes = [Lane(zeros, p.outputs, p.dhistory, parameters=True)]
    if not advance:
        return lanes
    for leaf in p.memory.own:
        unit = [tf.ones_like(x) if n == leaf else tf.zeros_like(x) for n, x in enumerate(last)]
        lanes.append(Lane(pack(unit)))
    for decay in filters.decays:
        powers = _powers(decay, p.currents.shape[0], p.currents.dtype)
        lanes.append(Lane(zeros, powers[:, tf.newaxis, tf.newaxis]))
    if filters.weights is not None:
        lanes.append(Lane(zeros, filters.weights))
    return lanes


def _products(
    known: CellMemory, shares: Sequence[_Population], lanes: Sequence[LaneResult], rows: tf.Tensor
) -> tf.Tensor:
    """Sums of presynaptic activity times gradients to currents, `[P, N]`."""
    columns, carried = [], []
    for p, lane in zip(shares, lanes, strict=True):
        initial = tf.nest.flatten(lane.initial)
        columns.append(_columns(known, p, lane))
        weights = [*[initial[leaf] for leaf in p.memory.own], *p.filters]
        terms = [w[:, tf.newaxis] * x for w, x in zip(weights, p.synapses, strict=False)]
        zeros = tf.zeros([rows.shape[-1], p.neuron.units], rows.dtype)
        carried.append(tf.add_n([zeros, *[tf.reduce_sum(term, axis=0) for term in terms]]))
    flat = [tf.reshape(x, [-1, x.shape[-1]]) for x in (rows, tf.concat(columns, axis=-1))]
    return tf.matmul(*flat, transpose_a=True) + tf.concat(carried, axis=-1)


def _columns(known: CellMemory, p: _Population, lane: LaneResult) -> tf.Tensor:
    """A lane's gradients to each shared trace and to currents, `[D + C, B, n]`."""
    initial = tf.nest.flatten(lane.initial)
    zeros = tf.zeros_like(lane.currents[0])
    first = [
        tf.add_n(
            [
                zeros,
                *[drive * initial[m] for m, (d, drive) in p.memory.shared.items() if d == decay],
            ]
        )
        for decay in known.decays
    ]
    return tf.concat([*[x[tf.newaxis] for x in first], lane.currents], axis=0)


def _filtered_activity(known: CellMemory, traces: Traces, seen: tf.Tensor) -> tuple[tf.Tensor, ...]:
    steps = seen.shape[0]
    return tuple(
        decay**steps * x + tf.tensordot(_powers(decay, steps, seen.dtype), seen, 1)
        for decay, x in zip(known.decays, traces.activity, strict=True)
    )


def _advanced(
    known: CellMemory,
    shares: Sequence[_Population],
    lanes: Sequence[Sequence[LaneResult]],
    filters: Filters,
    rows: tf.Tensor,
) -> tuple[tuple[tf.Tensor, ...], ...]:
    """Traces of each synapse after the chunk: one batched product for all of them."""
    pairs = list(zip(shares, lanes, strict=True))
    columns = [_columns(known, p, lane) for p, own in pairs for lane in own]
    if not columns:
        return tuple(() for _ in shares)
    sums = tf.einsum("rbp,rbn->bpn", rows, tf.concat(columns, axis=-1))
    fresh = iter(tf.split(sums, [x.shape[-1] for x in columns], axis=-1))
    return tuple(
        tuple(
            tf.add_n([next(fresh), *[factor * x for factor, x in moved]])
            for moved in _moved(p, own, filters)
        )
        for p, own in pairs
    )


def _moved(
    p: _Population, lanes: Sequence[LaneResult], filters: Filters
) -> list[list[tuple[Any, tf.Tensor]]]:
    """For each trace after the chunk: what of those before it it is made of, with factors."""
    steps = p.currents.shape[0]
    kept = [decay**steps for decay in filters.decays]
    kept += [] if filters.weights is None else [1.0]
    moved = []
    for number, lane in enumerate(lanes):
        initial = tf.nest.flatten(lane.initial)
        factors = [initial[leaf][:, tf.newaxis] for leaf in p.memory.own]
        terms = list(zip(factors, p.own, strict=True))
        if number >= len(p.own):
            terms.append((kept[number - len(p.own)], p.synapses[number]))
        moved.append(terms)
    return moved


def _own(p: _Population, lane: LaneResult) -> list[tf.Tensor]:
    """Gradients to the neuron's own parameters."""
    initial = tf.nest.flatten(lane.initial)
    weights = [*[initial[leaf] for leaf in p.memory.read], *p.filters]
    gradients = []
    for within, tangents in zip(lane.parameters, p.tangents, strict=True):
        pairs = zip(weights, (*tangents.leaves, *tangents.filtered), strict=True)
        gradients.append(tf.add_n([within, *[tf.reduce_sum(w * x, axis=0) for w, x in pairs]]))
    return gradients


def _advanced_tangents(p: _Population, filters: Filters) -> tuple[Tangents, ...]:
    if not p.tangents:
        return ()
    return run_tangents(p.neuron, p.memory.read, p.history, p.currents, p.tangents, *filters)


def _powers(decay: Any, steps: int, dtype: tf.DType) -> tf.Tensor:
    """`decay^(C-1), ..., decay, 1`, `[C]`."""
    exponents = tf.range(steps - 1, -1, -1)
    return tf.pow(tf.convert_to_tensor(decay, dtype), tf.cast(exponents, dtype))
