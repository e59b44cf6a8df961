"""Updaters: assignments, names, the module that they know weakly, bounds and hooks."""

import gc

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import bounds
from orbit_snn.accumulators import REDUCTIONS, Accumulator
from orbit_snn.connections import Dense
from orbit_snn.updaters import Updater, clamp, normalize
from tests.oracles import plasticity as oracle

SHAPE = [2, 3]


class Module(tf.Module):
    def __init__(self, dtype=tf.float64, name="module"):
        super().__init__(name=name)
        with self.name_scope:
            self.w = tf.Variable(np.linspace(0.1, 0.9, 6).reshape(SHAPE), dtype=dtype, name="w")
            self.b = tf.Variable(tf.zeros([3], dtype), name="b")
        self.number = 3.0


def contributions(count, seed=0):
    return list(np.random.default_rng(seed).uniform(0.0, 1.0, (count, *SHAPE)))


@pytest.fixture
def module():
    return Module()


def test_an_unknown_reduction():
    for make in (
        lambda: Accumulator([], reduction="median"),
        lambda: setattr(Accumulator([]), "reduction", "median"),
        lambda: Updater(Module(), "w", reduction="median"),
    ):
        with pytest.raises(ValueError, match="'median'; expected one of sum, mean, max, min"):
            make()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_updater_has_a_reduction(module, reduction):
    """Defect 4."""
    updater = Updater(module, "w", "b", reduction=reduction)
    assert {updater.accumulator(name).reduction for name in updater.names} == {reduction}
    w, given = module.w.numpy(), contributions(3)
    for value in given:
        updater.w = value
    updater()
    want = oracle.accumulated(w, given, [], reduction=reduction)
    np.testing.assert_allclose(module.w, want, rtol=1e-14)


@pytest.mark.parametrize("value", [-0.5, -1e-12])
def test_parts_are_not_negative(module, value):
    updater = Updater(module, "w")
    for given in (np.full(SHAPE, value), (None, np.full(SHAPE, value))):
        with pytest.raises(ValueError, match="give its absolute value"):
            updater.w = given
    assert updater.w.pos is None and updater.w.neg is None


@pytest.mark.parametrize("value", [np.ones([3, 2]), np.ones([2]), 1.0])
def test_contributions_of_another_shape(module, value):
    updater = Updater(module, "w")
    with pytest.raises(ValueError, match=r"w.pos has shape .*expected that of the parameter"):
        updater.w = value


def test_assignments(module):
    updater = Updater(module, "w", "b")
    one, two, three = contributions(3)
    w = module.w.numpy()
    updater.w = one
    updater.w = None
    updater.w = two, three
    updater.w = None, one
    updater.w.pos = three
    np.testing.assert_allclose(updater.w.pos, one + two + three)
    np.testing.assert_allclose(updater.w.neg, three + one)
    assert updater.b.pos is None
    updater()
    np.testing.assert_allclose(module.w, w + two)
    np.testing.assert_array_equal(module.b, np.zeros(3))
    del updater.w
    assert updater.w.pos is None and updater.w.neg is None


def test_a_pair_is_two_separate_sets(module):
    other = Module()
    pairs, parts = Updater(module, "w"), Updater(other, "w")
    for pos, neg in zip(contributions(3), contributions(3, 1), strict=True):
        pairs.w = pos, neg
        parts.w.pos = pos
        parts.w.neg = neg
    for updater in (pairs, parts):
        updater.w.fullbound(bounds.full_power, 1.0, 0.0, upper_power=2.0)
        updater()
    np.testing.assert_array_equal(module.w, other.w)
    assert np.abs(module.w - Module().w).max() > 0.01


def test_applying_some_and_forgetting_some(module):
    updater = Updater(module, "w", "b")
    w = module.w.numpy()
    updater.w, updater.b = np.ones(SHAPE), np.ones(3)
    updater("b")
    np.testing.assert_array_equal(module.w, w)
    np.testing.assert_array_equal(module.b, np.ones(3))
    updater.clear("b")
    assert updater.b.pos is None and updater.w.pos is not None
    updater()
    updater()
    np.testing.assert_allclose(module.w, w + 2)
    updater.clear()
    updater()
    np.testing.assert_allclose(module.w, w + 2)
    np.testing.assert_array_equal(module.b, np.ones(3))


def test_unknown_names(module):
    updater = Updater(module, "w")
    w = module.w.numpy()
    updater.w = np.ones(SHAPE)
    with pytest.raises(AttributeError, match="has no 'b'; it has w"):
        _ = updater.b
    with pytest.raises(AttributeError):
        del updater.b
    calls = [updater, updater.clear, updater.accumulator]
    calls += [lambda name: setattr(updater, name, 1.0), lambda name: updater("w", name)]
    calls += [lambda name: updater.clear("w", name), lambda n: updater.add_post_update(n, abs)]
    for call in calls:
        with pytest.raises(ValueError, match="the updater has no 'b'; it has w"):
            call("b")
    np.testing.assert_array_equal(module.w, w)
    np.testing.assert_array_equal(updater.w.pos, np.ones(SHAPE))


