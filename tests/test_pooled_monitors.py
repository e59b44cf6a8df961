"""Equal monitors of one cell are folded once; those of two cells never are (defect 1)."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.graph import InputNode, NetworkNode
from orbit_snn.learning.plasticity import MSTDP, STDP, LinearHomeostasis, Plasticity
from orbit_snn.networks import Network
from tests.conformance.plasticity import Exact
from tests.oracles import plasticity as oracle
from tests.oracles import plasticity_rules as rules

T, B, F, N = 20, 2, 5, 4
PAIR = {"lr_post": 0.1, "lr_pre": -0.07, "tc_post_ms": 9.0, "tc_pre_ms": 6.0}


def cell(threshold=0.3, recurrent=False, inputs=F):
    """All modules of all cells have the same names."""
    own = {"dtype": tf.float64, "name": "c"}
    onto = Dense(inputs, N, initializer="ones", gain=0.2, **own)
    back = Dense(N, N, autapses=False, seed=1, **own) if recurrent else None
    return Cell(Exact(N, threshold), onto, back, name="cell")


def model(**networks):
    """Each network has an input of its own, and a node of its name."""
    nodes = [NetworkNode(key, InputNode(f"x{key}"), net) for key, net in networks.items()]
    given = InputNode("reward", index=graph.IdxType.SEQ_STEP)
    loss = graph.FiringRate(nodes[0].cells[0], 10.0)
    metrics = {"loss": loss, "reward": graph.MeanSq.of_node(given)}
    for number, node in enumerate(nodes[1:]):
        metrics[f"other{number}"] = graph.MeanSq.of_node(node.cells[0])
    return graph.assemble_for_training(loss, metrics)[0]


def batch(**silent):
    """Spikes for every network, `x<name>`, or none; a reward of 1."""
    rng = np.random.default_rng(0)
    spikes = {f"x{key}": (rng.random((B, T, F)) < 0.3) * (not off) for key, off in silent.items()}
    found = {**spikes, "reward": np.ones((B, T, 1))}
    return {key: tf.constant(value, tf.float64) for key, value in found.items()}


def prepared(rule, modules, given):
    plasticity = Plasticity(rule, reward="reward")
    spec = {key: tf.TensorSpec(x.shape[1:], x.dtype) for key, x in given.items()}
    plasticity.prepare(modules, spec, T)
    return plasticity


def learned(rule, modules, given):
    """Changes of the weights."""
    plasticity = prepared(rule, modules, given)
    before = [p.numpy() for p in plasticity.learners.parameters]
    done = plasticity.update(modules, given, plasticity.initial_state(modules, B))
    return [x.numpy() - old for x, old in zip(done.assigned, before, strict=False)]


@pytest.mark.parametrize(
    "rule, recurrent, count",
    [
        (STDP(**PAIR), False, 2),
        ((STDP(**PAIR), MSTDP(**PAIR)), False, 2),
        ((STDP(**PAIR), STDP(**PAIR | {"lr_post": 0.3})), False, 2),
        ((STDP(**PAIR), MSTDP(**PAIR | {"tc_pre_ms": 7.0})), False, 3),
        ((STDP(**PAIR), STDP(**PAIR, trace="nearest")), False, 4),
        ((STDP(**PAIR), LinearHomeostasis()), False, 3),
        (STDP(**PAIR), True, 3),
        ((STDP(**PAIR), LinearHomeostasis(), LinearHomeostasis(1e-3, 30.0)), True, 4),
    ],
)
def test_equal_monitors_of_a_cell_are_folded_once(rule, recurrent, count):
    given = batch(a=False)
    modules = model(a=Network([cell(recurrent=recurrent)]))
    plasticity = prepared(rule, modules, given)
    folds, _ = plasticity.learners.start(B)
    assert len(folds) == count
    done = plasticity.update(modules, given, plasticity.initial_state(modules, B))
    assert len(done.state.folds) == count


def test_monitors_of_two_cells_are_not():
    given = batch(a=False, b=False)
    modules = model(a=Network([cell(), cell(inputs=N)]), b=Network([cell()]))
    folds, _ = prepared(STDP(**PAIR), modules, given).learners.start(B)
    assert len(folds) == 6


def test_sharing_changes_nothing():
    given = batch(a=False)
    both = learned((STDP(**PAIR), MSTDP(**PAIR)), model(a=Network([cell()])), given)
    apart = [learned(rule(**PAIR), model(a=Network([cell()])), given)[0] for rule in (STDP, MSTDP)]
    np.testing.assert_allclose(both[0], sum(apart), rtol=0, atol=1e-14)
    assert np.abs(both[0]).max() > 0.01


def test_a_silent_cell_after_one_that_spikes():
    given = batch(a=False)
    net = Network([cell(), cell(threshold=9.0, inputs=N)])
    first, second = learned(STDP(**PAIR), model(a=net), given)
    assert np.abs(first).max() > 0.01
    np.testing.assert_array_equal(second, np.zeros([N, N]))


@pytest.mark.parametrize("silent", ["a", "b"])
def test_a_silent_network_beside_one_that_spikes(silent):
    nets = {key: Network([cell()], name="net") for key in ("a", "b")}
    given = batch(a=silent == "a", b=silent == "b")
    changes = dict(zip("ab", learned(STDP(**PAIR), model(**nets), given), strict=True))
    np.testing.assert_array_equal(changes.pop(silent), np.zeros([F, N]))
    (name, change), = changes.items()  # fmt: skip
    pre = given[f"x{name}"].numpy().swapaxes(0, 1)
    post = nets[name].unroll(tf.constant(pre)).cells[0].outputs.numpy()
    constants = {key.removesuffix("_ms"): value for key, value in PAIR.items()}
    terms = rules.pair_stdp(pre, post, **constants)
    want = oracle.run([terms], np.zeros([F, N]), apply_every=T)[-1]
    np.testing.assert_allclose(change, want, rtol=0, atol=1e-13)
    assert np.abs(change).max() > 0.01
