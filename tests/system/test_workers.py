"""Several workers train as one process does; one that is lost ends them all, and they go on."""

import json
import os
import pathlib
import signal
import socket
import time

import numpy as np
import pytest

from orbit_snn.cluster import Cluster, read_cluster
from orbit_snn.configuration import ConfigError
from orbit_snn.runtime import RuntimeConfig, build_strategy
from tests.system.harness import assert_same_variables, checkpoint_steps
from tests.tables import leading

WORKERS = {"runtime.distribution_strategy": "multi_worker_mirrored"}
CASES = ["eprop factored", "rls inputs", "stdp sum", "bptt"]
LEADING = CASES[:-1]  # bptt gives gradients as eprop does


def clusters(workers=2):
    """`TF_CONFIG` of each worker, on ports of the loopback that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{own.getsockname()[1]}" for own in sockets]
    for own in sockets:
        own.close()
    return [json.dumps(config(addresses, index)) for index in range(workers)]


def config(addresses, index, **more):
    return {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}, **more}


@pytest.fixture(scope="module")
def curves(request, server, data_dir, tmp_path_factory):
    """What `jobs_workers.curves` gives on each of two workers, and in a process without others."""
    cases = CASES if request.config.getoption("--thorough") else LEADING

    def begin(name, kind, **environment):
        return server.begin(
            "jobs_workers.curves",
            environment,
            cases=cases,
            runtime={"distribution_strategy": kind},
            data_dir=str(data_dir),
            directory=str(tmp_path_factory.mktemp(name)),
        )

    started = [begin("worker", "multi_worker_mirrored", TF_CONFIG=own) for own in clusters()]
    started.append(begin("alone", "off"))
    return [process.result() for process in started]


@pytest.mark.parametrize("case", leading(CASES, LEADING))
def test_two_workers_learn_what_one_process_learns(curves, case):
    chief, other, alone = (found[case] for found in curves)
    assert (chief["replicas"], alone["replicas"]) == (2, 1)
    assert alone["change"] > 1e-6
    np.testing.assert_allclose(chief["losses"], alone["losses"], rtol=1e-9)
    for own, value in zip(alone["values"], chief["values"], strict=True):
        np.testing.assert_allclose(value, own, rtol=0, atol=1e-9 * max(1.0, np.abs(own).max()))
    assert (chief["losses"], chief["values"]) == (other["losses"], other["values"])


def test_losses_of_all_examples_are_those_of_all_workers(curves):
    chief, other, alone = (found["evaluation"] for found in curves)
    assert chief == other
    assert alone["examples"] == 37 and {"median", "rsq"} < alone.keys()
    assert chief == pytest.approx(alone, rel=1e-6)


def test_the_chief_decides_for_all(curves):
    chief, other, alone = (found["decisions"] for found in curves)
    assert chief == {
        "chief": True,
        "stopped": "",
        "workers": 2,
        "agreed": [True, False],
        "same": [0, "é"],
        "decided": 0,
        "failed": "ValueError: of worker 0",
    }
    failed = "WorkerError: the chief stopped: of worker 0"
    assert other == chief | {"chief": False, "failed": failed}
    assert alone == chief | {"workers": 1, "agreed": [False, False]}


LONG = WORKERS | {
    "learning.type": "eprop",
    "learning.eprop.feedback.kind": "adaptive",
    "task.encoding": "poisson",
    "trainer.train_steps": 40,
    "trainer.validation_interval": 20,
    "trainer.best_metric": "accuracy",
}


def start(cli, directory):
    """The command on both workers."""
    return [cli.start(directory, LONG, mode="train", TF_CONFIG=own) for own in clusters()]


def succeed(started):
    chief, other = (process.wait() for process in started)
    assert chief.code == other.code == 0, (chief, other)
    assert chief.lines and other.lines == [] and other.complaints == []
    return chief


def kill_at_checkpoint(process, directory: pathlib.Path):
    until = time.monotonic() + 200
    while not checkpoint_steps(directory):
        assert time.monotonic() < until, "no checkpoint appeared"
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL


def test_a_worker_that_is_killed_ends_the_other_and_both_go_on(cli, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pair = start(cli, broken)
    other = start(cli, whole)  # at the same time: the first pair waits long for the lost worker
    kill_at_checkpoint(pair[1], broken)
    succeed(other)
    chief = pair[0].wait()
    assert chief.code == 1
    (line,) = chief.complaints
    assert line.startswith("orbit_snn: a worker is gone; start all workers again with the same")
    assert checkpoint_steps(broken)[-1] < LONG["trainer.train_steps"]
    done = succeed(start(cli, broken))
    assert done.lines[0].startswith("resumed at step "), done.stdout
    assert_same_variables(whole, broken)
    assert_same_variables(whole / "best", broken / "best")


TWO = ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "it is not set"),
        ("{'cluster': 1}", "it is not JSON (Expecting property name"),
        ("[1]", 'it has no mapping "cluster"'),
        (json.dumps({"cluster": {"worker": TWO}}), 'it has no mapping "task"'),
        (json.dumps(config([], 0)), 'its cluster has no list "worker"'),
        (json.dumps(config("a:1", 0)), "its cluster.worker is 'a:1'; expected a list"),
        (json.dumps(config(["a:1", "b"], 0)), "its cluster.worker has 'b'; expected host:port"),
        (json.dumps(config(["a:1", "a:1"], 0)), "its cluster has the address 'a:1' twice"),
        (json.dumps(config(TWO, 2)), "its task.index is 2; expected 0 to 1, for 2 addresses"),
        (json.dumps(config(TWO, -1)), "its task.index is -1; expected a number"),
        (json.dumps(config(TWO, None)), "its task.index is None; expected a number"),
        (json.dumps(config(TWO, 0, task={"index": 0})), "its task.type is None; expected worker"),
        (
            json.dumps(config(TWO, 0, cluster={"worker": TWO, "ps": ["c:1"]})),
            "its cluster has the job 'ps'",
        ),
    ],
)
def test_a_cluster_that_is_none_is_refused_before_tensorflow_waits_for_it(
    monkeypatch, text, message
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError) as caught:
        build_strategy(RuntimeConfig(distribution_strategy="multi_worker_mirrored"))
    said = str(caught.value)
    assert message in said and "\n" not in said
    assert '"task": {"type": "worker", "index": 0}' in said


def test_the_chief_of_a_cluster_comes_first():
    given = {
        "cluster": {"worker": TWO, "chief": ["c:3"]},
        "task": {"type": "worker", "index": "1"},
    }
    assert read_cluster({"TF_CONFIG": json.dumps(given)}) == Cluster(("c:3", "a:1", "b:2"), 2)


def test_a_worker_has_one_replica_of_the_cpu(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config(TWO, 0)))
    runtime = RuntimeConfig(distribution_strategy="multi_worker_mirrored", logical_cpus=2)
    with pytest.raises(ConfigError, match="logical_cpus is 2.*leave it 0 and start more workers"):
        build_strategy(runtime)
