"""Data sets of TFDS: their order, nested fields and errors."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from orbit_snn.data import DataError
from orbit_snn.tasks import digits_dataset
from orbit_snn.tfds_source import load_tfds, prepare_tfds


class Nested(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Five examples with nested and ragged features; `fault` runs before they are made."""

    VERSION = tfds.core.Version("1.0.0")
    fault = staticmethod(lambda: None)

    def _info(self):
        features = {
            "events": {"times": tfds.features.Tensor(shape=(2,), dtype=np.float32)},
            "ragged": tfds.features.Sequence(np.int64),
            "label": np.int64,
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        self.fault()
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            yield i, {"events": {"times": [i, i]}, "ragged": list(range(i)), "label": i}


def test_tfds_reads_nested_fields_in_a_fixed_order(tmp_path):
    read = [load_tfds(Nested(data_dir=tmp_path), "train", fields=["events/times", "label"])]
    read.append(load_tfds(Nested(data_dir=tmp_path), "train", fields=["events/times"]))
    assert sorted(read[0]["label"]) == list(range(5))
    np.testing.assert_array_equal(read[0]["events/times"][:, 0], read[0]["label"])
    np.testing.assert_array_equal(read[0]["events/times"], read[1]["events/times"])
    assert list(load_tfds(Nested(data_dir=tmp_path), "train[:40%]", fields=["label"])) == ["label"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "has no split `tset`, it has train"),
        ({"split": "train[:0%]"}, "has no examples"),
        ({"fields": ["events/time"]}, "did you mean `events/times`"),
        ({"fields": ["ragged"]}, "field `ragged` differ in shape"),
        ({"fields": ["label"], "limit_mb": 0}, "the limit is 0 MB"),
        ({"builder": "huggingface:mnist"}, "no `namespace:`"),
        ({"builder": "mldataset.mnist"}, "not the name of a data set"),
        ({"builder": "../mnist"}, "not the name of a data set"),
        ({"builder": "mnits"}, "no data set `mnits`: did you mean `mnist`"),
    ],
)
def test_tfds_errors_say_what_to_do(tmp_path, arguments, message):
    builder = Nested(data_dir=tmp_path)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_tfds(**({"builder": builder, "split": "train", "data_dir": tmp_path} | arguments))
    assert "\n" not in str(caught.value)


def test_tfds_without_a_network_says_what_to_do(tmp_path):
    def offline():
        raise ConnectionError("no route to host\nand more")

    builder = Nested(data_dir=tmp_path)
    builder.fault = offline
    with pytest.raises(DataError, match="no route to host.*copy the folder") as caught:
        load_tfds(builder, "train")
    assert "\n" not in str(caught.value)


def test_tfds_takes_what_another_process_prepared_meanwhile(tmp_path):
    builder = Nested(data_dir=tmp_path)
    builder.fault = lambda: Nested(data_dir=tmp_path).download_and_prepare()
    assert len(load_tfds(builder, "train", fields=["label"])["label"]) == 5


def flipped(raw, at):
    return raw[:at] + bytes([raw[at] ^ 255]) + raw[at + 1 :]


DAMAGE = {
    "truncated": (lambda raw: raw[:-3], "of 5 records is damaged after the first 4"),
    "cut between records": (
        lambda raw: raw[: 16 + int.from_bytes(raw[:8], "little")],
        "has 1 of 5 records",
    ),
    "no record left": (lambda raw: b"", "has 0 of 5 records"),
    "bit of a length": (lambda raw: flipped(raw, 3), "damaged after the first 0"),
    "bit of a record": (lambda raw: flipped(raw, len(raw) // 2), "damaged after the first 2"),
    "missing": (lambda raw: None, "of 5 records is missing"),
}


@pytest.mark.parametrize("split", ["train", "train[40%:]"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_tfds_names_a_file_that_is_damaged(tmp_path, damage, split):
    builder = Nested(data_dir=tmp_path)
    prepare_tfds(builder)
    (shard,) = tmp_path.glob("nested/1.0.0/*train.tfrecord*")
    harm, message = DAMAGE[damage]
    content = harm(shard.read_bytes())
    shard.unlink() if content is None else shard.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_tfds(builder, split, fields=["label"])
    said = str(caught.value)
    assert f"the file {shard} " in said and message in said
    assert said.endswith(f"delete the folder {shard.parent} and prepare it again")


def test_tfds_says_what_is_wrong_with_records_of_another_data_set(tmp_path):
    builder = Nested(data_dir=tmp_path)
    prepare_tfds(builder)
    (shard,) = tmp_path.glob("nested/1.0.0/*train.tfrecord*")
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for _ in range(5):
            writer.write(b"")
    with pytest.raises(DataError, match=r"read: InvalidArgumentError: .*; delete") as caught:
        load_tfds(builder, "train", fields=["label"])
    assert "\n" not in str(caught.value) and "{{" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"other": 1}', None])
def test_tfds_says_what_to_do_about_a_damaged_description(tmp_path, content):
    digits_dataset.builder(tmp_path)
    (file,) = tmp_path.glob("digits/1.0.0/dataset_info.json")
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(DataError, match="`digits` cannot be .*: .*delete .*folder") as caught:
        digits_dataset.builder(tmp_path)
    assert "\n" not in str(caught.value)
