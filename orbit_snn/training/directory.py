"""The directory of a run: whether it can be used, whose it is, and files that are written whole."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from orbit_snn.training.errors import RunDirectoryError, writing


def absolute(model_dir: str | os.PathLike) -> pathlib.Path:
    """The path of a run's directory.

    Raises:
      RunDirectoryError: for an address such as `gs://bucket`.
    """
    if "://" in os.fspath(model_dir):
        raise RunDirectoryError(
            f"the model directory is {os.fspath(model_dir)}; expected a folder: mount the bucket, "
            "see docs/tpu.md."
        )
    return pathlib.Path(model_dir).expanduser().absolute()


def check_directory(path: pathlib.Path, create: bool = True) -> None:
    """Finds out, without writing, whether a directory is there or, with `create`, can be made.

    Raises:
      RunDirectoryError: where it is missing, or cannot be made or written.
    """
    if not create and not path.is_dir():
        raise RunDirectoryError(
            f"there is no directory {path} to evaluate; name the --model_dir of a trained run."
        )
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if not nearest.is_dir():
        raise _unwritable(path, f"{nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(path, "permission denied")


def prepare_directory(path: pathlib.Path) -> None:
    """Makes the directory of a run where it is missing, and finds out whether it can be written.

    Raises:
      RunDirectoryError: where it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def _unwritable(path: pathlib.Path, why: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"the model directory {path} cannot be written ({why}); choose another --model_dir."
    )


def as_json(value: Any) -> Any:
    """A setting as `run.json` holds it: options as dictionaries, functions by their names.

    Several options, such as the rules of local plasticity, are a list with their types.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: as_json(x) for key, x in dataclasses.asdict(value).items()}
    if isinstance(value, dict):
        return {key: as_json(x) for key, x in value.items()}
    if isinstance(value, (tuple, list)):
        return [{"type": type(x).__name__, **as_json(x)} for x in value]
    return getattr(value, "__qualname__", str(value)) if callable(value) else value


def identity(name: str, seed: int, rule: Any) -> dict[str, Any]:
    """What makes a run another one than those of other tasks, rules and seeds."""
    settings = {
        key: as_json(value)
        for key, value in sorted(vars(rule).items())
        if not key.startswith("_") and (isinstance(value, (int, float, str)) or _are_options(value))
    }
    return {"experiment": name, "seed": seed, "rule": {"type": rule.name, **settings}}


def _are_options(value: Any) -> bool:
    """Whether a setting is a dataclass, or several."""
    every = value if isinstance(value, (tuple, list)) else [value]
    return bool(every) and all(map(dataclasses.is_dataclass, every))


def claim(directory: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """Writes whose run the directory holds, once, into `run.json`; errors as `check_identity`."""
    check_identity(directory, identity)
    path = directory / "run.json"
    if not path.exists():
        write_json(path, identity)


def check_identity(directory: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """Checks whose run the directory holds, if it holds one.

    Raises:
      RunDirectoryError: where it holds the run of another task, rule or seed, or cannot be told.
    """
    path = directory / "run.json"
    if not path.exists():
        return
    before = read_json(path)
    for name, value in identity.items():
        if before.get(name) != value:
            old, new = _difference(before.get(name), value)
            raise RunDirectoryError(
                f"{directory} holds another run: its {name} is {old!r}, now it is {new!r}; choose "
                "another model directory."
            )


def _difference(before: Any, now: Any) -> tuple[Any, Any]:
    """The settings that differ, where both are settings by name."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return before, now
    names = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    return {k: before.get(k) for k in names}, {k: now.get(k) for k in names}


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON file of the run's directory.

    Raises:
      RunDirectoryError: where it is damaged.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunDirectoryError(
            f"{path} cannot be read ({error}); move it away, and it is written anew."
        ) from error
    if not isinstance(found, dict):
        raise RunDirectoryError(f"{path} is damaged; move it away, and it is written anew.")
    return found


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file whole or not at all; errors as `errors.writing`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all; errors as `errors.writing`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            with open(temporary, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
