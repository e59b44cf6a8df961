"""Actions after validations against the oracle of the schedules, and their state over restores."""

import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn.data import DataError
from orbit_snn.derived_config import build, config_class
from orbit_snn.training import optimizers
from orbit_snn.training.actions import Action, Best, StopTraining, by_name
from orbit_snn.training.batches import BatchSize
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.plateaus import LowerLearningRateOnPlateau, RaiseBatchSizeOnPlateau
from orbit_snn.training.stopping import Patience, StopAfter, StopOnThreshold
from orbit_snn.training.watch import actions_for
from tests.oracles import schedules

NAN = math.nan
VALUES = (NAN, math.inf, 0.5, 1.0, 1.0, 2.0, 2.5, 3.0, 4.0)
RATE = 0.25


class FakeTrainer(tf.Module):
    """What actions need of a trainer, with a data set of `examples` examples."""

    def __init__(self, batch_size=4, examples=10**6, optimizer=None):
        super().__init__()
        self.strategy = tf.distribute.get_strategy()
        self.global_step = tf.Variable(0, dtype=tf.int64)
        self.weights = tf.Variable([1.0, 2.0], name="weights")
        self.optimizer = optimizer or tf_keras.optimizers.legacy.SGD(RATE)
        optimizers.build_slots(self.optimizer, [self.weights])
        self._examples = examples
        self._batches = BatchSize(batch_size)

    @property
    def batch_size(self):
        return self._batches.size

    @batch_size.setter
    def batch_size(self, size):
        if size > self._examples:
            raise DataError(f"batch of {size} of {self._examples} examples")
        self._batches.change(size, int(self.global_step.numpy()))

    @property
    def state(self):
        return self.batch_size, optimizers.learning_rate(self.optimizer) / RATE


class Session:
    """A trainer and its actions, and a checkpoint of both."""

    def __init__(self, make_actions, **arguments):
        self.trainer = FakeTrainer(**arguments)
        self.actions = make_actions()
        for action in self.actions:
            action.bind(self.trainer)
        items = {"optimizer": self.trainer.optimizer, "step": self.trainer.global_step}
        items |= {"batches": self.trainer._batches, "weights": self.trainer.weights}
        self.checkpoint = tf.train.Checkpoint(**items, actions=by_name(self.actions))

    def validate(self, step, value, metric="m"):
        self.trainer.global_step.assign(step)
        for action in self.actions:
            action({"other": 0.0, metric: value, "rates": np.zeros(3)})


def run(make_actions, metrics, directory=None, **arguments):
    """The trainer's state after each validation until training stops.

    With a directory, every validation is followed by a checkpoint and a new session that restores
    it and validates the same step once more.
    """
    session, states = Session(make_actions, **arguments), []
    for epoch, value in enumerate(metrics):
        step = 10 * (epoch + 1)
        try:
            session.validate(step, value)
        except StopTraining as stop:
            assert str(stop) == next(a.stopped for a in session.actions if a.stopped)
            return [*states, session.trainer.state]
        if directory:
            path = session.checkpoint.save(str(directory / "ckpt"))
            session = Session(make_actions, **arguments)
            session.checkpoint.restore(path).assert_existing_objects_matched()
            session.validate(step, -math.inf)
            session.validate(step, math.inf)
        assert not any(action.stopped for action in session.actions)
        assert all(action.seen_step == step for action in session.actions)
        states.append(session.trainer.state)
    return states


def sequences(count, length, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.choice(VALUES, length).tolist() for _ in range(count)]


def signed(metrics, higher_is_better):
    return [-value for value in metrics] if higher_is_better else metrics


class TestBest:
    @pytest.mark.parametrize("higher", [False, True])
    @pytest.mark.parametrize("seed", range(5))
    def test_as_the_oracle(self, higher, seed):
        for metrics in [*sequences(10, 12, seed), [NAN, 1, 0.5], [NAN, math.inf, math.inf, NAN]]:
            best = Best(higher)
            found = [best.push(value) for value in signed(metrics, higher)]
            assert found == schedules.better_flags(metrics)
            finite = [v for v in metrics if not math.isnan(v)]
            expected = min(finite) * (-1 if higher else 1) if finite else NAN
            np.testing.assert_equal(best.value, expected)

    def test_an_equal_number_that_float32_does_not_have_is_not_better(self):
        for value in (0.1, 0.7):  # float32 rounds one up and the other down
            best = Best(True)
            assert best.push(value) and not best.push(value)


