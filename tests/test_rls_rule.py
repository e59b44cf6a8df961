"""The rule of recursive least squares: that it learns, what it refuses, and that it goes on."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.database import Database
from orbit_snn.graph import GraphError, InputNode, NetworkNode
from orbit_snn.learning import RLS, TBPTT, Feedback, Kernel
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.tools import small_networks
from orbit_snn.tools.small_networks import (
    INSTANT,
    SIZE,
    STEPS,
    UNITS,
    assembled,
    losses,
    trainer,
    waves,
)
from orbit_snn.tools.small_networks import network as rate_network
from orbit_snn.training import Run, TrainingError, TrainingOptions
from orbit_snn.training.trainer import Trainer

PRECONDITION = Kernel(0.95, alpha=3e-3, regularising_rows=1, averaging=True)


@pytest.mark.parametrize(
    "strategy,groups",
    [("jacobian", "node"), ("scaled_jacobian", "node"), ("scaled_jacobian", "variable")],
)
def test_kalman_filters_learn_in_a_few_epochs(strategy, groups):
    rule = RLS(strategy, Kernel(0.99), window=10, groups=groups)
    assert losses(5, rule).min() < 1e-3


def test_a_preconditioned_gradient_learns_in_a_tenth_of_the_epochs():
    assert losses(8, *small_networks.preconditioned()).min() < 1e-3
    assert losses(40, TBPTT(10, "window"), tf_keras.optimizers.legacy.SGD(0.3)).min() > 1e-3


@pytest.mark.parametrize(
    "rule",
    [
        RLS("inputs", window=10),
        RLS("jacobian", Kernel(0.99), window=10),
        RLS("grad", Kernel(0.95, alpha=0.03, regularising_rows=1, averaging=True), window=30,
            trust=0.3),
        RLS("grad", Kernel(0.95, alpha=0.03, regularising_rows=1, averaging=True), window=30,
            trust=0.3, gradient="eprop"),
    ],
    ids=lambda rule: rule.strategy,
)  # fmt: skip
def test_every_strategy_trains_spikes(rule):
    network = rate_network(1, LIF(UNITS, tau_mem_ms=5.0), tau_ms=5.0)
    found = losses(12, rule, tf_keras.optimizers.legacy.SGD(0.1), 1, network)
    assert found.min() < 0.03 < 0.1 < found[0]


def linear(rule, optimizer=None):
    """`y(t) = u(t) + y(t-1) W`, one step a window: every strategy has the same rows and errors."""
    kind = {"dtype": tf.float64}
    pass_on = Dense(4, 4, initializer="identity", trainable=False, **kind)
    cell = Cell(LeakyIntegrator(4, tau_mem_ms=INSTANT, **kind), pass_on, Dense(4, 4, **kind))
    draw = np.random.default_rng(0)
    data = {"x": draw.normal(size=(6, 10, 4)), "y": draw.normal(size=(6, 10, 4))}
    net = NetworkNode("net", InputNode("x"), Network([cell]))
    net.cell0.db_name = "y"
    loss = graph.MSE.of_node(net.cell0)
    database = Database.from_arrays(data, test_size=0.0, validation_size=0.0)
    modules, db_info = graph.assemble_for_training(loss, {"loss": loss})
    made = Trainer(modules, db_info, database, rule, optimizer, 6, xla=False)
    made.train(tf.constant(3))
    return cell.recurrent.kernel.numpy()


def test_on_a_linear_model_all_strategies_are_one():
    kernel = Kernel(alpha=0.7, row_weight=1.3)
    wanted = linear(RLS("outputs", kernel))
    found = {
        "inputs": linear(RLS("inputs", kernel)),
        "jacobian": linear(RLS("jacobian", kernel)),
        "scaled": linear(RLS("scaled_jacobian", kernel)),
        "variable": linear(RLS("scaled_jacobian", kernel, groups="variable")),
        "potter": linear(RLS("jacobian", dataclasses.replace(kernel, numerics="potter"))),
        "grad": linear(RLS("grad", kernel), tf_keras.optimizers.legacy.SGD(1.0)),
    }
    for name, weights in found.items():
        np.testing.assert_allclose(weights, wanted, rtol=1e-9, atol=1e-9, err_msg=name)


def test_windows_that_the_loss_does_not_look_at_change_nothing():
    data = waves() | {"late": np.zeros((SIZE, STEPS), bool)}
    made = trainer(RLS("inputs", Kernel(0.9), window=10), data=data)
    before = [v.numpy() for v in made.rule.assigned(made.training_modules)[:-2]]
    made.train(tf.constant(2))
    for old, variable in zip(before, made.rule.assigned(made.training_modules), strict=False):
        np.testing.assert_array_equal(variable, old)


def test_a_lost_covariance_is_named_and_the_last_good_weights_are_kept():
    made = trainer(RLS("inputs", window=10))
    made.train(tf.constant(2))
    for (matrix,) in made.rule.matrices.values():
        matrix.assign(-matrix)
    before = [v.numpy() for v in made.rule.assigned(made.training_modules)[:-2]]
    with pytest.raises(TrainingError, match="lost positivity.* in update 14 .*Use numerics=potter"):
        made.train(tf.constant(2))
    for old, variable in zip(before, made.rule.assigned(made.training_modules), strict=False):
        np.testing.assert_array_equal(variable, old)


def test_a_run_goes_on_where_it_stopped(tmp_path):
    def run(directory, steps):
        options = TrainingOptions(train_steps=steps, batch_size=4, steps_per_loop=1, pictures=0)
        network = rate_network()
        rule = RLS("inputs", Kernel(0.99, numerics="potter"), window=7)
        database = Database.from_arrays(waves(size=20))
        made = Run(*assembled(network), database, rule, None, directory, options, xla=False)
        made.train()
        return [v.numpy() for v in made.trainer.rule.assigned(made.trainer.training_modules)]

    whole = run(tmp_path / "whole", 6)
    run(tmp_path / "broken", 3)
    for one, other in zip(whole, run(tmp_path / "broken", 6), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_measured_is_reported():
    made = trainer(RLS("inputs", window=10))
    first, second = (made.train(tf.constant(1)) for _ in range(2))
    assert 0 < second["rls/trace"] < first["rls/trace"] < UNITS + 1
    assert 0 < second["rls/relative_change"] < first["rls/relative_change"]
    assert 0 < first["rls/error_ratio"] < 1
    assert first["rls/least_quadratic"] > 0


@pytest.mark.parametrize(
    "given,message",
    [
        ({"strategy": "hebb"}, "strategy is 'hebb'; expected one of inputs, outputs, grad"),
        ({"window": 0}, "window is 0; expected a whole number of steps"),
        ({"alignment": "next"}, "alignment is 'next'"),
        ({"groups": "layer"}, "groups is 'layer'"),
        ({"gradient": "rtrl"}, "gradient is 'rtrl'"),
        ({"trust": -1.0}, "trust is -1.0"),
        ({"rows": "first"}, "rows is 'first'"),
        ({"rows": "last", "strategy": "grad"}, "grad takes every step"),
        ({"kernel": PRECONDITION}, "averaging is for strategy=grad"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        RLS(**given)


def prepared(rule, network, make_loss):
    net = NetworkNode("net", InputNode("x"), network)
    loss = make_loss(net)
    modules, _ = graph.assemble_for_training(loss, {"loss": loss})
    features = {"x": [5, 1], "y": [5, 2], "label": []}
    kinds = {"label": tf.int64}
    spec = {n: tf.TensorSpec(shape, kinds.get(n, tf.float32)) for n, shape in features.items()}
    rule.prepare(modules, spec, 5)


def squared(net):
    net.output.db_name = "y"
    return graph.MSE.of_node(net.output)


def classes(net):
    return graph.CrossEntropy.of_node(graph.Decision("digit", net.output, "mean", db_name="label"))


LOSSES = {
    "classes": (classes, "is no squared error of outputs"),
    "rates": (
        lambda net: squared(net) + graph.FiringRate(net.cell0, 10.0),
        "`net.cell0` is no squ",
    ),
    "weights": (lambda net: squared(net) + graph.L2(net), "alpha is the penalty on weights"),
    "absolute": (lambda net: squared(net) + graph.MAE.of_node(net.output), "which takes any loss"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_no_squared_error_is_refused(name):
    make, message = LOSSES[name]
    network = rate_network(neuron=LIF(UNITS))
    with pytest.raises(GraphError, match=message):
        prepared(RLS("inputs"), network, make)
    prepared(RLS("grad"), network, make)


def test_models_that_cannot_be_solved_are_refused():
    fixed = Dense(UNITS, 2, trainable=False)
    hidden = Cell(LIF(UNITS), Dense(1, UNITS))
    network = Network([hidden], Cell(LeakyIntegrator(2), fixed))
    with pytest.raises(GraphError, match="weights onto `net.output` are not trained"):
        prepared(RLS("inputs"), network, squared)
    with pytest.raises(GraphError, match="has none; give the cell a recurrent connection"):
        prepared(RLS("outputs"), network, squared)
    with pytest.raises(GraphError, match="the loss looks at `net.output`; use alignment=previous"):
        prepared(RLS("outputs", alignment="current"), rate_network(), squared)
    with pytest.raises(ValueError, match=r"all 40\d+ weights .* GB; .*scaled_jacobian with groups"):
        wide = Network([Cell(LIF(200), Dense(1, 200), Dense(200, 200))],
                       Cell(LeakyIntegrator(2), Dense(200, 2)))  # fmt: skip
        prepared(RLS("jacobian"), wide, squared)
    with pytest.raises(GraphError, match="has a trained constant, .*log_tau"):
        trained = rate_network(neuron=LIF(UNITS, train_tau=True))
        prepared(RLS("jacobian"), trained, squared)
    with pytest.raises(GraphError, match="keeps every 4-th state only"):
        cells = rate_network()
        sparse = Network(cells.cells, cells.readouts, checkpoint_every=4)
        prepared(RLS("grad"), sparse, squared)


def test_feedback_of_ones_is_the_published_one():
    network = rate_network()
    rule = RLS("outputs", feedback=Feedback("random", initializer="ones"))
    prepared(rule, network, squared)
    (matrix,) = rule.feedback.matrices.values()
    np.testing.assert_array_equal(matrix.kernel, np.ones((UNITS, 2)))
