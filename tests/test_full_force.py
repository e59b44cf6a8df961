"""Full-FORCE: its equations step by step, and that the oscillation is learned."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.graph import MSE, assemble_for_training
from orbit_snn.learning import RLS, Kernel
from orbit_snn.learning.base import window_of
from orbit_snn.tasks.full_force import FullForceConfig, features, full_force, target_weights
from orbit_snn.tasks.full_force_oscillation import chirp
from tests.oracles import rls as oracle

STEPS, ALPHA = 60, 0.7


def learn(modules, rule, features):
    batch = {name: x[tf.newaxis] for name, x in features.items()}
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
    """The oracle learns before a step from `start`; here that is after the first step."""
    draw = np.random.default_rng(0)
    pulse, waves = draw.normal(size=(STEPS, 1)), draw.normal(size=(STEPS, 2))
    weights = target_weights(FullForceConfig(units=20), 1, 2, seed=5)
    start = weights.settled(pulse, waves)
    net, wanted = full_force(weights, 2, start, 1.0, tf.float64)
    net.output.db_name = "ahead"
    loss = MSE(net.current.pred, wanted.pred) + MSE.of_node(net.output)
    modules, _ = assemble_for_training(loss, {"loss": loss})
    rule = RLS("inputs", Kernel(alpha=ALPHA), window=2, rows="last", corrected=True)
    learn(modules, rule, features(pulse, waves))
    want = oracle.full_force(
        weights.recurrent,
        waves @ weights.private,
        pulse @ weights.shared,
        waves,
        start,
        start,
        0.1,
        ALPHA,
    )
    for name, wanted in (("output", want[0]), ("current", want[1])):
        got = net.module.readouts[name].feedforward.kernel.numpy()
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
        "task.model.units=150,task.half_steps=300,task.pulse_steps=30,task.trials=4,"
        "trainer.train_steps=6,trainer.pictures=0,seed=1"
    )
    run = experiments.build_run(experiments.load("full_force_oscillation", [], small), tmp_path)
    assert run.train_and_evaluate()["metrics"]["error"] < 0.01
