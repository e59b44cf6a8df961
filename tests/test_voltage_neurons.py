"""Neurons in mV and synaptic currents against the NumPy oracle and the numbers of the spec.

That they train under every rule is in `test_physical_neurons`.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.models import NEURONS, NeuronConfig, build_neuron
from orbit_snn.neurons import (
    EIF,
    GLIF2,
    LIF,
    QIF,
    AdaptiveVoltageLIF,
    AdEx,
    CurrentBased,
    Delta,
    DoubleExponential,
    Filtered,
    Mixed,
    SingleExponential,
    Synapse,
    VoltageLIF,
)
from tests.oracles import physical_neurons as oracle

KIND = {"dtype": tf.float64}
N = 3
EACH = np.array([12.0, 20.0, 31.0])  # time constants that differ between neurons


class Case(NamedTuple):
    """A population of N neurons, the same in the oracle, and the drive at which it fires."""

    neuron: Any
    reference: oracle.Neuron
    drive: float
    refractory: float
    dt: float


def lif(refractory=3.0, dt=1.0):
    given = (list(EACH), -60.0, -65.0, -50.0, 2.0)
    neuron = VoltageLIF(N, *given, refractory_ms=refractory, dt_ms=dt, **KIND)
    return Case(neuron, oracle.lif(EACH, *given[1:], dt), 9.0, refractory, dt)


def adaptive(refractory=2.0, dt=1.0):
    given = (list(EACH), -60.0, -65.0, -54.0, 1.5, (50.0, 9.0), (1.0, 0.6))
    neuron = AdaptiveVoltageLIF(N, *given, refractory_ms=refractory, dt_ms=dt, **KIND)
    return Case(neuron, oracle.alif(EACH, *given[1:], dt), 12.0, refractory, dt)


def glif2(refractory=2.0, dt=1.0):
    given = (list(EACH), -70.0, -52.0, 1.5, 0.4, 3.0)
    theta = ((40.0, 8.0), (1.5, -0.5))
    neuron = GLIF2(N, *given, *theta, refractory_ms=refractory, dt_ms=dt, **KIND)
    tau, rest, threshold, resistance, m, b = (EACH, *given[1:])
    rates = (1.0 / 40.0, 1.0 / 8.0)
    reference = oracle.glif2(tau, rest, m, b, threshold, resistance, rates, theta[1], dt)
    return Case(neuron, reference, 18.0, refractory, dt)


def qif(refractory=1.5, dt=0.5):
    given = (list(EACH), -65.0, -50.0, 0.06, -30.0, -67.0, 1.5)
    neuron = QIF(N, *given, refractory_ms=refractory, dt_ms=dt, **KIND)
    tau, rest, critical, a, peak, reset, resistance = (EACH, *given[1:])
    reference = oracle.qif(tau, rest, critical, a, reset, peak, resistance, dt)
    return Case(neuron, reference, 12.0, refractory, dt)


def eif(refractory=1.7, dt=0.25):
    given = (list(EACH), -65.0, -58.0, 3.0, -30.0, -68.0, 1.5)
    neuron = EIF(N, *given, refractory_ms=refractory, dt_ms=dt, **KIND)
    return Case(neuron, exponential(given, dt), 14.0, refractory, dt)


def adex(refractory=0.0, dt=0.25):
    given = (list(EACH), -65.0, -58.0, 3.0, -30.0, -68.0, 1.5)
    w = ((30.0, 100.0), (0.3, -0.05), (0.5, 0.2))
    neuron = AdEx(N, *given, *w, refractory_ms=refractory, dt_ms=dt, **KIND)
    return Case(neuron, exponential(given, dt, *w), 16.0, refractory, dt)


def exponential(given, dt, taus=(), couplings=(), jumps=()):
    """The oracle from the library's order of arguments."""
    tau, rest, rheobase, sharpness, peak, reset, resistance = (EACH, *given[1:])
    w = (taus, couplings, jumps)
    return oracle.adex(tau, rest, rheobase, sharpness, reset, peak, resistance, *w, dt)


MODELS = {"lif": lif, "adaptive": adaptive, "glif2": glif2, "qif": qif, "eif": eif, "adex": adex}
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def run(neuron, currents):
    """States and outputs after every step, of `[T, N]`, for currents `[T, N]`."""

    @tf.function(autograph=False)
    def every(currents):
        step = lambda state, current: neuron.step(state, current[tf.newaxis])  # noqa: E731
        return tf.scan(step, currents, neuron.initial_state(1))

    states = every(tf.constant(currents, neuron.dtype))
    outputs = neuron.output(states)
    return tf.nest.map_structure(lambda leaf: leaf.numpy()[:, 0], states), outputs.numpy()[:, 0]


