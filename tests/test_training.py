"""Trainer, optimizers and regularisers on small runs in this process; data that cannot be used."""

import math

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.configuration import ConfigError
from orbit_snn.data import DataError, from_arrays
from orbit_snn.data_checks import check_examples
from orbit_snn.tasks import digits, pattern_generation  # noqa: F401, they register experiments

STEPS, K = 14, 6
WINDOWS = math.ceil(STEPS / K)
RULES = {
    "bptt": {},
    "tbptt": {"learning.tbptt.truncation": K},
    "tbptt, windows": {"learning.tbptt.truncation": K, "learning.tbptt.update_every": "window"},
    "eprop": {"learning.eprop.feedback.kind": "random"},
    "eprop, adaptive": {
        "learning.eprop.feedback.kind": "adaptive",
        "learning.eprop.feedback.decay": 0.0,
    },
    "eprop, chunks": {"learning.eprop.mode": "chunked", "learning.eprop.chunk": K},
    "eprop, windows": {
        "learning.eprop.mode": "chunked",
        "learning.eprop.chunk": K,
        "learning.eprop.update_every": "window",
    },
}
UPDATES = {rule: WINDOWS if "windows" in rule else 1 for rule in RULES}
TINY = {
    "task.steps": STEPS,
    "task.inputs": 10,
    "task.input_rate_hz": 200.0,
    "task.model.units": "[16]",
    "trainer.steps_per_loop": 5,
    "trainer.checkpoint_interval": 5,
    "trainer.validation_interval": 5,
    "trainer.train_steps": 20,
    "trainer.pictures": 0,
    "trainer.clip_norm": "null",
    "runtime.enable_xla": "false",
    "runtime.dtype": "float64",
}
PENALTY = {
    "task.regularizer.rate_strength": 2.0,
    "task.regularizer.rate_target_hz": 500.0,
    "task.regularizer.rate_reduction": "sample",
}
OPTIMIZER = "trainer.optimizer_config.optimizer"
RATE = "trainer.optimizer_config.learning_rate"
WARMUP = "trainer.optimizer_config.warmup"


def build(directory, rule="bptt", **overrides):
    settings = {**TINY, "learning.type": rule.split(",")[0], **RULES[rule], **overrides}
    text = ",".join(f"{key}={value}" for key, value in settings.items())
    config = experiments.load("pattern_generation", params_override=text)
    return experiments.build_run(config, directory / "run")


def train(run, steps):
    return run.trainer.train(tf.constant(steps))


def sgd(rate):
    constant = {f"{RATE}.type": "constant", f"{RATE}.constant.learning_rate": rate}
    return {f"{OPTIMIZER}.type": "sgd", **constant}


def weights(run):
    return [parameter.numpy() for parameter in run.task.training_modules.model.parameters]


