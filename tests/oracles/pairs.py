"""Neuron pairs within a cutoff on open sheets or tori, by brute force, and currents through them.

Conventions: `first` is the post-synaptic neuron i, `second` the pre-synaptic neuron j, `offsets`
the image o in Z^D of j: coord = r_j + o * box - r_i, with the positions as given, never wrapped.
A torus is periodic along every axis; without a box all offsets are 0. All numbers are float64.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

PROFILES = ("exponential", "gaussian")
DELAYS = ("none", "nearest", "linear")


class Pairs(NamedTuple):
    """P pairs, sorted by first, then second, then the offset with the last axis as the slowest.

    That is the order of the flat index of [N, N, (2n+1)^D] with `offset_index` as the last axis.
    """

    first: np.ndarray  # [P] int, post i
    second: np.ndarray  # [P] int, pre j
    offsets: np.ndarray  # [P, D] int
    coords: np.ndarray  # [P, D], r_j + o * box - r_i
    dist: np.ndarray  # [P]


def _checked(r: ArrayLike, box: ArrayLike | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions [N, D] and box [D] in float64; ValueError for wrong shapes or values."""
    r = np.asarray(r, np.float64)
    if r.ndim != 2 or not np.isfinite(r).all():
        raise ValueError(f"positions {r.shape} must be [N, D] and finite")
    if box is None:
        return r, None
    box = np.asarray(box, np.float64)
    if box.shape != r.shape[1:] or not (np.isfinite(box) & (box > 0)).all():
        raise ValueError(f"box {box} must be [{r.shape[1]}], positive and finite")
    return r, box


def pairs(r: ArrayLike, box: ArrayLike | None, cutoff: float, search: int | None = None) -> Pairs:
    """All (i, j, o) with |r_j + o * box - r_i| < cutoff (strictly), but for i == j with o == 0.

    Images of a neuron itself (i == j, o != 0) count; so do different neurons at one place.

    Args:
        r: positions, [N, D]; they may lie outside the box.
        box: edge lengths, [D]; None: open sheet.
        cutoff: radius.
        search: None: for each (i, j) every offset that could be in reach is tried, and one more
            on either side. A number s: all offsets in [-s, s]^D are tried for each (i, j), which
            must reach far enough for the positions given, else ValueError.
    """
    r, box = _checked(r, box)
    number, dims = r.shape
    if box is not None and search is not None and number:
        need = int(np.floor((np.ptp(r, axis=0) + cutoff) / box).max())
        if search < need:
            raise ValueError(f"search={search} could miss pairs; {need} is far enough")
    rows = []
    for i, j in itertools.product(range(number), repeat=2):
        if box is None:
            ranges = [range(1)] * dims
        elif search is not None:
            ranges = [range(-search, search + 1)] * dims
        else:
            low, high = (-cutoff - (r[j] - r[i])) / box, (cutoff - (r[j] - r[i])) / box
            ranges = [
                range(math.floor(a) - 1, math.ceil(b) + 2) for a, b in zip(low, high, strict=True)
            ]
        for offset in itertools.product(*ranges):
            if i == j and not any(offset):
                continue
            coord = r[j] - r[i] if box is None else r[j] + np.array(offset) * box - r[i]
            dist = math.sqrt(sum(c * c for c in coord))
            if dist < cutoff:
                rows.append((i, j, offset, coord, dist))
    rows.sort(key=lambda row: (row[0], row[1], row[2][::-1]))
    return Pairs(
        np.array([row[0] for row in rows], int),
        np.array([row[1] for row in rows], int),
        np.array([row[2] for row in rows], int).reshape(-1, dims),
        np.array([row[3] for row in rows], np.float64).reshape(-1, dims),
        np.array([row[4] for row in rows], np.float64),
    )