def currents_of(kind, drive, steps=300):
    """`[T, N]`: a constant, noise around it, or one that fires in every step that may."""
    if kind == "random":
        return np.random.default_rng(4).normal(drive, drive, size=[steps, N])
    return np.full([steps, N], drive * {"constant": 1.0, "strong": 100.0}[kind])


def adaptation(state):
    """Components that adapt, K of `[T, N]`, as the step met them."""
    return getattr(state, "theta", None) or getattr(state, "w", ())


@pytest.mark.parametrize("refractory", [None, 0.0, 1.0])
@pytest.mark.parametrize("kind", ["constant", "random", "strong"])
@models
def test_trajectories_are_those_of_the_oracle(make, kind, refractory):
    """The oracle has the adaptation after each step's spike, a state before it: one step later."""
    case = make() if refractory is None else make(refractory)
    currents = currents_of(kind, case.drive)
    want = oracle.simulate(case.reference, currents, case.refractory, case.dt)
    states, outputs = run(case.neuron, currents)
    np.testing.assert_allclose(states.v, want.v, rtol=1e-9)
    np.testing.assert_array_equal(outputs, want.spikes)
    for k, own in enumerate(adaptation(states)):
        scale = np.abs(want.adaptation).max()
        np.testing.assert_allclose(own[1:], want.adaptation[:-1, k], rtol=0, atol=1e-9 * scale)
    assert outputs.sum(axis=0).min() >= 2


def test_lif_has_the_numbers_of_the_spec():
    neuron = VoltageLIF(1, 20.0, -60.0, -65.0, -50.0, 1.0, 3.0, **KIND)
    states, outputs = run(neuron, np.full([12, 1], 30.0))
    numbers = [-58.53688, -57.14512, -55.82124, -54.56192, -53.36402, -52.22455, -51.14064]
    np.testing.assert_allclose(states.v[:8, 0], [*numbers, -50.10960], atol=1e-5)
    assert list(np.flatnonzero(outputs)) == [8]
    np.testing.assert_array_equal(states.v[9:11, 0], -65.0)
    assert states.v[11, 0] > -65.0


def test_adaptive_lif_has_the_numbers_of_the_spec():
    """The spec's theta is that after the spike of a step, which the next step's state holds."""
    neuron = AdaptiveVoltageLIF(
        1, 20.0, -60.0, -65.0, -58.0, tau_theta_ms=50.0, jump_mv=1.0, refractory_ms=2.0, **KIND
    )
    states, outputs = run(neuron, np.full([11, 1], 30.0))
    theta = [0.0, 1.0, 1.0, 0.980199, 0.960789, 0.941765, 0.923116, 0.904837, 1.904837, 1.904837]
    np.testing.assert_allclose(states.theta[0][1:, 0], theta, atol=1e-6)
    assert list(np.flatnonzero(outputs) + 1) == [2, 9]


@pytest.mark.parametrize("refractory, dt, period", [(0.0, 0.5, 1), (0.3, 0.5, 1), (0.5, 0.5, 1)])
@models
def test_refractory_periods_of_up_to_a_step(make, refractory, dt, period):
    assert_period(make(refractory, dt), period)


@pytest.mark.parametrize(
    "refractory, dt, period", [(1.5, 0.5, 3), (1.6, 0.5, 4), (1.1, 1.0, 2), (0.7, 0.1, 7)]
)
@models
def test_refractory_periods_round_up(make, refractory, dt, period):
    assert_period(make(refractory, dt), period)


def assert_period(case, period):
    """Spikes as often as they may while a huge current lasts, and soon none after it."""
    currents = np.zeros([200, N])
    currents[:30] = 1e6
    _, outputs = run(case.neuron, currents)
    wanted = (np.arange(30) % period == 0).astype(float)
    np.testing.assert_array_equal(outputs[:30], np.tile(wanted[:, np.newaxis], N))
    assert not outputs[130:].any()  # a GLIF2's reset leaves a share of the potential


@models
def test_shapes_and_dtypes(make):
    """The state keeps its structure; leading dimensions are free; every leaf is of the dtype."""
    neuron = type(make().neuron)(4, dt_ms=0.5, refractory_ms=2.0)
    state = neuron.initial_state(2)
    after = neuron.step(state, tf.ones([2, 4]))
    tf.nest.assert_same_structure(state, after)
    leaves = [*tf.nest.flatten(state), *tf.nest.flatten(after)]
    assert {(leaf.dtype, *leaf.shape) for leaf in leaves} == {(tf.float32, 2, 4)}
    assert not neuron.output(state).numpy().any()
    stacked = tf.nest.map_structure(lambda *x: tf.stack(x), after, after, after)
    assert neuron.output(stacked).shape == [3, 2, 4]
    assert neuron.step(stacked, tf.ones([3, 2, 4])).v.shape == [3, 2, 4]


