"""The reverse scan gives the gradients of autodiff and of the NumPy oracle, for every neuron."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import unroll
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.learning.bptt import BPTT
from orbit_snn.networks import Network
from orbit_snn.types import NetworkState, Trajectory
from tests.conformance import zoo
from tests.conformance.zoo import Hidden, Problem
from tests.oracles import networks as oracle

BASIC = ("flat", "recurrent-bias", "deep-feedforward", "deep")
REST = tuple(name for name in zoo.ARCHITECTURES if name not in BASIC)
CASES = [(row, architecture) for row in zoo.EVERY_NEURON for architecture in BASIC]
CASES += [(row, architecture) for row in ("lif", "alif", *zoo.HARD) for architecture in REST]
COMPILED = [
    ("alif-refractory", "recurrent-bias", 4, False),
    ("mixed-trained", "deep", None, True),
    ("lif-boxcar", "flat-two-readouts", None, True),
    ("alif-refractory", "sparse-deep", 4, True),
]


def bptt(p: Problem) -> dict[str, np.ndarray]:
    return zoo.by_name(p, zoo.reverse_scan(p).gradients)


def assert_close(got: Any, want: Any) -> None:
    """Two structures of tensors are the same but for rounding."""
    tf.nest.assert_same_structure(got, want)
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def assert_gradients(got: Sequence[tf.Tensor], want: Sequence[tf.Tensor]) -> None:
    """The same as `zoo.assert_equal`, for lists."""
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max())


def assert_alive(p: Problem, done: Trajectory, gradients: dict[str, np.ndarray]) -> None:
    """Spikes in every layer, not everywhere, and a gradient to everything that is trained.

    Input weights have no other path to the loss than the surrogate, so psi is positive somewhere.
    """
    for cell, own in zip(p.network.cells, done.cells, strict=True):
        if cell.neuron.spiking:
            assert set(np.unique(own.outputs)) == {0.0, 1.0}
        assert 0.02 < np.abs(own.outputs).mean()
    dead = [name for name, gradient in gradients.items() if not np.any(gradient)]
    assert not dead


def assert_forward(p: Problem, got: Trajectory) -> None:
    """States and outputs of the oracle, at every step."""
    want = oracle.run(p.reference, p.weights, p.xs.numpy())
    cells = {f"h{i}": cell for i, cell in enumerate(got.cells)} | got.readouts
    emitted = want.spikes | want.outputs
    for name, cell in cells.items():
        np.testing.assert_allclose(cell.outputs, emitted[name].value, rtol=1e-11, atol=1e-13)
        for variable, history in zoo.named_states(cell.history).items():
            value = want.states[name][variable].value
            np.testing.assert_allclose(history[1:], value, rtol=1e-11, atol=1e-13)


@pytest.mark.every_value
@pytest.mark.parametrize(("row", "architecture"), CASES)
def test_reverse_scan(row: str, architecture: str) -> None:
    """Loss, states and gradients: ours, TensorFlow's and the oracle's."""
    p = zoo.problem(row, architecture)
    done = p.network.unroll(p.xs)
    assert_forward(p, done)
    update = zoo.reverse_scan(p)
    got = zoo.by_name(p, update.gradients)
    loss, tape = zoo.autodiff(p)
    want_loss, want = zoo.reference(p)
    np.testing.assert_allclose([update.loss, loss], want_loss, rtol=1e-12)
    zoo.assert_equal(got, zoo.by_name(p, tape))
    zoo.assert_equal(got, want)
    assert_alive(p, done, got)


@pytest.mark.parametrize("mode", ["mean", "max", "last", "per_step"])
@pytest.mark.parametrize("reduction", ["sample", "batch"])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_loss(mode: str, reduction: str, seed: int) -> None:
    """Every readout mode and both rate penalties, other weights and another length."""
    p = zoo.problem(
        "mixed-trained", "deep", seed=seed, steps=11, size=2, mode=mode, reduction=reduction
    )
    got = bptt(p)
    zoo.assert_equal(got, zoo.by_name(p, zoo.autodiff(p)[1]))
    zoo.assert_equal(got, zoo.reference(p)[1])


@pytest.mark.parametrize("row", ["lif", "leaky-tanh", *zoo.HARD])
def test_single_step_and_sample(row: str) -> None:
    """T = 1 and B = 1."""
    p = zoo.problem(row, "deep", steps=1, size=1, seed=3)
    got = bptt(p)
    zoo.assert_equal(got, zoo.by_name(p, zoo.autodiff(p)[1]))
    zoo.assert_equal(got, zoo.reference(p)[1])


@pytest.mark.parametrize("every", [1, 2, 3, 4, 9, 20])
@pytest.mark.parametrize("row", ["alif", "leaky-tanh", "mixed-trained"])
def test_checkpoints(row: str, every: int) -> None:
    """Recomputation changes nothing, whether C divides T = 9 or not, or is T or more."""
    plain = zoo.problem(row, "deep")
    p = zoo.problem(row, "deep", checkpoint_every=every)
    zoo.assert_equal(bptt(p), bptt(plain), 1e-13)
    got, want = p.network.unroll(p.xs), plain.network.unroll(plain.xs)
    kept = [cell.history is None for cell in (*got.cells, *got.readouts.values())]
    assert all(kept) if every < p.steps else not any(kept)
    for a, b in zip(got.cells, want.cells, strict=True):
        assert_close(a.outputs, b.outputs)
        if every < p.steps:
            kept = tf.nest.map_structure(lambda leaf: leaf[:-1:every], b.history)
            assert_close(a.checkpoints, kept)
    assert_close(got.final, want.final)


@pytest.mark.parametrize(("row", "architecture", "every", "xla"), COMPILED)
def test_compiled(row: str, architecture: str, every: int | None, xla: bool) -> None:
    """The graph, with XLA and without, gives what eager execution gives."""
    p = zoo.problem(row, architecture, checkpoint_every=every)
    update = tf.function(lambda: zoo.reverse_scan(p), jit_compile=xla, autograph=False)()
    plain = zoo.problem(row, architecture)
    want = zoo.reverse_scan(plain)
    zoo.assert_equal(zoo.by_name(p, update.gradients), zoo.by_name(plain, want.gradients))
    np.testing.assert_allclose(update.loss, want.loss, rtol=1e-12)
    assert_close(update.state, want.state)


@pytest.mark.parametrize("split", [1, 4, 8])
@pytest.mark.parametrize("row", ["lif", "mixed", "leaky-tanh", *zoo.HARD])
def test_carried_state(row: str, split: int) -> None:
    """Two calls with the state handed on are one call."""
    p = zoo.problem(row, "deep")
    whole = p.network.unroll(p.xs)
    first = p.network.unroll(p.xs[:split])
    second = p.network.unroll(p.xs[split:], first.final)
    joined = zoo.joined([first, second])
    assert_close(all_outputs(joined), all_outputs(whole))
    assert_close(joined.final, whole.final)


def all_outputs(trajectory: Trajectory) -> list[tf.Tensor]:
    return [c.outputs for c in (*trajectory.cells, *trajectory.readouts.values())]


def random_like(state: Any, rng: np.random.Generator) -> Any:
    """A state that no sequence starts from by default; refractory counters are 0, 1 or 2."""
    if not hasattr(state, "_fields"):
        return tuple(random_like(part, rng) for part in state)
    draws = {
        name: rng.integers(3, size=value.shape)
        if name == "refractory"
        else rng.normal(size=value.shape)
        for name, value in state._asdict().items()
        if not isinstance(value, tuple)
    }
    return state._replace(**{name: tf.constant(draw, tf.float64) for name, draw in draws.items()})


def random_state(p: Problem) -> NetworkState:
    rng = np.random.default_rng(5)
    cells, readouts = p.network.initial_state(p.size)
    return NetworkState(
        tuple(random_like(own, rng) for own in cells),
        {name: random_like(own, rng) for name, own in readouts.items()},
    )


@pytest.mark.parametrize("every", [None, 4])
@pytest.mark.parametrize("row", ["lif", "alif", "leaky-tanh", *zoo.HARD])
def test_given_state(row: str, every: int | None) -> None:
    """Gradients of a sequence that starts from a given state."""
    p = zoo.problem(row, "deep", checkpoint_every=every)
    state = random_state(p)
    got = BPTT().update(p.modules, p.batch, {"net": state})
    start = {f"h{i}": own for i, own in enumerate(state.cells)} | state.readouts
    initial = {
        f"{layer}.initial.{name}": value
        for layer, own in start.items()
        for name, value in zoo.named_states(own).items()
    }
    loss, want = oracle.loss_gradient(
        p.reference, p.weights | initial, p.xs.numpy(), p.reference_loss, trainable=p.weights
    )
    assert float(got.loss) == pytest.approx(loss, rel=1e-12)
    want = {n: g * p.weights[n] if zoo.is_log(n) else g for n, g in want.items()}
    zoo.assert_equal(zoo.by_name(p, got.gradients), want)


@pytest.mark.parametrize("couple", [True, False], ids=["coupled", "own memory"])
@pytest.mark.parametrize("every", [None, 4])
@pytest.mark.parametrize("row", ["lif", "alif-train-tau", "leaky-tanh", *zoo.HARD])
def test_one_cell(row: str, every: int | None, couple: bool) -> None:
    """`unroll.reverse` of one cell: weights, inputs and initial state, with and without W_rec."""
    p = zoo.problem(row, "recurrent")
    cell = p.network.cells[0]
    xs = tf.identity(p.xs)
    state = tf.nest.map_structure(tf.identity, random_state(p).cells[0])
    signal = tf.constant(np.random.default_rng(6).normal(size=(p.steps, p.size, 5)))
    with tf.GradientTape() as tape:
        tape.watch([xs, *tf.nest.flatten(state)])
        total, now = 0.0, state
        for t in range(p.steps):
            previous = cell.neuron.output(now)
            previous = previous if couple else tf.stop_gradient(previous)
            current = cell.feedforward(xs[t]) + cell.recurrent(previous)
            now = cell.neuron.step(now, current)
            total += tf.reduce_sum(signal[t] * cell.neuron.output(now))
    sources = [*cell.parameters, xs, *tf.nest.flatten(state)]
    zero = tf.UnconnectedGradients.ZERO
    want = tape.gradient(total, sources, unconnected_gradients=zero)
    done = unroll.forward(cell, xs, state, every)
    back = unroll.reverse(cell, done, signal, checkpoint_every=every, couple=couple)
    got = [*back.gradients, back.inputs, *tf.nest.flatten(back.initial)]
    assert_gradients(got, want)
    initial = tf.nest.flatten(back.initial)
    assert all(np.any(tensor) for tensor in (*back.gradients, back.inputs, initial[0]))
    assert (
        unroll.reverse(cell, done, signal, checkpoint_every=every, inputs_needed=False).inputs
        is None
    )


def test_recurrent_readout() -> None:
    """A readout may have a recurrent connection and a nonlinearity."""
    p = zoo.problem("alif", "recurrent")
    readout = zoo.make_cell(zoo.BY_NAME["leaky-tanh"], 5, Hidden(2, bias=True), tf.float64)
    network = Network(p.network.cells, {"a": readout})
    p = dataclasses.replace(p, network=network, modules=zoo.assemble(network))
    assert_gradients(zoo.reverse_scan(p).gradients, zoo.autodiff(p)[1])


def test_frozen_connection() -> None:
    """A connection that is not trained has no gradient and passes the others' on."""
    p = zoo.problem("lif", "deep-feedforward")
    below, above = p.network.cells
    fixed = Dense(4, 3, trainable=False, dtype=tf.float64)
    fixed.kernel.assign(above.feedforward.kernel)
    network = Network([below, Cell(above.neuron, fixed)], p.network.readouts)
    p = dataclasses.replace(p, network=network, modules=zoo.assemble(network))
    got = zoo.reverse_scan(p).gradients
    assert all(variable is not fixed.kernel for variable in network.parameters)
    assert_gradients(got, zoo.autodiff(p)[1])


