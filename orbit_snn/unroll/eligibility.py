"""Eligibility traces of one cell, a chunk of steps at a time (Bellec et al. 2020).

A synapse from i to j has the eligibility vector `eps_ji(t) = A_j(t) eps_ji(t-1) + b_j(t) p_i(t)`
and the trace `e_ji = h_j eps_ji`; the gradient sums traces, filtered as readouts filter outputs,
times learning signals. Stepping them costs a pass over all synapses a step. Everything is linear
in them, so a chunk of C steps is C cheap steps of [B, N] backwards (`lanes`), and one product for
each kind of trace:

    dW            = sum_b u_j eps_ji(t0) + sum_{t,b} c_j(t) p_i(t)
    eps_ji(t0+C)  = Phi_j eps_ji(t0)     + sum_t r_j(t) p_i(t)

which is the same numbers for every C. Where the decay of a leaf is common to a population, its
part of eps is a trace of presynaptic activity alone, `[B, P]`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.memory import Memory, memory
from orbit_snn.neurons import parts
from orbit_snn.types import CellTrajectory, State
from orbit_snn.unroll.lanes import Lane, LaneResult, Tangents, run_lanes, run_tangents


class CellMemory(NamedTuple):
    """How a cell remembers.

    Attributes:
      parts: of each population of one model.
      decays: of traces that are common to a population, each once.
    """

    parts: tuple[Memory, ...]
    decays: tuple[float, ...]


class Traces(NamedTuple):
    """Eligibility of a cell's parameters between two chunks.

    Attributes:
      activity: filtered presynaptic activity, one `[B, P]` for each of `CellMemory.decays`.
      synapses: by population, `[B, P, n]` for each leaf that needs its own trace, for each filter
        and, where it is wanted, for the weighted mean of e.
      parameters: by population and parameter of the neuron.
    """

    activity: tuple[tf.Tensor, ...]
    synapses: tuple[tuple[tf.Tensor, ...], ...]
    parameters: tuple[tuple[Tangents, ...], ...]


class Filters(NamedTuple):
    """How outputs are filtered on their way to learning signals.

    Attributes:
      decays: of the readouts, each a number or a scalar tensor.
      weights: of each step of the chunk in the mean that a rate penalty takes, `[C, B, 1]`.
    """

    decays: tuple[Any, ...] = ()
    weights: tf.Tensor | None = None

    @property
    def count(self) -> int:
        """Traces of a population beside those of its leaves."""
        return len(self.decays) + (self.weights is not None)


class Signals(NamedTuple):
    """Gradients of the loss of a chunk that reach a cell from outside.

    Attributes:
      outputs: to the outputs, `[C, B, N]`.
      history: to the states, of `[C + 1, B, N]`, or None.
      filters: to the outputs of before the chunk through each filter, `[B, N]`.
    """

    outputs: tf.Tensor
    history: State | None = None
    filters: tuple[tf.Tensor, ...] = ()


class ChunkResult(NamedTuple):
    """What a chunk adds.

    Attributes:
      gradients: one tensor for each of `cell.parameters`.
      currents: gradient to the currents, `[C, B, N]`, of the errors of the chunk.
      initial: gradient to the state before the chunk, one structure a population.
      traces: after the chunk, or those of before it where they are not advanced.
    """

    gradients: tuple[tf.Tensor, ...]
    currents: tf.Tensor
    initial: tuple[State, ...]
    traces: Traces


def cell_memory(cell: Cell) -> CellMemory:
    """Derives how a cell remembers; call it eagerly."""
    state = cell.initial_state(1)
    found = tuple(memory(neuron) for neuron, _ in parts(cell.neuron, state))
    decays = dict.fromkeys(decay for part in found for decay, _ in part.shared.values())
    return CellMemory(found, tuple(decays))


def no_traces(cell: Cell, known: CellMemory, batch_size: int, filters: int, mean: bool) -> Traces:
    """Traces before the first step: zero."""
    dtype = cell.neuron.dtype
    wide = _presynaptic(cell, tf.zeros([1, cell.feedforward.inputs], dtype), None).shape[-1]
    activity = tuple(tf.zeros([batch_size, wide], dtype) for _ in known.decays)
    synapses, parameters = [], []
    for (neuron, _), own in zip(_parts_of(cell), known.parts, strict=True):
        count = len(own.own) + filters + mean
        zeros = tf.zeros([batch_size, neuron.units], dtype)
        synapses.append(
            tuple(tf.zeros([batch_size, wide, neuron.units], dtype) for _ in range(count))
        )
        empty = Tangents((zeros,) * len(own.read), (zeros,) * filters, (zeros,) * mean)
        parameters.append((empty,) * len(neuron.parameters))
    return Traces(activity, tuple(synapses), tuple(parameters))


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
    populations = _populations(cell, trajectory, signals)
    steps = trajectory.outputs.shape[0]
    done = [
        run_lanes(p.neuron, p.history, p.currents, _lanes(p, own, filters, steps, advance))
        for p, own in zip(populations, known.parts, strict=True)
    ]
    seen = _presynaptic(cell, trajectory.inputs, trajectory.previous_outputs)
    rows = tf.concat([*[x[tf.newaxis] for x in traces.activity], seen], axis=0)
    products = _gradient(known, populations, done, traces, rows)
    own_gradients = {
        parameter.ref(): gradient
        for p, own, lanes, tangents in zip(
            populations, known.parts, done, traces.parameters, strict=True
        )
        for parameter, gradient in zip(
            p.neuron.parameters, _own_gradients(p, own, lanes[0], tangents), strict=True
        )
    }
    gradients = (
        *_split(cell, products),
        *[own_gradients[parameter.ref()] for parameter in cell.neuron.parameters],
    )
    if advance:
        traces = Traces(
            tuple(
                decay**steps * x + tf.tensordot(_powers(decay, steps, seen.dtype), seen, 1)
                for decay, x in zip(known.decays, traces.activity, strict=True)
            ),
            _advanced(known, done, filters, traces, rows, steps),
            tuple(
                run_tangents(p.neuron, own.read, p.history, p.currents, tangents, *filters)
                if tangents
                else ()
                for p, own, tangents in zip(
                    populations, known.parts, traces.parameters, strict=True
                )
            ),
        )
    currents = tf.concat([lanes[0].currents for lanes in done], axis=-1)
    return ChunkResult(gradients, currents, tuple(lanes[0].initial for lanes in done), traces)


class _Population(NamedTuple):
    """The share of a population of one model in a chunk."""

    neuron: Any
    history: State
    currents: tf.Tensor
    outputs: tf.Tensor  # gradient to the outputs
    dhistory: State | None
    filters: list[tf.Tensor]


def _parts_of(cell: Cell) -> list[tuple[Any, ...]]:
    return parts(cell.neuron, cell.initial_state(1))


def _populations(cell: Cell, trajectory: CellTrajectory, signals: Signals) -> list[_Population]:
    dhistory = signals.history
    states = [trajectory.history] if dhistory is None else [trajectory.history, dhistory]
    shares = parts(cell.neuron, *states)
    sizes = [share[0].units for share in shares]
    cut = [
        tf.split(x, sizes, axis=-1)
        for x in (trajectory.currents, signals.outputs, *signals.filters)
    ]
    return [
        _Population(
            neuron,
            history,
            cut[0][i],
            cut[1][i],
            rest[0] if rest else None,
            [x[i] for x in cut[2:]],
        )
        for i, (neuron, history, *rest) in enumerate(shares)
    ]


def _lanes(p: _Population, own: Memory, filters: Filters, steps: int, advance: bool) -> list[Lane]:
    """The gradient's lane; then those of the traces of each synapse, in the order of `Traces`."""
    last = [leaf[-1] for leaf in tf.nest.flatten(p.history)]
    pack = lambda leaves: tf.nest.pack_sequence_as(p.history, leaves)  # noqa: E731
    zeros = pack([tf.zeros_like(x) for x in last])
    lanes = [Lane(zeros, p.outputs, p.dhistory)]
    if not advance:
        return lanes
    for leaf in own.own:
        unit = [tf.ones_like(x) if n == leaf else tf.zeros_like(x) for n, x in enumerate(last)]
        lanes.append(Lane(pack(unit)))
    for decay in filters.decays:
        powers = _powers(decay, steps, p.currents.dtype)
        lanes.append(Lane(zeros, powers[:, tf.newaxis, tf.newaxis]))
    if filters.weights is not None:
        lanes.append(Lane(zeros, filters.weights))
    return lanes


