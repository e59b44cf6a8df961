"""Measures against the NumPy oracle: on a batch, added up over ragged batches, and their errors."""

import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.graph import GraphError, IdxType, InputNode, ModelNode
from tests.oracles import dataset_metrics as oracle

RNG = np.random.default_rng(0)
SIZE, T, K = 23, 6, 3
PRED = RNG.normal(size=(SIZE, K))
TRUE = RNG.normal(size=(SIZE, K)) + 0.3 * PRED
WEIGHT = RNG.uniform(0.1, 2.0, size=SIZE)
STEPS = RNG.normal(size=(SIZE, T, K)) + 5.0
STEPS_TRUE = STEPS + RNG.normal(size=(SIZE, T, K))
MASK = np.arange(T) < RNG.integers(1, T + 1, size=SIZE)[:, np.newaxis]
SPIKES = (RNG.uniform(size=(SIZE, T, K)) < 0.4).astype(float)
LABELS = RNG.integers(K, size=SIZE)


def identity(x):
    return x


def node(sequence=False, mask=False, **names):
    index = IdxType.SEQ_STEP if sequence else IdxType.SEQUENCES
    x = InputNode("x", index=index, mask="mask" if mask else None)
    return ModelNode("y", x, identity, db_name=names.get("db_name", "t"))


def value(loss, features, batch_size=SIZE, dtype=tf.float64, pad=0):
    """The loss added up over batches, the last one ragged and filled up with `pad` examples."""
    train = graph.Mean(plain.pred) if loss.name == "std(y-true)" else loss
    modules, db_info = graph.assemble_for_training(train, {"loss": loss})
    wanted = [*db_info["inputs"], *db_info["targets"]]
    total = {}
    for start in range(0, SIZE, batch_size):
        batch = {}
        for name in dict.fromkeys(wanted):
            rows = features[name][start : start + batch_size]
            rows = np.concatenate([rows, np.repeat(rows[-1:], pad, axis=0)])
            batch[name] = tf.constant(rows, dtype if rows.dtype == np.float64 else None)
        real = len(rows) - pad
        batch["weight"] = tf.constant([1.0] * real + [0.0] * pad)
        run = modules.model.run(batch)
        for key, sums in modules.evaluator.loss.sums(run.values, batch, tf.float64).items():
            total[key] = total.get(key, 0.0) + sums.numpy()
    return modules.evaluator.results(total)["loss"]


