"""The forward pass of one cell over a sequence.

Input currents are one product before the loop; inside are the recurrent product and elementwise
work.
"""

from typing import Any

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.types import CellTrajectory, State


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
        history, currents = scan(cell, xs, state)
        outputs = cell.neuron.output(history)
        return CellTrajectory(
            inputs=xs,
            initial=state,
            history=history,
            currents=currents,
            checkpoints=None,
            outputs=outputs[1:],
            previous_outputs=outputs[:-1],
            final=tree_map(lambda leaf: leaf[-1], history),
        )
    return _forward_in_blocks(cell, xs, state, checkpoint_every)


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


def scan(cell: Cell, xs: tf.Tensor, state: State) -> tuple[State, tf.Tensor]:
    """States before and after every step, `[T + 1, B, N]`, and currents, `[T, B, N]`."""
    steps = xs.shape[0]
    driven = cell.feedforward(xs)
    weights = None if cell.recurrent is None else cell.recurrent.weights()
    driven_steps = new_array(driven, steps).unstack(driven)
    histories = tree_map(lambda leaf: new_array(leaf, steps + 1, leaf.shape).write(0, leaf), state)
    currents = new_array(driven, steps)

    def body(t: tf.Tensor, state: State, histories: Any, currents: Any) -> tuple:
        current = _current(cell, driven_steps.read(t), state, weights)
        state = cell.neuron.step(state, current)
        histories = tree_map(lambda array, leaf: array.write(t + 1, leaf), histories, state)
        return t + 1, state, histories, currents.write(t, current)

    loop = tf.while_loop(
        lambda t, *_: t < steps, body, (0, state, histories, currents), maximum_iterations=steps
    )
    return tree_map(lambda array: array.stack(), loop[2]), loop[3].stack()


def _forward_in_blocks(cell: Cell, xs: tf.Tensor, state: State, every: int) -> CellTrajectory:
    """`forward` that keeps the state before every block of `every` steps, and all outputs."""
    steps = xs.shape[0]
    whole, tail = divmod(steps, every)
    initial = state
    checkpoints = tree_map(lambda leaf: new_array(leaf, whole + bool(tail), leaf.shape), state)
    outputs = new_array(cell.neuron.output(state), steps, [xs.shape[1], cell.neuron.units])

    def block(index: Any, length: int, state: State, checkpoints: Any, outputs: Any) -> tuple:
        checkpoints = tree_map(lambda array, leaf: array.write(index, leaf), checkpoints, state)
        start = index * every
        state, outputs = _skim(cell, steps_of(xs, start, length), state, start, outputs)
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
        checkpoints=tree_map(lambda array: array.stack(), checkpoints),
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
    driven_steps = new_array(driven, steps).unstack(driven)
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


def steps_of(x: tf.Tensor, start: Any, length: int) -> tf.Tensor:
    """`length` steps of `[T, B, N]` from `start` on, of static shape."""
    return tf.slice(x, [start] + [0] * (x.shape.rank - 1), [length, *x.shape[1:]])


def new_array(like: tf.Tensor, size: int, shape: Any = None) -> tf.TensorArray:
    """A stack of `size` tensors of `shape`, by default that of one step of `like`."""
    shape = like.shape[1:] if shape is None else shape
    return tf.TensorArray(like.dtype, size, element_shape=shape, clear_after_read=False)


def tree_map(function: Any, *structures: Any) -> Any:
    """`tf.nest.map_structure`."""
    return tf.nest.map_structure(function, *structures)
