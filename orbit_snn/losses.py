"""Losses as pure functions, and the objective that a network is trained on.

Everything here is batch-major: outputs `[B, T, K]`, targets as the data set gives them, `mask`
`[B, T]` with 1 at the real steps of a sequence. A loss gives one number an example, `[B]`; padded
steps never count, and every example counts the same however long it is.
"""

import dataclasses
from collections.abc import Callable, Mapping

import tensorflow as tf

from orbit_snn.types import Batch, Outputs, Score

MODES = ("mean", "max", "last", "per_step")

Loss = Callable[[Outputs, Batch], tf.Tensor]
Metric = Callable[[Outputs, Batch], tuple[tf.Tensor, tf.Tensor]]


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
    if mode == "per_step":
        return logits
    over_steps = {"mean": mean_over_steps, "max": max_over_steps, "last": last_step}
    if mode not in over_steps:
        raise ValueError(f"the readout mode is {mode!r}; expected one of {', '.join(MODES)}.")
    return over_steps[mode](logits, mask)


def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, mode: str = "mean", mask: tf.Tensor | None = None
) -> tf.Tensor:
    """Softmax cross-entropy in nats, one number an example, `[B]`.

    Args:
      logits: readout, `[B, T, K]`.
      labels: class indices `[B]`, or distributions over classes such as one-hot rows, `[B, K]`;
        with `per_step` also one each step, `[B, T]` or `[B, T, K]`.
      mode: what of the readout counts, see `decision`; `per_step` is the mean over the steps.
      mask: 1 at real steps, `[B, T]`.

    Raises:
      ValueError: for labels that are neither indices nor one value a class.
    """
    logits = decision(logits, mode, mask)
    per_step = mode == "per_step"
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
    logits = decision(logits, mode, mask)
    if not labels.dtype.is_integer:
        labels = tf.argmax(labels, axis=-1)
    hit = tf.argmax(logits, axis=-1) == tf.cast(
        labels[:, tf.newaxis] if labels.shape.rank < logits.shape.rank - 1 else labels, tf.int64
    )
    hit = tf.cast(hit, logits.dtype)
    return mean_over_steps(hit, mask) if mode == "per_step" else hit


