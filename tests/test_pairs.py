"""Pairs of neurons against brute force, and their storage in a data set."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from orbit_snn.connections.distance import DistanceConnection
from orbit_snn.data import DataError, Examples, from_arrays
from orbit_snn.database import Database
from orbit_snn.graph import (
    MSE,
    GraphError,
    InputNode,
    ModelNode,
    NodeAmbiguity,
    NodeNotFound,
    assemble_for_training,
    precompute,
)
from orbit_snn.graph.pairs import (
    PAIR_OUTPUTS,
    BoxNode,
    DistanceNode,
    PairFinder,
    PairIndexer,
    PairUncacher,
    PositionsNode,
    check_images,
    needed_images,
    offset_grid,
)
from orbit_snn.graph.precompute import FEATURE, precompute_pairs
from tests.oracles import pairs as oracle

# number of neurons, edges of the box, cutoff, how many boxes positions are spread over
SHEETS = {
    "line": (7, (), 0.4, 1.0, 1),
    "open": (6, (), 0.5, 1.0, 2),
    "space": (5, (), 0.7, 1.0, 3),
    "ring": (6, (1.0,), 0.45, 1.0, 1),
    "torus": (6, (1.0, 1.3), 0.6, 1.0, 2),
    "outside": (5, (1.0, 0.8), 0.5, 7.0, 2),
    "own images": (3, (0.5, 2.0), 1.2, 2.0, 2),
    "far around": (3, (0.3,), 1.0, 3.0, 1),
    "torus in space": (4, (1.0, 1.1, 0.9), 0.95, 1.5, 3),
}
SIZE, STEPS = 3, 4


def sheet(name, dtype=np.float64, size=SIZE, seed=0):
    """Positions `[B, N, D]`, edges `[B, D]` (that differ) or None, and the cutoff."""
    units, edges, cutoff, spread, dims = SHEETS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    scale = np.array(edges or [1.0] * dims) * spread
    r = rng.uniform(-0.5, 0.5, (size, units, dims)) * scale
    r[:, -1] = r[:, 0]  # two neurons at one place
    box = rng.uniform(1.0, 1.1, (size, dims)) * edges if edges else None
    return r.astype(dtype), None if box is None else box.astype(dtype), cutoff


def given(r, box):
    return [tf.constant(x) for x in (r, box) if x is not None]


def finder_of(name):
    r, box, cutoff = sheet(name)
    return PairFinder(cutoff, needed_images(box, cutoff))


def listed(values, example):
    """Arrays of the pairs of one example, in the order that they are in."""
    mask = values["pair_mask"][example].numpy()
    return {key: values[key][example].numpy()[mask] for key in PAIR_OUTPUTS}


def wanted(r, box, cutoff, example):
    return oracle.pairs(r[example], None if box is None else box[example], cutoff)


def assert_pairs(got, want, rtol):
    np.testing.assert_array_equal(got["pair_first"], want.first)
    np.testing.assert_array_equal(got["pair_second"], want.second)
    np.testing.assert_array_equal(got["cell_offsets"], want.offsets)
    np.testing.assert_allclose(got["pair_coord"], want.coords, rtol, rtol)
    np.testing.assert_allclose(got["pair_dist"], want.dist, rtol, rtol)


def feature_of(r, box, cutoff, n_images, dense):
    """What should be stored, by brute force."""
    size, units, dims = r.shape
    images = (2 * n_images + 1) ** dims
    rows = []
    for example in range(size):
        found = wanted(r, box, cutoff, example)
        index = oracle.offset_index(found.offsets, n_images)
        rows.append((found.first * units + found.second) * images + index)
    if dense:
        table = np.zeros([size, units * units * images], np.int8)
        for row, index in zip(table, rows, strict=True):
            row[index] = 1
        return table.reshape(size, units, units, images)
    cached = np.full([size, max(map(len, rows))], -1, np.int32)
    for row, index in zip(cached, rows, strict=True):
        row[: len(index)] = index
    return cached


def stored(name, dense, r, box, cutoff):
    """An uncacher and the feature that it takes."""
    if box is None:
        n_images = 0
    else:
        offsets = [wanted(r, box, cutoff, example).offsets for example in range(len(r))]
        n_images = max(map(oracle.needed_images, offsets))
    return PairUncacher(n_images), tf.constant(feature_of(r, box, cutoff, n_images, dense))


class TestFinder:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("name", SHEETS)
    def test_pairs_are_those_of_brute_force(self, name, dtype):
        r, box, cutoff = sheet(name, dtype)
        finder = finder_of(name)
        values = finder(*given(r, box))
        count = r.shape[1] ** 2 * (2 * finder.n_images * (box is not None) + 1) ** r.shape[2]
        assert values["pair_dist"].shape == [SIZE, count] and values["pair_dist"].dtype == dtype
        for example in range(SIZE):
            want = wanted(r, box, cutoff, example)
            got = listed(values, example)
            assert_pairs(got, want, 1e-6 if dtype == np.float32 else 1e-14)
            n = finder.n_images if box is not None else 0
            fits = np.all(np.abs(want.offsets) <= n, axis=1)
            index = np.where(fits, oracle.offset_index(want.offsets * fits[:, None], n), -1)
            np.testing.assert_array_equal(got["offset_index"], index)
        for key in ("pair_dist", "pair_coord", "cell_offsets"):
            assert not np.any(values[key].numpy()[~values["pair_mask"].numpy()])

    def test_the_sheets_have_what_they_are_named_for(self):
        r, box, cutoff = sheet("own images")
        found = wanted(r, box, cutoff, 0)
        assert np.any((found.first == found.second) & np.any(found.offsets, axis=1))
        assert np.any((found.dist == 0) & (found.first != found.second))
        outside = wanted(*sheet("outside"), 0)
        assert oracle.needed_images(outside.offsets) > 3
        assert finder_of("far around").n_images == 4

    @pytest.mark.parametrize("name", ["open", "outside", "own images"])
    def test_compiled_is_eager(self, name):
        r, box, _ = sheet(name)
        finder = finder_of(name)
        eager = finder(*given(r, box))
        compiled = tf.function(finder.__call__, jit_compile=True)(*given(r, box))
        for key in PAIR_OUTPUTS:
            np.testing.assert_allclose(compiled[key], eager[key], 1e-14, 1e-14)

    @pytest.mark.parametrize("name", SHEETS)
    def test_gradients_are_finite_and_those_of_the_pairs(self, name):
        r, box, cutoff = sheet(name)
        inputs = given(r, box)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            values = finder_of(name)(*inputs)
            weights = tf.cast(tf.range(values["pair_dist"].shape[1]) % 7 + 1, tf.float64)
            total = tf.reduce_sum(values["pair_dist"] * weights)  # of masked candidates too
        dr, *dbox = tape.gradient(total, inputs)
        want_r, want_box = np.zeros_like(r), np.zeros(r.shape[::2])
        for example in range(SIZE):
            found = wanted(r, box, cutoff, example)
            weight = np.broadcast_to(weights, values["pair_mask"].shape)[example]
            weight = weight[values["pair_mask"][example].numpy()]
            away = found.dist > 0
            slope = (weight[away] / found.dist[away])[:, None] * found.coords[away]
            np.add.at(want_r[example], found.second[away], slope)
            np.subtract.at(want_r[example], found.first[away], slope)
            want_box[example] = np.sum(slope * found.offsets[away], axis=0)
        np.testing.assert_allclose(dr, want_r, 1e-12, 1e-12)
        if dbox:
            np.testing.assert_allclose(dbox[0], want_box, 1e-12, 1e-12)

    def test_needed_images(self):
        assert needed_images(None, 1.0) == 0
        assert needed_images(np.array([[1.0, 0.5], [0.4, 2.0]]), 0.8) == 2
        assert needed_images(np.array([1.0]), 1.0) == 1
        assert needed_images(np.array([1.0]), 1.001) == 2

    def test_the_order_of_offsets_is_that_of_their_index(self):
        grid = offset_grid(2, 3)
        np.testing.assert_array_equal(oracle.offset_index(grid, 2), np.arange(125))

    def test_too_few_images_are_refused(self):
        r, box, cutoff = sheet("own images")
        finder = PairFinder(cutoff, 1)
        with pytest.raises(GraphError, match="need n_images=3, or some would be lost"):
            finder(*given(r, box))
        with pytest.raises(GraphError, match="need n_images=3"):
            check_images(finder, r, box)
        check_images(finder, r)
        check_images(PairFinder(cutoff, 3), r, box)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: PairFinder(0.0), "dist_hard_max is 0.0"),
            (lambda: PairFinder(float("inf")), "dist_hard_max is inf"),
            (lambda: PairFinder(1.0, -1), "n_images is -1"),
            (lambda: PairUncacher(-1), "n_images is -1"),
            (lambda: PairFinder(1.0)(tf.zeros([2, 3])), r"shape \(2, 3\); expected floats"),
            (lambda: PairFinder(1.0)(tf.zeros([2, 3, 2], tf.int32)), "positions are int32"),
            (lambda: PairFinder(1.0)(tf.zeros([2, 3, 2]), tf.ones([2])), r"\(2,\).*\[2, 2\]"),
            (lambda: PairFinder(1.0)(tf.zeros([1, 3, 1]), tf.zeros([1, 1])), "must be positive"),
            (lambda: check_images(PairFinder(1.0), np.array([[np.nan]])), "NaN or infinity"),
            (lambda: PairUncacher(0)(tf.zeros([1, 2, 1]), tf.zeros([1, 2, 2])), "need \\[B, P\\]"),
            (lambda: PairUncacher(600)(*_torus(), tf.zeros([1, 5], tf.int32)), "lower n_images"),
            (lambda: PairIndexer("p", [PositionsNode(k) for k in "abc"], 1.0), "got 3 parents"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, make, message):
        with pytest.raises(GraphError, match=message) as error:
            make()
        assert "\n" not in str(error.value)


def _torus():
    return tf.zeros([1, 2, 3]), tf.ones([1, 3])


class TestUncacher:
    @pytest.mark.parametrize("dense", [False, True], ids=["list", "table"])
    @pytest.mark.parametrize("name", SHEETS)
    def test_stored_pairs_are_those_of_brute_force(self, name, dense):
        r, box, cutoff = sheet(name)
        uncacher, cached = stored(name, dense, r, box, cutoff)
        values = uncacher(*given(r, box), cached)
        for example in range(SIZE):
            want, got = wanted(r, box, cutoff, example), listed(values, example)
            assert_pairs(got, want, 1e-14)
            index = oracle.offset_index(want.offsets, uncacher.n_images)
            np.testing.assert_array_equal(got["offset_index"], index)

    def test_the_first_of_all_candidates_can_be_a_pair(self):
        r, box = np.zeros([1, 1, 1]), np.ones([1, 1])
        cached = feature_of(r, box, 1.5, 1, False)
        assert cached.tolist() == [[0, 2]]
        values = PairUncacher(1)(*given(r, box), tf.constant(cached))
        assert_pairs(listed(values, 0), wanted(r, box, 1.5, 0), 1e-14)

    @pytest.mark.parametrize("dense", [False, True], ids=["list", "table"])
    def test_distances_are_those_of_now(self, dense):
        r, box, cutoff = sheet("torus")
        uncacher, cached = stored("torus", dense, r, box, cutoff)
        moved = r + np.random.default_rng(1).normal(size=r.shape)
        values = uncacher(*given(moved, 1.5 * box), cached)
        for example in range(SIZE):
            old, got = wanted(r, box, cutoff, example), listed(values, example)
            coords, dist = oracle.geometry(moved[example], 1.5 * box[example], *old[:3])
            assert_pairs(got, oracle.Pairs(*old[:3], coords, dist), 1e-12)

    @pytest.mark.parametrize("dense", [False, True], ids=["list", "table"])
    def test_compiled_is_eager(self, dense):
        r, box, cutoff = sheet("outside")
        uncacher, cached = stored("outside", dense, r, box, cutoff)
        inputs = [*given(r, box), cached]
        compiled = tf.function(uncacher.__call__, jit_compile=True)(*inputs)
        for key, value in uncacher(*inputs).items():
            np.testing.assert_allclose(compiled[key], value, 1e-14, 1e-14)


class Shift(tf.Module):
    """A trained displacement of all neurons, at first none."""

    def __init__(self, shape):
        super().__init__()
        self.by = tf.Variable(tf.zeros(shape, tf.float64), name="by")

    def __call__(self, r):
        return r + self.by


def losses_of(name, finders=1, n_images=None):
    """A loss of currents between neurons on a sheet, whose places are trained."""
    r, box, cutoff = sheet(name)
    _, units, dims = r.shape
    connection = DistanceConnection(
        *(units, 0.7, 0.4, 0.05),
        delays="linear",
        dt_ms=2.0,
        max_delay_steps=int(cutoff / 0.05 / 2.0) + 1,
        dtype=tf.float64,
    )
    places = ModelNode("places", PositionsNode("positions"), Shift([units, dims]))
    parents = places if box is None else (places, BoxNode("box"))
    images = needed_images(box, cutoff) if n_images is None else n_images
    value = InputNode("x")
    for number in range(finders):
        pairs = PairIndexer(f"pairs{number}", parents, cutoff, images)
        value = DistanceNode(f"lateral{number}", value, pairs, connection)
    value.db_name = "target"
    return MSE.of_node(value), pairs


def database_of(name, sizes=None):
    rng = np.random.default_rng(5)
    splits = {}
    for seed, (split, size) in enumerate((sizes or {"train": 5, "validation": 2}).items()):
        r, box, _ = sheet(name, size=size, seed=seed)
        fields = {"positions": r, "x": rng.normal(size=[size, STEPS, r.shape[1]])}
        fields |= {"target": rng.normal(size=fields["x"].shape)}
        splits[split] = from_arrays(fields if box is None else fields | {"box": box})
    return Database(splits)


def images_of(name, database):
    """How many images the stored pairs need."""
    if not SHEETS[name][1]:
        return 0
    return max(
        oracle.needed_images(wanted(r, box, SHEETS[name][2], 0).offsets)
        for r, box in (
            (e["positions"].numpy()[None], e["box"].numpy()[None])
            for split in database.splits
            for e in everything(database, split)
        )
    )


def everything(database, split):
    examples = database.splits[split]
    seed = tf.zeros([2], tf.int32)
    return [examples.fetch(tf.constant(i, tf.int64), seed) for i in range(examples.size)]


def batch_of(database, split):
    fetched = everything(database, split)
    return {key: tf.stack([example[key] for example in fetched]) for key in fetched[0]}


def outputs(modules, batch):
    """Currents, loss, and the gradient to every parameter."""
    with tf.GradientTape() as tape:
        values = modules.model(batch)
        (loss,) = modules.loss(values, batch)
    gradients = tape.gradient(loss, modules.model.parameters)
    return [*values.values(), loss, *gradients]


def assert_close(got, want, tolerance=1e-9):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, tolerance, tolerance)


class TestPrecompute:
    @pytest.mark.parametrize("dense", [False, True], ids=["list", "table"])
    @pytest.mark.parametrize("name", ["line", "open", "torus", "outside", "far around"])
    def test_a_model_gives_the_same_with_it(self, name, dense):
        loss, pairs = losses_of(name)
        database = database_of(name)
        before, info = assemble_for_training(loss, {"loss": loss})
        assert FEATURE not in info["inputs"]
        want = {split: outputs(before, batch_of(database, split)) for split in database.splits}
        images = images_of(name, database)
        precompute_pairs(before.model, database, make_dense=dense, n_images=images)
        after, info = assemble_for_training(loss, {"loss": loss})
        database.inputs = info["inputs"]
        assert FEATURE in info["inputs"]
        assert [node.name for node in after.model.nodes if node.name == "pairs0.cached"]
        for split in database.splits:
            batch = batch_of(database, split)
            assert len(want[split]) == 6 and all(map(np.any, want[split]))
            assert_close(outputs(after, batch), want[split])
            del batch[FEATURE]
            np.testing.assert_array_equal(outputs(before, batch)[0], want[split][0])
        assert {v.ref() for v in after.model.parameters} == {
            v.ref() for v in before.model.parameters
        }
        assert pairs.pair_dist.parents[0].module.n_images == images
        assert {node.parents for node in pairs.outputs.values()} == {pairs.pair_dist.parents}

    @pytest.mark.parametrize("batch_size", [1, 3, 10])
    @pytest.mark.parametrize("dense", [False, True], ids=["list", "table"])
    @pytest.mark.parametrize("name", ["open", "outside"])
    def test_what_is_stored_is_what_brute_force_finds(self, name, dense, batch_size):
        loss, _ = losses_of(name)
        database = database_of(name, {"train": 7, "test": 1})
        modules, _ = assemble_for_training(loss, {"loss": loss})
        images = images_of(name, database)
        precompute_pairs(modules.model, database, batch_size, None, dense, images)
        for seed, split in enumerate(database.splits):
            batch = batch_of(database, split)
            r, box, cutoff = sheet(name, size=len(batch["positions"]), seed=seed)
            want = feature_of(r, box, cutoff, images, dense)
            got = batch[FEATURE].numpy()
            assert got.dtype == want.dtype
            if not dense:  # one length for all splits
                assert np.all(got[:, want.shape[1] :] == -1)
                got = got[:, : want.shape[1]]
            np.testing.assert_array_equal(got, want)

    def test_lists_and_tables_hold_the_same_number_of_pairs(self):
        counts = []
        for dense in (False, True):
            loss, _ = losses_of("torus")
            database = database_of("torus")
            modules, _ = assemble_for_training(loss, {"loss": loss})
            precompute_pairs(modules.model, database, make_dense=dense, n_images=2)
            cached = batch_of(database, "train")[FEATURE].numpy()
            counts.append(np.sum(cached == 1) if dense else np.sum(cached >= 0))
        r, box, cutoff = sheet("torus", size=5)
        want = [wanted(r, box, cutoff, example) for example in range(5)]
        assert counts == [sum(len(each.first) for each in want)] * 2
        assert any(np.any(np.all(each.offsets == 0, axis=1)) for each in want)

    def test_the_example_of_the_documentation(self):
        train_loss, _ = losses_of("torus")
        validation_losses = {"mse": train_loss}
        database = database_of("torus")
        training_modules, db_info = assemble_for_training(train_loss, validation_losses)
        precompute_pairs(training_modules.model, database, device="/CPU:0")
        training_modules, db_info = assemble_for_training(train_loss, validation_losses)
        database.inputs = db_info["inputs"]
        database.targets = db_info["targets"]
        assert database.inputs == ["x", "positions", "box", FEATURE]
        result = training_modules.evaluator.evaluate_dataset(database, "validation", 2)
        want = outputs(training_modules, batch_of(database, "validation"))
        assert result["mse"] == pytest.approx(float(want[1]), rel=1e-12)

    def test_a_second_time_is_refused(self):
        loss, _ = losses_of("open")
        database = database_of("open")
        modules, _ = assemble_for_training(loss, {"loss": loss})
        precompute_pairs(modules.model, database)
        for model in (modules.model, assemble_for_training(loss, {"loss": loss})[0].model):
            with pytest.raises(NodeNotFound, match="has no PairIndexer"):
                precompute_pairs(model, database)

    def test_several_indexers_are_refused(self):
        loss, _ = losses_of("open", finders=2)
        modules, _ = assemble_for_training(loss, {"loss": loss})
        with pytest.raises(NodeAmbiguity, match="PairIndexer: pairs0, pairs1"):
            precompute_pairs(modules.model, database_of("open"))

    def test_an_indexer_beside_stored_pairs_is_refused(self):
        loss, first = losses_of("open")
        database = database_of("open")
        modules, _ = assemble_for_training(loss, {"loss": loss})
        precompute_pairs(modules.model, database)
        other = PairIndexer("other", first.parents, 0.1)
        both = loss + MSE(other.pair_dist.pred, first.pair_dist.pred)
        modules, _ = assemble_for_training(both, {"loss": both})
        with pytest.raises(GraphError, match="another PairIndexer already; those of `other`"):
            precompute_pairs(modules.model, database)

    @pytest.mark.parametrize("dense", [False, True], ids=["list", "table"])
    @pytest.mark.parametrize("name", ["torus", "outside"])
    def test_too_few_images_are_refused_and_nothing_changes(self, name, dense):
        loss, pairs = losses_of(name)
        database = database_of(name)
        modules, _ = assemble_for_training(loss, {"loss": loss})
        needed = images_of(name, database)
        message = f"required a larger number of images n_images (need {needed})"
        with pytest.raises(ValueError, match=re.escape(message)):
            precompute_pairs(modules.model, database, n_images=needed - 1, make_dense=dense)
        assert FEATURE not in database.features() and pairs.pair_dist.parents == (pairs,)
        precompute_pairs(modules.model, database, n_images=needed, make_dense=dense)
        assert pairs.pair_dist.parents != (pairs,)

    @pytest.mark.parametrize("device", ["/GPU:0", "/CPU:7", "cuda", "gpu", "", "/cpu:x"])
    def test_a_device_that_is_not_there_is_refused(self, device):
        loss, pairs = losses_of("open")
        modules, _ = assemble_for_training(loss, {"loss": loss})
        with pytest.raises(GraphError, match=f"no device {device!r}; expected one of /CPU:0"):
            precompute_pairs(modules.model, database_of("open"), device=device)
        assert pairs.pair_dist.parents == (pairs,)

    def test_positions_that_are_drawn_are_refused(self):
        def jitter(example, seed):
            shift = tf.random.stateless_normal([6, 2], seed, dtype=tf.float64, alg="philox")
            return example | {"positions": example["positions"] + shift}

        loss, pairs = losses_of("open")
        modules, _ = assemble_for_training(loss, {"loss": loss})
        database = database_of("open")
        given = {k: v.numpy() for k, v in batch_of(database, "train").items()}
        database = Database({"train": from_arrays(given), "test": from_arrays(given, jitter)})
        with pytest.raises(DataError, match="split `test` change with the seed"):
            precompute_pairs(modules.model, database)
        assert FEATURE not in database.features() and pairs.pair_dist.parents == (pairs,)
        endless = dataclasses.replace(database.splits["train"], size=None)
        with pytest.raises(DataError, match="split `train` is generated without end"):
            precompute_pairs(modules.model, Database({"train": endless}))

    def test_positions_that_are_nowhere_are_refused(self):
        loss, _ = losses_of("open")
        modules, _ = assemble_for_training(loss, {"loss": loss})
        given = batch_of(database_of("open"), "train")
        given["positions"] *= np.nan
        examples = Examples(lambda i, _: {k: tf.gather(v, i) for k, v in given.items()}, 5)
        with pytest.raises(GraphError, match="positions have NaN or infinity"):
            precompute_pairs(modules.model, Database({"train": examples}))

    def test_what_costs_or_is_lost_is_said(self, monkeypatch):
        said = []
        monkeypatch.setattr(logging, "warning", lambda text, *given: said.append(text % given))
        monkeypatch.setattr(precompute, "_LARGE", 100)
        database = database_of("open")
        for dense in (False, True):
            loss, _ = losses_of("open")
            modules, _ = assemble_for_training(loss, {"loss": loss})
            precompute_pairs(modules.model, database, make_dense=dense)
        assert [text.split()[0] for text in said] == ["make_dense", "the"]
        assert "[5, 6, 6, 1]" in said[0] and "had the feature AutoPrecomputedPairs" in said[1]

    def test_examples_without_pairs(self):
        loss, _ = losses_of("open")
        modules, _ = assemble_for_training(loss, {"loss": loss})
        database = database_of("open")
        alone = {k: v.numpy() for k, v in batch_of(database, "train").items()}
        alone["positions"] = np.arange(5 * 6 * 2.0).reshape(5, 6, 2)
        database = Database({"train": from_arrays(alone)})
        precompute_pairs(modules.model, database)
        after, _ = assemble_for_training(loss, {"loss": loss})
        batch = batch_of(database, "train")
        np.testing.assert_array_equal(batch[FEATURE], np.full([5, 1], -1))
        assert not np.any(outputs(after, batch)[0])
