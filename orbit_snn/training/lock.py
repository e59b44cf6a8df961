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
import datetime
import errno
import json
import os
import pathlib
import re
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from orbit_snn.training.checkpoints import RunDirectoryError

NAME = "run.lock"
BEAT = 10.0  # seconds between heartbeats
STALE = 120.0  # seconds after which a heartbeat is old

_LARGEST = 4096  # bytes of a lock file that are read
_ROUNDS = 100  # of finding a lock that changes all the time
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process that holds a lock. What the platform does not tell is empty.

    Attributes:
      host: its name.
      machine: id of the installation, for hosts of equal names.
      boot: id of the boot.
      space: id of the name space of process numbers, which a container has of its own.
      pid: process number.
      started: when the process started, in ticks since boot.
      taken: date and time at which it took the lock, by its clock.
      token: 32 random hexadecimal digits.
    """

    host: str
    machine: str
    boot: str
    space: str
    pid: int
    started: str
    taken: str
    token: str

    @classmethod
    def here(cls) -> Self:
        """This process, with a new token."""
        try:
            space = os.readlink("/proc/self/ns/pid")
        except OSError:
            space = ""
        return cls(
            host=socket.gethostname(),
            machine=_first_line("/etc/machine-id"),
            boot=_first_line("/proc/sys/kernel/random/boot_id"),
            space=space,
            pid=os.getpid(),
            started=_state_and_start(os.getpid())[1],
            taken=datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
            token=secrets.token_hex(16),
        )

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """Of the text of a lock file; None where that is damaged."""
        try:
            content = json.loads(text)
            holder = cls(**{field.name: content[field.name] for field in dataclasses.fields(cls)})
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        texts = [value for name, value in vars(holder).items() if name != "pid"]
        sound = type(holder.pid) is int and holder.pid > 0
        sound = sound and all(isinstance(text, str) and text.isprintable() for text in texts)
        return holder if sound and re.fullmatch("[0-9a-f]{32}", holder.token) else None

    def runs(self) -> bool | None:
        """Whether its process lives; None where that cannot be told from here."""
        here = Holder.here()
        if (self.host, self.machine) != (here.host, here.machine) or os.name != "posix":
            return None
        if self.boot and here.boot and self.boot != here.boot:
            return False
        if self.space != here.space:
            return None
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            pass
        except (ProcessLookupError, OverflowError):
            return False
        state, started = _state_and_start(self.pid)
        same = not (started and self.started) or started == self.started
        return same and state not in ("Z", "X")

    def __str__(self) -> str:
        return f"host {self.host}, pid {self.pid}"


@dataclasses.dataclass(frozen=True)
class Found:
    """A lock file that was found.

    Attributes:
      holder: None where the file is damaged.
      key: differs between any two locks that ever were in the place.
      beat: time of the last heartbeat, in seconds, of the file system's clock.
    """

    holder: Holder | None
    key: str
    beat: float

    def is_stale(self, now: float, after: float = STALE) -> bool:
        """Whether its holder is gone, or not heard of for more than `after` s."""
        runs = self.holder.runs() if self.holder else None
        return now - self.beat > after if runs is None else not runs

    def described(self, now: float) -> str:
        """Who, since when, and the last sign of life."""
        ago = f"last heartbeat {max(0, round(now - self.beat))} s ago"
        if self.holder is None:
            return f"a lock that cannot be read, {ago}"
        return f"{self.holder}, since {self.holder.taken}, {ago}"


def find(path: pathlib.Path) -> Found | None:
    """The lock file there, or None.

    Raises:
      OSError: where it cannot be looked at.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, f"{path.name} is no file")
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            holder = Holder.parsed(file.read(_LARGEST).decode(errors="replace"))
    except FileNotFoundError:
        return None
    key = holder.token if holder else f"{status.st_ino}-{status.st_mtime_ns}"
    return Found(holder, key, status.st_mtime)


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


def _state_and_start(pid: int) -> tuple[str, str]:
    """State of a process, and when it started in ticks since boot; empty where unknown."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError, ValueError):
        return "", ""


def _first_line(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().strip()
    except (OSError, ValueError):
        return ""
