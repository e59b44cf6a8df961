"""Moving what a module owns, and nothing else, to another precision or device."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import neurons
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense, Sparse
from orbit_snn.learning.plasticity import (
    MSTDPET,
    STDP,
    IndependentCellTrainer,
    KernelSTDP,
    LinearHomeostasis,
    Plasticity,
    TripletSTDP,
)
from orbit_snn.migration import migrate
from orbit_snn.networks import Network
from tests.conformance import plasticity as zoo
from tests.conformance import zoo as tables
from tests.plastic_units import F, N, cell, contribute, spikes


def floating(module):
    return {v.dtype for v in module.variables if v.dtype.is_floating}


def made():
    """Two cells in one network, a unit for each."""
    first, second = (
        cell(dtype=tf.float32),
        Cell(zoo.Exact(N, 0.3, dtype=tf.float32), Dense(N, N, name="b")),
    )
    trainer = IndependentCellTrainer(STDP())
    for name, own in (("a", first), ("b", second)):
        trainer.register_cell(name, own)
    return trainer, Network([first, second])


@pytest.mark.parametrize(
    "move, dtype, trainer_a, trainer_b, cell_a, cell_b",
    [
        (lambda trainer, _: trainer, tf.float64, tf.float64, tf.float64, tf.float32, tf.float32),
        (lambda _, network: network, tf.float16, tf.float32, tf.float32, tf.float16, tf.float16),
        (lambda trainer, _: trainer.get_unit("a"), tf.float64,
         tf.float64, tf.float32, tf.float64, tf.float32),
    ],
    ids=["trainer", "network", "unit"],
)  # fmt: skip
def test_who_is_moved(move, dtype, trainer_a, trainer_b, cell_a, cell_b):
    """The table of section 1.5."""
    trainer, network = made()
    migrate(move(trainer, network), dtype=dtype)
    for name, state, own in (("a", trainer_a, cell_a), ("b", trainer_b, cell_b)):
        unit = trainer.get_unit(name)
        assert floating(unit.state) == {state} and unit.state.dtype == state
        assert floating(unit.cell) == {own} and unit.cell.neuron.dtype == own
        assert unit.connection.updater.kernel.variables_of_parts[0].dtype == own
    assert floating(trainer) == {trainer_a, trainer_b}
    assert not {v.ref() for v in trainer.variables} & {v.ref() for v in network.variables}


@pytest.mark.parametrize("which", ["trainer", "network", "unit"])
def test_moved_parts_go_on_learning(which):
    """A trainer and a cell of different precisions work together."""
    changes = []
    for moved in (False, True):
        trainer, network = made()
        unit = trainer.get_unit("a")
        unit.connection.updater.kernel = np.full([F, N], 0.25)
        before = unit.connection.kernel.numpy()
        if moved:
            parts = {"trainer": trainer, "network": network, "unit": unit}
            migrate(parts[which], dtype=tf.float64)
        contribute(trainer, trainer.get_unit("a"), spikes())
        trainer.update()
        changes.append(network.cells[0].feedforward.kernel.numpy() - before)
    np.testing.assert_allclose(*changes, rtol=1e-5, atol=1e-6)
    assert np.ptp(changes[0]) > 1e-3


RULES = (STDP(), TripletSTDP(), MSTDPET(), KernelSTDP(), LinearHomeostasis(), (STDP(), MSTDPET()))


def _name(rule):
    return "several" if isinstance(rule, tuple) else type(rule).__name__


@pytest.mark.parametrize("rule", RULES, ids=_name)
@pytest.mark.parametrize("reduction", ["sum", "max"])
def test_every_rule_in_another_precision_than_its_cells(rule, reduction):
    """Monitors are folded and updates made in the trainer's; weights stay in theirs."""
    found = []
    for moved in (False, True):
        p = zoo.problem(Dense(F, N, seed=3, gain=1.5))
        own = Plasticity(rule, reward="reward", step_reduction=reduction)
        spec = {key: tf.TensorSpec(x.shape[1:], x.dtype) for key, x in p.batch.items()}
        own.prepare(p.modules, spec, len(p.pre))
        if moved:
            migrate(own.trainers[0], dtype=tf.float64)
        state = own.initial_state(p.modules, p.pre.shape[1])
        done = own.update(p.modules, p.batch, state)
        found.append(done.assigned[0].numpy())
        kinds = {x.dtype for x in tf.nest.flatten((done.state.folds, done.state.remembered))}
        assert (tf.float64 in kinds) == moved
        assert moved or kinds == {tf.float32}
    assert found[1].dtype == np.float32
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)


