"""e-prop is the gradient with recurrent spikes stopped, in every mode and with every feedback."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.learning import BPTT, Eprop, Feedback
from orbit_snn.learning.base import window_of
from orbit_snn.learning.eprop import EpropState
from tests.conformance import eprop, zoo

SOME = ("lif", "alif", "alif-refractory", "alif-per-neuron", "mixed", *zoo.HARD)
RANDOM = Feedback("random", initializer="standard_normal", seed=5)


@pytest.mark.parametrize(
    ("row", "architecture"),
    [
        *[(row, "recurrent-bias") for row in zoo.EVERY_NEURON],
        *[(row, "deep") for row in SOME],
        *[(row, kind) for row in zoo.HARD for kind in ("autapses", "sparse-deep", "one-to-one")],
    ],
)
def test_factored(row: str, architecture: str) -> None:
    """The gradient of autodiff with stops, errors passing down through the layers above."""
    p = zoo.problem(row, architecture)
    done = eprop.update(p, eprop.prepared(p))
    loss, want = eprop.autodiff(p)
    np.testing.assert_allclose(done.loss, loss, rtol=1e-12)
    zoo.assert_equal(zoo.by_name(p, done.gradients), want)


@pytest.mark.parametrize("mode", ["mean", "max", "last", "per_step"])
@pytest.mark.parametrize("row", SOME)
def test_random_feedback(row: str, mode: str) -> None:
    """The readout's product has random weights backwards; its own weights get their gradient."""
    p = zoo.problem(row, "recurrent-bias", mode=mode)
    rule = eprop.prepared(p, feedback=RANDOM)
    got = zoo.by_name(p, eprop.update(p, rule).gradients)
    zoo.assert_equal(got, eprop.autodiff(p, eprop.matrices_of(p, rule))[1])
    symmetric = eprop.gradients(p)
    for name, value in symmetric.items():
        if name.startswith(("a.", "b.")):
            np.testing.assert_array_equal(got[name], value)
        else:
            assert np.abs(got[name] - value).max() > 1e-3 * np.abs(value).max()


@pytest.mark.parametrize(
    ("row", "architecture"),
    [
        *[(row, "recurrent") for row in zoo.EVERY_NEURON],
        *[(row, "recurrent-bias") for row in zoo.HARD],
    ],
)
def test_chunks(row: str, architecture: str) -> None:
    """Chunks with carried traces, a tail, masks and rates of the batch are the whole sequence."""
    p = zoo.problem(row, architecture, mode="per_step", reduction="batch")
    assert_same(p, chunk=2)


@pytest.mark.parametrize("chunk", [1, 4, 8, 9, 12])
@pytest.mark.parametrize("row", SOME)
def test_every_chunk(row: str, chunk: int) -> None:
    p = zoo.problem(row, "autapses", mode="per_step")
    assert_same(p, chunk=chunk, feedback=RANDOM)


@pytest.mark.parametrize("row", SOME)
def test_chunks_of_sparse_connections(row: str) -> None:
    assert_same(zoo.problem(row, "sparse", mode="per_step"), chunk=4)


def test_stepwise() -> None:
    """Chunks of one step, which `test_every_chunk` has for all neurons."""
    p = zoo.problem("alif", "recurrent-bias", mode="per_step")
    want, got = (eprop.gradients(p, **each) for each in ({}, {"mode": "stepwise"}))
    zoo.assert_equal(got, want)


@pytest.mark.parametrize("row", ["lif", "mixed-trained"])
def test_layers_that_do_not_pass_errors_down(row: str) -> None:
    """Random feedback teaches every cell; each learns as if it were the only one."""
    p = zoo.problem(row, "deep", mode="per_step")
    arguments = {"layer_gradient": "stop", "feedback": RANDOM}
    assert_same(p, chunk=4, **arguments)
    rule = eprop.prepared(p, **arguments)
    got = zoo.by_name(p, eprop.update(p, rule).gradients)
    want = eprop.autodiff(p, eprop.matrices_of(p, rule), stop_layers=True)[1]
    zoo.assert_equal(
        {name: x for name, x in got.items() if not name.startswith("h0")},
        {name: x for name, x in want.items() if not name.startswith("h0")},
    )
    assert np.any(got["h0.input"])


def assert_same(p: zoo.Problem, chunk: int, **arguments) -> None:
    """Gradients, loss and reports of chunks are those of the whole sequence."""
    want = eprop.update(p, eprop.prepared(p, **arguments))
    got = eprop.update(p, eprop.prepared(p, mode="chunked", chunk=chunk, **arguments))
    zoo.assert_equal(zoo.by_name(p, got.gradients), zoo.by_name(p, want.gradients))
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-11)
    assert got.reports.keys() == want.reports.keys()
    for key, value in want.reports.items():
        np.testing.assert_allclose(got.reports[key], value, rtol=1e-9, err_msg=key)


@pytest.mark.parametrize("mode", ["mean", "per_step"])
@pytest.mark.parametrize("row", ["lif", "alif", "lif-refractory", "alif-per-neuron", "mixed"])
def test_without_recurrence_it_is_bptt(row: str, mode: str) -> None:
    """W_rec = 0, symmetric feedback, reset detached: every gradient but that of W_rec itself."""
    p = zoo.problem(row, "recurrent-bias", mode=mode)
    p.variables["h0.recurrent"].assign(tf.zeros_like(p.variables["h0.recurrent"]))
    got = eprop.gradients(p)
    want = zoo.by_name(p, BPTT().update(p.modules, p.batch, zoo.initial_state(p)).gradients)
    zoo.assert_equal(got, want)


