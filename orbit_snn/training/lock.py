"""One run per directory: a lock file that says who holds it, on any file system.

The lock is the file `run.lock`, which appears whole (a hard link to a file that is written
already, where the file system has links). Its modification time is the heartbeat. Times are those
of the file system's own clock: the clocks of two machines differ.

A lock is stale where its process is gone, which is known on the machine that made it, or else where
its heartbeat is old. Of several processes that find a lock stale at the same time one takes it
over. To replace a lock with token T one has to hold `run.lock.T`, itself such a lock, and to find T
still there: a lock that was replaced in the meantime has another token.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from orbit_snn.training.errors import RunDirectoryError
from orbit_snn.training.lock_file import STALE, Found, Holder, find

NAME = "run.lock"
BEAT = 10.0  # seconds between heartbeats

_ROUNDS = 100  # of finding a lock that changes all the time
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class RunLock:
    """Holds the lock of a run's directory.

        with RunLock(directory) as lock:
            while not (done or lock.lost):
                ...

    A thread refreshes the heartbeat. Children of a fork do not hold the lock. It is released on
    the way out, or by the end of the process.

    Args:
      directory: of the run; it exists.
      say: gets a line about a lock that was taken over.
      beat: seconds between heartbeats.
      stale: seconds after which a process on another machine that gives no sign of life is gone.

    Raises:
      RunDirectoryError: on the way in, where another run holds the lock, or the directory cannot
        be written.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        say: Callable[[str], None] = print,
        beat: float = BEAT,
        stale: float = STALE,
    ):
        self._path = pathlib.Path(directory) / NAME
        self._say = say
        self._seconds = beat
        self._stale = stale
        self._mine: Holder | None = None
        self._lost = False

    def __enter__(self) -> Self:
        mine = Holder.here()
        try:
            before = _take(self._path, mine, self._stale)
        except _HeldError as held:
            raise RunDirectoryError(self._refusal(held)) from None
        except OSError as error:
            raise RunDirectoryError(
                f"the directory {self._path.parent} cannot be locked "
                f"({error.strerror or error}); choose another --model_dir."
            ) from error
        self._mine, self._lost = mine, False
        self._seen = time.monotonic()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name=NAME, daemon=True)
        self._thread.start()
        if before:
            who = f"of {before.holder}, which is gone" if before.holder else "that cannot be read"
            self._say(f"took over the lock {who}")
        return self

    def __exit__(self, *_: Any) -> None:
        mine, self._mine = self._mine, None
        if mine is None or mine.pid != os.getpid():
            return
        self._released.set()
        self._thread.join(self._seconds)
        with contextlib.suppress(OSError):
            found = find(self._path)
            if found and found.key == mine.token:
                self._path.unlink(missing_ok=True)

    @property
    def lost(self) -> bool:
        """Whether this process does not hold the lock: another took it, or a person removed it."""
        if self._mine is None or self._mine.pid != os.getpid():
            return True
        if not self._lost and time.monotonic() - self._seen > self._seconds:
            self._beat(self._mine)
        return self._lost

    def _keep_beating(self) -> None:
        mine = self._mine
        while mine and not self._lost and not self._released.wait(self._seconds):
            self._beat(mine)

    def _beat(self, mine: Holder) -> None:
        """One heartbeat, if the lock is still there; a file system may be away for a moment."""
        with contextlib.suppress(OSError):
            found = find(self._path)
            damaged = found is not None and found.holder is None  # while it was held: it stays ours
            self._lost = not damaged and (found is None or found.key != mine.token)
            self._seen = time.monotonic()
            if not self._lost:
                os.utime(self._path)

    def _refusal(self, held: "_HeldError") -> str:
        found, now = held.found, held.now
        todo = "stop that run or choose another --model_dir."
        if found.holder is None or found.holder.runs() is None:
            rest = max(1, round(self._stale - (now - found.beat)))
            todo = f"if it is gone, try again in {rest} s; else {todo}"
        directory = self._path.parent
        return f"another run is using {directory} ({found.described(now)}); {todo}"


class _HeldError(Exception):
    """Another process holds the lock: what was found, and at which time by its clock."""

    def __init__(self, found: Found, now: float):
        super().__init__()
        self.found = found
        self.now = now


def _take(path: pathlib.Path, mine: Holder, stale: float) -> Found | None:
    """Makes the lock ours and returns the stale one that was there, if any.

    Raises:
      _HeldError: where another process holds it, or is about to.
      OSError: where the directory cannot be written.
    """
    own = path.with_name(f".{path.name}.{mine.token}")
    try:
        own.write_text(json.dumps(dataclasses.asdict(mine)) + "\n")
        for _ in range(_ROUNDS):
            if _put(own, path):
                return None
            os.utime(own)
            now = own.stat().st_mtime
            found = find(path)
            if found is None:
                continue
            if not found.is_stale(now, stale):
                raise _HeldError(found, now)
            claim = path.with_name(f"{path.name}.{found.key}")
            _take(claim, mine, stale)
            try:
                if (again := find(path)) and again.key == found.key:
                    os.replace(own, path)
                    return found
            finally:
                claim.unlink(missing_ok=True)
        raise OSError(errno.EBUSY, f"{path.name} changes all the time")
    finally:
        own.unlink(missing_ok=True)


def _put(own: pathlib.Path, path: pathlib.Path) -> bool:
    """Makes `path` a file with the content of `own`; False where there is one."""
    try:
        os.link(own, path)
        return True
    except FileExistsError:
        # A file server repeats a request whose answer was lost, and meets its own link.
        return path.exists() and os.path.samefile(own, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    try:
        with open(path, "xb") as file:
            file.write(own.read_bytes())
    except FileExistsError:
        return False
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True
