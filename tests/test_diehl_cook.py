"""The task diehl_cook: what it is made of, that it learns, and what it draws."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.graph import GraphError
from orbit_snn.learning.plasticity import MaxRateClassifier
from orbit_snn.tasks import diehl_cook
from orbit_snn.training.receptive_fields import ReceptiveFields, fields_figure

SMALL = "task.model.units=40,task.duration_ms=150,task.brightest_hz=250,trainer.steps_per_loop=200"
SMALL += ",trainer.validation_interval=200,trainer.checkpoint_interval=200"


def make_run(directory, override):
    config = experiments.load(diehl_cook.DiehlCookConfig.name, [], f"{SMALL},{override}")
    return experiments.build_run(config, directory)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 400 images, and its results."""
    directory = tmp_path_factory.mktemp("diehl_cook")
    run = make_run(directory, "trainer.train_steps=400")
    return run, run.train_and_evaluate(), directory


def test_it_tells_digits_apart_without_having_been_told(trained):
    assert trained[1]["metrics"]["accuracy"] > 0.6


def test_weights_stay_in_range_and_keep_their_sum(trained):
    (node,) = trained[0].task.training_modules.model.networks
    weights = node.module.cells[0].feedforward.kernel.numpy()
    assert weights.min() >= 0.0 and weights.max() <= 1.0 + 1e-6
    np.testing.assert_allclose(weights.sum(axis=0), 6.4, rtol=1e-5)
    assert np.std(weights) > 0.05  # they are no longer alike


def test_thresholds_outlive_a_sequence(trained):
    (node,) = trained[0].task.training_modules.model.networks
    theta = node.module.cells[0].neuron.theta[0].numpy()
    assert 1.0 < theta.mean() < 60.0


def test_receptive_fields_are_drawn(trained):
    assert list(trained[2].rglob("receptive_fields/network.png"))


def test_training_says_nothing_of_votes_on_a_single_step(tmp_path):
    run = make_run(tmp_path, "trainer.train_steps=200,trainer.pictures=0")
    found = run.trainer.train(tf.constant(1))
    assert "accuracy" not in found
    assert found["network.cell0.feedforward.kernel/mean"] == pytest.approx(0.1, rel=1e-4)


def test_votes_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    classifier = MaxRateClassifier(5, 3, decay=0.1, dtype=tf.float64)
    rates, samples = np.zeros([3, 5]), np.zeros(3)
    for _ in range(3):
        x, label = rng.random([4, 5]), rng.integers(3, size=4)
        x[:, 4] = 0.0  # a silent neuron
        for c in range(3):
            kept = np.exp(-0.1 * np.sum(label == c))
            rates[c] = kept * rates[c] + x[label == c].sum(axis=0)
            samples[c] = kept * samples[c] + np.sum(label == c)
        new = classifier.learned(classifier.statistics(tf.constant(x), tf.constant(label)))
        for variable, value in zip(classifier.memory, new, strict=True):
            variable.assign(value)
    np.testing.assert_allclose(classifier.rates, rates, atol=1e-12)
    share = rates / samples[:, np.newaxis]
    share = share / np.maximum(share.sum(axis=0), 1e-300)
    own = share.argmax(axis=0)
    x = rng.random([6, 5])
    want = np.zeros([6, 3])
    for c in range(3):
        members = [n for n in range(4) if own[n] == c]
        if members:
            want[:, c] = x[:, members].mean(axis=1)
    np.testing.assert_allclose(classifier(tf.constant(x)), want, atol=1e-12)


def test_a_classifier_that_has_seen_nothing_says_nothing():
    np.testing.assert_array_equal(MaxRateClassifier(3, 2)(tf.ones([1, 3])), [[0.0, 0.0]])


@pytest.mark.parametrize(
    "arguments,message",
    [((0, 3), "0 units and 3 classes"), ((3, 2, -1.0), "decay is -1.0; expected 0 or more")],
)
def test_classifiers_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        MaxRateClassifier(*arguments)


def test_fields_that_cannot_be_drawn(trained):
    (node,) = trained[0].task.training_modules.model.networks
    with pytest.raises(GraphError, match="product is 64"):
        ReceptiveFields(node, (7, 9))
    with pytest.raises(GraphError, match="of cell 1; the network has 1"):
        ReceptiveFields(node, (8, 8), cell=1)
    with pytest.raises(ValueError, match="expected .N, rows, columns."):
        fields_figure(np.zeros([3, 4]))
    assert (
        fields_figure(np.zeros([500, 2, 3]), "net")
        .axes[0]
        .get_title(loc="left")
        .endswith("400 of 500 neurons")
    )
