"""Dense connections: the map, its transpose, its gradients, its initial weights."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.connections import Dense

RNG = np.random.default_rng(0)
shapes = pytest.mark.parametrize("leading", [(), (4,), (3, 4), (2, 3, 4)])
kinds = pytest.mark.parametrize(
    "settings",
    [
        {"inputs": 3, "units": 5},
        {"inputs": 3, "units": 5, "bias": True},
        {"inputs": 4, "units": 4, "autapses": False},
        {"inputs": 4, "units": 4, "autapses": False, "bias": True},
        {"inputs": 1, "units": 1, "bias": True},
    ],
    ids=["plain", "bias", "no autapses", "no autapses, bias", "one by one"],
)


def filled(**settings):
    """A connection with weights everywhere, on the diagonal too."""
    connection = Dense(dtype=tf.float64, **settings)
    for variable in connection.parameters:
        variable.assign(RNG.normal(size=variable.shape))
    return connection


def effective(connection, autapses=True, **_):
    kernel = connection.kernel.numpy()
    return kernel if autapses else kernel * (1.0 - np.eye(len(kernel)))


@kinds
@shapes
def test_map(settings, leading):
    connection = filled(**settings)
    x = RNG.normal(size=(*leading, connection.inputs))
    want = x @ effective(connection, **settings) + (
        0.0 if connection.bias is None else connection.bias
    )
    got = connection(tf.constant(x))
    assert got.shape == (*leading, connection.units)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(connection(tf.constant(x), connection.weights()), got)


@kinds
@shapes
def test_gradients_are_those_of_autodiff(settings, leading):
    connection = filled(**settings)
    x = tf.constant(RNG.normal(size=(*leading, connection.inputs)))
    dcurrent = tf.constant(RNG.normal(size=(*leading, connection.units)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        current = connection(x)
    dx, *want = tape.gradient(current, [x, *connection.parameters], dcurrent)
    np.testing.assert_allclose(connection.transpose(dcurrent), dx, rtol=1e-12, atol=1e-14)
    given = connection.transpose(dcurrent, connection.transposed())
    np.testing.assert_array_equal(given, connection.transpose(dcurrent))
    got = connection.weight_gradient(x, dcurrent)
    assert len(got) == len(want) == 1 + settings.get("bias", False)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_autapses_stay_out():
    """At first, after a full matrix is assigned, and in the gradient."""
    connection = Dense(4, 4, autapses=False, initializer="ones", dtype=tf.float64)
    assert not np.any(np.diagonal(connection.kernel))
    connection.kernel.assign(np.ones([4, 4]))
    eye = tf.eye(4, dtype=tf.float64)
    assert not np.any(np.diagonal(connection(eye)))
    assert not np.any(np.diagonal(connection.transpose(eye)))
    assert not np.any(np.diagonal(connection.weights()[0]))
    ones = tf.ones([2, 4], tf.float64)
    gradient = connection.weight_gradient(ones, ones)[0].numpy()
    np.testing.assert_array_equal(gradient, 2.0 * (1.0 - np.eye(4)))
    assert np.all(Dense(4, 4, initializer="ones").kernel.numpy() == 1.0)


def test_not_trainable():
    connection = Dense(3, 4, bias=True, trainable=False)
    assert connection.parameters == () and connection.trainable_variables == ()
    assert connection.weight_gradient(tf.ones([2, 3]), tf.ones([2, 4])) == ()
    assert len(connection.variables) == 2


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("bias", [False, True])
def test_variables(dtype, bias):
    connection = Dense(3, 3, bias=bias, autapses=False, dtype=dtype, name="recurrent")
    names = [variable.name for variable in connection.parameters]
    assert names == ["recurrent/kernel:0", "recurrent/bias:0"][: 1 + bias]
    assert {variable.dtype for variable in connection.parameters} == {dtype}
    assert connection(tf.ones([2, 3], dtype)).dtype == dtype
    assert not bias or not np.any(connection.bias)


NAMES = ["normal_fan_in", "glorot_uniform", "he_normal", "orthogonal", "random_normal"]


def weights(seed=3, **settings):
    return Dense(6, 4, seed=seed, **settings).kernel.numpy()


@pytest.mark.parametrize("initializer", NAMES)
def test_initial_weights_depend_on_the_seed_alone(initializer):
    """Not on the global seed, nor on what else drew numbers before."""
    tf.random.set_seed(1)
    first = weights(initializer=initializer)
    tf.random.set_seed(2)
    tf.random.normal([7])
    weights(initializer=initializer, seed=9)
    np.testing.assert_array_equal(weights(initializer=initializer), first)
    assert not np.allclose(weights(initializer=initializer, seed=4), first)
    np.testing.assert_allclose(weights(initializer=initializer, gain=2.5), 2.5 * first, rtol=1e-6)


def test_normal_fan_in():
    """N(0, 1) / sqrt(fan in), not truncated."""
    found = Dense(400, 300, seed=1).kernel.numpy() * math.sqrt(400)
    assert abs(found.mean()) < 0.02 and found.std() == pytest.approx(1.0, abs=0.01)
    assert np.abs(found).max() > 3.0


@pytest.mark.parametrize(
    ("initializer", "want"),
    [
        ("zeros", np.zeros([3, 3])),
        ("ones", 2.0 * np.ones([3, 3])),
        ("identity", 2.0 * np.eye(3)),
        (lambda shape, dtype: np.arange(9.0).reshape(shape), 2.0 * np.arange(9.0).reshape(3, 3)),
    ],
    ids=["zeros", "ones", "identity", "function"],
)
def test_given_weights(initializer, want):
    np.testing.assert_array_equal(Dense(3, 3, initializer=initializer, gain=2.0).kernel, want)


REFUSED = [
    ({"inputs": 0, "units": 2}, "Dense got 0 inputs and 2 units; both must be 1 or more"),
    ({"inputs": 2, "units": 0}, "Dense got 2 inputs and 0 units; both must be 1 or more"),
    (
        {"inputs": 2, "units": 3, "autapses": False},
        "autapses=False is for a population onto itself; got 2 inputs onto 3 units",
    ),
    (
        {"inputs": 2, "units": 3, "initializer": "normal_fan_out"},
        "initializer is 'normal_fan_out'; expected normal_fan_in, standard_normal or a name",
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Dense(**settings)


def test_unknown_arguments_raise():
    with pytest.raises(TypeError, match="use_bias"):
        Dense(2, 3, use_bias=True)
