"""Losses against the NumPy oracle; masks, weights, metrics and errors."""

import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import losses
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


@masked
def test_rate_penalty(mask):
    spikes = (RNG.uniform(size=(B, T, N)) < 0.4).astype(float)
    rates = losses.mean_over_steps(tf.constant(spikes), tensor(mask))
    got = 3.0 * losses.rate_penalty(rates, 0.2)
    want = oracle.firing_rate(Dual(time_major(spikes)), 0.2, 3.0, time_major(mask), "sample")
    assert got.shape == [B]
    np.testing.assert_allclose(np.mean(got), want.value, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: losses.decision(x, "sum"), "readout mode is 'sum'; expected one of mean, max"),
        (
            lambda x: losses.cross_entropy(x, tf.constant(LABELS), "sum"),
            "readout mode is 'sum'; expected one of mean",
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
