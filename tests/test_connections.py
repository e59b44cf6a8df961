"""Connections: the map, its transpose, its gradients, its synapses, its initial weights."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.connections import Dense, Sparse

RNG = np.random.default_rng(0)
shapes = pytest.mark.parametrize("leading", [(), (4,), (3, 4), (2, 3, 4)])
KINDS = {
    "plain": (Dense, {"inputs": 3, "units": 5}),
    "bias": (Dense, {"inputs": 3, "units": 5, "bias": True}),
    "no autapses": (Dense, {"inputs": 4, "units": 4, "autapses": False}),
    "no autapses, bias": (Dense, {"inputs": 4, "units": 4, "autapses": False, "bias": True}),
    "one by one": (Dense, {"inputs": 1, "units": 1, "bias": True}),
    "sparse": (Sparse, {"inputs": 6, "units": 5, "fan_in": 2}),
    "sparse, bias": (Sparse, {"inputs": 6, "units": 5, "fan_in": 3, "bias": True}),
    "sparse, no autapses": (Sparse, {"inputs": 4, "units": 4, "fan_in": 3, "autapses": False}),
    "sparse, all": (Sparse, {"inputs": 3, "units": 2, "fan_in": 3}),
    "sparse, given": (Sparse, {"inputs": 3, "units": 2, "sources": [[2, 0], [0, 1]]}),
}
kinds = pytest.mark.parametrize(("kind", "settings"), KINDS.values(), ids=KINDS)


def filled(kind, **settings):
    """A connection with weights everywhere, on the diagonal too."""
    connection = kind(dtype=tf.float64, **settings)
    for variable in connection.parameters:
        variable.assign(RNG.normal(size=variable.shape))
    return connection


def effective(connection, autapses=True, **_):
    kernel = connection.kernel.numpy()
    if hasattr(connection, "sources"):
        matrix = np.zeros([connection.inputs, connection.units])
        np.put_along_axis(matrix, connection.sources.numpy(), kernel, axis=0)
        return matrix
    return kernel if autapses else kernel * (1.0 - np.eye(len(kernel)))


@kinds
@shapes
def test_map(kind, settings, leading):
    connection = filled(kind, **settings)
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
def test_gradients_are_those_of_autodiff(kind, settings, leading):
    connection = filled(kind, **settings)
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


@kinds
def test_synapses_are_rows_of_what_arrives(kind, settings):
    """Gradients are products of what arrives and of those to the currents, where synapses are."""
    connection = filled(kind, **settings)
    x = tf.constant(RNG.normal(size=(7, connection.inputs)))
    dcurrent = tf.constant(RNG.normal(size=(7, connection.units)))
    products = tf.matmul(connection.presynaptic(x), dcurrent, transpose_a=True)
    found = connection.synapses(products)
    for a, b in zip(found, connection.weight_gradient(x, dcurrent), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    matrix = connection.by_synapse([tf.convert_to_tensor(p) for p in connection.parameters])
    np.testing.assert_allclose(
        tf.matmul(connection.presynaptic(x), matrix), connection(x), rtol=1e-12, atol=1e-14
    )
    for a, b in zip(connection.synapses(matrix), connection.parameters, strict=True):
        np.testing.assert_array_equal(a, b * np.asarray(effective_mask(connection, b)))
    own = connection.own_rows()
    there = np.zeros(matrix.shape, bool)
    if own is None:
        there[:] = True
    else:
        np.put_along_axis(there, own.numpy(), True, axis=0)
        assert (there.sum(axis=0) == len(own)).all()
    assert not np.any(matrix.numpy()[~there])


def effective_mask(connection, parameter):
    """0 on the diagonal of a kernel without autapses."""
    masked = getattr(connection, "_mask", None) is not None and parameter is connection.kernel
    return 1.0 - np.eye(connection.units) if masked else 1.0


@kinds
def test_a_fixed_connection_has_no_synapses(kind, settings):
    connection = kind(trainable=False, **settings)
    x, dcurrent = tf.ones([2, connection.inputs]), tf.ones([2, connection.units])
    assert connection.parameters == () == connection.trainable_variables
    assert connection.weight_gradient(x, dcurrent) == ()
    assert connection.presynaptic(x).shape == [2, 0]
    assert connection.by_synapse(()).shape == [0, connection.units]
    assert connection.synapses(tf.zeros([0, connection.units])) == ()
    assert connection.own_rows() is None


def test_sources_depend_on_the_seed_alone():
    first = Sparse(50, 40, 10, seed=3)
    np.testing.assert_array_equal(Sparse(50, 40, 10, seed=3).sources, first.sources)
    assert np.any(Sparse(50, 40, 10, seed=4).sources.numpy() != first.sources.numpy())
    assert all(len(set(column)) == 10 for column in first.sources.numpy().T)
    counts = np.bincount(first.sources.numpy().reshape(-1), minlength=50)
    assert 0 < counts.min() and counts.max() < 20
    assert first.kernel.shape == (10, 40)
    assert abs(float(tf.math.reduce_std(first.kernel)) * math.sqrt(10) - 1.0) < 0.15
    alone = Sparse(30, 30, 29, autapses=False).sources.numpy()
    assert not np.any(alone == np.arange(30))
    np.testing.assert_array_equal(Sparse(4, 3, 4).sources, np.tile(np.arange(4), (3, 1)).T)


def test_a_checkpoint_holds_the_sources(tmp_path):
    """Restored into a connection of another seed, weights keep their own sources."""
    first, other = Sparse(8, 6, 3, seed=1), Sparse(8, 6, 3, seed=2)
    x = tf.constant(RNG.normal(size=(4, 8)), tf.float32)
    path = tf.train.Checkpoint(it=first).write(str(tmp_path / "state"))
    assert not np.allclose(first(x), other(x))
    tf.train.Checkpoint(it=other).read(path).assert_consumed()
    np.testing.assert_array_equal(first(x), other(x))


@kinds
def test_compiled(kind, settings):
    connection = filled(kind, **settings)
    x = tf.constant(RNG.normal(size=(2, 3, connection.inputs)))

    def every(x):
        y = connection(x)
        return y, connection.transpose(y), connection.weight_gradient(x, y)

    got = tf.function(every, jit_compile=True)(x)
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(every(x)), strict=True):
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
    (Dense, {"inputs": 0, "units": 2}, "Dense got 0 inputs and 2 units; both must be 1 or more"),
    (Dense, {"inputs": 2, "units": 0}, "Dense got 2 inputs and 0 units; both must be 1 or more"),
    (
        Dense,
        {"inputs": 2, "units": 3, "autapses": False},
        "autapses=False is for a population onto itself; got 2 inputs onto 3 units",
    ),
    (
        Dense,
        {"inputs": 2, "units": 3, "initializer": "normal_fan_out"},
        "initializer is 'normal_fan_out'; expected normal_fan_in, standard_normal or a name",
    ),
    (Sparse, {"inputs": 0, "units": 2, "fan_in": 1}, "Sparse got 0 inputs and 2 units"),
    (Sparse, {"inputs": 4, "units": 2}, "takes either fan_in or sources; give one of them"),
    (Sparse, {"inputs": 4, "units": 2, "fan_in": 5}, "fan_in is 5; expected 1 or more, and at mos"),
    (Sparse, {"inputs": 4, "units": 2, "fan_in": 0}, "fan_in is 0; expected 1 or more"),
    (
        Sparse,
        {"inputs": 4, "units": 4, "fan_in": 4, "autapses": False},
        "at most the 3 inputs that a unit can receive from",
    ),
    (
        Sparse,
        {"inputs": 4, "units": 2, "fan_in": 2, "autapses": False},
        "autapses=False is for a population onto itself; got 4 inputs onto 2 units",
    ),
    (Sparse, {"inputs": 4, "units": 2, "sources": [0, 1]}, "shape (2,); expected [fan_in, 2]"),
    (Sparse, {"inputs": 4, "units": 2, "sources": [[0.0, 1.0]]}, "of float64; expected integers"),
    (Sparse, {"inputs": 4, "units": 2, "sources": [[0, 4]]}, "from 0 to 4; expected numbers of"),
    (Sparse, {"inputs": 4, "units": 2, "sources": [[0, 1], [2, 1]]}, "unit 1 has an input twice"),
    (
        Sparse,
        {"inputs": 2, "units": 2, "sources": [[1, 1]], "autapses": False},
        "sources hold autapses, and autapses=False; leave them out",
    ),
]


@pytest.mark.parametrize(("kind", "settings", "message"), REFUSED)
def test_refuses(kind, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**settings)


def test_unknown_arguments_raise():
    with pytest.raises(TypeError, match="use_bias"):
        Dense(2, 3, use_bias=True)
