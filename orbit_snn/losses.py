"""Losses as pure functions of tensors; `graph` makes nodes of them.

Everything here is batch-major: outputs `[B, T, K]`, targets as the data set gives them, `mask`
`[B, T]` with 1 at the real steps of a sequence. A loss gives one number an example, `[B]`; padded
steps never count, and every example counts the same however long it is.
"""

import tensorflow as tf

MODES = ("mean", "max", "last", "per_step")


def check_mode(mode: str) -> str:
    """Returns the readout mode.

    Raises:
      ValueError: for an unknown one.
    """
    if mode not in MODES:
        raise ValueError(f"the readout mode is {mode!r}; expected one of {', '.join(MODES)}.")
    return mode


def mean_over_steps(x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Mean over the real steps: `[B, T, ...]` to `[B, ...]`; 0 where an example has none."""
    if mask is None:
        return tf.reduce_mean(x, axis=1)
    real = tf.cast(mask, x.dtype)
    count = tf.reduce_sum(real, axis=1)
    while real.shape.rank < x.shape.rank:
        real, count = real[..., tf.newaxis], count[..., tf.newaxis]
    return tf.math.divide_no_nan(tf.reduce_sum(x * real, axis=1), count)


def last_step(x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Value at the last real step: `[B, T, K]` to `[B, K]`."""
    if mask is None:
        return x[:, -1]
    steps = tf.range(1, x.shape[1] + 1)
    last = tf.argmax(steps * tf.cast(tf.cast(mask, tf.bool), steps.dtype), axis=1)
    return tf.reduce_sum(x * tf.one_hot(last, x.shape[1], dtype=x.dtype)[..., tf.newaxis], axis=1)


def max_over_steps(x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Largest value at a real step, each output on its own: `[B, T, K]` to `[B, K]`.

    Of equal maxima the first one takes the gradient.
    """
    if mask is not None:
        x = tf.where(tf.cast(mask, tf.bool)[..., tf.newaxis], x, x.dtype.min)
    first = tf.stop_gradient(tf.one_hot(tf.argmax(x, axis=1), x.shape[1], axis=1, dtype=x.dtype))
    return tf.reduce_sum(x * first, axis=1)


def decision(logits: tf.Tensor, mode: str = "mean", mask: tf.Tensor | None = None) -> tf.Tensor:
    """The logits that a classification is read from.

    Args:
      logits: readout, `[B, T, K]`.
      mode: `mean`, `max` or `last` over the real steps gives `[B, K]`; `per_step` leaves
        `[B, T, K]`.
      mask: 1 at real steps, `[B, T]`.

    Raises:
      ValueError: for an unknown mode.
    """
    if check_mode(mode) == "per_step":
        return logits
    over_steps = {"mean": mean_over_steps, "max": max_over_steps, "last": last_step}
    return over_steps[mode](logits, mask)


def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, mode: str = "mean", mask: tf.Tensor | None = None
) -> tf.Tensor:
    """Softmax cross-entropy in nats, one number an example, `[B]`.

    Args:
      logits: readout, `[B, T, K]`, or what a `decision` made of it, `[B, K]`.
      labels: class indices `[B]`, or distributions over classes such as one-hot rows, `[B, K]`;
        with `per_step` also one each step, `[B, T]` or `[B, T, K]`.
      mode: what of the readout counts, see `decision`; `per_step` is the mean over the steps.
      mask: 1 at real steps, `[B, T]`.

    Raises:
      ValueError: for labels that are neither indices nor one value a class.
    """
    logits = decision(logits, mode, mask) if logits.shape.rank == 3 else logits
    per_step = logits.shape.rank == 3
    _check_labels(labels)
    if labels.dtype.is_integer:
        labels = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    labels = tf.cast(labels, logits.dtype)
    if labels.shape[-1] != logits.shape[-1]:
        raise ValueError(
            f"labels have shape {labels.shape} for logits of {logits.shape[-1]} classes; give "
            "class indices as integers, or one value a class."
        )
    if per_step and labels.shape.rank == 2:
        labels = tf.broadcast_to(labels[:, tf.newaxis], logits.shape)
    loss = tf.nn.softmax_cross_entropy_with_logits(labels, logits)
    return mean_over_steps(loss, mask) if per_step else loss


def correct(
    logits: tf.Tensor, labels: tf.Tensor, mode: str = "mean", mask: tf.Tensor | None = None
) -> tf.Tensor:
    """1 where the largest logit is the label's, else 0, `[B]`; arguments as `cross_entropy`."""
    logits = decision(logits, mode, mask) if logits.shape.rank == 3 else logits
    _check_labels(labels)
    if not labels.dtype.is_integer:
        labels = tf.argmax(labels, axis=-1)
    hit = tf.argmax(logits, axis=-1) == tf.cast(
        labels[:, tf.newaxis] if labels.shape.rank < logits.shape.rank - 1 else labels, tf.int64
    )
    hit = tf.cast(hit, logits.dtype)
    return mean_over_steps(hit, mask) if logits.shape.rank == 3 else hit


def _check_labels(labels: tf.Tensor) -> None:
    if not labels.dtype.is_integer and labels.shape.rank < 2:
        raise ValueError(
            f"labels are {labels.dtype.name} of shape {labels.shape}; give class indices as "
            "integers, or one value a class."
        )


def squared_error(
    outputs: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor | None = None
) -> tf.Tensor:
    """`1/2 sum_k (y - y*)^2`, mean over the real steps, `[B]` (Bellec et al. 2020).

    Args:
      outputs: readout, `[B, T, K]`, or `[B, K]`.
      targets: of the same shape.
      mask: 1 at real steps, `[B, T]`.

    Raises:
      ValueError: where the shapes differ; nothing is broadcast.
    """
    if outputs.shape != targets.shape:
        raise ValueError(
            f"outputs have shape {outputs.shape}, targets {targets.shape}; they differ."
        )
    error = tf.reduce_sum(tf.square(outputs - tf.cast(targets, outputs.dtype)), axis=-1)
    return 0.5 * (mean_over_steps(error, mask) if error.shape.rank == 2 else error)


def squares_about_mean(
    outputs: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Squares whose sums over examples have the normalised mean squared error as their ratio.

    Args:
      outputs: readout, `[B, T, K]`.
      targets: of the same shape.
      mask: 1 at real steps, `[B, T]`.

    Returns:
      `sum_k (y - y*)^2`, and the same of the targets about their own mean in time; mean over the
      real steps, `[B]` each.
    """
    targets = tf.cast(targets, outputs.dtype)
    deviation = targets - mean_over_steps(targets, mask)[:, tf.newaxis]
    errors, deviations = (
        tf.reduce_sum(mean_over_steps(tf.square(x), mask), axis=-1)
        for x in (outputs - targets, deviation)
    )
    return errors, deviations


def rate_penalty(rates: tf.Tensor, target: float) -> tf.Tensor:
    """`1/2 sum_j (f_j - f*)^2` of firing rates (Bellec et al. 2020).

    Args:
      rates: spikes per step, `[..., N]`.
      target: f*, spikes per step.

    Returns:
      One number for each population, `[...]`.
    """
    return 0.5 * tf.reduce_sum(tf.square(rates - target), axis=-1)
