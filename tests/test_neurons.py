"""Contracts of the neuron models, beside the equations that the conformance tests hold."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.decay import decay
from orbit_snn.neurons import ALIF, LIF, LeakyIntegrator, LeakyTanh, Mixed, Reset
from orbit_snn.neurons.membrane import Leak
from orbit_snn.surrogate import Surrogate
from tests.conformance import zoo

ALPHA = math.exp(-1.0 / 20.0)
SPIKING = [LIF, ALIF]
MODELS = [LIF, ALIF, LeakyIntegrator, LeakyTanh]
models = pytest.mark.parametrize("model", MODELS)
spiking = pytest.mark.parametrize("model", SPIKING)


def run(neuron, currents):
    """States and outputs `[T, N]` of one example, for currents `[T]` or `[T, N]`."""
    state, states, outputs = neuron.initial_state(1), [], []
    for current in np.asarray(currents, np.float64):
        current = np.broadcast_to(current, [1, neuron.units])
        state = neuron.step(state, tf.constant(current, neuron.dtype))
        states.append(state)
        outputs.append(neuron.output(state).numpy()[0])
    return states, np.array(outputs)


def potentials(states):
    return np.array([state.v.numpy()[0] for state in states])


def state_like(neuron, **values):
    """The initial state of one example with some variables set."""
    state = neuron.initial_state(1)
    shape = [1, neuron.units]
    return state._replace(
        **{
            name: tf.constant(np.broadcast_to(value, shape), neuron.dtype)
            for name, value in values.items()
        }
    )


@pytest.mark.parametrize("row", zoo.EVERY_NEURON)
def test_shapes_and_dtypes(row):
    """The state keeps its structure, shapes and dtype; output takes any leading dimensions."""
    neuron = zoo.BY_NAME[row].library(4, tf.float32)
    state = neuron.initial_state(3)
    after = neuron.step(state, tf.ones([3, 4]))
    tf.nest.assert_same_structure(state, after)
    leaves = [*tf.nest.flatten(state), *tf.nest.flatten(after)]
    assert {leaf.dtype for leaf in leaves} == {tf.float32}
    assert {leaf.shape[0] for leaf in leaves} == {3}
    assert not any(np.any(leaf) for leaf in tf.nest.flatten(state))
    assert neuron.output(after).shape == [3, 4] and neuron.units == 4
    stacked = tf.nest.map_structure(lambda a, b: tf.stack([a, b]), state, after)
    outputs = neuron.output(stacked)
    assert outputs.shape == [2, 3, 4] and outputs.dtype == tf.float32
    np.testing.assert_array_equal(outputs[1], neuron.output(after))


@pytest.mark.parametrize("row", zoo.EVERY_NEURON)
def test_no_neuron_reads_another(row):
    """A current into one neuron moves nothing in the others."""
    neuron = zoo.BY_NAME[row].library(4, tf.float64)
    currents = np.full([6, 4], 0.7)
    quiet = histories(neuron, currents)
    currents[:, 1] = 3.0
    loud = histories(neuron, currents)
    others = [0, 2, 3]
    np.testing.assert_array_equal(quiet[..., others], loud[..., others])
    assert np.any(quiet[..., 1] != loud[..., 1])


def histories(neuron, currents):
    """Potentials and outputs `[2, T, N]`."""
    states, outputs = run(neuron, currents)
    if isinstance(neuron, Mixed):
        parts = range(len(neuron.populations))
        v = np.concatenate([potentials([s[i] for s in states]) for i in parts], axis=-1)
    else:
        v = potentials(states)
    return np.stack([v, outputs])


@spiking
@pytest.mark.parametrize("threshold", [0.5, 1.0, 3.0])
def test_spikes_strictly_above_threshold(model, threshold):
    neuron = model(3, threshold=threshold, dtype=tf.float64)
    v = np.array([np.nextafter(threshold, 0), threshold, np.nextafter(threshold, 9)])
    np.testing.assert_array_equal(neuron.output(state_like(neuron, v=v))[0], [0, 0, 1])


@pytest.mark.parametrize("threshold", [0.5, 2.0])
def test_adaptation_raises_the_threshold(threshold):
    """By beta for every unit of a."""
    neuron = ALIF(2, beta=[0.0, 0.5], threshold=threshold)
    state = state_like(neuron, v=threshold + 0.75, a=2.0)
    np.testing.assert_array_equal(neuron.output(state)[0], [1, 0])
    states, _ = run(ALIF(1, tau_adaptation_ms=1 / math.log(2), threshold=1.0), [3.0, 0.0, 0.0])
    adaptation = [state.a.numpy().item() for state in states]
    spikes = run(ALIF(1, tau_adaptation_ms=1 / math.log(2), threshold=1.0), [3.0, 0.0, 0.0])[1]
    assert adaptation[0] == 0.0 and adaptation[1] == 1.0
    assert adaptation[2] == pytest.approx(0.5 + spikes[1, 0])


def test_alif_without_beta_is_lif():
    currents = np.random.default_rng(0).normal(size=(12, 3)) + 0.5
    settings = {"tau_mem_ms": 5.0, "threshold": 0.6, "refractory_ms": 2.0, "dtype": tf.float64}
    a, b = run(ALIF(3, beta=0.0, **settings), currents), run(LIF(3, **settings), currents)
    np.testing.assert_array_equal(potentials(a[0]), potentials(b[0]))
    np.testing.assert_array_equal(a[1], b[1])
    assert a[1].any()


@spiking
@pytest.mark.parametrize(
    ("refractory_ms", "dt_ms", "period"),
    [(0.0, 1.0, 1), (0.4, 1.0, 1), (1.0, 1.0, 1), (2.0, 1.0, 2), (1.5, 1.0, 2), (4.0, 1.0, 4)]
    + [(0.3, 0.1, 3), (2.0, 0.5, 4), (0.7, 0.1, 7)],
)
def test_refractory_period(model, refractory_ms, dt_ms, period):
    """`period - 1` steps after a spike are blocked, however strong the input."""
    neuron = model(2, refractory_ms=refractory_ms, dt_ms=dt_ms, reset=Reset("none"))
    _, spikes = run(neuron, [50.0] * 15)
    want = [float(t % period == 0) for t in range(15)]
    np.testing.assert_array_equal(spikes, np.transpose([want, want]))
    assert isinstance(neuron.initial_state(1).refractory, tuple) == (period == 1)


@spiking
def test_psi_is_zero_while_refractory(model):
    neuron = model(2, refractory_ms=3.0, dtype=tf.float64)
    v = tf.constant([[0.9, 0.9]], tf.float64)
    state = state_like(neuron, refractory=[0.0, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(v)
        z = neuron.output(state._replace(v=v))
    np.testing.assert_allclose(tape.gradient(z, v), [[0.27, 0.0]], atol=1e-15)


# alpha = 1/2, threshold 1, currents 1.5, 0, 1, 1, by hand
@spiking
@pytest.mark.parametrize(
    ("kind", "timing", "want"),
    [
        ("subtract", "next", [1.5, -0.25, 0.875, 1.4375]),
        ("subtract", "same", [1.5, 0.25, 1.125, 1.0625]),
        ("zero", "next", [1.5, 0.0, 1.0, 1.5]),
        ("zero", "same", [1.5, 0.0, 1.0, 1.5]),
        ("none", "next", [1.5, 0.75, 1.375, 1.6875]),
        ("none", "same", [1.5, 0.75, 1.375, 1.6875]),
    ],
)
def test_reset(model, kind, timing, want):
    more = {"beta": 0.0} if model is ALIF else {}
    neuron = model(1, 1 / math.log(2), reset=Reset(kind, timing), dtype=tf.float64, **more)
    states, _ = run(neuron, [1.5, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(potentials(states).ravel(), want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("timing", ["next", "same"])
@pytest.mark.parametrize("kind", ["subtract", "zero"])
@spiking
def test_reset_gradient(model, kind, timing):
    """Off: the potential decays alone. On: the spike takes its part away."""
    v0 = 1.2
    for through in (False, True):
        neuron = model(1, reset=Reset(kind, timing, through), dtype=tf.float64)
        v = tf.constant([[v0]], tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(v)
            state = neuron.initial_state(1)._replace(v=v)
            after = neuron.step(state, tf.constant([[0.4]], tf.float64)).v
        psi = 0.3 * (1.0 - abs(v0 - 1.0)) * through
        lost = {
            ("subtract", "next"): ALPHA - psi,
            ("subtract", "same"): ALPHA * (1.0 - psi),
            ("zero", "next"): -psi * (ALPHA * v0 + 0.4),
            ("zero", "same"): -psi * ALPHA * v0,
        }
        assert tape.gradient(after, v).numpy().item() == pytest.approx(lost[kind, timing])


@models
def test_input_gain(model):
    """`one_minus_decay` scales the current by 1 - alpha, so a constant one settles at v = I."""
    more = {"reset": Reset("none")} if model in SPIKING else {}
    first = {}
    for gain in ("one", "one_minus_decay"):
        neuron = model(1, input_gain=gain, dtype=tf.float64, **more)
        states, _ = run(neuron, [0.5] * 400)
        first[gain] = potentials(states)[0, 0]
    assert first["one"] == pytest.approx(0.5)
    assert first["one_minus_decay"] == pytest.approx(0.5 * (1.0 - ALPHA))
    assert potentials(states)[-1, 0] == pytest.approx(0.5)


def test_outputs_of_leaky_units():
    currents = np.random.default_rng(0).normal(size=(5, 2))
    states, outputs = run(LeakyIntegrator(2, dtype=tf.float64), currents)
    np.testing.assert_array_equal(outputs, potentials(states))
    states, outputs = run(LeakyTanh(2, dtype=tf.float64), currents)
    np.testing.assert_allclose(outputs, np.tanh(potentials(states)), rtol=1e-14)
    assert not LeakyTanh(2).spiking and not LeakyIntegrator(2).spiking
    assert LIF(2).spiking and ALIF(2).spiking


@models
def test_step_length(model):
    """Half the step, half the exponent; one time constant a neuron."""
    neuron = model(2, tau_mem_ms=[10.0, 40.0], dt_ms=0.5, dtype=tf.float64)
    state = neuron.step(state_like(neuron, v=0.5), tf.zeros([1, 2], tf.float64))
    np.testing.assert_allclose(state.v[0], 0.5 * np.exp([-0.05, -0.0125]), rtol=1e-14)


def test_decay():
    assert decay(20.0, 1.0) == pytest.approx(ALPHA)
    assert decay(math.inf, 1.0) == 1.0
    np.testing.assert_allclose(decay(np.array([10.0, 20.0]), 2.0), np.exp([-0.2, -0.1]))
    np.testing.assert_allclose(decay(tf.constant([10.0, math.inf]), 1.0), [np.exp(-0.1), 1.0])


def leak_of(neuron):
    return next(module for module in neuron.submodules if isinstance(module, Leak))


@pytest.mark.parametrize(
    ("model", "flags", "count"),
    [
        (LIF, {}, 0),
        (LIF, {"train_tau": True}, 1),
        (LIF, {"train_threshold": True}, 1),
        (ALIF, {"train_tau": True}, 2),
        (ALIF, {"train_tau": True, "train_threshold": True}, 3),
        (LIF, {"tau_mem_ms": [3.0, 4.0], "threshold": [1.0, 2.0]}, 0),
        (LeakyIntegrator, {"train_tau": True}, 1),
        (LeakyTanh, {"train_tau": True, "tau_mem_ms": [3.0, 4.0]}, 1),
    ],
)
def test_trained_parameters(model, flags, count):
    """One logarithm a neuron; what is fixed and differs is saved, but not trained."""
    neuron = model(2, **flags)
    assert len(neuron.parameters) == count
    assert all(p.shape == [2] and "log_" in p.name for p in neuron.parameters)
    if flags.get("train_tau"):
        want = np.broadcast_to(flags.get("tau_mem_ms", 20.0), [2])
        np.testing.assert_allclose(leak_of(neuron).tau_mem_ms(), want, rtol=1e-6)
    if "threshold" in flags:
        assert len(neuron.variables) == 2 and not neuron.trainable_variables
        np.testing.assert_array_equal(neuron.membrane.threshold(), flags["threshold"])


def test_trained_quantity_stays_positive():
    neuron = LIF(2, train_tau=True)
    leak_of(neuron).tau_mem_ms.log.assign([-50.0, 3.0])
    assert np.all(leak_of(neuron).tau_mem_ms().numpy() > 0)
    assert np.all(np.isfinite(run(neuron, [1.0, 1.0])[1]))


def test_mixed():
    """The parts side by side, each with its own share of the current."""
    parts = [
        LIF(2, tau_mem_ms=5.0, train_tau=True, dtype=tf.float64),
        ALIF(3, tau_mem_ms=5.0, dtype=tf.float64),
    ]
    neuron = Mixed(parts)
    assert neuron.units == 5 and neuron.spiking and len(neuron.parameters) == 1
    currents = np.random.default_rng(0).normal(size=(8, 5)) + 0.8
    states, spikes = run(neuron, currents)
    for index, (part, own) in enumerate(zip(parts, np.split(currents, [2], 1), strict=True)):
        alone, want = run(part, own)
        np.testing.assert_array_equal(np.split(spikes, [2], 1)[index], want)
        np.testing.assert_array_equal(potentials([s[index] for s in states]), potentials(alone))
    assert spikes[:, :2].any() and spikes[:, 2:].any()


REFUSED = [
    (lambda: LIF(0), "units is 0; a population needs at least 1 neuron"),
    (lambda: ALIF(2, dt_ms=0.0), "dt_ms is 0.0; a step must be longer than 0 ms"),
    (lambda: LeakyTanh(2, dt_ms=-1.0), "dt_ms is -1.0"),
    (lambda: LIF(2, tau_mem_ms=0.0), "tau_mem_ms is 0.0; it must be positive"),
    (lambda: LIF(2, tau_mem_ms=math.nan), "tau_mem_ms is nan; it must be positive"),
    (lambda: LIF(2, tau_mem_ms=[1.0, -1.0]), "tau_mem_ms is [1.0, -1.0]; it must be positive"),
    (lambda: LIF(2, tau_mem_ms=[1.0] * 3), "tau_mem_ms has shape (3,); give one number or 2"),
    (lambda: LIF(2, tau_mem_ms=[[1.0, 2.0]]), "tau_mem_ms has shape (1, 2); give one number"),
    (lambda: LeakyIntegrator(2, tau_mem_ms=-3.0), "tau_mem_ms is -3.0; it must be positive"),
    (lambda: LIF(2, threshold=0.0), "threshold is 0.0; it must be positive"),
    (lambda: ALIF(2, threshold=[1.0, 0.0]), "threshold is [1.0, 0.0]; it must be positive"),
    (lambda: ALIF(2, tau_adaptation_ms=0.0), "tau_adaptation_ms is 0.0; it must be positive"),
    (lambda: ALIF(2, beta=-0.1), "beta is -0.1; it must"),
    (lambda: ALIF(2, refractory_ms=-1.0), "refractory_ms is -1.0; it cannot be negative"),
    (lambda: LIF(2, input_gain="two"), "input_gain is 'two'; expected one or one_minus_decay"),
    (lambda: LeakyTanh(2, input_gain=""), "input_gain is ''; expected one or one_minus_decay"),
    (lambda: Reset("half"), "reset is 'half'; expected one of subtract, zero, none"),
    (lambda: Reset(timing="late"), "reset timing is 'late'; expected next or same"),
    (lambda: Surrogate("step"), "surrogate is 'step'; expected one of"),
    (lambda: Mixed([]), "Mixed got no populations; give at least one"),
    (lambda: Mixed([LIF(1), LIF(1, dt_ms=2.0)]), "different dt_ms: [1.0, 2.0]"),
    (
        lambda: Mixed([LIF(1), LIF(1, dtype=tf.float64)]),
        "different dtype: [tf.float32, tf.float64]",
    ),
    (lambda: Mixed([LIF(1), LeakyTanh(1)]), "different spiking: [True, False]"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refuses(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@models
def test_unknown_arguments_raise(model):
    with pytest.raises(TypeError, match="tau_ms"):
        model(2, tau_ms=3.0)


def test_zero_beta_is_allowed():
    np.testing.assert_array_equal(ALIF(2, beta=[0.0, 0.3]).beta(), np.float32([0.0, 0.3]))
