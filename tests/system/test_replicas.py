"""The number of replicas changes nothing: one process for each, since devices are fixed once."""

import numpy as np
import pytest

from tests.system.jobs_replicas import CASES, SIZES, STEPS
from tests.tables import leading

ROWS = {
    "off": {},
    "one_device": {"distribution_strategy": "one_device"},
    "1 replica": {"distribution_strategy": "mirrored", "logical_cpus": 1},
    "2 replicas": {"distribution_strategy": "mirrored", "logical_cpus": 2},
    "4 replicas": {"distribution_strategy": "mirrored", "logical_cpus": 4},
}
# What no other case does in its place; all of them with --thorough.
LEADING = {"bptt", "eprop factored", "eprop chunked", "stdp sum", "stdp windows", "rewarded"}
LEADING |= {"rls inputs", "rls grad", "rls scaled_jacobian", "rls sparse"}
TWO = leading([f"2 replicas, {case}" for case in CASES], [f"2 replicas, {c}" for c in LEADING])
FOUR = "4 replicas, rls grad"
ALONE = ["one_device, rls grad", "1 replica, rls grad"]


def split(pair):
    """Row and case."""
    row, _, case = pair.partition(", ")
    return row, case


@pytest.fixture(scope="module")
def curves(request, server, data_dir, tmp_path_factory):
    """What `jobs_replicas.curves` gives, by row and case; a process for each row."""
    here = [item for item in request.session.items if item.path == request.path]
    asked = {item.callspec.params["pair"] for item in here if "curves" in item.fixturenames}
    ours = {split(pair) for pair in asked}
    pairs = sorted(ours | {("off", case) for _, case in ours})
    started = {
        row: server.begin(
            "jobs_replicas.curves",
            {},
            cases=[case for own, case in pairs if own == row],
            runtime=runtime,
            data_dir=str(data_dir),
            directory=str(tmp_path_factory.mktemp("replicas")),
        )
        for row, runtime in ROWS.items()
    }
    found = {row: process.result() for row, process in started.items()}
    return {(row, case): found[row][case] for row, case in pairs}


@pytest.mark.parametrize("pair", [*TWO, FOUR, *ALONE])
def test_the_curve_is_the_same(curves, pair):
    row, case = split(pair)
    one, other = curves["off", case], curves[row, case]
    assert other["replicas"] == int(row[0]) if row[0].isdigit() else 1
    assert len(one["losses"]) == STEPS and one["change"] > 1e-6
    np.testing.assert_allclose(other["losses"], one["losses"], rtol=1e-9)
    for own, value in zip(one["values"], other["values"], strict=True):
        np.testing.assert_allclose(value, own, rtol=0, atol=1e-9 * max(1.0, np.abs(own).max()))


@pytest.mark.parametrize("pair", [*TWO, FOUR])
def test_replicas_hold_the_same_bits(curves, pair):
    assert curves[split(pair)]["differing"] == []


METRICS = {"mse", "rmse", "rsq", "var", "std", "comb", "weighted", "squared", "nmse", "rates"}
METRICS |= {"median", "l2"}


@pytest.fixture(scope="module")
def metrics(server, tmp_path_factory):
    """Metrics of every kind by number of replicas and batch size, and those of NumPy."""
    path = tmp_path_factory.mktemp("metrics")
    started = {
        int(row[0]): server.begin(
            "jobs_replicas.metrics_of_a_regression",
            {},
            runtime=ROWS[row],
            directory=str(path / row),
        )
        for row in ("1 replica", "2 replicas")
    }
    return {replicas: process.result() for replicas, process in started.items()}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("batch_size", SIZES)
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
