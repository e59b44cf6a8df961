"""Neurons in mV, the theta neuron and filtered ones: their equations, and that all rules hold."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

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
    Izhikevich,
    Neuron,
    SingleExponential,
    Theta,
    VoltageLIF,
)
from orbit_snn.surrogate import Surrogate
from tests.conformance import eprop, zoo

KIND = {"dtype": tf.float64}
WIDE = Surrogate("fast_sigmoid", dampening=0.5)


@dataclasses.dataclass(frozen=True)
class Made(zoo.Row):
    """A population that the oracle of the zoo does not know; autodiff is the reference."""

    make: Callable[..., Neuron] = LIF

    def library(self, units, dtype):
        return self.make(units, dtype=dtype)

    def oracle(self, units):
        return zoo.BY_NAME["lif"].oracle(units)

    def trained(self, neuron):
        return {}


def voltage_lif(units, through=False, **kind):
    return VoltageLIF(
        units, 4.0, 0.1, -0.2, 0.6, 0.7, 2.0, reset_gradient=through, surrogate=WIDE, **kind
    )


def izhikevich(units, through=False, **kind):
    constants = (2.0, 0.5, 0.0, 0.3, 0.8, -0.1, 0.2, 0.1, 0.2)
    return Izhikevich(
        units, *constants, 2.0, reset_gradient=through, surrogate=WIDE, dt_ms=1.0, **kind
    )


def adaptive(units, through=False, **kind):
    kind |= {"reset_gradient": through, "surrogate": WIDE}
    constants = (4.0, 0.1, -0.2, 0.5, 0.7, (6.0, 30.0), (0.2, 0.1))
    return AdaptiveVoltageLIF(units, *constants, refractory_ms=2.0, **kind)


def glif2(units, through=False, **kind):
    kind |= {"reset_gradient": through, "surrogate": WIDE}
    return GLIF2(units, 4.0, 0.0, 0.5, 0.8, 0.4, 0.2, 9.0, 0.15, refractory_ms=0.0, **kind)


def qif(units, through=False, **kind):
    kind |= {"reset_gradient": through, "surrogate": WIDE, "dt_ms": 1.0}
    return QIF(units, 4.0, 0.0, 0.5, 2.0, 0.8, -0.1, 2.0, refractory_ms=2.0, **kind)


def eif(units, **kind):
    kind |= {"surrogate": WIDE, "dt_ms": 1.0}
    return EIF(units, 4.0, 0.1, 0.4, 0.3, 0.8, -0.1, 1.0, refractory_ms=2.0, **kind)


def adex(units, through=False, refractory=0.0, **kind):
    kind |= {"reset_gradient": through, "surrogate": WIDE, "dt_ms": 1.0}
    components = ((5.0, 20.0), (0.3, -0.1), (0.2, 0.1))
    constants = (4.0, 0.1, 0.4, 0.3, 0.8, -0.1, 1.0, *components)
    return AdEx(units, *constants, refractory_ms=refractory, **kind)


def theta(units, through=False, **kind):
    return Theta(units, reset_gradient=through, surrogate=WIDE, dt_ms=400.0, **kind)


ROWS = [
    Made("voltage-lif", make=voltage_lif),
    Made("voltage-lif-through", make=lambda *a, **k: voltage_lif(*a, through=True, **k)),
    Made("izhikevich", make=izhikevich),
    Made("izhikevich-through", make=lambda *a, **k: izhikevich(*a, through=True, **k)),
    Made("adaptive", make=adaptive),
    Made("adaptive-through", make=lambda *a, **k: adaptive(*a, through=True, **k)),
    Made("glif2", make=glif2),
    Made("glif2-through", make=lambda *a, **k: glif2(*a, through=True, **k)),
    Made("qif", make=qif),
    Made("eif", make=eif),
    Made("adex-through", make=lambda *a, **k: adex(*a, through=True, **k)),
    Made("adex-refractory", make=lambda *a, **k: adex(*a, refractory=2.0, **k)),
    Made("delta", make=lambda *a, **k: CurrentBased(eif(*a, **k), Delta(0.8))),
    Made(
        "single",
        make=lambda *a, **k: CurrentBased(adaptive(*a, **k), SingleExponential(2.0, 3.0)),
    ),
    Made(
        "double",
        make=lambda *a, **k: CurrentBased(LIF(*a, **k), DoubleExponential(4.0, 1.5, 4.0)),
    ),
    Made("theta", make=theta),
    Made("theta-through", make=lambda *a, **k: theta(*a, through=True, **k)),
    Made("filtered", make=lambda *a, **k: Filtered(LIF(*a, threshold=0.6, **k), 900.0, 300.0)),
    Made("filtered-single", make=lambda *a, **k: Filtered(izhikevich(*a, **k), 900.0)),
]
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def run(neuron, currents):
    """Potentials and outputs, `[T, N]` each, for currents `[T, N]`."""
    state = neuron.initial_state(1)

    @tf.function
    def every(currents):
        step = lambda state, current: neuron.step(state, current[tf.newaxis])  # noqa: E731
        return tf.scan(step, currents, state)

    states = every(tf.constant(currents, neuron.dtype))
    inner = getattr(states, "inner", states)
    return inner.v.numpy()[:, 0], neuron.output(states).numpy()[:, 0]


@rows
def test_bptt_is_autodiff(row):
    p = zoo.problem(row, "recurrent-bias", steps=12)
    done, (loss, want) = zoo.reverse_scan(p), zoo.autodiff(p)
    np.testing.assert_allclose(done.loss, loss, rtol=1e-12)
    zoo.assert_equal(zoo.by_name(p, done.gradients), zoo.by_name(p, want))


@rows
def test_they_are_active(row):
    """Else the other tests would compare zeros."""
    p = zoo.problem(row, "recurrent-bias", steps=12)
    assert np.ptp(p.network.unroll(p.xs).cells[0].outputs) > 0.1


@rows
def test_eprop_is_autodiff_with_stops_in_chunks_too(row):
    p = zoo.problem(row, "recurrent", steps=12)
    want = eprop.autodiff(p)[1]
    zoo.assert_equal(eprop.gradients(p), want)
    zoo.assert_equal(eprop.gradients(p, mode="chunked", chunk=5), want)


def test_lif_has_the_potentials_of_the_published_example():
    """Rest -60, reset -65, threshold -50, refractory 3, tau 20, current 30: from a reset on."""
    neuron = VoltageLIF(1, threshold_mv=-50.0, reset_mv=-60.0, **KIND)
    v, outputs = run(neuron, np.full([30, 1], 30.0))
    v = v[:, 0]
    published = [-58.53688, -57.14512, -55.82124, -54.56192, -53.36402, -52.22455, -51.14064]
    np.testing.assert_allclose(v[:8], [*published, -50.10960], atol=1e-5)
    assert list(np.flatnonzero(outputs[:, 0])) == [8, 8 + 3 + 8]
    np.testing.assert_array_equal(v[9:11], -60.0)  # held while it may not spike
    np.testing.assert_allclose(v[11:19], v[:8], rtol=1e-12)


def test_izhikevich_is_the_published_loop():
    """v += dt/C (k (v - vr)(v - vt) - u + I); u += dt a (b (v_old - vr) - u), then the reset."""
    currents = np.random.default_rng(0).normal(2500.0, 400.0, size=(1200, 3))
    neuron = Izhikevich(3, **KIND)
    _, outputs = run(neuron, currents)
    v, u, fired = np.full(3, -60.0), np.zeros(3), []
    for current in currents:
        old = v
        v = v + 0.04 / 250.0 * (2.5 * (v + 60.0) * (v + 19.2) - u + current)
        u = u + 0.04 * 0.01 * (-2.0 * (old + 60.0) - u)
        fired.append(v > 30.0)
        u = np.where(fired[-1], u + 200.0, u)
        v = np.where(fired[-1], -65.0, v)
    np.testing.assert_array_equal(outputs, fired)
    assert outputs.sum(axis=0).min() >= 2


def test_theta_fires_at_the_rate_of_its_current():
    """A constant current I > 0 gives sqrt(I) spikes a second, in the limit of short steps."""
    currents = np.tile([25.0, 100.0], [40_000, 1])
    _, spikes = run(Theta(2, dt_ms=0.05, **KIND), currents)
    np.testing.assert_allclose(spikes.mean(axis=0) * 20_000, [5.0, 10.0], atol=0.51)


@pytest.mark.parametrize("rise", [0.0, 3.0])
def test_a_filter_has_unit_area_in_seconds(rise):
    neuron = Filtered(VoltageLIF(1, dt_ms=0.01, **KIND), 8.0, rise)
    currents = np.zeros([12_000, 1])
    currents[0] = 1e5  # one spike
    _, outputs = run(neuron, currents)
    assert outputs.sum() * 1e-5 == pytest.approx(1.0, rel=5e-3)
    a, b = 1e3 / 8.0, 1e3 / max(rise, 1e-9)
    peak = math.log(b / a) / (b - a)
    wanted = a * b / (b - a) * (math.exp(-a * peak) - math.exp(-b * peak)) if rise else a
    assert outputs.max() == pytest.approx(wanted, rel=5e-3)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: VoltageLIF(2, reset_mv=-40.0), "threshold_mv is -50.*reset_mv -40.*below"),
        (lambda: VoltageLIF(2, rest_mv=float("nan")), "rest_mv is nan; it must be finite"),
        (lambda: VoltageLIF(2, refractory_ms=-1.0), "refractory_ms is -1.0"),
        (lambda: Izhikevich(2, k=0.0), "k is 0.0; it must be positive"),
        (lambda: Theta(2, surrogate="arctan"), "surrogate is 'arctan'; expected a Surrogate"),
        (lambda: Filtered(LIF(2), 0.0), "decay_ms is 0.0 and rise_ms 0.0"),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError, match=words):
        make()
