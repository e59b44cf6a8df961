"""Which rows of the conformance tests run; all of them with --thorough.

Of a long table, as few as have every setting in them: every value of an argument with a few values;
of one with many, such as the neurons, the hardest ones and a fifth of the others, or all of them
where the test is marked `every_value`. Tables that are marked `every_row` run as a whole.
"""

import collections
import pathlib
import zlib

import pytest
import tensorflow as tf

from tests.conformance import zoo

LONG, MANY, OF = 6, 6, 5
HERE = pathlib.Path(__file__).parent


@pytest.fixture
def writing(tmp_path):
    """A writer of summaries as Orbit's loops have it: a summary in a step is then in its graph."""
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default(step=tf.constant(0, tf.int64)), tf.summary.record_if(True):
        yield


def pytest_configure(config):
    config.addinivalue_line("markers", "every_value: run each value of each argument at least once")


def pytest_collection_modifyitems(config, items):
    """Leaves out what a few rows of a table have in them already."""
    if config.getoption("--thorough"):
        return
    tables = collections.defaultdict(list)
    for item in items:
        if HERE in item.path.parents:
            tables[item.nodeid.partition("[")[0]].append(item)
    left_out = {item for rows in tables.values() if _is_long(rows) for item in _left_out(rows)}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def _left_out(rows):
    """Rows without which every wanted setting is still there, found greedily."""
    settings = {row: set(_settings(row.callspec)) for row in rows}
    known = set().union(*settings.values())
    many = {
        name for name, count in collections.Counter(n for n, _ in known).items() if count > MANY
    }
    every = rows[0].get_closest_marker("every_value") is not None
    table = rows[0].nodeid.partition("[")[0]
    wanted = {(name, x) for name, x in known if every or name not in many or _drawn(x, table)}
    rest = sorted(rows, key=lambda row: zlib.crc32(row.nodeid.encode()))
    while wanted:
        best = max(rest, key=lambda row: len(settings[row] & wanted))
        wanted -= settings[best]
        rest.remove(best)
    return rest


def _is_long(rows):
    return len(rows) > LONG and rows[0].get_closest_marker("every_row") is None


def _settings(callspec):
    """Names of arguments with what tells their values apart, the same in every process."""
    for name, value in callspec.params.items():
        plain = isinstance(value, str | int | float | None)
        yield name, str(value) if plain else f"number {callspec.indices[name]}"


def _drawn(value, table):
    return value in zoo.HARD or zlib.crc32(f"{table} {value}".encode()) % OF == 0
