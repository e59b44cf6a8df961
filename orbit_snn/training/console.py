"""What a person at the terminal sees: one line a loop with an ETA, a bar on a real terminal."""

import contextlib
import datetime
import io
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import numpy as np

_SHOWN = ("loss", "accuracy", "nmse", "gradient_norm", "learning_rate")


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """The scalars that a person follows, `loss 0.51 | accuracy 0.85 | cell0 24.1 Hz`."""
    shown = [f"{name} {metrics[name]:.4g}" for name in _SHOWN if name in metrics]
    others = [
        f"{name} {value:.4g}"
        for name, value in metrics.items()
        if name not in _SHOWN and "/" not in name and np.ndim(value) == 0
    ]
    rates = [
        f"{name.removeprefix('rate_hz/')} {value:.1f} Hz"
        for name, value in metrics.items()
        if name.startswith("rate_hz/")
    ]
    return " | ".join([*shown, *others, *rates])


class Console:
    """Prints the progress of a run.

    Args:
      train_steps: where the run ends.
      start_step: where it starts, after a restore.
      stream: where to print; default the standard output.
    """

    def __init__(self, train_steps: int, start_step: int, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._train_steps = train_steps
        self._start_step = start_step
        self._start = self._last = time.perf_counter()
        self._last_step = start_step
        self.first_loop_seconds: float | None = None
        self._settled: tuple[int, float] | None = None

    def line(self, text: str) -> None:
        """One line, above the bar if there is one."""
        erase = "\r\033[K" if self._terminal else ""
        print(f"{erase}{text}", file=self._stream, flush=True)

    def loop(self, step: int, metrics: Mapping[str, Any]) -> None:
        """The line of a training loop that ended at `step`."""
        now = time.perf_counter()
        speed = (step - self._last_step) / (now - self._last)
        self._last, self._last_step = now, step
        if self._settled is None:
            self.first_loop_seconds = now - self._start
            self._settled = (step, now)
            self.line(f"traced, compiled and ran the first loop in {now - self._start:.1f} s")
        remaining = (self._train_steps - step) / (self.steps_per_second or speed)
        eta = datetime.timedelta(seconds=round(remaining))
        self.line(
            f"train {step}/{self._train_steps} | {format_metrics(metrics)} | "
            f"{speed:.1f} steps/s | ETA {eta}"
        )
        self._bar(step)

    @property
    def steps_per_second(self) -> float:
        """Over all loops but the first, which traces and compiles; 0 before there are two."""
        if self._settled is None or self._last_step == self._settled[0]:
            return 0.0
        return (self._last_step - self._settled[0]) / (self._last - self._settled[1])

    def _bar(self, step: int) -> None:
        if self._terminal and step < self._train_steps:
            done = 30 * step // self._train_steps
            bar = "#" * done + "." * (30 - done)
            print(f"[{bar}] {100 * step // self._train_steps} %", end="", file=self._stream)
            self._stream.flush()


class _WithoutOrbitLines(io.TextIOBase):
    """A text stream that leaves out what Orbit's controller prints and passes on the rest.

    Orbit prints a call's text and its line end separately, so a dropped text takes its line end
    along.
    """

    _STARTS = ("train | step:", " eval | step:", "restor", "initialized model", "saved checkpoint")

    def __init__(self, stream: TextIO):
        super().__init__()
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        if self._dropped and text == "\n":
            self._dropped = False
        elif text.startswith(self._STARTS):
            self._dropped = True
        else:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


@contextlib.contextmanager
def quiet_orbit() -> Iterator[None]:
    """Keeps Orbit's own lines off the standard output: ours say the same, with an ETA."""
    with contextlib.redirect_stdout(_WithoutOrbitLines(sys.stdout)):
        yield
