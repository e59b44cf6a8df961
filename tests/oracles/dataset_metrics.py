"""Metrics over a whole data set, given as arrays that hold every example. Nothing is streamed.

Every array becomes float64 first. A `mask` [n, T] (non-zero: real) goes with arrays [n, T, ...]:
padded steps do not exist, so an elementwise metric is a mean over all real elements of the data
set, in which a long example has more say than a short one. The metrics of sequences at the end of
the file (`squared_error`, `nmse`, `firing_rate`) average over the steps of an example first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def _mask(mask: ArrayLike | None, shape: tuple[int, ...], sequences: bool = False) -> np.ndarray:
    """The mask as booleans [n, T], all True by default; ValueError if it does not fit `shape`.

    With `sequences` the shape must be [n, T, K], with a real step in every example.
    """
    if len(shape) < 2 or (sequences and len(shape) != 3):
        raise ValueError(f"not an array of sequences: {shape}")
    real = np.ones(shape[:2], bool) if mask is None else np.asarray(mask).astype(bool)
    if real.shape != shape[:2]:
        raise ValueError(f"mask {real.shape} for an array {shape}")
    if sequences and not real.any(axis=1).all():
        raise ValueError("an example without a real step")
    return real


def _elements(x: ArrayLike, mask: ArrayLike | None) -> np.ndarray:
    """All real elements of [n, ...], flat; ValueError if there are none."""
    x = np.asarray(x, np.float64)
    flat = x.ravel() if mask is None else x[_mask(mask, x.shape)].ravel()
    if not flat.size:
        raise ValueError("no real element")
    return flat


def _aligned(pred: ArrayLike, true: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64 and of one shape. Only `true` [n] for `pred` [n, 1] is reshaped."""
    pred, true = np.asarray(pred, np.float64), np.asarray(true, np.float64)
    if true.ndim == 1 and pred.shape == (len(true), 1):
        true = true[:, None]
    if pred.shape != true.shape:
        raise ValueError(f"prediction {pred.shape} and truth {true.shape} differ in shape")
    return pred, true