class TestUpdates:
    @pytest.mark.parametrize("rule", RULES)
    def test_the_schedule_counts_batches_and_the_optimizer_updates(self, tmp_path, rule):
        """A cosine of 10 batches after a warm-up of 4, whatever a batch or a loop holds."""
        cosine = {f"{RATE}.cosine.initial_learning_rate": 0.01, f"{RATE}.cosine.decay_steps": 10}
        warmup = {f"{WARMUP}.type": "linear", f"{WARMUP}.linear.warmup_steps": 4}
        run = build(tmp_path, rule, **{f"{RATE}.type": "cosine", **cosine, **warmup})
        optimizer = run.trainer.optimizer
        for batch in (1, 2, 3, 4, 5, 8):
            found = train(run, batch - run.step)["learning_rate"]
            at = [0.5 * 0.01 * (1 + math.cos(math.pi * step / 10)) for step in (4, batch)]
            expected = at[0] * batch / 4 if batch < 4 else at[1]
            assert found == pytest.approx(expected, rel=1e-5), batch
            assert run.step == batch
            assert int(optimizer.iterations) == batch * UPDATES[rule]
        rates = [float(optimizer.learning_rate(tf.constant(i, tf.int64))) for i in range(24)]
        changes = [i for i in range(1, 24) if rates[i] != rates[i - 1]]
        batches = range(1, 11)  # of the cosine, after which the rate stays 0
        assert changes == [b * UPDATES[rule] for b in batches if b * UPDATES[rule] < 24]

    @pytest.mark.parametrize(
        ("rule", "kind", "dtype"),
        [
            ("bptt", "adamw", "float32"),
            ("bptt", "adamw_experimental", "float64"),
            ("tbptt, windows", "adamw", "float32"),
        ],
    )
    def test_weight_decay_leaves_fixed_variables_alone(self, tmp_path, rule, kind, dtype):
        tau = [10.0 + i / 3 for i in range(16)]
        decay = {"adamw": "weight_decay_rate", "adamw_experimental": "weight_decay"}[kind]
        run = build(
            tmp_path,
            rule,
            **{
                "task.model.neuron.lif.tau_mem_ms": tau,
                f"{OPTIMIZER}.type": kind,
                f"{OPTIMIZER}.{kind}.{decay}": 0.5,
                "runtime.dtype": dtype,
            },
        )
        network = run.task.training_modules.model
        fixed = [v for v in network.variables if not v.trainable]
        assert [v.shape.as_list() for v in fixed] == [[16]]
        before, trained = [v.numpy().tobytes() for v in fixed], weights(run)
        train(run, 10)
        assert [v.numpy().tobytes() for v in fixed] == before
        np.testing.assert_array_equal(fixed[0].numpy(), np.array(tau, dtype))
        assert all((a != b).any() for a, b in zip(trained, weights(run), strict=True))

    def test_adamw_in_float64_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="use adamw_experimental"):
            build(tmp_path, "bptt", **{f"{OPTIMIZER}.type": "adamw", "runtime.dtype": "float64"})

    def test_a_fixed_number_is_no_variable_and_trained_ones_stay_positive(self, tmp_path):
        assert not [
            v
            for v in build(tmp_path / "a").task.training_modules.model.variables
            if not v.trainable
        ]
        trained = {"task.model.neuron.lif.train_tau": "true"}
        run = build(tmp_path / "b", **trained, **sgd(10.0))
        tau = (
            run.task.training_modules.model.networks[0]
            .module.cells[0]
            .neuron.membrane.leak.tau_mem_ms
        )
        before = np.asarray(tau())
        train(run, 5)
        assert (np.asarray(tau()) != before).any() and (np.asarray(tau()) > 0).all()

    def test_clipping_bounds_the_step(self, tmp_path):
        run = build(tmp_path, **sgd(1.0), **{"trainer.clip_norm": 1e-3})
        before = weights(run)
        norm = train(run, 1)["gradient_norm"]
        pairs = zip(before, weights(run), strict=True)
        moved = math.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs))
        assert norm > 1e-3
        assert moved == pytest.approx(1e-3, rel=1e-6)


