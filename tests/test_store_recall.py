"""Store-recall: its sequences keep the published rules, and a small version is learned."""

import json

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ConfigError
from orbit_snn.tasks.store_recall import RECALL, STORE, Sentences, StoreRecallConfig, orders

SIGNATURE = {"inputs": tf.bool, "label": tf.int32, "recall": tf.bool, "symbol": tf.int32}
TINY = {
    "trainer": {
        "train_steps": 40,
        "steps_per_loop": 40,
        "checkpoint_interval": 40,
        "validation_interval": 40,
        "batch_size": 32,
        "pictures": 0,
        "stop_at": None,
        "optimizer_config": {"learning_rate": {"exponential": {"initial_learning_rate": 0.02}}},
    },
    "runtime": {"enable_xla": False},
    "task": {
        "symbols": 3,
        "symbol_steps": 20,
        "spike_probability": 0.2,
        "validation_examples": 32,
        "test_examples": 128,
    },
}


def examples(number, **fields):
    drawn = Sentences(StoreRecallConfig(**fields))
    draw = tf.function(lambda k: tf.map_fn(lambda i: drawn.draw(tf.stack([7, i])), k, SIGNATURE))
    return {name: x.numpy() for name, x in draw(tf.range(number)).items()}


@pytest.fixture(scope="module")
def published():
    return examples(200)


def symbols(published):
    """For each symbol, which of the four groups are on, `[B, 12, 4]`."""
    spikes = published["inputs"].reshape(-1, 12, 200, 4, 25)
    return spikes.any(axis=(2, 4)), spikes


def test_groups_and_their_rates(published):
    assert published["inputs"].shape == (200, 2400, 100)
    on, spikes = symbols(published)
    assert spikes.mean(axis=(2, 4))[on].mean() == pytest.approx(0.05, rel=0.01)
    zero, one, store, recall = np.moveaxis(on, 2, 0)
    np.testing.assert_array_equal(zero.astype(int) + one, ~recall)
    assert not (store & recall).any()
    assert one.sum() / (~recall).sum() == pytest.approx(0.5, abs=0.04)
    np.testing.assert_array_equal(published["symbol"], np.tile(np.repeat(range(12), 200), (200, 1)))


def test_commands_alternate_and_what_was_stored_is_recalled(published):
    on, _ = symbols(published)
    for k in range(200):
        window, label = (published[n][k].reshape(12, 200) for n in ("recall", "label"))
        _, one, store, recall = on[k].T
        np.testing.assert_array_equal(window, np.repeat(recall[:, np.newaxis], 200, axis=1))
        stored, waiting = None, False
        for s in range(12):
            assert not (store[s] and waiting) and not (recall[s] and not waiting)
            if store[s]:
                stored, waiting = one[s], True
                assert not recall[s + 1]
            wanted = stored if recall[s] else 0
            assert (label[s] == wanted).all()
            waiting = waiting and not recall[s]
        assert recall.any() and not waiting