FLAT = {"x": PRED, "t": TRUE, "w": WEIGHT}
SEQUENCES = {"x": STEPS, "t": STEPS_TRUE, "mask": MASK}
SPIKING = {"x": SPIKES, "mask": MASK}
plain = node()
masked = node(sequence=True, mask=True)
whole = node(sequence=True)
weight = InputNode("w", index=IdxType.SEQUENCES)
CASES = {
    "mse": (graph.MSE.of_node(plain), FLAT, oracle.mse(PRED, TRUE)),
    "mae": (graph.MAE.of_node(plain), FLAT, oracle.mae(PRED, TRUE)),
    "rsq": (graph.Rsq.of_node(plain), FLAT, oracle.rsq(PRED, TRUE)),
    "mean": (graph.Mean.of_node(plain), FLAT, oracle.mean(PRED)),
    "mean_sq": (graph.MeanSq.of_node(plain), FLAT, oracle.mean_sq(PRED)),
    "var": (graph.Var.of_node(plain), FLAT, oracle.var(PRED)),
    "std of true": (graph.Std(plain.true), FLAT, oracle.std(TRUE)),
    "std of errors": (graph.Std(plain.pred - plain.true), FLAT, oracle.std(PRED - TRUE)),
    "rmse": (graph.MSE.of_node(plain) ** 0.5, FLAT, oracle.rmse(PRED, TRUE)),
    "comb": (
        2 * graph.MSE.of_node(plain) + 0.5 * graph.MAE.of_node(plain),
        FLAT,
        2 * oracle.mse(PRED, TRUE) + 0.5 * oracle.mae(PRED, TRUE),
    ),
    "weighted mse": (
        graph.WeightedMSE.of_node(plain, weight),
        FLAT,
        oracle.weighted_mse(PRED, TRUE, WEIGHT),
    ),
    "weighted mae": (
        graph.WeightedMAE.of_node(plain, weight),
        FLAT,
        oracle.weighted_mae(PRED, TRUE, WEIGHT),
    ),
    "steps mse": (graph.MSE.of_node(whole), SEQUENCES, oracle.mse(STEPS, STEPS_TRUE)),
    "masked mse": (graph.MSE.of_node(masked), SEQUENCES, oracle.mse(STEPS, STEPS_TRUE, MASK)),
    "masked mae": (graph.MAE.of_node(masked), SEQUENCES, oracle.mae(STEPS, STEPS_TRUE, MASK)),
    "masked var": (graph.Var.of_node(masked), SEQUENCES, oracle.var(STEPS, mask=MASK)),
    "masked rsq": (
        graph.Rsq.of_node(masked),
        SEQUENCES,
        oracle.rsq(STEPS, STEPS_TRUE, mask=MASK),
    ),
    "squared error": (
        graph.SquaredError.of_node(whole),
        SEQUENCES,
        oracle.squared_error(STEPS, STEPS_TRUE),
    ),
    "masked squared error": (
        graph.SquaredError.of_node(masked),
        SEQUENCES,
        oracle.squared_error(STEPS, STEPS_TRUE, MASK),
    ),
    "nmse": (graph.NMSE.of_node(whole), SEQUENCES, oracle.nmse(STEPS, STEPS_TRUE)),
    "masked nmse": (graph.NMSE.of_node(masked), SEQUENCES, oracle.nmse(STEPS, STEPS_TRUE, MASK)),
    "cross-entropy": (
        graph.CrossEntropy.of_node(plain),
        {"x": PRED, "t": LABELS},
        oracle.cross_entropy(PRED, LABELS),
    ),
    "accuracy": (
        graph.Accuracy.of_node(plain),
        {"x": PRED, "t": LABELS},
        oracle.accuracy(PRED, LABELS),
    ),
    "one-hot": (
        graph.CrossEntropy.of_node(plain),
        {"x": PRED, "t": np.eye(K)[LABELS]},
        oracle.cross_entropy(PRED, LABELS),
    ),
    "rates of samples": (
        graph.FiringRate(masked, 200.0, dt_ms=1.0),
        SPIKING,
        oracle.firing_rate(SPIKES, 0.2, "sample", MASK),
    ),
    "rates of the batch": (
        graph.FiringRate(masked, 100.0, "batch", dt_ms=2.0),
        SPIKING,
        oracle.firing_rate(SPIKES, 0.2, "batch", MASK),
    ),
    "median": (
        graph.DatasetLoss(
            "median", lambda y, t: np.median(np.abs(y.numpy() - t.numpy())), plain.pred, plain.true
        ),
        FLAT,
        np.median(np.abs(PRED - TRUE)),
    ),
}
streamed = [name for name in CASES if name != "median"]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, SIZE])
@pytest.mark.parametrize("name", streamed)
def test_the_value_is_that_of_the_data_set(name, batch_size):
    loss, features, want = CASES[name]
    assert value(loss, features, batch_size) == pytest.approx(want, rel=1e-11)


@pytest.mark.parametrize("name", streamed)
def test_padded_examples_weigh_nothing(name):
    loss, features, want = CASES[name]
    assert value(loss, features, batch_size=5, pad=3) == pytest.approx(want, rel=1e-11)


@pytest.mark.parametrize("batch_size", [1, 3, 10])
@pytest.mark.parametrize("name", streamed)
def test_single_precision(name, batch_size):
    loss, features, want = CASES[name]
    assert value(loss, features, batch_size, tf.float32) == pytest.approx(want, rel=2e-6)


@pytest.mark.parametrize("make", [graph.Std, graph.Var])
def test_a_spread_about_a_large_mean_in_single_precision(make):
    """In training too: the value and its gradient, where squares alone would cancel."""
    loss = make(plain.pred) + graph.Mean(plain.pred)
    module = graph.LossModule([loss])
    x = tf.constant(PRED + 1000.0, tf.float32)
    exact = tf.cast(x, tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, exact])
        (got,) = module({"y": x}, {"x": x})
        variance = tf.math.reduce_variance(exact) * (PRED.size / (PRED.size - 1))
        want = variance**0.5 if make is graph.Std else variance
        want += tf.reduce_mean(exact)
    assert float(got) == pytest.approx(float(want), rel=1e-6)
    np.testing.assert_allclose(tape.gradient(got, x), tape.gradient(want, exact), rtol=1e-4)


def test_a_mean_of_batches_would_differ():
    want = oracle.rmse(PRED, TRUE)
    assert abs(oracle.batch_mean(oracle.rmse, PRED, TRUE, 4) - want) > 1e-3 * want