def _gradient(
    known: CellMemory,
    populations: Sequence[_Population],
    done: Sequence[Sequence[LaneResult]],
    traces: Traces,
    rows: tf.Tensor,
) -> tf.Tensor:
    """Products of presynaptic activity and gradients to currents, `[P, N]`."""
    columns, carried = [], []
    for p, own, lanes, synapses in zip(
        populations, known.parts, done, traces.synapses, strict=True
    ):
        initial = tf.nest.flatten(lanes[0].initial)
        columns.append(_with_activity(known, own, lanes[0]))
        weights = [*[initial[leaf] for leaf in own.own], *p.filters]
        terms = [
            tf.reduce_sum(weight[:, tf.newaxis] * trace, axis=0)
            for weight, trace in zip(weights, synapses, strict=False)
        ]
        carried.append(
            tf.add_n(terms) if terms else tf.zeros([rows.shape[-1], p.neuron.units], rows.dtype)
        )
    flat = tf.concat(columns, axis=-1)
    within = tf.matmul(_flat(rows), _flat(flat), transpose_a=True)
    return within + tf.concat(carried, axis=-1)


def _with_activity(known: CellMemory, own: Memory, lane: LaneResult) -> tf.Tensor:
    """A lane's gradients to currents, `[D + C, B, n]`, after those to each shared trace."""
    initial = tf.nest.flatten(lane.initial)
    first = []
    for decay in known.decays:
        terms = [drive * initial[leaf] for leaf, (d, drive) in own.shared.items() if d == decay]
        first.append(tf.add_n(terms) if terms else tf.zeros_like(lane.currents[0]))
    return tf.concat([*[x[tf.newaxis] for x in first], lane.currents], axis=0)


