"""A neuron's `step` and `output`, differentiated once, elementwise, at trace time.

For a neuron of any state s, with `A = ds(t)/ds(t-1)`, `b = ds(t)/dI(t)` and `h = dz(t)/ds(t)`, the
functions below give the products `h G`, `A^T lam` and `b lam` that a reverse pass is made of.
States are structures of `[B, N]`; gradients to parameters come in the order of `neuron.parameters`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orbit_snn.neurons import Neuron
from orbit_snn.types import State

OutputAdjoint = Callable[..., tuple[State, tuple[tf.Tensor, ...]]]
StepAdjoint = Callable[..., tuple[State, tf.Tensor, tuple[tf.Tensor, ...]]]


def output_adjoint(
    neuron: Neuron, state: State, doutput: tf.Tensor
) -> tuple[State, tuple[tf.Tensor, ...]]:
    """`h G`, and the gradients of the output function to the parameters."""
    return output_adjoints(neuron, state)(doutput)


def output_adjoints(neuron: Neuron, state: State) -> OutputAdjoint:
    """`output_adjoint` for any number of gradients G, with the output computed once.

    Returns:
      `function(doutput, parameters=True)`; without `parameters`, there are no gradients to them.
    """
    leaves = [tf.identity(leaf) for leaf in tf.nest.flatten(state)]
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch([*leaves, *neuron.parameters])
        output = neuron.output(tf.nest.pack_sequence_as(state, leaves))

    def adjoint_of(doutput: tf.Tensor, parameters: bool = True) -> tuple:
        own = neuron.parameters if parameters else ()
        gradients = _gradient(tape, output, [*leaves, *own], doutput)
        adjoint = tf.nest.pack_sequence_as(state, gradients[: len(leaves)])
        return adjoint, tuple(gradients[len(leaves) :])

    return adjoint_of


def step_adjoint(
    neuron: Neuron, state: State, current: tf.Tensor, adjoint: State
) -> tuple[State, tf.Tensor, tuple[tf.Tensor, ...]]:
    """`A^T lam`, `b lam`, and the gradients of the step function to the parameters."""
    return step_adjoints(neuron, state, current)(adjoint)


def step_adjoints(neuron: Neuron, state: State, current: tf.Tensor) -> StepAdjoint:
    """`step_adjoint` for any number of adjoints `lam`, with the step computed once.

    Returns:
      `function(adjoint, parameters=True)`; without `parameters`, there are no gradients to them.
    """
    leaves = [tf.identity(leaf) for leaf in tf.nest.flatten(state)]
    current = tf.identity(current)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch([*leaves, current, *neuron.parameters])
        after = tf.nest.flatten(neuron.step(tf.nest.pack_sequence_as(state, leaves), current))

    def adjoint_of(adjoint: State, parameters: bool = True) -> tuple:
        own = neuron.parameters if parameters else ()
        sources = [*leaves, current, *own]
        gradients = _gradient(tape, after, sources, tf.nest.flatten(adjoint))
        count = len(leaves)
        dstate = tf.nest.pack_sequence_as(state, gradients[:count])
        return dstate, gradients[count], tuple(gradients[count + 1 :])

    return adjoint_of


def _gradient(tape: tf.GradientTape, ends: Any, sources: Any, seeds: Any) -> list[tf.Tensor]:
    zero = tf.UnconnectedGradients.ZERO
    return tape.gradient(ends, sources, seeds, unconnected_gradients=zero)


def cut(neuron: Neuron, state: State, direct: tf.Tensor, adjoint: State, uncut: tf.Tensor) -> State:
    """`adjoint` where `uncut` is 1, else what the state's direct output alone gives.

    The recurrent spikes of a cut step still depend on the neuron's own parameters, so only the path
    to the state is cut: the same as `stop_gradient` on the state that enters the next step.
    """
    alone, _ = output_adjoint(neuron, state, direct)
    return tf.nest.map_structure(
        lambda full, cut: uncut * full + (1.0 - uncut) * cut, adjoint, alone
    )
