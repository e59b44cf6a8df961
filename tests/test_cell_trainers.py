"""Cell trainers: who owns what, constants per cell, and updates end to end."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.connections import Dense
from orbit_snn.learning.plasticity import (
    STDP,
    CellTrainer,
    IndependentCellTrainer,
    LinearHomeostasis,
    Plasticity,
    TripletSTDP,
)
from orbit_snn.networks import Network
from tests.conformance import plasticity as zoo
from tests.oracles import plasticity as oracle
from tests.oracles import plasticity_rules as rules
from tests.plastic_units import F, N, cell, contribute, outputs, spikes

PAIR = {"lr_post": 0.1, "lr_pre": -0.07, "tc_post_ms": 9.0, "tc_pre_ms": 6.0}


def pair_oracle(own, pre, w0, **constants):
    constants = {key.removesuffix("_ms"): value for key, value in (PAIR | constants).items()}
    terms = rules.pair_stdp(pre, outputs(own, pre), **constants)
    return oracle.run([terms], w0, apply_every=len(pre))[-1]


def homeostasis_oracle(own, pre, rate, target_hz):
    post = outputs(own, pre)
    terms = rules.linear_homeostasis(post, F, plasticity=rate, target=1e-3 * target_hz)
    return oracle.run([terms], own.feedforward.kernel.numpy(), apply_every=len(pre))[-1]


@pytest.fixture
def trainer():
    return IndependentCellTrainer(STDP(**PAIR))


def test_units(trainer):
    cells = {"a": cell(), "0 é": cell(), "net.cell0.feedforward": cell()}
    updater = cells["a"].feedforward.updater = cells["a"].feedforward.defaultupdater()
    made = {name: trainer.register_cell(name, own) for name, own in cells.items()}
    assert len(trainer) == 3 and trainer.names == tuple(cells)
    assert [unit.cell for unit in trainer] == list(cells.values())
    for name, own in cells.items():
        unit = trainer.get_unit(name)
        assert unit is not made[name] and unit.state is made[name].state
        assert trainer.get_cell(name) is unit.cell is own
        assert unit.connection is own.feedforward and unit.key == name
        assert unit.rule == STDP(**PAIR)
        assert set(unit.monitors) == {"trace_pre", "trace_post"}
        unit.monitors.clear()
        assert len(trainer.get_unit(name).monitors) == 2
    trainer.del_cell("a")
    assert len(trainer) == 2 and [unit.key for unit in trainer] == list(cells)[1:]
    assert cells["a"].feedforward.updater is updater and len(trainer.variables) == 4
    trainer.register_cell("a", cells["0 é"])
    assert trainer.get_cell("a") is cells["0 é"]


def test_monitors_can_be_listed(trainer):
    """Defect 5."""
    own = cell(recurrent=True)
    for name in ("feedforward", "recurrent"):
        trainer.register_cell(name, own, name)
    kinds = ("trace_pre", "trace_post")
    named = trainer.named_monitors
    assert list(named) == [
        f"{name}/{kind}" for name in ("feedforward", "recurrent") for kind in kinds
    ]
    assert trainer.monitors == tuple(named.values())
    assert named["feedforward/trace_post"] == named["recurrent/trace_post"]
    assert named["feedforward/trace_pre"] != named["recurrent/trace_pre"]
    trainer.del_cell("feedforward")
    assert len(trainer.monitors) == len(trainer.named_monitors) == 2


def test_update_applies_each_connection_once(trainer):
    """Defect 5, and two units on one connection."""
    own, pre = cell(), spikes()
    other = IndependentCellTrainer(TripletSTDP(), "other")
    units = [trainer.register_cell("a", own), trainer.register_cell("b", own, lr_post=0.3)]
    w0 = own.feedforward.kernel.numpy()
    wants = [pair_oracle(own, pre, w0), pair_oracle(own, pre, w0, lr_post=0.3)]
    for unit in units:
        contribute(trainer, unit, pre)
    other.update()
    np.testing.assert_array_equal(own.feedforward.kernel, w0)
    trainer.update()
    want = sum(wants) - w0
    np.testing.assert_allclose(own.feedforward.kernel, want, rtol=0, atol=1e-13)
    assert np.abs(want - w0).max() > 0.05
    trainer.update()
    np.testing.assert_allclose(own.feedforward.kernel, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("connection", ["feedforward", "recurrent"])
def test_constants_of_a_cell(trainer, connection):
    """They reach its update and its monitors; those of the rule and of other cells stay."""
    first, second, pre = cell(recurrent=True), cell(recurrent=True), spikes()
    own = {"lr_pre": 0.2, "tc_pre_ms": 15.0}
    unit = trainer.register_cell("a", first, connection, **own)
    plain = trainer.register_cell("b", second, connection)
    assert unit.rule == STDP(**PAIR | own) and plain.rule == trainer.rule == STDP(**PAIR)
    rates = {key: float(value) for key, value in unit.state.rates.items()}
    assert rates == {"lr_post": 0.1, "lr_pre": 0.2}
    wants = []
    for each, constants in ((first, own), (second, {})):
        post = outputs(each, pre)
        arriving = np.concatenate([np.zeros((1, 3, N)), post[:-1]])
        w0 = getattr(each, connection).kernel.numpy()
        constants = {k.removesuffix("_ms"): v for k, v in (PAIR | constants).items()}
        mask = 1 - np.eye(N) if connection == "recurrent" else None
        terms = rules.pair_stdp(pre if mask is None else arriving, post, mask=mask, **constants)
        wants.append(oracle.run([terms], w0, apply_every=len(pre))[-1])
    for each in trainer:
        contribute(trainer, each, pre)
    trainer.update()
    for each, want in zip((first, second), wants, strict=True):
        np.testing.assert_allclose(getattr(each, connection).kernel, want, rtol=0, atol=1e-13)
    assert np.abs(wants[0] - wants[1]).max() > 0.05


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_target_does_not_leak_to_the_next_cell(order):
    """Defect 3: two cells with targets of their own, and one with the default."""
    trainer, pre = IndependentCellTrainer(LinearHomeostasis(0.01, 300.0)), spikes()
    given = [{"target_hz": 50.0}, {}, {"target_hz": 600.0, "lr_homeostasis": 0.02}]
    cells = [cell() for _ in order]
    for place in order:
        trainer.register_cell(str(place), cells[place], **given[place])
    constants = [(0.01, 50.0), (0.01, 300.0), (0.02, 600.0)]
    wants = [homeostasis_oracle(own, pre, *c) for own, c in zip(cells, constants, strict=True)]
    for unit in trainer:
        contribute(trainer, unit, pre)
    trainer.update()
    for own, want in zip(cells, wants, strict=True):
        np.testing.assert_allclose(own.feedforward.kernel, want, rtol=0, atol=1e-12)
    assert len({round(float(want[0, 0]), 6) for want in wants}) == 3


def test_homeostasis_of_a_bias():
    trainer, own, pre = (
        IndependentCellTrainer(LinearHomeostasis(0.01, 100.0)),
        cell(bias=True),
        spikes(),
    )
    post = outputs(own, pre)
    w0 = own.feedforward.kernel.numpy()
    contribute(trainer, trainer.register_cell("a", own, param="bias"), pre)
    trainer.update()
    terms = rules.linear_homeostasis(post, 1, plasticity=0.01, target=0.1)
    want = oracle.run([terms], np.zeros([1, N]), apply_every=len(pre))[-1]
    np.testing.assert_allclose(own.feedforward.bias, want[0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(own.feedforward.kernel, w0)


def alone(weight):
    """One synapse, whose neuron spikes in the only step."""
    connection = Dense(1, 1, initializer="ones", gain=weight, dtype=tf.float64)
    return zoo.problem(connection, zoo.Exact(1), given=np.ones([1, 1, 1]))


@pytest.mark.parametrize("target_hz, want", [(100.0, -0.4), (2000.0, 0.55), (1000.0, 0.5)])
def test_homeostasis_lowers_the_weights_of_a_neuron_above_its_target(target_hz, want):
    """Defect 2: 1000 Hz against a target of 100 takes .5 to -.4."""
    got = zoo.learn(alone(0.5), Plasticity(LinearHomeostasis(0.1, target_hz)))
    np.testing.assert_allclose(got.weights[-1], [[want]], rtol=0, atol=1e-14)


def test_a_learning_rate_is_a_variable():
    """Assigned between steps, it changes the update without a new trace."""
    p = zoo.problem(Dense(F, N, seed=3, gain=1.5, dtype=tf.float64))
    rule, traces = Plasticity(STDP(0.1, -0.1)), []
    rule.prepare(
        p.modules, {k: tf.TensorSpec(x.shape[1:], x.dtype) for k, x in p.batch.items()}, 25
    )

    @tf.function
    def update():
        traces.append(1)
        state = rule.initial_state(p.modules, p.pre.shape[1])
        return rule.update(p.modules, p.batch, state).assigned[0]

    w0, first = p.connection.kernel.numpy(), update().numpy()
    rates = rule.trainers[0].get_unit("net.cell0.feedforward").state.rates
    for factor in (2.0, 0.5, 0.0):
        for rate in rates.values():
            rate.assign(0.1 * factor)
        np.testing.assert_allclose(update() - w0, factor * (first - w0), rtol=0, atol=1e-13)
    rates["lr_post"].assign(0.1)
    potentiated = update() - w0
    assert np.all(potentiated >= 0) and np.max(potentiated) > 0.1
    assert len(traces) == 1


def test_errors(trainer):
    own = cell()
    trainer.register_cell("a", own)
    with pytest.raises(ValueError, match="'a' is registered already"):
        trainer.register_cell("a", cell())
    for call in (trainer.get_unit, trainer.get_cell, trainer.del_cell):
        with pytest.raises(KeyError, match="no cell is called 'b'; registered are a"):
            call("b")
    with pytest.raises(ValueError, match="STDP has no constant 'lr'; it has lr_post, lr_pre"):
        trainer.register_cell("b", own, lr=0.1)
    with pytest.raises(ValueError, match="tc_pre_ms is -1"):
        trainer.register_cell("b", own, tc_pre_ms=-1.0)
    for name in ("recurrent", "neuron", "parameters"):
        with pytest.raises(ValueError, match=f"has no connection '{name}'"):
            trainer.register_cell("b", own, name)
    with pytest.raises(ValueError, match="'kernel'.*none: make it with trainable=True"):
        trainer.register_cell("b", cell(trainable=False))
    with pytest.raises(ValueError, match="changes 'bias'.*the parameters kernel"):
        IndependentCellTrainer(LinearHomeostasis(param="bias")).register_cell("b", own)
    with pytest.raises(ValueError, match="the rule is 'stdp'"):
        IndependentCellTrainer("stdp")
    assert trainer.names == ("a",)


def test_a_cell_is_known_weakly(trainer):
    own, kept = cell(), cell()
    trainer.register_cell("a", own)
    trainer.register_cell("kept", kept)
    gone = weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None and trainer.names == ("a", "kept")
    for call in (lambda: trainer.get_unit("a"), lambda: trainer.get_cell("a"), trainer.update,
                 lambda: list(trainer)):  # fmt: skip
        with pytest.raises(RuntimeError, match=r"the cell 'a' is gone; keep .*del_cell\('a'\)"):
            call()
    trainer.del_cell("a")
    trainer.update()
    assert [unit.cell for unit in trainer] == [kept]
    again = cell()
    assert trainer.register_cell("a", again).cell is again


def test_trainer_and_network_own_different_variables(trainer, tmp_path):
    network = Network([cell(recurrent=True)])
    units = [trainer.register_cell(name, network.cells[0], name) for name in
             ("feedforward", "recurrent")]  # fmt: skip
    own, theirs = ({v.ref() for v in m.variables} for m in (trainer, network))
    assert len(own) == 4 and len(theirs) == 2 + 2 * 4 and not own & theirs
    assert {v.ref() for v in units[0].variables} >= theirs
    assert len({v.ref() for v in units[0].variables} - theirs) == 2
    assert {v.name for v in trainer.variables} == {
        f"stdp/{name}/{rate}:0"
        for name in ("feedforward", "recurrent")
        for rate in PAIR
        if "lr" in rate
    }
    keys = [_keys(tmp_path, x=module) for module in (trainer, network)]
    assert len(keys[0]) == 4 and len(keys[1]) == 10 and not keys[0] & keys[1]
    both = _keys(tmp_path, network=network, trainer=trainer)
    assert len(both) == 14


def test_a_checkpoint_restores_network_and_trainer(tmp_path):
    found = []
    for seed in (0, 1):
        network = Network([cell()])
        trainer = IndependentCellTrainer(STDP(**PAIR))
        unit = trainer.register_cell("a", network.cells[0])
        contribute(trainer, unit, spikes(seed=seed))
        unit.state.rates["lr_post"].assign(0.5 + seed)
        found.append((network, trainer, tf.train.Checkpoint(network=network, trainer=trainer)))
    found[1][2].read(found[0][2].write(str(tmp_path / "c"))).assert_consumed()
    for _, trainer, _ in found:
        assert float(trainer.get_unit("a").state.rates["lr_post"]) == 0.5
        trainer.update()
    one, two = (network.cells[0].feedforward.kernel for network, _, _ in found)
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - cell().feedforward.kernel).max() > 0.05


def test_cells_of_a_plain_trainer():
    """For rules over several cells, which keep units and iterate on their own."""
    trainer, own = CellTrainer(), cell()
    unit = IndependentCellTrainer(STDP()).register_cell("a", own)
    made = trainer.add_cell("x", own, unit.state, unit.monitors)
    assert made.cell is own and trainer.named_monitors.keys() == {"x/trace_pre", "x/trace_post"}
    with pytest.raises(ValueError, match="registered already"):
        trainer.add_cell("x", own, unit.state, {})


def _keys(path, **modules):
    saved = tf.train.Checkpoint(**modules).write(str(path / "_".join(modules)))
    return {name for name, _ in tf.train.list_variables(saved)} - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
