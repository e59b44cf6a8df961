"""Reducers and monitors against their oracle, folded in one loop."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import monitors, reducers
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.monitors import record
from orbit_snn.networks import Network
from orbit_snn.neurons import ALIF
from orbit_snn.unroll.folding import folded
from tests.oracles import plasticity as oracle

DT, B, N = 0.5, 3, 4
HALF = lambda x: tf.abs(x - 0.5) <= 0.25  # noqa: E731
TRACE = {"tau_ms": 6.0, "dt_ms": DT}
OWN = {"tau": 6.0, "dt": DT}


def spikes(rng, steps):
    return ((rng.random((steps, B, N)) < 0.3).astype(float),)


def values(rng, steps):
    return (rng.uniform(0.0, 1.5, (steps, B, N)),)


def conditional(rng, steps):
    return rng.normal(size=(steps, B, N)), (rng.random((steps, B, N)) < 0.4).astype(float)


def pairs(rng, steps):
    return rng.uniform(0.0, 1.0, (steps, B, N, 1)), spikes(rng, steps)[0][:, :, np.newaxis, :]


def near_half(x):
    return np.abs(x - 0.5) <= 0.25


def above(limit, x):
    return x > limit


ROWS = {
    "nearest": (reducers.NearestTrace(**TRACE, amplitude=0.7), spikes,
                functools.partial(oracle.nearest_trace, **OWN, amplitude=0.7)),
    "cumulative": (reducers.CumulativeTrace(**TRACE, amplitude=0.7), spikes,
                   functools.partial(oracle.cumulative_trace, **OWN, amplitude=0.7)),
    "nearest-target": (reducers.NearestTrace(**TRACE, criterion=HALF), values,
                       functools.partial(oracle.nearest_trace, **OWN, target=0.5, tolerance=0.25)),
    "cumulative-target": (
        reducers.CumulativeTrace(**TRACE, criterion=HALF), values,
        functools.partial(oracle.cumulative_trace, **OWN, target=0.5, tolerance=0.25)),
    "nearest-scaled": (
        reducers.NearestTrace(**TRACE, amplitude=0.2, scale=3.0, criterion=HALF), values,
        functools.partial(oracle.scaled_trace, criterion=near_half, **OWN, scale=3.0,
                          amplitude=0.2, nearest=True)),
    "cumulative-scaled": (
        reducers.CumulativeTrace(**TRACE, amplitude=0.2, scale=3.0, criterion=HALF), values,
        functools.partial(oracle.scaled_trace, criterion=near_half, **OWN, scale=3.0,
                          amplitude=0.2)),
    "nearest-conditional": (
        reducers.ConditionalTrace(**TRACE, amplitude=0.2, scale=3.0, nearest=True), conditional,
        functools.partial(oracle.conditional_trace, **OWN, scale=3.0, amplitude=0.2,
                          nearest=True)),
    "cumulative-conditional": (
        reducers.ConditionalTrace(**TRACE, amplitude=0.2, scale=3.0), conditional,
        functools.partial(oracle.conditional_trace, **OWN, scale=3.0, amplitude=0.2)),
    "eligibility": (reducers.EligibilityTrace(**TRACE), pairs,
                    functools.partial(oracle.eligibility_trace, **OWN)),
    "event-inf": (reducers.Event(DT), spikes, functools.partial(oracle.event_age, dt=DT)),
    "event-nan": (reducers.Event(DT, float("nan")), spikes,
                  functools.partial(oracle.event_age, dt=DT, initial="nan")),
    "event-criterion": (reducers.Event(DT, criterion=functools.partial(above, 1.2)), values,
                        lambda x: oracle.event_age(x > 1.2, dt=DT)),
    "pass": (reducers.PassThrough(), values, oracle.passthrough),
    "ema": (reducers.ExponentialAverage(0.3), values, functools.partial(oracle.ema, alpha=0.3)),
    "ema-1": (reducers.ExponentialAverage(1.0), values, oracle.passthrough),
    "average": (reducers.CumulativeAverage(), values, oracle.cumulative_average),
}  # fmt: skip


def start(reducer, observed, dtype=tf.float64):
    shape = functools.reduce(np.broadcast_shapes, (x.shape[1:] for x in observed))
    return reducer.start(tf.zeros(shape, dtype))


def fold_all(steps, sequences, compiled=None, states=None, dtype=tf.float64):
    """All rows in one loop: values `[T + 1, ...]` and states, by the rows' order."""
    every = [reducer for reducer, _, _ in ROWS.values()]
    states = [start(*pair, dtype) for pair in zip(every, sequences, strict=True)] if (
        states is None) else states  # fmt: skip
    observed = [[tf.constant(x[:steps], dtype) for x in own] for own in sequences]
    run = functools.partial(folded, every)
    return (run if compiled is None else tf.function(run, jit_compile=compiled))(observed, states)


@functools.cache
def sequences(steps, seed=0):
    rng = np.random.default_rng(seed)
    return [draw(rng, steps) for _, draw, _ in ROWS.values()]


def test_every_reducer_has_a_row():
    own = {type(reducer) for reducer, _, _ in ROWS.values()}
    known = set(reducers.Reducer.__subclasses__())
    assert own == known and len(own) == 8


@pytest.mark.parametrize("steps", [1, 2, 30])
@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "xla"])
def test_one_loop_of_all_reducers(steps, compiled):
    given = sequences(steps)
    found, _ = fold_all(steps, given, compiled)
    for got, observed, (name, (_, _, own)) in zip(found, given, ROWS.items(), strict=True):
        want = own(*observed)
        np.testing.assert_allclose(got[1:], want, rtol=1e-12, atol=1e-14, err_msg=name)
        assert got.shape == (steps + 1, *want.shape[1:])
        before = {"event-inf": np.inf, "event-nan": np.nan, "event-criterion": np.inf}
        np.testing.assert_array_equal(got[0], np.full(want.shape[1:], before.get(name, 0.0)))


