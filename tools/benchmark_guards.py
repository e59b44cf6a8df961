"""What the guards of a run cost: `python -m orbit_snn.tools.benchmark_guards`.

Trains an experiment as the command line does and takes the time that is spent on looking whether
values are finite, whether there is room on the disk, reading checkpoints back and making sure that
they are on it, on the lock and on signals; over the time of the whole training, without its first
loop, which compiles.
"""

import argparse
import functools
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONFIG = pathlib.Path(__file__).resolve().parent.parent / "configs" / "digits" / "bptt.yaml"


class Clock:
    """Adds up the time that some functions take.

    Attributes:
      seconds: by name.
      calls: by name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def watch(self, owner: Any, name: str) -> None:
        """Puts a function of a module or class under the clock."""
        inside: Any = vars(owner)[name]
        asked = isinstance(inside, property)
        timed = self._timed(inside.fget if asked else inside, name)
        setattr(owner, name, property(timed) if asked else timed)

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **keywords: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **keywords)
            finally:
                taken = time.perf_counter() - begin
                self.seconds[name] = self.seconds.get(name, 0.0) + taken
                self.calls[name] = self.calls.get(name, 0) + 1

        return timed


def measure(experiment: str, config_files: Sequence[str], override: str) -> dict[str, Any]:
    """Seconds of guards and of training, and their ratio."""
    from orbit_snn import experiments
    from orbit_snn.train import import_tasks
    from orbit_snn.training import checkpoints, inspection, lock
    from orbit_snn.training.loop import Loop

    import_tasks()
    config = experiments.load(experiment, config_files, override)
    guards, whole = Clock(), Clock()
    for owner, name in (
        (checkpoints.Checkpoints, "_check_finite"),
        (checkpoints.Checkpoints, "_check_room"),
        (inspection, "problem_of"),
        (checkpoints, "_rename"),
        (checkpoints, "_clear"),
        (lock.RunLock, "lost"),
        (Loop, "over"),
    ):
        guards.watch(owner, name)
    whole.watch(Loop, "run")
    with tempfile.TemporaryDirectory() as directory:
        run = experiments.build_run(config, directory)
        run.train()
        first = run._console.first_loop_seconds or 0.0
    seconds = whole.seconds["run"] - first
    spent = sum(guards.seconds.values())
    return {
        "experiment": experiment,
        "steps": config.trainer.train_steps,
        "checkpoints": guards.calls["_rename"],
        "step_ms": 1e3 * seconds / (config.trainer.train_steps - config.trainer.steps_per_loop),
        "guards_ms_per_checkpoint": 1e3 * spent / guards.calls["_rename"],
        "guards_percent": 100 * spent / seconds,
        "seconds": {name: round(value, 4) for name, value in guards.seconds.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; 1 where guards take a percent or more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="digits")
    parser.add_argument("--config_file", action="append", help=f"default {CONFIG.name} of digits")
    parser.add_argument("--params_override", default="")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    flags = parser.parse_args(arguments)
    files = flags.config_file or ([str(CONFIG)] if flags.experiment == "digits" else [])
    found = measure(flags.experiment, files, flags.params_override)
    text = json.dumps(found, indent=1)
    print(text)
    if flags.json:
        flags.json.write_text(text + "\n")
    return int(found["guards_percent"] >= 1.0)


if __name__ == "__main__":
    sys.exit(main())
