"""Monitors: what is looked at in a cell at every step, and the reducer that it goes to.

A monitor is a value, and two that are equal look at the same: those of one cell are folded once,
however many rules ask for them; those of two cells never are.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.reducers import Reducer
from orbit_snn.types import CellTrajectory, State


class Record(NamedTuple):
    """What there was in a cell over some steps, time-major.

    Attributes:
      inputs: what the feedforward connection received, `[T, B, F]`.
      recurrent: what the recurrent one received, `[T, B, N]`.
      currents: total input current, `[T, B, N]`.
      before: states before every step, of `[T, B, N]`.
      state: states after every step, of `[T, B, N]`.
      outputs: of the population, `[T, B, N]`.
    """

    inputs: tf.Tensor
    recurrent: tf.Tensor
    currents: tf.Tensor
    before: State
    state: State
    outputs: tf.Tensor


def record(trajectory: CellTrajectory) -> Record:
    """Of a forward pass that kept everything.

    Raises:
      ValueError: for another one, or no trajectory of a cell.
    """
    if not isinstance(trajectory, CellTrajectory):
        raise ValueError(
            f"got a {type(trajectory).__name__}; expected the trajectory of one cell, such as "
            "done.cells[0]."
        )
    if trajectory.history is None:
        raise ValueError(
            "the network kept some states only (checkpoint_every), and local rules look at all; "
            "set it to None."
        )
    history = trajectory.history
    return Record(
        trajectory.inputs,
        trajectory.previous_outputs,
        trajectory.currents,
        tf.nest.map_structure(lambda leaf: leaf[:-1], history),
        tf.nest.map_structure(lambda leaf: leaf[1:], history),
        trajectory.outputs,
    )


class Look(Protocol):
    """Gives observations, `[T, B, ...]` each, of a record.

    Attributes:
      presynaptic: whether they have one value for each input of a connection, `[T, B, F]`, and not
        one for each neuron of the population, `[T, B, N]`.
    """

    @property
    def presynaptic(self) -> bool:
        """See the class."""

    def __call__(self, record: Record) -> tuple[tf.Tensor, ...]:
        """See the class."""

    def width(self, cell: Cell) -> int:
        """F or N."""


@dataclasses.dataclass(frozen=True)
class Monitor:
    """Looks at a cell and hands what it sees to a reducer.

    Attributes:
      look: where it looks.
      reducer: what is made of what it sees.
    """

    look: Look
    reducer: Reducer


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a connection receives: `feedforward` or `recurrent`.

    Attributes:
      connection: which of a cell.
    """

    connection: str = "feedforward"

    presynaptic = True

    def __call__(self, record: Record) -> tuple[tf.Tensor, ...]:
        """`[T, B, F]`."""
        return (record.inputs if self.connection == "feedforward" else record.recurrent,)

    def width(self, cell: Cell) -> int:
        """F of the connection."""
        return getattr(cell, self.connection).inputs


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a population sends."""

    presynaptic = False

    def __call__(self, record: Record) -> tuple[tf.Tensor, ...]:
        """`[T, B, N]`."""
        return (record.outputs,)

    def width(self, cell: Cell) -> int:
        """N."""
        return cell.neuron.units


@dataclasses.dataclass(frozen=True)
class States:
    """Fields of a population's state, one observation each.

    Attributes:
      names: dotted where a state is within a state, such as `inner.v`.
      before: look before the step, not after it.
    """

    names: tuple[str, ...]
    before: bool = False

    presynaptic = False

    def __call__(self, record: Record) -> tuple[tf.Tensor, ...]:
        """`[T, B, N]` each."""
        state = record.before if self.before else record.state
        return tuple(_field(state, name) for name in self.names)

    def width(self, cell: Cell) -> int:
        """N."""
        return cell.neuron.units


@dataclasses.dataclass(frozen=True)
class Difference:
    """What a step changes in a field of a state: `after - before`.

    Attributes:
      name: as in `States`.
    """

    name: str

    presynaptic = False

    def __call__(self, record: Record) -> tuple[tf.Tensor, ...]:
        """`[T, B, N]`."""
        return (_field(record.state, self.name) - _field(record.before, self.name),)

    def width(self, cell: Cell) -> int:
        """N."""
        return cell.neuron.units


def input_monitor(reducer: Reducer, connection: str = "feedforward") -> Monitor:
    """Of what a connection of a cell receives."""
    return Monitor(Inputs(connection), reducer)


def output_monitor(reducer: Reducer) -> Monitor:
    """Of what a population sends."""
    return Monitor(Outputs(), reducer)


def state_monitor(reducer: Reducer, name: str, before: bool = False) -> Monitor:
    """Of a field of a population's state."""
    return Monitor(States((name,), before), reducer)


def multi_state_monitor(reducer: Reducer, *names: str, before: bool = False) -> Monitor:
    """Of several fields of a population's state, one observation each."""
    return Monitor(States(names, before), reducer)


def difference_monitor(reducer: Reducer, name: str) -> Monitor:
    """Of what a step changes in a field of a population's state."""
    return Monitor(Difference(name), reducer)


def _field(state: Any, name: str) -> tf.Tensor:
    found = state
    for part in name.split("."):
        if part not in getattr(found, "_fields", ()):
            known = ", ".join(getattr(found, "_fields", ())) or "no fields"
            raise ValueError(f"the state has no {name!r}; it has {known}.")
        found = getattr(found, part)
    return found