@pytest.mark.parametrize("sizes", [[1] * 12, [5, 1, 6], [7, 5]])
def test_windows_go_on_where_the_last_one_ended(sizes):
    given = sequences(12)
    whole, last = fold_all(12, given)
    states, found = None, []
    ends = list(itertools.accumulate(sizes))
    for first, stop in zip([0, *ends], ends, strict=False):
        window = [[x[first:stop] for x in own] for own in given]
        got, states = fold_all(stop - first, window, states=states)
        found.append(got)
    for i, want in enumerate(whole):
        np.testing.assert_allclose(
            np.concatenate([window[i][1:] for window in found]), want[1:], rtol=1e-13
        )
        np.testing.assert_allclose(found[-1][i][0], want[12 - sizes[-1]], rtol=1e-13)
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), states, list(last)
    )


def test_precision():
    found, states = fold_all(6, sequences(6), dtype=tf.float32)
    assert {x.dtype for x in found} == {x.dtype for x in tf.nest.flatten(states)} == {tf.float32}
    for got, want in zip(found, fold_all(6, sequences(6))[0], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_time_since_the_start():
    """With an initial 0, time counts from the beginning until there is an event."""
    observed = tf.constant([0.0, 0.0, 1.0, 0.0], tf.float64)
    reducer = reducers.Event(DT, 0.0)
    (got,), _ = folded([reducer], [[observed]], [reducer.start(observed[0])])
    np.testing.assert_array_equal(got, [0.0, 0.5, 1.0, 0.0, 0.5])


def test_nothing_to_fold():
    assert folded([], [], []) == ([], [])


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_cannot_be(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        reducers.ExponentialAverage(alpha)


def test_other_reducers_are_other_values():
    assert len({monitors.output_monitor(reducer) for reducer, _, _ in ROWS.values()}) == len(ROWS)


@pytest.fixture(scope="module")
def seen():
    """A spiking recurrent cell, its record, and the states of a loop of steps, `[T + 1, ...]`."""
    neuron = ALIF(N, tau_mem_ms=8.0, threshold=0.4, tau_adaptation_ms=20.0, beta=0.5,
                  dt_ms=DT, dtype=tf.float64)  # fmt: skip
    onto = Dense(5, N, seed=1, gain=2.0, dtype=tf.float64)
    cell = Cell(neuron, onto, Dense(N, N, autapses=False, seed=2, dtype=tf.float64))
    x = tf.constant(np.random.default_rng(5).normal(size=(20, B, 5)))
    state, states = cell.initial_state(B), [cell.initial_state(B)]
    for t in range(20):
        state = cell.step(state, x[t])
        states.append(state)
    states = tf.nest.map_structure(lambda *leaves: np.stack(leaves), *states)
    trajectory = Network([cell]).unroll(x).cells[0]
    outputs = np.stack([neuron.output(tf.nest.map_structure(lambda leaf, t=t: leaf[t], states))
                        for t in range(21)])  # fmt: skip
    assert 0.05 < outputs.mean() < 0.95
    return cell, record(trajectory), x, states, outputs


def looks(seen):
    _, _, x, states, outputs = seen
    reducer = reducers.PassThrough()
    return [
        (monitors.input_monitor(reducer), [x]),
        (monitors.input_monitor(reducer, "recurrent"), [outputs[:-1]]),
        (monitors.output_monitor(reducer), [outputs[1:]]),
        (monitors.state_monitor(reducer, "v"), [states.v[1:]]),
        (monitors.state_monitor(reducer, "v", before=True), [states.v[:-1]]),
        (monitors.multi_state_monitor(reducer, "a", "v"), [states.a[1:], states.v[1:]]),
        (monitors.multi_state_monitor(reducer, "a", "v", before=True),
         [states.a[:-1], states.v[:-1]]),
        (monitors.difference_monitor(reducer, "v"), [np.diff(states.v, axis=0)]),
    ]  # fmt: skip


@pytest.mark.parametrize("row", range(8))
def test_what_a_monitor_sees(seen, row):
    monitor, want = looks(seen)[row]
    got = monitor.look(seen[1])
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
        assert one.shape[-1] == monitor.look.width(seen[0]) and one.shape[:2] == (20, B)
    assert monitor.look.presynaptic == (row < 2)


def test_monitors_of_other_things_differ(seen):
    every = [monitor for monitor, _ in looks(seen)]
    assert len(set(every)) == len(every) == 8
    assert set(every) == {monitor for monitor, _ in looks(seen)}


def test_a_multi_state_monitor_feeds_a_conditional_trace(seen):
    _, seen_record, _, states, _ = seen
    reducer = reducers.ConditionalTrace(**TRACE, scale=2.0)
    monitor = monitors.multi_state_monitor(reducer, "v", "a")
    (got,), _ = folded([reducer], [monitor.look(seen_record)], [reducer.start(states.v[0])])
    want = oracle.conditional_trace(
        states.v[1:], states.a[1:] != 0, **OWN, scale=2.0, amplitude=1.0
    )
    np.testing.assert_allclose(got[1:], want, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "name, message", [("u", "no 'u'; it has v, a"), ("v.x", "no 'v.x'; it has no fields")]
)
def test_an_unknown_field(seen, name, message):
    reducer = reducers.PassThrough()
    for make in (monitors.state_monitor, monitors.multi_state_monitor, monitors.difference_monitor):
        with pytest.raises(ValueError, match=message):
            make(reducer, name).look(seen[1])
