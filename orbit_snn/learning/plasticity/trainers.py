"""Who owns what in local plasticity.

A network owns its cells; a cell its connections, populations and updaters; a trainer its units'
states and monitors, and knows cells by weak references only. `trainer.variables` and
`network.variables` never overlap, so a checkpoint of both holds everything once.

    trainer = IndependentCellTrainer(STDP(lr_post=1e-2, lr_pre=-1e-2))
    unit = trainer.register_cell("hidden", cell, lr_post=2e-2)
    unit.cell, unit.state, unit.monitors

    done = network.unroll(xs)
    state = trainer({"hidden": done.cells[0]})     # adds to the updaters of connections
    trainer.update()                               # applies what they have

`Plasticity` does this, compiled, under the trainer of networks.
"""

import dataclasses
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.learning.plasticity import contributions
from orbit_snn.learning.plasticity.synaptic import SynapticRule
from orbit_snn.learning.plasticity.units import Unit, UnitState, identifier
from orbit_snn.monitors import Monitor
from orbit_snn.types import CellTrajectory


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
        super().__init__(name or identifier(type(rule).__name__.lower()))
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
        if rule.param not in found.plastic:
            known = ", ".join(found.plastic) or "none: make it with trainable=True"
            raise ValueError(
                f"{type(rule).__name__} changes {rule.param!r}, and the {connection} connection "
                f"of {name!r} has the parameters {known}."
            )
        if not found.updatable:
            found.defaultupdater()
        with self.name_scope:
            state = UnitState(name, rule, connection, cell.neuron.dtype)
        return self.add_cell(name, cell, state, rule.monitors(cell.neuron.dt_ms, connection))

    def __call__(
        self,
        trajectories: Mapping[str, CellTrajectory],
        state: Mapping[str, Any] | None = None,
        reward: tf.Tensor | None = None,
    ) -> dict[str, Any]:
        """Adds what a sequence teaches, mean over samples and sum over steps, to the updaters.

        Args:
          trajectories: of the cells, by name of their units.
          state: of each unit before the sequence; default one that has seen nothing.
          reward: `[T, B]`, for rules that learn from one.

        Returns:
          The state of each unit after it, to go on with.

        Raises:
          KeyError: for an unknown name.
          ValueError: for a connection that lost its updater.
        """
        after = {}
        for name, trajectory in trajectories.items():
            unit = self.get_unit(name)
            before = None if state is None else state[name]
            parts, after[name] = contributions.of_sequence(unit, trajectory, before, reward)
            setattr(unit.updater, unit.rule.param, tuple(parts))
        return after

    def __iter__(self) -> Iterator[Unit]:
        """All units."""
        return map(self.get_unit, self.names)

    def __len__(self) -> int:
        return len(self.names)


_CONNECTIONS = ("feedforward", "recurrent")
