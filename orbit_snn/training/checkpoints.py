"""Checkpoints of a run: where they are, whether they fit, and files that are written whole."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.trainer import Trainer


class RunDirectoryError(RuntimeError):
    """The model directory cannot be used as asked; the message says what to do."""


def prepare_directory(model_dir: str | os.PathLike, create: bool = True) -> pathlib.Path:
    """The directory of a run, made where it is missing if `create`.

    Raises:
      RunDirectoryError: where it is missing, or cannot be made or written.
    """
    path = pathlib.Path(model_dir).expanduser().absolute()
    if not create and not path.is_dir():
        raise RunDirectoryError(
            f"there is no directory {path} to evaluate; name the --model_dir of a trained run."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunDirectoryError(
            f"the model directory {path} cannot be written ({error.strerror}); choose another "
            "--model_dir."
        ) from error
    return path


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


def claim(directory: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """Writes whose run the directory holds, once, into `run.json`.

    Raises:
      RunDirectoryError: where it holds the run of another task, rule or seed.
    """
    path = directory / "run.json"
    if not path.exists():
        write_json(path, identity)
        return
    before = json.loads(path.read_text())
    for name, value in identity.items():
        if before.get(name) != value:
            raise RunDirectoryError(
                f"{directory} holds another run: its {name} is {before.get(name)!r}, now it is "
                f"{value!r}; choose another model directory."
            )


def manager(
    trainer: Trainer, items: Mapping[str, Any], directory: pathlib.Path, options: TrainingOptions
) -> Any:
    """A checkpoint manager that saves everything a run needs to go on exactly, `items`.

    It saves when it is told to: after a validation, so that what that changed is saved too.

    Raises:
      RunDirectoryError: where checkpoints lie in the directory that its `checkpoint` file does not
        name, so that a run would silently start afresh among them.
    """
    checkpoint = tf.train.Checkpoint(**items)
    stray = sorted(directory.glob("ckpt-*.index"))
    state = tf.train.get_checkpoint_state(str(directory)) if _has_state(directory) else None
    if stray and (state is None or not state.model_checkpoint_path):
        raise RunDirectoryError(
            f"{directory} holds {stray[-1].stem} but its file named `checkpoint` is missing or "
            "empty; restore that file, or choose another --model_dir."
        )
    return tf.train.CheckpointManager(
        checkpoint,
        str(directory),
        max_to_keep=options.max_to_keep,
        step_counter=trainer.global_step,
    )


def restore(
    checkpoints: Any, trainer: Trainer, actions: Mapping[str, Any], path: str | None = None
) -> str | None:
    """Restores a checkpoint, if there is one, and checks that all of it fits.

    Args:
      checkpoints: the manager.
      trainer: what is restored.
      actions: by name; those that were not there when it was saved start afresh.
      path: of the checkpoint, default the newest.

    Returns:
      Its path, or None.

    Raises:
      RunDirectoryError: where the checkpoint cannot be read, or is of another model or optimizer.
    """
    path = path or checkpoints.latest_checkpoint
    if path is None:
        return None
    with _said(path):
        names = [name for name, _ in tf.train.list_variables(path)] if actions else []
    known = {k: a for k, a in actions.items() if any(f"actions/{k}/" in n for n in names)}
    if known.keys() == actions.keys():
        restore_from(checkpoints.checkpoint, path, trainer)
    else:
        items = {**trainer.checkpoint_items, **({"actions": known} if known else {})}
        restore_from(tf.train.Checkpoint(**items), path, trainer)
    return path


def best(directory: pathlib.Path) -> str | None:
    """The checkpoint with the best validation, or None."""
    return tf.train.latest_checkpoint(str(directory / "best"))


def restore_from(checkpoint: tf.train.Checkpoint, path: str, trainer: Trainer) -> None:
    """Restores one checkpoint; errors as `restore`."""
    with _said(path):
        _check_shapes(path, trainer)
        with trainer.strategy.scope():
            status = checkpoint.restore(path)
        status.assert_existing_objects_matched()


@contextlib.contextmanager
def _said(path: str) -> Iterator[None]:
    """Says in one line what is wrong with a checkpoint."""
    try:
        yield
    except (ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RunDirectoryError(
            f"the checkpoint {path} does not fit this configuration ({reason}); use the "
            "configuration that wrote it, or another --model_dir."
        ) from error
    except (tf.errors.OpError, IndexError, OSError) as error:
        raise RunDirectoryError(
            f"the checkpoint {path} cannot be read ({str(error).splitlines()[0]}); to go on from "
            "an older one, name that in the file `checkpoint` beside it."
        ) from error


def _has_state(directory: pathlib.Path) -> bool:
    state = directory / "checkpoint"
    return state.exists() and state.stat().st_size > 0


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _check_shapes(path: str, trainer: Trainer) -> None:
    """Compares the model's variables with a checkpoint, by their paths."""
    from orbit_snn.training.summaries import parameter_names  # pictures load matplotlib

    stored = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    for name, variable in parameter_names(trainer.training_modules.model).items():
        key = f"model/modules/{name}/.ATTRIBUTES/VARIABLE_VALUE"
        if key in stored and list(stored[key]) != variable.shape.as_list():
            raise RunDirectoryError(
                f"the checkpoint {path} has {name} of shape {list(stored[key])}, this "
                f"configuration makes it {variable.shape.as_list()}; use the configuration that "
                "wrote it, or another --model_dir."
            )
