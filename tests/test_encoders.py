"""Spikes of rates: how many, how far apart, and the same ones however they are computed."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import encoders
from orbit_snn.data import example_at, from_arrays, training_dataset
from orbit_snn.encoders import inhomogeneous, poisson, poisson_intervals

SEED = tf.constant([3, 7], tf.int32)
OTHER = tf.constant([3, 8], tf.int32)


def intervals(spikes):
    """Intervals in steps of all neurons `[T, N]`, one after the other."""
    return np.concatenate([np.diff(np.flatnonzero(train)) for train in spikes.numpy().T])


def bounded(count, expected):
    """Whether a count lies within 4 standard deviations of that of a Poisson process."""
    return abs(count - expected) <= 4 * np.sqrt(expected)


def furthest(sample, distribution):
    """Kolmogorov-Smirnov: largest distance of whole steps to a distribution, times sqrt(n)."""
    steps = np.arange(sample.max() + 1)
    empirical = np.searchsorted(np.sort(sample), steps, side="right") / len(sample)
    return np.sqrt(len(sample)) * np.abs(empirical - distribution(steps)).max()


def test_poisson_has_the_rates_of_each_neuron():
    rates = np.array([0.0, 5.0, 50.0, 200.0, 2000.0])
    counts = poisson(rates, 20000, 0.5, SEED).numpy().sum(axis=0)
    assert counts[0] == 0 and counts[4] == 20000
    assert all(map(bounded, counts[1:4], 10.0 * rates[1:4]))


def test_poisson_draws_every_step_on_its_own():
    spikes = poisson(np.full(50, 250.0), 2000, 1.0, SEED)
    sample = intervals(spikes)
    assert sample.min() == 1
    assert furthest(sample, lambda k: 1 - 0.75**k) < 1.95  # the limit at 0.1%
    assert abs(np.cov(spikes.numpy().astype(float), rowvar=False)[0, 1]) < 0.02


def test_inhomogeneous_follows_its_rates():
    wave = 100.0 + 100.0 * np.sin(np.arange(200) / 20.0)
    counts = inhomogeneous(np.repeat(wave[:, np.newaxis], 4000, 1), 1.0, SEED).numpy().sum(axis=1)
    assert all(map(bounded, counts, 4.0 * wave + 1.0))


def test_inhomogeneous_of_constant_rates_is_poisson():
    rates = np.random.default_rng(0).uniform(0.0, 300.0, [2, 5]).astype(np.float32)
    held = inhomogeneous(np.broadcast_to(rates, [30, 2, 5]), 1.0, SEED)
    np.testing.assert_array_equal(held, poisson(rates, 30, 1.0, SEED))


@pytest.mark.parametrize("compensate", [True, False])
@pytest.mark.parametrize(
    "refractory_ms,dt_ms,steps", [(5.0, 1.0, 5), (2.5, 1.0, 3), (2.1, 0.7, 3), (0.2, 1.0, 1)]
)
def test_no_interval_is_below_the_refractory_period(refractory_ms, dt_ms, steps, compensate):
    rate = 0.7e3 / (steps * dt_ms)
    spikes = poisson_intervals([rate] * 40, 2000, dt_ms, SEED, refractory_ms, compensate)
    assert intervals(spikes).min() == steps


@pytest.mark.parametrize("rate", [2.0, 40.0, 150.0, 200.0])
def test_mean_rate_with_and_without_compensation(rate):
    for compensate, mean in ((True, rate), (False, rate / (1.0 + 5e-3 * rate))):
        spikes = poisson_intervals([rate] * 50, 10000, 1.0, SEED, 5.0, compensate).numpy()
        assert bounded(spikes.sum(), 500 * mean)


def test_the_rate_is_the_same_from_the_first_step_on():
    spikes = poisson_intervals([120.0] * 50000, 12, 1.0, SEED, 5.0)
    counts = spikes.numpy().sum(axis=1)
    assert all(bounded(count, 6000.0) for count in counts)


@pytest.mark.parametrize("compensate", [True, False])
def test_intervals_are_exponential_beyond_the_refractory_period(compensate):
    dt, refractory, rate = 0.01, 4.0, 100.0
    spikes = poisson_intervals([rate] * 2, 4_000_000, dt, SEED, refractory, compensate)
    sample = intervals(spikes)
    wait = 1e3 / rate - (refractory if compensate else 0.0)
    assert len(sample) > 5000

    def distribution(steps):
        return 1 - np.exp(-np.maximum((steps + 0.5) * dt - refractory, 0.0) / wait)

    assert furthest(sample, distribution) < 1.95
    following = np.corrcoef(sample[1:], sample[:-1])[0, 1]
    assert abs(following) < 4 / np.sqrt(len(sample))


def test_the_fastest_rate_is_regular():
    spikes = poisson_intervals([200.0] * 20, 500, 1.0, SEED, 5.0)
    assert set(intervals(spikes)) == {5}
    assert (spikes.numpy().sum(axis=0) == 100).all()


def test_a_train_goes_on_to_the_last_step():
    spikes = poisson_intervals([1e6] * 30, 47, 1.0, SEED, 3.0, compensate=False).numpy()
    assert (spikes[-6:].sum(axis=0) == 2).all()


def test_without_a_refractory_period_it_is_poisson():
    for compensate in (True, False):
        spikes = poisson_intervals([50.0, 900.0], 100, 1.0, SEED, 0.0, compensate)
        np.testing.assert_array_equal(spikes, poisson([50.0, 900.0], 100, 1.0, SEED))


def test_a_rate_of_0_gives_no_spikes():
    for compensate in (True, False):
        spikes = poisson_intervals(tf.zeros([1000]), 1000, 1.0, SEED, 2.0, compensate)
        assert not spikes.numpy().any()
    assert not poisson(0.0, 1000, 1.0, SEED).numpy().any()


def test_the_rarest_draws_give_no_spikes_either(monkeypatch):
    for draw in (0.0, 1.0 - 2.0**-24):
        monkeypatch.setattr(encoders, "uniform", lambda shape, seed, u=draw: tf.fill(shape, u))
        assert not poisson_intervals(tf.zeros([3]), 50, 1.0, SEED, 2.0).numpy().any()


def test_a_refractory_period_longer_than_the_sequence():
    counts = poisson_intervals([10.0] * 10000, 20, 1.0, SEED, 60.0).numpy().sum(axis=0)
    assert counts.max() == 1 and bounded(counts.sum(), 2000.0)


ENCODERS = {
    "poisson": lambda rates, seed: poisson(rates, 40, 0.5, seed),
    "intervals": lambda rates, seed: poisson_intervals(rates, 40, 0.5, seed, 2.0),
    "uncompensated": lambda rates, seed: poisson_intervals(rates, 40, 0.5, seed, 2.0, False),
    "inhomogeneous": lambda rates, seed: inhomogeneous(tf.stack([rates] * 40), 0.5, seed),
}
each_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())


@each_encoder
@pytest.mark.parametrize("shape", [[], [6], [3, 6], [3, 0]], ids=str)
def test_shapes(encoder, shape):
    spikes = encoder(tf.fill(shape, 100.0), SEED)
    assert spikes.dtype == tf.bool and spikes.shape == [40, *shape]


@each_encoder
def test_the_seed_alone_decides(encoder):
    rates = tf.fill([50], 200.0)
    first = encoder(rates, SEED).numpy()
    np.testing.assert_array_equal(encoder(rates, SEED), first)
    assert (encoder(rates, OTHER).numpy() != first).any()


@each_encoder
def test_eager_graph_and_xla_agree(encoder):
    rates = tf.constant(np.random.default_rng(1).uniform(0.0, 450.0, [8, 500]), tf.float32)
    eager = encoder(rates, SEED).numpy()
    assert eager.any()
    for xla in (False, True):
        traced = tf.function(encoder, jit_compile=xla, autograph=False)
        np.testing.assert_array_equal(traced(rates, SEED), eager)


@each_encoder
def test_they_encode_examples(encoder):
    arrays = {"rate": np.random.default_rng(2).uniform(0.0, 300.0, [5, 7]).astype(np.float32)}
    examples = from_arrays(arrays, lambda example, seed: {"inputs": encoder(example["rate"], seed)})
    (batch,) = training_dataset(examples, 4, seed=0).take(1)
    assert batch["inputs"].shape == [4, 40, 7]
    seen = [example_at(examples, k, seed=1)["inputs"] for k in (0, 0, 1)]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()


def test_rates_in_tensors_are_clipped():
    rates = tf.constant([-50.0, float("nan"), 1e9])
    counts = poisson(rates, 100, 1.0, SEED).numpy().sum(axis=0)
    np.testing.assert_array_equal(counts, [0, 0, 100])
    counts = poisson_intervals(rates, 100, 1.0, SEED, 4.0).numpy().sum(axis=0)
    np.testing.assert_array_equal(counts, [0, 0, 25])


def test_numbers_of_any_type():
    want = poisson(tf.constant([100.0, 20.0]), 50, 1.0, SEED)
    for rates in ([100, 20], np.array([100, 20]), tf.constant([100.0, 20.0], tf.float64)):
        np.testing.assert_array_equal(poisson(rates, 50, 1.0, SEED), want)


spaced = functools.partial(poisson_intervals, seed=SEED)


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda: poisson([10.0, -1.0], 10, 1.0, SEED), "rates_hz has -1.0; expected 0 Hz or more"),
        (lambda: poisson(float("nan"), 10, 1.0, SEED), "rates_hz has nan"),
        (lambda: poisson(1001.0, 10, 1.0, SEED), "has 1001; .* 1 steps of 1 ms apart .* 1000 Hz"),
        (lambda: poisson(10.0, 0, 1.0, SEED), "there are 0 steps; expected 1 or more"),
        (lambda: poisson(10.0, 10, 0.0, SEED), "dt_ms is 0.0; a step must be longer than 0 ms"),
        (lambda: inhomogeneous([[-2.0]], 1.0, SEED), "rates_hz has -2.0"),
        (lambda: inhomogeneous(5.0, 1.0, SEED), r"is one number; expected rates \[T, ...\]"),
        (lambda: inhomogeneous([], 1.0, SEED), "there are 0 steps"),
        (lambda: inhomogeneous([5.0], 0.0, SEED), "dt_ms is 0.0"),
        (lambda: spaced(10.0, 0, 1.0), "there are 0 steps"),
        (lambda: spaced(10.0, 10, -1.0), "dt_ms is -1.0"),
        (lambda: spaced(-1.0, 10, 1.0, refractory_ms=2.0), "rates_hz has -1.0"),
        (lambda: spaced(10.0, 10, 1.0, refractory_ms=-2.0), "refractory_ms is -2.0; expected 0 ms"),
        (lambda: spaced(300.0, 10, 0.5, refractory_ms=4.0), "has 300; .* 8 steps of .* 250 Hz"),
        (lambda: spaced(1500.0, 10, 1.0), "rates_hz has 1500"),
    ],
)
def test_what_cannot_be(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_shapes_must_be_static():
    traced = tf.function(lambda rates: poisson(rates, 10, 1.0, SEED), autograph=False)
    with pytest.raises(ValueError, match="rates_hz has the shape .* it must be static"):
        traced.get_concrete_function(tf.TensorSpec([None, 3]))