@pytest.mark.parametrize("name", ["number", "name", "absent"])
def test_not_a_parameter(module, name):
    with pytest.raises(ValueError, match="has no parameter|rename it"):
        Updater(module, "w", name)


TAKEN = ("name", "variables", "trainable_variables", "submodules", "name_scope", "clear", "parent",
         "names", "accumulator", "updated", "add_post_update", "_parent", "_hooks",
         "_updates")  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_would_hide_the_updaters_own(name):
    class Named:
        name_scope = tf.name_scope("named")

    setattr(Named, name, tf.Variable(0.0))
    with pytest.raises(ValueError, match="rename it"):
        Updater(Named(), name)


def test_every_updater_has_a_class_of_its_own(module):
    updater, other = Updater(module, "w"), Updater(Dense(2, 3), "kernel")
    assert type(updater).__name__ == "ModuleUpdater" and type(other).__name__ == "DenseUpdater"
    assert isinstance(updater, Updater) and isinstance(type(updater).w, property)
    assert not hasattr(other, "w") and not hasattr(Updater, "w")
    assert updater.w is updater.accumulator("w")


def test_the_module_is_known_weakly():
    module = Module()
    updater = Updater(module, "w")
    assert updater.parent is module
    mine = {v.ref() for v in updater.variables}
    assert not mine & {v.ref() for v in module.variables}
    updater.w = np.ones(SHAPE)
    del module
    gc.collect()
    for call in (updater, lambda: updater.parent):
        with pytest.raises(RuntimeError, match=r"the module of this updater \(w\) is gone"):
            call()
    updater.clear()
    assert updater.w.pos is None


def test_name_scopes():
    connection = Dense(2, 3, bias=True, name="onto")
    names = {v.name for v in connection.defaultupdater().variables}
    want = {f"onto/updater/{p}/{side}:0" for p in ("kernel", "bias") for side in ("pos", "neg")}
    assert want <= names
    assert names - want == {name.replace(":0", "_count:0") for name in want}


def test_a_limit_that_is_a_variable_is_read_and_not_owned(module):
    updater, limit = Updater(module, "b"), tf.Variable(1.0, dtype=tf.float64)
    updater.b.upperbound(bounds.upper_multiplicative, limit)
    updater.b = np.ones(3)
    updater()
    limit.assign(3.0)
    updater()
    np.testing.assert_allclose(module.b, [3.0] * 3)
    assert limit.ref() not in {v.ref() for v in updater.variables}


def test_hooks_come_after_an_update_in_order(module):
    updater = Updater(module, "w", "b")
    updater.add_post_update("w", clamp(0.0, 1.0))
    updater.add_post_update("w", normalize(1.0))
    updater()
    np.testing.assert_array_equal(module.w, Module().w)
    w = module.w.numpy()
    updater.w, updater.b = (np.ones(SHAPE) * [0.5, 0, 0], None), np.full(3, 2.0)
    updater.w.neg = np.ones(SHAPE) * [0, 0.5, 0]
    updater()
    want = np.clip(w + [0.5, -0.5, 0.0], 0.0, 1.0)
    np.testing.assert_allclose(module.w, want / want.sum(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(module.b, np.full(3, 2.0))


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_normalize(order, axis):
    w = np.random.default_rng(0).normal(size=(4, 5))
    w[:, 2] = w[1, :] = 0.0
    got = normalize(2.5, axis, order)(tf.constant(w)).numpy()
    norms = np.linalg.norm(got, order, axis=axis)
    np.testing.assert_allclose(norms, np.where(np.any(w, axis=axis), 2.5, 0.0), rtol=1e-12)
    np.testing.assert_array_equal(np.sign(got), np.sign(w))


@pytest.mark.parametrize("low, high", [(None, 0.5), (-0.5, None), (-0.5, 0.5), (None, None)])
def test_clamp(low, high):
    w = np.linspace(-2.0, 2.0, 9)
    np.testing.assert_array_equal(
        clamp(low, high)(tf.constant(w)),
        np.clip(w, -np.inf if low is None else low, np.inf if high is None else high),
    )


def test_hooks_that_cannot_be():
    with pytest.raises(ValueError, match="exchange"):
        clamp(1.0, 0.0)
    for total, order in ((0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(ValueError, match="must be above 0"):
            normalize(total, order=order)
