"""One run per directory: who holds it, who is gone, and races for what is left."""

import collections
import contextlib
import dataclasses
import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from orbit_snn.training import lock, lock_file
from orbit_snn.training.checkpoints import RunDirectoryError
from orbit_snn.training.lock import NAME, RunLock
from orbit_snn.training.lock_file import Holder

FORK = multiprocessing.get_context("fork")
GONE = dataclasses.replace(Holder.here(), pid=2**22 + 1)  # above the largest that Linux gives
ELSEWHERE = dataclasses.replace(Holder.here(), host="elsewhere")


def leave(directory, holder, age=0.0):
    """A lock file of a holder whose last heartbeat was `age` s ago."""
    text = holder if isinstance(holder, str) else json.dumps(dataclasses.asdict(holder))
    (directory / NAME).write_text(text)
    beat = time.time() - age
    os.utime(directory / NAME, (beat, beat))


def refused(directory, **options):
    """The one line of a refusal; the lock and the directory stay as they are."""
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(RunDirectoryError) as refusal, RunLock(directory, **options):
        pass
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    text = str(refusal.value)
    assert "\n" not in text
    return text


def taken(directory, **options):
    """What is said on taking a lock; nothing is left after it."""
    said = []
    with RunLock(directory, say=said.append, **options) as held:
        assert [path.name for path in directory.iterdir()] == [NAME]
        assert Holder.parsed((directory / NAME).read_text()).pid == os.getpid()
        assert not held.lost
    assert not list(directory.iterdir())
    return said


