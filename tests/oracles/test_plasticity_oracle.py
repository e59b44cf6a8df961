"""Self-tests of the plasticity oracle: numbers and properties of `shared/spec/plasticity.md`, 3."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from . import plasticity as pl
from .plasticity_conv import conv_pair_stdp, conv_positions, conv_sum
from .plasticity_kernels import (
    GATES,
    anticausal_kernel,
    causal_kernel,
    delay_adjusted_stdp,
    delay_adjusted_stdpd,
    kernel_stdp,
)
from .plasticity_rules import (
    linear_homeostasis,
    mstdp,
    mstdpet,
    pair_stdp,
    route,
    select,
    trace,
    triplet_stdp,
)

FLORIAN = {"lr_post": 0.2, "lr_pre": -0.2, "tc_post": 20.0, "tc_pre": 20.0}
PAIR = {"lr_post": 0.1, "lr_pre": -0.1, "tc_post": 20.0, "tc_pre": 17.0}
TRIPLET = {
    "lr_post_pair": 0.1,
    "lr_post_triplet": 0.05,
    "lr_pre_pair": -0.1,
    "lr_pre_triplet": 0.03,
    "tc_post_fast": 20.0,
    "tc_post_slow": 40.0,
    "tc_pre_fast": 17.0,
    "tc_pre_slow": 100.0,
}
KERNELS = {"kernel_post": causal_kernel(0.1, 17.0), "kernel_pre": anticausal_kernel(-0.1, 20.0)}
ADJUSTED = {"lr_pos": 0.1, "lr_neg": -0.07, "tc_pos": 17.0, "tc_neg": 20.0}
PRE, POST = (10, 20, 30), (15, 25, 35)
RULES = {
    "pair": lambda pre, post, **kw: pair_stdp(pre, post, **PAIR, **kw),
    "triplet": lambda pre, post, **kw: triplet_stdp(pre, post, **TRIPLET, **kw),
    "mstdp": lambda pre, post, **kw: mstdp(pre, post, -0.5, **PAIR, **kw),
    "mstdpet": lambda pre, post, **kw: mstdpet(pre, post, 2.0, tc_eligibility=30.0, **PAIR, **kw),
}


def train(times, steps):
    """Spikes of one neuron and one sample, [T, 1, 1]."""
    spikes = np.zeros((steps, 1, 1))
    spikes[list(times)] = 1.0
    return spikes


def trains(steps=14, batch=2, pre=2, post=3, rate=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(1.0 * (rng.random((steps, batch, n)) < rate) for n in (pre, post))


def weights(terms, w0, **settings):
    return pl.run([terms], np.full((1, 1), w0), **settings)[:, 0, 0]


def same(got, wanted, tolerance=1e-13):
    for a, b in zip(got, wanted, strict=True):
        assert_allclose(a, b, rtol=0, atol=tolerance)


def test_florian():
    pre, post = train((10, 85, 115, 135), 201), train((15, 75, 110, 140), 201)
    w = weights(pair_stdp(pre, post, **FLORIAN), 0.2)
    wanted = (0.3557601566, 0.2361693896, 0.2948179383, 0.1106431357, 0.2690363882, 0.2690363882)
    assert_allclose(w[[15, 85, 110, 115, 140, 200]], wanted, rtol=0, atol=1e-10)
    assert_allclose(trace(pre, 0.2, 20.0, 1.0, "cumulative")[85], 0.2047035492, rtol=1e-9)
    assert_allclose(trace(post, -0.2, 20.0, 1.0, "cumulative")[85], 0.1273456086, rtol=1e-9)


def test_pair():
    w = weights(pair_stdp(train(PRE, 40), train(POST, 40), **PAIR), 0.5)
    wanted = (0.5745189, 0.4966388, 0.6125385, 0.4874217, 0.6263004)
    assert_allclose(w[[15, 20, 25, 30, 35]], wanted, rtol=0, atol=1e-7)


def test_triplet():
    w = weights(triplet_stdp(train(PRE, 40), train(POST, 40), **TRIPLET), 0.5)
    wanted = (0.574518882, 0.475285694, 0.637459277, 0.446998190, 0.684508664)
    assert_allclose(w[[15, 20, 25, 30, 35]], wanted, rtol=0, atol=1e-9)


def test_coincident_spikes_of_symmetric_rates_cancel():
    pos, neg = pair_stdp(train((10,), 20), train((10,), 20), **PAIR)
    assert pos[10] == neg[10] == 0.1 and pos.sum() == neg.sum() == 0.1
    assert_allclose(weights((pos, neg), 0.5), 0.5, atol=1e-15)


def test_single_exponential_current():
    spikes = np.array([1.0, 0, 0, 1, 0, 0])
    current = pl.cumulative_trace(spikes, tau=5.0, amplitude=10.0 / 5.0)
    wanted = (2, 1.637462, 1.340640, 3.097623, 2.536119, 2.076399)
    assert_allclose(current, wanted, rtol=0, atol=5e-7)


def both(family, power=1.0):
    up, low = pl.upper_bound(family, 1.0, power, 1.0), pl.lower_bound(family, 0.0, power, 1.0)
    return pl.Bounds(up, low), pl.Bounds(full=pl.full_bound(family, 1.0, 0.0, power, power))


@pytest.mark.parametrize(
    ("family", "power", "wanted"),
    [
        ("multiplicative", 1, 0.53),
        ("scaled_multiplicative", 1, 0.53),
        ("sharp", 1, 0.56),
        ("power", 2, 0.515),
        ("scaled_power", 2, 0.515),
    ],
)
def test_bounds(family, power, wanted):
    for bounds in both(family, power):
        assert_allclose(pl.accumulated(0.5, [0.1], [0.04], bounds=bounds), wanted, rtol=1e-12)
    half = pl.Bounds(pl.upper_bound("power", 1.0, 2.0))
    assert_allclose(pl.accumulated(0.5, [0.1], [], bounds=half), 0.525, rtol=1e-12)


def test_bounds_of_a_wider_range():
    p, pos, neg = np.array([0.0, 2.0]), np.array([0.1, 0.2]), np.array([0.3, 0.4])
    for family, wanted in (
        ("power", [3**0.5 * 0.1 - 0.3, 0.2 - 3**2 * 0.4]),
        ("scaled_power", [0.75**0.5 * 0.1 - 0.3 / 16, 0.5 * 0.2 - 0.5625 * 0.4]),
        ("multiplicative", [0.3 - 0.3, 0.2 - 1.2]),
        ("scaled_multiplicative", [0.075 - 0.075, 0.05 - 0.3]),
        ("sharp", pos - neg),
    ):
        got = pl.full_bound(family, 3.0, -1.0, 0.5, 2.0)(p, pos, neg)
        assert_allclose(got, wanted, atol=1e-12)


def test_bounds_at_and_outside_the_limits():
    p, one = np.array([-0.5, 0.0, 1.0, 1.5]), np.ones(4)
    assert_allclose(pl.upper_bound("sharp", 1.0)(p, one), [1, 1, 1, 0])
    assert_allclose(pl.lower_bound("sharp", 0.0)(p, one), [0, 1, 1, 1])
    for family in ("power", "scaled_power"):
        assert_allclose(pl.upper_bound(family, 1.0, 0.5, 1.0)(p, one), [1.5**0.5, 1, 0, 0])
        assert_allclose(pl.lower_bound(family, 0.0, 0.5, 1.0)(p, 0 * one), 0.0)
    assert_allclose(pl.upper_bound("multiplicative", 1.0)(p, one), [1.5, 1, 0, -0.5])
    assert_allclose(pl.full_bound("power", None, 0.0)(p, one, one), one - p)
    with pytest.raises(ValueError, match="both limits"):
        pl.full_bound("scaled_power", None, 0.0)
    with pytest.raises(ValueError, match="needs the span"):
        pl.upper_bound("scaled_power", 1.0)(p, one)
    with pytest.raises(ValueError, match="replace"):
        pl.Bounds(upper=pl.upper_bound("sharp", 1.0), full=pl.full_bound("sharp", 1.0, 0.0))


def test_accumulator():
    p, pos, neg = np.array([0.5]), [np.array([0.3]), None, np.array([0.1])], [np.array([0.2])]
    for reduction, wanted in (("sum", 0.7), ("mean", 0.5), ("max", 0.6), ("min", 0.4)):
        assert_allclose(pl.accumulated(p, pos, neg, reduction=reduction), wanted)
    assert_allclose(pl.accumulated(p, [], [None]), p)
    half, full = both("multiplicative")
    for bounds in (half, full):
        assert_allclose(pl.accumulated(p, pos, [], bounds=bounds), 0.7)
        assert_allclose(pl.accumulated(p, [], neg, bounds=bounds), 0.4)


def test_reducers():
    obs, d = np.array([1.0, 0.0, 0.5, 1.0]), np.exp(-0.25)
    x = pl.cumulative_trace(obs, tau=4.0, amplitude=2.0)
    assert_allclose(x, [2, 2 * d, 2 * d**2, 2 * d**3 + 2])
    x = pl.nearest_trace(obs, tau=4.0, amplitude=2.0, tolerance=0.5)
    assert_allclose(x, [2, 2 * d, 2, 2])
    scaled = {"tau": 4.0, "scale": 3.0, "amplitude": 1.0}
    x = pl.scaled_trace(obs, lambda h: h > 0.4, **scaled)
    assert_allclose(x, [4, 4 * d, 4 * d**2 + 2.5, 4 * d**3 + 2.5 * d + 4])
    x = pl.conditional_trace(obs, obs == 0.5, nearest=True, **scaled)
    assert_allclose(x, [0, 0, 2.5, 2.5 * d])
    z = pl.eligibility_trace(np.stack([obs, obs], 1), np.ones((4, 2)), tau=4.0, axis=1)
    assert_allclose(z, [0.5, 0.5 * d, 0.5 * d**2 + 0.25, 0.5 * d**3 + 0.25 * d + 0.5])
    for initial, first in (("inf", [np.inf] * 2), ("zero", [0, 0.5]), ("nan", [np.nan] * 2)):
        age = pl.event_age([False, False, True, False, False], dt=0.5, initial=initial)
        assert_allclose(age, [*first, 0, 0.5, 1])
    assert_allclose(pl.ema(obs, 0.25), [1, 0.75, 0.6875, 0.765625])
    assert_allclose(pl.cumulative_average(obs), [1, 0.5, 0.5, 0.625])
    assert_allclose(pl.passthrough(obs), obs)


def test_signs_of_rates_route():
    dpost, dpre = np.full((1, 1, 1, 1), 3.0), np.full((1, 1, 1, 1), 5.0)
    for lr_post, lr_pre, pos, neg in (
        (1, -1, 3, 5),
        (-1, 1, 5, 3),
        (1, 1, 8, 0),
        (-1, -1, 0, 8),
        (0, -1, 3, 5),
    ):
        same(route(dpost, dpre, lr_post, lr_pre), (pos, neg))
        if lr_post:
            same(route(dpost, dpre, lr_post, lr_pre, reward=-2.0), (2 * neg, 2 * pos))
            same(route(dpost, dpre, lr_post, lr_pre, scale=3.0), (3 * pos, 3 * neg))


def test_reward_per_step_and_per_sample():
    pre, post = trains()
    m = np.random.default_rng(1).normal(size=(14, 2))
    plain = pair_stdp(pre, post, **PAIR)
    for reward, wide in ((m, m), (m[:, 0], m[:, :1]), (0.5, np.full((1, 1), 0.5))):
        got = mstdp(pre, post, reward, scale=2.0, **PAIR)
        wide = wide[..., None, None] * np.ones((14, 2, 1, 1))
        same(got, np.where(wide >= 0, plain, plain[::-1]) * 2.0 * np.abs(wide))
        eligible = mstdpet(pre, post, reward, tc_eligibility=30.0, **PAIR)
        assert min(side.min() for side in (*got, *eligible)) >= 0


@pytest.mark.parametrize("dt", [1.0, 0.5])
def test_mstdpet_of_one_pair(dt):
    pre, post = train((2,), 900), train((5,), 900)
    settings = {"tc_eligibility": 10.0, "dt": dt, **PAIR}
    pos, neg = mstdpet(pre, post, 1.0, **settings)
    t = np.arange(5, 900)
    z = 0.1 * np.exp(-3 * dt / 17.0) / 10.0 * np.exp(-(t - 5) * dt / 10.0)
    assert_allclose(pos[5:, 0, 0, 0], z * dt, rtol=1e-12)
    assert not pos[:5].any() and not neg.any()
    same([dt * mstdpet(pre, post, 1.0, dt_factor=False, **settings).pos], [pos])
    whole = pair_stdp(pre, post, dt=dt, **PAIR).pos.sum()
    assert_allclose(pos.sum(), whole * dt / 10.0 / (1 - np.exp(-dt / 10.0)), rtol=1e-12)


@pytest.mark.parametrize("gate", ["own", "either", "arrival"])
@pytest.mark.parametrize(("first", "second"), [(5, 12), (12, 5)])
def test_exponential_kernels_are_pair_stdp_on_an_isolated_pair(gate, first, second):
    pre, post = train((first,), 16), train((second,), 16)
    wanted = pair_stdp(pre, post, dt=0.5, **PAIR)
    same(kernel_stdp(pre, post, gate=gate, dt=0.5, **KERNELS), wanted)
    assert wanted.pos.any() != wanted.neg.any()


def test_a_kernel_without_gate_acts_at_every_step():
    """The drift of 2.1 (a): .5078, .5156, .5234."""
    kernels = {"kernel_post": causal_kernel(0.01, 20.0), "kernel_pre": anticausal_kernel(-1.0, 9.0)}
    terms = kernel_stdp(train((1,), 9), train((6,), 9), gate="none", **kernels)
    assert_allclose(weights(terms, 0.5)[5:], [0.5, 0.5078, 0.5156, 0.5234], rtol=0, atol=5e-5)


def shifted(pre, delays, steps):
    """Trains per synapse by hand, [T, B, P, N]."""
    moved = np.zeros((*pre.shape, len(delays[0])))
    for i, j in np.ndindex(delays.shape):
        count = int(delays[i, j] / 0.5)
        moved[count:, :, i, j] = pre[: steps - count, :, i]
    return moved


def test_delayed_equals_undelayed_on_shifted_spikes():
    pre, post = trains()
    delays = np.array([[0.0, 1.0, 2.5], [0.5, 0.0, 3.0]])
    moved = shifted(pre, delays, 14)
    assert_allclose(select(pre, delays, 0.5), moved)
    for rule in RULES.values():
        same(rule(pre, post, delays=delays, dt=0.5), rule(moved, post, dt=0.5))
    adjusted = delay_adjusted_stdp(pre, post, delays, gate="arrival", dt=0.5, **ADJUSTED)
    kernels = {"kernel_post": causal_kernel(0.1, 17.0), "kernel_pre": anticausal_kernel(-0.07, 20)}
    same(adjusted, kernel_stdp(moved, post, gate="own", dt=0.5, **kernels))
    with pytest.raises(ValueError, match="whole steps"):
        select(pre, delays + 0.2, 0.5)


@pytest.mark.parametrize("changing", [False, True])
@pytest.mark.parametrize(("second", "t_delta"), [(12, 3.0), (9, 0.0), (7, -2.0), (3, -6.0)])
def test_delay_adjusted_pair(second, t_delta, changing):
    pre, post, delays = train((5,), 16), train((second,), 16), np.full((1, 1), 4.0)
    delays = np.stack([delays] * 16) if changing else delays
    late = t_delta >= 0
    size = 0.1 * np.exp(-t_delta / 17.0) if late else 0.07 * np.exp(t_delta / 20.0)
    for gate in GATES[2:]:
        pos, neg = delay_adjusted_stdp(pre, post, delays, gate=gate, **ADJUSTED)
        assert_allclose([pos.sum(), neg.sum()], [size * late, size * (not late)], rtol=1e-12)
        swapped = {**ADJUSTED, "lr_pos": 0.07, "lr_neg": -0.1, "tc_pos": 20.0, "tc_neg": 17.0}
        of_delay = delay_adjusted_stdpd(pre, post, delays, gate=gate, **swapped)
        same(of_delay, (neg, pos))
        punished = delay_adjusted_stdp(pre, post, delays, gate=gate, reward=-2.0, **ADJUSTED)
        same(punished, (2 * neg, 2 * pos))


def test_a_pair_at_exactly_its_delay_is_causal():
    for delay in range(1, 12):
        pre, post = train((3,), 16), train((3 + delay,), 16)
        for gate in GATES:
            delays = np.full((1, 1), 0.1 * delay)
            pos, neg = delay_adjusted_stdp(pre, post, delays, gate=gate, dt=0.1, **ADJUSTED)
            assert not neg.any() and pos.any()


def test_learned_delays_are_read_by_the_rule():
    pre, post = train((1,), 12), train((6,), 12)
    rates = {"lr_neg": -0.3, "lr_pos": 0.2, "tc_neg": 15.0, "tc_pos": 12.0}
    got = pl.run_dependent(
        lambda d: [delay_adjusted_stdpd(pre, post, d, gate="none", **rates)], [[4.0]], 12
    )
    d = 4.0
    for t in range(6, 12):
        d += -0.3 * np.exp(-abs(5.0 - d) / 15.0)
        assert_allclose(got[t], d, rtol=1e-12)
    assert np.all(got[:6] == 4.0)


def test_homeostasis_lowers_weights_above_the_target():
    """Defect 2 of section 4: w = .5 goes to -.4."""
    terms = linear_homeostasis(np.ones((1, 1, 1)), 1, plasticity=0.1, target=0.1)
    assert_allclose(weights(terms, 0.5), -0.4)
    same(
        linear_homeostasis(np.ones((1, 1, 1)), 1, plasticity=0.1, target=0.1, of_delay=True),
        terms[::-1],
    )
    post = np.array([[[1.0, 0.0]], [[0.0, 0.0]]])
    pos, neg = linear_homeostasis(post, 3, plasticity=2.0, target=np.array([0.5, 0.25]))
    assert_allclose((pos - neg)[:, 0, 1], [[-2.0, 2.0], [0.0, 2.0]])
    pos, neg = linear_homeostasis(post[:, :, :, None], 1, plasticity=2.0, target=0.5)
    assert_allclose((pos - neg)[:, 0, 0, 0], [0.0, 1.0])


@pytest.mark.parametrize("name", RULES)
def test_samples_synapses_and_masks_are_independent(name):
    pre, post = trains()
    mask = np.array([[1, 0, 1], [0, 1, 1]])
    got = RULES[name](pre, post, mask=mask)
    for b, i, j in np.ndindex(2, 2, 3):
        one = RULES[name](pre[:, b : b + 1, i : i + 1], post[:, b : b + 1, j : j + 1])
        same([x[:, b, i, j] for x in got], [x[:, 0, 0, 0] * mask[i, j] for x in one])


def test_diagonal_of_a_lateral_connection_stays_0():
    spikes = trains(pre=3)[1]
    terms = pair_stdp(spikes, spikes, **PAIR, mask=1 - np.eye(3))
    w = pl.run([terms], 0.5 * (1 - np.eye(3)))
    assert np.all(w[:, np.eye(3) == 1] == 0.0) and np.any(w[-1] != w[0])


def test_run_applies_every_k_steps():
    pre, post = trains()
    terms, w0 = pair_stdp(pre, post, **PAIR), np.full((2, 3), 0.5)
    for reduction in ("sum", "mean", "max", "min"):
        pos, neg = (getattr(np, reduction)(x, axis=1) for x in terms)
        every = pl.run([terms], w0, batch_reduction=reduction)
        assert_allclose(every, w0 + np.cumsum(pos - neg, axis=0))
        third = pl.run([terms], w0, batch_reduction=reduction, apply_every=3)
        assert_allclose(third[:2], [w0] * 2)
        for t in range(2, 14):
            assert_allclose(third[t], every[(t + 1) // 3 * 3 - 1])
    twice = pl.run([terms, terms], w0)
    assert_allclose(twice - w0, 2 * (pl.run([terms], w0) - w0), atol=1e-15)
    same(pl.run([(terms.pos, None), (None, terms.neg)], w0), pl.run([terms], w0))
    once = pl.run([terms, terms], w0, reduction="mean", apply_every=14)[-1]
    assert_allclose(once, w0 + np.mean(terms.pos - terms.neg, axis=(0, 1)))
    assert pl.run([terms], w0, clamp=(0.45, 0.5)).max() == 0.5


def test_bounds_are_taken_at_the_weight_that_is_updated():
    pos = np.full((4, 1, 1, 1), 0.1)
    bounds = both("multiplicative")[0]
    w = pl.run([(pos, None)], [[0.5]], bounds=bounds)[:, 0, 0]
    assert_allclose(w, 1 - 0.5 * 0.9 ** np.arange(1, 5))
    w = pl.run([(pos, None)], [[0.5]], bounds=bounds, apply_every=2)[:, 0, 0]
    assert_allclose(w, [0.5, 0.6, 0.6, 0.68])


@pytest.mark.parametrize(
    ("stride", "padding", "wanted", "products"),
    [
        ((1, 1), "valid", (2, 2), 24),
        ((2, 1), "same", (2, 3), (3 + 2) * (2 + 2 + 1)),
        ((1, 1), "same", (4, 3), (2 + 3 + 3 + 2) * (2 + 2 + 1)),
    ],
)
def test_convolution_shares_the_synapses_of_a_dense_layer(stride, padding, wanted, products):
    rng, size, kernel = np.random.default_rng(2), (4, 3), (3, 2)
    out, positions = conv_positions(size, kernel, stride, padding)
    assert out == wanted and len(positions) == products
    pre = 1.0 * (rng.random((6, 2, *size, 2)) < 0.4)
    post = 1.0 * (rng.random((6, 2, *out, 2)) < 0.4)
    got = conv_pair_stdp(pre, post, kernel, **PAIR, stride=stride, padding=padding)
    dense = pair_stdp(pre.reshape(6, 2, -1), post.reshape(6, 2, -1), **PAIR)
    same(got, conv_sum(dense, size, kernel, 2, 2, stride, padding))


def test_convolution_at_one_position_is_dense():
    pre, post = trains(pre=12, post=2, steps=5)
    got = conv_pair_stdp(pre.reshape(5, 2, 3, 2, 2), post[:, :, None, None], (3, 2), **PAIR)
    same([x.reshape(5, 2, 12, 2) for x in got], pair_stdp(pre, post, **PAIR))
