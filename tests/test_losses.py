"""Losses against the NumPy oracle; masks, weights, metrics and errors."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import losses
from orbit_snn.types import Outputs
from tests.oracles import losses as oracle
from tests.oracles.dual import Dual, gradients, variables

B, T, K, N = 4, 6, 3, 5
LENGTHS = np.array([6, 4, 1, 3])
GAPS = np.array([[1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
MASKS = {"whole": None, "lengths": np.arange(T) < LENGTHS[:, np.newaxis], "gaps": GAPS > 0}
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(B, T, K))
TARGETS = RNG.normal(size=(B, T, K))
LABELS = RNG.integers(K, size=B)
STEP_LABELS = RNG.integers(K, size=(B, T))
RATES = RNG.uniform(size=(B, N))

masked = pytest.mark.parametrize("mask", list(MASKS.values()), ids=list(MASKS))
modes = pytest.mark.parametrize("mode", losses.MODES)


def tensor(mask):
    return None if mask is None else tf.constant(mask, tf.float64)


def time_major(x):
    return None if x is None else np.swapaxes(x, 0, 1)


def value_and_gradient(function, x=LOGITS):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        per_example = function(x)
        total = tf.reduce_mean(per_example)
    assert per_example.shape == [x.shape[0]]
    return per_example.numpy(), tape.gradient(total, x).numpy()


def assert_like_oracle(function, want, mask):
    """Value, gradient, and a gradient of exactly 0 at padded steps."""
    x = variables({"x": time_major(LOGITS)})
    expected = want(x["x"])
    value, gradient = value_and_gradient(function)
    np.testing.assert_allclose(value.mean(), expected.value, rtol=1e-12)
    expected = time_major(gradients(expected, x)["x"])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)
    assert np.any(gradient)
    if mask is not None:
        assert np.all(gradient[~mask] == 0.0)


@modes
@masked
@pytest.mark.parametrize("one_hot", [False, True], ids=["index", "one-hot"])
def test_cross_entropy(mode, mask, one_hot):
    labels = np.eye(K)[LABELS] if one_hot else LABELS
    assert_like_oracle(
        lambda x: losses.cross_entropy(x, tf.constant(labels), mode, tensor(mask)),
        lambda x: oracle.cross_entropy(x, LABELS, mode, time_major(mask)),
        mask,
    )


@masked
@pytest.mark.parametrize("one_hot", [False, True], ids=["index", "one-hot"])
def test_cross_entropy_of_a_label_each_step(mask, one_hot):
    labels = np.eye(K)[STEP_LABELS] if one_hot else STEP_LABELS
    assert_like_oracle(
        lambda x: losses.cross_entropy(x, tf.constant(labels), "per_step", tensor(mask)),
        lambda x: oracle.cross_entropy(x, time_major(STEP_LABELS), "per_step", time_major(mask)),
        mask,
    )


@masked
def test_squared_error(mask):
    assert_like_oracle(
        lambda x: losses.squared_error(x, tf.constant(TARGETS), tensor(mask)),
        lambda x: oracle.mean_squared_error(x, time_major(TARGETS), time_major(mask)),
        mask,
    )


@masked
@modes
def test_decision(mode, mask):
    """The numbers that a classification is read from, written out."""
    real = np.ones((B, T), bool) if mask is None else mask
    got = losses.decision(tf.constant(LOGITS), mode, tensor(mask)).numpy()
    if mode == "per_step":
        return np.testing.assert_array_equal(got, LOGITS)
    rows = [example[steps] for example, steps in zip(LOGITS, real, strict=True)]
    pick = {"mean": lambda x: x.mean(0), "max": lambda x: x.max(0), "last": lambda x: x[-1]}[mode]
    np.testing.assert_allclose(got, [pick(row) for row in rows], rtol=1e-12)


@masked
@modes
@pytest.mark.parametrize("one_hot", [False, True], ids=["index", "one-hot"])
def test_correct(mode, mask, one_hot):
    real = np.ones((B, T)) if mask is None else mask.astype(float)
    rows = losses.decision(tf.constant(LOGITS), mode, tensor(mask)).numpy()
    labels = LABELS if mode != "per_step" else STEP_LABELS
    hits = (rows.argmax(-1) == labels).astype(float)
    want = (hits * real).sum(1) / real.sum(1) if mode == "per_step" else hits
    given = tf.constant(np.eye(K)[labels] if one_hot else labels)
    got = losses.correct(tf.constant(LOGITS), given, mode, tensor(mask))
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("one_hot", [False, True], ids=["index", "one-hot"])
def test_correct_per_step_of_one_label(one_hot):
    given = tf.constant(np.eye(K)[LABELS] if one_hot else LABELS)
    got = losses.correct(tf.constant(LOGITS), given, "per_step")
    want = (LOGITS.argmax(-1) == LABELS[:, np.newaxis]).mean(1)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_soft_labels():
    labels = RNG.dirichlet(np.ones(K), size=B)
    rows = LOGITS.mean(1)
    want = -(labels * (rows - np.log(np.exp(rows).sum(-1, keepdims=True)))).sum(-1)
    got = losses.cross_entropy(tf.constant(LOGITS), tf.constant(labels))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_first_of_equal_maxima_takes_the_gradient():
    x = np.zeros((1, 3, 2))
    x[0, :, 0] = [1.0, 1.0, 0.0]
    _, gradient = value_and_gradient(lambda x: tf.reduce_sum(losses.max_over_steps(x), axis=-1), x)
    np.testing.assert_array_equal(gradient[0], [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])


def test_all_steps_padded_is_zero():
    """An example that only fills up a batch gives finite numbers."""
    mask = tf.zeros([B, T], tf.float64)
    for mode in losses.MODES:
        value, gradient = value_and_gradient(
            lambda x, mode=mode: losses.cross_entropy(x, tf.constant(LABELS), mode, mask)
        )
        assert np.all(np.isfinite(value)) and np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(losses.mean_over_steps(tf.constant(LOGITS), mask), 0.0)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@modes
def test_dtype(mode, dtype):
    mask = tf.constant(GAPS, tf.float32)
    logits = tf.constant(LOGITS, dtype)
    for found in (
        losses.cross_entropy(logits, tf.constant(LABELS), mode, mask),
        losses.cross_entropy(logits, tf.constant(np.eye(K)[LABELS]), mode, mask),
        losses.correct(logits, tf.constant(LABELS), mode, mask),
        losses.squared_error(logits, tf.constant(TARGETS), mask),
    ):
        assert found.dtype == dtype


@pytest.mark.parametrize("reduction", ["sample", "batch"])
@masked
def test_rate_penalty(reduction, mask):
    spikes = (RNG.uniform(size=(B, T, N)) < 0.4).astype(float)
    rates = losses.mean_over_steps(tf.constant(spikes), tensor(mask))
    got = 3.0 * losses.rate_penalty(rates, 0.2, reduction)
    want = oracle.firing_rate(Dual(time_major(spikes)), 0.2, 3.0, time_major(mask), reduction)
    assert got.shape == [B]
    np.testing.assert_allclose(np.mean(got), want.value, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: losses.decision(x, "sum"), "readout mode is 'sum'; expected one of mean, max"),
        (lambda x: losses.classification("sum"), "readout mode is 'sum'; expected one of mean"),
        (
            lambda x: losses.cross_entropy(x, tf.constant(LABELS), "sum"),
            "readout mode is 'sum'; expected one of mean",
        ),
        (
            lambda x: losses.rate_penalty(x[:, 0], 0.1, "mean"),
            "reduction is 'mean'; expected sample or batch",
        ),
        (
            lambda x: losses.squared_error(x, x[..., 0]),
            r"outputs have shape (4, 6, 3), targets (4, 6); they differ",
        ),
        (lambda x: losses.squared_error(x, x[..., :1]), r"targets (4, 6, 1); they differ"),
        (lambda x: losses.squared_error(x, x[:, :1]), r"targets (4, 1, 3); they differ"),
        (lambda x: losses.squared_error(x, x[:1]), r"targets (1, 6, 3); they differ"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(tf.constant(LOGITS))


@pytest.mark.parametrize(
    ("mode", "labels"),
    [
        ("mean", STEP_LABELS[:1]),
        ("mean", np.eye(K)[STEP_LABELS[:1]]),
        ("mean", np.ones([1, K + 1])),
        ("mean", np.ones([1, 1])),
        ("per_step", np.ones([1, T, 1])),
        ("per_step", np.zeros([1, T - 1], int)),
    ],
    ids=["step labels", "one-hot step labels", "classes", "column", "column each step", "steps"],
)
def test_labels_of_another_shape_are_refused(mode, labels):
    """One example is where a silent broadcast would pass unseen."""
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        losses.cross_entropy(tf.constant(LOGITS[:1]), tf.constant(labels), mode)


def outputs(rates=RATES):
    readouts = {"output": tf.constant(LOGITS), "other": tf.constant(TARGETS)}
    return Outputs(readouts, (tf.constant(rates), tf.constant(2.0 * rates)))


def batch(mask="gaps", **more):
    found = {"label": LABELS, "target": TARGETS[::-1].copy(), "step_label": STEP_LABELS} | more
    if MASKS[mask] is not None:
        found["mask"] = MASKS[mask].astype(np.float64)
    return {name: tf.constant(value) for name, value in found.items()}


OBJECTIVES = {
    "classification": losses.classification(),
    "per_step": losses.classification("per_step", label="step_label", temporal=True),
    "regression": losses.regression("other"),
    "penalised": losses.classification("max").with_rate_penalty(2.0, 100.0),
}
objectives = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))


@objectives
@pytest.mark.parametrize("mask", list(MASKS))
def test_objective(objective, mask):
    """The loss is the mean over the global batch; every metric is a ratio of sums."""
    score = objective(outputs(), batch(mask), 2 * B)
    parts = [loss(outputs(), batch(mask)).numpy() for loss in objective.losses.values()]
    np.testing.assert_allclose(score.loss, sum(parts).sum() / (2 * B), rtol=1e-12)
    assert tuple(score.sums) == objective.names
    assert all(total.shape == count.shape == [] for total, count in score.sums.values())
    total, count = score.sums["loss"]
    np.testing.assert_allclose([total, count], [sum(parts).sum(), B], rtol=1e-12)
    if len(parts) > 1:
        for name, part in zip(objective.losses, parts, strict=True):
            np.testing.assert_allclose(score.sums[f"loss/{name}"], [part.sum(), B], rtol=1e-12)


def test_accuracy():
    total, count = OBJECTIVES["classification"](outputs(), batch("whole"), B).sums["accuracy"]
    np.testing.assert_allclose(total / count, np.mean(LOGITS.mean(1).argmax(-1) == LABELS))


@pytest.mark.parametrize("mask", list(MASKS))
def test_nmse(mask):
    """Squared errors over squared deviations of the target from its mean in time."""
    real = np.ones((B, T)) if MASKS[mask] is None else MASKS[mask].astype(float)
    share = (real / real.sum(1, keepdims=True))[..., np.newaxis]
    target = TARGETS[::-1]
    deviation = target - (target * share).sum(1, keepdims=True)
    want = (share * (TARGETS - target) ** 2).sum() / (share * deviation**2).sum()
    total, count = OBJECTIVES["regression"](outputs(), batch(mask), B).sums["nmse"]
    np.testing.assert_allclose(total / count, want, rtol=1e-12)


def test_nmse_of_the_mean_is_one_and_of_the_target_zero():
    target = TARGETS[::-1].copy()
    flat = np.broadcast_to(target.mean(1, keepdims=True), target.shape)
    for given, want in ((flat, 1.0), (target, 0.0)):
        total, count = losses.regression()(
            Outputs({"output": tf.constant(given)}, ()), batch("whole"), B
        ).sums["nmse"]
        np.testing.assert_allclose(total / count, want, atol=1e-12)


PENALISED = {
    reduction: losses.regression("other").with_rate_penalty(5.0, 50.0, reduction=reduction)
    for reduction in ("sample", "batch")
}


@pytest.mark.parametrize("name", [*OBJECTIVES, *PENALISED])
def test_padded_examples_weigh_nothing(name):
    """Two real examples score the same with two more that only fill up the batch."""
    objective = (OBJECTIVES | PENALISED)[name]
    weight = np.array([1.0, 1.0, 0.0, 0.0])
    padded = objective(outputs(), batch(weight=weight), 2)
    seen = outputs()
    readouts = {name: value[:2] for name, value in seen.readouts.items()}
    few = Outputs(readouts, tuple(rates[:2] for rates in seen.rates))
    alone = objective(few, {name: value[:2] for name, value in batch().items()}, 2)
    np.testing.assert_allclose(padded.loss, alone.loss, rtol=1e-12)
    for name in objective.names:
        np.testing.assert_allclose(padded.sums[name], alone.sums[name], rtol=1e-12, err_msg=name)


def test_weight_of_whole_examples_changes_nothing():
    objective = OBJECTIVES["penalised"]
    for dtype in (np.float32, np.float64):
        got = objective(outputs(), batch(weight=np.ones(B, dtype)), B)
        want = objective(outputs(), batch(), B)
        tf.nest.map_structure(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("reduction", ["sample", "batch"])
@pytest.mark.parametrize("dt_ms", [1.0, 0.5])
def test_with_rate_penalty(reduction, dt_ms):
    """Strength times the penalty of every layer, the target in spikes per step."""
    base = losses.classification()
    objective = base.with_rate_penalty(3.0, 20.0, dt_ms, reduction)
    assert objective.couples_examples == (reduction == "batch") and not base.couples_examples
    assert "rate" not in base.losses
    target = 20.0 * dt_ms / 1000.0
    layers = [RATES, 2.0 * RATES]
    if reduction == "batch":
        layers = [rates.mean(0) for rates in layers]
    want = sum(1.5 * np.mean(((rates - target) ** 2).sum(-1)) for rates in layers)
    total, count = objective(outputs(), batch(), B).sums["loss/rate"]
    np.testing.assert_allclose(total / count, want, rtol=1e-12)
    names = ("loss", "loss/cross_entropy", "loss/rate", "accuracy")
    assert objective.names == names and base.names == ("loss", "accuracy")


def test_l2_is_kept_and_left_to_the_trainer():
    """The strength survives `with_rate_penalty` and is no part of the score."""
    base = OBJECTIVES["classification"]
    strong = dataclasses.replace(base, l2=0.5)
    assert base.l2 == 0.0 and strong.with_rate_penalty(1.0, 10.0).l2 == 0.5
    got, want = strong(outputs(), batch(), B), base(outputs(), batch(), B)
    np.testing.assert_array_equal(got.loss, want.loss)


@pytest.mark.parametrize(
    ("objective", "temporal"),
    [
        (losses.classification(label="y"), ()),
        (losses.classification("per_step", label="y", temporal=True), ("y",)),
        (losses.regression(target="curve"), ("curve",)),
        (losses.regression(target="curve").with_rate_penalty(1.0, 10.0), ("curve",)),
    ],
)
def test_temporal_features(objective, temporal):
    assert objective.temporal == temporal
