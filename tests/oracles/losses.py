"""Losses on Duals. A mask [T, B] marks the real steps; padded steps count for nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .dual import Dual, dual, log_softmax, where

READOUT_MODES = ("mean", "max", "last", "per_step")


def _real_steps(mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """The mask [T, B] as booleans; all steps by default."""
    real = np.ones(shape[:2], bool) if mask is None else np.asarray(mask).astype(bool)
    if real.shape != shape[:2]:
        raise ValueError(f"mask {real.shape} for a sequence {shape}")
    if not real.any(axis=0).all():
        raise ValueError("a sample without a real step")
    return real


def mean_over_steps(x: Dual, mask: np.ndarray | None = None) -> Dual:
    """Mean of [T, B] or [T, B, K] over each sample's own real steps -> [B] or [B, K]."""
    real = _real_steps(mask, x.shape)
    share = real / real.sum(axis=0)
    return (x * share.reshape(*share.shape, *(1,) * (len(x.shape) - 2))).sum(axis=0)


def _pick(log_probabilities: Dual, labels: np.ndarray) -> Dual:
    """Entry `labels` [...] of the last axis of [..., K] -> [...]."""
    one_hot = np.eye(log_probabilities.shape[-1])[labels]
    return (log_probabilities * one_hot).sum(axis=-1)


def cross_entropy(
    logits: Dual, labels: np.ndarray, mode: str = "mean", mask: np.ndarray | None = None
) -> Dual:
    """Softmax cross-entropy, mean over the batch.

    Args:
        logits: readout, [T, B, K].
        labels: classes, integers [B]; for "per_step" [B] or [T, B].
        mode: how the logits become one row per sample: "mean" or "max" (of each logit by itself)
            over the real steps, "last" real step; or "per_step": the mean over a sample's real
            steps of the cross-entropy of the step.
        mask: real steps, [T, B].

    Returns:
        Scalar, in nats.
    """
    real = _real_steps(mask, logits.shape)
    labels = np.asarray(labels, int)
    steps, batch, _ = logits.shape
    if mode == "per_step":
        labels = np.broadcast_to(labels, (steps, batch))
        return mean_over_steps(-_pick(log_softmax(logits), labels), real).mean()
    samples = np.arange(batch)
    if mode == "mean":
        rows = mean_over_steps(logits, real)
    elif mode == "max":  # the first of equal maxima
        candidates = where(real[:, :, None], logits, -np.inf).value
        best = candidates.argmax(axis=0)
        rows = logits[best, samples[:, None], np.arange(logits.shape[2])[None, :]]
    elif mode == "last":
        last = steps - 1 - real[::-1].argmax(axis=0)
        rows = logits[last, samples]
    else:
        raise ValueError(f"mode {mode!r} is none of {READOUT_MODES}")
    return (-_pick(log_softmax(rows), labels)).mean()


def mean_squared_error(outputs: Dual, targets: np.ndarray, mask: np.ndarray | None = None) -> Dual:
    """1/2 (y - y*)^2 summed over outputs, mean over a sample's real steps, then over the batch.

    Args:
        outputs: y, [T, B, K].
        targets: y*, [T, B, K].
        mask: real steps, [T, B].

    Returns:
        Scalar.
    """
    real = _real_steps(mask, outputs.shape)
    targets = np.where(real[:, :, None], targets, 0.0)
    squared = ((outputs - targets) ** 2).sum(axis=-1) * 0.5
    return mean_over_steps(squared, real).mean()


def firing_rate(
    spikes: Dual,
    target: float | np.ndarray,
    strength: float,
    mask: np.ndarray | None = None,
    reduction: str = "batch",
) -> Dual:
    """Firing-rate regulariser 1/2 strength sum_j (f_j - target)^2.

    Args:
        spikes: z, [T, B, N].
        target: f*, in spikes per step, scalar or [N].
        strength: c.
        mask: real steps, [T, B].
        reduction: "batch": f_j is the mean over samples of each sample's rate over its real steps;
            "sample": the penalty of each sample's own rates, mean over samples.

    Returns:
        Scalar.
    """
    rates = mean_over_steps(spikes, mask)
    if reduction == "batch":
        return (0.5 * strength) * ((rates.mean(axis=0) - target) ** 2).sum()
    if reduction == "sample":
        return (0.5 * strength) * ((rates - target) ** 2).sum(axis=-1).mean()
    raise ValueError(f"reduction {reduction!r} is neither 'batch' nor 'sample'")


def l2(weights: Iterable[Any], strength: float) -> Dual:
    """1/2 strength sum w^2 over all entries of the given weights (all of W_rec, diagonal too)."""
    return (0.5 * strength) * sum(((dual(w) ** 2).sum() for w in weights), Dual(0.0))