def test_values_names_and_kinds_stay():
    trainer, network = made()
    modules = (trainer, network)
    network.cells[0].feedforward.updater.kernel = np.full([F, N], 0.1, np.float32)
    before = [{v.name: v for v in module.variables} for module in modules]
    migrate(trainer, dtype="float64")
    migrate(network, dtype=tf.float64)
    for module, old in zip(modules, before, strict=True):
        assert {v.name for v in module.variables} == set(old) and len(old) == len(module.variables)
        for v in module.variables:
            was = old[v.name]
            assert v is not was and v.trainable == was.trainable
            assert v.dtype == (tf.float64 if was.dtype.is_floating else was.dtype)
            assert (v.aggregation, v.synchronization) == (was.aggregation, was.synchronization)
            np.testing.assert_array_equal(v, tf.cast(was, v.dtype))


def test_on_a_device():
    trainer, network = made()
    kernel = network.cells[0].feedforward.kernel
    migrate(network, device="/CPU:0")
    moved = network.cells[0].feedforward.kernel
    assert moved is not kernel and moved.device.endswith("CPU:0") and moved.dtype == tf.float32
    np.testing.assert_array_equal(moved, kernel)
    contribute(trainer, trainer.get_unit("a"), spikes())
    trainer.update()
    assert np.abs(moved - kernel).max() > 1e-3


def test_a_variable_in_two_places_stays_one():
    module, part = tf.Module(), tf.Module()
    module.w = part.w = tf.Variable(1.0)
    module.part, module.others = part, {"w": [module.w], "pair": (module.w, 3)}
    migrate(module, dtype=tf.float64)
    assert module.w.dtype == tf.float64 and module.w is part.w is module.others["w"][0]
    assert module.others["pair"][0] is module.w and module.others["pair"][1] == 3
    assert len(module.variables) == 1


def test_a_checkpoint_afterwards_has_the_new_variables(tmp_path):
    trainer, network = made()
    keys = []
    for dtype in (tf.float32, tf.float64):
        checkpoint = tf.train.Checkpoint(network=network, trainer=trainer)
        saved = checkpoint.write(str(tmp_path / dtype.name))
        reader = tf.train.load_checkpoint(saved)
        keys.append(set(reader.get_variable_to_shape_map()))
        assert dtype in reader.get_variable_to_dtype_map().values()
        migrate(network, dtype=tf.float64)
        migrate(trainer, dtype=tf.float64)
    assert keys[0] == keys[1]
    kernel = reader.get_tensor("network/cells/0/feedforward/kernel/.ATTRIBUTES/VARIABLE_VALUE")
    assert kernel.dtype == np.float64


def test_where_it_cannot_be():
    trainer, network = made()
    for dtype in (tf.int32, "bool"):
        with pytest.raises(ValueError, match="expected a floating type"):
            migrate(network, dtype=dtype)

    @tf.function
    def inside():
        migrate(trainer, dtype=tf.float64)

    with pytest.raises(RuntimeError, match=r"outside of tf\.function"):
        inside()
    assert floating(trainer) == floating(network) == {tf.float32}


POPULATIONS = {
    **{row.name: row.library for row in tables.NEURONS if "-" not in row.name},
    "trained": lambda n, dtype: neurons.ALIF(n, train_tau=True, train_threshold=True, dtype=dtype),
    "lasting": lambda n, dtype: neurons.AdaptiveVoltageLIF(n, dtype=dtype),
    "adex": lambda n, dtype: neurons.AdEx(n, dtype=dtype),
}  # fmt: skip


@pytest.mark.parametrize("population", POPULATIONS.values(), ids=POPULATIONS)
@pytest.mark.parametrize(
    "onto",
    [lambda dtype: Dense(F, N, bias=True, dtype=dtype),
     lambda dtype: Sparse(F, N, fan_in=2, dtype=dtype)],
    ids=["dense", "sparse"],
)  # fmt: skip
def test_a_moved_cell_runs(population, onto):
    back = Dense(N, N, autapses=False, seed=1)
    own = Cell(population(N, tf.float32), onto(tf.float32), back)
    x = np.random.default_rng(0).normal(size=(4, 2, F))
    first = Network([own]).unroll(tf.constant(x, tf.float32)).cells[0]
    migrate(own, dtype=tf.float64)
    assert {v.ref() for v, _ in own.neuron.lasting} <= {v.ref() for v in own.variables}
    moved = Network([own]).unroll(tf.constant(x)).cells[0]
    leaves = [leaf for leaf in tf.nest.flatten(moved) if leaf is not None]
    assert {leaf.dtype for leaf in leaves} == {tf.float64}
    for old, new in zip(
        tf.nest.flatten(first.history), tf.nest.flatten(moved.history), strict=True
    ):
        np.testing.assert_allclose(old, new, rtol=1e-4, atol=1e-4)
