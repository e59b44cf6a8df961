"""What every peer gets: one batch, initial weights, and the constants of the network."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

MEMBRANE_DECAY = 0.9
READOUT_DECAY = 0.95
SURROGATE_SLOPE = 10.0
LEARNING_RATE = 1e-3
INPUT_RATE = 0.05


class Problem(NamedTuple):
    """A fixed batch and the initial weights, NumPy, time-major."""

    x: np.ndarray  # [T, B, F] float32, zeros and ones
    labels: np.ndarray  # [B]
    w_in: np.ndarray  # [F, N]
    w_rec: np.ndarray  # [N, N]
    w_out: np.ndarray  # [N, K]


class Model(NamedTuple):
    """A peer's network on its problem; both calls return when their work is done."""

    train: Callable[[], float]  # forward, backward, Adam update; returns the loss
    infer: Callable[[], Any]  # forward; returns the logits [B, K]


def make_problem(
    batch: int, steps: int, inputs: int, units: int, classes: int, seed: int = 0
) -> Problem:
    """Draws the batch and weights that keep the layer active without driving it."""
    rng = np.random.default_rng(seed)

    def normal(rows: int, columns: int, std: float) -> np.ndarray:
        return (std * rng.standard_normal((rows, columns))).astype(np.float32)

    return Problem(
        x=(rng.random((steps, batch, inputs)) < INPUT_RATE).astype(np.float32),
        labels=rng.integers(0, classes, batch),
        w_in=normal(inputs, units, 0.4 / math.sqrt(INPUT_RATE * inputs)),
        w_rec=normal(units, units, 0.4 / math.sqrt(units)),
        w_out=normal(units, classes, 0.4 / math.sqrt(units)),
    )


def for_leaky_input(problem: Problem) -> Problem:
    """Weights for a library that scales a neuron's input by `1 - decay`: the same network."""
    gain = np.float32(1 / (1 - MEMBRANE_DECAY))
    return problem._replace(w_in=gain * problem.w_in, w_rec=gain * problem.w_rec)


def for_leaky_readout(problem: Problem) -> Problem:
    """The same for a library that scales its readout's input by `1 - decay`."""
    return problem._replace(w_out=np.float32(1 / (1 - READOUT_DECAY)) * problem.w_out)
