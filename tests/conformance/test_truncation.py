"""TBPTT(K) is autodiff with the state stopped before every multiple of K, and nowhere else."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.graph import InputNode, NetworkNode, SquaredError, assemble_for_training
from orbit_snn.graph.module import GraphState
from orbit_snn.learning import BPTT, TBPTT
from orbit_snn.learning.base import Update, window_of
from orbit_snn.types import Batch
from tests.conformance import zoo
from tests.conformance.zoo import Problem

STEPS = 10
CUTS = (1, 3, STEPS, STEPS + 5)
SOME = ("lif", "alif", "lif-refractory", "leaky-tanh", "mixed", *zoo.HARD)
CASES = {(row, "deep", 3) for row in zoo.EVERY_NEURON}
CASES |= {(row, "recurrent-bias", k) for row in SOME for k in CUTS}
CASES |= {(row, "deep", k) for row in zoo.HARD for k in CUTS}
CASES |= {(row, "flat", 4) for row in SOME}
CASES |= {(row, "sparse-deep", 3) for row in SOME}


def problem(row: str, architecture: str, **kwargs) -> Problem:
    return zoo.problem(row, architecture, steps=STEPS, **kwargs)


def update(p: Problem, rule: BPTT | TBPTT) -> Update:
    return rule.update(p.modules, p.batch, zoo.initial_state(p))


def gradients(p: Problem, rule: BPTT | TBPTT) -> dict[str, np.ndarray]:
    return zoo.by_name(p, update(p, rule).gradients)


@pytest.mark.parametrize(("row", "architecture", "truncation"), sorted(CASES))
def test_truncated_gradient(row: str, architecture: str, truncation: int) -> None:
    """The loss of the whole sequence; gradients of autodiff in windows and of the oracle."""
    p = problem(row, architecture)
    result = update(p, TBPTT(truncation))
    got = zoo.by_name(p, result.gradients)
    loss, tape = zoo.autodiff(p, truncation)
    want_loss, want = zoo.reference(p, truncation)
    np.testing.assert_allclose([result.loss, loss], want_loss, rtol=1e-12)
    zoo.assert_equal(got, zoo.by_name(p, tape))
    zoo.assert_equal(got, want)


@pytest.mark.parametrize("architecture", ["flat", "deep"])
@pytest.mark.parametrize("row", zoo.EVERY_NEURON)
def test_whole_sequence_is_bptt(row: str, architecture: str) -> None:
    """K = T gives BPTT, exactly."""
    p = zoo.problem(row, architecture, steps=6)
    got, want = gradients(p, TBPTT(6)), gradients(p, BPTT())
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.parametrize("row", ["alif-straight_through", "leaky-tanh", *zoo.HARD])
def test_cut_changes_the_gradient(row: str) -> None:
    """A cut takes something away from everything with a memory, and leaves something."""
    p = problem(row, "deep")
    full, cut = gradients(p, BPTT()), gradients(p, TBPTT(3))
    for name, value in full.items():
        assert np.any(cut[name])
        if not name.endswith("a.bias"):
            assert np.abs(value - cut[name]).max() > 1e-6 * np.abs(value).max(), name


@pytest.mark.parametrize(("truncation", "every"), [(1, 3), (3, 1), (3, 4), (4, 3), (4, 4), (3, 10)])
@pytest.mark.parametrize("row", ["lif", "mixed-trained"])
def test_checkpoints(row: str, truncation: int, every: int) -> None:
    """Cuts count from the start of the sequence, not of a block of recomputation."""
    p = problem(row, "deep", checkpoint_every=every)
    rule = TBPTT(truncation)
    zoo.assert_equal(gradients(p, rule), gradients(problem(row, "deep"), rule), 1e-13)


def test_compiled() -> None:
    """With XLA; blocks of recomputation that are no multiple of K."""
    p = problem("mixed-trained", "recurrent-bias", checkpoint_every=4)
    step = tf.function(lambda: update(p, TBPTT(3)), jit_compile=True, autograph=False)
    want = gradients(problem("mixed-trained", "recurrent-bias"), TBPTT(3))
    zoo.assert_equal(zoo.by_name(p, step().gradients), want)


@pytest.mark.parametrize("steps", [1, 7, 9, 10])
@pytest.mark.parametrize("truncation", [1, 3, 9, 12])
def test_windows(steps: int, truncation: int) -> None:
    """ceil(T / K) windows that cover the sequence, tail and all; one for update_every=sequence."""
    windows = TBPTT(truncation, update_every="window").windows(steps)
    assert len(windows) == math.ceil(steps / truncation)
    covered = [t for window in windows for t in range(window.start, window.stop)]
    assert covered == list(range(steps))
    assert all(window.stop - window.start == truncation for window in windows[:-1])
    assert TBPTT(truncation).windows(steps) == BPTT().windows(steps) == ((0, steps),)


def windows_of(p: Problem, rule: TBPTT) -> list[tuple[Batch, GraphState, Update]]:
    """Every window's batch, the state before it, and what the rule makes of it."""
    state, result = zoo.initial_state(p), []
    temporal = p.modules.temporal
    assert {"inputs", "target"} <= temporal
    for start, stop in rule.windows(p.steps):
        batch = window_of(p.batch, temporal, start, stop - start)
        done = rule.update(p.modules, batch, state)
        result.append((batch, state, done))
        state = done.state
    return result


@pytest.mark.parametrize("row", SOME)
def test_window_updates(row: str) -> None:
    """Each window is a sequence of its own that starts from the state of the last one."""
    p = problem(row, "deep", size=7)
    found = windows_of(p, TBPTT(3, update_every="window"))
    assert [batch["inputs"].shape[1] for batch, _, _ in found] == [3, 3, 3, 1]
    for batch, state, done in found:
        with tf.GradientTape() as tape:
            xs = tf.transpose(batch["inputs"], [1, 0, 2])
            loss = zoo.loss_of(p, p.network.unroll(xs, state["net"]), batch)
        want = tape.gradient(loss, p.network.parameters)
        zoo.assert_equal(zoo.by_name(p, done.gradients), zoo.by_name(p, want))
    tail = zoo.by_name(p, found[-1][2].gradients)
    assert all(np.any(tail[name]) for name in ("h0.input", "a.input", "b.input", "b.tau"))
    whole = p.network.unroll(p.xs).final
    for a, b in zip(
        tf.nest.flatten(found[-1][2].state["net"]), tf.nest.flatten(whole), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("row", SOME)
def test_windows_add_up(row: str) -> None:
    """With a loss that is a sum over steps, the windows' gradients add up to the sequence's."""
    p = problem(row, "deep")
    full = p.batch | {"mask": tf.ones_like(p.batch["mask"])}
    net = NetworkNode("net", InputNode("inputs"), p.network)
    net.a.db_name = "target"
    loss = SquaredError.of_node(net.a)
    modules, _ = assemble_for_training(loss, [loss])
    p = dataclasses.replace(p, batch=full, modules=modules)
    found = windows_of(p, TBPTT(3, update_every="window"))
    shares = [batch["inputs"].shape[1] / STEPS for batch, _, _ in found]
    parts = [zoo.by_name(p, done.gradients) for _, _, done in found]
    want = gradients(p, TBPTT(3))
    total = {
        name: sum(s * part[name] for s, part in zip(shares, parts, strict=True)) for name in want
    }
    zoo.assert_equal(total, want, 1e-11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"truncation": 0}, "truncation is 0; expected a whole number of steps"),
        ({"update_every": "step"}, "update_every is 'step'; expected sequence or window"),
    ],
)
def test_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TBPTT(**arguments)
