"""Populations that are part LIF, part ALIF, as published for LSNNs (Bellec et al. 2018, 2020)."""

from collections.abc import Mapping
from typing import Any


def partly_adaptive(
    units: int, lif: Mapping[str, Any], adaptive_share: float = 0.5, **adaptation: float
) -> dict[str, Any]:
    """Fields of a `ModelConfig` of one such layer.

    Args:
      units: N, the LIF neurons first.
      lif: settings of all neurons.
      adaptive_share: which part of them adapts.
      **adaptation: further settings of those, such as `tau_adaptation_ms` and `beta`.
    """
    return {
        "units": [units],
        "neuron": {"type": "lif", "lif": dict(lif)},
        "other_neuron": {"type": "alif", "alif": {**lif, **adaptation}},
        "other_share": adaptive_share,
    }


def published_readout(tau_mem_ms: float) -> dict[str, Any]:
    """A leaky readout as the published code has it."""
    return {
        "neuron": {"tau_mem_ms": tau_mem_ms, "input_gain": "one_minus_decay"},
        "bias": False,
        "initializer": "glorot_uniform",
    }


def published_rates(strength: float) -> dict[str, Any]:
    """A penalty on rates other than 10 Hz, over the batch, without the factor 1/2 of ours."""
    return {
        "rate_strength": 2.0 * strength,
        "rate_target_hz": 10.0,
        "rate_reduction": "batch",
    }
