"""The time loop: forward trajectory and reverse adjoint of one cell over a sequence.

No other file loops over the steps of a sequence. Input currents are one product before the loop
and weight gradients one product after it; inside are the recurrent product and elementwise work.

The reverse pass is derived from `Neuron.step` and `Neuron.output`: with `A = ds(t)/ds(t-1)`,
`b = ds(t)/dI(t)` and `h = dz(t)/ds(t)`, all elementwise and differentiated at trace time,

    lam(t) = h(t) G(t) + A(t+1)^T lam(t+1)        G(t) = dE/dz(t) + W_rec (b lam)(t+1)
    dE/dI(t) = b(t) lam(t)                        dE/dW = sum_t x(t)^T dE/dI(t)

With `checkpoint_every=C` only every C-th state is kept and the rest is computed again, block by
block, in the reverse pass.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.adjoint import cut, output_adjoint, step_adjoint
from orbit_snn.cells import Cell
from orbit_snn.types import CellTrajectory, State


class Reverse(NamedTuple):
    """Result of the reverse pass of one cell.

    Attributes:
      gradients: one tensor for each of `cell.parameters`, in that order.
      inputs: gradient to the cell's inputs, `[T, B, F]`, or None where it was not asked for.
      initial: gradient to the initial state.
    """

    gradients: tuple[tf.Tensor, ...]
    inputs: tf.Tensor | None
    initial: State


class _Carry(NamedTuple):
    """What the reverse loop hands from step t + 1 to step t."""

    state: State  # dE/ds(t) by way of s(t + 1)
    current: tf.Tensor  # dE/dI(t + 1), [B, N]
    parameters: tuple[tf.Tensor, ...]  # gradients to the neuron's own parameters so far


class _Block(NamedTuple):
    """Stored forward pass over some consecutive steps."""

    inputs: tf.Tensor  # [C, B, F]
    history: State  # [C + 1, B, N]
    currents: tf.Tensor  # [C, B, N]
    previous_outputs: tf.Tensor  # [C, B, N]


def forward(
    cell: Cell, xs: tf.Tensor, state: State | None = None, checkpoint_every: int | None = None
) -> CellTrajectory:
    """Runs a cell over a sequence.

    Args:
      cell: what to run.
      xs: inputs, `[T, B, F]`, of static shape.
      state: before the first step, of `[B, N]`; default the cell's initial state.
      checkpoint_every: keep every C-th state only, for long sequences; C near sqrt(T) is best.

    Raises:
      ValueError: for inputs of another shape, or no steps.
    """
    check_inputs(cell, xs)
    check_interval(checkpoint_every)
    state = cell.initial_state(xs.shape[1]) if state is None else state
    if checkpoint_every is None or checkpoint_every >= xs.shape[0]:
        history, currents = _scan(cell, xs, state)
        outputs = cell.neuron.output(history)
        return CellTrajectory(
            inputs=xs,
            initial=state,
            history=history,
            currents=currents,
            checkpoints=None,
            outputs=outputs[1:],
            previous_outputs=outputs[:-1],
            final=_map(lambda leaf: leaf[-1], history),
        )
    return _forward_in_blocks(cell, xs, state, checkpoint_every)


def reverse(
    cell: Cell,
    trajectory: CellTrajectory,
    doutputs: tf.Tensor,
    *,
    checkpoint_every: int | None = None,
    cut_every: int | None = None,
    couple: bool = True,
    inputs_needed: bool = True,
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
    """
    steps = trajectory.inputs.shape[0]
    carry = _first_carry(cell, trajectory)
    if trajectory.history is not None:
        block = _Block(
            trajectory.inputs,
            trajectory.history,
            trajectory.currents,
            trajectory.previous_outputs,
        )
        dcurrents, carry = _reverse_scan(cell, block, doutputs, carry, 0, cut_every, couple)
        carry = _into_initial(cell, trajectory.initial, carry, couple)
        weights = _weight_gradients(cell, block, dcurrents)
        inputs = cell.feedforward.transpose(dcurrents) if inputs_needed else None
        return Reverse((*weights, *carry.parameters), inputs, carry.state)
    if checkpoint_every is None:
        raise ValueError("this trajectory kept checkpoints; reverse needs its checkpoint_every.")
    work = _BlockReverse(cell, trajectory, doutputs, checkpoint_every, cut_every, couple)
    return work.run(steps, carry, inputs_needed)