PAIR = {"y": tf.constant([[1.0], [3.0]])}, {"t": tf.constant([0.0, 1.0])}
mse, mae = graph.MSE.of_node(plain), graph.MAE.of_node(plain)
NUMBERS = [
    (mse, 2.5),
    (mae, 1.5),
    (graph.Rsq.of_node(plain), -4.0),
    (2 * mse + 0.5 * mae, 5.75),
    (mse**0.5, 1.5811388),
    (mse - mae, 1.0),
    (1 - mse, -1.5),
    (mse / mae, 1.6666667),
    (1 / mse, 0.4),
    (-mse, -2.5),
    (2**mse, 5.656854),
    (np.float32(2) * mse, 5.0),
    (mse * np.float64(2), 5.0),
    (mse**mae, 2.5**1.5),
]


@pytest.mark.parametrize(("loss", "want"), NUMBERS, ids=[loss.name for loss, _ in NUMBERS])
def test_numbers_of_the_specification(loss, want):
    """Predictions [[1], [3]] against the targets [0, 1], which are one column."""
    (got,) = graph.LossModule([loss])(*PAIR)
    assert float(got) == pytest.approx(want, rel=1e-6)


def test_names_say_what_is_computed():
    assert mse.name == "mse_loss(y-pred,y-true)"
    assert (mse + 2 * mae).name == (
        "add(mse_loss(y-pred,y-true), mul(Value(2), l1_loss(y-pred,y-true)))"
    )


class TestGradients:
    @pytest.mark.parametrize("name", [n for n in streamed if n not in ("accuracy", "std of true")])
    @pytest.mark.parametrize("cut", [1, 9])
    def test_two_replicas_give_the_gradient_of_the_global_batch(self, name, cut):
        """Sums are added before the loss is differentiated, so a root of a mean comes out right."""
        loss, features, _ = CASES[name]
        module = graph.LossModule([loss])
        x = tf.constant(features["x"])

        def part(start, stop):
            rows = {n: tf.constant(v[start:stop]) for n, v in features.items()}
            return {"y": rows["x"]}, rows

        with tf.GradientTape() as tape:
            tape.watch(x)
            (whole_loss,) = module({"y": x}, part(0, SIZE)[1])
        want = tape.gradient(whole_loss, x)
        pieces = [part(0, cut), part(cut, SIZE)]
        sums = [module.sums(*piece) for piece in pieces]
        slopes = module.slopes({key: sums[0][key] + sums[1][key] for key in sums[0]})
        found = []
        for given, batch in pieces:
            with tf.GradientTape() as tape:
                tape.watch(given["y"])
                own = module.sums(given, batch)
            seeds = [slopes[key] for key in own]
            found.append(tape.gradient(list(own.values()), given["y"], seeds))
        np.testing.assert_allclose(tf.concat(found, 0), want, rtol=1e-9, atol=1e-12)

    def test_nothing_counted_is_no_loss_and_no_gradient(self):
        module = graph.LossModule([mse])
        y = tf.constant([[1.0], [2.0]])
        with tf.GradientTape() as tape:
            tape.watch(y)
            (loss,) = module({"y": y}, {"t": tf.constant([0.0, 1.0]), "weight": tf.zeros([2])})
        assert float(loss) == 0.0 and not np.any(tape.gradient(loss, y))

    def test_nothing_counted_is_no_number_for_a_person(self):
        assert np.isnan(graph.LossModule([mse]).results({"0:mse_loss": np.zeros(2)})[0])


def test_a_median_needs_all_examples(monkeypatch):
    loss, features, want = CASES["median"]
    modules, _ = graph.assemble_for_training(mse, {"median": loss, "mse": mse, "m2": 2 * loss})

    class Batches:
        def batches(self, split, batch_size, *, names):
            assert split == "test"
            for start in range(0, SIZE, batch_size):
                rows = {n: v[start : start + batch_size] for n, v in features.items()}
                batch = {n: tf.constant(np.concatenate([v, v[-1:]])) for n, v in rows.items()}
                yield batch | {"weight": tf.constant([1.0] * len(rows["x"]) + [0.0])}

    found = modules.evaluator.evaluate_dataset(Batches(), "test", 4)
    assert found["median"] == pytest.approx(want, rel=1e-12)
    assert found["m2"] == pytest.approx(2 * want, rel=1e-12)
    assert found["mse"] == pytest.approx(oracle.mse(PRED, TRUE), rel=1e-12)


def test_a_median_of_padded_sequences_is_of_their_real_steps():
    def median(y, t):
        return np.median(np.abs(np.asarray(y) - np.asarray(t)))

    loss = graph.DatasetLoss("median", median, masked.pred, masked.true)
    modules, _ = graph.assemble_for_training(graph.MSE.of_node(masked), {"median": loss})

    class Batches:
        def batches(self, split, batch_size, *, names):
            assert names == ("x", "t", "mask")
            for start in range(0, SIZE, batch_size):
                yield {n: tf.constant(v[start : start + batch_size]) for n, v in SEQUENCES.items()}

    want = median(STEPS[MASK], STEPS_TRUE[MASK])
    assert modules.evaluator.evaluate_dataset(Batches(), "test", 4)["median"] == want
    batch = {name: tf.constant(value) for name, value in SEQUENCES.items()}
    with pytest.raises(GraphError, match="of padded sequences, which cannot be trained on"):
        graph.LossModule([loss]).sums(modules.model(batch), batch)


