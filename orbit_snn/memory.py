"""What a neuron remembers of its input current: which parts of its state carry the past on.

The derivatives `A = ds(t)/ds(t-1)`, `b = ds(t)/dI(t)` and `h = dz(t)/ds(t)` of a neuron's `step`
and `output` are graphs of TensorFlow. From these alone follows which entries are zero whatever the
state is, and which do not depend on it: a counter has no part in an eligibility trace, and a
membrane whose decay is common to a population has one trace a presynaptic neuron, not one a
synapse.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.neurons import Neuron


class Memory(NamedTuple):
    """How a population of one model remembers; leaves are those of its flattened state.

    Attributes:
      read: leaves that the output depends on, at once or later.
      carried: those of `read` that a current gets into.
      linear: those of `carried` that follow `s(t) = decay s(t-1) + drive I(t)`, with factors that
        depend on neither state nor current.
      shared: decay and drive of those of `linear` that have the same numbers in every neuron.
      gain: derivative of the output by the one leaf that it depends on, where that is the same
        number whatever the state is.
    """

    read: tuple[int, ...]
    carried: tuple[int, ...]
    linear: tuple[int, ...]
    shared: dict[int, tuple[float, float]]
    gain: float | None

    @property
    def own(self) -> tuple[int, ...]:
        """Leaves that need a trace for each synapse."""
        return tuple(leaf for leaf in self.carried if leaf not in self.shared)


class _Entry(NamedTuple):
    """One entry of A, b or h: its value at state 0, and what it depends on."""

    value: np.ndarray
    of_state: bool
    of_variables: bool


def memory(neuron: Neuron) -> Memory:
    """Derives how a population of one model (see `neurons.parts`) remembers; call it eagerly."""
    after, current, output = _derivatives(neuron)
    count = len(current)
    read = _closure({n for n in range(count) if output[n] is not None}, after)
    sources = [[after[m][n] for m in range(count)] for n in range(count)]
    reached = _closure({m for m in range(count) if current[m] is not None}, sources)
    carried = tuple(sorted(read & reached))
    linear = tuple(leaf for leaf in carried if _is_linear(leaf, after[leaf], current[leaf]))
    shared = {}
    for leaf in linear:
        entries = [e for e in (after[leaf][leaf], current[leaf]) if e is not None]
        numbers = [0.0 if e is None else e.value for e in (after[leaf][leaf], current[leaf])]
        if not any(e.of_variables for e in entries) and all(np.ptp(x) == 0 for x in numbers):
            shared[leaf] = (float(np.max(numbers[0])), float(np.max(numbers[1])))
    return Memory(tuple(sorted(read)), carried, linear, shared, _gain(output, read))


def linear_response(neuron: Neuron, leaf: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decay and drive of a leaf among `Memory.linear`, `[N]` each, of the variables as they are."""
    state = neuron.initial_state(1)
    leaves = [tf.identity(x) for x in tf.nest.flatten(state)]
    current = tf.zeros([1, neuron.units], neuron.dtype)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([leaves[leaf], current])
        after = tf.nest.flatten(neuron.step(tf.nest.pack_sequence_as(state, leaves), current))
    decay, drive = tape.gradient(
        after[leaf],
        [leaves[leaf], current],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return decay[0], drive[0]


def _gain(output: Sequence[_Entry | None], read: set[int]) -> float | None:
    entry = output[min(read)] if len(read) == 1 else None
    if entry is None or entry.of_state or entry.of_variables or np.ptp(entry.value):
        return None
    return float(np.max(entry.value))


def _is_linear(leaf: int, row: Sequence[_Entry | None], current: _Entry | None) -> bool:
    others = any(entry is not None for n, entry in enumerate(row) if n != leaf)
    own = [entry for entry in (row[leaf], current) if entry is not None]
    return not others and not any(entry.of_state for entry in own)


def _closure(start: set[int], into: Sequence[Sequence[Any]]) -> set[int]:
    """`start` and every leaf n with an entry `into[m][n]` of a leaf m that is in already."""
    found, fresh = set(start), list(start)
    while fresh:
        row = into[fresh.pop()]
        for n, entry in enumerate(row):
            if entry is not None and n not in found:
                found.add(n)
                fresh.append(n)
    return found


def _derivatives(neuron: Neuron) -> tuple[list[list[_Entry | None]], list, list]:
    """A by rows, b and h, each entry None where it is zero by construction."""
    state = neuron.initial_state(1)
    ones = np.ones([1, neuron.units], neuron.dtype.as_numpy_dtype)
    facts: list[tuple[bool, bool] | None] = []

    @tf.function(autograph=False)
    def trace(leaves: list[tf.Tensor], current: tf.Tensor) -> list[tf.Tensor]:
        inputs = [*leaves, current]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            now = tf.nest.pack_sequence_as(state, [tf.identity(x) for x in leaves])
            after = tf.nest.flatten(neuron.step(now, tf.identity(current)))
            output = neuron.output(now)
        rows = [tape.gradient(x, inputs, tf.constant(ones)) for x in (*after, output)]
        found = [entry for row in rows for entry in row]
        facts.extend(None if x is None else _dependence(x, inputs) for x in found)
        return [x for x in found if x is not None]

    leaves = [tf.zeros_like(x) for x in tf.nest.flatten(state)]
    current = tf.constant(ones)
    values = iter(trace.get_concrete_function(leaves, current)(leaves, current))
    entries = [None if fact is None else _Entry(next(values).numpy(), *fact) for fact in facts]
    width = len(leaves) + 1
    table = [entries[i : i + width] for i in range(0, len(entries), width)]
    return (
        [row[:-1] for row in table[:-1]],
        [row[-1] for row in table[:-1]],
        table[-1][:-1],
    )


def _dependence(x: tf.Tensor, inputs: Sequence[tf.Tensor]) -> tuple[bool, bool]:
    """Whether a tensor of a graph depends on some of its inputs, and on variables."""
    roots = {id(each.op) for each in inputs}
    of_inputs = of_variables = False
    seen, fresh = {id(x.op)}, [x.op]
    while fresh:
        op = fresh.pop()
        if op.type == "Placeholder":
            of_inputs |= id(op) in roots
            of_variables |= id(op) not in roots
        for each in op.inputs:
            if id(each.op) not in seen:
                seen.add(id(each.op))
                fresh.append(each.op)
    return of_inputs, of_variables
