"""Several reverse passes of one population over a chunk of steps, in one loop.

A lane is one backward recursion without coupling between neurons (see `unroll.reverse`),

    lam(t) = h(t) G(t) + A(t+1)^T lam(t+1)        c(t) = b(t) lam(t)

given `lam` after the last step and `G`. All lanes share A, b and h. A lane that starts from a unit
vector gives a row of the transition of an eligibility trace over the chunk; one with `G(t)` a
decaying weight gives a filtered trace.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.adjoint import output_adjoints, step_adjoints
from orbit_snn.neurons import Neuron
from orbit_snn.types import State
from orbit_snn.unroll.forward import new_array, tree_map


class Lane(NamedTuple):
    """What a backward recursion starts from and is driven by.

    Attributes:
      final: `lam` by way of what comes after the chunk, of `[B, N]`.
      outputs: G, `[C, B, N]` or of a shape `[C, ...]` that broadcasts to it; None for 0.
      history: gradient to the states themselves, of `[C + 1, B, N]`; None for 0.
      parameters: whether gradients to the neuron's own parameters are wanted.
    """

    final: State
    outputs: tf.Tensor | None = None
    history: State | None = None
    parameters: bool = False


class LaneResult(NamedTuple):
    """Result of a lane.

    Attributes:
      currents: c, `[C, B, N]`.
      initial: gradient to the state before the chunk.
      parameters: gradients to the neuron's own parameters within the chunk; none if not wanted.
    """

    currents: tf.Tensor
    initial: State
    parameters: tuple[tf.Tensor, ...]


def run_lanes(
    neuron: Neuron, history: State, currents: tf.Tensor, lanes: Sequence[Lane]
) -> list[LaneResult]:
    """Runs some lanes over a chunk.

    Args:
      neuron: the population.
      history: states before every step and after the last one, of `[C + 1, B, N]`.
      currents: of every step, `[C, B, N]`.
      lanes: what to run.
    """
    steps = currents.shape[0]
    states, driven = _steps(history), _steps(currents)
    signals = [(_steps(lane.outputs), _steps(lane.history)) for lane in lanes]

    def body(t: tf.Tensor, carries: Any, arrays: Any) -> tuple:
        before = tree_map(lambda array: array.read(t), states)
        after = tree_map(lambda array: array.read(t + 1), states)
        current = driven.read(t)
        of_output = output_adjoints(neuron, after)
        of_step = step_adjoints(neuron, before, current)
        nexts, written = [], []
        for lane, (outputs, own), (adjoint, total), array in zip(
            lanes, signals, carries, arrays, strict=True
        ):
            if outputs is not None:
                doutput = tf.broadcast_to(outputs.read(t), current.shape)
                direct, more = of_output(doutput, lane.parameters)
                adjoint = tree_map(tf.add, adjoint, direct)
                total = tree_map(tf.add, total, more)
            if own is not None:
                adjoint = tree_map(lambda leaf, x: leaf + x.read(t + 1), adjoint, own)
            adjoint, dcurrent, more = of_step(adjoint, lane.parameters)
            nexts.append((adjoint, tree_map(tf.add, total, more)))
            written.append(array.write(t, dcurrent))
        return t - 1, nexts, written

    zeros = tuple(tf.zeros(p.shape, p.dtype) for p in neuron.parameters)
    start = [(lane.final, zeros if lane.parameters else ()) for lane in lanes]
    _, carries, arrays = tf.while_loop(
        lambda t, *_: t >= 0,
        body,
        (steps - 1, start, [new_array(currents, steps) for _ in lanes]),
        maximum_iterations=steps,
    )
    pairs = zip(carries, arrays, strict=True)
    return [LaneResult(array.stack(), *carry) for carry, array in pairs]


class Tangents(NamedTuple):
    """How the states and outputs of a population change with one of its own parameters.

    Attributes:
      leaves: of the leaves of the state that the output depends on, `[B, N]` each.
      filtered: of outputs through each filter, `[B, N]` each.
      mean: of the weighted mean of outputs over steps, `[B, N]`; none or one.
    """

    leaves: tuple[tf.Tensor, ...]
    filtered: tuple[tf.Tensor, ...]
    mean: tuple[tf.Tensor, ...]


def run_tangents(
    neuron: Neuron,
    read: Sequence[int],
    history: State,
    currents: tf.Tensor,
    tangents: Sequence[Tangents],
    decays: Sequence[Any],
    weights: tf.Tensor | None,
) -> tuple[Tangents, ...]:
    """Eligibility traces of the neuron's own parameters, carried over a chunk.

    Args:
      neuron: the population.
      read: leaves of the state that the output depends on.
      history: as in `run_lanes`.
      currents: as in `run_lanes`.
      tangents: before the chunk, one for each of `neuron.parameters`.
      decays: of the filters.
      weights: of each step in the mean, `[C, B, 1]`.
    """
    steps = currents.shape[0]
    states, driven, shares = _steps(history), _steps(currents), _steps(weights)

    def body(t: tf.Tensor, tangents: Any) -> tuple:
        before, current = tree_map(lambda array: array.read(t), states), driven.read(t)
        nexts = []
        changes = _pushed(neuron, read, before, current, [own.leaves for own in tangents])
        for (leaves, change), own in zip(changes, tangents, strict=True):
            filtered = tuple(
                decay * x + change for decay, x in zip(decays, own.filtered, strict=True)
            )
            mean = tuple(x + shares.read(t) * change for x in own.mean)
            nexts.append(Tangents(leaves, filtered, mean))
        return t + 1, tuple(nexts)

    _, done = tf.while_loop(
        lambda t, *_: t < steps, body, (0, tuple(tangents)), maximum_iterations=steps
    )
    return done


def _pushed(
    neuron: Neuron,
    read: Sequence[int],
    before: State,
    current: tf.Tensor,
    tangents: Sequence[Sequence[tf.Tensor]],
) -> list[tuple[tuple[tf.Tensor, ...], tf.Tensor]]:
    """By parameter: tangents of the leaves after a step, and of the output that they give.

    A product with the Jacobian is the derivative of a product with its transpose, which is linear;
    forward accumulation loses variables inside a loop.
    """
    leaves = [tf.identity(leaf) for leaf in tf.nest.flatten(before)]
    inputs = [*[leaves[leaf] for leaf in read], *neuron.parameters]
    weights = [tf.zeros_like(current) for _ in range(len(read) + 1)]
    zero = tf.UnconnectedGradients.ZERO
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        outer.watch(weights)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(inputs)
            after = neuron.step(tf.nest.pack_sequence_as(before, leaves), current)
            flat = tf.nest.flatten(after)
            results = [*[flat[leaf] for leaf in read], neuron.output(after)]
        transposed = inner.gradient(results, inputs, weights, unconnected_gradients=zero)
    of_leaves, of_parameters = transposed[: len(read)], transposed[len(read) :]
    found = []
    for parameter, own, column in zip(neuron.parameters, tangents, of_parameters, strict=True):
        along = [*own, tf.ones(parameter.shape, parameter.dtype)]
        ends = [*of_leaves, column]
        *changes, output = outer.gradient(ends, weights, along, unconnected_gradients=zero)
        found.append((tuple(changes), output))
    return found


def _steps(values: Any) -> Any:
    """Each step of a structure of `[C, ...]` for a loop to read, or None."""
    if values is None:
        return None
    return tree_map(lambda x: new_array(x, x.shape[0]).unstack(x), values)
