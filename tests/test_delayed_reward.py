"""Delayed reward: examples and rewards are what they are said to be, and it is learned."""

import json

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ConfigError
from orbit_snn.data import training_dataset
from orbit_snn.graph import GraphError
from orbit_snn.learning import BPTT
from orbit_snn.tasks.delayed_reward import DelayedRewardConfig

SMALL = {"cue_steps": 10, "delay_steps": 5, "act_steps": 5, "reward_steps": 5}
SIGNATURE = {"inputs": tf.bool, "cue": tf.int32, "acting": tf.bool, "chance": tf.float32}


def load(text="", **overrides):
    """A short version."""
    task = {**SMALL, "validation_examples": 50, "test_examples": 200, **overrides.pop("task", {})}
    trainer = {"pictures": 0, "checkpoint_interval": 120, "validation_interval": 120}
    trainer |= overrides.pop("trainer", {})
    plain = {"enable_xla": False}  # compiling would take longer than training
    values = json.dumps({"task": task, "trainer": trainer, "runtime": plain, **overrides})
    return experiments.load("delayed_reward", params_override=text or values)


@pytest.fixture(scope="module")
def examples():
    """300 of them, `[300, ...]` each."""
    task, kind = DelayedRewardConfig(), {"fn_output_signature": SIGNATURE}
    draw = tf.function(lambda k: tf.map_fn(lambda i: task.draw(tf.stack([7, i])), k, **kind))
    return {name: x.numpy() for name, x in draw(tf.range(300)).items()}


class TestData:
    def test_shape_and_timing(self, examples):
        task = DelayedRewardConfig()
        assert (task.decision, task.steps) == (99, 130)
        groups = examples["inputs"].reshape(300, 130, 3, 10)
        own = np.take_along_axis(groups, examples["cue"][:, None, None, None], axis=2)
        other = np.take_along_axis(groups, 1 - examples["cue"][:, None, None, None], axis=2)
        assert not other.any() and not own[:, 40:].any()
        assert not groups[:, :80, 2].any() and not groups[:, 100:].any()
        assert own[:, :40].mean() == pytest.approx(0.1, abs=0.004)  # four standard deviations
        assert groups[:, 80:100, 2].mean() == pytest.approx(0.1, abs=0.005)
        assert (np.argwhere(examples["acting"])[:, 1] == 99).all()
        assert examples["acting"].sum(axis=1).tolist() == [1] * 300

    def test_cues_and_chances_are_even(self, examples):
        assert examples["cue"].mean() == pytest.approx(0.5, abs=0.08)
        chance = examples["chance"]
        assert chance.shape == (300, 130) and 0.0 <= chance.min() and chance.max() < 1.0
        assert chance.mean() == pytest.approx(0.5, abs=0.01)
        with_cue = np.corrcoef(examples["cue"], chance.T)[0, 1:]
        assert np.abs(with_cue).max() < 0.3, "no luck, at any step, that knows the cue"

    def test_xla_draws_the_same(self):
        task = DelayedRewardConfig(**SMALL, cues=3)
        seed = tf.constant([3, 4])
        plain, compiled = (tf.function(task.draw, jit_compile=xla)(seed) for xla in (False, True))
        assert plain["inputs"].shape == (25, 40)
        for name in SIGNATURE:
            np.testing.assert_array_equal(plain[name], compiled[name])

    def test_luck_is_a_function_of_the_seed_and_the_number(self):
        database = load().task.build(0, tf.float32).database

        def batch(seed, step):
            dataset = training_dataset(database.splits["train"], 4, seed, step)
            return next(iter(dataset))["chance"].numpy()

        np.testing.assert_array_equal(batch(1, 3), batch(1, 3))
        assert (batch(1, 3) != batch(2, 3)).any() and (batch(1, 3) != batch(1, 4)).any()
        sizes = [database.splits[name].size for name in ("train", "validation", "test")]
        assert sizes == [None, 50, 200]