def _advanced(
    known: CellMemory,
    done: Sequence[Sequence[LaneResult]],
    filters: Filters,
    traces: Traces,
    rows: tf.Tensor,
    steps: int,
) -> tuple[tuple[tf.Tensor, ...], ...]:
    """Traces of each synapse after the chunk: one batched product for all of them."""
    pairs = zip(known.parts, done, strict=True)
    columns = [[_with_activity(known, own, lane) for lane in lanes[1:]] for own, lanes in pairs]
    every = [x for group in columns for x in group]
    if not every:
        return tuple(() for _ in columns)
    sums = tf.einsum("rbp,rbn->bpn", rows, tf.concat(every, axis=-1))
    fresh = iter(tf.split(sums, [x.shape[-1] for x in every], axis=-1))
    kept = [None if decay is None else decay**steps for decay in filters.decays]
    kept += [1.0] if filters.weights is not None else []
    return tuple(
        tuple(
            next(fresh) + _moved(own, lane, synapses, own_trace)
            for lane, own_trace in zip(lanes[1:], _own_factors(own, synapses, kept), strict=True)
        )
        for own, lanes, synapses in zip(known.parts, done, traces.synapses, strict=True)
    )


def _own_factors(own: Memory, synapses: Sequence[tf.Tensor], kept: Sequence[Any]) -> list[Any]:
    """What is left of each filtered trace itself; leaves' traces come in through the lanes."""
    leaves = len(own.own)
    filtered = [factor * x for factor, x in zip(kept, synapses[leaves:], strict=True)]
    return [*[None] * leaves, *filtered]


def _moved(
    own: Memory, lane: LaneResult, synapses: Sequence[tf.Tensor], itself: tf.Tensor | None
) -> tf.Tensor:
    initial = tf.nest.flatten(lane.initial)
    terms = [
        initial[leaf][:, tf.newaxis] * trace for leaf, trace in zip(own.own, synapses, strict=False)
    ]
    terms += [] if itself is None else [itself]
    return tf.add_n(terms) if terms else 0.0


def _own_gradients(
    p: _Population, own: Memory, lane: LaneResult, tangents: Sequence[Tangents]
) -> list[tf.Tensor]:
    """Gradients to the neuron's own parameters."""
    initial = tf.nest.flatten(lane.initial)
    weights = [*[initial[leaf] for leaf in own.read], *p.filters]
    return [
        within
        + tf.add_n(
            [
                tf.reduce_sum(w * x, axis=0)
                for w, x in zip(weights, (*own_trace.leaves, *own_trace.filtered), strict=True)
            ]
        )
        for within, own_trace in zip(lane.parameters, tangents, strict=True)
    ]


def mean_gradients(cell: Cell, traces: Traces, dmean: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Gradients by way of the weighted mean of outputs over the steps so far.

    Args:
      cell: whose traces hold that mean.
      traces: after the last step.
      dmean: gradient to the mean, `[B, N]`.
    """
    shares = tf.split(dmean, [neuron.units for neuron, _ in _parts_of(cell)], axis=-1)
    products = tf.concat(
        [
            tf.reduce_sum(share[:, tf.newaxis] * synapses[-1], axis=0)
            for share, synapses in zip(shares, traces.synapses, strict=True)
        ],
        axis=-1,
    )
    own = {
        parameter.ref(): tf.reduce_sum(share * tangents.mean[0], axis=0)
        for (neuron, _), share, every in zip(
            _parts_of(cell), shares, traces.parameters, strict=True
        )
        for parameter, tangents in zip(neuron.parameters, every, strict=True)
    }
    return (*_split(cell, products), *[own[p.ref()] for p in cell.neuron.parameters])


def _presynaptic(cell: Cell, inputs: tf.Tensor, previous: tf.Tensor | None) -> tf.Tensor:
    """What every synapse onto a neuron of the cell sees, `[..., P]`."""
    seen = [cell.feedforward.presynaptic(inputs)]
    if cell.recurrent is not None:
        if previous is None:
            previous = tf.zeros([*inputs.shape[:-1], cell.neuron.units], inputs.dtype)
        seen.append(cell.recurrent.presynaptic(previous))
    return tf.concat(seen, axis=-1)


def _split(cell: Cell, products: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Gradients to the connections' parameters of `[P, N]`."""
    if cell.recurrent is None:
        return cell.feedforward.synapses(products)
    one = tf.zeros([1, cell.feedforward.inputs], products.dtype)
    size = cell.feedforward.presynaptic(one).shape[-1]
    below, own = products[:size], products[size:]
    return (*cell.feedforward.synapses(below), *cell.recurrent.synapses(own))


def _powers(decay: Any, steps: int, dtype: tf.DType) -> tf.Tensor:
    """`decay^(C-1), ..., decay, 1`, `[C]`."""
    exponents = tf.range(steps - 1, -1, -1)
    return tf.pow(tf.convert_to_tensor(decay, dtype), tf.cast(exponents, dtype))


def _flat(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [-1, x.shape[-1]])
