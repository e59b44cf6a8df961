"""The passes of a network whose readouts feed its first cell: all cells step together.

What a readout gave one step before is part of the first cell's current, so no cell can run through
the sequence before the others. The equations are those of `unroll.forward` and `unroll.reverse`,
one step of every cell after the other.
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
    """

    cells: Sequence[Cell]
    readouts: Mapping[str, Cell]
    feedback: Mapping[str, Connection]

    @property
    def every(self) -> list[Cell]:
        """Cells, then readouts."""
        return [*self.cells, *self.readouts.values()]

    def place(self, readout: str) -> int:
        """Of a readout in `every`."""
        return len(self.cells) + list(self.readouts).index(readout)


def forward_together(parts: Parts, xs: tf.Tensor, states: Sequence[State]) -> list[CellTrajectory]:
    """Runs a network over a sequence.

    Args:
      parts: the network.
      xs: inputs, `[T, B, F]`.
      states: before the first step, of `parts.every`.

    Returns:
      The trajectory of each of `parts.every`.

    Raises:
      ValueError: for inputs of another shape.
    """
    check_inputs(parts.cells[0], xs)
    steps = xs.shape[0]
    driven = parts.cells[0].feedforward(xs)
    read = new_array(driven, steps).unstack(driven)
    weights = [(cell.feedforward.weights(), _recurrent(cell)) for cell in parts.every]
    back = {name: connection.weights() for name, connection in parts.feedback.items()}
    histories = tree_map(
        lambda leaf: new_array(leaf, steps + 1, leaf.shape).write(0, leaf), list(states)
    )
    currents = [new_array(driven, steps, [xs.shape[1], cell.neuron.units]) for cell in parts.every]

    def body(t: tf.Tensor, states: Any, histories: Any, currents: Any) -> tuple:
        fed = _fed(parts, states, back)
        signal, after, written = None, [], []
        for index, (cell, state, (own, recurrent)) in enumerate(
            zip(parts.every, states, weights, strict=True)
        ):
            current = read.read(t) + fed if index == 0 else cell.feedforward(signal, own)
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
    return _trajectories(parts, xs, states, loop[2], loop[3])


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
) -> list[Reverse]:
    """Gradients of a scalar, given its direct gradients to all outputs.

    Args:
      parts: the network.
      trajectories: of `forward_together`.
      direct: to the outputs of each of `parts.every`, `[T, B, N]`.
      histories: to the states of each, of `[T + 1, B, N]`, or None.
      cut_every: as in `unroll.reverse`.

    Returns:
      The result for each of `parts.every`.
    """
    every, steps = parts.every, trajectories[0].inputs.shape[0]
    transposed = [(cell.feedforward.transposed(), _transposed(cell)) for cell in every]
    back = {name: connection.transposed() for name, connection in parts.feedback.items()}
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
            cell, (feedforward, recurrent) = every[index], transposed[index]
            doutput = signals[index].read(t)
            if above is not None and index < len(parts.cells):
                doutput += above
            coupled = _coupled(parts, index, carries, recurrent, back)
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
            passed = cell.feedforward.transpose(carry.current, feedforward)
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
    return _results(parts, trajectories, carries, [array.stack() for array in arrays])


def _results(
    parts: Parts,
    trajectories: Sequence[CellTrajectory],
    carries: Sequence[Carry],
    dcurrents: Sequence[tf.Tensor],
) -> list[Reverse]:
    """Weight gradients, and what the outputs of the first states passed on."""
    back = {name: connection.transposed() for name, connection in parts.feedback.items()}
    found = []
    for index, (cell, trajectory) in enumerate(zip(parts.every, trajectories, strict=True)):
        carry = carries[index]
        coupled = _coupled(parts, index, carries, _transposed(cell), back)
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
        gradients = (*weights, *carry.parameters)
        found.append(Reverse(gradients, inputs, carry.state, dcurrents[index]))
    return found


def _coupled(
    parts: Parts, index: int, carries: Sequence[Carry], recurrent: Any, back: Mapping[str, Any]
) -> tf.Tensor | None:
    """Gradient to an output by way of the currents of the next step, `[B, N]`, or None."""
    cell, total = parts.every[index], None
    if cell.recurrent is not None:
        total = cell.recurrent.transpose(carries[index].current, recurrent)
    for name, connection in parts.feedback.items():
        if parts.place(name) == index:
            passed = connection.transpose(carries[0].current, back[name])
            total = passed if total is None else total + passed
    return total


def _fed(parts: Parts, states: Sequence[State], weights: Mapping[str, Any]) -> tf.Tensor:
    """The current that readouts send to the first cell, `[B, N]`."""
    return tf.add_n(
        [
            connection(parts.readouts[name].neuron.output(states[parts.place(name)]), weights[name])
            for name, connection in parts.feedback.items()
        ]
    )


def _recurrent(cell: Cell) -> Any:
    return None if cell.recurrent is None else cell.recurrent.weights()


def _transposed(cell: Cell) -> Any:
    return None if cell.recurrent is None else cell.recurrent.transposed()


def _reading(trajectory: CellTrajectory) -> tuple[Any, tf.TensorArray]:
    """States and currents of a trajectory for a loop to read."""
    history, currents = trajectory.history, trajectory.currents
    steps = trajectory.inputs.shape[0]
    return (
        tree_map(lambda leaf: new_array(leaf, steps + 1).unstack(leaf), history),
        new_array(currents, steps).unstack(currents),
    )
