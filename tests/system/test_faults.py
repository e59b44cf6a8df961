"""Runs that are stopped, started twice, or find the disk damaged or full."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal

import pytest

from tests.accidents import damage, small_disk
from tests.system.harness import (
    assert_same_variables,
    checkpoint_steps,
    only_line,
    results,
    snapshot,
)
from tests.tables import leading

RATE = "trainer.optimizer_config.learning_rate"
CONSTANT = {f"{RATE}.type": "constant", f"{RATE}.constant.learning_rate": 1e-3}
LONG = {"trainer.train_steps": 10**6, **CONSTANT}
WATCHED = {
    "trainer.train_steps": 40,
    "trainer.best_metric": "accuracy",
    "trainer.patience": 30,
    "trainer.rate_patience": 0,
    **CONSTANT,
}


def moved(process, number, when):
    """Sends a signal when something has been printed; gives what became of the process."""
    process.until(lambda: process.said(when))
    os.kill(process.pid, number)
    return process.wait()


@pytest.mark.parametrize(
    ("files", "how"),
    [
        (["index"], "truncated"),
        pytest.param(["data"], "flipped", marks=pytest.mark.thorough),
        (["data", "checkpoint"], "deleted"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(cli, finished, tmp_path, files, how):
    """What was lost is made again, bit for bit, and what was damaged is kept."""
    run = shutil.copytree(finished.directory, tmp_path / "run")
    (run / "results.json").unlink()
    for name in files:
        damage(
            run / "checkpoint" if name == "checkpoint" else next(run.glob(f"ckpt-20.{name}*")), how
        )
    left = [path.read_bytes() for path in sorted(run.glob("ckpt-20.*"))]
    done = cli.succeed(run, {"trainer.pictures": 1, "runtime.enable_xla": "true"})
    assert re.search(r"WARNING: ckpt-20 cannot be read .*ckpt-10", done.lines[0]), done.stdout
    assert "resumed at step 10" in done.lines[1]
    assert [path.read_bytes() for path in sorted((run / "damaged").iterdir())] == left
    assert_same_variables(run, finished.directory)
    assert results(run)["metrics"] == results(finished.directory)["metrics"]


def test_eval_takes_an_older_one_and_changes_nothing(cli, finished, tmp_path):
    run = shutil.copytree(finished.directory, tmp_path / "run")
    damage(run / "ckpt-20.index", "zeroed")
    before = snapshot(run)
    done = cli.succeed(run, mode="eval")
    assert "WARNING: ckpt-20 cannot be read" in done.lines[0]
    assert results(run)["step"] == 10 and results(run)["checkpoint"].endswith("ckpt-10")
    after = snapshot(run)
    assert all(after[name] == before[name] for name in before if "ckpt" in name)


@pytest.fixture(scope="module")
def whole(cli, tmp_path_factory):
    """A run that nothing has disturbed."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    cli.succeed(directory, WATCHED)
    return directory


@pytest.mark.parametrize("number", leading([signal.SIGTERM, signal.SIGINT], [signal.SIGTERM]))
def test_a_signal_ends_a_run_that_goes_on_as_if_nothing_had_been(cli, whole, tmp_path, number):
    """What looks at validations remembers, the best checkpoint included."""
    parts = tmp_path / "parts"
    stopped = moved(cli.start(parts, WATCHED), number, "train 5/40")
    assert stopped.code == {signal.SIGTERM: 42, signal.SIGINT: 130}[number]
    assert f"stopped by {number.name} at step" in stopped.lines[-1], stopped.stdout
    assert not stopped.complaints and not (parts / "results.json").exists()
    assert not (parts / "run.lock").exists()
    step = checkpoint_steps(parts)[-1]
    assert 5 <= step < 40 and f"at step {step}," in stopped.lines[-1]
    assert f"resumed at step {step}" in cli.succeed(parts, WATCHED).lines[0]
    assert_same_variables(whole, parts)
    for name in ("best/best.json", "results.json"):
        one, other = (json.loads((run / name).read_text()) for run in (whole, parts))
        assert one.get("metrics") == other.get("metrics") and one["step"] == other["step"]
    best = [next((run / "best").glob("*.data*")) for run in (whole, parts)]
    assert best[0].name == best[1].name and best[0].read_bytes() == best[1].read_bytes()


