"""Rows for object stores: pysftpsite on a bucket compared with obstore alone and with `rclone serve sftp`.

The store is `rclone serve s3` on a directory. This module has names, sizes and targets. objects_sides.py does
the work; it needs rclone and obstore, and is imported when a row is selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.objects_sides import Sides

GROUP = "objects"  # in the names of all rows here, and of no others
MIB = 1 << 20
LIBRARY, RCLONE = ("obstore", "pysftpsite"), ("rclone serve sftp", "pysftpsite")
SHARE = 0.8  # of the library's speed
MOST_RESIDENT = 64 * MIB


@dataclass(frozen=True)
class Sizes:
    """Bytes of a transfer, number of keys in a listing, and number and bytes of small files."""

    transfer: int = 256 * MIB
    keys: int = 10_000
    files: int = 1_000
    each: int = 1024


@dataclass(frozen=True)
class Contest:
    """One line of the table. resident: the server's peak of memory in bytes, or None."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    contenders: tuple[str, str]
    target: float | None = None
    resident: Callable[[Sides], int] | None = None


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    size = f"{sizes.transfer // MIB} MiB"
    yield Contest(
        f"{GROUP}: put {size}, sftp -D beside a program",
        lambda sides: sides.library("put"),
        lambda sides: sides.ours(sides.put),
        LIBRARY,
        SHARE,
        lambda sides: sides.peak(sides.put),
    )
    yield Contest(
        f"{GROUP}: get {size}, sftp -D beside a program",
        lambda sides: sides.library("get"),
        lambda sides: sides.ours(sides.get),
        LIBRARY,
        SHARE,
        lambda sides: sides.peak(sides.get),
    )
    for what, commands in (
        (f"put {size}", "put"),
        (f"get {size}", "get"),
        (f"list {sizes.keys:,} keys", "listing"),
        (f"put {sizes.files:,} files of {sizes.each // 1024} KiB", "put_files"),
        (f"get {sizes.files:,} files of {sizes.each // 1024} KiB", "get_files"),
    ):
        yield Contest(
            f"{GROUP}: {what}, sftp -D",
            lambda sides, commands=commands: sides.rclone(getattr(sides, commands)),  # type: ignore[misc]
            lambda sides, commands=commands: sides.ours(getattr(sides, commands)),  # type: ignore[misc]
            RCLONE,
            1.0,
        )
