"""Times one training iteration and inference: ours, plain autodiff, and other libraries.

    python -m orbit_snn.tools.benchmark --sizes=S,L --cases=bptt,autodiff --json=rows.json

The workload: a recurrent LIF layer with a leaky readout, Bernoulli input of 5 %, softmax
cross-entropy of the mean readout, Adam, float32, CPU. One iteration is forward, backward and
update. Cases on TensorFlow run in turn in one process, A B A B, and the medians are compared:
`ratio` is the time of `autodiff` over the time of the case. Peak memory is measured with each case
in a process of its own, over what the process held before the model was built. Peers get the same
numbers, each in its own process. `eprop` times the modes of e-prop, which give equal gradients,
against back-propagation of the same adaptive network, and measures the memory of `chunked` for
sequences of T and of 100 T steps. `rls` times FORCE with output feedback of 500 and 1000 units, a
step, against a loop of NumPy, and the kernel, a row, by rows in a block; use `--threads=1`. `stdp`
times pair STDP in every step of 100 and 1000 neurons, 1000 steps, against a loop of NumPy.
`startup` is the first training step of the default digits experiment, tracing and compilation
included.

Measure on a quiet machine. Linux only, for threads are limited by CPU affinity.
"""

import argparse
import difflib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

if __name__ == "__main__":  # in a checkout without installation
    sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

from orbit_snn.tools import peers

STARTUP, EPROP, RLS, STDP = "startup", "eprop", "rls", "stdp"
SPECIAL = (STARTUP, EPROP, RLS, STDP)
CASES = ("bptt", "bptt_checkpointed", "tbptt", "autodiff", STARTUP)
OPTIONAL_CASES = (EPROP, RLS, STDP, "bptt_direct", "bptt_no_xla", "autodiff_xla")
TIMES = ("train_ms", "infer_ms", "cpu_ms")
KEYS = ("case", "size", "threads", "device", *TIMES, "peak_mb_over_base", "ratio_to_autodiff")
HEADINGS = ("case", "train ms", "infer ms", "cpu ms", "peak MB", "ratio", "")
MEMORY_REPEATS = 3

Row = dict[str, Any]


class ChildError(Exception):
    """A process gave no result; the message says why."""


def make_row(case: str, size: str, threads: int, **values: float | None) -> Row:
    """A row with every key; numbers that were not measured are None."""
    known = {"case": case, "size": size, "threads": threads, "device": "cpu", **values}
    return {key: _rounded(known.get(key)) for key in KEYS}


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def benchmark(options: argparse.Namespace) -> list[Row]:
    """Measures everything that was asked for and prints a table for each size."""
    rows: list[Row] = []
    cases = [case for case in options.cases if case not in SPECIAL]
    for name in options.sizes if cases or options.peers else ():
        size = options.size_override or peers.SIZES[name]
        print(f"{name}: batch {size.batch}, {size.steps} steps, {size.inputs} inputs, ", end="")
        print(f"{size.units} neurons, {size.classes} classes", flush=True)
        found = [*tensorflow_rows(cases, name, options), *peer_rows(name, size, options)]
        add_ratios(found)
        print(format_table(found), end="\n\n", flush=True)
        rows += found
    if EPROP in options.cases:
        for name in options.sizes:
            rows += eprop_rows(name, options)
    if RLS in options.cases:
        rows += rls_rows(options)
    if STDP in options.cases:
        rows += stdp_rows(options)
    if STARTUP in options.cases:
        rows += startup_rows(options)
    return rows


def tensorflow_rows(cases: list[str], name: str, options: argparse.Namespace) -> list[Row]:
    """Times of all cases from one process, memory from one process a case."""
    timing = attempt("timing", cases, name, options) if cases else None
    if timing is None:
        return []
    losses = ", ".join(f"{case} {loss:.5f}" for case, loss in timing["first_loss"].items())
    print(f"a hidden neuron spikes in {100 * timing['rate']:.1f} % of the steps; ", end="")
    print(f"first loss: {losses}", flush=True)
    rows = []
    for case in cases:
        memory = attempt("memory", [case], name, options) or {}
        rows.append(make_row(case, name, options.threads, **timing["times"][case], **memory))
    return rows


def startup_rows(options: argparse.Namespace) -> list[Row]:
    """The row of the default experiment's first step, and its line."""
    found = attempt(STARTUP, [STARTUP], options.sizes[0], options)
    if found is None:
        return []
    seconds = found["train_ms"] / 1e3
    print(f"startup: {seconds:.1f} s to trace and compile the first step of the digits experiment")
    return [make_row(STARTUP, "digits", options.threads, **found)]