def test_orders_are_those_of_rejection_sampling():
    found, probability = orders(4, 0.3)
    want = {(STORE, 0, RECALL, 0), (STORE, 0, 0, RECALL), (0, STORE, 0, RECALL)}
    assert {tuple(order) for order in found.tolist()} == want
    assert probability == pytest.approx([1 / 3] * 3)
    found, probability = orders(12, 1 / 7)
    assert probability.sum() == pytest.approx(1.0)
    pairs = (found == STORE).sum(axis=1)
    np.testing.assert_array_equal(pairs, (found == RECALL).sum(axis=1))
    draw = np.random.default_rng(0)
    accepted = []
    while len(accepted) < 2000:
        given = np.flatnonzero(draw.random(12) < 1 / 7)
        if len(given) and len(given) % 2 == 0 and (given[1::2] - given[::2] > 1).all():
            accepted.append(len(given) // 2)
    frequency = np.bincount(accepted, minlength=5)[:4] / 2000
    exact = np.bincount(pairs, probability, minlength=5)[:4]
    assert frequency == pytest.approx(exact, abs=0.03)


def test_drawn_orders_have_their_probabilities(published):
    pairs = published["recall"].reshape(200, 12, 200)[:, :, 0].sum(axis=1)
    found, probability = orders(12, 1 / 7)
    assert pairs.mean() == pytest.approx(((found == RECALL).sum(axis=1) * probability).sum(), 0.1)


def test_xla_draws_the_same():
    drawn = Sentences(StoreRecallConfig(symbols=5, symbol_steps=20))
    seed = tf.constant([3, 4])
    plain, compiled = (tf.function(drawn.draw, jit_compile=xla)(seed) for xla in (False, True))
    for name in SIGNATURE:
        np.testing.assert_array_equal(plain[name], compiled[name])
    other = drawn.draw(tf.constant([3, 5]))
    assert (other["inputs"] != plain["inputs"]).numpy().any()


def test_accuracy_is_of_recalls():
    text = json.dumps({"task": {"symbols": 8, "symbol_steps": 10, "command_probability": 0.4}})
    config = experiments.load("store_recall", params_override=text)
    modules = config.task.build(0, tf.float32).training_modules
    fields = {name: getattr(config.task, name) for name in ("symbols", "symbol_steps")}
    batch = examples(30, **fields, command_probability=0.4)
    features = {name: tf.constant(x) for name, x in batch.items()}
    run = modules.model.run(features)
    sums = {key: value.numpy() for key, value in modules.evaluator.sums(run, features).items()}
    found = modules.evaluator.results(sums)
    scores = run.values["network.output"].numpy().reshape(30, 8, 10, 2)
    labels, recall = (batch[n].reshape(30, 8, 10)[:, :, 0] for n in ("label", "recall"))
    assert recall.sum(axis=1).max() > 1
    right = scores.mean(axis=2).argmax(axis=-1) == labels
    steps = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(steps, labels[:, :, None, None], axis=-1)[..., 0].mean(axis=2)
    pairs = [(right[k][recall[k]].mean(), -chosen[k][recall[k]].mean()) for k in range(30)]
    want = np.mean(pairs, axis=0)
    assert found["accuracy"] == pytest.approx(want[0], abs=1e-6)
    assert found["loss/cross_entropy"] == pytest.approx(want[1], rel=1e-5)


def test_the_published_network_and_schedule():
    config = experiments.load("store_recall")
    modules = config.task.build(0, tf.float32).training_modules
    kernels = [p.shape.as_list() for p in modules.model.parameters]
    assert kernels == [[100, 20], [20, 20], [20, 2]], "no bias"
    assert config.task.model.other_neuron.alif.beta == pytest.approx(1.7 / 1200.5, rel=1e-4)
    rate = experiments.optimization.OptimizerFactory(
        config.trainer.optimizer_config
    ).build_learning_rate()
    found = [float(rate(step)) for step in (0, 99, 100, 199)]
    assert found == pytest.approx([0.01, 0.01, 0.003, 0.003])


def test_a_small_version_is_learned(tmp_path):
    config = experiments.load("store_recall", params_override=json.dumps(TINY))
    results = experiments.build_run(config, tmp_path).train_and_evaluate()
    assert results["examples"] == 128
    assert results["metrics"].keys() >= {"loss/cross_entropy", "loss/rate", "rate_hz/cell0"}
    assert results["metrics"]["accuracy"] > 0.85, results["metrics"]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("symbols=2", r"task\.symbols.*got 2.*at least 3"),
        ("symbols=17", r"task\.symbols.*got 17.*at most 16"),
        ("symbol_steps=0", r"task\.symbol_steps.*got 0.*at least 1"),
        ("command_probability=1.0", r"task\.command_probability.*1\.0.*below 1"),
        ("spike_probability=0.0", r"task\.spike_probability.*0\.0.*above 0"),
    ],
)
def test_bad_input(field, message):
    with pytest.raises(ConfigError, match=message) as caught:
        experiments.load("store_recall", params_override=f"task.{field}")
    assert "\n" not in str(caught.value)
