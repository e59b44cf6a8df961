"""A run that is killed and started again ends as if nothing had happened."""

import os
import pathlib
import signal
import time

import pytest

from tests.system.harness import Started, assert_same_variables, checkpoint_steps, results

STEPS = 60
BASE = {"trainer.train_steps": STEPS, "trainer.max_to_keep": 20, "task.encoding": "poisson"}
RULES = {
    "bptt": {"learning.type": "bptt", "task.shift": 1.0, "task.noise": 0.1},
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


def kill_at_checkpoint(started: Started, directory: pathlib.Path, beyond: int) -> int:
    """Kills a run when a checkpoint beyond this step appears; gives that checkpoint's step."""
    until = time.monotonic() + 200
    while (steps := checkpoint_steps(directory) or [0])[-1] <= beyond:
        assert time.monotonic() < until, "no checkpoint appeared"
        time.sleep(0.001)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait().code == -signal.SIGKILL
    return steps[-1]


@pytest.mark.parametrize(("rule", "kills"), [(rule, 1) for rule in RULES])
def test_killed_and_started_again_gives_the_same_bits(cli, tmp_path, rule, kills):
    overrides = BASE | RULES[rule]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    cli.succeed(whole, overrides)
    step = checkpoint_steps(whole)[0]
    for _ in range(kills):
        step = kill_at_checkpoint(cli.start(broken, overrides), broken, step)
        assert step < STEPS
    assert not (broken / "results.json").exists()
    done = cli.succeed(broken, overrides)
    assert "resumed at step" in done.lines[0], done.stdout
    assert int(done.lines[0].split("step ")[1].split()[0]) > 0
    assert_same_variables(whole, broken)
    one, other = results(whole), results(broken)
    assert one["metrics"] == other["metrics"]
    assert one["step"] == other["step"] == STEPS
    assert checkpoint_steps(broken)[-1] == checkpoint_steps(whole)[-1] == STEPS