def eprop_rows(name: str, options: argparse.Namespace) -> list[Row]:
    """A row for each mode of e-prop and for their baseline, and what they mean in words."""
    found = attempt(EPROP, [EPROP], name, options)
    if found is None:
        return []
    size = options.size_override or peers.SIZES[name]
    rows = []
    for mode, values in found.items():
        ratio = values["train_ms"] / found["bptt"]["train_ms"]
        print(f"{name} e-prop {mode:9} {values['train_ms']:8.1f} ms, {ratio:.2f} x bptt, ", end="")
        print(f"loss {values.pop('loss'):.5f}", flush=True)
        rows.append(make_row(f"{EPROP}_{mode}", name, options.threads, **values))
    speed = found["stepwise"]["train_ms"] / found["chunked"]["train_ms"]
    print(f"{name} e-prop chunked is {speed:.1f} times as fast as stepwise")
    for factor in (1, 100):
        longer = size._replace(steps=factor * size.steps)
        own = argparse.Namespace(**{**vars(options), "size_override": longer})
        memory = attempt("eprop_memory", [EPROP], name, own) or {}
        rows.append(make_row(f"{EPROP}_chunked_{longer.steps}", name, options.threads, **memory))
        peak = _number(memory.get("peak_mb_over_base"), 1)
        print(f"{name} e-prop chunked, {longer.steps} steps: {peak} MB over base", flush=True)
    return rows


def rls_rows(options: argparse.Namespace) -> list[Row]:
    """Rows of least squares, milliseconds a step or a row, and their ratios in words."""
    found = attempt(RLS, [RLS], options.sizes[0], options) or {}
    times = {name: values["train_ms"] for name, values in found.items()}
    for name, value in times.items():
        case, size = name.rsplit("_", 1)
        of = "numpy" if case == "force" else "row_of_1"
        ratio = times[f"{of}_{size}"] / value
        print(f"rls {case:11} {size:>5} units {value:8.4f} ms, {of} / this {ratio:.2f}", flush=True)
    return [make_row(f"{RLS}_{n}", "", options.threads, **values) for n, values in found.items()]


def stdp_rows(options: argparse.Namespace) -> list[Row]:
    """Rows of local plasticity, milliseconds of 1000 steps."""
    found = attempt(STDP, [STDP], options.sizes[0], options) or {}
    for name, values in found.items():
        ratio = found["numpy_" + name.rsplit("_", 1)[1]]["train_ms"] / values["train_ms"]
        print(f"{name:12} {values['train_ms']:8.2f} ms, numpy / this {ratio:.2f}", flush=True)
    return [make_row(f"{STDP}_{n}", "", options.threads, **values) for n, values in found.items()]


def peer_rows(name: str, size: peers.Size, options: argparse.Namespace) -> Iterator[Row]:
    """Each peer's row; a line for one that is not installed."""
    script = str(pathlib.Path(peers.__file__).resolve())
    for peer in options.peers:
        command = [options.peer_python, script, f"--peer={peer}", f"--size={name}"]
        command += [f"--threads={options.threads}", f"--repeats={options.repeats}"]
        command += [f"--{field}={number}" for field, number in size._asdict().items()]
        try:
            found = last_json(command)
        except ChildError as error:
            print(f"{peer} left out: {error}")
            continue
        yield make_row(**{key: found[key] for key in KEYS if key in found and key != "device"})


def attempt(
    what: str, cases: Sequence[str], size: str, options: argparse.Namespace
) -> dict[str, Any] | None:
    """Runs a part of this tool in its own process; None, with a line, where that failed."""
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), f"--only={what}"]
    command += [f"--cases={','.join(cases)}", f"--sizes={size}", f"--threads={options.threads}"]
    command += [f"--repeats={options.repeats}"]
    command += [f"--chunk={options.chunk}"]
    if options.size_override:
        command += [f"--size_override={','.join(map(str, options.size_override))}"]
    try:
        return last_json(command)
    except ChildError as error:
        print(f"{what} of {', '.join(cases)} left out: {error}")
        return None


def last_json(command: Sequence[str]) -> dict[str, Any]:
    """The last line that a process prints, as JSON.

    Raises:
      ChildError: with the process's last line about what went wrong.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ChildError(f"{command[0]}: {error.strerror}") from error
    if done.returncode == 0 and done.stdout.strip():
        return json.loads(done.stdout.strip().splitlines()[-1])
    said = (done.stderr.strip().splitlines() or ["no output"])[-1]
    if done.returncode != peers.NOT_INSTALLED:
        said = f"its process ended with {done.returncode}: {said}"
    raise ChildError(said)


def add_ratios(rows: Sequence[Row]) -> None:
    """Fills in the time of plain autodiff over each row's, where autodiff is there."""
    autodiff = [row["train_ms"] for row in rows if row["case"] == "autodiff"]
    for row in rows if autodiff else ():
        row["ratio_to_autodiff"] = round(autodiff[0] / row["train_ms"], 3)


