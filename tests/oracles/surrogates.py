"""Surrogate derivatives psi(s) of the spike with respect to the normalised distance s."""

from __future__ import annotations

import numpy as np

NAMES = (
    "triangular",
    "fast_sigmoid",
    "arctan",
    "sigmoid",
    "exponential",
    "gaussian",
    "boxcar",
    "straight_through",
)


def heaviside(s: np.ndarray) -> np.ndarray:
    """Spike function: 1.0 where s > 0 (strictly), else 0.0."""
    return (np.asarray(s) > 0).astype(np.float64)


def psi(
    name: str,
    s: np.ndarray,
    dampening: float | np.ndarray = 0.3,
    slope: float | np.ndarray = 1.0,
) -> np.ndarray:
    """Surrogate derivative dz/ds.

    Args:
        name: one of `NAMES`.
        s: (v - threshold) / threshold, dimensionless, any shape.
        dampening: the value at s = 0, which is the peak; scalar or [N].
        slope: steepness; scalar or [N]. Ignored by "triangular" and "straight_through".

    Returns:
        psi, of the shape of s.
    """
    s = np.asarray(s, np.float64)
    u = slope * s
    if name == "triangular":
        shape = np.maximum(0.0, 1.0 - np.abs(s))
    elif name == "fast_sigmoid":
        shape = 1.0 / (1.0 + np.abs(u)) ** 2
    elif name == "arctan":
        shape = 1.0 / (1.0 + (np.pi / 2 * u) ** 2)
    elif name == "sigmoid":
        probability = 0.5 * (1.0 + np.tanh(u / 2))
        shape = 4.0 * probability * (1.0 - probability)
    elif name == "exponential":
        shape = np.exp(-np.abs(u))
    elif name == "gaussian":
        shape = np.exp(-(u**2) / 2)
    elif name == "boxcar":
        shape = (np.abs(u) < 1.0).astype(np.float64)
    elif name == "straight_through":
        shape = np.ones_like(s)
    else:
        raise ValueError(f"unknown surrogate {name!r}, known: {', '.join(NAMES)}")
    return dampening * shape
