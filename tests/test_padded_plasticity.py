"""Steps that a mask marks as padding change no weight."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.graph import InputNode, NetworkNode
from orbit_snn.learning.plasticity import (
    MSTDP,
    MSTDPET,
    STDP,
    KernelSTDP,
    LinearHomeostasis,
    Plasticity,
    TripletSTDP,
)
from orbit_snn.networks import Network
from tests.plastic_units import F, cell

T, REAL, B = 16, 10, 3
RULES = {
    "stdp": STDP(0.1, -0.1),
    "triplet": TripletSTDP(0.1, 0.1, -0.1),
    "mstdp": MSTDP(0.1, -0.1),
    "mstdpet": MSTDPET(0.1, -0.1),
    "kernel": KernelSTDP(),
    "kernel-always": KernelSTDP(at_spikes=False),
    "homeostasis": LinearHomeostasis(0.1, 300.0),
}


def weights(rule, real, steps, recurrent=True, **options):
    """After a sequence of which the steps `real` are, or all where `real` is None."""
    rng = np.random.default_rng(0)
    batch = {"x": (rng.random((B, T, F)) < 0.4).astype(float), "reward": rng.normal(size=(B, T, 1))}
    batch = {key: tf.constant(value[:, steps]) for key, value in batch.items()}
    mask = None if real is None else InputNode("mask", index=graph.IdxType.SEQ_STEP)
    if real is not None:
        marks = np.isin(np.arange(T)[steps], np.arange(T)[real])
        batch["mask"] = tf.constant(np.tile(marks, (B, 1)))
    given = InputNode("reward", index=graph.IdxType.SEQ_STEP)
    net = NetworkNode("net", InputNode("x", mask=mask), Network([cell(recurrent)]))
    loss = graph.FiringRate(net.cells[0], 10.0)
    metrics = {"loss": loss, "reward": graph.MeanSq.of_node(given)}
    modules = graph.assemble_for_training(loss, metrics)[0]
    own = Plasticity(rule, reward="reward", **options)
    spec = {key: tf.TensorSpec(x.shape[1:], x.dtype) for key, x in batch.items()}
    own.prepare(modules, spec, batch["x"].shape[1])
    done = own.update(modules, batch, own.initial_state(modules, B))
    return np.concatenate([x.numpy().ravel() for x in done.assigned])


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_reduction": tf.reduce_max}, {"step_reduction": "max"}],
    ids=["linear", "batch-max", "step-max"],
)
def test_a_padded_sequence_is_as_the_shorter_one(rule, options):
    short, whole = slice(0, REAL), slice(0, T)
    want = weights(rule, None, short, **options)
    np.testing.assert_allclose(weights(rule, short, whole, **options), want, rtol=0, atol=1e-13)
    if not options:
        assert np.abs(weights(rule, None, whole) - want).max() > 1e-4


@pytest.mark.parametrize("rule", [r for k, r in RULES.items() if k != "homeostasis"])
def test_padding_before_a_sequence_leaves_no_traces(rule):
    """Of neurons that remember nothing themselves."""
    late, whole = slice(T - REAL, T), slice(0, T)
    want = weights(rule, None, late, recurrent=False)
    got = weights(rule, late, whole, recurrent=False)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)
    assert np.abs(weights(rule, None, whole, recurrent=False) - want).max() > 1e-4