def geometry(
    r: ArrayLike, box: ArrayLike | None, first: ArrayLike, second: ArrayLike, offsets: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates [P, D] and distances [P] of listed pairs, recomputed from positions [N, D]."""
    r, box = _checked(r, box)
    coords = r[np.asarray(second, int)] - r[np.asarray(first, int)]
    if box is not None:
        coords = coords + np.asarray(offsets) * box
    return coords, np.sqrt(np.square(coords).sum(axis=1))


def needed_images(offsets: ArrayLike) -> int:
    """The smallest n_images that holds all offsets [P, D]: max |o_d|; 0 without pairs."""
    return int(np.abs(np.asarray(offsets, int)).max(initial=0))


def offset_index(offsets: ArrayLike, n_images: int) -> np.ndarray:
    """sum_d (o_d + n) (2n+1)^d of offsets [P, D] -> [P]; ValueError if n_images is too small."""
    offsets = np.asarray(offsets, int)
    if needed_images(offsets) > n_images:
        raise ValueError(
            "Caching pairs required a larger number of images n_images "
            f"(need {needed_images(offsets)})"
        )
    base = 2 * n_images + 1
    return sum(((offsets[:, d] + n_images) * base**d for d in range(offsets.shape[1])), 0)


def weight(dist: float, amplitude: float, length: float, profile: str) -> float:
    """w(d): amplitude exp(-d/length), or "gaussian" amplitude exp(-d^2 / (2 length^2))."""
    if profile == "exponential":
        return amplitude * math.exp(-dist / length)
    if profile == "gaussian":
        return amplitude * math.exp(-(dist**2) / (2 * length**2))
    raise ValueError(f"profile {profile!r} is none of {PROFILES}")


def _delay(dist: float, velocity: float | None, dt: float, delays: str) -> tuple[int, float]:
    """Whole steps and the fraction of a step in [0, 1) (only "linear" has one)."""
    if delays not in DELAYS:
        raise ValueError(f"delays {delays!r} is none of {DELAYS}")
    if delays == "none":
        return 0, 0.0
    if velocity is None or not velocity > 0:
        raise ValueError(f"delays {delays!r} need a positive velocity, not {velocity}")
    steps = dist / (velocity * dt)
    if delays == "nearest":
        return round(steps), 0.0  # half to even
    return math.floor(steps), steps - math.floor(steps)


def _past(x: np.ndarray, t: int, j: int) -> float:
    """x[t, j], 0 before the first step."""
    return float(x[t, j]) if t >= 0 else 0.0


def currents(
    x: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    dist: ArrayLike,
    amplitude: float,
    length: float,
    profile: str,
    velocity: float | None = None,
    dt: float = 1.0,
    delays: str = "none",
) -> np.ndarray:
    """I[t, i] = sum over the pairs with first == i of w(dist) x[t - delay, second] -> [T, N].

    Args:
        x: pre-synaptic activity, [T, N]; 0 before t = 0.
        first: post neurons, [P].
        second: pre neurons, [P].
        dist: distances, [P].
        amplitude: w(0).
        length: of the profile, in the unit of the distances.
        profile: "exponential" or "gaussian".
        velocity: distance per unit of time; only needed with delays.
        dt: time per step.
        delays: "none"; or of s = dist / (velocity dt) steps: "nearest" rounds s, half to even;
            "linear": (1 - f) x[t - floor(s)] + f x[t - floor(s) - 1] with f = s - floor(s).
    """
    x = np.asarray(x, np.float64)
    current = np.zeros(x.shape)
    for i, j, d in zip(first, second, dist, strict=True):
        w = weight(d, amplitude, length, profile)
        whole, f = _delay(d, velocity, dt, delays)
        for t in range(len(x)):
            delayed = (1 - f) * _past(x, t - whole, j) + f * _past(x, t - whole - 1, j)
            current[t, i] += w * delayed
    return current


def current_gradients(
    g: ArrayLike,
    x: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    coords: ArrayLike,
    amplitude: float,
    length: float,
    profile: str,
    velocity: float | None = None,
    dt: float = 1.0,
    delays: str = "none",
) -> dict[str, np.ndarray]:
    """Gradients of L = sum_{t,i} g[t, i] I[t, i], I of `currents`, with the list of pairs fixed.

    Distances are |coords|, [P, D], of `pairs` or `geometry`. "velocity" is 0 unless delays are
    "linear"; the derivative by f is x[t-floor-1] - x[t-floor] (at whole s, where L has a kink, the
    one from above). A pair at distance 0 adds nothing to "positions" (where L is not smooth).

    Returns:
        "amplitude", "length" and "velocity", scalars, and "positions", [N, D].
    """
    g, x = np.asarray(g, np.float64), np.asarray(x, np.float64)
    coords = np.asarray(coords, np.float64)
    by_amplitude = by_length = by_velocity = 0.0
    by_position = np.zeros((x.shape[1], coords.shape[1]))
    for i, j, coord in zip(first, second, coords, strict=True):
        d = math.sqrt(sum(c * c for c in coord))
        w = weight(d, amplitude, length, profile)
        whole, f = _delay(d, velocity, dt, delays)
        by_w = by_f = 0.0  # dL/dw and dL/df of this pair
        for t in range(len(x)):
            near, far = _past(x, t - whole, j), _past(x, t - whole - 1, j)
            by_w += g[t, i] * ((1 - f) * near + f * far)
            by_f += g[t, i] * w * (far - near)
        exponential = profile == "exponential"
        by_amplitude += by_w * weight(d, 1.0, length, profile)
        by_length += by_w * w * (d / length**2 if exponential else d**2 / length**3)
        by_dist = by_w * w * (-1 / length if exponential else -d / length**2)
        if delays == "linear":
            by_velocity += by_f * -d / (velocity**2 * dt)
            by_dist += by_f / (velocity * dt)
        if d > 0:
            by_position[j] += by_dist * coord / d
            by_position[i] -= by_dist * coord / d
    return {
        "amplitude": np.array(by_amplitude),
        "length": np.array(by_length),
        "velocity": np.array(by_velocity),
        "positions": by_position,
    }
