"""What a cell carries from one chunk of a sequence to the next: its eligibility traces."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.memory import Memory, memory
from orbit_snn.neurons import parts
from orbit_snn.types import State
from orbit_snn.unroll.lanes import Tangents


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
    found = tuple(memory(neuron) for neuron in populations(cell))
    decays = dict.fromkeys(decay for part in found for decay, _ in part.shared.values())
    return CellMemory(found, tuple(decays))


def no_traces(cell: Cell, known: CellMemory, batch_size: int, filters: int, mean: bool) -> Traces:
    """Traces before the first step: zero."""
    dtype = cell.neuron.dtype
    wide = sum(widths(cell))
    synapses, parameters = [], []
    for neuron, own in zip(populations(cell), known.parts, strict=True):
        zeros = tf.zeros([batch_size, neuron.units], dtype)
        each = tf.zeros([batch_size, wide, neuron.units], dtype)
        empty = Tangents((zeros,) * len(own.read), (zeros,) * filters, (zeros,) * mean)
        synapses.append((each,) * (len(own.own) + filters + mean))
        parameters.append((empty,) * len(neuron.parameters))
    activity = (tf.zeros([batch_size, wide], dtype),) * len(known.decays)
    return Traces(activity, tuple(synapses), tuple(parameters))


def populations(cell: Cell) -> list[Any]:
    """The neurons of a cell by model."""
    return [neuron for (neuron,) in parts(cell.neuron)]


def presynaptic(cell: Cell, inputs: tf.Tensor, previous: tf.Tensor | None) -> tf.Tensor:
    """What every synapse onto a neuron of the cell sees, `[..., P]`.

    Args:
      cell: with its connections.
      inputs: of the cell, `[..., F]`.
      previous: the cell's outputs one step before, `[..., N]`; None without recurrence.
    """
    seen = cell.feedforward.presynaptic(inputs)
    if cell.recurrent is None:
        return seen
    return tf.concat([seen, cell.recurrent.presynaptic(previous)], axis=-1)


def widths(cell: Cell) -> list[int]:
    """P of each connection."""
    dtype = cell.neuron.dtype
    return [c.presynaptic(tf.zeros([1, c.inputs], dtype)).shape[-1] for c in cell.connections]


def synaptic_gradients(cell: Cell, products: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Gradients to the connections' parameters of `[P, N]`."""
    below, *own = tf.split(products, widths(cell), axis=0)
    recurrent = () if cell.recurrent is None else cell.recurrent.synapses(own[0])
    return (*cell.feedforward.synapses(below), *recurrent)
