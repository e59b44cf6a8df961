"""Gradients of assembled graphs: reverse passes inside what TensorFlow differentiates."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.graph import IdxType, InputNode, ModelNode, NetworkNode, assemble_for_training
from orbit_snn.learning import BPTT, TBPTT
from orbit_snn.networks import Network
from orbit_snn.neurons import ALIF, LIF, LeakyIntegrator
from orbit_snn.surrogate import Surrogate
from tests.conformance import zoo

SIZE, STEPS, F, N, K = 4, 7, 3, 5, 2
RNG = np.random.default_rng(0)
BATCH = {
    "inputs": RNG.normal(size=(SIZE, STEPS, F)) + 0.5,
    "still": RNG.normal(size=(SIZE, F)),
    "target": RNG.normal(size=(SIZE, STEPS, K)),
    "label": RNG.integers(K, size=SIZE),
    "mask": np.arange(STEPS) < np.array([7, 5, 1, 3])[:, np.newaxis],
}
BATCH = {name: tf.constant(value) for name, value in BATCH.items()}


class Affine(tf.Module):
    """A trained module outside of any network."""

    def __init__(self, inputs, outputs, shift=1.0):
        super().__init__()
        draw = np.random.default_rng(inputs + 10 * outputs)
        self.weight = tf.Variable(draw.normal(size=(inputs, outputs)), name="weight")
        self.shift = tf.Variable(np.full(outputs, shift), name="shift")

    def __call__(self, x):
        return tf.tensordot(x, self.weight, 1) + self.shift


def dense(inputs, units, seed, **options):
    return Dense(inputs, units, gain=1.0, seed=seed, dtype=tf.float64, **options)


def spiking(inputs, neuron=LIF, readouts=(), seed=0, **options):
    cell = Cell(
        neuron(N, surrogate=Surrogate("sigmoid"), train_tau=True, dtype=tf.float64),
        dense(inputs, N, 3 * seed, bias=True),
        dense(N, N, 3 * seed + 1, autapses=False),
    )
    cell.feedforward.bias.assign(np.full(N, 0.3))
    out = {name: Cell(LeakyIntegrator(K, dtype=tf.float64), dense(N, K, 7)) for name in readouts}
    return Network([cell], out, **options)


def chained(every=None):
    """A module, a network, a module, a network, a module: everything is trained."""
    x = InputNode("inputs", mask="mask")
    below = NetworkNode("below", ModelNode("code", x, Affine(F, 3)), spiking(3, seed=1))
    between = ModelNode("between", below.cell0, Affine(N, 4))
    above = NetworkNode("above", between, spiking(4, ALIF, ("out",), 2, checkpoint_every=every))
    head = ModelNode("head", above.out, Affine(K, K), db_name="target")
    return graph.MSE.of_node(head) ** 0.5 + 0.3 * graph.L2(below) + graph.L1(head)


def branched():
    """One network feeds two; both are judged, and so are the spikes of the first."""
    x = InputNode("inputs", mask="mask")
    root = NetworkNode("root", x, spiking(F, seed=1))
    left = NetworkNode("left", root.cell0, spiking(N, readouts=("a",), seed=2))
    right = NetworkNode("right", root.cell0, spiking(N, ALIF, ("b",), 3))
    left.a.db_name = "target"
    choice = graph.Decision("choice", right.b, "mean", db_name="label")
    rates = graph.FiringRate(root.cell0, 30.0, "batch")
    return graph.SquaredError.of_node(left.a) + graph.CrossEntropy.of_node(choice) + rates


def shared():
    """One module in two places, before and after the network, and a time axis made inside."""
    both = Affine(F, F)
    still = ModelNode("still code", InputNode("still", index=IdxType.SEQUENCES), both)
    steps = ModelNode(
        "steps", still, lambda x: tf.tile(x[:, tf.newaxis], [1, STEPS, 1]), index=IdxType.SEQ_STEP
    )
    summed = ModelNode("sum", (steps, ModelNode("code", InputNode("inputs"), both)), tf.add)
    net = NetworkNode("net", summed, spiking(F, readouts=("out",)), db_name="target")
    return graph.Std(net.out.pred - net.out.true) + graph.NMSE.of_node(net.out)


GRAPHS = {
    "chained": chained,
    "checkpointed": lambda: chained(every=3),
    "branched": branched,
    "shared": shared,
}


def assembled(name):
    loss = GRAPHS[name]()
    return assemble_for_training(loss, {"loss": loss})[0]


def autodiff(modules):
    with tf.GradientTape() as tape:
        (loss,) = modules.loss(modules.model(BATCH), BATCH)
    zero = tf.UnconnectedGradients.ZERO
    return loss, tape.gradient(loss, modules.model.parameters, unconnected_gradients=zero)


def update(modules, rule):
    return rule.update(modules, BATCH, modules.model.initial_state(SIZE))


def named(gradients):
    return {str(i): np.asarray(gradient) for i, gradient in enumerate(gradients)}


@pytest.mark.parametrize("xla", [None, False, True], ids=["eager", "graph", "xla"])
@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_are_those_of_autodiff(name, xla):
    modules = assembled(name)
    step = lambda: update(modules, BPTT())  # noqa: E731
    done = step() if xla is None else tf.function(step, jit_compile=xla, autograph=False)()
    loss, want = autodiff(modules)
    assert float(done.loss) == pytest.approx(float(loss), rel=1e-12)
    zoo.assert_equal(named(done.gradients), named(want))
    assert all(np.any(gradient) for gradient in done.gradients)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_parameter_is_there_once(name):
    modules = assembled(name)
    parameters = modules.model.parameters
    assert len({p.ref() for p in parameters}) == len(parameters)
    assert {p.ref() for p in parameters} == {v.ref() for v in modules.model.trainable_variables}


@pytest.mark.parametrize("name", GRAPHS)
def test_whole_sequence_tbptt_is_bptt(name):
    modules = assembled(name)
    got, want = update(modules, TBPTT(STEPS)), update(modules, BPTT())
    for a, b in zip(got.gradients, want.gradients, strict=True):
        np.testing.assert_array_equal(a, b)


def parts(rows):
    return {name: value[rows[0] : rows[1]] for name, value in BATCH.items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_two_replicas_give_the_gradient_of_one(name):
    """Each with its own examples; the sums of the loss are added in between."""
    modules, rule = assembled(name), BPTT()
    batches = [parts((0, 1)), parts((1, SIZE))]
    passed = [
        rule.forward(modules, batch, modules.model.initial_state(batch["label"].shape[0]))
        for batch in batches
    ]
    sums = {key: passed[0].sums[key] + passed[1].sums[key] for key in passed[0].sums}
    slopes = modules.loss.slopes(sums)
    pairs = zip(batches, passed, strict=True)
    found = [rule.backward(modules, *each, slopes).gradients for each in pairs]
    total = [a + b for a, b in zip(*found, strict=True)]
    zoo.assert_equal(named(total), named(update(modules, rule).gradients), 1e-10)


def test_cuts_act_in_every_network():
    modules = assembled("branched")
    full, cut = update(modules, BPTT()), update(modules, TBPTT(2))
    names = [p.name for p in modules.model.parameters]
    for name, a, b in zip(names, full.gradients, cut.gradients, strict=True):
        assert np.any(b) and np.abs(a - b).max() > 1e-9, name