def format_table(rows: Sequence[Row]) -> str:
    """The rows of one size, aligned; the fastest training iteration is marked."""
    if not rows:
        return "nothing was measured"
    fastest = min(rows, key=lambda row: row["train_ms"])
    lines = [HEADINGS]
    for row in rows:
        cells = [row["case"], *(_number(row[key], 2) for key in TIMES)]
        cells += [_number(row["peak_mb_over_base"], 1), _number(row["ratio_to_autodiff"], 2)]
        lines.append((*cells, "fastest" if row is fastest else ""))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What `--only` asks for, in a process that does nothing else."""
    peers.limit_threads(options.threads)
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    from orbit_snn.tools import benchmark_cases

    benchmark_cases.limit_threads(options.threads)
    if options.only == STARTUP:
        return benchmark_cases.startup()
    if options.only == STDP:
        from orbit_snn.tools import benchmark_stdp

        return benchmark_stdp.measure(options.repeats)
    if options.only == RLS:
        from orbit_snn.tools import benchmark_rls

        return benchmark_rls.measure(options.repeats)
    size = options.size_override or peers.SIZES[options.sizes[0]]
    if options.only.startswith(EPROP):
        from orbit_snn.tools import benchmark_eprop

        if options.only == EPROP:
            return benchmark_eprop.time_modes(size, options.repeats, options.chunk)
        return benchmark_eprop.chunked_memory(size, options.chunk)
    if options.only == "timing":
        return benchmark_cases.time_cases(options.cases, size, options.repeats)
    return benchmark_cases.peak_memory(options.cases[0], size, MEMORY_REPEATS)


def names_from(known: Sequence[str], kind: str) -> Callable[[str], list[str]]:
    """A reader of comma-separated names, which says what was meant by an unknown one."""

    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"unknown {kind} {name!r}; expected some of {', '.join(known)}."
                    f"{did_you_mean(name, known)}"
                )
        return [name for name in dict.fromkeys(names) if name != "none"]

    return read


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A sentence with the nearest known name, or nothing."""
    names = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), names, n=1)
    return f" Did you mean `{names[found[0]]}`?" if found else ""


def size_from(text: str) -> peers.Size:
    """A size from five numbers: batch, steps, inputs, units, classes."""
    numbers = [int(part) for part in text.split(",")]
    if len(numbers) != len(peers.Size._fields) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not B,T,F,N,K, each 1 or more")
    return peers.Size(*numbers)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> Any:
        """Prints the message and exits with 2."""
        self.exit(2, f"benchmark: {message}\n")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with 2 and one line where it is wrong."""
    parser = Parser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = {
        "size": (tuple(peers.SIZES), tuple(peers.SIZES)),
        "case": (CASES, (*CASES, *OPTIONAL_CASES)),
        "peer": (peers.PEERS, (*peers.PEERS, "none")),
    }
    for kind, (default, known) in choices.items():
        names = f"some of {','.join(known)}; default {','.join(default)}"
        parser.add_argument(f"--{kind}s", type=names_from(known, kind), default=default, help=names)
    parser.add_argument("--threads", type=int, default=2, help="CPUs and threads of every pool")
    parser.add_argument("--repeats", type=int, default=15, help="timed iterations of each case")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there")
    parser.add_argument(
        "--peer_python", default=sys.executable, metavar="PATH", help="interpreter with the peers"
    )
    parser.add_argument("--chunk", type=int, default=250, help="steps of a chunk of e-prop")
    only = ("timing", "memory", *SPECIAL, "eprop_memory")
    parser.add_argument("--only", choices=only, help=argparse.SUPPRESS)
    parser.add_argument("--size_override", type=size_from, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    check(parser, options)
    return options


def check(parser: Parser, options: argparse.Namespace) -> None:
    """Ends the program where a value cannot be used."""
    cpus = len(os.sched_getaffinity(0))
    if not 1 <= options.threads <= cpus:
        parser.error(f"--threads is {options.threads}; this process may use 1 to {cpus} CPUs")
    if options.chunk < 1:
        parser.error(f"--chunk is {options.chunk}; expected 1 or more")
    if options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; expected 1 or more")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json is {options.json}; there is no directory {options.json.parent}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit code, 1 where a case of ours has no row."""
    options = parse_arguments(arguments)
    if options.only:
        print(json.dumps(measure(options)), flush=True)
        return 0
    print(f"CPU, {options.threads} threads, medians of {options.repeats}; ", end="")
    print("ratio: time of a training iteration of plain autodiff over the case's\n", flush=True)
    rows = benchmark(options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"rows: {options.json}")
    first = {EPROP: f"{EPROP}_chunked", RLS: f"{RLS}_force_500", STDP: f"{STDP}_stdp_100"}
    names = {first.get(case, case) for case in options.cases}
    once = (STARTUP, RLS, STDP)
    wanted = sum(1 if case in once else len(options.sizes) for case in options.cases)
    return 0 if sum(row["case"] in names for row in rows) == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
