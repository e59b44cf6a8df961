"""Ready-set-go: what is drawn, and that the networks of it learn."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.tasks import ready_set_go

SMALL = (
    "task.model.units=150,task.shortest_delay=60,task.longest_delay=120,task.lead=40,"
    "task.pulse_steps=20,task.go_steps=80,task.validation_examples=8,task.test_examples=8,"
    "trainer.pictures=0,seed=1"
)


@pytest.mark.parametrize("hint", [True, False])
def test_a_trial(hint):
    config = ready_set_go.ReadySetGoConfig(hint=hint)
    delays = []
    for k in range(6):
        made = {name: x.numpy() for name, x in config.trial(tf.constant([k, 3])).items()}
        assert {len(x) for x in made.values()} == {config.steps}
        ready, set_ = (np.flatnonzero(made["shared"][:, k]) for k in range(2))
        assert len(ready) == len(set_) == 50
        delay = set_[0] - ready[0]
        delays.append(delay)
        assert 100 <= delay <= 2100
        assert np.argmax(made["go"]) + 1 == set_[0] + delay + 250  # inputs are one step later
        assert made["go"].max() == pytest.approx(1.0) and made["go"].min() == -0.5
        np.testing.assert_array_equal(made["ahead"][:-1], made["private"][1:])
        ramp = made["ahead"][:, 1]
        assert ramp.max() == pytest.approx(delay / 1e3 * hint)
        if hint:
            assert np.argmax(ramp) + 1 == set_[0]
    assert np.ptp(delays) > 500


def test_the_distance_of_peaks():
    wave = np.zeros([2, 50, 1])
    wave[0, 10], wave[1, 20] = 1.0, 1.0
    assert ready_set_go.peak_distance(np.roll(wave, 4, axis=1), wave) == 4.0


def test_short_delays_are_learned(tmp_path):
    override = f"{SMALL},trainer.train_steps=12,trainer.batch_size=5"
    run = experiments.build_run(experiments.load("ready_set_go", [], override), tmp_path)
    metrics = run.train_and_evaluate()["metrics"]
    assert metrics["error"] < 0.5  # the baseline alone has more than 1
    assert metrics["go_error_ms"] < 40.0


def test_delays_that_are_none():
    with pytest.raises(experiments.ConfigError, match="longest_delay is 50; expected at least"):
        experiments.load("ready_set_go", [], "task.longest_delay=50").task.build(0, tf.float32)
