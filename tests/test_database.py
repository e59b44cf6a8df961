"""Databases: splits, features by name, and what is said of names that are wrong."""

import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.data import DataError, Examples, from_arrays
from orbit_snn.database import Database
from orbit_snn.tasks import digits_dataset

ARRAYS = {"inputs": np.arange(40.0).reshape(20, 2), "label": np.arange(20)}


def read(database, split, batch_size=3):
    """Features of every example of a split, in order."""
    batches = list(database.batches(split, batch_size))
    real = [batch["weight"].numpy() > 0 for batch in batches]
    names = [name for name in batches[0] if name != "weight"]
    return {
        n: np.concatenate([b[n].numpy()[r] for b, r in zip(batches, real, strict=True)])
        for n in names
    }


def nested(index, seed):
    return {"a": {"b": tf.cast(index, tf.float32), "c": seed}, "d": index}


class TestSplits:
    def test_every_example_is_in_one_split(self):
        database = Database.from_arrays(ARRAYS, 0.2, 0.1, inputs=["inputs"], targets=["label"])
        found = {split: read(database, split)["label"] for split in database.splits}
        assert [len(found[s]) for s in ("train", "validation", "test")] == [14, 4, 2]
        np.testing.assert_array_equal(np.sort(np.concatenate(list(found.values()))), np.arange(20))
        again = Database.from_arrays(ARRAYS, 0.2, 0.1, targets=["label"])
        np.testing.assert_array_equal(read(again, "test")["label"], found["test"])
        other = Database.from_arrays(ARRAYS, 0.2, 0.1, seed=1, targets=["label"])
        assert not np.array_equal(read(other, "train")["label"], found["train"])

    def test_no_held_out_examples(self):
        assert list(Database.from_arrays(ARRAYS, 0.0, 0.0).splits) == ["train"]

    def test_of_tfds(self, tmp_path):
        builder = digits_dataset.builder(tmp_path)
        splits = {"train": "train[:20]", "test": "test[:10]"}
        database = Database.from_tfds(builder, splits, inputs=["image"], targets=["label"])
        assert database.features()["image"].shape == [8, 8, 1]
        assert read(database, "test")["label"].shape == (10,)

        def encode(example, seed):
            return {"inputs": tf.cast(example["image"], tf.float32), "label": example["label"]}

        encoded = Database.from_tfds(builder, splits, encode=encode)
        assert sorted(encoded.features()) == ["inputs", "label"]


class TestFeatures:
    def test_only_what_is_asked_for_is_read(self):
        database = Database({"train": from_arrays(ARRAYS)})
        database.inputs = ["inputs"]
        assert sorted(read(database, "train")) == ["inputs"]
        database.targets = ["label"]
        assert database.var_list == ["inputs", "label"]
        assert sorted(read(database, "train")) == ["inputs", "label"]

    def test_nested_ones_have_a_path(self):
        database = Database({"train": Examples(nested, 5)}, inputs=["a/b"])
        assert sorted(database.features()) == ["a/b", "a/c", "d"]
        np.testing.assert_array_equal(read(database, "train")["a/b"], np.arange(5.0))

    def test_added_ones_go_with_their_examples(self):
        parts = {"train": from_arrays(ARRAYS), "test": from_arrays(ARRAYS)}
        database = Database(parts, inputs=["inputs"])
        database.add("cached", {name: 10 * np.arange(20) for name in parts})
        database.inputs = ["inputs", "cached"]
        found = read(database, "test", 7)
        np.testing.assert_array_equal(found["cached"], 10 * np.arange(20))

    def test_nothing_is_added_where_a_split_goes_without(self):
        database = Database({"train": from_arrays(ARRAYS), "test": from_arrays(ARRAYS)})
        with pytest.raises(DataError, match="`cached` got no values for 20 examples"):
            database.add("cached", {"train": np.arange(20)})
        assert sorted(database.features("train")) == ["inputs", "label"]


def database(**names):
    return Database({"train": from_arrays(ARRAYS)}, **names)


REFUSED = [
    (lambda: Database({}), "a database got no splits; give at least `train`"),
    (
        lambda: database(inputs=["input"]),
        "no field `input`, there are inputs, label: did you mean `inputs`?",
    ),
    (lambda: setattr(database(), "targets", ["lable"]), "did you mean `label`?"),
    (lambda: database().examples("train", ["x"]), "no field `x`, there are inputs, label"),
    (lambda: database().examples("test"), "no split `test`, there are train"),
    (lambda: database().batches("train", 3), "set database.inputs = db_info['inputs']"),
    (lambda: database().add("x", {"train": np.arange(3)}), "`x` got 3 values for 20 examples"),
    (lambda: Database.from_arrays(ARRAYS, 0.5, 0.5), "leave nothing of 20 examples to train on"),
    (lambda: Database.from_arrays(ARRAYS, -0.1, 0.5), "lower them"),
    (lambda: Database.from_arrays({"a": np.ones(3), "b": np.ones(4)}), "unequal numbers"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refuses(make, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)
