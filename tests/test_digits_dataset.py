"""The digits data set: lossless, stratified, offline, and the same on every machine."""

import hashlib
import pathlib
import socket

import numpy as np
import pytest
from sklearn.datasets import load_digits

from orbit_snn.data import DataError
from orbit_snn.tasks import digits_dataset
from orbit_snn.tfds_source import load_tfds


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    def refuse(*arguments):
        raise AssertionError(f"network used: {arguments}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", "/nonexistent")
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return digits_dataset.builder(tmp_path_factory.mktemp("tfds"))


def test_train_and_test_are_all_of_scikit_learns_digits(prepared):
    parts = [load_tfds(prepared, split) for split in ("train", "test")]
    assert [len(part["label"]) for part in parts] == [1437, 360]
    found = sorted(
        (int(label), image.tobytes())
        for part in parts
        for image, label in zip(part["image"], part["label"], strict=True)
    )
    images, labels = load_digits(return_X_y=True)
    expected = sorted(
        (int(label), image.tobytes())
        for image, label in zip(images.astype(np.uint8), labels, strict=True)
    )
    assert found == expected
    assert parts[0]["image"].dtype == np.uint8
    assert parts[0]["image"].shape == (1437, 8, 8, 1)


@pytest.mark.parametrize(("split", "low", "high"), [("test", 35, 37), ("train[90%:]", 8, 22)])
def test_every_class_is_in_every_part(prepared, split, low, high):
    counts = np.bincount(load_tfds(prepared, split)["label"], minlength=10)
    assert counts.min() >= low
    assert counts.max() <= high


def test_slices_of_train_share_no_example(prepared):
    whole = load_tfds(prepared, "train")["label"]
    parts = [load_tfds(prepared, split)["label"] for split in ("train[:90%]", "train[90%:]")]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_order_never_changes(prepared, tmp_path):
    again = load_tfds(digits_dataset.builder(tmp_path), "train")
    first = load_tfds(prepared, "train")
    np.testing.assert_array_equal(first["image"], again["image"])
    digest = hashlib.sha256(first["image"].tobytes() + first["label"].tobytes()).hexdigest()
    assert digest.startswith("48e215d8df44c58c")


def test_second_call_reuses_what_is_there(prepared):
    folder = pathlib.Path(prepared.data_path)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    digits_dataset.builder(folder.parent.parent)
    assert before == {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "digits").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="`digits` could not be prepared in"):
        digits_dataset.builder(tmp_path)
