"""One-to-one, lateral and convolutional connections: the matrices that they are."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.connections import Connection, Conv2D, Dense, Lateral, OneToOne

RNG = np.random.default_rng(0)
SHAPE = (4, 5, 2)
KINDS = {
    "one to one": (OneToOne, {"units": 4}),
    "one to one, bias": (OneToOne, {"units": 4, "bias": True}),
    "one alone": (OneToOne, {"units": 1, "bias": True}),
    "lateral": (Lateral, {"units": 4}),
    "lateral, bias": (Lateral, {"units": 5, "bias": True}),
    "valid": (Conv2D, {"shape": SHAPE, "filters": 3, "kernel_size": (3, 2), "bias": True}),
    "valid, strides": (
        Conv2D,
        {"shape": (7, 4, 1), "filters": 2, "kernel_size": 2, "strides": (3, 2)},
    ),
    "same": (
        Conv2D,
        {"shape": SHAPE, "filters": 2, "kernel_size": (2, 3), "padding": "same", "bias": True},
    ),
    "same, strides": (
        Conv2D,
        {
            "shape": (5, 8, 3),
            "filters": 2,
            "kernel_size": (3, 4),
            "strides": (2, 3),
            "padding": "same",
            "bias": True,
        },
    ),
    "kernel larger than the image": (
        Conv2D,
        {"shape": (2, 3, 1), "filters": 2, "kernel_size": 5, "padding": "same"},
    ),
    "kernel of one": (
        Conv2D,
        {"shape": (3, 2, 2), "filters": 1, "kernel_size": 1, "strides": 2, "padding": "same"},
    ),
}
kinds = pytest.mark.parametrize(("kind", "settings"), KINDS.values(), ids=KINDS)
shapes = pytest.mark.parametrize("leading", [(), (4,), (2, 3), (2, 1, 3)])


def filled(kind, **settings):
    """A connection with weights everywhere, on the diagonal too."""
    connection = kind(dtype=tf.float64, **settings)
    for variable in connection.parameters:
        variable.assign(RNG.normal(size=variable.shape))
    return connection


def effective(connection):
    """The matrix and the bias of all currents, without any function of the connection."""
    kernel = connection.kernel.numpy()
    bias = np.zeros(1) if connection.bias is None else connection.bias.numpy()
    if isinstance(connection, OneToOne):
        matrix = np.diag(kernel)
    elif isinstance(connection, Lateral):
        matrix = kernel * (1.0 - np.eye(len(kernel)))
    else:
        matrix = np.zeros([connection.inputs, *connection.out_shape])
        for pixel in range(connection.inputs):
            image = np.eye(connection.inputs)[pixel].reshape(connection.in_shape)
            for i, j, window in windows(image, connection):
                matrix[pixel, i, j] = np.tensordot(window, kernel, 3)
        matrix = matrix.reshape(connection.inputs, -1)
        bias = np.broadcast_to(bias, connection.out_shape).reshape(-1)
    return matrix, np.broadcast_to(bias, [connection.units])


def windows(image, connection):
    """Place `(i, j)` and the part of the image below the kernel there."""
    size, strides = connection.kernel.shape[:2], connection.strides
    if connection.padding == "same":
        places = [math.ceil(n / s) for n, s in zip(image.shape, strides, strict=False)]
        zeros = [
            max((m - 1) * s + k - n, 0)
            for m, s, k, n in zip(places, strides, size, image.shape, strict=False)
        ]
        image = np.pad(image, [*[(z // 2, z - z // 2) for z in zeros], (0, 0)])
    else:
        places = [(n - k) // s + 1 for n, k, s in zip(image.shape, size, strides, strict=False)]
    for i in range(places[0]):
        for j in range(places[1]):
            top, left = i * strides[0], j * strides[1]
            yield i, j, image[top : top + size[0], left : left + size[1]]


def of_matrix(connection, matrix_gradient, bias_gradient):
    """Gradients to the parameters, of those to the effective matrix and bias."""
    if isinstance(connection, OneToOne):
        kernel = np.diagonal(matrix_gradient)
    elif isinstance(connection, Lateral):
        kernel = matrix_gradient * (1.0 - np.eye(connection.units))
    else:
        kernel = np.zeros(connection.kernel.shape)
        by_place = matrix_gradient.reshape(connection.inputs, *connection.out_shape)
        numbers = 1 + np.arange(connection.inputs).reshape(connection.in_shape)
        for i, j, window in windows(numbers, connection):
            for index in zip(*np.nonzero(window), strict=True):
                kernel[index] += by_place[window[index] - 1, i, j]
        bias_gradient = np.sum(bias_gradient.reshape(-1, connection.out_shape[2]), axis=0)
    return [kernel] if connection.bias is None else [kernel, bias_gradient]


def assert_close(got, want, tolerance=1e-12):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@kinds
@shapes
def test_is_a_dense_connection_of_its_matrix(kind, settings, leading):
    connection = filled(kind, **settings)
    matrix, bias = effective(connection)
    dense = Dense(connection.inputs, connection.units, bias=True, dtype=tf.float64)
    dense.kernel.assign(matrix)
    dense.bias.assign(bias)
    x = tf.constant(RNG.normal(size=(*leading, connection.inputs)))
    dcurrent = tf.constant(RNG.normal(size=(*leading, connection.units)))
    got = connection(x), connection.transpose(dcurrent)
    assert_close(got, (dense(x), dense.transpose(dcurrent)))
    given = (
        connection(x, connection.weights()),
        connection.transpose(dcurrent, connection.transposed()),
    )
    for a, b in zip(given, got, strict=True):
        np.testing.assert_array_equal(a, b)
    want = of_matrix(connection, *[g.numpy() for g in dense.weight_gradient(x, dcurrent)])
    assert_close(connection.weight_gradient(x, dcurrent), want)
    assert [g.shape for g in connection.weight_gradient(x, dcurrent)] == [
        p.shape for p in connection.parameters
    ]


@kinds
def test_synapses(kind, settings):
    """Products of what arrives and of gradients to currents; each weight at all its places."""
    connection = filled(kind, **settings)
    x = tf.constant(RNG.normal(size=(7, connection.inputs)))
    dcurrent = tf.constant(RNG.normal(size=(7, connection.units)))
    seen = connection.presynaptic(x)
    assert_close(
        connection.synapses(tf.matmul(seen, dcurrent, transpose_a=True)),
        connection.weight_gradient(x, dcurrent),
    )
    values = [tf.convert_to_tensor(p) for p in connection.parameters]
    matrix = connection.by_synapse(values)
    want, bias = effective(connection)
    rows = [want] if connection.bias is None else [want, bias[None]]
    np.testing.assert_array_equal(matrix, np.concatenate(rows))
    assert_close([tf.matmul(seen, matrix)], [connection(x)])
    places = connection.synapses(connection.by_synapse([tf.ones_like(v) for v in values]))
    again = connection.synapses(matrix)
    assert_close(again, [value * count for value, count in zip(values, places, strict=True)])
    most = max(float(tf.reduce_max(count)) for count in places)
    assert most == (math.prod(connection.out_shape[:2]) if connection.shares_weights else 1.0)


@kinds
def test_own_rows(kind, settings):
    connection = filled(kind, **settings)
    own = connection.own_rows()
    if not isinstance(connection, OneToOne):
        assert own is None
        return
    values = [tf.ones_like(p) for p in connection.parameters]
    there = connection.by_synapse(values).numpy().astype(bool)
    want = np.zeros(there.shape, bool)
    np.put_along_axis(want, own.numpy(), True, axis=0)
    np.testing.assert_array_equal(there, want)
    assert own.dtype == tf.int64 and own.shape == [1 + settings.get("bias", False), own.shape[1]]


@kinds
def test_a_fixed_connection_has_no_synapses(kind, settings):
    connection = kind(trainable=False, **settings)
    x, dcurrent = tf.ones([2, connection.inputs]), tf.ones([2, connection.units])
    assert connection.parameters == () == connection.trainable_variables
    assert len(connection.variables) == 1 + settings.get("bias", False)
    assert connection.weight_gradient(x, dcurrent) == ()
    assert connection.presynaptic(x).shape == [2, 0]
    assert connection.by_synapse(()).shape == [0, connection.units]
    assert connection.synapses(tf.zeros([0, connection.units])) == ()
    assert connection.own_rows() is None


@kinds
def test_compiled(kind, settings):
    """Shapes are static, and numbers those of eager execution."""
    connection = filled(kind, **settings)
    x = tf.constant(RNG.normal(size=(2, 3, connection.inputs)))

    def every(x):
        y = connection(x)
        products = tf.tensordot(connection.presynaptic(x), y, [[0, 1], [0, 1]])
        values = connection.synapses(products)
        found = [
            *(y, connection.transpose(y), connection.weight_gradient(x, y)),
            *(values, connection.by_synapse(values)),
        ]
        assert all(tensor.shape.is_fully_defined() for tensor in tf.nest.flatten(found))
        return found

    got = tf.function(every, jit_compile=True)(x)
    assert_close(tf.nest.flatten(got), tf.nest.flatten(every(x)))


def test_lateral_is_dense_without_autapses():
    for seed in (0, 3):
        got = Lateral(5, bias=True, seed=seed, gain=2.0)
        want = Dense(5, 5, bias=True, autapses=False, seed=seed, gain=2.0)
        np.testing.assert_array_equal(got.kernel, want.kernel)
    lateral = Lateral(4, initializer="ones", dtype=tf.float64)
    np.testing.assert_array_equal(lateral.kernel, 1.0 - np.eye(4))
    ones = tf.ones([2, 4], tf.float64)
    np.testing.assert_array_equal(lateral.weight_gradient(ones, ones)[0], 2.0 * (1.0 - np.eye(4)))
    np.testing.assert_array_equal(lateral.synapses(tf.ones([4, 4], tf.float64))[0], lateral.kernel)


def test_initial_weights():
    """As they come, one to one; by the inputs of a unit, in a convolution."""
    np.testing.assert_array_equal(OneToOne(3).kernel, np.ones(3))
    np.testing.assert_array_equal(OneToOne(3, gain=0.5)(tf.ones([2, 3])), np.full([2, 3], 0.5))
    drawn = OneToOne(4000, initializer="normal_fan_in").kernel.numpy()
    assert drawn.std() == pytest.approx(1.0, abs=0.05)
    given = OneToOne(3, initializer=lambda shape, _: np.arange(3.0).reshape(shape))
    np.testing.assert_array_equal(given.kernel, np.arange(3.0))
    kernel = Conv2D((9, 9, 4), 100, (5, 4), seed=2).kernel.numpy()
    assert kernel.shape == (5, 4, 4, 100)
    assert kernel.std() * math.sqrt(5 * 4 * 4) == pytest.approx(1.0, abs=0.03)
    np.testing.assert_array_equal(Conv2D((9, 9, 4), 100, (5, 4), seed=2).kernel, kernel)
    assert np.any(Conv2D((9, 9, 4), 100, (5, 4), seed=3).kernel.numpy() != kernel)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@kinds
def test_variables(kind, settings, dtype):
    connection = kind(dtype=dtype, name="below", **settings)
    assert isinstance(connection, Connection)
    assert connection.bias is None or not np.any(connection.bias)
    names = [variable.name for variable in connection.parameters]
    assert names == ["below/kernel:0", "below/bias:0"][: 1 + settings.get("bias", False)]
    x = tf.ones([2, connection.inputs], dtype)
    found = [connection(x), *connection.weight_gradient(x, connection(x))]
    found.append(connection.by_synapse(connection.weights()))
    assert {tensor.dtype for tensor in [*found, *connection.parameters]} == {dtype}


IMAGE = {"shape": (4, 6, 1), "filters": 2, "kernel_size": 3}
REFUSED = [
    (OneToOne, {"units": 0}, "OneToOne got 0 units; give it 1 or more"),
    (Lateral, {"units": 0}, "Lateral got 0 inputs and 0 units; both must be 1 or more"),
    (OneToOne, {"units": 2, "initializer": "normal_fan_out"}, "initializer is 'normal_fan_out'"),
    (
        Conv2D,
        IMAGE | {"shape": (28, 28)},
        "shape is (28, 28); expected three numbers: rows, columns, channels, 1 or more",
    ),
    (Conv2D, IMAGE | {"shape": 28}, "shape is 28; expected three numbers: rows, columns, channels"),
    (Conv2D, IMAGE | {"shape": (4, 0, 1)}, "shape is (4, 0, 1); expected three numbers"),
    (Conv2D, IMAGE | {"shape": (4, 6.0, 1)}, "shape is (4, 6.0, 1); expected three numbers"),
    (Conv2D, IMAGE | {"filters": 0}, "filters is 0; expected a number, 1 or more"),
    (
        Conv2D,
        IMAGE | {"kernel_size": (3, 0)},
        "kernel_size is (3, 0); expected rows and columns, or a number for both, 1 or more",
    ),
    (Conv2D, IMAGE | {"strides": (1, 1, 1)}, "strides is (1, 1, 1); expected rows and columns"),
    (
        Conv2D,
        IMAGE | {"kernel_size": 5},
        "the kernel is 5 x 5 and the image 4 x 6; make it at most as large, or use padding='same'",
    ),
    (Conv2D, IMAGE | {"padding": "full"}, "padding is 'full'; expected one of valid, same"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), REFUSED)
def test_refuses(kind, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        kind(**settings)
    assert "\n" not in str(caught.value)


def test_refuses_to_broadcast():
    with pytest.raises(ValueError, match=re.escape("expected [..., 3], one for each unit")):
        OneToOne(3)(tf.ones([2, 1]))