@pytest.mark.parametrize(
    ("row", "mode"), [("lif", "factored"), ("mixed-trained", "factored"), ("alif", "chunked")]
)
def test_batch_is_mean_of_samples(row: str, mode: str) -> None:
    """Two opposite samples: errors are multiplied by traces before the batch is summed."""
    p = zoo.problem(row, "recurrent-bias", size=2, mode="per_step")
    rule = eprop.prepared(p, mode=mode, chunk=4, feedback=RANDOM)
    first = {name: x[:1] for name, x in p.batch.items()}
    second = first | {"inputs": -first["inputs"], "target": -first["target"]}
    both = {name: tf.concat([x, second[name]], axis=0) for name, x in first.items()}
    got, *alone = (
        zoo.by_name(p, eprop.update(p, rule, batch).gradients) for batch in (both, first, second)
    )
    want = {name: (alone[0][name] + alone[1][name]) / 2 for name in got}
    zoo.assert_equal(got, want, 1e-12)


def windows(p: zoo.Problem, carry: bool) -> tuple[dict[str, np.ndarray], int]:
    """Gradients of all windows, each times its share of the steps, and how many there are."""
    rule = eprop.prepared(p, mode="chunked", chunk=3, update_every="window")
    fresh = state = rule.initial_state(p.modules, p.size)
    total: dict[str, np.ndarray] = {}
    found = rule.windows(p.steps)
    for start, stop in found:
        batch = window_of(p.batch, p.modules.temporal, start, stop - start)
        done = rule.update(p.modules, batch, state)
        state = done.state if carry else EpropState(done.state.model, fresh.traces)
        for name, gradient in zoo.by_name(p, done.gradients).items():
            total[name] = total.get(name, 0.0) + gradient * (stop - start) / p.steps
    return total, len(found)


@pytest.mark.parametrize("row", ["alif-refractory", "mixed-trained"])
def test_carried_traces(row: str) -> None:
    """Four windows are one sequence where traces are carried, and are not where they are reset."""
    p = zoo.problem(row, "recurrent-bias", steps=12, mode="per_step")
    p.batch["mask"] = tf.ones_like(p.batch["mask"])
    p = without_rates(p)  # a window's rate penalty is its own
    want = eprop.gradients(p)
    carried, count = windows(p, carry=True)
    assert count == 4
    zoo.assert_equal(carried, want)
    cut, _ = windows(p, carry=False)
    for name, value in want.items():
        if name.startswith("h0"):
            assert np.abs(cut[name] - value).max() > 1e-2 * np.abs(value).max(), name


def without_rates(p: zoo.Problem) -> zoo.Problem:
    """The same problem with a loss of errors alone."""
    import dataclasses

    from orbit_snn import graph

    net = graph.NetworkNode("net", graph.InputNode("inputs", mask="mask"), p.network)
    net.a.db_name = "target"
    loss = graph.SquaredError.of_node(net.a)
    if "b" in p.network.readouts:
        decision = graph.Decision("decision", net.b, "per_step", db_name="label")
        loss += graph.CrossEntropy.of_node(decision)
    modules = graph.assemble_for_training(loss, {"loss": loss})[0]
    return dataclasses.replace(p, modules=modules)


@pytest.mark.parametrize(
    ("row", "arguments"), [("mixed-trained", {}), (zoo.HARD[1], {"mode": "chunked", "chunk": 4})]
)
def test_xla(row: str, arguments: dict) -> None:
    """Compiled or not, the same numbers."""
    p = zoo.problem(row, "recurrent-bias", mode="per_step", reduction="batch")
    rule = eprop.prepared(p, feedback=RANDOM, **arguments)
    compiled = tf.function(
        lambda batch: eprop.update(p, rule, batch).gradients, jit_compile=True, autograph=False
    )
    got = zoo.by_name(p, compiled(p.batch))
    zoo.assert_equal(got, zoo.by_name(p, eprop.update(p, rule).gradients))


@pytest.mark.parametrize("architecture", ["recurrent-bias", "sparse"])
def test_adaptive_feedback_gets_the_readouts_gradient(architecture: str) -> None:
    p = zoo.problem("alif", architecture, mode="per_step")
    for arguments in ({}, {"mode": "chunked", "chunk": 4}):
        rule = eprop.prepared(p, feedback=Feedback("adaptive", decay=0.1), **arguments)
        found = eprop.update(p, rule).gradients
        model, own = found[: len(p.network.parameters)], found[len(p.network.parameters) :]
        matrices = rule.trained(p.modules)[len(p.network.parameters) :]
        assert len(matrices) == len(own) == 2
        named = zoo.by_name(p, model)
        for matrix, gradient in zip(matrices, own, strict=True):
            readout = "a" if matrix.shape[1] == zoo.READOUT_UNITS["a"] else "b"
            want = named[f"{readout}.input"]
            if architecture == "sparse":
                want = zoo.spread(want, p.sources[f"{readout}.input"], len(matrix.numpy()))
            np.testing.assert_array_equal(gradient, want)
        shrinking = {v.ref() for v, factor in rule.decays(p.modules) if factor == 0.9}
        kernels = [cell.feedforward.kernel for cell in p.network.readouts.values()]
        assert shrinking == {v.ref() for v in (*matrices, *kernels)}


def test_seeds_of_feedback() -> None:
    """The rule's seed, unless the feedback has its own; nothing else that draws changes it."""
    p = zoo.problem("lif", "recurrent-bias")

    def first(seed: int, own: int | None) -> np.ndarray:
        tf.random.normal([3])
        rule = eprop.prepared(p, feedback=Feedback("random", seed=own), seed=seed)
        return eprop.matrices_of(p, rule)["a"]

    np.testing.assert_array_equal(first(1, None), first(1, None))
    np.testing.assert_array_equal(first(1, 7), first(2, 7))
    assert np.abs(first(1, None) - first(2, None)).max() > 0.1
    assert Eprop().feedback is None
