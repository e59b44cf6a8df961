"""The reverse pass of one cell over a sequence.

It is derived from `Neuron.step` and `Neuron.output`: with `A = ds(t)/ds(t-1)`,
`b = ds(t)/dI(t)` and `h = dz(t)/ds(t)`, all elementwise and differentiated at trace time,

    lam(t) = h(t) G(t) + A(t+1)^T lam(t+1)        G(t) = dE/dz(t) + W_rec (b lam)(t+1)
    dE/dI(t) = b(t) lam(t)                        dE/dW = sum_t x(t)^T dE/dI(t)

One product after the loop gives the weight gradients. With `checkpoint_every=C` only every C-th
state is kept and the rest is computed again, block by block, in the reverse pass.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.adjoint import cut, output_adjoint, step_adjoint
from orbit_snn.cells import Cell
from orbit_snn.neurons import Neuron
from orbit_snn.types import CellTrajectory, State
from orbit_snn.unroll.forward import new_array, scan, steps_of, tree_map


class Reverse(NamedTuple):
    """Result of the reverse pass of one cell.

    Attributes:
      gradients: one tensor for each of `cell.parameters`, in that order.
      inputs: gradient to the cell's inputs, `[T, B, F]`, or None where it was not asked for.
      initial: gradient to the initial state.
      currents: gradient to the currents, `[T, B, N]`; None where only checkpoints were kept and the
        gradient to the inputs was not asked for.
    """

    gradients: tuple[tf.Tensor, ...]
    inputs: tf.Tensor | None
    initial: State
    currents: tf.Tensor | None


class Carry(NamedTuple):
    """What a reverse loop hands from step t + 1 to step t."""

    state: State  # dE/ds(t) by way of s(t + 1)
    current: tf.Tensor  # dE/dI(t + 1), [B, N]
    parameters: tuple[tf.Tensor, ...]  # gradients to the neuron's own parameters so far


class _Block(NamedTuple):
    """Stored forward pass over some consecutive steps."""

    inputs: tf.Tensor  # [C, B, F]
    history: State  # [C + 1, B, N]
    currents: tf.Tensor  # [C, B, N]
    previous_outputs: tf.Tensor  # [C, B, N]


def reverse(
    cell: Cell,
    trajectory: CellTrajectory,
    doutputs: tf.Tensor,
    *,
    checkpoint_every: int | None = None,
    cut_every: int | None = None,
    couple: bool = True,
    inputs_needed: bool = True,
    dhistory: State | None = None,
) -> Reverse:
    """Gradients of a scalar, given its direct gradient to the cell's outputs.

    Args:
      cell: what was run.
      trajectory: what `forward` returned, with the same `checkpoint_every`.
      doutputs: gradient to `trajectory.outputs`, `[T, B, N]`, other than by way of the cell's own
        recurrent connection.
      checkpoint_every: as in `forward`.
      cut_every: stop the gradient to the state that enters every step that is a multiple of it,
        truncated back-propagation through time.
      couple: follow the recurrent connection; False leaves only each neuron's own memory.
      inputs_needed: compute the gradient to the inputs.
      dhistory: gradient to `trajectory.history` other than by way of the outputs, or None.
    """
    steps = trajectory.inputs.shape[0]
    carry = first_carry(cell, trajectory)
    if trajectory.history is not None:
        block = _Block(
            trajectory.inputs,
            trajectory.history,
            trajectory.currents,
            trajectory.previous_outputs,
        )
        dcurrents, carry = _reverse_scan(
            cell, block, doutputs, carry, 0, cut_every, couple, dhistory
        )
        carry = _into_initial(cell, trajectory.initial, carry, couple)
        weights = weight_gradients(cell, block.inputs, block.previous_outputs, dcurrents)
        inputs = cell.feedforward.transpose(dcurrents) if inputs_needed else None
        return Reverse((*weights, *carry.parameters), inputs, carry.state, dcurrents)
    if checkpoint_every is None:
        raise ValueError("this trajectory kept checkpoints; reverse needs its checkpoint_every.")
    work = _BlockReverse(cell, trajectory, doutputs, checkpoint_every, cut_every, couple)
    return work.run(steps, carry, inputs_needed)


def _reverse_scan(
    cell: Cell,
    block: _Block,
    doutputs: tf.Tensor,
    carry: Carry,
    start: Any,
    cut_every: int | None,
    couple: bool,
    dhistory: State | None = None,
) -> tuple[tf.Tensor, Carry]:
    """Gradients to the currents of a block, `[C, B, N]`, and the carry that leaves it.

    `start` is the block's first step in the sequence, which `cut_every` counts from.
    """
    steps = block.inputs.shape[0]
    recurrent = cell.recurrent if couple else None
    transposed = None if recurrent is None else recurrent.transposed()
    history = tree_map(lambda leaf: new_array(leaf, steps + 1).unstack(leaf), block.history)
    currents = new_array(block.currents, steps).unstack(block.currents)
    direct = new_array(doutputs, steps).unstack(doutputs)
    states = None
    if dhistory is not None:
        states = tree_map(lambda leaf: new_array(leaf, steps + 1).unstack(leaf), dhistory)

    def body(t: tf.Tensor, carry: Carry, dcurrents: tf.TensorArray) -> tuple:
        coupled = None
        if recurrent is not None:
            coupled = recurrent.transpose(carry.current, transposed)
        carry = back_one_step(
            cell.neuron,
            tree_map(lambda array: array.read(t), history),
            tree_map(lambda array: array.read(t + 1), history),
            currents.read(t),
            direct.read(t),
            coupled,
            carry,
            None if states is None else tree_map(lambda array: array.read(t + 1), states),
            None if cut_every is None else (start + t + 1) % cut_every != 0,
        )
        return t - 1, carry, dcurrents.write(t, carry.current)

    dcurrents = new_array(block.currents, steps)
    _, carry, dcurrents = tf.while_loop(
        lambda t, *_: t >= 0, body, (steps - 1, carry, dcurrents), maximum_iterations=steps
    )
    return dcurrents.stack(), carry


def back_one_step(
    neuron: Neuron,
    before: State,
    after: State,
    current: tf.Tensor,
    direct: tf.Tensor,
    coupled: tf.Tensor | None,
    carry: Carry,
    dstate: State | None,
    keeps: tf.Tensor | None,
) -> Carry:
    """Goes back through one step of a population.

    Args:
      neuron: the population.
      before: state before the step.
      after: state after it.
      current: of the step, `[B, N]`.
      direct: gradient to the output, `[B, N]`, other than by way of the next step's currents.
      coupled: gradient by that way, or None.
      carry: of the next step.
      dstate: gradient to the state after the step other than by way of outputs, or None.
      keeps: False where the state after the step is cut from it, or None for nowhere.
    """
    doutput = direct if coupled is None else direct + coupled
    adjoint, own = output_adjoint(neuron, after, doutput)
    state = carry.state
    if keeps is not None:
        uncut = tf.cast(keeps, doutput.dtype)
        adjoint = cut(neuron, after, direct, adjoint, uncut)
        state = tree_map(lambda leaf: uncut * leaf, state)
    adjoint = tree_map(tf.add, adjoint, state)
    if dstate is not None:
        adjoint = tree_map(tf.add, adjoint, dstate)
    earlier, dcurrent, more = step_adjoint(neuron, before, current, adjoint)
    parameters = tuple(a + b + c for a, b, c in zip(carry.parameters, own, more, strict=True))
    return Carry(earlier, dcurrent, parameters)


def _into_initial(cell: Cell, initial: State, carry: Carry, couple: bool) -> Carry:
    """The carry of the first step taken through the output of the initial state.

    That output is in the recurrent current of the first step: it passes gradient to the initial
    state and, where it depends on the neuron's own parameters, to those.
    """
    if cell.recurrent is None or not couple:
        return carry
    doutput = cell.recurrent.transpose(carry.current)
    adjoint, own = output_adjoint(cell.neuron, initial, doutput)
    parameters = tuple(a + b for a, b in zip(carry.parameters, own, strict=True))
    return carry._replace(state=tree_map(tf.add, carry.state, adjoint), parameters=parameters)


class _BlockReverse(NamedTuple):
    """Reverse pass over a trajectory of which only checkpoints were kept."""

    cell: Cell
    trajectory: CellTrajectory
    doutputs: tf.Tensor
    every: int
    cut_every: int | None
    couple: bool

    def run(self, steps: int, carry: Carry, inputs_needed: bool) -> Reverse:
        """Blocks from the last to the first; weight gradients are added up on the way."""
        whole, tail = divmod(steps, self.every)
        totals: tuple[tf.Tensor, ...] = self._zeros()
        last = None
        if tail:
            carry, totals, last = self._block(whole, tail, carry, totals)
        shape = [self.every, *self.doutputs.shape[1:]]
        stack = tf.TensorArray(self.doutputs.dtype, whole if inputs_needed else 0)

        def body(index: tf.Tensor, carry: Carry, totals: Any, stack: tf.TensorArray) -> tuple:
            carry, totals, dcurrents = self._block(index, self.every, carry, totals)
            if inputs_needed:
                stack = stack.write(index, tf.reshape(dcurrents, shape))
            return index - 1, carry, totals, stack

        _, carry, totals, stack = tf.while_loop(
            lambda index, *_: index >= 0, body, (whole - 1, carry, totals, stack)
        )
        carry = _into_initial(self.cell, self.trajectory.initial, carry, self.couple)
        inputs = dcurrents = None
        if inputs_needed:
            dcurrents = tf.reshape(stack.stack(), [whole * self.every, *shape[1:]])
            if last is not None:
                dcurrents = tf.concat([dcurrents, last], axis=0)
            inputs = self.cell.feedforward.transpose(dcurrents)
        return Reverse((*totals, *carry.parameters), inputs, carry.state, dcurrents)

    def _zeros(self) -> tuple[tf.Tensor, ...]:
        count = len(self.cell.parameters) - len(self.cell.neuron.parameters)
        return tuple(tf.zeros(p.shape, p.dtype) for p in self.cell.parameters[:count])

    def _block(self, index: Any, length: int, carry: Carry, totals: Any) -> tuple:
        """Computes one block again and goes back through it."""
        start = index * self.every
        state = tree_map(lambda leaf: leaf[index], self.trajectory.checkpoints)
        xs = steps_of(self.trajectory.inputs, start, length)
        history, currents = scan(self.cell, xs, state)
        previous = self.cell.neuron.output(tree_map(lambda leaf: leaf[:-1], history))
        block = _Block(xs, history, currents, previous)
        direct = steps_of(self.doutputs, start, length)
        dcurrents, carry = _reverse_scan(
            self.cell, block, direct, carry, start, self.cut_every, self.couple
        )
        more = weight_gradients(self.cell, block.inputs, block.previous_outputs, dcurrents)
        return carry, tuple(a + b for a, b in zip(totals, more, strict=True)), dcurrents


def first_carry(cell: Cell, trajectory: CellTrajectory) -> Carry:
    """Nothing comes from after the last step."""
    return Carry(
        tree_map(tf.zeros_like, trajectory.final),
        tf.zeros_like(trajectory.outputs[0]),
        tuple(tf.zeros(p.shape, p.dtype) for p in cell.neuron.parameters),
    )


def weight_gradients(
    cell: Cell, inputs: tf.Tensor, previous: tf.Tensor | None, dcurrents: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Gradients to the parameters of the connections, one product each."""
    feedforward = cell.feedforward.weight_gradient(inputs, dcurrents)
    if cell.recurrent is None:
        return feedforward
    return (*feedforward, *cell.recurrent.weight_gradient(previous, dcurrents))
