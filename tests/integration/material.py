"""What the tests transfer: random data, awkward names, sparse files; and how they compare it.

Random data comes from a seed that every failure shows: put the seed in a ``Material`` to see the
same bytes again.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
import unittest
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Well before any clock skew or daylight saving: 2001-09-09 01:46:40 UTC.
LONG_AGO = 1_000_000_000

# Around the sizes at which a transfer takes one request more: 32 KiB is what most clients ask for,
# 255 KiB the most OpenSSH's client asks for, 256 KiB the longest packet.
ODD_SIZES = sorted(
    {0, 1, 3 * MIB + 7}
    | {base + step for base in (32 * KIB, 255 * KIB, 256 * KIB) for step in (-1, 0, 1)}
    | {32 * KIB * 64 + 1}
)

# Names that a line of sftp's batch can hold, in one way of quoting or another.
PRINTABLE_NAMES = [
    b"two words",
    b"  leading and trailing  ",
    b"it's",
    b'say "hello"',
    b"back\\slash",
    b"-rf",
    b".hidden",
    b"star*question?[bracket]",
    b"semi;colon&dollar$HOME`id`",
    "žluťoučký kůň 漢字 🐎".encode(),
    b"n" * 255,
    ("é" * 127 + "x").encode(),
]
# Names that only a program can type.
UNPRINTABLE_NAMES = [
    b"new\nline",
    b"tab\tbell\x07escape\x1b[31m",
    b"latin1 \xe9t\xe9",
    b"\xff\xfe\x80",
    b"cut short \xe2\x82",
    b"\xfe" * 255,
]
AWKWARD_NAMES = PRINTABLE_NAMES + UNPRINTABLE_NAMES


class Material:
    """Random bytes, reproducible from ``seed``."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = random.randrange(2**32) if seed is None else seed
        self._random = random.Random(self.seed)

    def bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def odd_files(self, directory: Path, sizes: Iterable[int] = ODD_SIZES) -> None:
        """Make a file of each size, named after it."""
        directory.mkdir(parents=True, exist_ok=True)
        for size in sizes:
            (directory / f"{size}.bin").write_bytes(self.bytes(size))

    def tree(self, top: Path) -> None:
        """Make a small tree: directories in directories, empty ones, files of a few sizes."""
        for directory in ("a/b/c", "a/empty", "d e", "f"):
            (top / directory).mkdir(parents=True)
        for index, place in enumerate(("", "a", "a/b", "a/b/c", "d e", "f", "f")):
            size = self._random.choice((0, 1, 1000, 33_000, 70_001))
            (top / place / f"file {index}").write_bytes(self.bytes(size))


def awkward_files(directory: Path, names: Iterable[bytes] = AWKWARD_NAMES) -> None:
    """Make a file under each name, whose content is its name."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        with open(os.path.join(os.fsencode(directory), name), "wb") as file:
            file.write(b"I am " + name)


def many_files(directory: Path, count: int) -> list[str]:
    """Make names of an empty file and return them, sorted. Making files takes ten times as long."""
    directory.mkdir()
    names = [f"entry {number:05}" for number in range(count)]
    (directory / names[0]).touch()
    for name in names[1:]:
        (directory / name).hardlink_to(directory / names[0])
    return names


def sparse(path: Path, size: int, tail: bytes = b"") -> None:
    """Make a file of this size that is a hole, but for its last bytes."""
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size - len(tail))
        file.write(tail)


def tail(path: Path, size: int) -> bytes:
    """Return the last bytes of a file."""
    with path.open("rb") as file:
        file.seek(-size, os.SEEK_END)
        return file.read()


def contents(top: Path) -> dict[bytes, bytes]:
    """Return every path under a directory with a digest of what is there.

    Symbolic links give their target, directories nothing.
    """
    found: dict[bytes, bytes] = {}
    waiting = [os.fsencode(top)]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            path = os.path.relpath(entry.path, os.fsencode(top))
            if entry.is_symlink():
                found[path] = b"link to " + os.readlink(entry.path)
            elif entry.is_dir():
                found[path] = b"directory"
                waiting.append(entry.path)
            else:
                with open(entry.path, "rb") as file:
                    found[path] = hashlib.file_digest(file, "sha256").hexdigest().encode()
    return found


def snapshot(top: Path) -> dict[bytes, tuple[int, ...] | bytes]:
    """Return all that a client could have changed under a directory, the directory included."""
    state: dict[bytes, tuple[int, ...] | bytes] = dict(contents(top))
    for path in [b"", *contents(top)]:
        status = os.lstat(os.path.join(os.fsencode(top), path))
        state[path + b" (status)"] = (
            status.st_mode,
            status.st_nlink,
            status.st_uid,
            status.st_gid,
            status.st_size,
            status.st_mtime_ns,
        )
    return state


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def assert_same_trees(case: unittest.TestCase, first: Path, second: Path, seed: int = 0) -> None:
    """Fail unless two directories hold the same names with the same contents."""
    case.maxDiff = None
    case.assertEqual(contents(first), contents(second), f"seed {seed}")


def assert_both_ways(case: Any, name: str, seed: int = 0) -> None:
    """Fail unless a directory went from case.local to case.jail, and back to `back` in case.local."""
    assert_same_trees(case, case.local / name, case.jail / name, seed)
    assert_same_trees(case, case.local / name, case.local / "back", seed)


def assert_resumes(case: unittest.TestCase, jail: Path, local: Path, resume: Callable[[], object]) -> None:
    """Fail unless `resume` sends what is missing of `down` in local and of `up` in the jail, and no more."""
    data = Material()
    content = data.bytes(500_000)
    (jail / "down").write_bytes(content)
    (local / "down").write_bytes(b"#" * 123_457)
    (local / "up").write_bytes(content)
    (jail / "up").write_bytes(b"#" * 123_457)
    resume()
    # The wrong beginning is still there: only the rest was sent.
    expected = b"#" * 123_457 + content[123_457:]
    case.assertEqual((local / "down").read_bytes(), expected, data.seed)
    case.assertEqual((jail / "up").read_bytes(), expected, data.seed)


def assert_resumes_over_4_gib(
    case: unittest.TestCase, jail: Path, local: Path, resume: Callable[[], object]
) -> None:
    """Fail unless `resume` sends the end of `down` to local and of `up` to the jail, beyond 4 GiB."""
    data = Material()
    size, end = 4 * GIB + MIB, data.bytes(MIB)
    sparse(jail / "down", size, end)
    sparse(local / "down", 4 * GIB)
    sparse(local / "up", size, end)
    sparse(jail / "up", 4 * GIB)
    resume()
    for copy in (local / "down", jail / "up"):
        case.assertEqual(copy.stat().st_size, size)
        case.assertEqual(tail(copy, MIB), end, data.seed)
