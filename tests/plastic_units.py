"""Plastic cells of neurons that spike as they are told, and units of a trainer driven by hand."""

import numpy as np
import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.learning.plasticity import Unit, contributions
from orbit_snn.monitors import record
from orbit_snn.networks import Network
from orbit_snn.unroll.folding import folded
from tests.conformance.plasticity import Exact

F, N = 5, 4


def cell(recurrent=False, dtype=tf.float64, threshold=0.3, **settings):
    """F inputs onto N neurons."""
    onto = Dense(F, N, gain=1.5, seed=3, dtype=dtype, **settings)
    back = Dense(N, N, autapses=False, seed=4, dtype=dtype) if recurrent else None
    return Cell(Exact(N, threshold, dtype=dtype), onto, back)


def spikes(steps=20, size=3, inputs=F, seed=0):
    """Poisson spikes, `[T, B, F]`."""
    return (np.random.default_rng(seed).random((steps, size, inputs)) < 0.3).astype(float)


def outputs(own, pre):
    """Spikes of a cell, `[T, B, N]`."""
    given = tf.constant(pre, own.neuron.dtype)
    return Network([own]).unroll(given).cells[0].outputs.numpy()


def contribute(unit: Unit, pre):
    """Adds what a unit's rule makes of a sequence, mean over samples, to the updater."""
    dtype = unit.state.dtype
    seen = record(Network([unit.cell]).unroll(tf.constant(pre, unit.cell.neuron.dtype)).cells[0])
    monitors = list(unit.monitors.values())
    observed = [[tf.cast(x, dtype) for x in monitor.look(seen)] for monitor in monitors]
    pairs = zip(monitors, observed, strict=True)
    states = [monitor.reducer.start(own[0][0]) for monitor, own in pairs]
    values, _ = folded([monitor.reducer for monitor in monitors], observed, states)
    looked = contributions.seen_by(unit, seen, dict(zip(unit.monitors, values, strict=True)),
                                   None, None)  # fmt: skip
    parts, _ = contributions.summed(unit, looked, contributions.start(unit, pre.shape[1]))
    mean = tuple(part / pre.shape[1] for part in parts)
    setattr(unit.connection.updater, unit.rule.param, mean)