def squared_error(
    outputs: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor | None = None
) -> tf.Tensor:
    """`1/2 sum_k (y - y*)^2`, mean over the real steps, `[B]` (Bellec et al. 2020).

    Args:
      outputs: readout, `[B, T, K]`.
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
    return 0.5 * mean_over_steps(error, mask)


def rate_penalty(
    rates: tf.Tensor, target: float, reduction: str = "sample", weight: tf.Tensor | None = None
) -> tf.Tensor:
    """`1/2 sum_j (f_j - f*)^2` of the firing rates, one number an example, `[B]`.

    Args:
      rates: spikes per step, `[B, N]`.
      target: f*, spikes per step.
      reduction: `sample` takes every example's own rate; `batch` the mean rate over the batch
        (Bellec et al. 2020), which then couples the examples.
      weight: 0 for padded examples, `[B]`, which the mean over the batch leaves out.
    """
    if reduction == "batch":
        weight = tf.ones_like(rates[:, 0]) if weight is None else tf.cast(weight, rates.dtype)
        mean = tf.linalg.matvec(rates, weight, transpose_a=True) / tf.reduce_sum(weight)
        rates = tf.broadcast_to(mean, rates.shape)
    elif reduction != "sample":
        raise ValueError(
            f"the rate penalty's reduction is {reduction!r}; expected sample or batch."
        )
    return 0.5 * tf.reduce_sum(tf.square(rates - target), axis=-1)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a network is trained on and what is reported: `objective(outputs, batch, share)`.

    Attributes:
      losses: by name, each a function of (outputs, batch) that gives `[B]`; their sum is minimised.
      metrics: by name, each a function of (outputs, batch) that gives (total, count), `[B]` each;
        the metric is the ratio of their sums over the whole data set.
      temporal: features of a batch that have a time axis, `[B, T, ...]`, besides `inputs`, `mask`.
      labels: features that hold class labels, each with the readout that has an output a class.
      l2: strength of `1/2 sum w^2` over all trainable weights; biases, time constants and
        thresholds, which are vectors, are left alone.
      couples_examples: whether a loss depends on several examples at once.
    """

    losses: Mapping[str, Loss]
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    temporal: tuple[str, ...] = ()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    l2: float = 0.0
    couples_examples: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sums that it gives: the loss, its parts if there are several, metrics."""
        parts = [f"loss/{name}" for name in self.losses] if len(self.losses) > 1 else []
        return ("loss", *parts, *self.metrics)

    def __call__(self, outputs: Outputs, batch: Batch, global_batch_size: int) -> Score:
        """Scores a batch.

        Args:
          outputs: of the network.
          batch: features by name; `weight` `[B]`, where it is given, is 0 for padded examples.
          global_batch_size: examples of all replicas, by which the loss is divided.
        """
        parts = {name: loss(outputs, batch) for name, loss in self.losses.items()}
        total = tf.add_n(list(parts.values()))
        weight = _weight(batch, total)
        ones = tf.ones_like(total)
        pairs = {"loss": (total, ones)}
        if len(parts) > 1:
            pairs |= {f"loss/{name}": (part, ones) for name, part in parts.items()}
        pairs |= {name: metric(outputs, batch) for name, metric in self.metrics.items()}
        sums = {
            name: (
                tf.reduce_sum(value * weight),
                tf.reduce_sum(tf.cast(count, weight.dtype) * weight),
            )
            for name, (value, count) in pairs.items()
        }
        return Score(tf.reduce_sum(total * weight) / global_batch_size, sums)

    def with_rate_penalty(
        self, strength: float, target_hz: float, dt_ms: float = 1.0, reduction: str = "sample"
    ) -> "Objective":
        """This objective plus a firing-rate regulariser on every cell (see `rate_penalty`)."""
        target = target_hz * dt_ms / 1000.0

        def penalty(outputs: Outputs, batch: Batch) -> tf.Tensor:
            weight = batch.get("weight")
            penalties = [rate_penalty(rates, target, reduction, weight) for rates in outputs.rates]
            return strength * tf.add_n(penalties)

        return dataclasses.replace(
            self,
            losses={**self.losses, "rate": penalty},
            couples_examples=self.couples_examples or reduction == "batch",
        )


def _weight(batch: Batch, like: tf.Tensor) -> tf.Tensor:
    """1 for every example that counts, `[B]`: not for padding, nor where no step is real."""
    weight = tf.cast(batch["weight"], like.dtype) if "weight" in batch else tf.ones_like(like)
    if "mask" not in batch:
        return weight
    return weight * tf.cast(tf.reduce_any(tf.cast(batch["mask"], tf.bool), axis=1), like.dtype)


def classification(
    mode: str = "mean", readout: str = "output", label: str = "label", temporal: bool = False
) -> Objective:
    """Cross-entropy and accuracy of one readout against the feature `label`.

    Args:
      mode: what of the readout counts, see `decision`.
      readout: name of the readout.
      label: name of the feature with the labels.
      temporal: the labels have a time axis.
    """
    if mode not in MODES:
        raise ValueError(f"the readout mode is {mode!r}; expected one of {', '.join(MODES)}.")

    def loss(outputs: Outputs, batch: Batch) -> tf.Tensor:
        return cross_entropy(outputs.readouts[readout], batch[label], mode, batch.get("mask"))

    def accuracy(outputs: Outputs, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        hits = correct(outputs.readouts[readout], batch[label], mode, batch.get("mask"))
        return hits, tf.ones_like(hits)

    return Objective(
        {"cross_entropy": loss},
        {"accuracy": accuracy},
        temporal=(label,) if temporal else (),
        labels={label: readout},
    )


def regression(readout: str = "output", target: str = "target") -> Objective:
    """Squared error of one readout against the feature `target`, `[B, T, K]`.

    The metric `nmse` is the sum of squared errors over the sum of squared targets about their own
    mean in time.
    """

    def loss(outputs: Outputs, batch: Batch) -> tf.Tensor:
        return squared_error(outputs.readouts[readout], batch[target], batch.get("mask"))

    def nmse(outputs: Outputs, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        y, mask = outputs.readouts[readout], batch.get("mask")
        truth = tf.cast(batch[target], y.dtype)
        deviation = truth - mean_over_steps(truth, mask)[:, tf.newaxis]
        squares = [mean_over_steps(tf.square(x), mask) for x in (y - truth, deviation)]
        return tf.reduce_sum(squares[0], axis=-1), tf.reduce_sum(squares[1], axis=-1)

    return Objective({"squared_error": loss}, {"nmse": nmse}, temporal=(target,))
