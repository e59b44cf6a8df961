"""Nodes, models and assembly: what a loss needs, in which order, and what is refused."""

import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.graph import (
    MAE,
    MSE,
    Accuracy,
    CrossEntropy,
    Decision,
    GraphError,
    GraphModule,
    IdxType,
    InputNode,
    ModelNode,
    MultiNode,
    NetworkNode,
    SequenceNode,
    assemble_for_training,
)
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator


def small_network(inputs=4, units=5, outputs=3, names=("output",)):
    hidden = Cell(LIF(units, threshold=0.3), Dense(inputs, units, seed=1))
    readouts = {n: Cell(LeakyIntegrator(outputs), Dense(units, outputs, seed=2)) for n in names}
    return Network([hidden], readouts)


def network_node(**names):
    return NetworkNode("network", InputNode("inputs"), small_network(**names))


def model_of(net):
    return GraphModule(net.parents, [net.output])


def sums(x, y):
    return x + y


class TestNodes:
    def test_outputs_are_attributes(self):
        net = network_node(names=("what", "where"))
        assert net.what.name == "network.what" and net.cell0.name == "network.cell0"
        assert net.cell0.neuron is net.module.cells[0].neuron
        pair = MultiNode("pair", net.what, lambda x: {"a": x, "b": 2 * x}, ("a", "b"))
        assert pair.b.parents == (pair,) and pair.b.index is IdxType.SEQ_STEP

    def test_what_feeds_a_network_is_a_sequence(self):
        image = InputNode("image")
        net = NetworkNode("network", ModelNode("scaled", image, lambda x: 2 * x), small_network())
        assert image.index is net.index is net.output.index is IdxType.SEQ_STEP
        still = InputNode("image", index=IdxType.SEQUENCES)
        encoder = ModelNode("encoder", still, lambda x: x, index=IdxType.SEQ_STEP)
        NetworkNode("network", encoder, small_network())
        assert still.index is IdxType.SEQUENCES

    def test_masks_reach_everything_further_on(self):
        x = InputNode("inputs", mask="real")
        net = NetworkNode("network", x, small_network())
        choice = Decision("choice", net.output, "last", db_name="label")
        assert choice.mask is x.mask and choice.pred.mask is x.mask
        assert MSE(net.output.pred, net.output.true).mask is x.mask
        assert choice.index is IdxType.SEQUENCES

    def test_an_input_is_cast(self):
        model = GraphModule([x := InputNode("x", dtype=tf.float32)], [x])
        assert model({"x": tf.constant([1, 2], tf.uint8)})["x"].dtype == tf.float32

    def test_a_network_takes_spikes_of_any_type(self):
        net = network_node()
        model = GraphModule(net.parents, [net.output])
        spikes = (np.random.default_rng(0).random((2, 6, 4)) < 0.5).astype(np.uint8)
        want = model({"inputs": tf.constant(spikes, tf.float32)})["network.output"]
        for dtype in (np.uint8, bool, np.float64):
            got = model({"inputs": tf.constant(spikes.astype(dtype))})["network.output"]
            np.testing.assert_array_equal(got, want)


class TestModel:
    def test_names_nodes_and_features_are_keys(self):
        x = InputNode("a/b", name="x")
        y = ModelNode("y", x, lambda x: 2 * x, db_name="t")
        model = GraphModule([x], [y])
        for key in ("a/b", "x", x):
            assert model({key: tf.constant([3.0])})["y"].numpy() == [6.0]
        assert model.node_from_name("t") is y and model.node_from_name("a/b") is x
        assert model.structure().splitlines()[0].split() == ["x", "InputNode", "feature", "`a/b`"]

    def test_state_goes_in_and_comes_out(self):
        net = network_node()
        model = GraphModule(net.parents, [net.output])
        x = tf.constant(np.random.default_rng(0).random((2, 6, 4)), tf.float32)
        whole = model.run({"inputs": x})
        first = model.run({"inputs": x[:, :2]})
        second = model.run({"inputs": x[:, 2:]}, first.state)
        parts = [run.values["network.output"] for run in (first, second)]
        np.testing.assert_allclose(
            tf.concat(parts, 1), whole.values["network.output"], rtol=1e-6, atol=1e-7
        )

    def test_a_sequence_node_hands_its_state_on(self):
        class Delay(tf.Module):
            def initial_state(self, batch_size):
                return tf.zeros([batch_size, 1, 4])

            def __call__(self, x, state):
                return tf.concat([state, x[:, :-1]], axis=1), x[:, -1:]

        x = InputNode("inputs")
        model = GraphModule([x], [SequenceNode("delay", x, Delay())])
        values = tf.reshape(tf.range(24.0), [1, 6, 4])
        first = model.run({"inputs": values[:, :4]})
        second = model.run({"inputs": values[:, 4:]}, first.state)
        joined = tf.concat([first.values["delay"], second.values["delay"]], 1)
        np.testing.assert_array_equal(joined[:, 1:], values[:, :-1])
        assert x.index is IdxType.SEQ_STEP

    def test_checkpoint_keys_are_names_of_nodes(self, tmp_path):
        net = network_node()
        model = GraphModule(net.parents, [net.output])
        path = tf.train.Checkpoint(model=model).save(str(tmp_path / "ckpt"))
        names = [name for name, _ in tf.train.list_variables(path)]
        assert any(
            name.startswith("model/modules/network/cells/0/feedforward/kernel") for name in names
        )

    def test_order_never_changes(self):
        inputs = [InputNode(name) for name in "dacb"]
        total = inputs[0]
        for number, other in enumerate(inputs[1:]):
            total = ModelNode(f"sum{number}", (total, other), sums)
        total.db_name = "t"
        for _ in range(3):
            modules, db_info = assemble_for_training(
                MSE.of_node(total), {"mse": MSE.of_node(total)}
            )
            assert db_info == {"inputs": list("dacb"), "targets": ["t"]}
            assert [node.name for node in modules.model.nodes] == [
                *("d", "a", "sum0", "c", "sum1", "b", "sum2")
            ]


