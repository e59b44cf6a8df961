"""Neurons turned around: states that give wanted outputs, and currents from one to the next.

Nothing is known of a neuron but its `step` and `output`. Where the output is a strictly increasing
function of one leaf of the state, which a current enters affinely, both have an inverse: the first
by bisection, the second by one derivative.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.adjoint import step_adjoint
from orbit_snn.memory import memory
from orbit_snn.neurons import Neuron, parts

_PROBES = np.linspace(-2.0, 2.0, 33)
_TOLERANCE = {tf.float32: 1e-3, tf.float64: 1e-9}


class _Part(NamedTuple):
    """A population of one model, and the leaf of its state that its output depends on."""

    neuron: Neuron
    leaf: int

    def state(self, potential: tf.Tensor) -> Any:
        """A state with that leaf; what stands in others makes no difference."""
        empty = self.neuron.initial_state(1)
        leaves = [tf.zeros_like(potential) for _ in tf.nest.flatten(empty)]
        leaves[self.leaf] = potential
        return tf.nest.pack_sequence_as(empty, leaves)

    def potential(self, state: Any) -> tf.Tensor:
        """That leaf, `[..., n]`."""
        return tf.nest.flatten(state)[self.leaf]

    def output(self, potential: tf.Tensor) -> tf.Tensor:
        """What the population gives."""
        return self.neuron.output(self.state(potential))

    def current(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """What takes one potential to the next in a step."""
        state, nothing = self.state(before), tf.zeros_like(before)
        alone = self.potential(self.neuron.step(state, nothing))
        _, drive, _ = step_adjoint(self.neuron, state, nothing, self.state(tf.ones_like(before)))
        return (after - alone) / drive


class Inversion:
    """Potentials and currents behind outputs; a potential is the leaf that an output depends on.

    Args:
      found: parts of the population.
    """

    def __init__(self, found: tuple[_Part, ...]):
        self._parts = found

    def initial(self, batch_size: int) -> tf.Tensor:
        """Potentials before the first step, `[B, N]`."""
        states = [part.potential(part.neuron.initial_state(batch_size)) for part in self._parts]
        return tf.concat(states, axis=-1)

    def potentials(self, outputs: tf.Tensor) -> tf.Tensor:
        """Those that give outputs `[..., N]`, NaN where none does: at and beyond a neuron's range.

        Found by as many evaluations of `output` as a number has bits.
        """
        return self._by_part(lambda part, own: _reached(part.output, own), outputs)

    def outputs(self, potentials: tf.Tensor) -> tf.Tensor:
        """What potentials `[..., N]` give."""
        return self._by_part(lambda part, own: part.output(own), potentials)

    def currents(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """What takes potentials `[..., N]` to those of the next step."""
        return self._by_part(lambda part, *own: part.current(*own), before, after)

    def _by_part(self, function: Callable[..., tf.Tensor], *values: tf.Tensor) -> tf.Tensor:
        sizes = [part.neuron.units for part in self._parts]
        shares = [tf.split(x, sizes, axis=-1) for x in values]
        done = [function(part, *own) for part, *own in zip(self._parts, *shares, strict=True)]
        return tf.concat(done, axis=-1)


def inversion(neuron: Neuron) -> Inversion | None:
    """The inverse of a population, or None where it has none, as of spikes; call it eagerly."""
    found = []
    for (own,) in parts(neuron):
        known = memory(own)
        if len(known.read) != 1 or known.carried != known.read:
            return None
        part = _Part(own, known.read[0])
        if not (_increases(part) and _steps_back(part)):
            return None
        found.append(part)
    return Inversion(tuple(found))


def _probes(part: _Part) -> tf.Tensor:
    """Potentials of every neuron, rising, `[R, n]`."""
    rising = tf.constant(_PROBES, part.neuron.dtype)[:, tf.newaxis]
    return tf.broadcast_to(rising, [len(_PROBES), part.neuron.units])


def _increases(part: _Part) -> bool:
    output = part.output(_probes(part)).numpy()
    return bool(np.all(np.diff(output, axis=0) > 0.0))


def _steps_back(part: _Part) -> bool:
    """Whether the currents between any two of the probes lead from one to the other."""
    probes = _probes(part)
    before, after = tf.repeat(probes, len(_PROBES), axis=0), tf.tile(probes, [len(_PROBES), 1])
    state = part.neuron.step(part.state(before), part.current(before, after))
    tolerance = _TOLERANCE.get(part.neuron.dtype, 1e-2)
    return bool(np.allclose(part.potential(state), after, rtol=0.0, atol=tolerance))


def _reached(function: Callable[[tf.Tensor], tf.Tensor], wanted: tf.Tensor) -> tf.Tensor:
    """Where an increasing function reaches what is wanted, NaN where nowhere.

    The bits of a number are tried one after the other, the highest first: as integers, they are in
    the order of the numbers, so this needs no first guess, no scale and no derivative.
    """
    dtype = wanted.dtype
    integer = tf.as_dtype(f"int{8 * dtype.size}")
    zero, largest = tf.zeros_like(wanted), tf.fill(wanted.shape, tf.constant(dtype.max, dtype))
    inside = (function(-largest) < wanted) & (wanted < function(largest))
    side = tf.where(wanted < function(zero), -tf.ones_like(wanted), tf.ones_like(wanted))
    found = tf.bitcast(zero, integer)
    for bit in reversed(range(8 * dtype.size - 1)):
        tried = found + tf.constant(1 << bit, integer)
        short = side * (function(side * tf.bitcast(tried, dtype)) - wanted) <= 0.0
        found = tf.where(short, tried, found)
    return tf.where(inside, side * tf.bitcast(found, dtype), tf.constant(np.nan, dtype))