class TestGoingOn:
    def test_a_run_that_is_made_longer_goes_on_where_it_stopped(self, tmp_path):
        for folder, ends in (("whole", (20,)), ("split", (5, 20))):
            for end in ends:
                constant = {f"{RATE}.type": "constant", "trainer.train_steps": end}
                run = build(tmp_path / folder, "tbptt, windows", **constant)
                run.train()
                assert run.step == end
            if folder == "whole":
                whole = run
        np.testing.assert_equal(weights(run), weights(whole))
        slots = [[np.asarray(v) for v in r.trainer.optimizer.variables()] for r in (whole, run)]
        np.testing.assert_equal(*slots)

    def test_many_windows_are_a_loop(self, tmp_path, monkeypatch):
        """An update every step gives the same weights traced one by one or in a loop."""
        every = {"learning.eprop.mode": "stepwise", "learning.eprop.update_every": "window"}
        every["task.steps"] = steps = 9  # more than are traced one by one
        looped, unrolled = (build(tmp_path / name, "eprop", **every) for name in "ab")
        assert looped.trainer._looped_windows == steps
        train(looped, 2)
        monkeypatch.setattr(type(unrolled.trainer), "_looped_windows", 0)
        train(unrolled, 2)
        assert int(looped.trainer.optimizer.iterations) == 2 * steps
        for one, other in zip(weights(looped), weights(unrolled), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


# One with each reverse pass, and one with several updates a batch.
REGULARISED = ("bptt", "tbptt, windows", "eprop, chunks")


class TestRegularisers:
    @pytest.mark.parametrize("rule", REGULARISED)
    def test_penalties_change_the_loss_and_the_weights(self, tmp_path, rule):
        rate, strength = 0.01, 0.3
        l2 = {"task.regularizer.l2": strength}
        made = [
            build(tmp_path / n, rule, **sgd(rate), **e)
            for n, e in zip("abc", ({}, l2, PENALTY), strict=True)
        ]
        start = weights(made[0])
        np.testing.assert_equal(weights(made[1]), start)
        one, _, other = (train(run, 1) for run in made)
        plain, pulled, penalised = map(weights, made)
        for w, a, b in zip(start, plain, pulled, strict=True):
            if UPDATES[rule] == 1:
                np.testing.assert_allclose(a - b, rate * strength * w, rtol=1e-6, atol=1e-12)
        assert sum(np.sum(w**2) for w in pulled) < sum(np.sum(w**2) for w in plain)
        self.assert_penalised(one, other, UPDATES[rule] == 1)
        recurrent = [i for i, w in enumerate(start) if w.shape == (16, 16)]
        assert recurrent
        for i in recurrent:
            assert (plain[i] != penalised[i]).any()

    def test_of_the_batch(self, tmp_path):
        plain = build(tmp_path / "a")
        penalised = build(tmp_path / "b", **{**PENALTY, "task.regularizer.rate_reduction": "batch"})
        self.assert_penalised(train(plain, 1), train(penalised, 1), True)

    def assert_penalised(self, one, other, of_one_update):
        assert other["loss"] > one["loss"]
        parts = [value for name, value in other.items() if name.startswith("loss/")]
        assert other["loss"] == pytest.approx(sum(parts), rel=1e-5)
        if of_one_update:
            expected = 2.0 * 0.5 * np.sum((other["rates/cell0"] - 0.5) ** 2)
            assert other["loss"] - one["loss"] == pytest.approx(expected, rel=1e-4)


def images(**change):
    """What `DigitsConfig._arrays` gives, with changes."""
    draw = np.random.default_rng(0)
    good = {"image": draw.random((40, 8, 8, 1)), "label": np.arange(40, dtype=np.int32) % 10}
    return good | change


NAN = np.full((40, 8, 8, 1), np.nan)


class TestData:
    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            (images(image=NAN), "`image` has NaN or infinity, first in example 0"),
            (images(image=np.zeros((40, 8, 8, 1))), "zero at every step"),
            (images(label=np.arange(40, dtype=np.int32) - 1), r"label -1 .*outside \[0, "),
            (images(label=np.arange(39, dtype=np.int32)), "unequal numbers"),
        ],
        ids=["NaN", "silent", "label", "unequal"],
    )
    def test_digits_that_cannot_be_used(self, tmp_path, monkeypatch, arrays, message):
        monkeypatch.setattr(digits.DigitsConfig, "_arrays", lambda self, split: arrays)
        config = experiments.load("digits")
        with pytest.raises(DataError, match=message) as caught:
            experiments.build_run(config, tmp_path)
        assert experiments.is_message(caught.value)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_a_pattern_without_spikes(self, tmp_path):
        with pytest.raises(DataError, match="zero at every step"):
            build(tmp_path, **{"task.input_rate_hz": 1e-9})

    def test_a_batch_larger_than_the_data(self, tmp_path):
        with pytest.raises(DataError, match="at most 1"):
            build(tmp_path, **{"trainer.batch_size": 2})
        assert not (tmp_path / "run").exists()

    def test_a_sequence_without_steps(self):
        with pytest.raises(DataError, match="no time steps"):
            check_examples(from_arrays({"inputs": np.ones((3, 0, 2))}))

    def test_no_examples(self):
        with pytest.raises(DataError, match="no examples"):
            from_arrays({"inputs": np.ones((0, 3, 2))})