def mean(x: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean of all real elements of [n, ...]."""
    flat = _elements(x, mask)
    return float(flat.sum() / flat.size)


def mean_sq(x: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean of the squares of all real elements of [n, ...]."""
    return mean(np.square(np.asarray(x, np.float64)), mask)


def var(x: ArrayLike, ddof: int = 1, mask: ArrayLike | None = None) -> float:
    """Variance about the one mean of all real elements; divisor (elements - ddof), NaN if <= 0."""
    flat = _elements(x, mask)
    divisor = flat.size - ddof
    return float(np.square(flat - flat.mean()).sum() / divisor) if divisor > 0 else float("nan")


def std(x: ArrayLike, ddof: int = 1, mask: ArrayLike | None = None) -> float:
    """Square root of `var`."""
    return var(x, ddof, mask) ** 0.5


def mse(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean of (pred - true)^2 over all real elements of [n, ...]."""
    pred, true = _aligned(pred, true)
    return mean(np.square(pred - true), mask)


def mae(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean of |pred - true| over all real elements of [n, ...]."""
    pred, true = _aligned(pred, true)
    return mean(np.abs(pred - true), mask)


def rmse(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Square root of the `mse` of the whole data set."""
    return mse(pred, true, mask) ** 0.5


def rsq(pred: ArrayLike, true: ArrayLike, ddof: int = 1, mask: ArrayLike | None = None) -> float:
    """1 - mse / var(true, ddof), over all real elements (columns are not told apart)."""
    pred, true = _aligned(pred, true)
    return float(1.0 - np.float64(mse(pred, true, mask)) / var(true, ddof, mask))


def _weighted(error: np.ndarray, weight: ArrayLike, mask: ArrayLike | None, over: str) -> float:
    """Mean over all real elements of w / mean(w) * error; see `weighted_mse`."""
    weight = np.asarray(weight, np.float64)
    if weight.shape not in ((len(error),), (len(error), 1)):
        raise ValueError(f"weights {weight.shape} for {len(error)} examples")
    weight = weight.reshape(-1)
    spread = np.broadcast_to(weight.reshape(-1, *(1,) * (error.ndim - 1)), error.shape)
    if over == "elements":
        mean_weight = mean(spread, mask)
    elif over == "examples":
        mean_weight = mean(weight)
    else:
        raise ValueError(f"mean weight over {over!r}, not 'elements' or 'examples'")
    return mean(spread / mean_weight * error, mask)


def weighted_mse(
    pred: ArrayLike,
    true: ArrayLike,
    weight: ArrayLike,
    mask: ArrayLike | None = None,
    weight_mean: str = "elements",
) -> float:
    """Mean over all real elements of w / mean(w) * (pred - true)^2.

    Args:
        pred: [n, ...].
        true: the same shape, or [n] for [n, 1].
        weight: one weight an example, [n] or [n, 1]; every element of the example has it.
        mask: real steps, [n, T].
        weight_mean: mean(w) is taken over the real "elements", which makes the result
            sum(w e) / sum(w) and a constant error its own mean; or over the n "examples". The two
            differ only where a mask gives examples of different lengths.
    """
    pred, true = _aligned(pred, true)
    return _weighted(np.square(pred - true), weight, mask, weight_mean)


def weighted_mae(
    pred: ArrayLike,
    true: ArrayLike,
    weight: ArrayLike,
    mask: ArrayLike | None = None,
    weight_mean: str = "elements",
) -> float:
    """Mean over all real elements of w / mean(w) * |pred - true|; see `weighted_mse`."""
    pred, true = _aligned(pred, true)
    return _weighted(np.abs(pred - true), weight, mask, weight_mean)


def _labels(labels: ArrayLike, logits: np.ndarray) -> np.ndarray:
    """Labels [n] as integers, checked against logits [n, K]."""
    labels = np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise ValueError(f"labels {labels.shape} for logits {logits.shape}")
    if not (np.isin(labels, np.arange(logits.shape[1]))).all():
        raise ValueError(f"a label that is none of 0..{logits.shape[1] - 1}")
    return labels.astype(int)


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean over examples of -log softmax(logits)[label], in nats; logits [n, K], labels [n]."""
    logits = np.asarray(logits, np.float64)
    total = 0.0
    for row, label in zip(logits, _labels(labels, logits), strict=True):
        top = row.max()
        total += top + np.log(np.exp(row - top).sum()) - row[label]
    return float(total / len(logits))


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share of examples whose largest logit (the first of equal ones) is the label's."""
    logits = np.asarray(logits, np.float64)
    return float((logits.argmax(axis=-1) == _labels(labels, logits)).mean())


def squared_error(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None) -> float:
    """1/2 sum_k (y - y*)^2 of [n, T, K], mean over an example's real steps, mean over examples."""
    pred, true = _aligned(pred, true)
    real = _mask(mask, pred.shape, sequences=True)
    total = 0.0
    for y, target, steps in zip(pred, true, real, strict=True):
        total += 0.5 * np.square(y[steps] - target[steps]).sum() / steps.sum()
    return float(total / len(pred))


def nmse(pred: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Normalised squared error of [n, T, K], a quotient of two sums over examples.

    Above: the mean over the example's real steps of sum_k (y - y*)^2. Below: the same with the
    mean of y* over the example's real steps, for each k by itself, in place of y.
    """
    pred, true = _aligned(pred, true)
    real = _mask(mask, pred.shape, sequences=True)
    above = below = np.float64(0.0)
    for y, target, steps in zip(pred, true, real, strict=True):
        target = target[steps]
        above += np.square(y[steps] - target).sum() / steps.sum()
        below += np.square(target - target.mean(axis=0)).sum() / steps.sum()
    return float(above / below)


def firing_rate(
    spikes: ArrayLike,
    target: float,
    reduction: str = "sample",
    mask: ArrayLike | None = None,
) -> float:
    """Firing-rate regulariser over the data set: summed over neurons, never divided by N.

    Args:
        spikes: [n, T, N].
        target: f*, spikes per step.
        reduction: "sample": mean over examples of 1/2 sum_j (f_nj - f*)^2; "batch":
            1/2 sum_j (mean_n f_nj - f*)^2, every example of the data set counting alike. f_nj is
            the mean over the example's own real steps.
        mask: real steps, [n, T].
    """
    spikes = np.asarray(spikes, np.float64)
    real = _mask(mask, spikes.shape, sequences=True)
    rates = np.stack([z[steps].mean(axis=0) for z, steps in zip(spikes, real, strict=True)])
    if reduction == "sample":
        return float(0.5 * np.square(rates - target).sum(axis=1).mean())
    if reduction == "batch":
        return float(0.5 * np.square(rates.mean(axis=0) - target).sum())
    raise ValueError(f"reduction {reduction!r} is neither 'sample' nor 'batch'")


def batch_mean(
    metric: Callable[[np.ndarray, np.ndarray], float],
    pred: ArrayLike,
    true: ArrayLike,
    batch_size: int,
) -> float:
    """What must NOT be reported: the unweighted mean of a metric over batches in order.

    The last batch is ragged: it holds what is left of the n examples and counts like the others.
    """
    pred, true = np.asarray(pred), np.asarray(true)
    starts = range(0, len(pred), batch_size)
    return float(
        np.mean([metric(pred[s : s + batch_size], true[s : s + batch_size]) for s in starts])
    )
