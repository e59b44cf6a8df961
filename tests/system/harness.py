"""Command lines as a person gives them, and what they leave on disk."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 300.0

TINY = {
    "task.model.units": "[16]",
    "task.model.neuron.type": "lif",
    "learning.type": "bptt",
    "trainer.train_steps": 20,
    "trainer.steps_per_loop": 5,
    "trainer.checkpoint_interval": 10,
    "trainer.validation_interval": 10,
    "trainer.batch_size": 16,
    "trainer.pictures": 0,
    "runtime.enable_xla": "false",
}
FEW = "train[:5%]"

# Lines that TensorFlow's C++ writes to the standard error, whatever TF_CPP_MIN_LOG_LEVEL says.
_NOISE = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} |\d{4}-\d\d-\d\d \d\d:\d\d:")


@dataclasses.dataclass(frozen=True)
class Finished:
    code: int | None
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def complaints(self) -> list[str]:
        """What is on the standard error besides TensorFlow's own noise."""
        return [line for line in self.stderr.splitlines() if line and not _NOISE.match(line)]


def only_line(done: Finished) -> str:
    """The one line of an error, after having looked that there is nothing else."""
    assert done.code not in (0, None), done
    assert len(done.complaints) == 1, done
    (line,) = done.complaints
    assert line.startswith("orbit_snn: "), done
    assert "Traceback" not in done.stdout + done.stderr
    return line


class Started:
    """A child of the fork server."""

    def __init__(self, server: "ForkServer", request: dict[str, Any]):
        self._server = server
        self._request = request
        self.pid = server.ask(request)

    def said(self, text: str) -> bool:
        """Whether a text has been printed by now."""
        file = pathlib.Path(self._request["stdout"])
        return file.is_file() and text in file.read_text()

    def until(self, condition: Callable[[], Any], seconds: float = SECONDS) -> None:
        """Waits until something is so while the process runs."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end and pathlib.Path(f"/proc/{self.pid}").exists()
            time.sleep(0.002)

    def wait(self, seconds: float = SECONDS) -> Finished:
        code = self._server.ask({"wait": self.pid, "seconds": seconds})
        files = (pathlib.Path(self._request[name]) for name in ("stdout", "stderr"))
        texts = (file.read_text() if file.is_file() else "" for file in files)
        return Finished(code, *texts)

    def result(self) -> Any:
        """What the function gave that was begun."""
        finished = self.wait(3 * SECONDS)
        assert finished.code == 0, finished
        return json.loads(pathlib.Path(self._request["result"]).read_text())


class ForkServer:
    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name("fork_server.py"))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: dict[str, Any]) -> Any:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)

    def start(self, arguments: list[str], stdout: str = "", **environment: str) -> Started:
        """Starts the command line; `stdout` may be a terminal."""
        return Started(self, self._request(environment, stdout) | {"arguments": arguments})

    def call(self, function: str, **arguments: Any) -> Any:
        """What a function of `jobs`, or of `<module>.`, gives in a process of its own."""
        return self.begin(function, {}, **arguments).result()

    def begin(self, function: str, environment: dict[str, str], **arguments: Any) -> Started:
        """Starts that function."""
        name = function if "." in function else f"jobs.{function}"
        request = self._request(environment) | {"function": name, "arguments": arguments}
        return Started(self, request | {"result": request["stdout"] + ".json"})

    def _request(self, environment: dict[str, str], stdout: str = "") -> dict[str, Any]:
        folder = tempfile.mkdtemp(dir=self._folder)
        return {
            "stdout": stdout or f"{folder}/stdout",
            "stderr": f"{folder}/stderr",
            "environment": environment,
        }


class CommandLine:
    """`python -m orbit_snn.train` with tiny settings; keyword arguments are flags."""

    def __init__(self, server: ForkServer, data_dir: pathlib.Path):
        self._server = server
        self._data_dir = data_dir

    def arguments(
        self,
        model_dir: str | os.PathLike,
        overrides: Mapping[str, Any] | None = None,
        experiment: str = "digits",
        mode: str = "train_and_eval",
        config_file: tuple[str | os.PathLike, ...] = (),
        **flags: Any,
    ) -> list[str]:
        settings = dict(TINY) | dict(overrides or {})
        if experiment == "digits":
            settings = {"task.data_dir": self._data_dir, "task.train_split": FEW} | settings
        text = ",".join(f"{key}={value}" for key, value in settings.items() if value is not None)
        given = {"experiment": experiment, "mode": mode, "model_dir": model_dir, **flags}
        files = [f"--config_file={path}" for path in config_file]
        named = [f"--{name}={value}" for name, value in given.items()]
        return [*named, *files, f"--params_override={text}"]

    def start(self, *args: Any, stdout: str = "", **keywords: Any) -> Started:
        """Keywords in capitals are environment variables."""
        environment = {name: keywords.pop(name) for name in list(keywords) if name.isupper()}
        return self._server.start(self.arguments(*args, **keywords), stdout, **environment)

    def run(self, *args: Any, **keywords: Any) -> Finished:
        return self.start(*args, **keywords).wait()

    def succeed(self, *args: Any, **keywords: Any) -> Finished:
        finished = self.run(*args, **keywords)
        assert finished.code == 0, finished
        return finished

    def process(self, *args: Any, **keywords: Any) -> Finished:
        """The same in a Python of its own, from nothing."""
        return python("-m", "orbit_snn.train", *self.arguments(*args, **keywords))


def python(*arguments: str) -> Finished:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def results(model_dir: pathlib.Path) -> dict[str, Any]:
    return json.loads((model_dir / "results.json").read_text())


def checkpoint_steps(model_dir: pathlib.Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("ckpt-")) for path in model_dir.glob("ckpt-*.index"))


def variables(model_dir: pathlib.Path) -> dict[str, np.ndarray]:
    """Every variable of the last checkpoint."""
    reader = tf.train.load_checkpoint(str(model_dir))
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    values.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    return values


def assert_same_variables(a: pathlib.Path, b: pathlib.Path) -> None:
    """Bit for bit."""
    left, right = variables(a), variables(b)
    assert left.keys() == right.keys()
    different = [name for name in left if left[name].tobytes() != right[name].tobytes()]
    assert not different, different


def snapshot(path: pathlib.Path) -> dict[str, tuple[str, int]]:
    """Content and time of change of every file below a directory."""
    return {
        str(file.relative_to(path)): (
            hashlib.sha256(file.read_bytes()).hexdigest(),
            file.stat().st_mtime_ns,
        )
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
