"""Local plasticity against its oracle: every rule, every way to apply it, every connection."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import bounds
from orbit_snn.connections import Conv2D, Dense, Lateral, OneToOne, Sparse
from orbit_snn.learning.plasticity import STDP, Limits, Plasticity
from orbit_snn.neurons import ALIF, LIF, AdEx, CurrentBased, SingleExponential, VoltageLIF
from orbit_snn.updaters import Updater
from tests.conformance import plasticity as zoo
from tests.oracles import plasticity as oracle
from tests.oracles import plasticity_conv

F, N, STEPS = 5, 4, 25
SOME = ("stdp-cumulative+-", "triplet-nearest-+", "mstdp-cumulative+-", "mstdpet-cumulative+-",
        "kernel-own", "homeostasis")  # fmt: skip


def dense(dtype=tf.float64):
    return Dense(F, N, seed=3, gain=1.5, dtype=dtype)


def expected(p, row, got, reduction="mean", every=STEPS, **options):
    """Weights after every window by the oracle, of the spikes that there were."""
    terms = row.oracle(p.pre, got.post, p.reward)
    whole = oracle.run(
        [terms], got.weights[0], batch_reduction=reduction, apply_every=every, **options
    )
    return whole[every - 1 :: every]


def assert_same(p, row, got, **options):
    want = expected(p, row, got, **options)
    assert np.abs(want[-1] - got.weights[0]).max() > 1e-4
    np.testing.assert_allclose(got.weights[1:], want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("row", zoo.ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_update_of_a_sequence_is_that_of_the_oracle(row, reduction):
    p = zoo.problem(dense())
    rule = Plasticity(row.rule, batch_reduction=reduction, reward="reward")
    assert_same(p, row, zoo.learn(p, rule), reduction=reduction)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("every", [1, 5])
def test_weights_change_while_a_sequence_runs(name, every):
    p, row = zoo.problem(dense()), zoo.BY_NAME[name]
    rule = Plasticity(row.rule, "step" if every == 1 else every, reward="reward")
    got = zoo.learn(p, rule)
    assert len(got.weights) == 1 + STEPS // every
    assert_same(p, row, got, every=every)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("steps", ["mean", "max", "min"])
def test_steps_are_brought_together_as_asked(name, steps):
    p, row = zoo.problem(dense()), zoo.BY_NAME[name]
    got = zoo.learn(p, Plasticity(row.rule, step_reduction=steps, reward="reward"))
    terms = row.oracle(p.pre, got.post, p.reward)
    want = oracle.run(
        [terms], got.weights[0], batch_reduction="mean", apply_every=STEPS, reduction=steps
    )
    np.testing.assert_allclose(got.weights[-1], want[-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("every", [1, STEPS])
def test_samples_are_reduced_by_any_function(name, every):
    p, row = zoo.problem(dense()), zoo.BY_NAME[name]
    rule = Plasticity(row.rule, every, batch_reduction=tf.reduce_max, reward="reward")
    assert_same(p, row, zoo.learn(p, rule), reduction="max", every=every)


@pytest.mark.parametrize("name", SOME)
def test_compiled_single_precision_is_close(name):
    row = zoo.BY_NAME[name]
    p = zoo.problem(dense(tf.float32))
    got = zoo.learn(p, Plasticity(row.rule, "step", reward="reward"), compiled=True)
    want = expected(p, row, got, every=1)
    np.testing.assert_allclose(got.weights[1:], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["stdp-cumulative+-", "mstdpet-cumulative+-"])
@pytest.mark.parametrize("options", [{"step_reduction": "max"}, {"batch_reduction": tf.reduce_max}])
def test_reductions_compile(name, options):
    row = zoo.BY_NAME[name]
    got = [
        zoo.learn(zoo.problem(dense()), Plasticity(row.rule, reward="reward", **options), compiled)
        for compiled in (False, True)
    ]
    np.testing.assert_allclose(got[1].weights, got[0].weights, rtol=0, atol=1e-12)


def connections():
    kind = {"dtype": tf.float64}
    return {
        "sparse": Sparse(F, N, fan_in=3, seed=2, gain=1.5, **kind),
        "one-to-one": OneToOne(F, gain=0.7, **kind),
        "lateral": Lateral(F, seed=3, gain=1.5, **kind),
        "bias": Dense(F, N, bias=True, seed=3, gain=1.5, **kind),
    }


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("kind", ["sparse", "one-to-one", "lateral", "bias"])
def test_every_connection_learns_where_it_has_synapses(name, kind):
    connection, row = connections()[kind], zoo.BY_NAME[name]
    p = zoo.problem(connection)
    first = connection.weights()[0] if kind != "one-to-one" else tf.linalg.diag(connection.kernel)
    there = first.numpy() != 0.0
    got = zoo.learn(p, Plasticity(row.rule, reward="reward"))
    terms = row.oracle(p.pre, got.post, p.reward)
    want = there * oracle.run([terms], first.numpy(), batch_reduction="mean", apply_every=STEPS)[-1]
    after = connection.weights()[0] if kind != "one-to-one" else tf.linalg.diag(connection.kernel)
    assert np.abs(want - first).max() > 1e-4
    np.testing.assert_allclose(after, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding,strides", [("valid", 1), ("same", 2)])
def test_a_convolution_learns_as_an_explicit_loop(padding, strides):
    connection = Conv2D((4, 5, 2), 3, (2, 3), strides, padding, seed=1, dtype=tf.float64)
    p = zoo.problem(connection)
    row = zoo.BY_NAME["stdp-cumulative+-"]
    got = zoo.learn(p, Plasticity(row.rule))
    rows, columns, filters = connection.out_shape
    terms = plasticity_conv.conv_pair_stdp(
        p.pre.reshape(STEPS, 3, 4, 5, 2),
        got.post.reshape(STEPS, 3, rows, columns, filters),
        (2, 3),
        dt=zoo.DT,
        stride=(strides, strides),
        padding=padding,
        **zoo.PAIR,
    )
    whole = sum((pos - neg for pos, neg in [terms])).mean(axis=1).sum(axis=0)
    np.testing.assert_allclose(got.weights[-1] - got.weights[0], whole, rtol=0, atol=1e-12)
    assert np.abs(whole).max() > 1e-3


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(N, tau_mem_ms=5.0, threshold=0.4, dt_ms=zoo.DT, dtype=tf.float64),
        ALIF(N, tau_mem_ms=5.0, threshold=0.4, dt_ms=zoo.DT, dtype=tf.float64),
        VoltageLIF(N, resistance_mohm=300.0, dt_ms=zoo.DT, dtype=tf.float64),
        AdEx(N, resistance_mohm=900.0, dt_ms=zoo.DT, dtype=tf.float64),
        CurrentBased(
            VoltageLIF(N, resistance_mohm=300.0, dt_ms=zoo.DT, dtype=tf.float64),
            SingleExponential(tau_ms=3.0),
        ),
    ],
    ids=lambda neuron: type(neuron).__name__,
)
def test_every_neuron_learns(neuron):
    p, row = zoo.problem(dense(), neuron), zoo.BY_NAME["stdp-cumulative++"]
    got = zoo.learn(p, Plasticity(row.rule, "step"))
    assert 0.01 < got.post.mean() < 0.6
    assert_same(p, row, got, every=1)


def test_bounds_are_those_of_the_oracle():
    p, row = zoo.problem(dense()), zoo.BY_NAME["stdp-cumulative+-"]
    p.connection.kernel.assign(0.5 + 0.3 * tf.tanh(p.connection.kernel))
    limits = Limits("scaled_power", 0.0, 1.0, power=1.7)
    got = zoo.learn(p, Plasticity(row.rule, "step", limits=limits))
    full = oracle.full_bound("scaled_power", 1.0, 0.0, 1.7, 1.7)
    assert_same(p, row, got, every=1, bounds=oracle.Bounds(full=full))


def test_an_updater_of_ones_own_is_kept():
    p, row = zoo.problem(dense()), zoo.BY_NAME["stdp-cumulative+-"]
    p.connection.updater = Updater(p.connection, "kernel")
    p.connection.updater.kernel.upperbound(bounds.upper_multiplicative, 2.0)
    got = zoo.learn(p, Plasticity(row.rule, "step"))
    upper = oracle.upper_bound("multiplicative", 2.0)
    assert_same(p, row, got, every=1, bounds=oracle.Bounds(upper=upper))


def test_several_rules_add_up():
    p = zoo.problem(dense())
    rows = [zoo.BY_NAME["stdp-cumulative+-"], zoo.BY_NAME["homeostasis"]]
    got = zoo.learn(p, Plasticity([row.rule for row in rows], "step"))
    terms = [row.oracle(p.pre, got.post, p.reward) for row in rows]
    want = oracle.run(terms, got.weights[0], batch_reduction="mean", apply_every=1)
    np.testing.assert_allclose(got.weights[1:], want, rtol=0, atol=1e-12)


def test_updates_of_several_sequences_wait():
    p, row = zoo.problem(dense()), zoo.BY_NAME["stdp-cumulative+-"]
    got = zoo.learn(p, Plasticity(row.rule, sequences=3), passes=6)
    np.testing.assert_array_equal(got.weights[1], got.weights[0])
    np.testing.assert_array_equal(got.weights[2], got.weights[0])
    want = got.weights[0]
    for start in (0, 3 * STEPS):
        for first in range(start, start + 3 * STEPS, STEPS):
            pos, neg = row.oracle(p.pre, got.post[first : first + STEPS], p.reward)
            want = want + (pos - neg).mean(axis=1).sum(axis=0)
        np.testing.assert_allclose(got.weights[(start // STEPS) + 3], want, rtol=0, atol=1e-12)


def test_padded_steps_teach_nothing():
    row = zoo.BY_NAME["stdp-cumulative+-"]
    p = zoo.problem(dense(), mask=True)
    got = zoo.learn(p, Plasticity(row.rule))
    real = p.batch["mask"].numpy().T[..., np.newaxis]
    pos, neg = row.oracle(p.pre * real, got.post * real, p.reward)
    want = got.weights[0] + (pos - neg).mean(axis=1).sum(axis=0)
    np.testing.assert_allclose(got.weights[-1], want, rtol=0, atol=1e-12)


def test_florian():
    connection = Dense(2, 1, initializer=lambda s, d: tf.constant([[0.2], [9.0]], d),
                       dtype=tf.float64)  # fmt: skip
    times = {0: (10, 85, 115, 135), 1: (15, 75, 110, 140)}
    spikes = np.zeros([201, 1, 2])
    for channel, own in times.items():
        spikes[list(own), 0, channel] = 1.0
    p = zoo.problem(connection, zoo.Exact(1, 5.0), given=spikes)
    got = zoo.learn(p, Plasticity(STDP(0.2, -0.2, 20.0, 20.0), "step")).weights[1:, 0, 0]
    want = {15: 0.3557601566, 85: 0.2361693896, 110: 0.2948179383, 115: 0.1106431357,
            140: 0.2690363882, 200: 0.2690363882}  # fmt: skip
    for t, value in want.items():
        assert got[t] == pytest.approx(value, abs=1e-10)
