"""The README's commands and its program, as a user would run them, with fewer steps."""

import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests.system.harness import ForkServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FEW = "trainer.train_steps=20,trainer.steps_per_loop=10,trainer.checkpoint_interval=10"
FEW += ",trainer.validation_interval=10,trainer.pictures=0"
SMALL = {"digits": "task.model.units=[16]", "diehl_cook": "task.model.units=16"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run(command: list[str], cwd: pathlib.Path, **environment: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "-1",
        **environment,
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def with_few_steps(
    command: list[str], model_dir: pathlib.Path, data_dir: pathlib.Path
) -> list[str]:
    """The command's arguments, with a directory of the test's and few steps."""
    assert command[1:3] == ["-m", "orbit_snn.train"]
    overridden = ("--model_dir", "--params_override")
    kept = [word for word in command[3:] if not word.startswith(overridden)]
    (experiment,) = [w.removeprefix("--experiment=") for w in kept if w.startswith("--experiment")]
    given = [FEW, SMALL.get(experiment, "task.model.units=[16]")]
    if experiment in SMALL:
        given.append(f"task.data_dir={data_dir}")
    return [*kept, f"--model_dir={model_dir}", f"--params_override={','.join(given)}"]


def command_lines() -> list[str]:
    """Training commands of the README, and what `make quickstart` would run."""
    shown = [block.replace("\\\n", " ") for block in blocks("sh")]
    lines = [line for block in shown for line in block.splitlines() if "orbit_snn.train" in line]
    made = subprocess.run(
        ["make", "--dry-run", "quickstart"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    return lines + [line for line in made.splitlines() if "orbit_snn.train" in line]


def test_the_readme_names_the_two_commands_that_the_makefile_has() -> None:
    first = blocks("sh")[0]
    for target in re.findall(r"^make (\w+)", first, flags=re.MULTILINE):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    assert "make quickstart" in first and "make test" in first


def test_ci_calls_the_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("number", range(5))
def test_training_commands_run(
    server: ForkServer, data_dir: pathlib.Path, number: int, tmp_path: pathlib.Path
) -> None:
    assert len(command_lines()) == 5
    command = shlex.split(command_lines()[number])
    model_dir = tmp_path / "run"
    done = server.start(with_few_steps(command, model_dir, data_dir)).wait()
    assert done.code == 0, done
    assert "test at step 20" in done.stdout
    images = any(f"--experiment={name}" in command for name in SMALL)
    examples = 360 if images else 1
    assert json.loads((model_dir / "results.json").read_text())["examples"] == examples


def test_the_python_program_runs_and_learns(tmp_path: pathlib.Path) -> None:
    (program,) = blocks("python")
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 36
    short = program.replace(
        "train_steps=500",
        "train_steps=100, steps_per_loop=50, "
        "checkpoint_interval=100, validation_interval=100, pictures=0",
    )
    assert short != program
    out = run([sys.executable, "-c", short], tmp_path)
    assert float(out.split()[-1]) > 0.5
    assert (tmp_path / "runs" / "python" / "results.json").exists()


def test_files_that_the_readme_points_to_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def test_names_that_the_readme_shows_exist() -> None:
    modules = ("graph", "training", "neurons", "connections", "cells", "networks", "learning")
    modules += ("data", "database", "surrogate", "learning.plasticity", "reducers")
    known = {name for m in modules for name in dir(importlib.import_module(f"orbit_snn.{m}"))}
    shown = set(re.findall(r"(?<![\w.])([A-Z]\w+)\(", README)) - {"Adam", "SGD", "TraceHebb"}
    assert len(shown) > 30
    assert not shown - known
