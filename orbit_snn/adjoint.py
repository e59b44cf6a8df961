"""A neuron's `step` and `output`, differentiated once, elementwise, at trace time.

For a neuron of any state s, with `A = ds(t)/ds(t-1)`, `b = ds(t)/dI(t)` and `h = dz(t)/ds(t)`, the
functions below give the products `h G`, `A^T lam` and `b lam` that a reverse pass is made of.
States are structures of `[B, N]`; gradients to parameters come in the order of `neuron.parameters`.
"""

import tensorflow as tf

from orbit_snn.neurons import Neuron
from orbit_snn.types import State


def output_adjoint(
    neuron: Neuron, state: State, doutput: tf.Tensor
) -> tuple[State, tuple[tf.Tensor, ...]]:
    """`h G`, and the gradients of the output function to the parameters."""
    leaves = [tf.identity(leaf) for leaf in tf.nest.flatten(state)]
    parameters = neuron.parameters
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([*leaves, *parameters])
        output = neuron.output(tf.nest.pack_sequence_as(state, leaves))
    gradients = tape.gradient(
        output, [*leaves, *parameters], doutput, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    adjoint = tf.nest.pack_sequence_as(state, gradients[: len(leaves)])
    return adjoint, tuple(gradients[len(leaves) :])


def step_adjoint(
    neuron: Neuron, state: State, current: tf.Tensor, adjoint: State
) -> tuple[State, tf.Tensor, tuple[tf.Tensor, ...]]:
    """`A^T lam`, `b lam`, and the gradients of the step function to the parameters."""
    leaves = [tf.identity(leaf) for leaf in tf.nest.flatten(state)]
    current = tf.identity(current)
    parameters = neuron.parameters
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([*leaves, current, *parameters])
        after = neuron.step(tf.nest.pack_sequence_as(state, leaves), current)
    gradients = tape.gradient(
        tf.nest.flatten(after),
        [*leaves, current, *parameters],
        tf.nest.flatten(adjoint),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    count = len(leaves)
    dstate = tf.nest.pack_sequence_as(state, gradients[:count])
    return dstate, gradients[count], tuple(gradients[count + 1 :])


def cut(neuron: Neuron, state: State, direct: tf.Tensor, adjoint: State, uncut: tf.Tensor) -> State:
    """`adjoint` where `uncut` is 1, else what the state's direct output alone gives.

    The recurrent spikes of a cut step still depend on the neuron's own parameters, so only the path
    to the state is cut: the same as `stop_gradient` on the state that enters the next step.
    """
    alone, _ = output_adjoint(neuron, state, direct)
    return tf.nest.map_structure(
        lambda full, cut: uncut * full + (1.0 - uncut) * cut, adjoint, alone
    )