def test_a_second_signal_ends_it_at_once(cli, tmp_path):
    endless = {**LONG, "trainer.steps_per_loop": 10**6, "trainer.checkpoint_interval": 10**6}
    endless["trainer.validation_interval"] = 10**6
    run = cli.start(tmp_path / "run", endless)
    run.until(lambda: run.said("training from step 0"))
    os.kill(run.pid, signal.SIGTERM)
    done = moved(run, signal.SIGTERM, "SIGTERM: this loop")
    assert done.code == 128 + signal.SIGTERM and "stopped at once" in done.lines[-1]
    assert not checkpoint_steps(tmp_path / "run")


def test_a_signal_while_compiling_ends_it_after_the_first_loop(cli, tmp_path):
    done = moved(cli.start(tmp_path / "run", LONG), signal.SIGINT, "training from step 0")
    assert done.code == 130
    assert len(checkpoint_steps(tmp_path / "run")) == 1


def test_a_signal_where_there_is_nothing_to_save(cli, tmp_path):
    """One that waits for checkpoints ends at once, with the same code."""
    run = cli.start(tmp_path, mode="continuous_eval")
    run.until(lambda: _caught(run.pid) >> (signal.SIGTERM - 1) & 1)
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait().code == 42


def _caught(pid):
    """Signals for which a process has a handler, one bit each."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)


def test_one_run_a_directory(cli, tmp_path):
    first = cli.start(tmp_path / "run", LONG)
    first.until(lambda: checkpoint_steps(tmp_path / "run"))
    line = only_line(cli.run(tmp_path / "run", LONG))
    assert str(first.pid) in line and str(tmp_path / "run") in line, line
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    again = cli.start(tmp_path / "run", LONG)
    again.until(lambda: again.said("resumed at step"))
    os.kill(again.pid, signal.SIGTERM)
    assert again.wait().code == 42


def test_a_full_disk(cli, whole, tmp_path):
    """It fills while the run is at it; with room again, the run ends as it would have."""
    with small_disk(tmp_path / "disk", 2**20) as disk:
        run = cli.start(disk / "run", WATCHED)
        run.until(lambda: checkpoint_steps(disk / "run"))
        fill(disk)
        done = run.wait()
        assert re.search(r"disk is full: .*start the same command again", only_line(done))
        assert done.code == 28
        steps = checkpoint_steps(disk / "run")
        assert steps and steps[-1] < 40
        assert "disk is full" in only_line(cli.run(disk / "run", WATCHED))
        assert checkpoint_steps(disk / "run") == steps
        (disk / "filler").unlink()
        cli.succeed(disk / "run", WATCHED)
        assert_same_variables(disk / "run", whole)


def fill(disk):
    """Leaves no byte on a disk, whoever else writes to it."""
    with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))


def test_a_run_that_diverged_says_what_is_known(cli, tmp_path):
    overrides = {f"{RATE}.type": "constant", f"{RATE}.constant.learning_rate": 1e38}
    line = only_line(cli.run(tmp_path / "run", overrides))
    assert re.search(r"is (nan|inf).*step 5.*learning rate.*diverged-5\.json", line), line
    assert not checkpoint_steps(tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()
    report = json.loads((tmp_path / "run" / "diverged-5.json").read_text())
    assert report["examples_seen"] == 5 * 16 and report["seed"] == 0
    assert report["learning_rate"] == pytest.approx(1e38)
    found = report["variables"]["model.network.cells.0.feedforward.kernel"]
    assert found["not_finite"] > 0
