"""Which rows of the conformance tests run: a fifth of long tables, all of them with --thorough.

Tables that are marked `every_row` always run as a whole.
"""

import collections
import pathlib
import zlib

import pytest
import tensorflow as tf

from tests.conformance import zoo

FEW, OF = 8, 5
HERE = pathlib.Path(__file__).parent


@pytest.fixture
def writing(tmp_path):
    """A writer of summaries as Orbit's loops have it: a summary in a step is then in its graph."""
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default(step=tf.constant(0, tf.int64)), tf.summary.record_if(True):
        yield


def pytest_collection_modifyitems(config, items):
    """Leaves rows out by a number made of their names, but never the hardest populations."""
    if config.getoption("--thorough"):
        return
    own = [item for item in items if HERE in item.path.parents]
    rows = collections.Counter(_table(item) for item in own)
    long = [item for item in own if rows[_table(item)] > FEW and not _whole(item)]
    left_out = [item for item in long if not _chosen(item.nodeid)]
    unwanted = set(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in unwanted]


def _table(item):
    return item.nodeid.partition("[")[0]


def _whole(item):
    return item.get_closest_marker("every_row") is not None


def _chosen(name):
    return any(row in name for row in zoo.HARD) or zlib.crc32(name.encode()) % OF == 0
