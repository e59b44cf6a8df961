"""Lorenz: its target, how attractors are compared, and that the readouts learn."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.tasks import lorenz


def test_the_target_is_the_attractor():
    x, y, z = 70.0 * lorenz.trajectory(200_000, 2e-4).T
    assert np.abs(x).max() < 22 and 0 < z.min() and 40 < z.max() < 50
    assert np.mean(x[20_000:] > 0) == pytest.approx(0.5, abs=0.2)
    maxima = z[1:-1][(z[1:-1] > z[:-2]) & (z[1:-1] > z[2:])][5:]
    turned = np.sign(x[:-1]) != np.sign(x[1:])  # it goes around one side, then around the other
    assert 5 < turned.sum() < len(maxima) * 2
    assert maxima.min() > 27


def test_spread():
    draw = np.random.default_rng(0).normal(size=(1, 4000, 3))
    assert lorenz.spread(draw[:, ::-1], draw) == 0.0
    assert lorenz.spread(draw + 0.5, draw) == pytest.approx(0.5, abs=0.02)
    assert lorenz.spread(0.0 * draw, draw) == pytest.approx(np.sqrt(2 / np.pi), abs=0.05)


def test_the_readouts_learn(tmp_path):
    small = (
        "task.model.units=200,task.model.dt_ms=0.05,task.schedule.quiet_seconds=0.1,"
        "task.schedule.learning_seconds=1.4,task.schedule.free_seconds=0.1,"
        "task.schedule.test_seconds=1,learning.rls.window=10,learning.rls.kernel.alpha=2e4,"
        "trainer.pictures=0,seed=1"
    )
    run = experiments.build_run(experiments.load("lorenz", [], small), tmp_path)
    results = run.trainer.train(tf.constant(1))
    target = lorenz.trajectory(30_000, 5e-5)[2000:]
    assert results["rmse"] < 0.3 * np.sqrt(np.mean(target**2))


def test_the_picture_shows_both_attractors():
    x = lorenz.trajectory(40_000, 2e-4)
    figure = lorenz.attractor_figure(x, x)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["target", "network"]
