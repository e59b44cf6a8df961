"""What the benchmark measures of local plasticity: pair STDP in every step.

N inputs, all to all onto N LIF neurons, one sequence, through the trainer with everything that a
run reports. Beside it, in turn, the same loop in NumPy.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.database import Database
from orbit_snn.learning.plasticity import STDP, Limits, Plasticity
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF
from orbit_snn.tools.benchmark_cases import in_turn
from orbit_snn.training.trainer import Trainer

UNITS = (100, 1000)
STEPS, ACTIVITY, TAU = 1000, 0.05, 20.0
RULE = STDP(lr_post=1e-3, lr_pre=-1.1e-3, tc_post_ms=TAU, tc_pre_ms=TAU)


def spikes(units: int, steps: int) -> np.ndarray:
    """Input, `[T, N]`."""
    draw = np.random.default_rng(0).random((steps, units))
    return (draw < ACTIVITY).astype(np.float32)


def weights(units: int) -> np.ndarray:
    """First weights, `[N, N]`, so that a neuron spikes about as often as an input."""
    return np.random.default_rng(1).random((units, units)).astype(np.float32) * 4.0 / units


def make_trainer(units: int, steps: int) -> Trainer:
    """STDP in every step through the trainer, weights kept between 0 and 1."""
    given = lambda shape, dtype: tf.constant(weights(units), dtype)  # noqa: E731
    cell = Cell(LIF(units, tau_mem_ms=TAU), Dense(units, units, initializer=given))
    net = graph.NetworkNode("net", graph.InputNode("inputs"), Network([cell]))
    loss = graph.FiringRate(net.cells[0], 50.0)
    database = Database.from_arrays({"inputs": spikes(units, steps)[np.newaxis]})
    rule = Plasticity(RULE, "step", limits=Limits(minimum=0.0, maximum=1.0, hard=True))
    modules, db_info = graph.assemble_for_training(loss, {"loss": loss})
    return Trainer(modules, db_info, database, rule, None, batch_size=1)


def numpy_stdp(units: int, steps: int) -> Callable[[], float]:
    """The same in single precision, a loop over steps."""
    inputs, first, decay = spikes(units, steps), weights(units), np.float32(math.exp(-1.0 / TAU))
    post, pre = np.float32(RULE.lr_post), np.float32(-RULE.lr_pre)

    def run() -> float:
        w = first.copy()
        v, z, x_trace, z_trace = (np.zeros(units, np.float32) for _ in range(4))
        for x in inputs:
            v = decay * v + x @ w - z
            z = (v > 1.0).astype(np.float32)
            x_trace, z_trace = decay * x_trace + x, decay * z_trace + z
            w += post * np.outer(x_trace, z) - pre * np.outer(x, z_trace)
            np.clip(w, 0.0, 1.0, out=w)
        return float(w.mean())

    return run


def time_stdp(units: int, rounds: int, steps: int = STEPS) -> dict[str, float]:
    """Milliseconds a sequence of both."""
    trainer = make_trainer(units, steps)
    calls: dict[str, Callable[[], Any]] = {
        "stdp": lambda: trainer.train(tf.constant(1)),
        "numpy": numpy_stdp(units, steps),
    }
    return {name: times.wall_ms for name, times in in_turn(calls, rounds).items()}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Rows of the benchmark: milliseconds of 1000 steps, by case and size."""
    found: dict[str, dict[str, float]] = {}
    for units in UNITS:
        for name, value in time_stdp(units, rounds).items():
            found[f"{name}_{units}"] = {"train_ms": value}
    return found
