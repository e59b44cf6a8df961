"""What happens to files, and a disk on which there is little room."""

import contextlib
import subprocess

import pytest


def flipped(content, where):
    place = int(len(content) * where)
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


ACCIDENTS = {
    "truncated": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "zeroed": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "deleted": None,
    "flipped": lambda content: flipped(content, 0.5),
    "flipped early": lambda content: flipped(content, 0.1),
    "something else": lambda content: b"\xff{[" * 50,
}


def damage(path, accident):
    change = ACCIDENTS[accident]
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))


@contextlib.contextmanager
def small_disk(path, size):
    """A file system of so many bytes."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
