"""Tables of which `make test` runs some rows and `make thorough` all."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def leading(rows: Iterable[Any], chosen: Collection[Any]) -> list[Any]:
    """Rows for `parametrize`, those that are not chosen for `--thorough` only."""
    return [pytest.param(row, marks=() if row in chosen else pytest.mark.thorough) for row in rows]
