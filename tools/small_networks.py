"""Small recurrent networks that learn waves: how many epochs each rule takes.

A network of 16 units has to shift and double a sine of any phase, 8 sequences of 60 steps, of which
the last 40 count. An epoch is the 8 sequences, in windows of 10 steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.database import Database
from orbit_snn.graph import InputNode, NetworkNode, TrainingModules
from orbit_snn.graph.assembly import DatabaseInfo
from orbit_snn.learning import RLS, TBPTT, Kernel, LearningRule
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator, LeakyTanh, Neuron
from orbit_snn.training import TrainingError
from orbit_snn.training.trainer import Trainer

INSTANT = 1e-3  # ms: a time constant that forgets everything in a step
SIZE, STEPS, UNITS, WINDOW, LATE = 8, 60, 16, 10, 20

sgd, adam = tf_keras.optimizers.legacy.SGD, tf_keras.optimizers.legacy.Adam
Made = Callable[[], tuple[LearningRule, Any]]


def preconditioned(
    alpha: float = 5e-3, change: float = 0.2, rate: float = 1.0, shrinks: float = 0.8
) -> tuple[LearningRule, Any]:
    """Strategy `grad`, which changes currents by at most `change`, and the optimizer of it.

    The rate shrinks in every epoch: the first steps are those of Newton's method for the readout,
    and too long near the end, where the curvature through the recurrent weights counts.
    """
    kernel = Kernel(0.95, alpha=alpha, regularising_rows=1, averaging=True)
    falling = tf_keras.optimizers.schedules.ExponentialDecay(rate, STEPS // WINDOW, shrinks)
    return RLS("grad", kernel, window=WINDOW, trust=change / rate), sgd(falling)


def _stepping(optimizer: Callable[[float], Any], rate: float) -> Made:
    return lambda: (TBPTT(WINDOW, "window"), optimizer(rate))


LEAST_SQUARES: dict[str, Made] = {
    "inputs": lambda: (RLS("inputs", window=WINDOW), None),
    "outputs": lambda: (RLS("outputs", window=WINDOW), None),
    "grad": preconditioned,
    "jacobian": lambda: (RLS("jacobian", Kernel(0.99), window=WINDOW), None),
    "scaled_jacobian": lambda: (RLS("scaled_jacobian", Kernel(0.99), window=WINDOW), None),
}
DESCENT: dict[str, Made] = {
    **{f"sgd {rate:g}": _stepping(sgd, rate) for rate in (0.03, 0.1, 0.3, 1.0, 3.0)},
    **{f"adam {rate:g}": _stepping(adam, rate) for rate in (1e-3, 3e-3, 1e-2)},
}


def waves(seed: int = 0, size: int = SIZE) -> dict[str, np.ndarray]:
    """Sines of any phase, and what is to be made of them after 20 steps."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, size=(size, 1))
    phase = phase + 2 * np.pi * np.arange(STEPS) / 20
    target = np.stack([0.5 * np.cos(phase), 0.5 * np.sin(2 * phase)], axis=-1)
    late = np.broadcast_to(np.arange(STEPS) >= LATE, phase.shape).copy()
    kind = np.float32
    return {"x": np.sin(phase)[..., None].astype(kind), "y": target.astype(kind), "late": late}


def network(seed: int = 0, neuron: Neuron | None = None, tau_ms: float = INSTANT) -> Network:
    """One recurrent cell, of units `tanh` if not given, and a readout of two outputs."""
    hidden = Cell(
        neuron or LeakyTanh(UNITS, tau_mem_ms=INSTANT),
        Dense(1, UNITS, bias=True, seed=10 * seed + 1),
        Dense(UNITS, UNITS, seed=10 * seed + 2),
    )
    readout = Dense(UNITS, 2, bias=True, seed=10 * seed + 3)
    return Network([hidden], Cell(LeakyIntegrator(2, tau_mem_ms=tau_ms), readout))


def spiking_network(seed: int = 0) -> Network:
    """The same of LIF neurons."""
    return network(seed, LIF(UNITS, tau_mem_ms=5.0), tau_ms=5.0)


def assembled(made: Network) -> tuple[TrainingModules, DatabaseInfo]:
    """The mean squared error of the late steps."""
    net = NetworkNode("net", InputNode("x"), made)
    loss = graph.MSE.of_node(graph.During("late_y", net.output, "late", db_name="y"))
    return graph.assemble_for_training(loss, {"loss": loss})


def trainer(
    rule: LearningRule,
    optimizer: Any = None,
    seed: int = 0,
    made: Network | None = None,
    data: dict[str, np.ndarray] | None = None,
) -> Trainer:
    """A trainer of the network on the waves."""
    database = Database.from_arrays(data or waves(seed), test_size=0.0, validation_size=0.0)
    return Trainer(*assembled(made or network(seed)), database, rule, optimizer, SIZE)


def losses(epochs: int, *arguments: Any, **named: Any) -> np.ndarray:
    """The loss of each epoch, `[epochs]`, infinite once it diverged; arguments of `trainer`."""
    made = trainer(*arguments, **named)
    found = np.full(epochs, np.inf)
    try:
        for epoch in range(epochs):
            found[epoch] = made.train(tf.constant(1))["loss"]
    except TrainingError:
        pass
    return found


def epochs_to(found: np.ndarray, error: float) -> int:
    """The first epoch with a loss below `error`, one more than there are where none has it."""
    below = np.flatnonzero(found < error)
    return int(below[0]) + 1 if len(below) else len(found) + 1


def tanh_study(seed: int) -> dict[str, float]:
    """Epochs to a mean squared error of 1e-3, of 20 by least squares and of 300 by descent."""
    found = {}
    for names, epochs in ((LEAST_SQUARES, 20), (DESCENT, 300)):
        for name, make in names.items():
            if name not in ("inputs", "outputs"):  # 16 random units are too few for them
                found[name] = float(epochs_to(losses(epochs, *make(), seed), 1e-3))
    return found


def spiking_study(seed: int, epochs: int = 12) -> dict[str, float]:
    """The smallest loss of spiking networks within so many epochs."""
    every = {**LEAST_SQUARES, **DESCENT, "grad": lambda: preconditioned(0.03, 0.03, 0.3, 1.0)}
    return {
        name: float(losses(epochs, *make(), seed, spiking_network(seed)).min())
        for name, make in every.items()
    }
