"""Local plasticity under the trainer: what it refuses and reports, and rules of one's own."""

import dataclasses
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments, graph
from orbit_snn.cells import Cell
from orbit_snn.configuration import ConfigError
from orbit_snn.connections import Dense
from orbit_snn.database import Database
from orbit_snn.graph import GraphError, InputNode, NetworkNode
from orbit_snn.learning.plasticity import (
    MSTDP,
    STDP,
    KernelSTDP,
    Limits,
    LinearHomeostasis,
    MaxRateClassifier,
    Plasticity,
    Product,
    SeparableRule,
    TripletSTDP,
    rule,
)
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.tasks import diehl_cook
from orbit_snn.tools import benchmark_stdp
from orbit_snn.training import Run, RunDirectoryError, TrainingOptions
from orbit_snn.training.trainer import Trainer
from orbit_snn.updaters import Updater
from tests.conformance import plasticity as zoo


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: Plasticity("stdp"), "rule is 'stdp'; expected one such as STDP"),
        (lambda: Plasticity([]), "expected one such as STDP"),
        (lambda: Plasticity(apply_every="often"), "expected step, sequence or a number of steps"),
        (lambda: Plasticity(apply_every=0), "apply_every is 0; expected a whole number"),
        (lambda: Plasticity(sequences=0), "sequences is 0; expected a whole number, 1 or more"),
        (lambda: Plasticity(apply_every=3, sequences=2), "accumulated with apply_every=sequence"),
        (lambda: Plasticity(batch_reduction="max"), "expected mean, sum or a function"),
        (lambda: Plasticity(step_reduction="median"), "expected one of sum, mean, max, min"),
        (lambda: STDP(tc_pre_ms=0.0), "tc_pre_ms is 0.0 ms; expected more than 0"),
        (lambda: STDP(trace="all"), "trace is 'all'; expected cumulative or nearest"),
        (lambda: TripletSTDP(lr_post=0.0), "lr_post is 0; expected another number, or use STDP"),
        (lambda: TripletSTDP(tc_pre_slow_ms=5.0), "the slow trace must decay more slowly"),
        (lambda: LinearHomeostasis(target_hz=0.0), "target_hz is 0.0; expected more than 0"),
        (lambda: LinearHomeostasis(param="threshold"), "expected one of kernel, bias, delay_ms"),
        (lambda: Limits("soft"), "family is 'soft'; expected one of none, power"),
        (lambda: Limits(minimum=1.0, maximum=0.0), "exchange them"),
        (lambda: Limits(maximum=1.0), "do nothing with family=none"),
        (lambda: Plasticity(limits=(0.0, 1.0)), "expected Limits"),
        (lambda: Limits("scaled_power", maximum=1.0), "needs minimum and maximum; give both"),
    ],
)
def test_options_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def prepared(given, modules=None, **settings):
    p = zoo.problem(Dense(4, 3, dtype=tf.float64, **settings))
    spec = {k: tf.TensorSpec(x.shape[1:], x.dtype) for k, x in p.batch.items()}
    given.prepare(modules or p.modules, spec, 25)
    return p, given


def modules_of(**settings):
    cell = Cell(zoo.Exact(3), Dense(4, 3, dtype=tf.float64, **settings.pop("dense", {})))
    net = NetworkNode("net", InputNode("x"), Network([cell], **settings))
    loss = graph.FiringRate(net.cells[0], 10.0)
    return graph.assemble_for_training(loss, {"loss": loss})[0]


@pytest.mark.parametrize(
    "given,settings,message",
    [
        (Plasticity(MSTDP()), {}, "MSTDP learns from a reward; name the node"),
        (Plasticity(MSTDP(), reward="prize"), {}, "no node `prize` to take the reward from"),
        (Plasticity(KernelSTDP(modulated=True)), {}, "KernelSTDP learns from a reward"),
        (Plasticity(), {"checkpoint_every": 4}, "keeps every 4-th state only"),
        (
            Plasticity(),
            {"dense": {"trainable": False}},
            "no connection onto spiking neurons has a trained",
        ),
        (Plasticity(LinearHomeostasis(param="bias")), {}, "has a trained bias"),
    ],
    ids=range(6),
)
def test_models_that_cannot_learn(given, settings, message):
    with pytest.raises(GraphError, match=message):
        prepared(given, modules_of(**settings))


@pytest.mark.parametrize(
    "given,message",
    [
        (Plasticity(apply_every="step"), "use apply_every=sequence, or one replica"),
        (Plasticity(batch_reduction=tf.reduce_max), "use mean or sum for both, or one replica"),
        (Plasticity(step_reduction="max"), "use mean or sum for both, or one replica"),
    ],
    ids=range(3),
)
def test_what_several_replicas_cannot_do(monkeypatch, given, message):
    strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(rule.tf.distribute, "get_strategy", lambda: strategy)
    with pytest.raises(ValueError, match=message):
        prepared(given)


def test_an_updater_that_reduces_otherwise_is_refused():
    modules = modules_of()
    (node,) = modules.model.networks
    connection = node.module.cells[0].feedforward
    connection.updater = Updater(connection, "kernel", reduction="max")
    with pytest.raises(ValueError, match="reduces by max and step_reduction is sum"):
        prepared(Plasticity(), modules)


