"""A cell with what its trainer keeps for it."""

from collections.abc import Mapping

import tensorflow as tf

from orbit_snn.accumulators import Accumulator
from orbit_snn.cells import Cell
from orbit_snn.connections import Connection
from orbit_snn.learning.plasticity.synaptic import SynapticRule
from orbit_snn.monitors import Monitor
from orbit_snn.updaters import Updater


class UnitState(tf.Module):
    """What a trainer keeps for a cell: the rule with its overrides, and its learning rates.

    Attributes:
      rule: of the cell.
      connection: which of the cell's, `feedforward` or `recurrent`.
      rates: absolute values of the learning rates by name, variables: assign to change them.
      dtype: that the rule computes in.
    """

    def __init__(self, name: str, rule: SynapticRule, connection: str, dtype: tf.DType):
        super().__init__(name=identifier(name))
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
        super().__init__(name=identifier(name))
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

    @property
    def rates(self) -> dict[str, tf.Tensor]:
        """Absolute values of the learning rates, as they are now."""
        return {name: tf.abs(rate) for name, rate in self.state.rates.items()}

    @property
    def updater(self) -> Updater:
        """Of the connection.

        Raises:
          ValueError: where it was taken away.
        """
        updater = self.connection.updater
        if updater is None:
            raise ValueError(f"the connection of {self.key} lost its updater; register it again.")
        return updater

    @property
    def accumulator(self) -> Accumulator:
        """Of what the rule changes."""
        return self.updater.accumulator(self.rule.param)


def identifier(name: str) -> str:
    """The name as a name scope can have it."""
    found = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return found if found[:1].isalpha() else f"unit_{found}"