def check_interval(checkpoint_every: int | None) -> None:
    """Raises ValueError unless `checkpoint_every` is None or at least 1."""
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every is {checkpoint_every}; expected 1 or more, or None.")


def check_inputs(cell: Cell, xs: tf.Tensor) -> None:
    """Raises ValueError unless `xs` is `[T, B, F]` with T of 1 or more and the cell's own F."""
    expected = cell.feedforward.inputs
    if xs.shape.rank != 3 or xs.shape[2] != expected:
        raise ValueError(
            f"inputs have shape {xs.shape}; expected [T, B, {expected}], time first, with "
            f"{expected} values a step."
        )
    if not xs.shape.is_fully_defined():
        raise ValueError(f"inputs have shape {xs.shape}; every size must be known beforehand.")
    if xs.shape[0] < 1:
        raise ValueError("the sequence has no steps; give inputs [T, B, F] with T of at least 1.")


def _scan(cell: Cell, xs: tf.Tensor, state: State) -> tuple[State, tf.Tensor]:
    """States before and after every step, `[T + 1, B, N]`, and currents, `[T, B, N]`."""
    steps = xs.shape[0]
    driven = cell.feedforward(xs)
    weights = None if cell.recurrent is None else cell.recurrent.weights()
    driven_steps = _array(driven, steps).unstack(driven)
    histories = _map(lambda leaf: _array(leaf, steps + 1, leaf.shape).write(0, leaf), state)
    currents = _array(driven, steps)

    def body(t: tf.Tensor, state: State, histories: Any, currents: Any) -> tuple:
        current = _current(cell, driven_steps.read(t), state, weights)
        state = cell.neuron.step(state, current)
        histories = _map(lambda array, leaf: array.write(t + 1, leaf), histories, state)
        return t + 1, state, histories, currents.write(t, current)

    loop = tf.while_loop(
        lambda t, *_: t < steps, body, (0, state, histories, currents), maximum_iterations=steps
    )
    return _map(lambda array: array.stack(), loop[2]), loop[3].stack()


def _forward_in_blocks(cell: Cell, xs: tf.Tensor, state: State, every: int) -> CellTrajectory:
    """`forward` that keeps the state before every block of `every` steps, and all outputs."""
    steps = xs.shape[0]
    whole, tail = divmod(steps, every)
    initial = state
    checkpoints = _map(lambda leaf: _array(leaf, whole + bool(tail), leaf.shape), state)
    outputs = _array(cell.neuron.output(state), steps, [xs.shape[1], cell.neuron.units])

    def block(index: Any, length: int, state: State, checkpoints: Any, outputs: Any) -> tuple:
        checkpoints = _map(lambda array, leaf: array.write(index, leaf), checkpoints, state)
        start = index * every
        state, outputs = _skim(cell, _steps(xs, start, length), state, start, outputs)
        return index + 1, state, checkpoints, outputs

    _, state, checkpoints, outputs = tf.while_loop(
        lambda index, *_: index < whole,
        lambda index, *carried: block(index, every, *carried),
        (0, state, checkpoints, outputs),
    )
    if tail:
        _, state, checkpoints, outputs = block(whole, tail, state, checkpoints, outputs)
    return CellTrajectory(
        inputs=xs,
        initial=initial,
        history=None,
        currents=None,
        checkpoints=_map(lambda array: array.stack(), checkpoints),
        outputs=outputs.stack(),
        previous_outputs=None,
        final=state,
    )