class TestPatience:
    def test_the_specification(self):
        metrics = [3, 4, 2, 2, 5, NAN, 1, 0]
        assert len(run(lambda: [Patience("m", 3, False)], metrics)) == 6

    @pytest.mark.parametrize("higher", [False, True])
    @pytest.mark.parametrize("p", [0, 1, 2, 3, 5])
    def test_as_the_oracle(self, p, higher):
        for metrics in sequences(15, 14, p):
            found = run(lambda: [Patience("m", p, higher)], signed(metrics, higher))
            assert len(found) == schedules.patience(metrics, p, len(metrics))

    def test_a_larger_patience_goes_on(self, tmp_path):
        session = Session(lambda: [Patience("m", 1)])
        session.validate(1, 1.0)
        with pytest.raises(StopTraining, match="m was not better than 1 in 1 validations"):
            session.validate(2, 1.0)
        path = session.checkpoint.save(str(tmp_path / "ckpt"))
        longer = Session(lambda: [Patience("m", 3)])
        longer.checkpoint.restore(path).assert_existing_objects_matched()
        longer.validate(2, 1.0)
        longer.validate(3, 1.0)
        with pytest.raises(StopTraining):
            longer.validate(4, 1.0)


class TestRaiseBatchSize:
    def test_the_specification(self):
        found = run(lambda: [RaiseBatchSizeOnPlateau("m", 1, 16)], [1.0] * 7)
        assert found == [(4, 1), (4, 1), (8, 1), (8, 1), (16, 1), (16, 1), (16, 0.5)]

    @pytest.mark.parametrize("higher", [False, True])
    @pytest.mark.parametrize(
        ("patience", "factor", "largest"), [(1, 0.5, 16), (0, 0.5, 40), (2, 0.3, 100), (1, 0.7, 20)]
    )
    def test_as_the_oracle(self, patience, factor, largest, higher):
        def actions():
            return [RaiseBatchSizeOnPlateau("m", patience, largest, factor, higher)]

        for metrics in sequences(12, 16, patience):
            expected = schedules.raise_batch_size(metrics, 4, patience, factor, largest)
            found = run(actions, signed(metrics, higher))
            assert [size for size, _ in found] == [size for size, _ in expected]
            np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], rtol=1e-5)

    @pytest.mark.parametrize("examples", [16, 17, 31])
    def test_as_many_as_the_data_has_is_a_maximum(self, examples):
        metrics = [1.0] * 8
        found = run(lambda: [RaiseBatchSizeOnPlateau("m", 0, 999)], metrics, examples=examples)
        assert found == schedules.raise_batch_size(metrics, 4, 0, 0.5, 16)

    def test_a_factor_that_would_leave_the_batch_size_lowers_the_rate(self):
        found = run(lambda: [RaiseBatchSizeOnPlateau("m", 0, 16, 0.9)], [1.0, 1.0])
        assert found == [(4, 1), (4, pytest.approx(0.9))]

    def test_news(self):
        session = Session(lambda: [RaiseBatchSizeOnPlateau("m", 0, 8)])
        news = []
        for step in (1, 2, 3):
            session.validate(step, 1.0)
            news.append(session.actions[0].news)
        session.validate(3, 1.0)
        assert news[:2] == ["", "the batch size is raised from 4 to 8"]
        assert news[2] == "the learning rate is multiplied by 0.5, to 0.125"
        assert not session.actions[0].news