class TestAssembly:
    def test_finds_inputs_outputs_and_targets(self):
        net = network_node(names=("what", "where"))
        net.where.db_name = "position"
        choice = Decision("choice", net.what, db_name="label")
        loss = CrossEntropy.of_node(choice) + 0.1 * MSE.of_node(net.where)
        modules, db_info = assemble_for_training(loss, [loss, Accuracy.of_node(choice)])
        assert db_info == {"inputs": ["inputs"], "targets": ["label", "position"]}
        assert [n.name for n in modules.model.nodes_to_compute] == ["choice", "network.where"]
        assert modules.evaluator.names == (loss.name, "accuracy(choice-pred,choice-true)")

    def test_unused_outputs_are_dropped(self):
        net = network_node(names=("what", "where"))
        net.what.db_name = "t"
        modules, _ = assemble_for_training(MSE.of_node(net.what), [MSE.of_node(net.what)])
        names = [node.name for node in modules.model.nodes]
        assert names == ["inputs", "network", "network.what"]

    def test_a_penalty_alone_has_no_targets(self):
        penalty = graph.L2(network_node())
        modules, db_info = assemble_for_training(penalty, [penalty])
        assert db_info == {"inputs": ["inputs"], "targets": []}
        x = tf.zeros([2, 3, 4])
        (value,) = modules.loss(modules.model({"inputs": x}), {"inputs": x})
        weights = modules.model.parameters
        want = sum(0.5 * np.sum(np.square(w)) for w in weights if w.shape.rank > 1)
        assert float(value) == pytest.approx(float(want), rel=1e-6)

    def test_a_raw_input_may_be_judged(self):
        x = InputNode("x", index=IdxType.SEQUENCES)
        loss = graph.MeanSq(x.pred)
        modules, db_info = assemble_for_training(loss, {"m": loss})
        assert db_info == {"inputs": ["x"], "targets": []}
        assert float(modules.loss(modules.model({"x": [[2.0]]}), {})[0]) == 4.0

    def test_later_changes_of_loss_nodes_do_not_reach_the_evaluator(self):
        y = ModelNode("y", InputNode("x"), lambda x: x, db_name="t")
        mse, mae = MSE.of_node(y), MAE.of_node(y)
        loss = 2 * mse
        modules, _ = assemble_for_training(loss, {"loss": loss})
        assert modules.loss.nodes_to_compute[0] is loss
        assert modules.evaluator.loss.nodes_to_compute[0] is not loss
        loss.parents = (loss.parents[0], mae)
        values = {"y": tf.constant([[1.0], [3.0]])}, {"t": tf.constant([0.0, 1.0])}
        assert float(modules.evaluator.loss(*values)[0]) == 5.0

    def test_the_parts_by_themselves(self):
        y = ModelNode("y", InputNode("x"), lambda x: x, db_name="t")
        loss = MSE.of_node(y)
        inputs, outputs, targets = graph.determine_out_in_targ(loss)
        assert [[n.name for n in nodes] for nodes in (inputs, outputs, targets)] == [
            ["x"],
            ["y"],
            ["y"],
        ]
        train, validation = graph.build_loss_modules(loss, [loss], outputs, targets)
        given = {"y": tf.constant([[1.0]])}, {"t": tf.constant([3.0])}
        assert float(train(*given)[0]) == float(validation(*given)[0]) == 4.0
        assert graph.generate_database_info(inputs, targets) == {"inputs": ["x"], "targets": ["t"]}
        nameless = [InputNode(name="z")]
        found = graph.generate_database_info(nameless, targets, allow_unfound=True)
        assert found == {"inputs": [], "targets": ["t"]}