def _skim(
    cell: Cell, xs: tf.Tensor, state: State, start: Any, outputs: tf.TensorArray
) -> tuple[State, tf.TensorArray]:
    """`_scan` that keeps only the outputs, written from `start` on, and the last state."""
    steps = xs.shape[0]
    driven = cell.feedforward(xs)
    driven_steps = _array(driven, steps).unstack(driven)
    weights = None if cell.recurrent is None else cell.recurrent.weights()

    def body(t: tf.Tensor, state: State, outputs: tf.TensorArray) -> tuple:
        state = cell.neuron.step(state, _current(cell, driven_steps.read(t), state, weights))
        return t + 1, state, outputs.write(start + t, cell.neuron.output(state))

    _, state, outputs = tf.while_loop(
        lambda t, *_: t < steps, body, (0, state, outputs), maximum_iterations=steps
    )
    return state, outputs


def _current(cell: Cell, driven: tf.Tensor, state: State, weights: Any) -> tf.Tensor:
    """Total current of a step: the feedforward part plus that of the spikes one step before."""
    if cell.recurrent is None:
        return driven
    return driven + cell.recurrent(cell.neuron.output(state), weights)


def _reverse_scan(
    cell: Cell,
    block: _Block,
    doutputs: tf.Tensor,
    carry: _Carry,
    start: Any,
    cut_every: int | None,
    couple: bool,
) -> tuple[tf.Tensor, _Carry]:
    """Gradients to the currents of a block, `[C, B, N]`, and the carry that leaves it.

    `start` is the block's first step in the sequence, which `cut_every` counts from.
    """
    steps = block.inputs.shape[0]
    recurrent = cell.recurrent if couple else None
    transposed = None if recurrent is None else recurrent.transposed()
    history = _map(lambda leaf: _array(leaf, steps + 1).unstack(leaf), block.history)
    currents = _array(block.currents, steps).unstack(block.currents)
    direct = _array(doutputs, steps).unstack(doutputs)

    def body(t: tf.Tensor, carry: _Carry, dcurrents: tf.TensorArray) -> tuple:
        doutput = direct.read(t)
        if recurrent is not None:
            doutput += recurrent.transpose(carry.current, transposed)
        after = _map(lambda array: array.read(t + 1), history)
        before = _map(lambda array: array.read(t), history)
        adjoint, own = output_adjoint(cell.neuron, after, doutput)
        if cut_every is not None:
            uncut = tf.cast((start + t + 1) % cut_every != 0, doutput.dtype)
            adjoint = cut(cell.neuron, after, direct.read(t), adjoint, uncut)
            carry = carry._replace(state=_map(lambda leaf: uncut * leaf, carry.state))
        adjoint = _map(tf.add, adjoint, carry.state)
        dstate, dcurrent, more = step_adjoint(cell.neuron, before, currents.read(t), adjoint)
        parameters = tuple(a + b + c for a, b, c in zip(carry.parameters, own, more, strict=True))
        return t - 1, _Carry(dstate, dcurrent, parameters), dcurrents.write(t, dcurrent)

    dcurrents = _array(block.currents, steps)
    _, carry, dcurrents = tf.while_loop(
        lambda t, *_: t >= 0, body, (steps - 1, carry, dcurrents), maximum_iterations=steps
    )
    return dcurrents.stack(), carry


def _into_initial(cell: Cell, initial: State, carry: _Carry, couple: bool) -> _Carry:
    """The carry of the first step taken through the output of the initial state.

    That output is in the recurrent current of the first step: it passes gradient to the initial
    state and, where it depends on the neuron's own parameters, to those.
    """
    if cell.recurrent is None or not couple:
        return carry
    doutput = cell.recurrent.transpose(carry.current)
    adjoint, own = output_adjoint(cell.neuron, initial, doutput)
    parameters = tuple(a + b for a, b in zip(carry.parameters, own, strict=True))
    return carry._replace(state=_map(tf.add, carry.state, adjoint), parameters=parameters)


