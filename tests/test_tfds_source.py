"""Data sets of TFDS: their order, nested fields and errors."""

import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from orbit_snn.data import DataError
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


def test_tfds_names_a_file_that_cannot_be_read(tmp_path):
    builder = Nested(data_dir=tmp_path)
    prepare_tfds(builder)
    (shard,) = tmp_path.glob("nested/1.0.0/*train.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(DataError, match="cannot be read.*DataLossError"):
        load_tfds(builder, "train", fields=["label"])
