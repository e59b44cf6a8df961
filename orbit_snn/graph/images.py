"""Periodic images of a torus: which ones are looked at, and how many are needed."""

import math

import numpy as np

from orbit_snn.graph.errors import GraphError


def offset_grid(n_images: int, dims: int) -> np.ndarray:
    """All offsets, int32 `[(2n + 1)^D, D]`, in the order of `offset_index`: last axis slowest."""
    axes = np.indices([2 * n_images + 1] * dims, np.int32).reshape(dims, -1)
    return np.ascontiguousarray(axes[::-1].T) - np.int32(n_images)


def needed_images(box: np.ndarray | None, cutoff: float) -> int:
    """The smallest `n_images` with which no pair is lost, wherever the neurons are.

    Args:
      box: edges `[..., D]` of one torus or more, or None for an open sheet.
      cutoff: the largest distance, in the same unit.

    Raises:
      GraphError: for edges that are not positive and finite.
    """
    if box is None:
        return 0
    shortest = np.min(box)
    if not (shortest > 0 and np.isfinite(box).all()):
        raise GraphError(f"a box has the edges {np.asarray(box).tolist()}; they must be positive.")
    return math.ceil(cutoff / float(shortest))


def check_finite(positions: np.ndarray) -> None:
    """Raises GraphError for positions that are NaN or infinite: they would have no pairs."""
    if not np.isfinite(positions).all():
        raise GraphError("positions have NaN or infinity; every neuron needs a place.")


def check_size(units: int, offsets: int) -> None:
    """Raises GraphError where pairs cannot be counted in int32."""
    if units * units * offsets >= 2**31:
        raise GraphError(
            f"{units} neurons and {offsets} offsets make {units * units * offsets} possible pairs; "
            "at most 2^31 - 1 can be numbered: lower n_images."
        )


def image_count(n_images: int) -> int:
    """A number of images; raises GraphError where it is none."""
    if n_images != int(n_images) or n_images < 0:
        raise GraphError(f"n_images is {n_images}; expected 0, 1, 2, ...")
    return int(n_images)
