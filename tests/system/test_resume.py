"""A run that is killed and started again ends as if nothing had happened."""

import os
import pathlib
import signal
import time

import numpy as np
import pytest

from tests.system.harness import Started, assert_same_variables, checkpoint_steps, results
from tests.tables import leading

BASE = {"trainer.max_to_keep": 3, "task.encoding": "poisson"}
RULES = {
    "bptt": {
        "learning.type": "bptt",
        "task.shift": 1.0,
        "task.noise": 0.1,
        "trainer.best_metric": "accuracy",
        "trainer.rate_patience": 0,
        "trainer.patience": 1000,
    },
    "tbptt": {
        "learning.type": "tbptt",
        "learning.tbptt.truncation": 12,
        "learning.tbptt.update_every": "window",
        "runtime.enable_xla": "true",
    },
    "eprop": {
        "learning.type": "eprop",
        "learning.eprop.mode": "chunked",
        "learning.eprop.chunk": 10,
        "learning.eprop.update_every": "window",
        "learning.eprop.feedback.kind": "adaptive",
    },
    "rls": {
        "learning.type": "rls",
        "learning.rls.strategy": "grad",
        "learning.rls.window": 12,
        "learning.rls.kernel.numerics": "potter",
        "learning.rls.kernel.forgetting": 0.95,
        "learning.rls.kernel.averaging": "true",
    },
    "plasticity": {
        "learning.type": "plasticity",
        "learning.plasticity.rule.type": "triplet_stdp",
        "learning.plasticity.sequences": 4,
        "learning.plasticity.step_reduction": "mean",
    },
}
LEADING = set(RULES) - {"bptt", "tbptt"}  # test_faults.py and test_training.py resume those


def killed(started: Started, directory: pathlib.Path, beyond: int, delay: float) -> int:
    """Kills a run some time after a checkpoint beyond a step; gives the step of the last one."""
    started.until(lambda: (checkpoint_steps(directory) or [0])[-1] > beyond)
    time.sleep(delay)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait().code == -signal.SIGKILL
    return checkpoint_steps(directory)[-1]


@pytest.mark.parametrize("rule", leading(RULES, LEADING))
def test_killed_and_started_again_gives_the_same_bits(request, cli, tmp_path, rule):
    """Once by default, ten times with `--thorough`, at any moment: steps, validations, saving."""
    kills = 10 if request.config.getoption("--thorough") else 1
    steps = 60 * kills
    overrides = BASE | RULES[rule] | {"trainer.train_steps": steps}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    cli.succeed(whole, overrides)
    delays = np.random.default_rng(len(rule)).uniform(0.0, 0.1, kills)
    step = 0
    for delay in delays:
        step = killed(cli.start(broken, overrides), broken, step, delay)
        assert step < steps
    assert not (broken / "results.json").exists()
    done = cli.succeed(broken, overrides)
    assert f"resumed at step {step} " in done.stdout
    assert_same_variables(whole, broken)
    one, other = results(whole), results(broken)
    assert one["metrics"] == other["metrics"]
    assert one["step"] == other["step"] == steps
    assert checkpoint_steps(broken)[-1] == checkpoint_steps(whole)[-1] == steps
    assert [path.name for path in broken.iterdir()].count("run.lock") == 0
