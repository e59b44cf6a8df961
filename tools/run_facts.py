"""What the directory of a run holds, found out without writing into it."""

import datetime
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from orbit_snn.configuration import ConfigError
from orbit_snn.configuration_yaml import read_yaml
from orbit_snn.training import inspection, lock
from orbit_snn.training.checkpoints import DAMAGED, UNVERIFIED
from orbit_snn.training.lock_file import find

Facts = dict[str, Any]

PLACES = (("", "ckpt"), ("best", "best_ckpt"))  # folders of a run, and names of checkpoints there
STATISTICS = ("mean", "std", "min", "max")
LEFT_BEHIND = ("*_temp", UNVERIFIED, "checkpoint.tmp*", ".*.tmp", "*run.lock.*")


def examine(directory: pathlib.Path) -> Facts:
    """All that is known of a run's directory, for JSON; `problems` has a line for each damage."""
    files = {name: _content(directory / name) for name in _described_files(directory)}
    checkpoints = [c for place, name in PLACES for c in _checkpoints(directory, place, name)]
    good = [c["name"] for c in checkpoints if c["healthy"] and not c["place"]]
    facts: Facts = {
        "directory": str(directory),
        "run": _identity(files),
        "files": files,
        "lock": _lock(directory),
        "pointers": [p for place, _ in PLACES for p in _pointer(directory, place, checkpoints)],
        "checkpoints": checkpoints,
        "resumes_from": good[-1] if good else None,
        "set_aside": _listing(directory, DAMAGED, ["*"]),
        "left_behind": [x for place, _ in PLACES for x in _listing(directory, place, LEFT_BEHIND)],
    }
    return {**facts, "problems": list(_problems(facts))}


def measure(prefix: pathlib.Path) -> list[Facts]:
    """Shape and statistics of every variable that can be read; those of its finite values."""
    rows = [_measured(path, value) for path, value in inspection.tensors(prefix)]
    return sorted(rows, key=lambda row: row["path"])


def totals(variables: Sequence[Facts]) -> dict[str, Facts]:
    """How many variables, numbers and bytes a model, a rule and so on have, and all slots."""
    found: dict[str, Facts] = {}
    for row in variables:
        group = "slots" if "[" in row["path"] else row["path"].partition(".")[0]
        total = found.setdefault(group, {"variables": 0, "numbers": 0, "bytes": 0})
        total["variables"] += 1
        total["numbers"] += row["numbers"]
        total["bytes"] += row["bytes"]
    return found


def health(checkpoint: Mapping[str, Any]) -> str:
    """The state of a checkpoint in a line."""
    if checkpoint["problem"]:
        return f"unreadable: {checkpoint['problem']}"
    names = checkpoint["non_finite"]
    if not names:
        return "good"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    word = "good; as they may be, not finite:" if checkpoint["healthy"] else "not finite:"
    return f"{word} {', '.join(names[:3])}{more}"


def _measured(path: str, value: np.ndarray) -> Facts:
    facts: Facts = {
        "path": path,
        "shape": list(value.shape),
        "dtype": str(value.dtype),
        "numbers": value.size,
        "bytes": value.nbytes,
    }
    if value.dtype.kind in "OSUc" or not value.size:
        return facts
    numbers = value.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if finite.size:
        with np.errstate(over="ignore", invalid="ignore"):
            facts |= {name: float(getattr(np, name)(finite)) for name in STATISTICS}
    facts["non_finite"] = 1 - finite.size / value.size
    facts["zero"] = float(np.mean(numbers == 0))
    return facts


def _checkpoints(directory: pathlib.Path, place: str, name: str) -> Iterator[Facts]:
    """What is known of each checkpoint, oldest first."""
    for step, files in inspection.steps_in(directory / place, name).items():
        prefix = directory / place / f"{name}-{step}"
        problem = inspection.problem_of(prefix)
        spoiled = inspection.non_finite(prefix)
        sizes = [status for status in map(_status, files) if status]
        if not sizes:  # a run that goes on removed it in the meantime
            continue
        modified = max(status.st_mtime for status in sizes)
        yield {
            "name": prefix.name,
            "place": place,
            "step": step,
            "bytes": sum(status.st_size for status in sizes),
            "modified": datetime.datetime.fromtimestamp(modified).astimezone().isoformat(),
            "age_seconds": max(0.0, time.time() - modified),
            "problem": problem,
            "non_finite": spoiled,
            "healthy": not problem and not inspection.spoiling(spoiled),
        }


