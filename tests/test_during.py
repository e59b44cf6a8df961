"""A window of a sequence: which steps losses and decisions count, and which they do not."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.graph import (
    Accuracy,
    CrossEntropy,
    Decision,
    During,
    FiringRate,
    GraphError,
    IdxType,
    InputNode,
    Mean,
    NetworkNode,
    assemble_for_training,
)
from orbit_snn.learning import BPTT, TBPTT
from orbit_snn.learning.base import window_of
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator

STEPS, WINDOW = 12, slice(8, 12)
DRAW = np.random.default_rng(0)
SCORES = DRAW.normal(size=(3, STEPS, 2)).astype(np.float32)
LABELS = np.array([0, 1, 1])
# The whole window, one with a gap, and none at all, which does not count.
GO = np.zeros((3, STEPS), bool)
GO[0, WINDOW] = GO[1, [2, 5, 11]] = True


def network_node():
    hidden = Cell(LIF(6, threshold=0.3), Dense(4, 6, seed=1), Dense(6, 6, autapses=False, seed=2))
    readout = Cell(LeakyIntegrator(2), Dense(6, 2, seed=3))
    return NetworkNode("network", InputNode("inputs"), Network([hidden], readout))


def values_of(losses, batch):
    modules, info = assemble_for_training(next(iter(losses.values())), losses)
    assert set(info["inputs"]) | set(info["targets"]) == batch.keys()
    features = {name: tf.constant(x) for name, x in batch.items()}
    run = modules.model.run(features)
    sums = {key: x.numpy() for key, x in modules.evaluator.sums(run, features).items()}
    found = modules.evaluator.results(sums)
    return {name: found[name] for name in losses}


def log_probability(scores, label):
    return scores[..., label] - np.log(np.exp(scores).sum(axis=-1))


def test_losses_and_decisions_count_the_steps_of_the_window():
    scores = InputNode("scores", index=IdxType.SEQ_STEP)
    during = During("during", scores, "go", db_name="label")
    decision = Decision("decision", during, "mean", db_name="label")
    last = Decision("last", during, "last", db_name="label")
    losses = {
        "steps": CrossEntropy.of_node(during),
        "right": Accuracy.of_node(during),
        "mean": CrossEntropy.of_node(decision),
        "last": CrossEntropy.of_node(last),
        "all": Mean(scores.pred),
    }
    found = values_of(losses, {"scores": SCORES, "go": GO, "label": LABELS})
    counted = [(SCORES[b][GO[b]].astype(np.float64), LABELS[b]) for b in (0, 1)]
    want = {
        "steps": np.mean([-log_probability(s, label).mean() for s, label in counted]),
        "right": np.mean([(s.argmax(axis=-1) == label).mean() for s, label in counted]),
        "mean": np.mean([-log_probability(s.mean(axis=0), label) for s, label in counted]),
        "last": np.mean([-log_probability(s[-1], label) for s, label in counted]),
        "all": SCORES.mean(),
    }
    assert found == pytest.approx(want, rel=1e-5)


def test_the_rest_of_the_network_is_of_all_steps():
    net = network_node()
    during = During("during", net.output, "go", db_name="label")
    assert during.mask.db_name == "go" and during.index is IdxType.SEQ_STEP
    assert net.mask is None and net.cell0.mask is None
    losses = {"ce": CrossEntropy.of_node(during), "rate": FiringRate(net.cell0, 0.0)}
    inputs = DRAW.normal(size=(3, STEPS, 4)).astype(np.float32)
    found = values_of(losses, {"inputs": inputs, "go": GO, "label": LABELS})
    spikes = net.module.unroll(tf.transpose(inputs, [1, 0, 2]), net.initial_state(3)).cells[0]
    rates = spikes.outputs.numpy().mean(axis=0)
    assert rates.any()
    assert found["rate"] == pytest.approx(0.5 * np.square(rates).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("window", ["go", InputNode("go")], ids=["name", "node"])
def test_windows_of_a_rule_cut_it(window):
    net = network_node()
    during = During("during", net.output, window, db_name="label")
    decision = Decision("decision", during, "mean", db_name="label")
    loss = CrossEntropy.of_node(during)
    modules, _ = assemble_for_training(loss, {"accuracy": Accuracy.of_node(decision)})
    assert modules.temporal == {"inputs", "go", "label"}
    inputs = 2.0 * DRAW.normal(size=(3, STEPS, 4)).astype(np.float32)
    go = np.zeros((3, STEPS), bool)
    go[:, WINDOW] = True
    batch = {"inputs": tf.constant(inputs), "go": tf.constant(go), "label": tf.constant(LABELS)}
    whole = BPTT().update(modules, batch, modules.model.initial_state(3))
    rule = TBPTT(4, "window")
    state, norms, losses = rule.initial_state(modules, 3), [], []
    for start, stop in rule.windows(STEPS):
        done = rule.update(modules, window_of(batch, modules.temporal, start, stop - start), state)
        norms.append(float(tf.linalg.global_norm(done.gradients)))
        losses.append(float(done.loss))
        state = done.state
    assert norms[:2] == losses[:2] == [0.0, 0.0] and norms[2] > 0.0
    assert losses[2] == pytest.approx(float(whole.loss), rel=1e-5)


def test_padded_sequences_are_refused():
    scores = InputNode("scores", index=IdxType.SEQ_STEP, mask="mask")
    with pytest.raises(GraphError, match="`answer` got `scores`.*mask `mask`") as caught:
        During("answer", scores, "go")
    assert "\n" not in str(caught.value)
