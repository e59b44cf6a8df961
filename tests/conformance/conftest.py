"""Which rows of the conformance tests run: a fifth of long tables, all of them with --thorough."""

import collections
import pathlib
import zlib

from tests.conformance import zoo

FEW, OF = 8, 5
HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    """Leaves rows out by a number made of their names, but never the hardest populations."""
    if config.getoption("--thorough"):
        return
    own = [item for item in items if HERE in item.path.parents]
    rows = collections.Counter(_table(item) for item in own)
    left_out = [item for item in own if rows[_table(item)] > FEW and not _chosen(item.nodeid)]
    unwanted = set(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in unwanted]


def _table(item):
    return item.nodeid.partition("[")[0]


def _chosen(name):
    return any(row in name for row in zoo.HARD) or zlib.crc32(name.encode()) % OF == 0
