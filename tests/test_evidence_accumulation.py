"""Evidence accumulation: its data have the published statistics, and a small version is learned."""

import json

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ConfigError
from orbit_snn.data import training_dataset
from orbit_snn.tasks.evidence_accumulation import EvidenceAccumulationConfig

SMALL = {"cues": 3, "gap_steps": 5, "cue_steps": 15, "delay_steps": 20, "recall_steps": 20}
TINY = {
    "trainer": {
        "train_steps": 2,
        "steps_per_loop": 2,
        "checkpoint_interval": 2,
        "validation_interval": 2,
        "batch_size": 8,
        "pictures": 0,
        "stop_at": None,
    },
    "task": {**SMALL, "model": {"units": [8]}, "validation_examples": 10, "test_examples": 6},
    "runtime": {"enable_xla": False},
}


def examples(number, **fields):
    """So many training examples of the task, `[number, ...]` each."""
    config = EvidenceAccumulationConfig(**fields)
    draw = tf.function(lambda k: tf.map_fn(lambda i: config.draw(tf.stack([7, i])), k, SIGNATURE))
    return {name: x.numpy() for name, x in draw(tf.range(number)).items()}


SIGNATURE = {"inputs": tf.bool, "label": tf.int32, "recall": tf.bool}


@pytest.fixture(scope="module")
def published():
    return examples(300)


def groups(inputs):
    """Fraction of spikes, `[B, T, 4]`."""
    return inputs.reshape(*inputs.shape[:2], 4, -1).mean(axis=3)


def cue_sides(inputs):
    """For each cue, which of the two groups was on, `[B, 7]`."""
    sides = groups(inputs)[:, :1050, :2].reshape(-1, 7, 150, 2)
    assert not sides[:, :, :50].any(), "the first 50 steps of a period are silent"
    active = sides[:, :, 50:].any(axis=2)
    assert (active.sum(axis=2) == 1).all(), "one side at a time"
    return active[:, :, 1].astype(int)


def test_shape_and_timing(published):
    inputs, recall = published["inputs"], published["recall"]
    assert inputs.shape == (300, 2250, 40)
    assert recall.sum(axis=1).tolist() == [150] * 300 and recall[:, -150:].all()
    left, right, question, _ = np.moveaxis(groups(inputs), 2, 0)
    assert not left[:, 1050:].any() and not right[:, 1050:].any()
    assert not question[:, :-150].any() and question[:, -150:].any(axis=1).all()


def test_rates_of_the_groups(published):
    left, right, question, noise = np.moveaxis(groups(published["inputs"]), 2, 0)
    cues = (left + right)[:, :1050].reshape(-1, 7, 150)[:, :, 50:]
    assert cues.mean() == pytest.approx(0.04, rel=0.02)
    assert question[:, -150:].mean() == pytest.approx(0.04, rel=0.03)
    assert noise.mean() == pytest.approx(0.01, rel=0.02)
    assert noise.mean(axis=0).reshape(15, 150).mean(axis=1) == pytest.approx(0.01, rel=0.1)


def test_labels_are_the_side_with_more_cues(published):
    side, label = cue_sides(published["inputs"]), published["label"]
    np.testing.assert_array_equal(label, side.sum(axis=1) > 3)
    assert label.mean() == pytest.approx(0.5, abs=0.08)
    # Cues are independent given one of two sides of probability .3, so their pairs correlate by
    # .2^2 / .25.
    together = np.corrcoef(side.T)[np.triu_indices(7, 1)].mean()
    assert together == pytest.approx(0.16, abs=0.05)
    assert np.bincount(side.sum(axis=1), minlength=8) / 300 == pytest.approx(
        [0.041, 0.124, 0.171, 0.162, 0.162, 0.171, 0.124, 0.041], abs=0.06
    )


def test_an_even_number_of_cues_has_ties_on_the_left():
    found = examples(40, cues=2, side_probability=0.5, cue_probability=1.0, gap_steps=0)
    right = groups(found["inputs"])[:, [0, 100], 1].sum(axis=1)
    assert set(right) == {0, 1, 2}
    np.testing.assert_array_equal(found["label"], right == 2)


