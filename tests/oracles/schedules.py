"""Epoch-wise schedules as plain functions of the whole history of a metric, lower being better.

An epoch is better than all before it when its metric is strictly smaller than the smallest real
number so far (a tie is not better). NaN is the worst value: it is never better, not even in the
first epoch, and it never becomes the best, so that any later number, even +inf, beats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def better_flags(metrics: Sequence[float]) -> list[bool]:
    """Whether each epoch is better than all before it: NaN, 1, .5 give no, yes, yes."""
    best: float | None = None
    flags = []
    for value in metrics:
        flags.append(not math.isnan(value) and (best is None or value < best))
        if flags[-1]:
            best = value
    return flags


def patience(metrics: Sequence[float], p: int, max_epochs: int) -> int:
    """Number of epochs run under a termination patience.

    Another epoch starts while the number of epochs run is below min(last_best + p + 1, max_epochs).
    `last_best` is the 0-based index of the last better epoch; it is 0 until there has been one.
    With p = 3 and epochs 0 and 2 better, epochs 0..5 are run: 6. With p = 0 only epoch 0 is run.

    Args:
        metrics: the metric of epoch 0, 1, ...; the values after the last epoch run are ignored.
        p: termination patience, epochs.
        max_epochs: upper limit on the number of epochs.

    Raises:
        ValueError: `metrics` ends before the run does.
    """
    flags = better_flags(metrics)
    last_best = run = 0
    while run < min(last_best + p + 1, max_epochs):
        if run == len(flags):
            raise ValueError(f"the run goes on after the {run} metrics given")
        if flags[run]:
            last_best = run
        run += 1
    return run


def raise_batch_size(
    metrics: Sequence[float],
    start: int,
    patience: int,
    factor: float,
    max_batch: int,
    listed: str = "after",
) -> list[tuple[int, float]]:
    """Batch size and learning-rate multiplier under the batch-size schedule, one pair an epoch.

    At the end of an epoch its metric is pushed. A better epoch (see the module) sets the counter
    of bad epochs to 0, any other adds 1. When the counter is greater than `patience` there is one
    change, and the counter restarts at 0 (the best value stays): the batch size becomes
    floor(batch / factor) if that is at most `max_batch`; otherwise the batch size stays as it is
    (it is not clamped to `max_batch`) and the multiplier is multiplied by `factor`.

    Convention, derived from the table of the specification (patience 1, factor .5, max 16, from 4,
    nothing better after epoch 0: 4, 4, 8, 8, 16, 16, 16 with .5): these are the values AFTER the
    push of epochs 0, 1, 2, ...; entry e is therefore what is in force during epoch e + 1. Epoch 0
    is better, epochs 1 and 2 are bad, 2 > patience, and so entry 2 is the first 8. During the
    epochs the same run has 4, 4, 4, 8, 8, 16, 16, 16 with .5: epoch 0 always runs at `start`, so
    the list during the epochs is the list after the pushes moved on by one.

    Args:
        metrics: the metric of epoch 0, 1, ...
        start: batch size of epoch 0.
        patience: bad epochs that are put up with; the next one causes the change.
        factor: in (0, 1).
        max_batch: the batch size is not raised above it.
        listed: "after": entry e holds the values after the push of epoch e (the table's list);
            "during": entry e holds the values with which epoch e is run.

    Returns:
        (batch size, multiplier of the first learning rate) for every entry of `metrics`.
    """
    if not 0 < factor < 1:
        raise ValueError(f"factor {factor} is not in (0, 1)")
    if listed not in ("after", "during"):
        raise ValueError(f"listed {listed!r} is neither 'after' nor 'during'")
    batch, multiplier, bad = start, 1.0, 0
    during, after = [], []
    for better in better_flags(metrics):
        during.append((batch, multiplier))
        bad = 0 if better else bad + 1
        if bad > patience:
            bad = 0
            raised = math.floor(batch / factor)
            if raised <= max_batch:
                batch = raised
            else:
                multiplier *= factor
        after.append((batch, multiplier))
    return after if listed == "after" else during
