"""What the tool says of healthy and of damaged run directories; it never changes them."""

import dataclasses
import json
import os
import runpy
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.tools import inspect_checkpoint, run_facts
from orbit_snn.training import inspection
from orbit_snn.training.lock import RunLock
from orbit_snn.training.lock_file import Holder
from tests.accidents import damage
from tests.system.harness import snapshot

KERNEL = np.array([[0.0, 2.0], [4.0, 6.0]], np.float32)
RUN = {"experiment": "digits", "rule": {"type": "eprop"}, "seed": 0}


def manager(directory, name="ckpt", **values):
    model = tf.Module()
    model.modules = tf.Module()
    model.modules.kernel = tf.Variable(KERNEL, name="kernel")
    items = {"model": model, **{key: tf.Variable(value) for key, value in values.items()}}
    checkpoint = tf.train.Checkpoint(**items)
    return tf.train.CheckpointManager(checkpoint, str(directory), 10, checkpoint_name=name)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A run with three checkpoints and a best one."""
    directory = tmp_path_factory.mktemp("healthy") / "run"
    saved = manager(directory)
    for step in (5, 10, 15):
        saved.save(step)
    manager(directory / "best", "best_ckpt").save(10)
    results = {"step": 15, "metrics": {"loss": 0.5, "accuracy": float("nan")}}
    (directory / "run.json").write_text(json.dumps(RUN))
    (directory / "results.json").write_text(json.dumps(results))
    (directory / "params.yaml").write_text(
        "seed: 0\nlearning: {type: eprop}\ntask: {name: digits}\n"
    )
    (directory / "best" / "best.json").write_text("0.25")
    return directory


@pytest.fixture
def run(healthy, tmp_path):
    return shutil.copytree(healthy, tmp_path / "run")


@pytest.fixture
def inspect(capsys, tmp_path):
    """Exit code, printed text and JSON; looks that the directory stays as it is."""

    def call(directory, *arguments):
        before = snapshot(directory)
        out = tmp_path / "facts.json"
        code = inspect_checkpoint.main([str(directory), "--json", str(out), *arguments])
        assert snapshot(directory) == before
        printed = capsys.readouterr()
        assert not printed.err
        text = out.read_text()
        assert "NaN" not in text and "Infinity" not in text
        return code, printed.out, json.loads(text)

    return call


OFTEN = ("truncated", "empty", "zeroed", "deleted", "flipped", "something else")


def test_a_healthy_run(run, inspect):
    code, text, facts = inspect(run)
    assert code == facts["exit_code"] == 0
    assert facts["run"] == {"experiment": "digits", "rule": "eprop", "seed": 0}
    assert [(c["place"], c["step"]) for c in facts["checkpoints"]] == [
        ("", 5),
        ("", 10),
        ("", 15),
        ("best", 10),
    ]
    assert all(c["healthy"] and 0 <= c["age_seconds"] < 600 for c in facts["checkpoints"])
    size = sum(path.stat().st_size for path in run.glob("ckpt-5.*"))
    assert facts["checkpoints"][0]["bytes"] == size
    assert [p["names"] for p in facts["pointers"]] == ["ckpt-15", "best_ckpt-10"]
    assert facts["resumes_from"] == "ckpt-15"
    for line in (
        "run           experiment digits, rule eprop, seed 0",
        "results.json  step 15 | loss 0.5 | accuracy nan",
        "best/best.json 0.25",
        "lock          none",
        "a restart resumes from ckpt-15",
    ):
        assert line in text.splitlines(), text


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_damage_to_the_newest_checkpoint(run, inspect, suffix):
    for accident in OFTEN:
        copy = shutil.copytree(run, run.with_name(f"run-{accident}"))
        damage(copy / f"ckpt-15.{suffix}", accident)
        code, text, facts = inspect(copy)
        assert code == 1, accident
        assert facts["resumes_from"] == "ckpt-10", accident
        (problem,) = facts["problems"]
        assert problem.startswith("ckpt-15 unreadable: "), accident
        assert problem.removeprefix("ckpt-15 ") in text, accident


def test_every_file_damaged_never_ends_in_a_traceback(run, inspect):
    for path in map(run.joinpath, snapshot(run)):
        content = path.read_bytes()
        for accident in OFTEN:
            path.write_bytes(content)
            damage(path, accident)
            code, _, facts = inspect(run, "--variables")
            described = path.suffix in (".json", ".yaml") or path.name == "checkpoint"
            harmless = described and accident in ("flipped", "truncated", "deleted")
            assert code == 1 or harmless, (path, accident)
            assert facts["resumes_from"]
        path.unlink(missing_ok=True)
        path.mkdir()
        assert inspect(run)[0] == 1, path
        path.rmdir()
        path.write_bytes(content)


def test_a_directory_with_everything_gone_wrong(run, inspect):
    for name in snapshot(run):
        damage(run / name, "something else")
    code, text, facts = inspect(run, "--variables")
    assert code == 1
    assert len(facts["problems"]) == 10
    assert "there is no checkpoint to resume from" in text


def test_identity_where_one_file_is_damaged(run, inspect):
    (run / "run.json").write_text("{")
    code, text, facts = inspect(run)
    assert code == 1 and "run.json      is damaged" in text
    assert facts["run"] == {"experiment": "digits", "rule": "eprop", "seed": 0}


def test_the_file_that_names_the_newest(run, inspect):
    for text, problem in {
        'model_checkpoint_path: "ckpt-99"\n': "names ckpt-99, which is not there",
        'all_model_checkpoint_paths: "ckpt-5"\n': "is damaged",
        "": "is empty",
    }.items():
        (run / "checkpoint").write_text(text)
        code, _, facts = inspect(run)
        assert code == 1 and facts["problems"] == [f"checkpoint {problem}"]
    (run / "checkpoint").unlink()
    assert inspect(run)[2]["problems"] == ["checkpoint is missing"]


def test_values_that_are_not_finite(tmp_path, inspect):
    spoiled = manager(tmp_path / "run", **{c: np.array([1.0, np.nan]) for c in "abcde"})
    spoiled.save(3)
    code, text, facts = inspect(tmp_path / "run", "--step=3")
    assert code == 1 and facts["resumes_from"] is None
    assert facts["checkpoints"][0]["non_finite"] == list("abcde")
    assert "not finite: a, b, c and 2 more" in text
    row = next(row for row in facts["variables"] if row["path"] == "a")
    assert (row["mean"], row["max"], row["non_finite"], row["zero"]) == (1.0, 1.0, 0.5, 0.0)


def test_memories_of_actions_may_be_infinite(tmp_path, inspect):
    manager(tmp_path / "run", actions=np.array(np.inf)).save(3)
    (checkpoint,) = inspect(tmp_path / "run")[2]["checkpoints"]
    assert checkpoint["non_finite"] == ["actions"] and not checkpoint["healthy"]
    actions = tf.Module()
    actions.best = tf.Variable(np.inf)
    saved = tf.train.Checkpoint(actions=actions)
    tf.train.CheckpointManager(saved, str(tmp_path / "other"), 1).save(3)
    code, text, _ = inspect(tmp_path / "other")
    assert code == 0 and "good; as they may be, not finite: actions.best" in text


class TestVariables:
    def test_of_the_newest_good_one(self, run, inspect):
        (run / "ckpt-15.index").unlink()
        _, text, facts = inspect(run, "--variables")
        assert facts["measured"] == "ckpt-10"
        assert [row["path"] for row in facts["variables"]] == ["model.kernel", "save_counter"]
        assert facts["variables"][0] == {
            "path": "model.kernel",
            "shape": [2, 2],
            "dtype": "float32",
            "numbers": 4,
            "bytes": 16,
            "mean": 3.0,
            "std": pytest.approx(np.std(KERNEL)),
            "min": 0.0,
            "max": 6.0,
            "non_finite": 0.0,
            "zero": 0.25,
        }
        assert facts["totals"]["model"] == {"variables": 1, "numbers": 4, "bytes": 16}
        assert "model: 4 numbers, 16 B" in text

    def test_of_a_step(self, run, inspect):
        assert inspect(run, "--step=5")[2]["measured"] == "ckpt-5"
        (run / "ckpt-10.index").unlink()
        code, _, facts = inspect(run, "--step=10")
        assert code == 1 and facts["measured"] == "ckpt-10" and not facts["variables"]

    def test_of_a_step_that_is_not_there(self, run, inspect):
        code, text, facts = inspect(run, "--step=7")
        assert code == 2 and "variables" not in facts
        assert "there is no checkpoint of step 7" in text

    def test_slots_of_every_optimizer_have_the_path_of_their_variable(self, tmp_path, inspect):
        import tf_keras

        for kind in (tf_keras.optimizers.Adam, tf_keras.optimizers.legacy.Adam):
            model = tf.Module()
            model.kernel = tf.Variable(KERNEL, name="kernel")
            optimizer = kind(0.1)
            optimizer.apply_gradients([(tf.ones_like(model.kernel), model.kernel)])
            directory = tmp_path / kind.__module__
            saved = tf.train.Checkpoint(model=model, optimizer=optimizer)
            tf.train.CheckpointManager(saved, str(directory), 1).save(1)
            _, _, facts = inspect(directory, "--variables")
            paths = {row["path"] for row in facts["variables"]}
            assert {f"model.kernel[optimizer.{s}]" for s in "mv"} <= paths, paths
            assert facts["totals"]["slots"]["numbers"] == 8


class TestLock:
    def test_of_a_run_that_goes_on(self, run, inspect):
        with RunLock(run):
            code, text, facts = inspect(run)
        assert code == 0 and facts["lock"]["stale"] is False
        assert f"lock          live: host {Holder.here().host}, pid {os.getpid()}, since" in text

    def test_of_a_run_that_is_gone(self, run, inspect):
        holder = dataclasses.replace(Holder.here(), boot="another")
        (run / "run.lock").write_text(json.dumps(dataclasses.asdict(holder)))
        code, _, facts = inspect(run)
        assert code == 0 and facts["lock"]["stale"] is True

    def test_of_another_kind(self, run, inspect):
        (run / "run.lock").mkdir()
        assert "lock          cannot be read: run.lock is no file" in inspect(run)[1]


def test_what_does_not_count(run, inspect):
    (run / "damaged").mkdir()
    (run / "damaged" / "ckpt-3.index").write_bytes(b"12345")
    (run / "ckpt-20_temp").mkdir()
    (run / "ckpt-20_temp" / "part-00000-of-00001.index").write_bytes(b"123")
    (run / ".results.json.77.tmp").write_bytes(b"1")
    code, text, facts = inspect(run)
    assert code == 0
    assert facts["set_aside"] == [{"name": "damaged/ckpt-3.index", "bytes": 5}]
    assert {x["name"]: x["bytes"] for x in facts["left_behind"]} == {
        ".results.json.77.tmp": 1,
        "ckpt-20_temp": 3,
    }
    assert "set aside: damaged/ckpt-3.index, 5 B" in text


def test_a_checkpoint_that_is_removed_meanwhile_is_left_out(run, monkeypatch):
    """By a run that goes on: that is no damage."""

    def gone(prefix):
        for path in prefix.parent.glob(f"{prefix.name}.*"):
            if prefix.name == "ckpt-5":
                path.unlink()
        return "" if prefix.name != "ckpt-5" else "ckpt-5.index is missing"

    monkeypatch.setattr(inspection, "problem_of", gone)
    facts = run_facts.examine(run)
    assert [c["name"] for c in facts["checkpoints"]] == ["ckpt-10", "ckpt-15", "best_ckpt-10"]
    assert not facts["problems"]


def test_nothing(tmp_path, inspect, capsys):
    (tmp_path / "empty").mkdir()
    code, text, _ = inspect(tmp_path / "empty")
    assert code == 2 and "there is no checkpoint" in text
    assert inspect_checkpoint.main([str(tmp_path / "no")]) == 2
    assert capsys.readouterr().err == f"there is no directory {tmp_path / 'no'}\n"


def test_json_is_not_written_into_the_directory(run, capsys):
    with pytest.raises(SystemExit) as refused:
        inspect_checkpoint.main([str(run), "--json", str(run / "best" / "facts.json")])
    assert refused.value.code == 2
    assert "name another place" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="cannot be written"):
        inspect_checkpoint.main([str(run), "--json", str(run.parent / "no" / "facts.json")])


def test_as_a_program(run, monkeypatch, capsys):
    (run / "ckpt-5.index").unlink()
    monkeypatch.setattr(sys, "argv", ["inspect_checkpoint.py", str(run)])
    module = "orbit_snn.tools.inspect_checkpoint"
    monkeypatch.delitem(sys.modules, module)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 1
    assert "a restart resumes from ckpt-15" in capsys.readouterr().out
