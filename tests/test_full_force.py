"""Full-FORCE: its equations step by step, and that the oscillation is learned."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.graph import MSE, assemble_for_training
from orbit_snn.learning import RLS, Kernel
from orbit_snn.learning.base import window_of
from orbit_snn.tasks.full_force import FullForceConfig, full_force
from orbit_snn.tasks.full_force_oscillation import chirp
from tests.oracles import rls as oracle

STEPS, ALPHA = 60, 0.7


def later(x):
    return np.concatenate([np.zeros_like(x[:1]), x[:-1]])


def learn(modules, rule, features):
    batch = {name: tf.constant(x[np.newaxis]) for name, x in features.items()}
    spec = {name: tf.TensorSpec(x.shape, tf.float64) for name, x in features.items()}
    rule.prepare(modules, spec, STEPS)
    state = rule.initial_state(modules, 1)
    update = tf.function(lambda cut, state: rule.update(modules, cut, state))
    for start, stop in rule.windows(STEPS):
        done = update(window_of(batch, modules.temporal, start, stop - start), state)
        for variable, value in zip(rule.assigned(modules), done.assigned, strict=True):
            variable.assign(value)
        state = done.state


def test_it_is_the_published_loop():
    """The oracle starts at rest and learns before a step; here that is after a step of zeros."""
    draw = np.random.default_rng(0)
    pulse, waves = draw.normal(size=(STEPS, 1)), draw.normal(size=(STEPS, 2))
    net, error = full_force(FullForceConfig(units=20), 1, 2, 2, 1.0, 5, tf.float64)
    net.output.db_name = "target"
    loss = error + MSE.of_node(net.output)
    modules, _ = assemble_for_training(loss, {"loss": loss})
    teacher, network = (
        next(node.module for node in modules.model.networks if node.name == name)
        for name in ("teacher", "network")
    )
    outside = teacher.cells[0].feedforward.kernel.numpy()
    np.testing.assert_array_equal(network.cells[0].feedforward.kernel, outside[:1])
    rule = RLS("inputs", Kernel(alpha=ALPHA), window=2, rows="last", corrected=True)
    features = {"shared": later(pulse), "private": later(waves), "ahead": waves, "target": waves}
    learn(modules, rule, features)
    j_d = teacher.cells[0].recurrent.kernel.numpy()
    rest = np.zeros(20)
    want = oracle.full_force(
        j_d, waves @ outside[1:], pulse @ outside[:1], waves, rest, rest, 0.1, ALPHA
    )
    for name, wanted in (("output", want[0]), ("current", want[1])):
        got = network.readouts[name].feedforward.kernel.numpy()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())
        (matrix,) = rule.matrices[f"network.{name}"]
        np.testing.assert_allclose(matrix, want[4], rtol=0, atol=1e-9)


def test_what_is_fed_back_is_not_corrected_unless_asked_for():
    with pytest.raises(ValueError, match="corrected is for strategies of readouts; grad has none"):
        RLS("grad", corrected=True)


def test_the_chirp_is_odd_about_its_middle():
    wave = chirp(500)
    np.testing.assert_array_equal(wave, -wave[::-1])
    crossings = np.flatnonzero(np.diff(np.sign(wave[:500])))  # 1 Hz at first, 5 Hz at last
    assert np.diff(crossings)[-1] < 0.6 * np.diff(crossings)[0]


def test_the_oscillation_is_learned(tmp_path):
    small = (
        "task.model.units=150,task.half_steps=300,task.pulse_steps=30,task.trials=20,"
        "task.test_trials=6,trainer.pictures=0,seed=1"
    )
    run = experiments.build_run(experiments.load("full_force_oscillation", [], small), tmp_path)
    assert run.train_and_evaluate()["metrics"]["error"] < 0.01