@pytest.mark.parametrize(("make", "of"), [(graph.Rsq, plain), (graph.NMSE, whole)])
def test_a_truth_that_never_changes_is_never_explained(make, of):
    shape = (4, K) if of is plain else (4, T, K)
    x = RNG.normal(size=shape)
    module = graph.LossModule([make.of_node(of)])
    (value,) = module({"y": tf.constant(x)}, {"t": tf.ones(shape, tf.float64)})
    assert np.isinf(float(value))
    empty = {"t": tf.ones(shape, tf.float64), "weight": tf.zeros([4])}
    assert float(module({"y": tf.constant(x)}, empty)[0]) == 0.0


@pytest.mark.parametrize("loss", [graph.MSE.of_node(plain) ** 0.5, graph.Std.of_node(plain)])
def test_a_root_of_zero_has_no_gradient(loss):
    x = tf.zeros([4, K])
    with tf.GradientTape() as tape:
        tape.watch(x)
        (value,) = graph.LossModule([loss])({"y": x}, {"t": tf.zeros([4, K])})
    assert float(value) == 0.0 and not np.any(tape.gradient(value, x))


def test_every_measure_says_what_it_is():
    for name in ("MSE", "MAE", "Rsq", "Std", "CrossEntropy", "Accuracy", "NMSE", "WeightedMSE"):
        assert getattr(graph, name).__doc__ != type(getattr(graph, name)).__doc__, name


COLUMN = ModelNode("y", InputNode("x"), identity, db_name="t")
REFUSED = [
    (
        lambda: graph.LossModule([mse])({"y": tf.zeros([2, 3])}, {"t": tf.zeros([2])}),
        "y-pred has shape [2, 3] and y-true [2, 1]; nothing is broadcast",
    ),
    (
        lambda: graph.LossModule([graph.Mean(plain.pred - plain.true)])(
            {"y": tf.zeros([2, 3])}, {"t": tf.zeros([2])}
        ),
        "nothing is broadcast, give both the same shape",
    ),
    (
        lambda: graph.LossModule([graph.SquaredError.of_node(whole)])(
            {"y": tf.zeros([2, 4, 3])}, {"t": tf.zeros([2, 4, 1])}
        ),
        "y-pred has shape [2, 4, 3] and y-true [2, 4, 1]",
    ),
    (
        lambda: graph.LossModule([mse])({"y": tf.zeros([2, 1])}, {}),
        "the loss needs the feature `t`",
    ),
    (lambda: graph.LossModule([plain.pred]), "is not one number; reduce it"),
    (lambda: graph.LossModule([plain]), "is not one number; reduce it"),
    (lambda: plain.pred - mse, "mixes mse_loss(y-pred,y-true), one number for the data set"),
    (lambda: mse + "1", "add got '1'; expected a loss node"),
    (lambda: graph.Mean(plain), "got the model's node `y`; give it .pred or .true"),
    (lambda: graph.Mean(mse), "expected tensors of the loss"),
    (lambda: graph.MSE(plain.pred), "mse_loss got 1 nodes; expected 2"),
    (lambda: graph.FiringRate(plain, 10.0), "is not the output of a cell such as net.cell0"),
    (lambda: graph.FiringRate(plain, 10.0, "sum", 1.0), "reduction is 'sum'; expected sample or"),
    (lambda: 0.1 * plain, "use y.pred or .true in them"),
    (lambda: plain**2, "use y.pred or .true in them"),
    (
        lambda: graph.LossModule([graph.DatasetLoss("f", np.abs, plain.pred)]).whole(
            {"y": tf.zeros([3, 2])}, {}
        ),
        "f(y-pred) gave values of shape (3, 2)",
    ),
    (lambda: graph.DatasetLoss("f", len), "needs tensors of the loss"),
    (lambda: graph.L2(plain), "`y` has no trained weights to penalise"),
    (
        lambda: graph.LossModule([graph.WeightedMSE.of_node(plain, weight)])(
            {"y": tf.zeros([2, 3])}, {"t": tf.zeros([2, 3]), "w": tf.zeros([3])}
        ),
        "the weights have shape (3,)",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refuses(make, message):
    with pytest.raises(GraphError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)