class _BlockReverse(NamedTuple):
    """Reverse pass over a trajectory of which only checkpoints were kept."""

    cell: Cell
    trajectory: CellTrajectory
    doutputs: tf.Tensor
    every: int
    cut_every: int | None
    couple: bool

    def run(self, steps: int, carry: _Carry, inputs_needed: bool) -> Reverse:
        """Blocks from the last to the first; weight gradients are added up on the way."""
        whole, tail = divmod(steps, self.every)
        totals: tuple[tf.Tensor, ...] = self._zeros()
        last = None
        if tail:
            carry, totals, last = self._block(whole, tail, carry, totals)
        shape = [self.every, *self.doutputs.shape[1:]]
        stack = tf.TensorArray(self.doutputs.dtype, whole if inputs_needed else 0)

        def body(index: tf.Tensor, carry: _Carry, totals: Any, stack: tf.TensorArray) -> tuple:
            carry, totals, dcurrents = self._block(index, self.every, carry, totals)
            if inputs_needed:
                stack = stack.write(index, tf.ensure_shape(dcurrents, shape))
            return index - 1, carry, totals, stack

        _, carry, totals, stack = tf.while_loop(
            lambda index, *_: index >= 0, body, (whole - 1, carry, totals, stack)
        )
        carry = _into_initial(self.cell, self.trajectory.initial, carry, self.couple)
        inputs = None
        if inputs_needed:
            dcurrents = tf.reshape(stack.stack(), [whole * self.every, *shape[1:]])
            if last is not None:
                dcurrents = tf.concat([dcurrents, last], axis=0)
            inputs = self.cell.feedforward.transpose(dcurrents)
        return Reverse((*totals, *carry.parameters), inputs, carry.state)

    def _zeros(self) -> tuple[tf.Tensor, ...]:
        count = len(self.cell.parameters) - len(self.cell.neuron.parameters)
        return tuple(tf.zeros(p.shape, p.dtype) for p in self.cell.parameters[:count])

    def _block(self, index: Any, length: int, carry: _Carry, totals: Any) -> tuple:
        """Computes one block again and goes back through it."""
        start = index * self.every
        state = _map(lambda leaf: leaf[index], self.trajectory.checkpoints)
        xs = _steps(self.trajectory.inputs, start, length)
        history, currents = _scan(self.cell, xs, state)
        previous = self.cell.neuron.output(_map(lambda leaf: leaf[:-1], history))
        block = _Block(xs, history, currents, previous)
        direct = _steps(self.doutputs, start, length)
        dcurrents, carry = _reverse_scan(
            self.cell, block, direct, carry, start, self.cut_every, self.couple
        )
        more = _weight_gradients(self.cell, block, dcurrents)
        return carry, tuple(a + b for a, b in zip(totals, more, strict=True)), dcurrents


def _first_carry(cell: Cell, trajectory: CellTrajectory) -> _Carry:
    """Nothing comes from after the last step."""
    return _Carry(
        _map(tf.zeros_like, trajectory.final),
        tf.zeros_like(trajectory.outputs[0]),
        tuple(tf.zeros(p.shape, p.dtype) for p in cell.neuron.parameters),
    )


def _weight_gradients(cell: Cell, block: _Block, dcurrents: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Gradients to the parameters of the connections, one product each."""
    feedforward = cell.feedforward.weight_gradient(block.inputs, dcurrents)
    if cell.recurrent is None:
        return feedforward
    return (*feedforward, *cell.recurrent.weight_gradient(block.previous_outputs, dcurrents))


def _steps(x: tf.Tensor, start: Any, length: int) -> tf.Tensor:
    """`length` steps of `[T, B, N]` from `start` on, of static shape."""
    return tf.slice(x, [start] + [0] * (x.shape.rank - 1), [length, *x.shape[1:]])


def _array(like: tf.Tensor, size: int, shape: Any = None) -> tf.TensorArray:
    """A stack of `size` tensors of `shape`, by default that of one step of `like`."""
    shape = like.shape[1:] if shape is None else shape
    return tf.TensorArray(like.dtype, size, element_shape=shape, clear_after_read=False)


def _map(function: Any, *structures: Any) -> Any:
    return tf.nest.map_structure(function, *structures)
