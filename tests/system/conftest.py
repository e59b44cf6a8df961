"""One fork server, one prepared data set and one finished run for all system tests."""

import dataclasses
import pathlib

import pytest

from tests.system.harness import CommandLine, Finished, ForkServer


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = ForkServer(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def data_dir(server, tmp_path_factory):
    """The digits, prepared once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "tfds"
    server.call("prepare_digits", data_dir=str(folder))
    return folder


@pytest.fixture(scope="session")
def cli(server, data_dir):
    return CommandLine(server, data_dir)


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run that nobody may change, and what its process said."""

    directory: pathlib.Path
    process: Finished


@pytest.fixture(scope="session")
def finished(cli, tmp_path_factory):
    """Trained and evaluated by a process of its own, with pictures and XLA."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    overrides = {"trainer.pictures": 1, "runtime.enable_xla": "true"}
    process = cli.process(directory, overrides)
    assert process.code == 0, process
    return FinishedRun(directory, process)
