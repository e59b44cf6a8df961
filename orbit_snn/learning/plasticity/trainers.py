"""Who owns what in local plasticity.

A network owns its cells; a cell its connections, populations and updaters; a trainer its units'
states and monitors, and knows cells by weak references only. `trainer.variables` and
`network.variables` never overlap, so a checkpoint of both holds everything once.

    trainer = IndependentCellTrainer(STDP(lr_post=1e-2, lr_pre=-1e-2))
    unit = trainer.register_cell("hidden", cell, lr_post=2e-2)
    unit.cell, unit.state, unit.monitors
"""

import dataclasses
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.connections import Connection
from orbit_snn.learning.plasticity.synaptic import SynapticRule
from orbit_snn.monitors import Monitor


class UnitState(tf.Module):
    """What a trainer keeps for a cell: the rule with its overrides, and its learning rates.

    Attributes:
      rule: of the cell.
      connection: which of the cell's, `feedforward` or `recurrent`.
      rates: absolute values of the learning rates by name, variables: assign to change them.
      dtype: that the rule computes in.
    """

    def __init__(self, name: str, rule: SynapticRule, connection: str, dtype: tf.DType):
        super().__init__(name=_identifier(name))
        self.rule = rule
        self.connection = connection
        self.dtype = tf.as_dtype(dtype)
        with self.name_scope:
            self.rates = {
                key: tf.Variable(abs(value), trainable=False, dtype=dtype, name=key)
                for key, value in rule.rates().items()
            }


class Unit(tf.Module):
    """A cell with what its trainer keeps for it.

    Attributes:
      cell: the cell.
      state: see `UnitState`.
      monitors: what the rule looks at, by name.
    """

    def __init__(self, name: str, cell: Cell, state: UnitState, monitors: Mapping[str, Monitor]):
        super().__init__(name=_identifier(name))
        self.key = name
        self.cell = cell
        self.state = state
        self.monitors = dict(monitors)

    @property
    def rule(self) -> SynapticRule:
        """Of the cell."""
        return self.state.rule

    @property
    def connection(self) -> Connection:
        """That learns."""
        return getattr(self.cell, self.state.connection)


class CellTrainer(tf.Module):
    """Keeps units by name; what a rule over several cells is made of.

    Args:
      name: of the module.
    """

    _TF_MODULE_IGNORED_PROPERTIES = frozenset({*tf.Module._TF_MODULE_IGNORED_PROPERTIES, "_cells"})

    def __init__(self, name: str = "cell_trainer"):
        super().__init__(name=name)
        self._cells: weakref.WeakValueDictionary[str, Cell] = weakref.WeakValueDictionary()
        self._states: dict[str, UnitState] = {}
        self._monitors: dict[str, dict[str, Monitor]] = {}

    def __setattr__(self, key: str, value: Any) -> None:
        if key == "_cells":  # which a checkpoint would follow
            object.__setattr__(self, key, value)
        else:
            super().__setattr__(key, value)

    def add_cell(
        self, name: str, cell: Cell, state: UnitState, monitors: Mapping[str, Monitor]
    ) -> Unit:
        """Keeps a state and monitors for a cell.

        Raises:
          ValueError: for a name that another cell has.
        """
        if name in self._states:
            raise ValueError(
                f"a cell called {name!r} is registered already; choose another name, or "
                f"del_cell({name!r}) first."
            )
        self._cells[name] = cell
        self._states = {**self._states, name: state}
        self._monitors = {**self._monitors, name: dict(monitors)}
        return self.get_unit(name)

    def del_cell(self, name: str) -> None:
        """Forgets a cell's state and monitors; the cell stays as it is.

        Raises:
          KeyError: for an unknown name.
        """
        self._known(name)
        self._cells.pop(name, None)  # a cell that is gone is not there any more
        self._states = {key: value for key, value in self._states.items() if key != name}
        self._monitors = {key: value for key, value in self._monitors.items() if key != name}

    def get_cell(self, name: str) -> Cell:
        """The cell of that name.

        Raises:
          KeyError: for an unknown name.
          RuntimeError: for a cell that is gone.
        """
        self._known(name)
        cell = self._cells.get(name)
        if cell is None:
            raise RuntimeError(
                f"the cell {name!r} is gone; keep a reference to its network, or "
                f"del_cell({name!r})."
            )
        return cell

    def get_unit(self, name: str) -> Unit:
        """The cell of that name with its state and monitors; raises as `get_cell`."""
        return Unit(name, self.get_cell(name), self._states[name], self._monitors[name])

    @property
    def names(self) -> tuple[str, ...]:
        """Of the cells."""
        return tuple(self._states)

    @property
    def monitors(self) -> tuple[Monitor, ...]:
        """Of all cells."""
        return tuple(monitor for own in self._monitors.values() for monitor in own.values())

    @property
    def named_monitors(self) -> dict[str, Monitor]:
        """Of all cells, as `cell/monitor`."""
        return {
            f"{name}/{key}": monitor
            for name, own in self._monitors.items()
            for key, monitor in own.items()
        }

    def update(self) -> None:
        """Applies and forgets what the connections of its cells have accumulated, each once."""
        connections = [unit.connection for unit in map(self.get_unit, self.names)]
        for connection in {id(each): each for each in connections}.values():
            connection.update()

    def _known(self, name: str) -> None:
        if name not in self._states:
            known = ", ".join(self._states) or "none"
            raise KeyError(f"no cell is called {name!r}; registered are {known}.")


