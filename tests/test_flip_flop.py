"""Flip-flop: what is drawn, and that FORCE in a batch learns it."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.tasks import flip_flop


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_state_is_the_sign_of_the_last_pulse(seed):
    config = flip_flop.FlipFlopConfig(steps=300, rate=0.02, width=6)
    draw = tf.function(lambda key: flip_flop.pulses_and_states(config, key), jit_compile=seed > 0)
    pulses, states = (x.numpy() for x in draw(tf.constant([seed, 5])))
    assert pulses.shape == states.shape == (300, 3)
    assert set(np.unique(pulses)) == {-1, 0, 1}
    for k in range(3):
        state = np.concatenate([[0], states[:, k]])
        turned = np.flatnonzero(np.diff(state))
        assert len(turned)
        for t in turned:  # a pulse begins, of the new sign, and lasts unless the other sign comes
            until = min([t + 6, *turned[turned > t]])
            assert (pulses[t:until, k] == state[t + 1]).all()
        np.testing.assert_array_equal(pulses[:, k] * states[:, k], np.abs(pulses[:, k]))


def test_pulses_come_at_their_rate():
    config = flip_flop.FlipFlopConfig(steps=20_000, rate=0.01, width=1)
    pulses, _ = flip_flop.pulses_and_states(config, tf.constant([3, 4]))
    assert float(tf.reduce_mean(tf.abs(tf.cast(pulses, tf.float32)))) == pytest.approx(
        0.01, rel=0.1
    )
    assert abs(float(tf.reduce_sum(pulses))) < 100


def test_the_sign_counts_after_the_first_pulse():
    true = np.array([[[0.0], [1.0], [1.0], [-1.0]]])
    pred = np.array([[[5.0], [0.1], [-0.1], [-2.0]]])
    assert flip_flop.sign_accuracy(pred, true) == pytest.approx(2 / 3)


def test_a_batch_of_trials_learns(tmp_path):
    small = "task.model.units=150,task.steps=1500,task.rate=0.01,trainer.pictures=0,seed=1"
    run = experiments.build_run(experiments.load("flip_flop", [], small), tmp_path)
    metrics = run.train_and_evaluate()["metrics"]
    assert metrics["sign_accuracy"] > 0.97
    assert metrics["loss"] < 0.15
