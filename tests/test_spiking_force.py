"""Spiking FORCE: step by step as its equations say, and that what was learned goes on alone."""

import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.tasks import spiking_force
from tests.oracles import rls as oracle

CONFIGS = pathlib.Path(__file__).parent.parent / "configs" / "spiking_force"
SHORT = "trainer.pictures=0,task.schedule.test_seconds=1"
DT, STEPS = 0.05, 1200  # ms


def make_run(directory, override, config="lif"):
    config = experiments.load(
        "spiking_force", [str(CONFIGS / f"{config}.yaml")], f"{SHORT},{override}"
    )
    return experiments.build_run(config, directory)


def test_it_is_the_published_loop(tmp_path):
    run = make_run(
        tmp_path,
        "runtime.dtype=float64,seed=3,task.model.units=40,task.model.density=0.4,task.model.gain=0.2,"
        "task.model.feedback_gain=10,task.model.first_v=[-65,-45],task.schedule.quiet_seconds=0.01,"
        "task.schedule.learning_seconds=0.05,task.schedule.free_seconds=0,learning.rls.window=5,"
        "task.model.neuron.voltage_lif={rest_mv: -35, refractory_ms: 1.0}",
    )
    (node,) = run.task.training_modules.model.networks
    network = node.module
    first, omega = (
        c.kernel.numpy() for c in (network.cells[0].feedforward, network.cells[0].recurrent)
    )
    decay = math.exp(-DT / 10.0)  # from the reset, for they cannot rest above their threshold
    start = -65.0 * decay - 35.0 * (1.0 - decay) + first[0] * (1.0 - decay)
    example = run.task.database.examples("train", ["target", "learned"]).fetch(
        tf.constant(0, tf.int64), tf.constant([0, 0])
    )
    step = np.arange(STEPS)
    learns = ((step + 1) % 5 == 0) & example["learned"].numpy()
    # One Euler step of the oracle leaves as much of v as the exact solution.
    tau = DT * 1e-3 / (1.0 - math.exp(-DT / 10.0))
    want = oracle.spiking_force(
        omega,
        network.feedback["output"].kernel.numpy(),
        start,
        example["target"].numpy()[1:],
        1.0 / 2e4,
        learns[1:],
        lif=(DT * 1e-3, tau, 19, -65.0, -40.0, -35.0),
    )
    run.trainer.train(tf.constant(1))
    assert 30 < want[-1].sum() < 0.02 * STEPS * 40  # spikes
    got = network.readouts["output"].feedforward.kernel.numpy()
    np.testing.assert_allclose(got, want[0], rtol=0, atol=1e-9 * np.abs(want[0]).max())
    (matrix,) = run.trainer.rule.matrices["network.output"]
    np.testing.assert_allclose(matrix, want[4], rtol=0, atol=1e-9 * np.abs(want[4]).max())


def test_what_was_learned_goes_on_alone(tmp_path):
    run = make_run(
        tmp_path,
        "seed=1,task.model.units=400,task.schedule.quiet_seconds=0.1,task.schedule.learning_seconds=0.7,"
        "task.schedule.free_seconds=0.3",
    )
    results = run.trainer.train(tf.constant(1))
    assert results["rmse"] < 0.1
    assert results["rmse_after"] < 0.5  # a guess of 0 has 0.7


@pytest.mark.parametrize("name, current", [("lif", None), ("theta", 0.0), ("izhikevich", 1000.0)])
def test_the_first_step_sets_the_potentials(name, current):
    """From there the constant current of the model drives them."""
    file = str(CONFIGS / f"{name}.yaml")
    config = experiments.load("spiking_force", [file], "task.model.units=50,task.model.gain=0").task
    task = config.build(0, tf.float64)
    (node,) = task.training_modules.model.networks
    low, high = config.model.first_v
    features = task.database.examples("test", ["inputs"]).fetch(
        tf.constant(0, tf.int64), tf.constant([0, 0])
    )
    run = node.module.unroll(features["inputs"][:2, tf.newaxis])
    v = run.cells[0].history.inner.v.numpy()[1, 0]
    assert low <= v.min() < low + 0.1 * (high - low)
    assert high >= v.max() > high - 0.1 * (high - low)
    np.testing.assert_allclose(run.cells[0].currents[1], current or 0.0, atol=1e-9)


def test_weights_onto_a_neuron_are_balanced():
    config = experiments.load("spiking_force", [], "task.model.units=300").task
    (node,) = config.build(0, tf.float64).training_modules.model.networks
    omega = node.module.cells[0].recurrent.kernel.numpy()
    np.testing.assert_allclose(omega.sum(axis=0), 0.0, atol=1e-9)
    assert np.mean(omega != 0) == pytest.approx(0.1, abs=0.01)
    assert omega[omega != 0].std() == pytest.approx(0.04 / (0.1 * math.sqrt(300)), rel=0.05)


def test_the_best_shift():
    config = spiking_force.SpikingForceConfig()
    time = np.arange(40_000) * 5e-5
    wave = lambda shift: np.sin(2 * np.pi * 5 * (time - shift))[np.newaxis, :, np.newaxis]  # noqa: E731
    assert config.shifted(wave(0.03), wave(0.0)) < 0.05
    assert config.shifted(0.5 * wave(0.03), wave(0.0)) == pytest.approx(
        0.5 / math.sqrt(2), abs=0.02
    )
