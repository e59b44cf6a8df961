"""Order, seeds and errors of the step-keyed data sets."""

import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import data
from orbit_snn.data import DataError, Examples
from orbit_snn.data_checks import check_examples

STEPS = 3


def noisy(example, seed):
    """A random encoder; keeps the seed so that tests can look at it."""
    noise = tf.random.stateless_uniform([STEPS], seed, alg="philox")
    return {"inputs": noise, "index": example["index"], "seed": seed}


def indexed(size, encode=noisy):
    return data.from_arrays({"index": np.arange(size)}, encode)


def batches(dataset, count=None):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def field(found, name):
    return np.concatenate([batch[name] for batch in found])


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for name in x:
            np.testing.assert_array_equal(x[name], y[name])


endless = Examples(lambda index, seed: {"index": index, "seed": seed}, None)


@pytest.mark.parametrize("examples", [indexed(10), endless], ids=["finite", "endless"])
@pytest.mark.parametrize("step", [1, 5])
def test_resumed_training_sees_the_same_batches_bit_for_bit(examples, step):
    whole = batches(data.training_dataset(examples, 4, seed=3), step + 6)
    resumed = batches(data.training_dataset(examples, 4, seed=3, step=step), 6)
    assert_same(whole[step:], resumed)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_every_epoch_is_a_permutation_across_batch_borders(size):
    batch_size = min(size, 3)
    found = batches(data.training_dataset(indexed(size), batch_size, seed=1), 4 * size)
    epochs = field(found, "index")[: 4 * size].reshape(-1, size)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))
    if size == 64:
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_runs_with_other_seeds_see_another_order():
    orders = {
        tuple(batches(data.training_dataset(indexed(40), 40, seed), 1)[0]["index"])
        for seed in (0, 1, -1, 2**31, 2**63)
    }
    assert len(orders) == 5


