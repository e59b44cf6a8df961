"""Several neuron models in one population."""

import operator
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.neurons.base import Lasting, Neuron, lasting_inside
from orbit_snn.types import State


class Mixed(Neuron):
    """Populations of different models side by side, as one: part LIF, part ALIF, say.

    Args:
      populations: the parts, in order; neuron `i` of the second part is neuron `N1 + i`.
      name: of the module.

    Raises:
      ValueError: for no parts, or parts that differ in `dt_ms`, dtype or in whether they spike.
    """

    def __init__(self, populations: Sequence[Neuron], name: str | None = None):
        if not populations:
            raise ValueError("Mixed got no populations; give at least one.")
        first = populations[0]
        for attribute in ("dt_ms", "dtype", "spiking"):
            values = [getattr(population, attribute) for population in populations]
            if any(value != values[0] for value in values):
                raise ValueError(f"Mixed got populations of different {attribute}: {values}.")
        units = [population.units for population in populations]
        super().__init__(sum(units), first.dt_ms, first.dtype, name)
        self.spiking = first.spiking
        self.populations = tuple(populations)
        self._sizes = units

    def initial_state(self, batch_size: int) -> State:
        """One state a part, each of `[B, N_part]`."""
        return tuple(part.initial_state(batch_size) for part in self.populations)

    def step(self, state: State, current: tf.Tensor) -> State:
        """Every part takes its share of the current; shapes as in `Neuron.step`."""
        shares = tf.split(current, self._sizes, axis=-1)
        steps = zip(self.populations, state, shares, strict=True)
        return tuple(part.step(own, share) for part, own, share in steps)

    def output(self, state: State) -> tf.Tensor:
        """Outputs of the parts, one after the other."""
        parts = zip(self.populations, state, strict=True)
        return tf.concat([part.output(own) for part, own in parts], axis=-1)

    @property
    def lasting(self) -> Lasting:
        """That of the parts, of `[B, N_part]` each."""
        every = enumerate(self.populations)
        return tuple(
            pair for i, part in every for pair in lasting_inside(part, operator.itemgetter(i))
        )


def parts(neuron: Neuron, *states: Any) -> list[tuple[Any, ...]]:
    """Each population of one model, with its share of states if any: `(neuron, state, ...)`."""
    if not isinstance(neuron, Mixed):
        return [(neuron, *states)]
    shares = zip(neuron.populations, *states, strict=True)
    return [found for part, *own in shares for found in parts(part, *own)]
