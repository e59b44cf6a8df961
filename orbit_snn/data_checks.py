"""Looks at examples before time is spent on training."""

from collections.abc import Mapping, Sequence

import numpy as np

from orbit_snn.data import DataError, Examples, example_at, require_fields


def check_examples(
    examples: Examples,
    *,
    inputs: str | Sequence[str] = "inputs",
    labels: Mapping[str, int] | None = None,
    mask: str | None = "mask",
    targets: Sequence[str] = (),
    limit: int = 256,
) -> None:
    """Looks at some examples, spread over the whole set, before time is spent on training.

    Args:
        examples: what to look at.
        inputs: names of the input fields, `[T, ...]` each.
        labels: names of the fields that hold class labels, with their numbers of classes.
        mask: name of the field `[T]` that, if there, marks the real steps.
        targets: names of the other fields that must not have NaN.
        limit: number of examples to look at.

    Raises:
        DataError: for a missing field, a sequence without (real) steps, NaN or infinity in the
            inputs or targets, inputs silent in every example, a label outside `[0, classes)`.
    """
    inputs, labels = [inputs] if isinstance(inputs, str) else list(inputs), labels or {}
    silent = True
    count = limit if examples.size is None else min(limit, examples.size)
    for index in np.unique(np.linspace(0, (examples.size or limit) - 1, count, dtype=np.int64)):
        example = example_at(examples, index)
        require_fields([*inputs, *labels], example)
        for field in inputs:
            x = example[field]
            if x.ndim == 0 or x.shape[0] == 0:
                raise DataError(f"example {index}: `{field}` has no time steps, shape {x.shape}")
            if not _finite(x):
                raise DataError(f"example {index}: `{field}` has NaN or infinity")
            silent = silent and not x.any()
        for field in targets:
            if not _finite(example[field]):
                raise DataError(
                    f"example {index}: the target `{field}` has NaN or infinity; put 0 where it "
                    "does not count, and leave those steps out with a mask or a During"
                )
        real = None if mask is None else example.get(mask)
        if real is not None and not real.any():
            raise DataError(f"example {index}: `{mask}` marks no step as real")
        for field, classes in labels.items():
            _check_label(index, field, example[field], classes, real)
    if inputs and silent:
        names = " and ".join(f"`{field}`" for field in inputs)
        raise DataError(f"{names} is zero at every step of all {count} examples looked at")


def _finite(x: np.ndarray) -> bool:
    return not np.issubdtype(x.dtype, np.inexact) or bool(np.isfinite(x).all())


def _check_label(
    index: int, field: str, given: np.ndarray, classes: int, real: np.ndarray | None
) -> None:
    if real is not None and real.shape == given.shape:
        given = given[real.astype(bool)]
    wrong = given[(given < 0) | (given >= classes)]
    if np.issubdtype(given.dtype, np.integer) and wrong.size:
        raise DataError(
            f"example {index}: label {wrong.flat[0]} in `{field}` is outside "
            f"[0, {classes}), the range for {classes} classes"
        )
