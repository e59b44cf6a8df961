"""Connections with an updater: eagerly, in a graph, and in a checkpoint."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import bounds
from orbit_snn.accumulators import REDUCTIONS, Accumulator
from orbit_snn.connections import Dense, Sparse
from orbit_snn.updaters import Updatable, Updater, clamp, normalize
from tests.oracles import plasticity as oracle

CONNECTIONS = {
    "dense": lambda dtype: Dense(4, 3, bias=True, dtype=dtype),
    "recurrent": lambda dtype: Dense(3, 3, autapses=False, dtype=dtype),
    "sparse": lambda dtype: Sparse(4, 3, fan_in=2, dtype=dtype),
}
connections = pytest.mark.parametrize("make", CONNECTIONS.values(), ids=CONNECTIONS)


@connections
def test_a_connection_is_updatable(make):
    connection = make(tf.float32)
    assert isinstance(connection, Updatable)
    assert not connection.updatable and connection.updater is None
    connection.update()
    connection.updater = connection.defaultupdater()
    assert connection.updatable and connection.updater.names == connection.parameter_names
    own = connection.parameters
    before = [p.numpy() for p in own]
    for name, variable in zip(connection.parameter_names, own, strict=True):
        setattr(connection.updater, name, tf.ones(variable.shape))
    connection.updatesome("kernel", clear=False)
    connection.updatesome("kernel")
    connection.update()
    for name, variable, old in zip(connection.parameter_names, own, before, strict=True):
        np.testing.assert_allclose(variable, old + (2 if name == "kernel" else 1), rtol=1e-6)
    connection.updater.kernel = tf.ones(own[0].shape)
    connection.update(clear=False)
    assert connection.updater.kernel.pos is not None
    connection.update()
    assert connection.updater.kernel.pos is None
    np.testing.assert_allclose(own[0], before[0] + 4, rtol=1e-6)


def test_an_abstract_default():
    with pytest.raises(NotImplementedError):
        Updatable().defaultupdater()


def test_an_updater_is_set_and_deleted():
    connection = Dense(2, 3)
    size = len(connection.variables)
    first, second = connection.defaultupdater(), connection.defaultupdater()
    assert connection.updater is second
    for updater in (first, second):
        connection.updater = updater
        assert connection.updater is updater and len(connection.variables) == size + 4
        assert {v.ref() for v in updater.variables} <= {v.ref() for v in connection.variables}
    del connection.updater
    assert connection.updater is None and len(connection.variables) == size
    del connection.updater
    connection.updater = first
    connection.updater = None
    assert connection.updater is None and not connection.updatable
    assert Dense(2, 3).updater is None


@pytest.mark.parametrize(
    "delete", [lambda c: delattr(c, "updater"), lambda c: c.__setattr__("updater", None)]
)
def test_a_deleted_updater_is_in_no_checkpoint(delete, tmp_path):
    connection = Dense(2, 3)
    before = keys(connection, tmp_path / "before")
    connection.updater = connection.defaultupdater()
    assert len(keys(connection, tmp_path / "with")) == len(before) + 4
    delete(connection)
    assert keys(connection, tmp_path / "after") == before


def keys(connection, path):
    saved = tf.train.Checkpoint(connection=connection).write(str(path))
    return {name for name, _ in tf.train.list_variables(saved)}


def bounded(connection, reduction="sum"):
    updater = Updater(connection, *connection.parameter_names, reduction=reduction)
    for name in updater.names:
        accumulator = updater.accumulator(name)
        accumulator.upperbound(bounds.upper_power, 3.0, power=2.0)
        accumulator.lowerbound(bounds.lower_multiplicative, -3.0)
        updater.add_post_update(name, clamp(-1.0, 1.0))
    updater.add_post_update("kernel", normalize(0.5))
    connection.updater = updater
    return updater


def expected(value, name, pos, neg, reduction):
    own = oracle.Bounds(
        oracle.upper_bound("power", 3.0, 2.0), oracle.lower_bound("multiplicative", -3.0)
    )
    value = np.clip(oracle.accumulated(value, pos, neg, reduction=reduction, bounds=own), -1.0, 1.0)
    return 0.5 * value / np.abs(value).sum(axis=0) if name == "kernel" else value


MODES = {"eager": None, "graph": False, "xla": True}


@connections
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_two_rounds_of_updates(make, reduction, mode):
    """Calls accumulate, updates apply and clear; compiled as eagerly."""
    connection = make(tf.float64)
    updater = bounded(connection, reduction)
    size = len(connection.variables)

    def accumulate(name, pos, neg):
        setattr(updater, name, (pos, None))
        getattr(updater, name).neg = neg

    apply = connection.update
    if MODES[mode] is not None:
        accumulate = tf.function(accumulate, jit_compile=MODES[mode])
        apply = tf.function(apply, jit_compile=MODES[mode])
    rng = np.random.default_rng(3)
    for _ in range(2):
        wanted = {}
        for name, variable in zip(updater.names, connection.parameters, strict=True):
            pos, neg = rng.uniform(0.0, 0.2, (2, 3, *variable.shape))
            for pair in zip(pos, neg, strict=True):
                accumulate(name, *map(tf.constant, pair))
            wanted[name] = expected(variable.numpy(), name, pos, neg, reduction)
        apply()
        for name, want in wanted.items():
            np.testing.assert_allclose(getattr(connection, name), want, rtol=0, atol=1e-14)
            assert getattr(updater, name).pos is None
    assert len(connection.variables) == size


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_loop_in_a_graph_accumulates(mode):
    connection = Dense(2, 3, dtype=tf.float64)
    updater = connection.updater = Updater(connection, "kernel", reduction="mean")

    @tf.function(jit_compile=MODES[mode])
    def steps(values):
        for t in tf.range(4):
            updater.accumulator("kernel").add("pos", values[t])
            updater.accumulator("kernel").add("neg", 2.0 * values[t])
        return updater.kernel.pos, updater.kernel.neg

    values = np.random.default_rng(0).uniform(0.0, 1.0, (4, 2, 3))
    pos, neg = steps(tf.constant(values))
    np.testing.assert_allclose(pos, values.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(neg, 2.0 * values.mean(axis=0), rtol=1e-14)
    steps(tf.constant(3.0 * values))
    np.testing.assert_allclose(updater.kernel.pos, 2.0 * values.mean(axis=0), rtol=1e-14)


def test_autograph_does_not_count_twice():
    """It would take the attribute for a loop variable, and add what it read of it."""
    accumulator = Accumulator([], name="kernel")

    @tf.function
    def loop():
        for _ in tf.range(4):
            accumulator.pos = 1.0

    @tf.function
    def branch(value):
        if value > 0.0:
            accumulator.neg = value

    for call in (loop, lambda: branch(tf.constant(1.0))):
        with pytest.raises(ValueError, match=r"call accumulator\('kernel'\)\.add"):
            call()
    assert accumulator.pos is None and accumulator.neg is None


@pytest.mark.parametrize("mode", MODES)
def test_no_contribution_changes_nothing(mode):
    """Nor do hooks change a parameter that got no update."""
    connection = Dense(2, 3, dtype=tf.float64)
    bounded(connection)
    apply = connection.update
    if MODES[mode] is not None:
        apply = tf.function(apply, jit_compile=MODES[mode])
    before = connection.kernel.numpy()
    apply()
    np.testing.assert_array_equal(connection.kernel, before)


@connections
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_precision(make, dtype):
    connection = make(dtype)
    updater = connection.updater = connection.defaultupdater()
    for name in updater.names:
        variable = getattr(connection, name)
        before = variable.numpy()
        for value in (
            np.full(variable.shape, 0.1),
            [[0.1] * variable.shape[-1]] * variable.shape[0],
        ):
            setattr(updater, name, value if name == "kernel" else np.full(variable.shape, 0.1))
        assert getattr(updater, name).pos.dtype == variable.dtype == dtype
        connection.updatesome(name)
        rtol = 1e-15 if dtype == tf.float64 else 1e-6
        np.testing.assert_allclose(variable, before + 0.2, rtol=rtol, atol=rtol)


@connections
def test_a_checkpoint_keeps_what_waits(make, tmp_path):
    first, second = make(tf.float64), make(tf.float64)
    for connection in (first, second):
        bounded(connection, "mean")
    rng = np.random.default_rng(7)
    for name in first.parameter_names:
        for _ in range(3):
            setattr(
                first.updater, name, tuple(rng.uniform(0.0, 0.2, (2, *getattr(first, name).shape)))
            )
    for variable in first.parameters:
        variable.assign_add(tf.fill(variable.shape, tf.constant(0.05, tf.float64)))
    saved = tf.train.Checkpoint(connection=first).write(str(tmp_path / "one"))
    restored = tf.train.Checkpoint(connection=second).read(saved)
    restored.assert_consumed().assert_existing_objects_matched()
    first.update()
    second.update()
    for one, two in zip(first.parameters, second.parameters, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(first.kernel - make(tf.float64).kernel).max() > 0.01