class TestLowerLearningRate:
    @pytest.mark.parametrize("higher", [False, True])
    @pytest.mark.parametrize(("patience", "factor"), [(0, 0.5), (1, 0.3), (2, 0.9)])
    def test_as_the_oracle_with_a_batch_size_that_cannot_grow(self, patience, factor, higher):
        def actions():
            return [LowerLearningRateOnPlateau("m", patience, factor, higher_is_better=higher)]

        for metrics in sequences(10, 14, patience):
            expected = schedules.raise_batch_size(metrics, 4, patience, factor, 1)
            found = run(actions, signed(metrics, higher))
            np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_the_least_rate(self):
        found = run(lambda: [LowerLearningRateOnPlateau("m", 0, 0.5, RATE / 3)], [1.0] * 5)
        np.testing.assert_allclose([scale for _, scale in found], [1, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
        assert run(lambda: [LowerLearningRateOnPlateau("m", 0, 0.5, 1.0)], [1.0] * 3)[-1] == (4, 1)

    def test_two_actions_share_the_scale(self, tmp_path):
        def actions():
            return [LowerLearningRateOnPlateau("m", 0), RaiseBatchSizeOnPlateau("m", 0, 4, 0.1)]

        session = Session(actions)
        for step in (1, 2):
            session.validate(step, 1.0)
        assert session.trainer.state == (4, pytest.approx(0.05))
        path = session.checkpoint.save(str(tmp_path / "ckpt"))
        scales = [name for name, _ in tf.train.list_variables(path) if "/scale/" in name]
        assert len(scales) == 1
        other = Session(actions)
        other.checkpoint.restore(path).assert_existing_objects_matched()
        assert float(optimizers.rate_scale(other.trainer.optimizer).scale) == pytest.approx(0.05)
        other.validate(3, 1.0)
        assert other.trainer.state == (4, pytest.approx(0.0025))


class TestStops:
    @pytest.mark.parametrize(("higher", "sign"), [(True, 1), (False, -1)])
    def test_threshold(self, higher, sign):
        metrics = [sign * value for value in (0.5, NAN, 0.9, 0.6, 1.0, 0.1)]
        for value, expected in ((0.9, 3), (1.0, 5), (1.1, 6), (0.4, 1), (0.8, 3)):
            found = run(lambda v=sign * value: [StopOnThreshold("m", v, higher)], metrics)
            assert len(found) == expected

    def test_wall_time_of_all_sessions(self, tmp_path):
        now = [100.0]

        def session(path=None):
            made = Session(lambda: [StopAfter(30.0, clock=lambda: now[0])])
            if path:
                made.checkpoint.restore(path).assert_existing_objects_matched()
            return made

        first = session()
        for step in (1, 2):
            now[0] += 10.0
            first.validate(step, 1.0)
        path = first.checkpoint.save(str(tmp_path / "ckpt"))
        now[0] = 5.0  # of another machine
        second = session(path)
        now[0] += 6.0
        second.validate(2, 1.0)
        now[0] += 3.0
        second.validate(3, 1.0)
        now[0] += 1.0
        with pytest.raises(StopTraining, match="0.008333 h have passed, of 0.008333 h allowed"):
            second.validate(4, 1.0)


class TestRestore:
    @pytest.mark.parametrize("seed", range(6))
    def test_a_restore_and_a_second_validation_of_the_step_change_nothing(self, tmp_path, seed):
        def actions():
            return [
                RaiseBatchSizeOnPlateau("m", seed % 3, 16, higher_is_better=False),
                LowerLearningRateOnPlateau("m", 1, 0.7, RATE / 10, higher_is_better=False),
                StopOnThreshold("m", 0.4, False),
                Patience("m", 4, False),
                StopAfter(1e9),
            ]

        for metrics in sequences(2, 10, seed):
            assert run(actions, metrics, tmp_path) == run(actions, metrics)

    def test_a_stopped_run_is_stopped_and_says_so_again(self, tmp_path):
        session = Session(lambda: [StopOnThreshold("m", 1.0)])
        with pytest.raises(StopTraining):
            session.validate(1, 2.0)
        path = session.checkpoint.save(str(tmp_path / "ckpt"))
        other = Session(lambda: [StopOnThreshold("m", 1.0)])
        other.checkpoint.restore(path).assert_existing_objects_matched()
        assert other.actions[0].stopped == "m reached 2, enough at 1"
        with pytest.raises(StopTraining):
            other.validate(1, 0.0)

    def test_only_the_state_of_actions_is_saved_with_them(self, tmp_path):
        session = Session(lambda: [RaiseBatchSizeOnPlateau("m", 1, 8)])
        path = tf.train.Checkpoint(action=session.actions[0]).save(str(tmp_path / "ckpt"))
        names = {name.split("/.")[0] for name, _ in tf.train.list_variables(path)}
        assert {name for name in names if name.startswith("action/")} == {
            "action/_seen_step",
            "action/_rate_scale/scale",
            "action/_plateau/_bad",
            "action/_plateau/_best/_value",
        }


SCHEDULE = tf_keras.optimizers.schedules.LearningRateSchedule
OPTIMIZERS = {
    "legacy adam": tf_keras.optimizers.legacy.Adam,
    "new adam": tf_keras.optimizers.Adam,
    "legacy momentum": lambda rate: tf_keras.optimizers.legacy.SGD(rate, momentum=0.9),
    "new adamw": tf_keras.optimizers.AdamW,
}
RATES = {
    "constant": lambda: 0.1,
    "cosine": lambda: tf_keras.optimizers.schedules.CosineDecay(0.1, 20),
    "per batch": lambda: optimizers.per_batch_schedule(
        tf_keras.optimizers.schedules.CosineDecay(0.1, 20), 2
    ),
}
FACTORS = {4: 0.5, 7: 0.1, 11: 0.3}  # step before which the scale is multiplied by this
STEPS = 14


class Listed(SCHEDULE):
    """The rates of a run, step by step: what a scaled rate should have been."""

    def __init__(self, rates):
        super().__init__()
        self._rates = tf.constant(rates, tf.float32)

    def __call__(self, step):
        return self._rates[tf.cast(step, tf.int32)]

    def get_config(self):
        return {}


class Stepper:
    """Weights, an optimizer and one traced step."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.weights = tf.Variable([1.0, -2.0, 0.5], name="weights")
        optimizers.build_slots(optimizer, [self.weights])
        self.traces = 0
        self.step = tf.function(self._step)

    def _step(self):
        self.traces += 1
        gradient = 2 * self.weights + tf.constant([0.1, 0.2, 0.3])
        optimizers.apply(self.optimizer, [gradient], [self.weights])

    def checkpoint(self, **more):
        return tf.train.Checkpoint(optimizer=self.optimizer, weights=self.weights, **more)


def expected_rates(rate):
    scale, rates = 1.0, []
    for step in range(STEPS):
        scale *= FACTORS.get(step, 1.0)
        rates.append(scale * float(rate(tf.constant(step)) if callable(rate) else rate))
    return rates


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
class TestRateScale:
    def test_a_traced_step_sees_the_scale(self, optimizer, rate):
        rates = expected_rates(RATES[rate]())
        reference = Stepper(OPTIMIZERS[optimizer](Listed([*rates, 0.0])))
        scaled = Stepper(OPTIMIZERS[optimizer](RATES[rate]()))
        scale = optimizers.rate_scale(scaled.optimizer)
        for step in range(STEPS):
            if step in FACTORS:
                scale.multiply(FACTORS[step])
            assert optimizers.learning_rate(scaled.optimizer) == pytest.approx(rates[step], 1e-5)
            reference.step()
            scaled.step()
            np.testing.assert_allclose(scaled.weights.numpy(), reference.weights.numpy(), 1e-5)
        assert scaled.traces == 1
        assert float(scale.scale) == pytest.approx(math.prod(FACTORS.values()))

    def test_a_checkpoint_restores_it(self, tmp_path, optimizer, rate):
        def make():
            stepper = Stepper(OPTIMIZERS[optimizer](RATES[rate]()))
            scale = optimizers.rate_scale(stepper.optimizer)
            return stepper, scale, stepper.checkpoint(scale=scale)

        stepper, scale, checkpoint = make()
        stepper.step()
        scale.multiply(0.5)
        stepper.step()
        path = checkpoint.save(str(tmp_path / "ckpt"))
        other, other_scale, restored = make()
        other.step()
        restored.restore(path).assert_existing_objects_matched()
        for _ in range(2):
            assert float(other_scale.scale) == float(scale.scale)
            found = [optimizers.learning_rate(s.optimizer) for s in (stepper, other)]
            assert found[0] == found[1]
            for each, each_scale in ((stepper, scale), (other, other_scale)):
                each.step()
                each_scale.multiply(0.3)
        np.testing.assert_array_equal(stepper.weights.numpy(), other.weights.numpy())

    def test_the_optimizers_own_entries_stay(self, tmp_path, optimizer, rate):
        plain, scaled = (Stepper(OPTIMIZERS[optimizer](RATES[rate]())) for _ in range(2))
        optimizers.rate_scale(scaled.optimizer)
        paths = []
        for stepper in (plain, scaled):
            stepper.step()
            paths.append(stepper.checkpoint().save(str(tmp_path / f"ckpt{len(paths)}")))
        entries = [tf.train.list_variables(path) for path in paths]
        assert entries[0] == entries[1]
        scaled.checkpoint().restore(paths[0]).assert_existing_objects_matched().assert_consumed()
        plain.checkpoint().restore(paths[1]).assert_existing_objects_matched().assert_consumed()

    def test_there_is_one_for_an_optimizer(self, optimizer, rate):
        made = [OPTIMIZERS[optimizer](RATES[rate]()) for _ in range(2)]
        scales = [optimizers.rate_scale(o) for o in (*made, *made)]
        assert scales[0] is scales[2] and scales[1] is scales[3] and scales[0] is not scales[1]


def test_a_rate_that_cannot_be_scaled():
    optimizer = tf_keras.optimizers.legacy.SGD(lambda: 0.1)
    with pytest.raises(TypeError, match="learning rate is a float, which cannot be scaled"):
        optimizers.rate_scale(optimizer)


REPLICAS = """
import tensorflow as tf, tf_keras
from orbit_snn.training import optimizers
from orbit_snn.training.plateaus import LowerLearningRateOnPlateau
from tests.test_actions import FakeTrainer
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
cosine = tf_keras.optimizers.schedules.CosineDecay(0.5, 10**6)
for kind in (tf_keras.optimizers.legacy.SGD, tf_keras.optimizers.SGD):
    for rate in (0.5, cosine):
        with strategy.scope():
            trainer = FakeTrainer(optimizer=kind(rate))
            action = LowerLearningRateOnPlateau("m", 0)
        action.bind(trainer)
        def replica(trainer=trainer):
            optimizers.apply(trainer.optimizer, [tf.constant([1.0, 1.0])], [trainer.weights])
        step = tf.function(lambda: strategy.run(replica))
        for number in range(1, 4):
            trainer.global_step.assign(number)
            step()
            action({"m": 1.0})
        values = [v.numpy() for v in strategy.experimental_local_results(trainer.weights)]
        assert len(values) == 2
        for value in values:
            tf.debugging.assert_near(value, [1 - 0.5 - 0.5 - 0.25, 2 - 0.5 - 0.5 - 0.25])
        assert abs(optimizers.learning_rate(trainer.optimizer) - 0.125) < 1e-6
print("done")
"""


def test_on_two_replicas():
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS], capture_output=True, text=True, cwd=root, timeout=120
    )
    assert done.stdout.strip() == "done", done.stderr[-3000:]


class TestErrors:
    @pytest.mark.parametrize("output", [{"loss": 1.0, "rates": np.zeros(2)}, {"loss": 1.0}])
    def test_a_metric_that_is_missing(self, output):
        for action in (Patience("rates", 1), LowerLearningRateOnPlateau("rates", 1)):
            action.bind(FakeTrainer())
            with pytest.raises(ValueError, match="metric is 'rates'.*expected one of loss"):
                action(output)
            assert action.seen_step == -1

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Patience("m", -1), "patience is -1; expected 0 or more"),
            (lambda: RaiseBatchSizeOnPlateau("m", -1, 8), "patience is -1"),
            (lambda: RaiseBatchSizeOnPlateau("m", 1, 0), "max_batch_size is 0"),
            (lambda: RaiseBatchSizeOnPlateau("m", 1, 8, 1.0), "factor is 1.0"),
            (lambda: LowerLearningRateOnPlateau("m", 1, NAN), "factor is nan"),
            (lambda: LowerLearningRateOnPlateau("m", 1, 0.5, -1.0), "min_rate is -1.0"),
            (lambda: StopOnThreshold("m", NAN), "the value is nan"),
            (lambda: StopAfter(0.0), "the time is 0.0 seconds"),
            (lambda: by_name([Patience("m", 1), Patience("n", 1)]), "two actions are named"),
        ],
    )
    def test_arguments(self, make, message):
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)

    def test_an_action_without_a_trainer(self):
        with pytest.raises(RuntimeError, match="patience has no trainer"):
            Patience("m", 1)({"m": 1.0})

    def test_an_action_that_was_not_to_scale(self):
        action = Patience("m", 1)
        action.bind(FakeTrainer())
        with pytest.raises(RuntimeError, match="scales_rate=True"):
            action.scale_rate(0.5)

    def test_an_action_is_abstract(self):
        with pytest.raises(TypeError, match="abstract"):
            Action("action")


class TestOptions:
    ALL = {"best_metric": "m", "patience": 3, "stop_at": 0.9, "max_hours": 2.0, "rate_patience": 1}
    ALL |= {"batch_size_patience": 2, "max_batch_size": 128, "rate_factor": 0.1, "keep": "best"}

    def test_none_by_default(self):
        assert actions_for(TrainingOptions()) == []

    def test_all(self):
        actions = actions_for(TrainingOptions(**self.ALL, higher_is_better=False))
        assert [type(action) for action in actions] == [
            RaiseBatchSizeOnPlateau,
            LowerLearningRateOnPlateau,
            StopOnThreshold,
            Patience,
            StopAfter,
        ]
        assert len(by_name(actions)) == 5
        trainer = FakeTrainer(64)
        for action in actions:
            action.bind(trainer)
        for step in range(1, 5):
            trainer.global_step.assign(step)
            for action in actions[:-2]:
                action({"m": 2.0})
        assert trainer.state == (128, pytest.approx(0.1))
        with pytest.raises(StopTraining):
            actions[2].trainer.global_step.assign(9)
            actions[2]({"m": 0.9})

    def test_from_a_config(self):
        kind = config_class(TrainingOptions)
        assert build(TrainingOptions, kind(), "trainer") == TrainingOptions()
        assert build(TrainingOptions, kind(**self.ALL), "trainer") == TrainingOptions(**self.ALL)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"patience": 0}, "patience is 0; expected 1 or more"),
            ({"batch_size_patience": -1}, "batch_size_patience is -1"),
            ({"rate_patience": -1}, "rate_patience is -1"),
            ({"stop_at": NAN}, "stop_at is nan"),
            ({"max_hours": 0.0}, "max_hours is 0.0"),
            ({"rate_factor": 1.5}, "rate_factor is 1.5"),
            ({"keep": "first"}, "keep is 'first'; expected last or best"),
            ({"max_batch_size": None}, "batch_size_patience is 2 and max_batch_size is None"),
            ({"batch_size_patience": None}, "batch_size_patience is None and max_batch_size"),
            ({"batch_size": 256}, "max_batch_size is 128; expected at least batch_size, 256"),
            ({"best_metric": ""}, "patience is 3, but best_metric is empty"),
        ],
    )
    def test_what_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message) as caught:
            TrainingOptions(**{**self.ALL, **changes})
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "name", ["patience", "stop_at", "rate_patience", "keep", "batch_size_patience"]
    )
    def test_what_needs_a_metric(self, name):
        chosen = {name: self.ALL[name]}
        if name == "batch_size_patience":
            chosen["max_batch_size"] = 128
        with pytest.raises(ValueError, match=f"^{name} is .*, but best_metric is empty"):
            TrainingOptions(**chosen)
        TrainingOptions(max_hours=1.0)
