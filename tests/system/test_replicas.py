"""The number of replicas changes nothing: one process for each, since devices are fixed once."""

import numpy as np
import pytest

from tests.system.harness import FEW, TINY

STEPS = 22
BATCH_SIZES = [1, 3, 4, 10]
RULES = ["bptt", "tbptt", "eprop", "eprop in chunks"]
COMMON = {
    "runtime.dtype": "float64",
    "task.steps_per_row": 3,
    "task.train_split": FEW,
    "task.test_split": "test[:37]",
    "task.regularizer.l2": 1e-4,
    "task.regularizer.rate_strength": 1e-3,
    "task.regularizer.rate_reduction": "batch",
    "trainer.clip_norm": 1.0,
}
ROWS = {
    "off": {},
    "one_device": {"runtime.distribution_strategy": "one_device"},
    "1 replica": {"runtime.distribution_strategy": "mirrored", "runtime.logical_cpus": 1},
    "2 replicas": {"runtime.distribution_strategy": "mirrored", "runtime.logical_cpus": 2},
    "4 replicas": {"runtime.distribution_strategy": "mirrored", "runtime.logical_cpus": 4},
}
OTHERS = [name for name in ROWS if name != "off"]
PAIRS = [(row, rule) for row in OTHERS for rule in RULES if "bptt" in rule]
PAIRS += [("2 replicas", rule) for rule in RULES if "bptt" not in rule]


@pytest.fixture(scope="module")
def curves(server, data_dir, tmp_path_factory):
    """Gives what `jobs.learning_curve` gave for a row and a rule, computed once.

    Each in its own process: two mirrored strategies in one mix up their collective operations.
    """
    known = {}

    def get(row, rule):
        if (row, rule) not in known:
            overrides = {**TINY, **COMMON, "task.data_dir": str(data_dir), **ROWS[row]}
            judged = rule == "bptt" and row in ("off", "2 replicas")
            known[row, rule] = server.call(
                "learning_curve",
                overrides=overrides,
                rule=rule,
                steps=STEPS,
                batch_sizes=BATCH_SIZES if judged else [],
                directory=str(tmp_path_factory.mktemp("replicas")),
            )
        return known[row, rule]

    return get


@pytest.mark.parametrize(("row", "rule"), PAIRS)
def test_the_loss_curve_is_the_same(curves, row, rule):
    one, other = curves("off", rule), curves(row, rule)
    assert other["replicas"] == int(row[0]) if row[0].isdigit() else 1
    assert len(set(one["losses"])) == STEPS
    np.testing.assert_allclose(other["losses"], one["losses"], rtol=0, atol=1e-5)
    assert other["weights"] == pytest.approx(one["weights"], rel=1e-7)


@pytest.mark.parametrize(("row", "rule"), [pair for pair in PAIRS if "replicas" in pair[0]])
def test_replicas_hold_the_same_bits(curves, row, rule):
    assert curves(row, rule)["differing"] == []


@pytest.mark.parametrize("row", ["off", "2 replicas"])
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_evaluation_does_not_depend_on_how_examples_are_split(curves, row, batch_size):
    expected = curves("off", "bptt")["evaluations"]["4"]
    found = curves(row, "bptt")["evaluations"][str(batch_size)]
    assert "error" not in found, found
    assert found["examples"] == expected["examples"] == 37
    assert found.keys() == expected.keys() > {"loss", "accuracy"}
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


METRICS = {"mse", "rmse", "rsq", "var", "std", "comb", "weighted", "squared", "nmse", "rates"}
METRICS |= {"median", "l2"}


@pytest.fixture(scope="module")
def metrics(server, tmp_path_factory):
    """Metrics of every kind by number of replicas and batch size, and those of NumPy."""
    path = tmp_path_factory.mktemp("metrics")
    return {
        replicas: server.call(
            "metrics_of_a_regression",
            replicas=replicas,
            batch_sizes=BATCH_SIZES,
            directory=str(path / str(replicas)),
        )
        for replicas in (1, 2)
    }


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_metrics_are_those_of_the_data_set(metrics, replicas, batch_size):
    """Roots, variances and ratios are taken once, over all examples."""
    found = metrics[replicas]["evaluations"][str(batch_size)]
    want = metrics[1]["numpy"]
    assert METRICS == set(want) <= set(found)
    assert found["examples"] == 37
    for name, value in want.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name


def test_a_root_of_a_mean_trains_alike_on_two_replicas(metrics):
    """The loss of the global batch, not the mean of the replicas' losses."""
    one, two = metrics[1]["losses"], metrics[2]["losses"]
    assert len(set(one)) == len(one) and one[-1] < one[0]
    np.testing.assert_allclose(two, one, rtol=1e-5)
    assert metrics[2]["differing"] == []


@pytest.fixture(scope="module")
def solved(server, tmp_path_factory):
    """What `jobs.least_squares` gave, by number of replicas."""
    path = tmp_path_factory.mktemp("solved")
    return {
        replicas: server.call(
            "least_squares", replicas=replicas, steps=4, directory=str(path / str(replicas))
        )
        for replicas in (1, 2)
    }


@pytest.mark.parametrize(
    "strategy", ["inputs", "outputs", "grad", "scaled_jacobian", "sparse", "current"]
)
def test_least_squares_sees_the_rows_of_all_replicas(solved, strategy):
    one, two = solved[1][strategy], solved[2][strategy]
    assert two["differing"] == []
    assert len(set(one["losses"])) == 4
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-9)
    for own, other in zip(one["values"], two["values"], strict=True):
        np.testing.assert_allclose(other, own, rtol=0, atol=1e-9 * np.abs(own).max())


@pytest.fixture(scope="module")
def plastic(server, data_dir, tmp_path_factory):
    """What `jobs.local_plasticity` gave, by number of replicas."""
    path = tmp_path_factory.mktemp("plastic")
    given = {"steps": 4, "data_dir": str(data_dir)}
    return {
        replicas: server.call(
            "local_plasticity", replicas=replicas, directory=str(path / str(replicas)), **given
        )
        for replicas in (1, 2)
    }


@pytest.mark.parametrize("kind", ["sum", "waiting", "windows"])
def test_plasticity_sees_the_samples_of_all_replicas(plastic, kind):
    one, two = plastic[1][kind], plastic[2][kind]
    assert two["differing"] == []
    assert one["change"] > 1e-6
    for own, other in zip(one["values"], two["values"], strict=True):
        np.testing.assert_allclose(other, own, rtol=0, atol=1e-9)