@pytest.mark.parametrize("model", [EIF, AdEx])
def test_exponentials_stay_finite_in_single_precision(model):
    """With the highest peak that is allowed, the strongest currents, and a state above the peak."""
    neuron = model(2, rheobase_mv=-50.0, sharpness_mv=1.0, peak_mv=29.9, reset_gradient=True)
    step = tf.function(neuron.step, jit_compile=True)
    state = neuron.initial_state(1)
    for current in (1e3, 3e5, 1e9, -1e9, 0.0):
        with tf.GradientTape() as tape:
            tape.watch(state.v)
            after = step(state, tf.fill([1, 2], current))
        found = [*tf.nest.flatten(after), tape.gradient(after.v, state.v)]
        assert all(np.isfinite(x).all() for x in found)
        state = after
    above = neuron.initial_state(1)._replace(v=tf.constant([[1e3, 1e30]]))
    assert np.isfinite(neuron.membrane(above.v, 0.0)).all()


SYNAPSES = [
    (Delta(3.0), lambda x, dt: oracle.delta(x, 3.0, dt)),
    (SingleExponential(10.0, 5.0), lambda x, dt: oracle.single_exponential(x, 10.0, 5.0, dt)),
    (
        DoubleExponential(10.0, 2.0, 7.0),
        lambda x, dt: oracle.double_exponential(x, 10.0, 2.0, 7.0, dt),
    ),
]


def pass_through(synapse, x, dt=1.0):
    """The currents of every step, for what arrives, `[T, N]`."""
    state, found = synapse.initial_state(tf.zeros(x.shape[1:], tf.float64)), []
    for now in x:
        current, state = synapse.step(state, tf.constant(now), dt)
        found.append(current.numpy())
    return np.array(found)


def test_a_single_exponential_has_the_numbers_of_the_spec():
    x = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])[:, np.newaxis]
    numbers = [2.0, 1.637462, 1.340640, 3.097623, 2.536119, 2.076399]
    found = pass_through(SingleExponential(charge=10.0, tau_ms=5.0), x)
    np.testing.assert_allclose(found[:, 0], numbers, atol=1e-6)


@pytest.mark.parametrize("dt", [1.0, 0.1])
@pytest.mark.parametrize("synapse, reference", SYNAPSES, ids=lambda s: type(s).__name__)
def test_synapses_are_those_of_the_oracle(synapse, reference, dt):
    x = np.random.default_rng(1).normal(size=[40, N])
    np.testing.assert_allclose(pass_through(synapse, x, dt), reference(x, dt), atol=1e-12)


@pytest.mark.parametrize("synapse", [synapse for synapse, _ in SYNAPSES])
def test_a_spike_carries_its_charge(synapse):
    """The integral of the current over time is Q, in the limit of short steps."""
    x = np.zeros([1200, 1])
    x[0] = 1.0
    carried = pass_through(synapse, x, dt=0.05).sum() * 0.05
    assert carried == pytest.approx(synapse.charge, rel=1e-2)


@pytest.mark.parametrize("synapse, reference", SYNAPSES, ids=lambda s: type(s).__name__)
def test_a_population_behind_synapses_is_driven_by_their_currents(synapse, reference):
    neuron = lif().neuron
    x = np.random.default_rng(2).normal(3.0, 3.0, size=[120, N])
    states, outputs = run(CurrentBased(neuron, synapse), x)
    want, spikes = run(neuron, reference(x, 1.0))
    np.testing.assert_allclose(states.v, want.v, rtol=1e-9)
    np.testing.assert_array_equal(outputs, spikes)
    assert spikes.sum() > 3 and CurrentBased(LIF(2), synapse).spiking


def test_a_sequence_starts_from_what_lasts():
    neuron = adaptive().neuron
    assert not neuron.parameters and len(neuron.theta) == len(neuron.lasting) == 2
    neuron.theta[0].assign([0.0, 1.0, 2.0])
    state = neuron.initial_state(4)
    np.testing.assert_array_equal(state.theta[0], np.tile([0.0, 1.0, 2.0], [4, 1]))
    v = tf.constant([[-53.5] * 3, [0.0] * 3], tf.float64)
    state = neuron.initial_state(2)._replace(v=v)
    np.testing.assert_array_equal(neuron.output(state), [[1.0, 0.0, 0.0], [1.0] * 3])
    for (variable, value), own, jump in zip(neuron.lasting, neuron.theta, (1.0, 0.6), strict=True):
        assert variable is own
        want = own + jump * neuron.output(state)
        np.testing.assert_allclose(value(state), want)