def test_a_config_says_all_of_it():
    config = experiments.load(
        diehl_cook.DiehlCookConfig.name,
        params_override="learning.plasticity.rule.type=kernel_stdp,"
        "learning.plasticity.rule.kernel_stdp.kernel_pre.tau_ms=7,"
        "learning.plasticity.rule.kernel_stdp.at_spikes=false,"
        "learning.plasticity.limits.family=sharp,learning.plasticity.apply_every=5",
    )
    made = experiments.build_rule(config)
    (own,) = made.rules
    assert isinstance(own, KernelSTDP) and own.kernel_pre.tau_ms == 7 and not own.at_spikes
    assert made.apply_every == 5 and made.limits.family == "sharp"


@pytest.mark.parametrize(
    "override,message",
    [
        ("rule.type=stpd", "Did you mean `stdp`"),
        ("rule.stdp.tc_post_ms=-1", "learning.plasticity.rule.stdp: tc_post_ms is -1"),
        ("limits.family=hard", "learning.plasticity.limits: family is 'hard'"),
        ("apply_every=never", "apply_every is 'never'"),
    ],
)
def test_a_bad_config_names_its_key(override, message):
    with pytest.raises(ConfigError, match=message):
        experiments.load(
            diehl_cook.DiehlCookConfig.name, params_override=f"learning.plasticity.{override}"
        )


@dataclasses.dataclass(frozen=True)
class Hebb(SeparableRule):
    """`dw = lr_hebb pre post`, of the spikes of a step."""

    lr_hebb: float = 0.1

    def monitors(self, dt_ms, connection):
        return {}

    def products(self, seen, rates):
        return (Product("pos", seen.pre, rates["lr_hebb"] * seen.post),)


def test_a_rule_of_ones_own_learns():
    p = zoo.problem(Dense(4, 3, seed=1, gain=1.5, dtype=tf.float64))
    got = zoo.learn(p, Plasticity(Hebb()))
    want = got.weights[0] + 0.1 * np.einsum("tbi,tbj->ij", p.pre, got.post) / 3
    np.testing.assert_allclose(got.weights[-1], want, rtol=0, atol=1e-12)


def test_a_loop_reports_weights_and_needs_no_optimizer():
    trainer = benchmark_stdp.make_trainer(20, 40)
    found = trainer.train(tf.constant(1))
    weights = trainer.training_modules.model.parameters[0].numpy()
    assert found["net.cell0.feedforward.kernel/mean"] == pytest.approx(weights.mean(), rel=1e-6)
    assert "gradient_norm" not in found and "learning_rate" not in found


def test_the_loop_is_that_of_numpy():
    trainer = benchmark_stdp.make_trainer(30, 100)
    before = trainer.training_modules.model.parameters[0].numpy().mean()
    trainer.train(tf.constant(1))
    after = trainer.training_modules.model.parameters[0].numpy().mean()
    want = benchmark_stdp.numpy_stdp(30, 100)()
    assert abs(want - before) > 1e-4
    assert after == pytest.approx(want, rel=1e-4)


def test_labels_have_to_be_named():
    network = Network([Cell(zoo.Exact(3), Dense(4, 3, dtype=tf.float64))])
    net = NetworkNode("net", InputNode("x"), network)
    rates = graph.Decision("rates", net.cell0, "mean")
    votes = graph.ModelNode("votes", rates, MaxRateClassifier(3, 2, dtype=tf.float64))
    loss = graph.MeanSq.of_node(votes)
    modules, db_info = graph.assemble_for_training(loss, {"loss": loss})
    with pytest.raises(GraphError, match="`votes` learns from labels; set its db_name"):
        Trainer(
            modules, db_info, Database.from_arrays({"x": np.ones([4, 6, 4])}), Plasticity(), None, 2
        )


def test_limits_are_of_one_parameter():
    rules = [LinearHomeostasis(param="bias"), STDP()]
    with pytest.raises(ValueError, match="the rules change bias and kernel"):
        prepared(Plasticity(rules, limits=Limits(maximum=0.3, hard=True)), bias=True)


def test_neurons_without_spikes_are_left_alone():
    readout = Cell(LeakyIntegrator(2, dtype=tf.float64), Dense(3, 2, dtype=tf.float64))
    network = Network([Cell(zoo.Exact(3), Dense(4, 3, dtype=tf.float64))], readout)
    net = NetworkNode("net", InputNode("x"), network)
    loss = graph.MeanSq.of_node(net.output)
    modules = graph.assemble_for_training(loss, {"loss": loss})[0]
    _, made = prepared(Plasticity(), modules)
    assert [unit.key for unit in made.trainers[0]] == ["net.cell0.feedforward"]


def test_a_run_directory_knows_its_rules(tmp_path):
    def run(rate):
        rule = Plasticity([STDP(lr_post=rate)])
        cell = Cell(LIF(3), Dense(4, 3))
        net = NetworkNode("net", InputNode("x"), Network([cell]))
        loss = graph.FiringRate(net.cells[0], 10.0)
        modules, db_info = graph.assemble_for_training(loss, {"loss": loss})
        database = Database.from_arrays({"x": np.ones([8, 6, 4], np.float32)}, test_size=0.5)
        options = TrainingOptions(batch_size=2, train_steps=2, steps_per_loop=1, pictures=0)
        return Run(modules, db_info, database, rule, None, tmp_path, options)

    run(0.1).train()
    held = json.loads((tmp_path / "run.json").read_text())["rule"]
    assert held["rules"][0]["type"] == "STDP" and held["rules"][0]["lr_post"] == 0.1
    with pytest.raises(RunDirectoryError, match="holds another run: its rule"):
        run(0.2).train()
