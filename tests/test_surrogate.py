"""Spike functions and their pseudo-derivatives."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.surrogate import SHAPES, Surrogate
from tests.oracles import surrogates as oracle

S = np.concatenate([np.linspace(-2.53, 2.51, 37), [0.0, 1e-300, -1e-300]])
names = pytest.mark.parametrize("name", SHAPES)


def test_names():
    assert set(SHAPES) == set(oracle.NAMES)


@names
@pytest.mark.parametrize("dampening", [0.3, 1.0])
@pytest.mark.parametrize("slope", [1.0, 2.5])
def test_psi(name, dampening, slope):
    """The oracle's triangle has slope 1, so a slope scales its argument here."""
    s = slope * S if name == "triangular" else S
    want = oracle.psi(name, s, dampening, slope)
    got = Surrogate(name, dampening, slope).psi(tf.constant(S)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)
    assert got.max() == pytest.approx(dampening) and np.all(got >= 0)


@names
def test_gradient_is_psi(name):
    surrogate = Surrogate(name, 0.4, 1.3)
    s, dz = tf.constant(S), tf.constant(np.cos(S))
    with tf.GradientTape() as tape:
        tape.watch(s)
        z = surrogate(s)
    got = tape.gradient(z, s, dz)
    np.testing.assert_allclose(got, dz * surrogate.psi(s), rtol=1e-14)


@names
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_spikes_where_strictly_positive(name, dtype):
    s = tf.constant([-1.0, -1e-30, 0.0, 1e-30, 1.0], dtype)
    z = Surrogate(name)(s)
    assert z.dtype == dtype and Surrogate(name).psi(s).dtype == dtype
    np.testing.assert_array_equal(z, [0, 0, 0, 1, 1])


@names
def test_slope_narrows(name):
    wide, narrow = (Surrogate(name, slope=slope).psi(tf.constant(S)) for slope in (1.0, 3.0))
    assert np.all(narrow.numpy() <= wide.numpy())
    assert (name == "straight_through") == np.array_equal(narrow, wide)


@pytest.mark.parametrize("compiled", [False, True])
def test_graph_loop(compiled):
    """The gradient survives a while loop, where a custom gradient may not capture tensors."""

    @tf.function(jit_compile=compiled, autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            _, total = tf.while_loop(
                lambda t, _: t < 4,
                lambda t, total: (t + 1, total + Surrogate("sigmoid")(x)),
                (0, tf.zeros_like(x)),
                maximum_iterations=4,
            )
        return tape.gradient(total, x)

    x = tf.constant(S)
    np.testing.assert_allclose(gradient(x), 4.0 * Surrogate("sigmoid").psi(x), rtol=1e-12)


def test_refuses_unknown_name():
    with pytest.raises(ValueError, match="surrogate is 'relu'; expected one of triangular, fast"):
        Surrogate("relu")