def until(condition):
    """Waits for what another thread or process does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class TestHeld:
    def test_free_again_afterwards(self, tmp_path):
        assert taken(tmp_path) == []
        with pytest.raises(KeyError), RunLock(tmp_path):
            raise KeyError
        assert taken(tmp_path) == []

    def test_by_this_process(self, tmp_path):
        with RunLock(tmp_path) as held:
            text = refused(tmp_path)
            assert re.search(
                rf"another run is using {re.escape(str(tmp_path))} \(host .*, pid {os.getpid()}, "
                r"since \d{4}-.*, last heartbeat 0 s ago\); stop that run or choose another",
                text,
            ), text
            with pytest.raises(RunDirectoryError), held:
                pass
            assert not held.lost
            with pytest.raises(RunDirectoryError), RunLock(tmp_path):
                pass

    def test_by_another_process_until_it_is_killed(self, tmp_path):
        code = "import sys, time; print(flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            started = lock_file._state_and_start(process.pid)[1]
            holder = dataclasses.replace(Holder.here(), pid=process.pid, started=started)
            leave(tmp_path, holder, age=1e4)
            assert f"pid {process.pid}" in refused(tmp_path)
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie
            (said,) = taken(tmp_path)
            assert (
                said
                == f"took over the lock of host {holder.host}, pid {process.pid}, which is gone"
            )

    def test_not_by_children(self, tmp_path):
        with RunLock(tmp_path) as held:
            pid = os.fork()
            if not pid:
                code = 1
                with contextlib.suppress(BaseException):
                    lost = held.lost
                    held.__exit__(None, None, None)
                    code = 0 if lost else 2
                os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert not held.lost
            refused(tmp_path)
        assert taken(tmp_path) == []

    def test_the_thread_ends_with_it(self, tmp_path):
        before = threading.active_count()
        with RunLock(tmp_path):
            assert threading.active_count() == before + 1
        assert threading.active_count() == before


class TestStale:
    @pytest.mark.parametrize(
        "change",
        [{"pid": GONE.pid}, {"pid": 2**70}, {"started": "1"}, {"boot": "another"}],
        ids=lambda change: next(iter(change)),
    )
    def test_gone_from_this_machine(self, tmp_path, change):
        holder = dataclasses.replace(Holder.here(), **change)
        leave(tmp_path, holder)
        (said,) = taken(tmp_path)
        assert said == f"took over the lock of {holder}, which is gone"

    @pytest.mark.parametrize("change", ["host", "machine", "space"])
    def test_another_machine_or_container(self, tmp_path, change):
        gone_here = dataclasses.replace(GONE, boot="" if change == "space" else "another")
        leave(tmp_path, dataclasses.replace(gone_here, **{change: "elsewhere"}), age=100)
        text = refused(tmp_path)
        assert re.search(r"heartbeat (99|100|101) s ago.*try again in (19|20|21) s; else", text), (
            text
        )
        leave(tmp_path, ELSEWHERE, age=130)
        assert len(taken(tmp_path)) == 1

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "\x00" * 300,
            "[" * 100_000,
            json.dumps({**dataclasses.asdict(GONE), "pid": "12"}),
            json.dumps({**dataclasses.asdict(GONE), "pid": 0}),
            json.dumps({**dataclasses.asdict(GONE), "host": "two\nlines"}),
            json.dumps({**dataclasses.asdict(GONE), "token": "/../../elsewhere"}),
            json.dumps({"pid": 12}),
        ],
        ids=range(10),
    )
    def test_damaged(self, tmp_path, text):
        leave(tmp_path, text, age=5)
        assert re.search(r"a lock that cannot be read.* try again in 11\d s", refused(tmp_path))
        leave(tmp_path, text, age=130)
        assert taken(tmp_path) == ["took over the lock that cannot be read"]

    def test_the_clock_of_the_file_system_counts(self, tmp_path, monkeypatch):
        leave(tmp_path, ELSEWHERE)
        with monkeypatch.context() as fast:
            fast.setattr(time, "time", lambda: 1e12)
            refused(tmp_path)

    def test_a_takeover_that_was_killed(self, tmp_path):
        claimant = dataclasses.replace(GONE, token="c" * 32)
        leave(tmp_path, claimant)
        (tmp_path / NAME).rename(tmp_path / f"{NAME}.{GONE.token}")
        leave(tmp_path, GONE)
        assert len(taken(tmp_path)) == 1

    def test_a_takeover_that_goes_on(self, tmp_path):
        leave(tmp_path, ELSEWHERE)
        (tmp_path / NAME).rename(tmp_path / f"{NAME}.{GONE.token}")
        leave(tmp_path, GONE)
        assert "host elsewhere" in refused(tmp_path)


def race(directory, rounds, barrier, results):
    """One of several processes that want a stale lock, over and over."""
    for _ in range(rounds):
        barrier.wait()
        with contextlib.ExitStack() as held:
            said = []
            try:
                held.enter_context(RunLock(directory, say=said.append))
                won = True
            except RunDirectoryError:
                won = False
            barrier.wait()
            results.put((won, len(said)))


class TestRaces:
    @pytest.mark.parametrize("links", [True, False])
    @pytest.mark.parametrize("text", ["gone", "damaged", ""])
    def test_one_process_takes_a_lock(self, tmp_path, monkeypatch, links, text):
        processes, rounds = 3, 40
        if not links:
            monkeypatch.setattr(os, "link", _no_link)
        barrier, results = FORK.Barrier(processes + 1), FORK.Queue()
        arguments = (tmp_path, rounds, barrier, results)
        racers = [FORK.Process(target=race, args=arguments) for _ in range(processes)]
        for racer in racers:
            racer.start()
        for number in range(rounds):
            token = f"{number:032x}"
            if text:
                stale = dataclasses.replace(GONE, token=token) if text == "gone" else text
                leave(tmp_path, stale, age=200)
            barrier.wait(10)
            barrier.wait(10)
            found = collections.Counter(results.get(timeout=10) for _ in racers)
            assert found == {(True, int(bool(text))): 1, (False, 0): processes - 1}, number
            until(lambda: not list(tmp_path.iterdir()))
        for racer in racers:
            racer.join(10)
            assert racer.exitcode == 0


def _no_link(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


class TestHeartbeat:
    def test_is_refreshed(self, tmp_path):
        with RunLock(tmp_path, beat=0.01) as held:
            os.utime(tmp_path / NAME, (1, 1))
            until(lambda: (tmp_path / NAME).stat().st_mtime > 1)
            assert not held.lost

    @pytest.mark.parametrize("beat", [0.01, 1e6])
    def test_a_lock_of_another_is_noticed_and_left_alone(self, tmp_path, beat):
        with RunLock(tmp_path, beat=beat) as held:
            leave(tmp_path, ELSEWHERE, age=50)
            held._seen -= 2e6  # so long ago was the last look, as after a suspension
            until(lambda: held.lost)
        assert Holder.parsed((tmp_path / NAME).read_text()) == ELSEWHERE
        assert (tmp_path / NAME).stat().st_mtime < time.time() - 40

    def test_a_removed_lock_is_noticed(self, tmp_path):
        with RunLock(tmp_path, beat=0.01) as held:
            (tmp_path / NAME).unlink()
            until(lambda: held.lost)
        assert held.lost

    def test_a_damaged_lock_is_kept(self, tmp_path):
        with RunLock(tmp_path, beat=0.01) as held:
            leave(tmp_path, "", age=1000)
            until(lambda: (tmp_path / NAME).stat().st_mtime > time.time() - 500)
            assert not held.lost
            refused(tmp_path)

    def test_a_file_system_that_is_away(self, tmp_path, monkeypatch):
        asked = []

        def away(path):
            asked.append(path)
            raise OSError(errno.EIO, "away")

        with RunLock(tmp_path, beat=0.01) as held:
            monkeypatch.setattr(lock, "find", away)
            until(lambda: len(asked) > 3)
            assert not held.lost
            monkeypatch.undo()
        assert not list(tmp_path.iterdir())


class TestDirectories:
    def test_that_cannot_be_written(self):
        with pytest.raises(
            RunDirectoryError, match=r"^the directory /proc cannot be locked \(.+\)"
        ):
            RunLock("/proc").__enter__()

    def test_missing(self, tmp_path):
        with pytest.raises(RunDirectoryError, match="cannot be locked .No such file"):
            RunLock(tmp_path / "no").__enter__()

    def test_full(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "link", full)
        with pytest.raises(RunDirectoryError, match="cannot be locked .No space left"):
            RunLock(tmp_path).__enter__()
        assert not list(tmp_path.iterdir())

    def test_something_else_of_that_name(self, tmp_path):
        (tmp_path / NAME).mkdir()
        with pytest.raises(RunDirectoryError, match="cannot be locked .run.lock is no file"):
            RunLock(tmp_path).__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [NAME]

    def test_an_answer_of_a_file_server_that_was_lost(self, tmp_path, monkeypatch):
        link = os.link

        def repeated(own, path):
            link(own, path)
            raise FileExistsError(errno.EEXIST, "exists")

        monkeypatch.setattr(os, "link", repeated)
        assert taken(tmp_path) == []


def test_a_killed_run(tmp_path):
    """A process that holds the lock itself, killed."""
    parent, child = FORK.Pipe()

    def hold():
        with RunLock(tmp_path):
            child.send(None)
            time.sleep(60)

    process = FORK.Process(target=hold)
    process.start()
    parent.recv()
    assert f"pid {process.pid}," in refused(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(taken(tmp_path)) == 1
