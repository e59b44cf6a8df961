"""Plastic cells of neurons that spike as they are told, and units of a trainer driven by hand."""

import numpy as np
import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.learning.plasticity import IndependentCellTrainer, Unit
from orbit_snn.networks import Network
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


def contribute(trainer: IndependentCellTrainer, unit: Unit, pre):
    """Adds what a unit's rule makes of a sequence, mean over samples, to the updater."""
    done = Network([unit.cell]).unroll(tf.constant(pre, unit.cell.neuron.dtype))
    trainer({unit.key: done.cells[0]})