def test_what_lasts_goes_on_as_if_there_had_been_no_pause():
    """Of one example in a sequence that ends without a spike."""
    currents = currents_of("random", 12.0, 90)
    states, outputs = run(adaptive().neuron, currents)
    assert outputs[:40].sum() > 3
    calm = 40 + int(np.flatnonzero(~outputs[40:].any(axis=1) & ~states.refractory[40:].any(1))[0])
    neuron = adaptive().neuron
    final = tf.nest.map_structure(lambda leaf: tf.constant(leaf[calm][np.newaxis]), states)
    for variable, value in neuron.lasting:
        variable.assign(tf.reduce_mean(value(final), axis=0))
    again, _ = run(neuron, currents[:1])
    for own, want in zip(again.theta, states.theta, strict=True):
        np.testing.assert_allclose(own[0], want[calm + 1], rtol=1e-12)


def test_what_lasts_is_found_inside_of_other_populations():
    inner = AdaptiveVoltageLIF(2, threshold_mv=-60.0, jump_mv=0.25, **KIND)
    heard = Filtered(inner, 5.0)
    driven = CurrentBased(inner, SingleExponential())
    mixed = Mixed([VoltageLIF(3, **KIND), inner])
    for neuron in (heard, driven, mixed):
        ((variable, value),) = neuron.lasting
        assert variable is inner.theta[0]
        strong = tf.fill([3, neuron.units], tf.constant(1e9, tf.float64))
        state = neuron.step(neuron.initial_state(3), strong)
        np.testing.assert_allclose(value(state), np.full([3, 2], 0.25))
    assert lif().neuron.lasting == ()


def test_configs_have_them():
    names = {"adaptive_voltage_lif", "glif2", "qif", "eif", "ad_ex"}
    assert names <= set(NEURONS)
    config = NeuronConfig(type="adaptive_voltage_lif")
    config.override({"adaptive_voltage_lif": {"tau_theta_ms": [50.0, 500.0], "jump_mv": 0.5}})
    neuron = build_neuron(config, 4, 1.0, tf.float32, "model.neuron")
    assert [own.shape for own in neuron.theta] == [[4], [4]]
    for name in names:
        build_neuron(NeuronConfig(type=name), 4, 0.1, tf.float32, "model.neuron")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: AdaptiveVoltageLIF(2, tau_theta_ms=0.0), "tau_theta_ms is 0.0; it must be pos"),
        (
            lambda: AdaptiveVoltageLIF(2, tau_theta_ms=(5.0, 9.0), jump_mv=(1.0, 1.0, 1.0)),
            r"tau_theta_ms has shape \(2,\) and jump_mv has shape \(3,\); give one number",
        ),
        (lambda: AdaptiveVoltageLIF(2, jump_mv=()), r"jump_mv has shape \(0,\); give one"),
        (lambda: AdaptiveVoltageLIF(2, jump_mv=float("inf")), "jump_mv is inf; it must be finite"),
        (lambda: GLIF2(2, rest_mv=-40.0), "threshold_mv is -50.0 and rest_mv -40.0; the rest must"),
        (lambda: GLIF2(2, m=1.0, b=0.0), "m is 1.0 and b 0.0; a spike .* would not lower"),
        (lambda: GLIF2(2, m=-0.1), "m is -0.1; it must be"),
        (lambda: QIF(2, a=-1.0), "a is -1.0; it must be positive"),
        (lambda: QIF(2, reset_mv=-20.0), "peak_mv is -30.0 and reset_mv -20.0; the reset must be"),
        (lambda: QIF(2, rest_mv=-20.0), "peak_mv is -30.0 and rest_mv -20.0; the rest must be be"),
        (lambda: EIF(2, sharpness_mv=0.1), "exponent reaches 299, expected at most 80: lower"),
        (lambda: EIF(2, peak_mv=[1.0, 2.0, 3.0]), r"peak_mv has shape \(3,\); give one number or"),
        (lambda: EIF(2, refractory_ms=-1.0), "refractory_ms is -1.0; it cannot be negative"),
        (lambda: AdEx(2, tau_w_ms=-3.0), "tau_w_ms is -3.0; it must be positive"),
        (lambda: AdEx(2, a=float("nan")), "a is nan; it must be finite"),
        (lambda: AdEx(2, surrogate="arctan"), "surrogate is 'arctan'; expected a Surrogate"),
        (lambda: Delta(float("nan")), "charge is nan; expected a finite number"),
        (lambda: SingleExponential(1.0, 0.0), "tau_ms is 0.0; expected a finite time"),
        (lambda: DoubleExponential(1.0, 5.0, 5.0), "rise_ms is 5.0 and decay_ms 5.0; the rise"),
        (lambda: CurrentBased(LIF(2), "delta"), "synapse is 'delta'; expected a Synapse"),
        (lambda: CurrentBased(Mixed([LIF(2)]), Delta()), "neuron is a Mixed; expected a pop"),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_synapse_is_a_record():
    assert SingleExponential(2.0, 5.0) == SingleExponential(2.0, 5.0)
    assert all(isinstance(synapse, Synapse) for synapse, _ in SYNAPSES)
