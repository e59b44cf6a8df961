"""CURBD: the data, the fit, and the currents between regions."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.seeds import derive
from orbit_snn.tasks import curbd_three_regions as curbd

CONFIGS = pathlib.Path(__file__).parents[1] / "configs" / "curbd_three_regions"
SMALL = "task.units=20,task.seconds=2.0,trainer.pictures=0,seed=1"


def test_data_are_rates_of_three_regions():
    config = curbd.CurbdConfig(units=20, seconds=1.0)
    data = curbd.recorded(config, 3)
    assert data.shape == (300, 60)
    assert np.abs(data).max() == pytest.approx(curbd.LARGEST)
    np.testing.assert_array_equal(data, curbd.recorded(config, 3))
    alone = curbd.recorded(curbd.CurbdConfig(units=20, seconds=1.0, amplitude=0.0), 3)
    assert not np.allclose(alone, data)


def test_a_sequence_goes_through_all_samples_and_has_other_noise_in_every_pass():
    config = experiments.load("curbd_three_regions", [], SMALL)
    database = config.task.build(0, tf.float32).database
    one, other = (
        database.split("train").fetch(tf.constant(0), tf.constant([k, 0])) for k in (0, 1)
    )
    held_out = database.split("test").fetch(tf.constant(0), tf.constant([0, 0]))
    assert one["inputs"].shape == one["activity"].shape == (2000, 60)
    assert np.flatnonzero(one["sampled"])[:2].tolist() == [4, 9]
    assert np.flatnonzero(~one["known"]).tolist() == [0, 1, 2, 3]
    data, got = curbd.recorded(config.task, derive(0, "data")), one["activity"].numpy()
    np.testing.assert_allclose(got[4::5], data, atol=1e-5)
    middle = np.tanh(np.arctanh(data[:-1]) / 2 + np.arctanh(data[1:]) / 2)
    np.testing.assert_allclose(got[6::5] / 2 + got[7::5] / 2, middle, atol=1e-2)
    assert not np.allclose(one["inputs"], other["inputs"])
    assert np.flatnonzero(np.any(held_out["inputs"] != 0.0, axis=1)).tolist() == [4]
    np.testing.assert_allclose(np.tanh(0.02 * held_out["inputs"][4]), data[0], atol=1e-5)
    noise = (one["inputs"] - held_out["inputs"]).numpy()
    assert 0.002 < noise.std() < 0.02


@pytest.mark.parametrize("rule,first,last", [("rls", 0.99, 0.999), ("published", 0.5, 0.95)])
def test_a_few_passes_explain_the_data(tmp_path, rule, first, last):
    files = [str(CONFIGS / f"{rule}.yaml")]
    config = experiments.load("curbd_three_regions", files, f"{SMALL},trainer.train_steps=6")
    run = experiments.build_run(config, tmp_path)
    passes = [run.trainer.train(tf.constant(1))["pvar"] for _ in range(6)]
    assert first < passes[0] < passes[-1] and passes[-1] > last


def test_currents_add_up_to_the_recurrent_current():
    config = curbd.CurbdConfig(units=4)
    draw = np.random.default_rng(0)
    weights, rates = draw.normal(size=(12, 12)), draw.normal(size=(7, 12))
    found = curbd.currents(config, weights, rates)
    onto = [sum(found[source, target] for source in "ABC") for target in "ABC"]
    np.testing.assert_allclose(np.concatenate(onto, axis=1), rates @ weights)
    figure = curbd.currents_figure(config, found)
    assert len(figure.axes) == 10  # nine pairs and a scale