def _pointer(directory: pathlib.Path, place: str, checkpoints: Sequence[Facts]) -> Iterator[Facts]:
    """What the file `checkpoint` names, where there is one or should be."""
    path = directory / place / "checkpoint"
    here = [c["name"] for c in checkpoints if c["place"] == place]
    if not here and not path.exists():
        return
    names, problem = None, ""
    try:
        key, _, value = path.read_text(errors="replace").partition("\n")[0].partition(": ")
        names = pathlib.PurePath(value.strip('" ')).name
        if key != "model_checkpoint_path" or not names:
            names, problem = None, "is damaged" if key else "is empty"
        elif names not in here:
            problem = f"names {names}, which is not there"
    except FileNotFoundError:
        problem = "is missing"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    yield {"file": os.path.join(place, "checkpoint"), "names": names, "problem": problem}


def _described_files(directory: pathlib.Path) -> list[str]:
    """Files that say whose run it is and what came of it, as far as they are there."""
    names = ("run.json", "params.yaml", "results.json", "best/best.json")
    reports = sorted(path.name for path in directory.glob("diverged-*.json"))
    return [name for name in (*names, *reports) if (directory / name).exists()]


def _content(path: pathlib.Path) -> Facts:
    """The content of a JSON or YAML file, or what is wrong with it."""
    content: Any = None
    try:
        if path.stat().st_size:
            yaml = path.suffix == ".yaml"
            content = read_yaml(path) if yaml else json.loads(path.read_text())
    except OSError as error:
        return {"problem": f"cannot be read ({error.strerror})", "content": None}
    except (ConfigError, ValueError, RecursionError):
        return {"problem": "is damaged", "content": None}
    if content is None:
        return {"problem": "is empty", "content": None}
    if path.name != "best.json" and not isinstance(content, dict):
        return {"problem": "is damaged", "content": None}
    return {"problem": "", "content": content}


def _identity(files: Mapping[str, Facts]) -> Facts:
    """Experiment, rule and seed, from `run.json` or else from the configuration."""

    def inside(name: str, *keys: str) -> Any:
        found = files.get(name, {}).get("content")
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    return {
        "experiment": inside("run.json", "experiment") or inside("params.yaml", "task", "name"),
        "rule": inside("run.json", "rule", "type") or inside("params.yaml", "learning", "type"),
        "seed": next(
            (s for name in ("run.json", "params.yaml") if (s := inside(name, "seed")) is not None),
            None,
        ),
    }


def _lock(directory: pathlib.Path) -> Facts | None:
    """Who holds the lock; ages are by this machine's clock, for nothing is written here."""
    try:
        found = find(directory / lock.NAME)
    except OSError as error:
        return {"holder": error.strerror, "stale": None}
    if found is None:
        return None
    now = time.time()
    return {"holder": found.described(now), "stale": found.is_stale(now)}


def _listing(directory: pathlib.Path, place: str, patterns: Sequence[str]) -> list[Facts]:
    """Files and folders of a directory, with their sizes."""
    listing = []
    for path in sorted({x for pattern in patterns for x in (directory / place).glob(pattern)}):
        files = [_status(file) for file in (path, *path.rglob("*")) if not file.is_dir()]
        name = os.path.join(place, path.name)
        listing.append({"name": name, "bytes": sum(status.st_size for status in files if status)})
    return listing


def _status(path: pathlib.Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _problems(facts: Facts) -> Iterator[str]:
    """A line for everything that counts as damaged."""
    for name, file in facts["files"].items():
        if file["problem"]:
            yield f"{name} {file['problem']}"
    for pointer in facts["pointers"]:
        if pointer["problem"]:
            yield f"{pointer['file']} {pointer['problem']}"
    for checkpoint in facts["checkpoints"]:
        if not checkpoint["healthy"]:
            yield f"{os.path.join(checkpoint['place'], checkpoint['name'])} {health(checkpoint)}"