def on(p: Problem, *parts: dict[str, tf.Tensor]) -> list[np.ndarray]:
    """Gradients on other examples, on as many replicas as there are parts."""
    rule, loss = BPTT(), p.modules.loss
    states = [zoo.initial_state(p, part["inputs"].shape[0]) for part in parts]
    passed = [rule.forward(p.modules, *each) for each in zip(parts, states, strict=True)]
    sums = {key: tf.add_n([each.sums[key] for each in passed]) for key in passed[0].sums}
    pairs = zip(parts, passed, strict=True)
    gradients = [rule.backward(p.modules, *each, loss.slopes(sums)).gradients for each in pairs]
    return [np.sum(each, axis=0) for each in zip(*gradients, strict=True)]


@pytest.mark.parametrize(
    ("row", "opposite"), [("lif", "inputs and targets"), ("mixed-trained", "targets")]
)
def test_batch_is_mean_of_samples(row: str, opposite: str) -> None:
    """Gradients that point against each other cancel in the sum, never before."""
    p = zoo.problem(row, "deep", size=2)
    x, target, label = p.batch["inputs"][:1], p.batch["target"][:1], p.batch["label"][:1]
    pairs = {
        "inputs": [x, -x if opposite == "inputs and targets" else x],
        "target": [target, -target],
        "label": [label, (label + 1) % 3],
        "mask": [p.batch["mask"][:1], p.batch["mask"][1:]],
    }
    batch = {name: tf.concat(pair, axis=0) for name, pair in pairs.items()}
    samples = [{name: pair[i] for name, pair in pairs.items()} for i in range(2)]
    both = on(p, batch)
    means = [(a + b) / 2 for a, b in zip(*(on(p, s) for s in samples), strict=True)]
    shares = on(p, *samples)
    assert all(np.any(gradient) for gradient in (means[0], means[-1]))
    for got, mean, share in zip(both, means, shares, strict=True):
        np.testing.assert_allclose(got, mean, rtol=0, atol=1e-12)
        np.testing.assert_allclose(share, mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("row", ["lif-refractory", "leaky-tanh", *zoo.HARD])
@pytest.mark.parametrize("every", [None, 4])
def test_float32(row: str, every: int | None) -> None:
    """Single precision stays single and finds the same spikes and gradients."""
    p = zoo.problem(row, "deep", dtype=tf.float32, checkpoint_every=every)
    double = zoo.problem(row, "deep")
    update = zoo.reverse_scan(p)
    tensors = [*update.gradients, *tf.nest.flatten(update.state), update.loss]
    assert {tensor.dtype for tensor in tensors} == {tf.float32}
    pairs = zip(p.network.unroll(p.xs).cells, double.network.unroll(double.xs).cells, strict=True)
    for single, exact in pairs:
        np.testing.assert_allclose(single.outputs, exact.outputs, rtol=0, atol=1e-5)
    zoo.assert_equal(zoo.by_name(p, update.gradients), bptt(double), 1e-4)


@pytest.mark.parametrize("row", ["lif", "leaky-tanh"])
def test_padding_has_no_gradient(row: str) -> None:
    """Inputs at padded steps do not matter to any gradient."""
    p = zoo.problem(row, "deep")
    padding = (1.0 - p.batch["mask"])[:, :, tf.newaxis]
    noisy = p.batch | {"inputs": p.batch["inputs"] + 7.0 * padding}
    for a, b in zip(on(p, noisy), on(p, p.batch), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())
