"""One seed a run, any number of independent seeds out of it, whatever else draws numbers."""

import zlib


def derive(seed: int, *path: object) -> int:
    """Returns a seed in [0, 2^31) that depends on `seed` and the names or numbers in `path`."""
    return zlib.crc32(repr((int(seed), *map(str, path))).encode()) & 0x7FFFFFFF
