"""Says what the directory of a run holds, and how healthy it is.

    python -m orbit_snn.tools.inspect_checkpoint MODEL_DIR [--variables] [--step N] [--json FILE]

Every checkpoint is read to its last byte. Nothing is written into the directory, which may be
damaged, or in use by a run. The exit code is 0 where all is healthy, 1 where something is damaged,
2 where there is no checkpoint, or none of the step that is asked for. What a run has set aside in
`damaged/`, and what saves that were interrupted have left behind, is listed and does not count: no
run reads it.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

if __name__ == "__main__":  # before TensorFlow is loaded, and in a checkout without installation
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

from orbit_snn.configuration_errors import escaped
from orbit_snn.tools.run_facts import STATISTICS, Facts, examine, health, measure, totals
from orbit_snn.training.console import format_metrics

HEALTHY, DAMAGED, NOTHING = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="directory of a run")
    parser.add_argument("--variables", action="store_true", help="a table of the variables")
    parser.add_argument("--step", type=int, help="of these; default the newest that is good")
    parser.add_argument("--json", metavar="FILE", help="write all of it there, not into MODEL_DIR")
    options = parser.parse_args(arguments)
    directory = pathlib.Path(options.model_dir).expanduser().absolute()
    out = pathlib.Path(options.json).expanduser() if options.json else None
    if out and directory.resolve() in out.resolve().parents:
        parser.error(f"--json is {out}, in the directory that is looked at; name another place")
    if not directory.is_dir():
        print(f"there is no directory {directory}", file=sys.stderr)
        return NOTHING
    facts = examine(directory)
    facts["exit_code"] = DAMAGED if facts["problems"] else HEALTHY
    chosen = choose(facts, options.step)
    if not facts["checkpoints"] or (options.step is not None and not chosen):
        facts["exit_code"] = NOTHING
    if chosen and (options.variables or options.step is not None):
        facts["measured"] = os.path.join(chosen["place"], chosen["name"])
        facts["variables"] = measure(directory / facts["measured"])
        facts["totals"] = totals(facts["variables"])
    for line in report(facts, options.step):
        print(escaped(line))
    if out:
        try:
            out.write_text(json.dumps(_finite(facts), indent=2) + "\n")
        except OSError as error:
            sys.exit(f"inspect_checkpoint: {out} cannot be written ({error.strerror})")
    return int(facts["exit_code"])


def choose(facts: Facts, step: int | None) -> Facts | None:
    """The checkpoint of a step, or else the one that a restart resumes from."""
    for checkpoint in facts["checkpoints"]:
        name = checkpoint["name"]
        if checkpoint["step"] == step or (step is None and name == facts["resumes_from"]):
            return dict(checkpoint)
    return None


def report(facts: Facts, step: int | None) -> Iterator[str]:
    """Lines for a person."""
    yield f"directory     {facts['directory']}"
    yield "run           " + ", ".join(f"{k} {v}" for k, v in facts["run"].items() if v is not None)
    for name, file in facts["files"].items():
        yield f"{name:13} {file['problem'] or _summary(name, file['content'])}"
    if facts["lock"]:
        state = {True: "stale", False: "live", None: "cannot be read"}[facts["lock"]["stale"]]
        yield f"lock          {state}: {facts['lock']['holder']}"
    else:
        yield "lock          none"
    for pointer in facts["pointers"]:
        yield f"{pointer['file']:13} {pointer['problem'] or 'names ' + pointer['names']}"
    for checkpoint in facts["checkpoints"]:
        name = os.path.join(checkpoint["place"], checkpoint["name"])
        age = datetime.timedelta(seconds=round(checkpoint["age_seconds"]))
        yield f"{name:18} {size(checkpoint['bytes']):>8}  {age} old  {health(checkpoint)}"
    yield from (f"set aside: {x['name']}, {size(x['bytes'])}" for x in facts["set_aside"])
    yield from (f"left behind: {x['name']}, {size(x['bytes'])}" for x in facts["left_behind"])
    if not facts["checkpoints"]:
        yield "there is no checkpoint"
    elif not facts["resumes_from"]:
        yield "there is no checkpoint to resume from"
    else:
        yield f"a restart resumes from {facts['resumes_from']}"
    if "variables" in facts:
        yield f"variables of {facts['measured']}, as far as they can be read"
        yield from table(facts["variables"])
        for group, total in facts["totals"].items():
            yield f"{group}: {total['numbers']:,} numbers, {size(total['bytes'])}"
    elif step is not None:
        yield f"there is no checkpoint of step {step}"


def table(variables: Sequence[Facts]) -> Iterator[str]:
    """A line for each variable, in columns."""
    columns = (*STATISTICS, "non_finite", "zero")
    rows = [["variable", "shape", "type", *columns]]
    for facts in variables:
        numbers = [f"{facts[name]:.4g}" if name in facts else "-" for name in columns]
        rows.append([facts["path"], str(facts["shape"]), facts["dtype"], *numbers])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(w) for cell, w in zip(row[:3], widths[:3], strict=True)]
        cells += [cell.rjust(w) for cell, w in zip(row[3:], widths[3:], strict=True)]
        yield "  ".join(cells)


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _summary(name: str, content: Any) -> str:
    """What a person wants to see of a file."""
    if name in ("run.json", "params.yaml"):
        return "good"
    if name != "results.json":
        text = json.dumps(content)
        return text if len(text) < 100 else f"{text[:100]}..."
    metrics = content.get("metrics")
    shown = metrics.items() if isinstance(metrics, dict) else ()
    text = format_metrics({k: v for k, v in shown if isinstance(v, float)})
    return f"step {content.get('step')} | {text}"


def _finite(facts: Any) -> Any:
    """The same without NaN and infinities, which JSON has not."""
    if isinstance(facts, dict):
        return {key: _finite(value) for key, value in facts.items()}
    if isinstance(facts, list):
        return [_finite(value) for value in facts]
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
