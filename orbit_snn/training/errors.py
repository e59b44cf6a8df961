"""Errors of a run that speak to the person who started it, with the exit code of each."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

import tensorflow as tf

DISK_FULL = 28  # the number of ENOSPC


class RunDirectoryError(RuntimeError):
    """The model directory cannot be used as asked; the message says what to do."""

    exit_code = 1


class DiskFullError(RunDirectoryError):
    """There is no room for what is to be written; nothing older was removed."""

    exit_code = DISK_FULL


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""

    exit_code = 1


class DivergedError(TrainingError):
    """A loss, a gradient or a weight is not finite, or larger than it may be."""


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Says in one line what is wrong where something is written.

    Raises:
      DiskFullError: where there is no room.
      RunDirectoryError: where it cannot be written for another reason.
    """
    with full_disk(path):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            if _is_full(error):
                raise
            raise RunDirectoryError(
                f"{path} cannot be written ({reason(error)}); see to it and start the same command "
                "again. Nothing that was there before is lost."
            ) from error


@contextlib.contextmanager
def full_disk(path: pathlib.Path) -> Iterator[None]:
    """Says in one line that there is no room, whoever of Python and TensorFlow found out.

    Raises:
      DiskFullError: where there is no room.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if not _is_full(error):
            raise
        raise DiskFullError(
            f"the disk is full: {path} could not be written; free some space and start the same "
            "command again. Nothing that was there before is lost."
        ) from error


def _is_full(error: Exception) -> bool:
    known = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in known or any(
        os.strerror(number) in str(error) for number in known
    )


def reason(error: Exception) -> str:
    """The first line of an error, without the name of the operation in which it was raised."""
    text = str(getattr(error, "message", "") or error).strip() or type(error).__name__
    return text.splitlines()[0].split(" [Op:")[0]
