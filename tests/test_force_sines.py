"""FORCE: step by step as published, and that what was learned runs on its own."""

import numpy as np
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.tasks import force_sines, reservoir

SMALL = "task.model={units: 120, density: 0.3},task.period_steps=150,trainer.pictures=0"


def make_run(directory, override):
    config = experiments.load("force_sines", [], f"{SMALL},{override}")
    return experiments.build_run(config, directory)


def network_of(run):
    (node,) = run.task.training_modules.model.networks
    return node.module


def test_a_sequence_is_that_of_the_published_loop(tmp_path):
    """x <- (1 - dt) x + dt (M r + w_f z); k = P r, c = 1 / (1 + r k), P -= c k k, w -= c e k."""
    run = make_run(tmp_path, "runtime.dtype=float64,task.periods=1,seed=3")
    network = network_of(run)
    pulse = network.cells[0].feedforward.kernel.numpy()[0]
    recurrent = network.cells[0].recurrent.kernel.numpy()
    back = network.feedback["output"].kernel.numpy()[0]
    leak, units, steps = reservoir.LEAK, 120, 150
    wanted = 1.3 / 1.5 * force_sines.sines(steps, steps)
    x, z, weights, p = np.zeros(units), 0.0, np.zeros(units), np.eye(units)
    losses = []
    for t in range(steps):
        x = (1 - leak) * x + leak * (np.tanh(x) @ recurrent + z * back + (t == 0) * pulse)
        rates = np.tanh(x)
        z = rates @ weights
        losses.append((z - wanted[t]) ** 2)
        if t % 2:
            gain = p @ rates
            scale = 1.0 / (1.0 + rates @ gain)
            p -= scale * np.outer(gain, gain)
            weights -= scale * (z - wanted[t]) * gain
    loss = run.trainer.train(tf.constant(1))["loss"]
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-9)
    learned = network.readouts["output"].feedforward.kernel.numpy()[:, 0]
    np.testing.assert_allclose(learned, weights, atol=1e-9)
    (matrix,) = run.trainer.rule.matrices["network.output"]
    np.testing.assert_allclose(matrix, p, atol=1e-9)


def test_what_was_learned_runs_on_its_own(tmp_path):
    results = make_run(tmp_path, "trainer.train_steps=10,seed=1").train_and_evaluate()
    assert results["metrics"]["nmse"] < 0.02


def test_published_constants():
    config = experiments.load("force_sines")
    task = config.task.build(0, tf.float32)
    (node,) = task.training_modules.model.networks
    (cell,) = node.module.cells
    weights = cell.recurrent.kernel.numpy()
    assert weights.shape == (1000, 1000)
    assert abs(np.mean(weights != 0) - 0.1) < 0.01
    radius = np.abs(np.linalg.eigvals(weights[:1000])).max()
    assert 1.4 < radius < 1.6
    first = 0.1 * cell.feedforward.kernel.numpy()
    assert abs(first.std() - 0.5) < 0.05
    assert np.abs(node.module.feedback["output"].kernel).max() <= 1.0
    example = task.database.split("train").fetch(tf.constant(0), tf.constant([0, 0]))
    assert example["target"].shape == (2400, 1)
    assert abs(float(tf.reduce_max(example["target"])) - 1.3) < 0.2
