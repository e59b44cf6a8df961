"""Times the benchmark's network in another library, one process a measurement.

The network: a recurrent LIF layer (reset by subtraction, surrogate gradient), read by a linear
layer and a leaky integrator; softmax cross-entropy of the readout's mean over time; Adam. The
input is Bernoulli with probability 0.05. Every peer gets the same numbers and takes its fastest
documented form: products of the whole sequence outside the loop, in the loop the recurrent
product and the neuron. The PyTorch peers' neuron steps go through `torch.compile`.

    python tools/peers.py --peer=snntorch --size=S --threads=2 --repeats=5

prints one line of JSON, the last of stdout; a peer that is not installed ends in exit code 3.
Linux only: threads are limited by CPU affinity, memory is read from /proc. Importing this
module loads no library beyond Python's own. Measure on a quiet machine: with two threads another
busy process slows PyTorch's many short parallel regions up to twenty times.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NOT_INSTALLED = 3


class Size(NamedTuple):
    """What one measurement is about."""

    batch: int
    steps: int
    inputs: int
    units: int
    classes: int


SIZES = {
    "S": Size(32, 100, 40, 100, 10),
    "M": Size(64, 100, 700, 256, 20),
    "L": Size(16, 1000, 100, 256, 10),
    "XL": Size(8, 2000, 100, 512, 10),
}
PACKAGES = {  # peer -> what it needs
    "snntorch": ("torch", "snntorch"),
    "norse": ("torch", "norse"),
    "spikingjelly": ("torch", "spikingjelly"),
    "spyx": ("jax", "spyx"),
}
PEERS = tuple(PACKAGES)


def limit_threads(threads: int) -> None:
    """Keeps this process on `threads` CPUs; call it before a library makes its threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    os.environ["OMP_NUM_THREADS"] = str(threads)


def memory_mb(field: str = "VmRSS") -> float:
    """Resident memory of this process in MB: `VmRSS` is now, `VmHWM` its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/self/status has no field `{field}`.")


def measure(iteration: Callable[[], Any], repeats: int, warmup: int = 2) -> dict[str, float]:
    """Times an iteration that returns only when its work is done.

    Args:
      iteration: what is timed.
      repeats: timed calls.
      warmup: calls before them; compilation belongs here.

    Returns:
      `wall_ms`, the median wall time of a call; `cpu_ms`, the mean processor time of a call
      over all threads; `peak_mb`, the highest resident memory during the timed calls: the
      kernel's own mark, set back before them, so that no sampling disturbs the timing.
    """
    for _ in range(warmup):
        iteration()
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    walls = []
    cpu = time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        iteration()
        walls.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    return {
        "wall_ms": 1e3 * statistics.median(walls),
        "cpu_ms": 1e3 * cpu / repeats,
        "peak_mb": memory_mb("VmHWM"),
    }


def missing_packages(peer: str) -> list[str]:
    """The packages that `peer` needs and that are not installed."""
    return [name for name in PACKAGES[peer] if importlib.util.find_spec(name) is None]


def load(module: str) -> Any:
    """Imports a module of `peer_models`, whether this file is run by path or in a package."""
    package = f"{__package__}.peer_models" if __package__ else "peer_models"
    return importlib.import_module(f"{package}.{module}")


def run(peer: str, size: Size, repeats: int) -> dict[str, float]:
    """Times training and inference of a peer; its libraries are imported here.

    A tiny model is trained and dropped first: it loads backend and compiler, which count as
    imports, so that the memory is that of the model.
    """
    make_problem = load("problem").make_problem
    build = load(f"{peer}_model").build
    build(make_problem(*Size(2, 3, 4, 5, 2))).train()
    problem = make_problem(*size)
    base_mb = memory_mb()
    model = build(problem)
    train = measure(model.train, repeats)
    infer = measure(model.infer, repeats)
    return {
        "train_ms": round(train["wall_ms"], 3),
        "infer_ms": round(infer["wall_ms"], 3),
        "cpu_ms": round(train["cpu_ms"], 3),
        "peak_mb_over_base": round(train["peak_mb"] - base_mb, 1),
    }


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Time a peer library on one size.")
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--size", choices=tuple(SIZES), default="S")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    for field in Size._fields:
        parser.add_argument(f"--{field}", type=int, help=f"instead of the size's {field}")
    parsed = parser.parse_args(arguments)
    numbers = [("--repeats", parsed.repeats), ("--threads", parsed.threads)]
    numbers += [(f"--{field}", getattr(parsed, field)) for field in Size._fields]
    for flag, number in numbers:
        if number is not None and number < 1:
            parser.error(f"{flag} must be at least 1, got {number}")
    cpus = len(os.sched_getaffinity(0))
    if parsed.threads > cpus:
        parser.error(f"--threads is {parsed.threads}, this process may use {cpus} CPUs")
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line of JSON and returns the exit code."""
    parsed = parse_arguments(arguments)
    missing = missing_packages(parsed.peer)
    if missing:
        names = ", ".join(missing)
        print(f"{parsed.peer} needs {names}: pip install -e .[bench]", file=sys.stderr)
        return NOT_INSTALLED
    fields = {name: getattr(parsed, name) for name in Size._fields}
    size = SIZES[parsed.size]._replace(**{k: v for k, v in fields.items() if v is not None})
    limit_threads(parsed.threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    result = {
        "case": parsed.peer,
        "size": parsed.size,
        "threads": parsed.threads,
        "device": "cpu",
        **run(parsed.peer, size, parsed.repeats),
        "version": importlib.metadata.version(parsed.peer),
    }
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
