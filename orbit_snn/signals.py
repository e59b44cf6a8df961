"""Signals that ask a run to stop: it finishes what it is at, and a second one ends it at once."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

TERMINATED = 42  # exit code after SIGTERM: the same command goes on where this one stopped
INTERRUPTED = 130  # after SIGINT
CODES = {signal.SIGTERM: TERMINATED, signal.SIGINT: INTERRUPTED}


class StopSignals:
    """While it is entered, SIGTERM and SIGINT are noted, even within a long call of TensorFlow.

    Python runs signal handlers between two of its own instructions, which may be minutes apart
    while a step is compiled. What the operating system delivers is put into a pipe at once, and a
    thread reads that. Outside of the main thread, which alone can take signals, nothing is done.

    Args:
      patience: signals that are noted; the one after them ends the process: a first one with 42 or
        130, a later one with 128 + its number, as after a death by that signal.
      say: is told about every signal.

    Attributes:
      received: the last signal that was noted, or None.
    """

    def __init__(self, patience: int, say: Callable[[str], None]):
        self._patience = patience
        self._say = say
        self._count = 0
        self._before: dict[int, Any] = {}
        self.received: signal.Signals | None = None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._out, self._into = os.pipe()
        os.set_blocking(self._into, False)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._pipe_before = signal.set_wakeup_fd(self._into, warn_on_full_buffer=False)
        self._before = {n: signal.signal(n, lambda *_: None) for n in CODES}
        return self

    def __exit__(self, *_: Any) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._pipe_before)
        os.write(self._into, b"\0")
        self._thread.join()
        os.close(self._out)
        os.close(self._into)
        self._before = {}

    def _read(self) -> None:
        while number := os.read(self._out, 1)[0]:
            if number in CODES:
                self._take(signal.Signals(number))

    def _take(self, number: signal.Signals) -> None:
        self._count += 1
        if self._count > self._patience:
            self._say(f"{number.name}: stopped at once")
            os._exit(CODES[number] if self._count == 1 else 128 + number)
        self.received = number
        self._say(f"{number.name}: this loop is finished and saved; once more to stop at once")
