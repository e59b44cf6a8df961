"""Accumulators: contributions, how they are reduced, and bounds that cannot be."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import bounds
from orbit_snn.accumulators import REDUCTIONS, Accumulator
from tests.oracles import plasticity as oracle

SHAPE = [2, 3]


def contributions(count, seed=0):
    return list(np.random.default_rng(seed).uniform(0.0, 1.0, (count, *SHAPE)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_contributions_are_reduced_as_they_come(reduction):
    accumulator = Accumulator(SHAPE, tf.float64, reduction)
    size = len(accumulator.variables)
    w = contributions(1, 9)[0]
    pos, neg = contributions(4), contributions(3, 1)
    for given in (*pos[:2], None, *pos[2:]):
        accumulator.pos = given
    for given in (None, *neg):
        accumulator.neg = given
    own = oracle.REDUCTIONS[reduction]
    np.testing.assert_allclose(accumulator.pos, own(pos, axis=0), rtol=1e-14)
    np.testing.assert_allclose(accumulator.neg, own(neg, axis=0), rtol=1e-14)
    want = oracle.accumulated(w, pos, neg, reduction=reduction)
    np.testing.assert_allclose(accumulator(w), want, rtol=1e-14)
    assert len(accumulator.variables) == size == 4
    assert not accumulator.trainable_variables


def test_nothing_came_in():
    accumulator = Accumulator(SHAPE, tf.float64)
    w = tf.constant(contributions(1)[0])
    accumulator.pos = accumulator.neg = None
    assert accumulator.pos is None and accumulator.neg is None
    assert accumulator.update(w) is None
    np.testing.assert_array_equal(accumulator(w), w)
    accumulator.neg = tf.zeros(SHAPE)
    assert accumulator.pos is None
    np.testing.assert_array_equal(accumulator.neg, np.zeros(SHAPE))
    assert accumulator.update(w) is not None


def test_forgetting():
    accumulator = Accumulator([], tf.float64, "max")
    accumulator.pos, accumulator.neg = 0.5, 0.25
    del accumulator.pos
    assert accumulator.pos is None and float(accumulator.neg) == 0.25
    accumulator.pos = 0.125
    assert float(accumulator.pos) == 0.125
    del accumulator.neg
    assert accumulator.neg is None
    accumulator.clear()
    assert accumulator.pos is None


def test_a_minimum_does_not_start_from_0():
    accumulator = Accumulator([], tf.float64, "min")
    accumulator.pos = 0.5
    accumulator.pos = 0.75
    assert float(accumulator.pos) == 0.5


def test_reading_leaves_nothing_stale():
    """Defect 9: a reduction that changes after a read."""
    accumulator = Accumulator([], tf.float64)
    accumulator.pos = 0.5
    assert float(accumulator.pos) == 0.5
    accumulator.pos = 0.25
    assert float(accumulator.pos) == 0.75
    accumulator.reduction = "mean"
    assert float(accumulator.pos) == 0.375
    accumulator.reduction = "sum"
    assert float(accumulator.pos) == 0.75
    with pytest.raises(ValueError, match="reduced by sum already"):
        accumulator.reduction = "max"
    assert accumulator.reduction == "sum" and float(accumulator.pos) == 0.75
    accumulator.clear()
    accumulator.reduction = "max"
    accumulator.pos, accumulator.neg = 0.5, 0.5
    accumulator.reduction = "min"
    accumulator.pos = 0.25
    assert float(accumulator.pos) == 0.25


@pytest.mark.parametrize("kind", ["half", "half_reversed", "full"])
@pytest.mark.parametrize("high, low", [(0.0, 1.0), (np.array([1.0, 0.0, 1.0]), 0.5)])
def test_a_maximum_below_the_minimum(kind, high, low):
    accumulator = Accumulator(SHAPE, tf.float64, name="w")
    upper = lambda value: accumulator.upperbound(bounds.upper_sharp, value)  # noqa: E731
    lower = lambda value: accumulator.lowerbound(bounds.lower_sharp, value)  # noqa: E731
    with pytest.raises(ValueError, match="the maximum of w is"):
        if kind == "full":
            accumulator.fullbound(bounds.full_sharp, high, low)
        elif kind == "half":
            upper(high), lower(low)
        else:
            lower(low), upper(high)
    accumulator.fullbound(bounds.full_sharp, np.maximum(high, low), np.minimum(high, low))
    upper(np.minimum(high, low))
    lower(np.minimum(high, low))


def test_a_bound_without_its_limit():
    accumulator = Accumulator([])
    for add, bound in (("upperbound", bounds.upper_sharp), ("lowerbound", bounds.lower_sharp)):
        with pytest.raises(ValueError, match="the bound has no m[ai][xn]imum; give one"):
            getattr(accumulator, add)(bound)
