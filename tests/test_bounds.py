"""Bounds of parameters against their oracle, at and beyond the limits."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import bounds
from orbit_snn.accumulators import Accumulator
from orbit_snn.learning.plasticity import Limits
from orbit_snn.updaters import Updater
from tests.oracles import plasticity as oracle

LOW, HIGH = -0.5, 2.0
EDGES = [LOW, LOW + 1e-9, HIGH - 1e-9, HIGH]
INSIDE = np.concatenate([np.random.default_rng(2).uniform(LOW, HIGH, 30), EDGES])
OUTSIDE = np.array([-3.0, -1.5, LOW - 1e-9, HIGH + 1e-9, 2.75, 4.0])
POWERS = [0.0, 0.5, 1.0, 1.7, 2.0, 3.0]

families = pytest.mark.parametrize("family", oracle.FAMILIES)


def parts(size, seed=5):
    pos, neg = np.random.default_rng(seed).uniform(0.0, 0.3, (2, size))
    pos[0] = neg[1] = 0.0
    return pos, neg


def half_options(family, power):
    options = {"power": power} if family.endswith("power") else {}
    return options | ({"span": HIGH - LOW} if family.startswith("scaled") else {})


def oracle_options(family, power):
    return {"power": power, "span": HIGH - LOW if family.startswith("scaled") else None}


def full_options(family, upper, lower):
    return {"upper_power": upper, "lower_power": lower} if family.endswith("power") else {}


def powers_of(family):
    return POWERS if family.endswith("power") else [1.0]


def cases():
    return [(family, power) for family in oracle.FAMILIES for power in powers_of(family)]


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_there_are_five_families_of_three():
    names = {
        f"{kind}_{family}" for kind in ("upper", "lower", "full") for family in oracle.FAMILIES
    }
    found = {n for n in vars(bounds) if n.split("_")[0] in ("upper", "lower", "full")}
    assert found == names and len(names) == 15


@pytest.mark.parametrize("family, power", cases())
@pytest.mark.parametrize("compiled", [False, True])
def test_half_bounds_inside(family, power, compiled):
    pos, neg = parts(INSIDE.size)
    options = half_options(family, power)
    for kind, limit, part in (("upper", HIGH, pos), ("lower", LOW, neg)):
        want = getattr(oracle, f"{kind}_bound")(family, limit, **oracle_options(family, power))
        bound = tf.function(getattr(bounds, f"{kind}_{family}"), jit_compile=compiled or None)
        got = bound(tf.constant(INSIDE), tf.constant(part), limit, **options)
        assert got.dtype == tf.float64
        close(got, want(INSIDE, part))


@families
@pytest.mark.parametrize("upper, lower", [(2.0, 0.5), (1.0, 3.0)])
@pytest.mark.parametrize("high, low", [(HIGH, LOW), (HIGH, None), (None, LOW), (None, None)])
def test_full_bounds_inside(family, upper, lower, high, low):
    pos, neg = parts(INSIDE.size)
    bound = getattr(bounds, f"full_{family}")
    args = tf.constant(INSIDE), tf.constant(pos), tf.constant(neg), high, low
    options = full_options(family, upper, lower)
    if family.startswith("scaled") and None in (high, low):
        with pytest.raises(ValueError, match="give both"):
            bound(*args, **options)
        return
    close(bound(*args, **options), oracle.full_bound(family, high, low, upper, lower)(*args[:3]))


@families
def test_full_is_the_difference_of_halves(family):
    param = np.concatenate([INSIDE, OUTSIDE])
    pos, neg = parts(param.size)
    upper = getattr(bounds, f"upper_{family}")(param, pos, HIGH, **half_options(family, 1.7))
    lower = getattr(bounds, f"lower_{family}")(param, neg, LOW, **half_options(family, 0.5))
    full = getattr(bounds, f"full_{family}")
    close(full(param, pos, neg, HIGH, LOW, **full_options(family, 1.7, 0.5)), upper - lower)


@pytest.mark.parametrize("family, power", cases())
def test_beyond_a_limit(family, power):
    """Powers and sharp bounds stop an update there, multiplicative ones turn it round."""
    pos, neg = parts(OUTSIDE.size)
    options = half_options(family, power)
    up = getattr(bounds, f"upper_{family}")(tf.constant(OUTSIDE), pos, HIGH, **options).numpy()
    down = getattr(bounds, f"lower_{family}")(tf.constant(OUTSIDE), neg, LOW, **options).numpy()
    above, below = OUTSIDE > HIGH, OUTSIDE < LOW
    assert np.isfinite(up).all() and np.isfinite(down).all()
    if family.endswith("multiplicative"):
        span = HIGH - LOW if family.startswith("scaled") else 1.0
        close(up, (HIGH - OUTSIDE) / span * pos)
        close(down, (OUTSIDE - LOW) / span * neg)
        return
    assert not up[above].any() and not down[below].any()
    settings = oracle_options(family, power)
    close(up[~above], oracle.upper_bound(family, HIGH, **settings)(OUTSIDE, pos)[~above])
    close(down[~below], oracle.lower_bound(family, LOW, **settings)(OUTSIDE, neg)[~below])
    assert up[~above][1:].all() and down[~below][1:].all()


def test_fractional_powers_are_those_of_the_oracle_everywhere():
    param = np.concatenate([INSIDE, OUTSIDE])
    pos, neg = parts(param.size)
    got = bounds.full_power(param, pos, neg, HIGH, LOW, 0.5, 1.5)
    close(got, oracle.full_bound("power", HIGH, LOW, 0.5, 1.5)(param, pos, neg))


@pytest.mark.parametrize("kind, limit", [("upper", 1.0), ("lower", 1.0)])
def test_at_the_limit(kind, limit):
    """A sharp bound, and the power 0, let an update at the limit through: theta(0) = 1."""
    param, part = tf.constant([1.0], tf.float64), tf.constant([0.25], tf.float64)
    for family in oracle.FAMILIES:
        bound = getattr(bounds, f"{kind}_{family}")
        assert bound(param, part, limit).numpy() == (0.25 if family == "sharp" else 0.0)
    for family in ("power", "scaled_power"):
        assert getattr(bounds, f"{kind}_{family}")(param, part, limit, power=0.0).numpy() == 0.25


@pytest.mark.parametrize("family", ["power", "scaled_power"])
def test_a_negative_power_is_refused(family):
    with pytest.raises(ValueError, match="power of a bound is -1"):
        getattr(bounds, f"upper_{family}")(tf.constant([0.5]), tf.constant([0.1]), 1.0, -1.0)
    with pytest.raises(ValueError, match="power is -1"):
        Limits(family, 0.0, 1.0, power=-1.0)


@families
def test_limits_of_each_parameter(family):
    """Limits of a row broadcast; every column is as with its own number."""
    rng = np.random.default_rng(6)
    param = rng.uniform(0.1, 0.9, (3, 4))
    pos, neg = rng.uniform(0.0, 0.3, (2, 3, 4))
    low, high = np.array([0.0, -0.2, 0.05, 0.0]), np.array([1.0, 1.5, 0.95, 2.0])
    got = getattr(bounds, f"full_{family}")(
        tf.constant(param), tf.constant(pos), tf.constant(neg), tf.constant(high), tf.constant(low)
    )
    for column in range(4):
        own = param[:, column], pos[:, column], neg[:, column]
        want = oracle.full_bound(family, high[column], low[column])(*own)
        close(got[:, column], want)


@pytest.mark.parametrize(
    "family, kind, power, neg, want",
    [
        ("multiplicative", "full", None, 0.04, 0.53),
        ("multiplicative", "half", None, 0.04, 0.53),
        ("sharp", "full", None, 0.04, 0.56),
        ("sharp", "half", None, 0.04, 0.56),
        ("power", "half", 2.0, None, 0.525),
        ("power", "full", 2.0, 0.04, 0.515),
        ("power", "half", 2.0, 0.04, 0.515),
        ("scaled_power", "full", 2.0, 0.04, 0.515),
        ("scaled_multiplicative", "full", None, 0.04, 0.53),
    ],
)
def test_the_table(family, kind, power, neg, want):
    """Section 3: P = .5 in [0, 1], U+ = .1, U- = .04."""
    accumulator = Accumulator([], tf.float64)
    accumulator.pos = 0.1
    accumulator.neg = neg
    if kind == "full":
        options = {} if power is None else {"upper_power": power, "lower_power": power}
        accumulator.fullbound(getattr(bounds, f"full_{family}"), 1.0, 0.0, **options)
    else:
        options = {} if power is None else {"power": power}
        accumulator.upperbound(getattr(bounds, f"upper_{family}"), 1.0, **options)
        accumulator.lowerbound(getattr(bounds, f"lower_{family}"), 0.0, **options)
    close(accumulator(tf.constant(0.5, tf.float64)), want)


def test_half_and_full_bounds_take_each_others_place():
    accumulator = Accumulator([], tf.float64)
    accumulator.pos, accumulator.neg = 0.1, 0.04
    value = lambda: float(accumulator(tf.constant(0.5, tf.float64)))  # noqa: E731
    assert value() == pytest.approx(0.56)
    accumulator.upperbound(bounds.upper_power, 1.0, power=2.0)
    assert value() == pytest.approx(0.5 + 0.025 - 0.04)
    accumulator.lowerbound(bounds.lower_multiplicative, 0.0)
    assert value() == pytest.approx(0.5 + 0.025 - 0.02)
    accumulator.fullbound(bounds.full_power, 1.0, 0.0, upper_power=3.0, lower_power=1.0)
    assert value() == pytest.approx(0.5 + 0.0125 - 0.02)
    accumulator.lowerbound(bounds.lower_power, 0.0, power=2.0)
    assert value() == pytest.approx(0.5 + 0.1 - 0.01)
    accumulator.upperbound(bounds.upper_multiplicative, 1.0)
    assert value() == pytest.approx(0.5 + 0.05 - 0.01)
    accumulator.lowerbound(None)
    assert value() == pytest.approx(0.5 + 0.05 - 0.04)
    accumulator.fullbound(None)
    assert value() == pytest.approx(0.56)
    accumulator.fullbound(bounds.full_sharp, 0.4, 0.0)
    assert value() == pytest.approx(0.46)
    accumulator.upperbound(None)
    assert value() == pytest.approx(0.56)


LIMITS = {"minimum": LOW, "maximum": HIGH}


@families
def test_limits_put_the_bound_of_their_family_on(family):
    module = tf.Module("m")
    module.w = tf.Variable(INSIDE)
    updater = Updater(module, "w")
    Limits(family, **LIMITS, power=2.0).put_on(updater, "w")
    pos, neg = parts(INSIDE.size)
    want = oracle.Bounds(full=oracle.full_bound(family, HIGH, LOW, 2.0, 2.0))
    updater.w = pos, neg
    updater()
    close(module.w, oracle.accumulated(INSIDE, [pos], [neg], bounds=want))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"family": "soft"}, "family is 'soft'"),
        ({"family": "power", "minimum": 1.0, "maximum": 0.0}, "exchange"),
        ({"family": "scaled_power", "minimum": 0.0}, "give both"),
        ({"total": -1.0}, "total is -1"),
    ],
)
def test_limits_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Limits(**settings)
