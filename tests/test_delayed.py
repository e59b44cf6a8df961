"""Delayed synapses: what arrives when, under every learning rule."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Delayed, DelayLine, Dense
from orbit_snn.graph import GraphError, InputNode, NetworkNode
from orbit_snn.graph.sequences import SequenceNode
from orbit_snn.learning import BPTT, RLS, Eprop
from orbit_snn.learning.plasticity import (
    KernelSTDP,
    LinearHomeostasis,
    Plasticity,
    delay_adjusted_stdp,
    delay_adjusted_stdpd,
)
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from tests.conformance import plasticity as zoo
from tests.oracles import plasticity as oracle
from tests.oracles import plasticity_kernels as kernels
from tests.oracles import plasticity_rules as rules

F, N, D, T, B = 4, 3, 5, 25, 2
WHOLE = np.random.default_rng(2).integers(0, D + 1, (F, N)).astype(float)


def delayed(delays=WHOLE, **settings):
    given = {"dt_ms": zoo.DT, "dtype": tf.float64, "seed": 3, "gain": 1.5} | settings
    steps = given.get("dt_ms", 1.0)
    return Delayed(F, N, D, None if delays is None else steps * delays, **given)


def spikes(seed=0):
    return (np.random.default_rng(seed).random((T, B, F)) < 0.3).astype(float)


def taps(x, state=None):
    """`[T, B, F]` as `[T, B, (D + 1) F]`."""
    line = DelayLine(F, D, tf.float64)
    given = tf.transpose(tf.constant(x), [1, 0, 2])
    done, after = line(given, line.initial_state(B) if state is None else state)
    return tf.transpose(done, [1, 0, 2]), after


def test_currents_arrive_late():
    x, connection = spikes(), delayed()
    want = np.einsum("tbij,ij->tbj", rules.select(x, WHOLE), connection.kernel.numpy())
    np.testing.assert_allclose(connection(taps(x)[0]), want, rtol=0, atol=1e-12)


def test_a_delay_between_steps_is_interpolated():
    x, half = spikes(), delayed(np.full([F, N], 1.25))
    late = [delayed(np.full([F, N], steps)) for steps in (1.0, 2.0)]
    one, two = (c(taps(x)[0]).numpy() for c in late)
    np.testing.assert_allclose(half(taps(x)[0]), 0.75 * one + 0.25 * two, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dt_ms", [0.1, 0.3, 1.0 / 3.0, 0.7])
def test_rounding_moves_no_spike(dt_ms):
    """Whole steps that are not, in single precision, arrive in one step."""
    x = np.zeros([12, 1, 1], np.float32)
    x[2] = 1.0
    for steps in range(9):
        connection = Delayed(1, 1, 8, steps * dt_ms, dt_ms=dt_ms, initializer="ones")
        line = DelayLine(1, 8)
        arrived, _ = line(tf.constant(x.transpose(1, 0, 2)), line.initial_state(1))
        current = connection(arrived)[0, :, 0].numpy()
        np.testing.assert_array_equal(current, np.arange(12) == 2 + steps)


def test_windows_of_a_sequence_are_the_sequence():
    x = spikes()
    first, state = taps(x[:3])
    second, _ = taps(x[3:], state)
    np.testing.assert_array_equal(tf.concat([first, second], axis=0), taps(x)[0])


def modules_of(connection, neuron):
    x = InputNode("x")
    line = SequenceNode("taps", x, DelayLine(F, D, tf.float64))
    readout = Cell(LeakyIntegrator(2, dtype=tf.float64), Dense(N, 2, dtype=tf.float64))
    network = Network([Cell(neuron, connection)], readout)
    net = NetworkNode("net", line, network, db_name="target")
    loss = graph.SquaredError.of_node(net.output)
    return graph.assemble_for_training(loss, {"loss": loss})[0]


def batch():
    target = np.random.default_rng(5).normal(size=(B, T, 2))
    return {"x": tf.constant(spikes().transpose(1, 0, 2)), "target": tf.constant(target)}


@pytest.mark.parametrize("rule", [BPTT(), Eprop()], ids=lambda rule: rule.name)
def test_gradients_are_those_of_autodiff(rule):
    neuron = LIF(N, tau_mem_ms=4.0, threshold=0.5, dtype=tf.float64)
    modules = modules_of(delayed(np.random.default_rng(1).uniform(0, D, (F, N)), bias=True), neuron)
    given = batch()
    rule.prepare(modules, {k: tf.TensorSpec(v.shape[1:], v.dtype) for k, v in given.items()}, T)
    got = rule.update(modules, given, rule.initial_state(modules, B)).gradients
    with tf.GradientTape() as tape:
        run = modules.model.run(given)
        (loss,) = modules.loss.values(modules.loss.sums(run.values, given))
    want = tape.gradient(loss, modules.model.parameters)
    for own, other in zip(got, want, strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-9)
        assert np.abs(other).max() > 0.0


def test_least_squares_refuses_taps_that_share_a_weight():
    modules = modules_of(delayed(), LIF(N, dtype=tf.float64))
    with pytest.raises(GraphError, match="share the weights of a Delayed"):
        RLS("scaled_jacobian").prepare(
            modules, {k: tf.TensorSpec(v.shape[1:], v.dtype) for k, v in batch().items()}, T
        )


class Late:
    """A plastic population behind a delay line, as `tests.conformance.plasticity` has them."""

    def __init__(self, connection):
        x = spikes()
        p = zoo.problem(connection, zoo.Exact(N, 0.5, zoo.DT), given=taps(x)[0].numpy())
        self.p, self.x, self.connection = p, x, connection

    def learn(self, rule, **options):
        return zoo.learn(self.p, Plasticity(rule, reward="reward", **options))


@pytest.mark.parametrize(
    "name",
    ["stdp-cumulative+-", "triplet-nearest+-", "mstdp-cumulative+-", "mstdpet-nearest-+"],
)
def test_rules_see_spikes_as_they_arrive(name):
    late, row = Late(delayed()), zoo.BY_NAME[name]
    got = late.learn(row.rule)
    terms = row.oracle(rules.select(late.x, WHOLE), got.post, late.p.reward)
    want = oracle.run([terms], got.weights[0], apply_every=T)[-1]
    np.testing.assert_allclose(got.weights[-1], want, rtol=0, atol=1e-12)
    assert np.abs(want - got.weights[0]).max() > 1e-4


RATES = {"lr_pos": 0.03, "lr_neg": -0.02}


@pytest.mark.parametrize("modulated", [False, True])
def test_delay_adjusted_weights(modulated):
    late = Late(delayed())
    rule = delay_adjusted_stdp(**RATES, tc_pos_ms=9.0, tc_neg_ms=5.0, modulated=modulated)
    got = late.learn(rule)
    reward = {"reward": late.p.reward} if modulated else {}
    terms = kernels.delay_adjusted_stdp(
        late.x, got.post, zoo.DT * WHOLE, **RATES, tc_pos=9.0, tc_neg=5.0, gate="arrival",
        dt=zoo.DT, **reward,
    )  # fmt: skip
    want = oracle.run([terms], got.weights[0], apply_every=T)[-1]
    np.testing.assert_allclose(got.weights[-1], want, rtol=0, atol=1e-12)
    assert np.abs(want - got.weights[0]).max() > 1e-4


@pytest.mark.parametrize("modulated", [False, True])
def test_delay_adjusted_delays(modulated):
    connection = delayed()
    late, before = Late(connection), connection.delay_ms.numpy()
    rule = delay_adjusted_stdpd(**RATES, tc_neg_ms=9.0, tc_pos_ms=5.0, modulated=modulated)
    got = late.learn(rule)
    reward = {"reward": late.p.reward} if modulated else {}
    terms = kernels.delay_adjusted_stdpd(
        late.x, got.post, before, **RATES, tc_neg=9.0, tc_pos=5.0, gate="arrival", dt=zoo.DT,
        **reward,
    )  # fmt: skip
    want = np.clip(oracle.run([terms], before, apply_every=T)[-1], 0.0, D * zoo.DT)
    np.testing.assert_allclose(connection.delay_ms, want, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got.weights[-1], got.weights[0])


def test_homeostasis_of_delays_goes_the_other_way():
    connection = delayed()
    late, before = Late(connection), connection.delay_ms.numpy()
    got = late.learn(LinearHomeostasis(0.01, 0.2 * 1e3 / zoo.DT, "delay_ms"))
    terms = rules.linear_homeostasis(got.post, F, plasticity=0.01, target=0.2, of_delay=True)
    want = np.clip(oracle.run([terms], before, apply_every=T)[-1], 0.0, D * zoo.DT)
    np.testing.assert_allclose(connection.delay_ms, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: Delayed(2, 2, 3, 4.0), "delays are from 4.0 to 4.0 ms; expected 0 to 3.0"),
        (lambda: Delayed(2, 2, 3, -1.0), "expected 0 to 3.0"),
        (lambda: Delayed(0, 2, 3), "got 0 inputs"),
        (lambda: DelayLine(2, -1), "up to -1 steps"),
        (lambda: Delayed(2, 2, 3, 1.0, dt_ms=0.0), "longer than 0 ms"),
        (lambda: KernelSTDP(param="bias"), "expected one of kernel, delay_ms"),
        (lambda: DelayLine(2, 1)(tf.zeros([1, 3, 4]), tf.zeros([1, 1, 2])), "got 4 inputs"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
