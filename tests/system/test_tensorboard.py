"""What TensorBoard finds in a run's directory."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

LOOPS, EVALUATIONS = [5, 10, 15, 20], [10, 20]
SCALARS = ("loss", "accuracy", "rate_hz/cell0", "silent/cell0", "saturated/cell0")
OF_TRAINING = (*SCALARS, "learning_rate", "gradient_norm", "steps_per_second")
WEIGHTS = ("network/cells/0/feedforward/kernel", "network/cells/0/recurrent/kernel", "readout")


@pytest.fixture(scope="module")
def events(finished):
    def load(part):
        accumulator = EventAccumulator(str(finished.directory / part), {"tensors": 0})
        return accumulator.Reload()

    return {part: load(part) for part in ("train", "validation", "test")}


def plugin(events, tag):
    return events.SummaryMetadata(tag).plugin_data.plugin_name


def values(events, tag):
    found = events.Tensors(tag)
    return [each.step for each in found], [tf.make_ndarray(each.tensor_proto) for each in found]


@pytest.mark.parametrize(
    ("part", "tags", "steps"),
    [
        ("train", OF_TRAINING, LOOPS),
        ("validation", SCALARS, EVALUATIONS),
        ("test", SCALARS, [20]),
    ],
)
def test_scalars(events, part, tags, steps):
    for tag in tags:
        assert plugin(events[part], tag) == "scalars", tag
        at, found = values(events[part], tag)
        assert np.isfinite(found).all() and np.ndim(found) == 1, tag
        if tag != "steps_per_second":
            assert at == steps, tag


def test_histograms_of_weights_and_rates(events):
    tags = events["validation"].Tags()["tensors"]
    weights = [tag for tag in tags if tag.startswith("weights/")]
    for name in WEIGHTS:
        assert any(name in tag for tag in weights), weights
    for tag in [*weights, "rates/cell0"]:
        assert plugin(events["validation"], tag) == "histograms", tag
        at, found = values(events["validation"], tag)
        assert at == EVALUATIONS and found[0].shape[1] == 3
    kernel = values(events["validation"], "weights/network/cells/0/recurrent/kernel")[1]
    assert kernel[0][:, 2].sum() in (16 * 16, 16 * 15)
    assert (kernel[0] != kernel[1]).any()
    assert plugin(events["train"], "rates/cell0") == "histograms"


def test_pictures(events):
    assert plugin(events["validation"], "activity/0") == "images"
    at, found = values(events["validation"], "activity/0")
    assert at == EVALUATIONS
    for width, height, png in found:
        assert int(width) > 300 and int(height) > 200
        assert png.startswith(b"\x89PNG")
    assert "activity/1" not in events["validation"].Tags()["tensors"]


def test_the_confusion_matrix_is_there_and_a_file(events, finished):
    assert plugin(events["validation"], "confusion/decision") == "images"
    at, _ = values(events["validation"], "confusion/decision")
    assert at == EVALUATIONS
    files = sorted(finished.directory.glob("plots/*/confusion/decision.png"))
    assert [file.parts[-3] for file in files] == [f"step{step}" for step in EVALUATIONS]


def test_the_configuration_is_there_as_text(events, finished):
    assert plugin(events["train"], "configuration") == "text"
    (text,) = values(events["train"], "configuration")[1]
    assert (finished.directory / "params.yaml").read_text() in text.item().decode()
