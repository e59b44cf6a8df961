"""Starts command lines in children of one process that has TensorFlow loaded already.

Loading TensorFlow takes longer than any run of the tests. Every child is a process of its own, with
its own arguments, exit code, output files and TensorFlow runtime: nothing has run before the fork.
Requests and replies are lines of JSON on the standard input and output.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import time


def command_line(arguments: list[str]) -> None:
    """What `python -m orbit_snn.train` does."""
    sys.argv = ["train.py", *arguments]
    runpy.run_module("orbit_snn.train", run_name="__main__", alter_sys=True)


def call(function: str, arguments: dict, result: str) -> None:
    """Calls `<module>.<function>` of this folder; its value goes to a file as JSON."""
    module, _, name = function.rpartition(".")
    value = getattr(importlib.import_module(f"tests.system.{module}"), name)(**arguments)
    with open(result, "w") as file:
        json.dump(value, file)


def become(request: dict) -> None:
    """In the child: the files are the standard ones, as in a new process."""
    for descriptor, path in enumerate(["/dev/null", request["stdout"], request["stderr"]]):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(path, flags), descriptor)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.environ.update(request["environment"])
    if "function" in request:
        call(request["function"], request["arguments"], request["result"])
    else:
        command_line(request["arguments"])


def end(pids: set[int]) -> None:
    """Ends children that nobody waited for, as after a test that failed."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def wait(pid: int, seconds: float) -> int | None:
    """The exit code, negative for a signal; None where it took too long and was killed."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.005)


def serve() -> dict | None:
    """Serves until the input ends, which gives None; in a child, gives what it has to become."""
    replies, running = os.fdopen(os.dup(1), "w"), set()
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "wait" in request:
            reply = wait(request["wait"], request["seconds"])
            running.discard(request["wait"])
        else:
            reply = os.fork()
            if reply == 0:
                return request
            running.add(reply)
        print(json.dumps(reply), file=replies, flush=True)
    end(running)
    return None


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("experiments", "tasks.digits", "tasks.pattern_generation"):
        importlib.import_module(f"orbit_snn.{name}")
    gc.freeze()  # or every child looks through all of TensorFlow as it ends, and copies its pages
    request = serve()
    if request is not None:
        become(request)
