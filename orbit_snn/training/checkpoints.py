"""Checkpoints of a run: read back before they count, found again, set aside where damaged."""

import contextlib
import errno
import functools
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from orbit_snn.training import inspection, workers
from orbit_snn.training.directory import write_text
from orbit_snn.training.errors import (
    DivergedError,
    RunDirectoryError,
    reason,
    writing,
)
from orbit_snn.training.fit import OPTIONAL, check_fit, variables_of
from orbit_snn.training.inspection import dotted

DAMAGED, UNVERIFIED = "damaged", ".unverified"
_ROOM = 1.1  # names and shapes come on top of the values


class Checkpoints:
    """Saves what a run needs to go on exactly, and finds the newest one that can be read.

    A checkpoint is written into a folder beside, read back with its checksums, and only then given
    its name, `<name>-<step>`. Older ones beyond `max_to_keep` are removed after that, never before.
    Which one is the newest is told by the files themselves; the file `checkpoint` is written for
    others, such as TensorFlow.

    Args:
      items: what is saved, by name.
      optional: modules that may be missing in a checkpoint and then start afresh, by name.
      directory: where; made when the first one is saved.
      strategy: in whose scope it is restored.
      max_to_keep: how many stay.
      name: of the files.
      say: prints a line.

    Of several workers all take part in saving, and the chief writes and decides.
    """

    def __init__(
        self,
        items: Mapping[str, Any],
        optional: Mapping[str, tf.Module],
        directory: pathlib.Path,
        strategy: tf.distribute.Strategy,
        max_to_keep: int,
        name: str = "ckpt",
        say: Callable[[str], None] = print,
    ):
        self._items = dict(items)
        self._optional = dict(optional)
        self._directory = directory
        self._folder = workers.own_directory(strategy, directory) / UNVERIFIED
        self._strategy = strategy
        self._max_to_keep = max_to_keep
        self._name = name
        self._say = say
        self._all = {**self._items, **({"actions": self._optional} if self._optional else {})}
        self._checkpoint = tf.train.Checkpoint(**self._all)
        self._size = 0  # of the last one that was saved, in bytes

    def save(self, step: int) -> str:
        """Saves the state of now as that of a step; gives the path.

        Raises:
          DivergedError: for values that are not finite, which are not saved.
          DiskFullError: where there is no room; what was there before stays.
          RunDirectoryError: where it cannot be written, or not be read back.
        """
        self._check_finite()
        final = self._directory / f"{self._name}-{step}"
        folder = self._folder
        failed: list[Exception] = []
        try:
            with writing(final):
                folder.mkdir(parents=True, exist_ok=True)
                self._check_room()
                self._checkpoint.write(str(folder / final.name))
        except RunDirectoryError as error:
            failed.append(error)
        try:
            workers.decided(self._strategy, lambda: self._accept(folder, final, step, failed))
        finally:
            _clear(folder)
        return str(final)

    def _accept(
        self, folder: pathlib.Path, final: pathlib.Path, step: int, failed: list[Exception]
    ) -> None:
        """Gives what was written its name, if it can be read back."""
        if failed:
            raise failed[0]
        written = folder / final.name
        if problem := inspection.problem_of(str(written)):
            raise RunDirectoryError(
                f"{final} could not be read back after it was written ({problem}); see to the disk "
                "and start the same command again, which goes on from the one before."
            )
        with writing(final):
            self._size = _rename(written, final)
            self._tidy(step)

    def _check_finite(self) -> None:
        for key, variable in self.variables.items():
            if variable.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(variable)):
                raise DivergedError(
                    f"{dotted(key)} has values that are not finite; lower the learning rate or set "
                    "trainer.clip_norm. It was not saved."
                )

    @functools.cached_property
    def variables(self) -> dict[str, tf.Variable]:
        """What is saved, without what is optional and the optimizer's slots, by key."""
        return variables_of(self._items)

    def _check_room(self) -> None:
        """Raises OSError where the disk has no room, before anything is written."""
        every = self.variables.values()
        values = sum(v.shape.num_elements() * v.dtype.size for v in every)
        needed = _ROOM * max(values, self._size)
        if shutil.disk_usage(self._directory).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _tidy(self, step: int) -> None:
        """Removes the oldest beyond what is kept, and says in `checkpoint` what there is."""
        others = [s for s in inspection.steps_in(self._directory, self._name) if s != step]
        kept = sorted([*others, step])[-self._max_to_keep :] if self._max_to_keep > 1 else [step]
        lines = [f'model_checkpoint_path: "{self._name}-{step}"']
        lines += [f'all_model_checkpoint_paths: "{self._name}-{s}"' for s in kept]
        write_text(self._directory / "checkpoint", "\n".join(lines) + "\n")
        for old in others:
            if old not in kept:
                for path in reversed(_files(self._directory / f"{self._name}-{old}")):
                    path.unlink(missing_ok=True)

    def newest(self, set_aside: bool = False, fall_back: bool = True) -> str | None:
        """The newest checkpoint that can be read, or None where there never was one.

        Args:
          set_aside: move newer ones, which cannot be read, into the folder `damaged`.
          fall_back: take an older one where the newest cannot be read.

        Raises:
          RunDirectoryError: where there are checkpoints and none can be read, or not the newest and
            an older one is not wanted, or where the one that `checkpoint` names is gone and no
            other is there. Nothing is changed then.
        """
        path = workers.decided(self._strategy, lambda: self._newest(set_aside, fall_back))
        hidden = path is not None and not pathlib.Path(f"{path}.index").is_file()
        if workers.agreed(self._strategy, hidden):
            raise RunDirectoryError(
                f"a worker does not see the checkpoint {path}; --model_dir has to be on a file "
                "system that all workers share."
            )
        return path

    def _newest(self, set_aside: bool, fall_back: bool) -> str | None:
        bad: dict[int, str] = {}
        for step in sorted(inspection.steps_in(self._directory, self._name), reverse=True):
            prefix = str(self._directory / f"{self._name}-{step}")
            if problem := self._problem(prefix):
                bad[step] = problem
                continue
            if bad and not fall_back:
                break
            self._leave_behind(bad, prefix, set_aside)
            return prefix
        if bad:
            (step, problem), *_ = bad.items()
            raise RunDirectoryError(
                f"the checkpoint {self._directory / self._name}-{step} cannot be read ({problem})"
                + (", and no older one can" if fall_back else ", and trainer.fall_back is false")
                + "; bring it back from a copy, or choose another --model_dir."
            )
        self._check_never_saved()
        return None

    def _problem(self, prefix: str) -> str:
        if problem := inspection.problem_of(prefix):
            return problem
        names = inspection.spoiling(inspection.non_finite(prefix))
        return f"{names[0]} is not finite" if names else ""

    def _leave_behind(self, bad: Mapping[int, str], prefix: str, set_aside: bool) -> None:
        """Says which checkpoints are passed over, and moves them aside."""
        for step, problem in bad.items():
            where = ""
            if set_aside:
                folder = self._directory / DAMAGED
                with writing(folder):
                    folder.mkdir(exist_ok=True)
                    for path in _files(self._directory / f"{self._name}-{step}"):
                        os.rename(path, _unused(folder / path.name))
                where = f"; it is kept in {folder}"
            self._say(
                f"WARNING: {self._name}-{step} cannot be read ({problem}){where}; going on from "
                f"{pathlib.Path(prefix).name}"
            )

    def _check_never_saved(self) -> None:
        """Raises RunDirectoryError where there was a checkpoint once, as other files say."""
        state = self._directory / "checkpoint"
        aside = self._directory / DAMAGED
        named = state.read_text(errors="replace") if state.is_file() else ""
        known = f'"{self._name}-' in named or f"/{self._name}-" in named
        if known or (aside.is_dir() and any(aside.glob(f"{self._name}-*"))):
            raise RunDirectoryError(
                f"{self._directory} held checkpoints, and none is left; bring one back from a copy "
                f"or from {aside}, or choose another --model_dir."
            )

    def restore(self, path: str) -> None:
        """Restores a checkpoint, all of which must fit; what is optional may be missing.

        Raises:
          RunDirectoryError: where it cannot be read, or is of another model or optimizer.
        """
        try:
            keys = tf.train.load_checkpoint(path).get_variable_to_shape_map()
            there = {
                name: item
                for name, item in self._optional.items()
                if any(key.startswith(f"{OPTIONAL}{name}/") for key in keys)
            }
            items = {**self._items, **({"actions": there} if there else {})}
            check_fit(path, items)
            with self._strategy.scope():
                status = tf.train.Checkpoint(**items).read(path)
            status.assert_existing_objects_matched()
        except (ValueError, AssertionError) as error:
            raise RunDirectoryError(
                f"the checkpoint {path} does not fit this configuration ({reason(error)}); use the "
                "configuration that wrote it, or another --model_dir."
            ) from error
        except (tf.errors.OpError, IndexError, MemoryError, OSError) as error:
            raise RunDirectoryError(
                f"the checkpoint {path} cannot be read ({reason(error)})."
            ) from error


def _files(prefix: pathlib.Path) -> list[pathlib.Path]:
    """All files of a checkpoint; the index, without which it counts as none, comes last."""
    return sorted(prefix.parent.glob(f"{prefix.name}.*"))


def _rename(written: pathlib.Path, final: pathlib.Path) -> int:
    """Gives a checkpoint its name, and its size; the index last, for with that it is there."""
    size = 0
    for path in _files(written):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        size += path.stat().st_size
        os.replace(path, final.with_name(path.name))
    return size


def _clear(folder: pathlib.Path) -> None:
    """Removes what was not verified, of this process or of one that was killed."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        folder.rmdir()


def _unused(path: pathlib.Path) -> pathlib.Path:
    """The path, or the first of `<path>.1`, `<path>.2`, ... that is not taken."""
    number, free = 0, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