class IndependentCellTrainer(CellTrainer):
    """Trains each of its cells by one rule, with constants of its own where they differ.

    Args:
      rule: whose constants are the defaults.
      name: of the module.
    """

    def __init__(self, rule: SynapticRule, name: str | None = None):
        super().__init__(name or _identifier(type(rule).__name__.lower()))
        if not isinstance(rule, SynapticRule):
            raise ValueError(f"the rule is {rule!r}; expected one such as STDP().")
        self.rule = rule

    def register_cell(
        self, name: str, cell: Cell, connection: str = "feedforward", **overrides: Any
    ) -> Unit:
        """Trains a connection of a cell from now on.

        Args:
          name: of the unit.
          cell: the cell.
          connection: `feedforward` or `recurrent`.
          **overrides: constants of the rule that differ for this cell.

        Raises:
          ValueError: for a name that another cell has, a connection that is not there, not trained
            or without the rule's parameter, or a constant that the rule does not have.
        """
        fields = [field.name for field in dataclasses.fields(self.rule)]  # type: ignore
        for key in overrides:
            if key not in fields:
                raise ValueError(
                    f"{type(self.rule).__name__} has no constant {key!r}; it has "
                    f"{', '.join(fields)}."
                )
        rule = dataclasses.replace(self.rule, **overrides)  # type: ignore
        found = getattr(cell, connection, None) if connection in _CONNECTIONS else None
        if found is None:
            raise ValueError(
                f"the cell {name!r} has no connection {connection!r}; expected one of "
                f"{', '.join(_CONNECTIONS)} that it has."
            )
        if rule.param not in found.parameter_names:
            known = ", ".join(found.parameter_names) or "none: make it with trainable=True"
            raise ValueError(
                f"{type(rule).__name__} changes {rule.param!r}, and the {connection} connection "
                f"of {name!r} has the trained parameters {known}."
            )
        if not found.updatable:
            found.updater = found.defaultupdater()
        with self.name_scope:
            state = UnitState(name, rule, connection, cell.neuron.dtype)
        return self.add_cell(name, cell, state, rule.monitors(cell.neuron.dt_ms, connection))

    def __iter__(self) -> Iterator[Unit]:
        """All units."""
        return map(self.get_unit, self.names)

    def __len__(self) -> int:
        return len(self.names)


_CONNECTIONS = ("feedforward", "recurrent")


def _identifier(name: str) -> str:
    """The name as a name scope can have it."""
    found = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return found if found[:1].isalpha() else f"unit_{found}"
