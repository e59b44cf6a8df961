"""The task reward_timing: its rewards, its data, and that the timing is learned."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.graph import GraphError
from orbit_snn.tasks.reward_timing import RewardTimingConfig


def test_rewards_come_late_and_by_where_the_spike_was():
    config = RewardTimingConfig(
        steps=10, window_start=4, window_steps=2, delay_steps=3, punishment=0.5, units=2
    )
    spikes = np.zeros([1, 10, 2], np.float32)
    spikes[0, 1, 0] = spikes[0, 5, 0] = spikes[0, 5, 1] = spikes[0, 8, 0] = 1.0
    want = np.zeros(10)
    want[4], want[8] = -0.25, 1.0
    np.testing.assert_allclose(config.rewards(tf.constant(spikes))[0], want)


def test_a_part_of_a_trial_is_refused():
    with pytest.raises(GraphError, match="apply_every=sequence"):
        RewardTimingConfig(steps=10).rewards(tf.zeros([1, 4, 1]))


def test_timed_afferents_spike_near_their_times():
    config = RewardTimingConfig(timed=3, random=40, reliability=1.0, jitter_steps=1, steps=200)
    example = config.draw(tf.constant([0, 50, 150]), tf.constant([1, 2]), tf.float32)
    spikes = example["inputs"].numpy()
    assert spikes.shape == (200, 43)
    np.testing.assert_array_equal(spikes[:, :3].sum(axis=0), 1.0)
    assert np.abs(spikes[:, :3].argmax(axis=0) - [0, 50, 150]).max() <= 1
    assert spikes[:, 3:].mean() == pytest.approx(0.02, abs=0.006)


def test_a_neuron_learns_when_to_spike(tmp_path):
    faster = "trainer.pictures=0,learning.plasticity.rule.mstdpet.lr_post=0.05"
    run = experiments.build_run(experiments.load("reward_timing", [], faster), tmp_path)
    first, _, last = (run.trainer.train(tf.constant(steps)) for steps in (20, 360, 20))
    assert first["in_window"] < 0.3  # a tenth of the trial is the window
    assert last["in_window"] > 2.0 * first["in_window"]
    assert last["hits"] > 0.4
