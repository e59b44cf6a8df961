"""What the workers of a run decide together; with one worker everything here does nothing.

All workers run the same program, and every exchange waits for all of them. So what could differ
between them (a signal, a clock, files) is asked of all or of the chief, and then known to all:

    if agreed(strategy, stop_was_asked_for):               # of any worker
    path = decided(strategy, lambda: newest_checkpoint())  # by the chief, errors too
"""

import atexit
import contextlib
import itertools
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO, TypeVar

import numpy as np
import tensorflow as tf

T = TypeVar("T")


class WorkerError(RuntimeError):
    """The workers cannot go on together; the message says what to do."""


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """Processes that train together."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    cluster = strategy.cluster_resolver.cluster_spec()
    return max(1, sum(cluster.num_tasks(job) for job in cluster.jobs))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes and prints."""
    return bool(strategy.extended.should_checkpoint)


def agreed(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Whether the flag is true on any worker; all workers have to ask."""
    return bool(_total(strategy, [int(flag)])[0])


def same_everywhere(strategy: tf.distribute.Strategy, value: T) -> T:
    """The chief's value, on every worker; all workers have to ask.

    Args:
      strategy: of the run.
      value: anything that JSON knows; only the chief's counts.
    """
    if worker_count(strategy) == 1:
        return value
    text = json.dumps(value).encode() if is_chief(strategy) else b""
    size = _total(strategy, [len(text)])[0]
    own = list(text.ljust(size, b"\0") if text else bytes(size))
    return json.loads(bytes(_total(strategy, own)))


def decided(strategy: tf.distribute.Strategy, decide: Callable[[], T]) -> T:
    """What the chief decides, on every worker; all workers have to ask.

    Args:
      strategy: of the run.
      decide: called on the chief alone; it gives anything that JSON knows.

    Raises:
      WorkerError: on the other workers, where the chief got an error.
    """
    if worker_count(strategy) == 1:
        return decide()
    failed: Exception | None = None
    answer: list[Any] = []
    if is_chief(strategy):
        try:
            answer = [decide()]
        except Exception as error:
            failed = error
    reason, found = same_everywhere(strategy, (failed and str(failed), answer))
    if failed is not None:
        raise failed
    if reason is not None:
        raise WorkerError(f"the chief stopped: {reason}")
    return found[0]


def own_directory(strategy: tf.distribute.Strategy, directory: pathlib.Path) -> pathlib.Path:
    """Where this worker writes what all have to write together, such as a checkpoint.

    `directory` for the chief; for the others one of their own, which is removed when they end.
    """
    if is_chief(strategy):
        return directory
    temporary = tempfile.TemporaryDirectory(prefix="orbit_snn-worker-", ignore_cleanup_errors=True)
    atexit.register(temporary.cleanup)
    return pathlib.Path(temporary.name)


def own_stream(strategy: tf.distribute.Strategy) -> TextIO:
    """Where this worker prints: the standard output of the chief, nowhere for the others."""
    return sys.stdout if is_chief(strategy) else open(os.devnull, "w")


def check_alike(strategy: tf.distribute.Strategy, what: str, text: str) -> None:
    """Checks that all workers were given the same.

    Args:
      strategy: of the run.
      what: the name of the text, for the message.
      text: of this worker.

    Raises:
      WorkerError: on all workers, where one has another text.
    """
    lines, chief = text.splitlines(), same_everywhere(strategy, text).splitlines()
    pairs = itertools.zip_longest(lines, chief, fillvalue="nothing")
    differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if agreed(strategy, differing is not None):
        own, other = map(str.strip, differing) if differing else ("the chief's", "another")
        raise WorkerError(
            f"the workers have different {what}s ({own} here, {other} there); start all with the "
            "same command."
        )


def numbers_of_the_chief(
    strategy: tf.distribute.Strategy, results: Mapping[str, Any]
) -> dict[str, float]:
    """Every number among some results, as the chief has it; other machines may round otherwise."""
    numbers = {name: float(value) for name, value in results.items() if np.ndim(value) == 0}
    return same_everywhere(strategy, numbers)


@contextlib.contextmanager
def together(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Around everything that exchanges with other workers: says when one of them is gone.

    Raises:
      WorkerError: where an exchange failed.
    """
    try:
        yield
    except _GONE as error:
        if worker_count(strategy) == 1:
            raise
        reason = str(error).splitlines()[0]
        raise WorkerError(
            "a worker is gone; start all workers again with the same command, and they go on from "
            f"the last checkpoint ({reason})"
        ) from error


def _total(strategy: tf.distribute.Strategy, values: list[int]) -> list[int]:
    """Sums over the workers."""
    if worker_count(strategy) == 1 or not values:
        return values
    with together(strategy):
        own = tf.constant(values, tf.int32)
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, own, axis=None)
        return [int(value) for value in total.numpy()]


_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
