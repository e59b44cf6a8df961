"""The file of a lock: who holds it, and whether that process is gone."""

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
from typing import Self

STALE = 120.0  # seconds after which a heartbeat is old
_LARGEST = 4096  # bytes of a lock file that are read


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