class TestReward:
    def test_it_comes_at_the_end_for_the_action_of_the_last_step_of_the_signal(self):
        task = DelayedRewardConfig()
        actions = tf.one_hot([99, 98], 130, dtype=tf.int32)  # action 1 in time, and too early
        rewards = task.rewards(actions, tf.constant([1, 1])).numpy()
        assert rewards.shape == (2, 130) and rewards.sum(axis=1).tolist() == [1.0, 0.0]
        assert rewards[0, 129] == 1.0

    def test_the_same_example_gives_the_same_reward(self):
        """In two passes; another luck gives others, for a policy that knows nothing."""
        modules, _, database = load().task.build(0, tf.float32)
        batch = next(iter(training_dataset(database.splits["train"], 64, 1, 0)))
        first, second = (modules.model.run(batch).values for _ in range(2))
        for name in ("actions", "reward"):
            np.testing.assert_array_equal(first[name], second[name])
        assert 0.2 < first["reward"].numpy().mean() < 0.8
        other = modules.model.run({**batch, "chance": 1.0 - batch["chance"]}).values
        assert (other["actions"].numpy() != first["actions"].numpy()).mean() > 0.5

    def test_no_part_of_a_sequence_can_be_judged(self, tmp_path):
        """One line, before the first step."""
        rule = {"type": "eprop", "eprop": {"mode": "chunked", "chunk": 10}}
        with pytest.raises(GraphError, match="rewarded 5 steps later.*use bptt, .*=fact") as caught:
            experiments.build_run(load(learning=rule), tmp_path)
        assert "\n" not in str(caught.value)


def test_readouts_have_weights_of_their_own():
    modules, _, _ = load().task.build(0, tf.float32)
    (net,) = modules.model.networks
    kernels = [cell.feedforward.kernel for cell in net.module.readouts.values()]
    assert [k.shape.as_list() for k in kernels] == [[60, 2], [60, 1]]
    assert not np.isin(kernels[1], kernels[0]).any()


def test_a_missing_feature_is_named():
    modules, _, database = load().task.build(0, tf.float32)
    batch = next(iter(training_dataset(database.splits["train"], 4, 1, 0)))
    rule = BPTT()
    for name in ("chance", "cue", "acting"):
        given = {n: x for n, x in batch.items() if n != name}
        with pytest.raises(GraphError, match=f"`{name}` is missing; got ") as caught:
            rule.update(modules, given, rule.initial_state(modules, 4))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", ["bptt", "eprop"])
def test_it_is_learned(tmp_path, rule):
    """From chance to nearly always, in a short version; held-out examples say the same."""
    rate = {"type": "cosine", "cosine": {"initial_learning_rate": 0.02}}
    trainer = {"train_steps": 120, "optimizer_config": {"learning_rate": rate}}
    task = {"model": {"units": [40]}}
    run = experiments.build_run(load(task=task, trainer=trainer, learning={"type": rule}), tmp_path)
    first = run.trainer.train(tf.constant(1))["reward"]
    results = run.train_and_evaluate()
    metrics = results["metrics"]
    assert first < 0.7 and metrics["reward"] > 0.85, (first, metrics)
    assert results["step"] == 120 and results["examples"] == 200
    total = metrics["loss/actor_critic"] + metrics["loss/rate"]
    assert metrics["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("discount=1.2", r"task\.discount.*got 1\.2.*at most 1"),
        ("cues=1", r"task\.cues.*got 1.*at least 2"),
        ("act_steps=0", r"task\.act_steps.*got 0.*at least 1"),
        ("reward_steps=-1", r"task\.reward_steps.*-1.*at least 0"),
        ("spike_probability=0", r"task\.spike_probability.*got 0"),
        ("value_weight=-1", r"task\.value_weight.*-1.*at least 0"),
        ("reward_delay=3", r"task\.reward_delay.*Did you mean `reward_steps`"),
    ],
)
def test_bad_values(field, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(f"task.{field}")
    assert "\n" not in str(caught.value)
