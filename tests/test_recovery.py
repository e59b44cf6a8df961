"""Runs that diverge: what is kept, what is reported, and how a run goes back by itself."""

import json

import numpy as np
import pytest
import tf_keras

from orbit_snn.learning import TBPTT
from orbit_snn.training import DivergedError, RunDirectoryError
from orbit_snn.training.best import KeepBest
from orbit_snn.training.recovery import RollBack
from tests.accidents import damage
from tests.system.harness import snapshot
from tests.test_run import make

OPTIONS = {"train_steps": 12, "roll_backs": 3, "roll_back_factor": 1e-3}
SGD = tf_keras.optimizers.legacy.SGD
JUMP = tf_keras.optimizers.schedules.PiecewiseConstantDecay([5], [1e-2, 1e10])
BURST = tf_keras.optimizers.schedules.PiecewiseConstantDecay([5], [1e-2, 1e37])


def variables(run):
    return [v.numpy() for v in run.task.training_modules.model.variables]


def report(directory):
    (path,) = directory.glob("diverged-*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("rate", [1e3, JUMP], ids=["from the start", "later, a schedule"])
def test_a_run_goes_back_with_a_smaller_rate(tmp_path, capsys, rate):
    options = OPTIONS | {"largest_loss": 50.0, "roll_back_factor": 1e-12 if rate is JUMP else 1e-3}
    run = make(tmp_path, options=options, optimizer=SGD(rate))
    run.train()
    said = capsys.readouterr().out
    assert run.step == 12 and said.count("WARNING: diverged before step") in (1, 2)
    back = 6 if rate is JUMP else 0
    assert f"Back to step {back}, the learning rate is now" in said
    assert all(np.isfinite(value).all() for value in variables(run))
    found = report(tmp_path)
    assert found["step"] == back + 2 and found["examples_seen"] == 5 * found["step"]
    assert "diverged" not in make(tmp_path, options=options, optimizer=SGD(rate)).evaluate()


def test_how_often_is_bounded(tmp_path, capsys):
    options = OPTIONS | {"largest_loss": 1e-9}
    run = make(tmp_path, options=options, optimizer=SGD(1.0))
    with pytest.raises(DivergedError, match="more than trainer.largest_loss.*diverged-2"):
        run.train()
    said = capsys.readouterr().out
    assert said.count("WARNING: diverged before step 2") == 3
    assert "the learning rate is now 1e-09" in said


def test_going_back_is_remembered_over_a_restart(tmp_path):
    """Killed after it went back, a run ends as if it had not been."""
    options = OPTIONS | {"roll_back_factor": 1e-12, "largest_loss": 50.0}
    whole = make(tmp_path / "whole", options=options, optimizer=SGD(JUMP))
    whole.train()
    make(tmp_path / "parts", options=options | {"train_steps": 10}, optimizer=SGD(JUMP)).train()
    rest = make(tmp_path / "parts", options=options, optimizer=SGD(JUMP))
    rest.train()
    for one, other in zip(variables(whole), variables(rest), strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_run_that_does_not_go_back_keeps_its_last_good_state(tmp_path):
    run = make(tmp_path, options={"train_steps": 12}, optimizer=SGD(BURST))
    with pytest.raises(DivergedError, match="step 8.*lower the learning rate.*diverged-8.json"):
        run.train()
    again = make(tmp_path, options={"train_steps": 12}, optimizer=SGD(BURST))
    assert again.restore() == str(tmp_path / "ckpt-6")
    assert all(np.isfinite(value).all() for value in variables(again))
    kernels = report(tmp_path)["variables"]
    assert any(found["not_finite"] for found in kernels.values())


def test_weights_that_are_not_finite_are_noticed_when_they_would_be_saved(tmp_path, monkeypatch):
    """The loss of a loop is that of the weights before: its last update can spoil them alone."""
    run = make(tmp_path, options={"best_metric": "loss"})
    kernel = run.task.training_modules.model.parameters[0]
    monkeypatch.setattr(KeepBest, "observe", lambda *_: kernel.assign(kernel * np.nan))
    with pytest.raises(DivergedError, match="not finite"):
        run.train()
    assert not list(tmp_path.glob("ckpt-*"))


def test_continuous_evaluation_leaves_out_what_cannot_be_read(tmp_path, capsys):
    make(tmp_path, options={"train_steps": 4}).train()
    run = make(tmp_path, options={"train_steps": 4})
    damage(tmp_path / "ckpt-4.index", "truncated")
    with pytest.raises(RunDirectoryError, match="no checkpoint appeared"):
        run.evaluate_continuously(0.1)
    assert "ckpt-4 is left out, for it cannot be read" in capsys.readouterr().out


def test_a_bucket_is_no_directory():
    with pytest.raises(RunDirectoryError, match="gs://bucket/run; expected a folder.*mount"):
        make("gs://bucket/run")


def test_a_rule_without_a_learning_rate_cannot_go_back():
    with pytest.raises(ValueError, match="roll_backs lowers the learning rate"):
        RollBack(None, 1, 0.5)


def test_a_directory_of_another_run_is_left_as_it_is(tmp_path):
    """Even where its newest checkpoint is damaged."""
    make(tmp_path, options={"train_steps": 4}).train()
    damage(tmp_path / "ckpt-4.index", "truncated")
    before = snapshot(tmp_path)
    with pytest.raises(RunDirectoryError, match="holds another run"):
        make(tmp_path, rule=TBPTT(3, update_every="window"), options={"train_steps": 4}).train()
    assert snapshot(tmp_path) == before


def test_a_complete_run_writes_nothing(tmp_path):
    make(tmp_path, options={"train_steps": 4}).train()
    before = snapshot(tmp_path)
    make(tmp_path, options={"train_steps": 4}).train()
    assert snapshot(tmp_path) == before