def test_xla_draws_the_same():
    config = EvidenceAccumulationConfig(**SMALL)
    seed = tf.constant([3, 4])
    plain, compiled = (tf.function(config.draw, jit_compile=xla)(seed) for xla in (False, True))
    assert plain["inputs"].shape == (100, 40)
    for name in SIGNATURE:
        np.testing.assert_array_equal(plain[name], compiled[name])


def test_examples_are_functions_of_the_seed_and_their_number():
    config = experiments.load("evidence_accumulation", params_override=json.dumps(TINY))
    database = config.task.build(0, tf.float32).database

    def batch(seed, step, split="train"):
        if split == "train":
            found = next(iter(training_dataset(database.splits[split], 4, seed, step)))
        else:
            found = next(iter(database.batches(split, 4, seed, ("inputs",))))
        return found["inputs"].numpy()

    kinds = [batch(1, 3), batch(2, 3), batch(1, 4), batch(1, 0, "validation"), batch(1, 0, "test")]
    np.testing.assert_array_equal(batch(1, 3), kinds[0])
    np.testing.assert_array_equal(batch(1, 0, "validation"), kinds[3])
    for k, one in enumerate(kinds):
        assert all((one != other).any() for other in kinds[k + 1 :])
    assert [database.splits[s].size for s in ("train", "validation", "test")] == [None, 10, 6]


def test_the_published_network():
    config = experiments.load("evidence_accumulation")
    alif = config.task.model.other_neuron.alif
    assert alif.beta == pytest.approx(0.0174, abs=5e-5)
    modules = config.task.build(0, tf.float32).training_modules
    (net,) = modules.model.networks
    kernels = [p.shape.as_list() for p in modules.model.parameters]
    assert kernels == [[40, 100], [100, 100], [100, 2]], "no bias"
    assert [part.units for part in net.module.cells[0].neuron.populations] == [50, 50]
    w_in, w_rec, w_out = (p.numpy() for p in modules.model.parameters)
    assert w_in.std() == pytest.approx(40**-0.5, rel=0.05)
    assert w_rec.std() == pytest.approx(0.1, rel=0.05) and not np.diag(w_rec).any()
    assert np.abs(w_out).max() == pytest.approx((6 / 102) ** 0.5, rel=0.1)


def test_a_small_version_is_learned(tmp_path):
    steps = {"train_steps": 50, "steps_per_loop": 50, "batch_size": 32, "stop_at": None}
    steps |= {"checkpoint_interval": 50, "validation_interval": 50, "pictures": 0}
    task = {**SMALL, "cues": 1, "model": {"units": [16]}, "cue_probability": 0.2}
    task |= {"validation_examples": 32, "test_examples": 128}
    text = json.dumps({"trainer": steps, "task": task, "runtime": {"enable_xla": False}})
    config = experiments.load("evidence_accumulation", params_override=text)
    results = experiments.build_run(config, tmp_path).train_and_evaluate()
    metrics = results["metrics"]
    assert metrics["accuracy"] > 0.9, metrics
    assert results["step"] == 50 and results["examples"] == 128
    assert metrics["rate_hz/cell0"] > 0
    total = metrics["loss/cross_entropy"] + metrics["loss/rate"]
    assert metrics["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("cues=0", r"task\.cues.*got 0.*at least 1"),
        ("recall_steps=0", r"task\.recall_steps.*got 0.*at least 1"),
        ("gap_steps=-1", r"task\.gap_steps.*-1.*at least 0"),
        ("cue_probability=1.5", r"task\.cue_probability.*1\.5.*at most 1"),
        ("delay=3", r"task\.delay.*Did you mean `delay_steps`"),
    ],
)
def test_bad_input(field, message):
    with pytest.raises(ConfigError, match=message) as caught:
        experiments.load("evidence_accumulation", params_override=f"task.{field}")
    assert "\n" not in str(caught.value)