Y = ModelNode("y", InputNode("x"), lambda x: x, db_name="t")
LOSS = MSE.of_node(Y)
TWO = ModelNode("sum", (InputNode("x"), ModelNode("x", InputNode("b"), lambda x: x)), sums)


def assemble(loss=LOSS, validation=None, names=None):
    return assemble_for_training(loss, {"loss": LOSS} if validation is None else validation, names)


REFUSED = [
    (lambda: assemble(validation={}), GraphError, "nodes_to_compute was zero"),
    (lambda: assemble(validation=[]), GraphError, "nodes_to_compute was zero"),
    (lambda: assemble(names=["a"]), AssertionError, "beside a mapping"),
    (lambda: assemble(validation=[LOSS, MAE.of_node(Y)], names=["a"]), GraphError, "2 valid"),
    (
        lambda: assemble(validation=[LOSS], names=["a", "b"]),
        GraphError,
        "1 validation",
    ),
    (lambda: assemble(validation=[LOSS], names=[3]), ValueError, "is named 3; names are strings"),
    (lambda: assemble(validation=[LOSS, LOSS]), GraphError, "two validation losses are called"),
    (lambda: assemble(loss=Y), AssertionError, "use y.pred or .true"),
    (lambda: assemble(loss=InputNode("x")), AssertionError, "the model's node `x`"),
    (lambda: assemble(loss=MSE(Y.pred, InputNode("t"))), AssertionError, "model's node `t`"),
    (lambda: assemble(loss=graph.Mean(Y.pred - Y)), AssertionError, "sub got the model's node `y`"),
    (lambda: assemble(loss=graph.Mean(Y.true)), GraphError, "reaches no input of a model"),
    (lambda: assemble(loss=1.0), GraphError, "1.0 is no loss"),
    (lambda: assemble(loss=Y.pred), GraphError, "is not one number"),
    (
        lambda: assemble(loss=MSE.of_node(ModelNode("z", InputNode("x"), lambda x: x))),
        GraphError,
        "no feature of the data set is known for z; set their db_name",
    ),
    (
        lambda: assemble(loss=graph.Mean(ModelNode("z", InputNode(name="u"), abs).pred)),
        ValueError,
        "is known for u",
    ),
    (lambda: assemble(loss=graph.Mean(TWO.pred)), GraphError, "two nodes are called `x`"),
    (
        lambda: assemble(
            loss=graph.Mean(ModelNode("s", (InputNode("x"), InputNode("x")), sums).pred)
        ),
        GraphError,
        "two input nodes `x`; make one and use it",
    ),
    (
        lambda: MSE.of_node(network_node()),
        GraphError,
        "use one of its outputs, such as network.out",
    ),
    (lambda: GraphModule([], [Y]), ValueError, "needs the unspecified input `x`"),
    (lambda: GraphModule(Y.parents, [Y])({"u": 1.0}), GraphError, "input `x` is missing; got u"),
    (lambda: GraphModule(Y.parents, [Y]).node_from_name("z"), GraphError, "it has x, y"),
    (lambda: InputNode(), GraphError, "needs the name of a feature"),
    (lambda: ModelNode("", InputNode("x"), abs), GraphError, "a node is named ''"),
    (lambda: ModelNode("n", Y.pred, abs), GraphError, "a node of the loss"),
    (lambda: ModelNode("n", InputNode("x"), 3), GraphError, "cannot be called"),
    (lambda: ModelNode("n", InputNode("x"), small_network()), GraphError, "use NetworkNode"),
    (lambda: NetworkNode("n", InputNode("x"), abs), GraphError, "expected a Network"),
    (lambda: SequenceNode("n", InputNode("x"), abs), GraphError, "initial_state"),
    (
        lambda: NetworkNode("n", InputNode("x"), small_network(names=("a", "b")), db_name="t"),
        GraphError,
        "set db_name on each of them",
    ),
    (
        lambda: MultiNode("n", InputNode("x"), abs, ("name",)),
        GraphError,
        "cannot have an output called 'name'",
    ),
    (lambda: Decision("d", Y, "sum"), ValueError, "readout mode is 'sum'; expected one of mean"),
    (lambda: network_node().nothing, AttributeError, "its outputs are output, cell0"),
    (
        lambda: GraphModule((n := network_node()).parents, [n.output])(
            {"inputs": tf.zeros([2, 4])}
        ),
        GraphError,
        "takes 4 inputs a step, [B, T, 4]; `inputs` gives shape (2, 4)",
    ),
    (
        lambda: GraphModule([x := InputNode("x")], [ModelNode("n", x, lambda v: v @ tf.ones([3]))])(
            {"x": tf.zeros([2, 2])}
        ),
        GraphError,
        "node `n` cannot work with (2, 2)",
    ),
]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    REFUSED,
    ids=[f"{i}-{m[:40]}" for i, (_, _, m) in enumerate(REFUSED)],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)
