"""The passes of a network whose readouts feed its first cell: all cells step together.

What a readout gave one step before is part of the first cell's current, or, in closed loop, its
input, so no cell can run through the sequence before the others. The equations are those of
`unroll.forward` and `unroll.reverse`, one step of every cell after the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.adjoint import output_adjoint
from orbit_snn.cells import Cell
from orbit_snn.connections import Connection
from orbit_snn.types import CellTrajectory, State
from orbit_snn.unroll.forward import check_inputs, new_array, tree_map
from orbit_snn.unroll.reverse import Carry, Reverse, back_one_step, first_carry, weight_gradients


class Parts(NamedTuple):
    """A network in the order of a step.

    Attributes:
      cells: in series.
      readouts: of the last cell, by name.
      feedback: from readouts, by name, onto the first cell.
      closing: the readout whose output is the input of a step that is given none.
    """

    cells: Sequence[Cell]
    readouts: Mapping[str, Cell]
    feedback: Mapping[str, Connection]
    closing: str = ""

    @property
    def every(self) -> list[Cell]:
        """Cells, then readouts."""
        return [*self.cells, *self.readouts.values()]

    def place(self, readout: str) -> int:
        """Of a readout in `every`."""
        return len(self.cells) + list(self.readouts).index(readout)


class _Ways(NamedTuple):
    """Transposed weights, as `Connection.transpose` takes them; the first two of `Parts.every`."""

    feedforward: list[Any]
    recurrent: list[Any]
    feedback: dict[str, Any]


def forward_together(
    parts: Parts, xs: tf.Tensor, states: Sequence[State], given: tf.Tensor | None = None
) -> list[CellTrajectory]:
    """Runs a network over a sequence.

    Args:
      parts: the network.
      xs: inputs, `[T, B, F]`.
      states: before the first step, of `parts.every`.
      given: bool `[T, B]`, where `xs` is the input; elsewhere it is what `parts.closing` gave one
        step before. None for everywhere.

    Returns:
      The trajectory of each of `parts.every`.

    Raises:
      ValueError: for inputs or marks of another shape.
    """
    first, steps = parts.cells[0], xs.shape[0]
    check_inputs(first, xs)
    _check_given(given, xs)
    driven = first.feedforward(xs)
    read = new_array(driven, steps).unstack(driven)
    marks = None if given is None else new_array(given, steps).unstack(given)
    weights = [(cell.feedforward.weights(), _recurrent(cell)) for cell in parts.every]
    back = {name: connection.weights() for name, connection in parts.feedback.items()}
    histories = tree_map(
        lambda leaf: new_array(leaf, steps + 1, leaf.shape).write(0, leaf), list(states)
    )
    currents = [new_array(driven, steps, [xs.shape[1], cell.neuron.units]) for cell in parts.every]

    def body(t: tf.Tensor, states: Any, histories: Any, currents: Any) -> tuple:
        driving = read.read(t)
        if marks is not None:
            closed = first.feedforward(_output(parts, parts.closing, states), weights[0][0])
            driving = tf.where(marks.read(t)[:, tf.newaxis], driving, closed)
        for name, connection in parts.feedback.items():
            driving += connection(_output(parts, name, states), back[name])
        signal, after, written = None, [], []
        for index, (cell, state, (own, recurrent)) in enumerate(
            zip(parts.every, states, weights, strict=True)
        ):
            current = driving if index == 0 else cell.feedforward(signal, own)
            if cell.recurrent is not None:
                current += cell.recurrent(cell.neuron.output(state), recurrent)
            after.append(cell.neuron.step(state, current))
            written.append(currents[index].write(t, current))
            if index < len(parts.cells):
                signal = cell.neuron.output(after[-1])
        histories = tree_map(lambda array, leaf: array.write(t + 1, leaf), histories, after)
        return t + 1, after, histories, written

    loop = tf.while_loop(
        lambda t, *_: t < steps,
        body,
        (0, list(states), histories, currents),
        maximum_iterations=steps,
    )
    found = _trajectories(parts, xs, states, loop[2], loop[3])
    if given is not None:
        before = found[parts.place(parts.closing)].previous_outputs
        received = tf.where(given[..., tf.newaxis], xs, before)
        found[0] = found[0]._replace(inputs=received)
    return found


def _trajectories(
    parts: Parts, xs: tf.Tensor, states: Sequence[State], histories: Any, currents: Any
) -> list[CellTrajectory]:
    found: list[CellTrajectory] = []
    for index, cell in enumerate(parts.every):
        history = tree_map(lambda array: array.stack(), histories[index])
        outputs = cell.neuron.output(history)
        below = min(index, len(parts.cells)) - 1
        found.append(
            CellTrajectory(
                inputs=xs if index == 0 else found[below].outputs,
                initial=states[index],
                history=history,
                currents=currents[index].stack(),
                checkpoints=None,
                outputs=outputs[1:],
                previous_outputs=outputs[:-1],
                final=tree_map(lambda leaf: leaf[-1], history),
            )
        )
    return found


def reverse_together(
    parts: Parts,
    trajectories: Sequence[CellTrajectory],
    direct: Sequence[tf.Tensor],
    histories: Sequence[State | None],
    cut_every: int | None = None,
    given: tf.Tensor | None = None,
) -> list[Reverse]:
    """Gradients of a scalar, given its direct gradients to all outputs.

    Args:
      parts: the network.
      trajectories: of `forward_together`.
      direct: to the outputs of each of `parts.every`, `[T, B, N]`.
      histories: to the states of each, of `[T + 1, B, N]`, or None.
      cut_every: as in `unroll.reverse`.
      given: as in `forward_together`.

    Returns:
      The result for each of `parts.every`.
    """
    every, steps = parts.every, trajectories[0].inputs.shape[0]
    ways = _ways(parts)
    marks = None if given is None else new_array(given, steps).unstack(given)
    read = [_reading(trajectory) for trajectory in trajectories]
    signals = [new_array(x, steps).unstack(x) for x in direct]
    owns = [
        None if x is None else tree_map(lambda leaf: new_array(leaf, steps + 1).unstack(leaf), x)
        for x in histories
    ]

    def body(t: tf.Tensor, carries: Any, written: Any) -> tuple:
        nexts, arrays = list(carries), list(written)
        above: tf.Tensor | None = None
        for index in reversed(range(len(every))):
            cell = every[index]
            doutput = signals[index].read(t)
            if above is not None and index < len(parts.cells):
                doutput += above
            mark = None if marks is None else marks.read(tf.minimum(t + 1, steps - 1))
            coupled = _coupled(parts, index, carries, ways, mark)
            history, currents = read[index]
            extra = owns[index]
            carry = back_one_step(
                cell.neuron,
                tree_map(lambda array: array.read(t), history),
                tree_map(lambda array: array.read(t + 1), history),
                currents.read(t),
                doutput,
                coupled,
                carries[index],
                None if extra is None else tree_map(lambda array: array.read(t + 1), extra),
                None if cut_every is None else (t + 1) % cut_every != 0,
            )
            nexts[index] = carry
            arrays[index] = arrays[index].write(t, carry.current)
            passed = cell.feedforward.transpose(carry.current, ways.feedforward[index])
            if index < len(parts.cells):
                above = passed
            else:
                above = passed if above is None else above + passed
        return t - 1, nexts, arrays

    start = [first_carry(cell, each) for cell, each in zip(every, trajectories, strict=True)]
    arrays = [new_array(each.currents, steps) for each in trajectories]
    _, carries, arrays = tf.while_loop(
        lambda t, *_: t >= 0, body, (steps - 1, start, arrays), maximum_iterations=steps
    )
    return _results(parts, trajectories, carries, [array.stack() for array in arrays], ways, given)


def _results(
    parts: Parts,
    trajectories: Sequence[CellTrajectory],
    carries: Sequence[Carry],
    dcurrents: Sequence[tf.Tensor],
    ways: _Ways,
    given: tf.Tensor | None,
) -> list[Reverse]:
    """Weight gradients, and what the outputs of the first states passed on."""
    mark = None if given is None else given[0]
    found = []
    for index, (cell, trajectory) in enumerate(zip(parts.every, trajectories, strict=True)):
        carry = carries[index]
        coupled = _coupled(parts, index, carries, ways, mark)
        if coupled is not None:
            adjoint, own = output_adjoint(cell.neuron, trajectory.initial, coupled)
            carry = carry._replace(
                state=tree_map(tf.add, carry.state, adjoint),
                parameters=tuple(map(tf.add, carry.parameters, own)),
            )
        weights = weight_gradients(
            cell, trajectory.inputs, trajectory.previous_outputs, dcurrents[index]
        )
        inputs = cell.feedforward.transpose(dcurrents[index]) if index == 0 else None
        if inputs is not None and given is not None:
            inputs = tf.where(given[..., tf.newaxis], inputs, tf.zeros_like(inputs))
        gradients = (*weights, *carry.parameters)
        found.append(Reverse(gradients, inputs, carry.state, dcurrents[index]))
    return found


def _coupled(
    parts: Parts, index: int, carries: Sequence[Carry], ways: _Ways, mark: tf.Tensor | None
) -> tf.Tensor | None:
    """Gradient to an output by way of the currents of the next step, `[B, N]`, or None.

    `mark` is `given` at the next step, `[B]`.
    """
    cell, first = parts.every[index], carries[0].current
    found = []
    if cell.recurrent is not None:
        found.append(cell.recurrent.transpose(carries[index].current, ways.recurrent[index]))
    for name, connection in parts.feedback.items():
        if parts.place(name) == index:
            found.append(connection.transpose(first, ways.feedback[name]))
    if mark is not None and parts.place(parts.closing) == index:
        closed = parts.cells[0].feedforward.transpose(first, ways.feedforward[0])
        found.append(tf.where(mark[:, tf.newaxis], tf.zeros_like(closed), closed))
    return tf.add_n(found) if found else None


def _ways(parts: Parts) -> _Ways:
    return _Ways(
        [cell.feedforward.transposed() for cell in parts.every],
        [None if cell.recurrent is None else cell.recurrent.transposed() for cell in parts.every],
        {name: connection.transposed() for name, connection in parts.feedback.items()},
    )


def _output(parts: Parts, readout: str, states: Sequence[State]) -> tf.Tensor:
    """What a readout gave in a state, `[B, K]`."""
    return parts.readouts[readout].neuron.output(states[parts.place(readout)])


def _check_given(given: tf.Tensor | None, xs: tf.Tensor) -> None:
    if given is not None and not (given.dtype.is_bool and given.shape == xs.shape[:2]):
        raise ValueError(
            f"given is {given.dtype.name} {given.shape}; expected bool {xs.shape[:2]}, [T, B], "
            "true where a step has an input."
        )


def _recurrent(cell: Cell) -> Any:
    return None if cell.recurrent is None else cell.recurrent.weights()


def _reading(trajectory: CellTrajectory) -> tuple[Any, tf.TensorArray]:
    """States and currents of a trajectory for a loop to read."""
    history, currents = trajectory.history, trajectory.currents
    steps = trajectory.inputs.shape[0]
    return (
        tree_map(lambda leaf: new_array(leaf, steps + 1).unstack(leaf), history),
        new_array(currents, steps).unstack(currents),
    )