def test_seed_of_an_example_depends_on_index_and_epoch_and_not_on_the_batch_size():
    def seeds(batch_size):
        found = batches(data.training_dataset(indexed(12), batch_size, seed=5), 24 // batch_size)
        keys = zip(field(found, "index"), np.arange(24) // 12, strict=True)
        pairs = map(tuple, field(found, "seed"))
        return dict(zip(keys, pairs, strict=True)), field(found, "inputs")

    (small, x), (large, y) = seeds(2), seeds(12)
    assert small == large
    np.testing.assert_array_equal(x, y)
    assert len(set(small.values())) == 24


def test_endless_examples_count_positions_and_have_seeds_of_their_own():
    found = batches(data.training_dataset(endless, 4, seed=5), 3)
    np.testing.assert_array_equal(field(found, "index"), np.arange(12))
    assert len(set(map(tuple, field(found, "seed")))) == 12


def test_arithmetic_holds_at_large_steps():
    step = 2**40
    found = batches(data.training_dataset(endless, 64, seed=0, step=step), 1)[0]
    np.testing.assert_array_equal(found["index"], step * 64 + np.arange(64))
    epoch = batches(data.training_dataset(indexed(8), 8, seed=0, step=step), 1)[0]
    np.testing.assert_array_equal(np.sort(epoch["index"]), np.arange(8))


@pytest.mark.parametrize("size", [2**16, 2**16 + 1, 2**16 + 2, 2**17 + 1, 2**18 + 1])
def test_large_sets_are_permuted_too(size):
    # TensorFlow's own shuffle repeats an index of 2^16 + 1 and 2^18 + 1 examples.
    key = tf.tile(tf.constant([[3, 4]]), [size, 1])
    image = data._permuted(tf.range(size, dtype=tf.int64), size, key).numpy()
    np.testing.assert_array_equal(np.sort(image), np.arange(size))


def test_shuffled_neighbours_are_not_correlated():
    size = 60_000
    key = tf.tile(data._key(0, 1)[tf.newaxis], [size, 1])
    image = data._permuted(tf.range(size, dtype=tf.int64), size, key).numpy()
    for lag in (1, 2, 3, 4):
        assert abs(np.corrcoef(image[:-lag], image[lag:])[0, 1]) < 0.03


def test_orders_of_a_small_set_are_equally_likely():
    count = 1_200
    key = data._key(0, 0, tf.range(count, dtype=tf.int64))
    images = [data._permuted(tf.fill([count], tf.constant(i, tf.int64)), 3, key) for i in range(3)]
    _, seen = np.unique(np.stack(images, axis=1), axis=0, return_counts=True)
    assert len(seen) == 6
    assert abs(seen / (count / 6) - 1).max() < 0.25


def test_key_is_splitmix64():
    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    expected = mix((mix(7) + 0x9E3779B97F4A7C15 * (2 + 1)) % 2**64)
    assert data._key(7, 2).numpy().view(np.uint64)[0] == expected


@pytest.mark.parametrize("size", [1, 7, 8, 9])
def test_evaluation_covers_every_example_once(size):
    found = batches(data.evaluation_dataset(indexed(size), 4, seed=0))
    weight = field(found, "weight")
    assert weight.dtype == np.float32
    assert len(found) == -(-size // 4)
    np.testing.assert_array_equal(field(found, "index")[weight == 1], np.arange(size))
    np.testing.assert_array_equal(field(found, "index")[weight == 0], size - 1)
    assert weight.sum() == size


def test_evaluation_seeds_ignore_the_batch_size_and_differ_from_training():
    small = field(batches(data.evaluation_dataset(indexed(8), 2, seed=0)), "seed")
    large = field(batches(data.evaluation_dataset(indexed(8), 8, seed=0)), "seed")
    np.testing.assert_array_equal(small, large)
    train = field(batches(data.training_dataset(indexed(8), 8, seed=0), 5), "seed")
    assert not set(map(tuple, small)) & set(map(tuple, train))


def test_endless_examples_are_evaluated_up_to_a_size():
    found = batches(data.evaluation_dataset(endless, 4, seed=0, size=6))
    np.testing.assert_array_equal(field(found, "weight"), [1] * 6 + [0] * 2)


def test_shapes_are_static_and_training_never_ends():
    train = data.training_dataset(indexed(10), 4, seed=0)
    evaluation = data.evaluation_dataset(indexed(10), 4, seed=0)
    assert train.cardinality() == tf.data.INFINITE_CARDINALITY
    assert evaluation.cardinality() == 3
    assert train.element_spec["inputs"] == tf.TensorSpec([4, STEPS], tf.float32)
    assert evaluation.element_spec["weight"] == tf.TensorSpec([4], tf.float32)


def test_arrays_keep_dtype_and_values():
    arrays = {"x": np.ones([3, 2], np.uint8), "name": np.array([b"a", b"b", b"c"], object)}
    found = batches(data.evaluation_dataset(data.from_arrays(arrays), 3, seed=0))[0]
    assert found["x"].dtype == np.uint8
    assert list(found["name"]) == [b"a", b"b", b"c"]


MIRRORED = """
import numpy as np, tensorflow as tf
from orbit_snn import data
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
examples = data.from_arrays(
    {"index": np.arange(10)}, lambda x, seed: x | {"seed": seed})
for dataset in (data.training_dataset, data.evaluation_dataset):
    own = data.distributed(strategy, lambda share: dataset(examples, 4, 0, share=share))
    for whole, parts in zip(dataset(examples, 4, 0).take(3), own):
        for name in whole:
            got = np.concatenate(strategy.experimental_local_results(parts[name]))
            assert np.array_equal(whole[name], got), name
print("same batches")
"""


def test_replicas_split_the_global_batch_in_order():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED], capture_output=True, text=True, env=environment
    )
    assert "same batches" in done.stdout, done.stderr


@pytest.mark.parametrize("make", [data.training_dataset, data.evaluation_dataset])
def test_workers_make_the_parts_of_their_replicas_in_order(make):
    """Two workers of two replicas: together they have every batch, whoever makes it."""
    pipelines = []

    class Strategy:
        def distribute_datasets_from_function(self, own):
            contexts = [tf.distribute.InputContext(2, worker, 4) for worker in range(2)]
            pipelines.extend(map(own, contexts))

    data.distributed(Strategy(), lambda share: make(indexed(10), 8, 0, share=share))
    whole = batches(make(indexed(10), 8, 0), 2)
    parts = [batches(pipeline, 4) for pipeline in pipelines]
    for k, batch in enumerate(whole):
        together = [part for own in parts for part in own[2 * k : 2 * k + 2]]
        assert [len(part["index"]) for part in together] == [2] * 4
        for name in batch:
            np.testing.assert_array_equal(field(together, name), batch[name])
    with pytest.raises(ValueError, match="10 examples cannot be split evenly over 4 replicas"):
        make(indexed(10), 10, 0, share=data.Share(replicas=4))


def dynamic(example, seed):
    return {"x": tf.boolean_mask(tf.range(3), tf.range(3) < tf.cast(example["index"], tf.int32))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.from_arrays({}), "no examples"),
        (lambda: data.from_arrays({"x": np.zeros([0, 3])}), "no examples in the fields ['x']"),
        (lambda: data.from_arrays({"x": np.zeros(3), "y": np.zeros(2)}), "{'x': 3, 'y': 2}"),
        (lambda: data.from_arrays({"x": np.float32(1)}), "`x` is a scalar"),
        (lambda: data.from_arrays({"x": np.array([[0, 1], [0, np.nan]])}), "`x` has NaN or infin"),
        (lambda: data.from_arrays({"x": np.array([0, 0, np.inf])}), "first in example 2"),
        (
            lambda: data.training_dataset(indexed(40), 64, 0),
            "batch of 64 examples asked of a data set of 40: lower the batch size to at most 40",
        ),
        (lambda: data.training_dataset(indexed(40), 0, 0), "batch of 0 examples"),
        (lambda: data.training_dataset(indexed(40), 4, 0, step=-1), "starts at step -1"),
        (lambda: data.training_dataset(indexed(4, dynamic), 4, 0), "must be static"),
        (lambda: data.evaluation_dataset(endless, 4, 0), "say how many to evaluate"),
        (lambda: data.evaluation_dataset(indexed(4), 4, 0, size=5), "evaluation of 5 examples"),
        (
            lambda: data.evaluation_dataset(data.from_arrays({"weight": np.ones(2)}), 1, 0),
            "field `weight`",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


GOOD = {"inputs": np.eye(4, dtype=np.float32)[:, :, None], "label": np.arange(4)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": np.zeros([4, 0, 1])}, "example 0: `inputs` has no time steps"),
        ({"inputs": np.zeros([4, 3, 1])}, "zero at every step of all 4 examples"),
        ({"label": np.array([0, 1, 10, 3])}, "example 2: label 10 in `label` is outside [0, 4)"),
        ({"label": np.array([0, -1, 1, 3])}, "label -1"),
        ({"mask": np.array([[1, 0]] * 3 + [[0, 0]])}, "example 3: `mask` marks no step"),
    ],
)
def test_check_names_the_example(change, message):
    with pytest.raises(DataError, match=re.escape(message)):
        check_examples(data.from_arrays(GOOD | change), labels={"label": 4})


def test_check_accepts_good_examples_and_finds_what_the_encoder_breaks():
    check_examples(data.from_arrays(GOOD), labels={"label": 4})
    padded = {"label": np.array([[0, -1]] * 4), "mask": np.array([[1, 0]] * 4)}
    check_examples(data.from_arrays(GOOD | padded), labels={"label": 4})
    broken = data.from_arrays(GOOD, lambda x, seed: x | {"inputs": x["inputs"] / 0.0})
    with pytest.raises(DataError, match="example 0: `inputs` has NaN"):
        check_examples(broken)
    with pytest.raises(DataError, match="no field `labl`.*there are.*did you mean `label`"):
        check_examples(data.from_arrays(GOOD), labels={"labl": 4})
    sparse = data.from_arrays({"inputs": (np.arange(1000) == 999).astype(np.float32)[:, None]})
    check_examples(sparse, limit=5)  # looks as far as the last example
