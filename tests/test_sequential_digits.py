"""Sequential digits: pixels one after the other, as values, crossings of thresholds or spikes."""

import json

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from orbit_snn import experiments
from orbit_snn.configuration import ConfigError
from orbit_snn.data import evaluation_dataset, training_dataset
from orbit_snn.tasks import digits
from orbit_snn.tasks.sequential_digits import crossings

PLAIN = {"encoding": "current", "steps_per_pixel": 1, "recall_steps": 8, "noise": 0.0}
STEPS = {"train_steps": 6, "steps_per_loop": 3, "checkpoint_interval": 3, "validation_interval": 6}
TINY = {
    "trainer": STEPS | {"batch_size": 16, "pictures": 0},
    "task": {"model": {"units": [12]}, "train_split": "train[:5%]", "test_split": "test[:20%]"},
    "runtime": {"enable_xla": False},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def build(data_dir):
    def make(**task):
        text = json.dumps({"task": PLAIN | {"data_dir": data_dir} | task})
        config = experiments.load("sequential_digits", params_override=text)
        return config.task.build(0, tf.float32)

    return make


def batch(task, split="test", seed=0, step=0, size=8):
    examples = task.database.splits[split]
    made = (
        training_dataset(examples, size, seed, step)
        if split == "train"
        else evaluation_dataset(examples, size, seed)
    )
    return {name: value.numpy() for name, value in next(iter(made)).items()}


def test_pixels_then_the_cue(build):
    found = batch(build(), size=360)
    inputs = found["inputs"]
    assert inputs.shape == (360, 72, 2)
    known = {np.asarray(x, np.float32).tobytes() for x in load_digits().data / 16.0}
    assert all(x.tobytes() in known for x in np.ascontiguousarray(inputs[:, :64, 0]))
    assert not inputs[:, 64:, 0].any()
    np.testing.assert_array_equal(inputs[:, :, 1], found["recall"])
    np.testing.assert_array_equal(found["recall"], np.tile(np.arange(72) >= 64, (360, 1)))


def test_a_pixel_lasts_so_many_steps(build):
    once, thrice = batch(build())["inputs"], batch(build(steps_per_pixel=3))["inputs"]
    assert thrice.shape == (8, 200, 2)
    np.testing.assert_array_equal(thrice[:, :192:3, 0], once[:, :64, 0])
    np.testing.assert_array_equal(thrice[:, 2:192:3, 0], once[:, :64, 0])


def test_crossings():
    values = tf.constant([[0.0], [0.3], [0.3], [1.0], [1.0], [0.5], [0.0]])
    found = crossings(values, 3).numpy()  # of 0, 0.5 and 1
    rising, falling, full = found[:, :2], found[:, 2:4], found[:, 4]
    np.testing.assert_array_equal(rising[:, 1], [0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(falling[:, 1], [0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(full, [0, 0, 0, 1, 1, 0, 0])
    assert not rising[:, 0].any() and not falling[:, 0].any(), "nothing is below 0"


def test_crossings_of_an_image_are_those_of_its_pixels(build):
    pixels = batch(build())["inputs"][:, :64, 0]
    inputs = batch(build(encoding="crossings", thresholds=9))["inputs"]
    assert inputs.shape == (8, 72, 18) and set(np.unique(inputs)) == {0.0, 1.0}
    for k, level in enumerate(np.linspace(0, 1, 9)[:-1]):
        above = np.pad(pixels >= level, ((0, 0), (1, 0)), constant_values=level <= 0)
        change = np.diff(above.astype(int), axis=1)
        np.testing.assert_array_equal(inputs[:, :64, k], change == 1)
        np.testing.assert_array_equal(inputs[:, :64, 8 + k], change == -1)
    np.testing.assert_array_equal(inputs[:, :64, 16], pixels == 1.0)


def test_poisson_has_the_rates_of_the_pixels(build):
    pixels = batch(build(), size=360)["inputs"][:, :64, 0]
    task = build(encoding="poisson", max_probability=0.5)
    spikes = batch(task, size=360)["inputs"][:, :64, 0]
    assert set(np.unique(spikes)) == {0.0, 1.0}
    for low in np.arange(0.0, 1.0, 0.25):
        some = (pixels > low) & (pixels <= low + 0.25)
        assert spikes[some].mean() == pytest.approx(0.5 * pixels[some].mean(), rel=0.1)
    assert (batch(task, size=360, seed=1)["inputs"][:, :64, 0] != spikes).any()
    np.testing.assert_array_equal(batch(task, size=360)["inputs"][:, :64, 0], spikes)


def test_augmentation_is_of_training_images_and_of_the_seed(build):
    task = build(noise=0.1, shift=1.0)
    clean = build()
    first = batch(task, "train")["inputs"]
    np.testing.assert_array_equal(first, batch(task, "train")["inputs"])
    assert (first != batch(clean, "train")["inputs"]).any()
    assert first.min() >= 0.0 and first.max() <= 1.0
    later = batch(task, "train", step=-(-1293 // 8))  # the next epoch
    assert later["inputs"].shape == first.shape and (later["inputs"] != first).any()
    for split in ("validation", "test"):
        np.testing.assert_array_equal(batch(task, split)["inputs"], batch(clean, split)["inputs"])


def test_images_of_any_size_and_of_colours(build, monkeypatch):
    draw = np.random.default_rng(0)

    def load(source, split, data_dir, fields):
        assert (source, fields) == ("cifar10", ["image", "label"])
        image = draw.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
        return {"image": image, "label": np.arange(12) % 3}

    monkeypatch.setattr(digits, "load_tfds", load)
    task = build(dataset="cifar10")
    assert batch(task)["inputs"].shape == (8, 38, 4)
    (net,) = task.training_modules.model.networks
    assert net.output.name == "network.output" and net.module.cells[0].feedforward.inputs == 4
    task = build(dataset="cifar10", encoding="crossings", thresholds=5)
    assert batch(task)["inputs"].shape == (8, 38, 3 * 9 + 1)


def test_it_trains(data_dir, tmp_path):
    task = TINY["task"] | {"data_dir": data_dir}
    config = experiments.load(
        "sequential_digits", params_override=json.dumps(TINY | {"task": task})
    )
    assert config.task.encoding == "crossings"
    results = experiments.build_run(config, tmp_path).train_and_evaluate()
    assert (results["step"], results["examples"]) == (6, 72)
    assert results["metrics"]["loss"] > 0 and 0 <= results["metrics"]["accuracy"] <= 1


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("steps_per_pixel=0", r"task\.steps_per_pixel.*got 0.*at least 1"),
        ("recall_steps=0", r"task\.recall_steps.*got 0.*at least 1"),
        ("thresholds=1", r"task\.thresholds.*got 1.*at least 2"),
        ("encoding=crossing", r"task\.encoding.*'crossing'.*Did you mean `crossings`"),
        ("steps_per_row=4", r"task\.steps_per_row"),
    ],
)
def test_bad_input(field, message):
    with pytest.raises(ConfigError, match=message) as caught:
        experiments.load("sequential_digits", params_override=f"task.{field}")
    assert "\n" not in str(caught.value)
