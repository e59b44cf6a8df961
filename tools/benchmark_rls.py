"""What the benchmark measures of least squares: FORCE with output feedback, and blocks of rows.

FORCE runs through the trainer, an update a step, with everything that a run reports. Beside it, in
turn, the same recursion as a loop of NumPy: a random recurrent network of tanh units, a readout
that is fed back, and a rank-1 update of P.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.learning import RLS, Kernel
from orbit_snn.learning.rls import kernel
from orbit_snn.tasks.force_sines import ForceSinesConfig, sines
from orbit_snn.tasks.reservoir import LEAK, ReservoirConfig
from orbit_snn.tools.benchmark_cases import in_turn
from orbit_snn.training.trainer import Trainer

UNITS = (500, 1000)
STEPS, GAIN = 800, 1.5
ROWS = (1, 8, 32, 128)
BLOCKS = 200


def make_trainer(units: int, steps: int) -> Trainer:
    """FORCE through the trainer: one sequence of the task `force_sines`, an update a step."""
    network = ReservoirConfig(units=units, density=1.0, gain=GAIN)
    config = ForceSinesConfig(model=network, period_steps=steps, periods=1)
    modules, db_info, database = config.build(0, tf.float32)
    return Trainer(modules, db_info, database, RLS("inputs"), None, batch_size=1)


def numpy_force(units: int, steps: int) -> Callable[[], float]:
    """The same recursion in single precision, a loop over steps."""
    draw = np.random.default_rng(0)
    kind = np.float32
    recurrent = (GAIN * draw.normal(size=(units, units)) / math.sqrt(units)).astype(kind)
    back = draw.uniform(-1.0, 1.0, size=units).astype(kind)
    first = draw.normal(0.0, 0.5, size=units).astype(kind)
    wanted = sines(steps, steps).astype(kind)

    def run() -> float:
        x: np.ndarray = first
        z = 0.0
        weights, p = np.zeros(units, kind), np.eye(units, dtype=kind)
        for t in range(steps):
            x = (1 - LEAK) * x + LEAK * (np.tanh(x) @ recurrent + z * back)
            rates = np.tanh(x)
            z = float(rates @ weights)
            gain = p @ rates
            scale = 1.0 / (1.0 + rates @ gain)
            p -= scale * np.outer(gain, gain)
            weights -= scale * (z - wanted[t]) * gain
        return z

    return run


def time_force(units: int, rounds: int, steps: int = STEPS) -> dict[str, float]:
    """Milliseconds a step of both."""
    trainer = make_trainer(units, steps)
    calls: dict[str, Callable[[], Any]] = {
        "force": lambda: trainer.train(tf.constant(1)),
        "numpy": numpy_force(units, steps),
    }
    return {name: times.wall_ms / steps for name, times in in_turn(calls, rounds).items()}


def time_rows(units: int, rounds: int, blocks: int = BLOCKS) -> dict[int, float]:
    """Milliseconds a row of the kernel alone, by rows in a block."""

    def absorbing(count: int) -> Callable[[], Any]:
        rows = tf.random.stateless_normal([blocks, count, units], [0, 0])
        matrix = kernel.initial(Kernel(), (units, units), tf.float32)

        @tf.function(jit_compile=True, autograph=False)
        def run(rows: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
            def body(step: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                done = kernel.absorb(Kernel(), [matrix], [rows[step]], step)
                return step + 1, done.matrices[0]

            return tf.while_loop(lambda step, _: step < blocks, body, (0, matrix))[1]

        return lambda: float(run(rows, matrix)[0, 0])

    times = in_turn({str(count): absorbing(count) for count in ROWS}, rounds)
    return {count: times[str(count)].wall_ms / blocks / count for count in ROWS}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Rows of the benchmark: milliseconds a step, and a row, by case and size."""
    found: dict[str, dict[str, float]] = {}
    for units in UNITS:
        times = time_force(units, rounds)
        found[f"force_{units}"] = {"train_ms": times["force"]}
        found[f"numpy_{units}"] = {"train_ms": times["numpy"]}
        for count, value in time_rows(units, rounds).items():
            found[f"row_of_{count}_{units}"] = {"train_ms": value}
    return found
