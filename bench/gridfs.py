"""Rows for the storage on GridFS: compared with pymongo's GridFSBucket, on the same SecantusDB, in turn.

This module has names, sizes and targets, and must not import pymongo. gridfs_sides.py does the work; it needs
pymongo, and is imported when a row is selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.gridfs_sides import Sides

GROUP = "gridfs"  # in the names of all rows here, and of no others
MIB = 1 << 20
DRIVER_AND_STORAGE = ("GridFSBucket", "storage")
MOST_RESIDENT = 60 * MIB


@dataclass(frozen=True)
class Sizes:
    """Sizes of files in bytes, and numbers of reads and of names."""

    transfer: int = 256 * MIB
    sought: int = 64 * MIB
    reads: int = 200
    names: int = 1_000
    others: int = 200_000
    many: int = 100_000


@dataclass(frozen=True)
class Contest:
    """One line of the table.

    reference, ours: seconds that each takes. contenders: their names. target: minimum ratio reference / ours
    that we aim for; most: maximum ratio. resident: bytes of memory, described by `memory`, which should stay
    below most_resident.
    """

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    contenders: tuple[str, str] = DRIVER_AND_STORAGE
    target: float | None = None
    most: float | None = None
    resident: Callable[[Sides], int] | None = None
    memory: str = "Peak of the server's resident memory"
    most_resident: int | None = None


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    yield from _transfers(f"{sizes.transfer // MIB} MiB")
    yield Contest(
        f"{GROUP}: read 4 KiB anywhere in {sizes.sought // MIB} MiB",
        lambda sides: sides.driver_seeks(),
        lambda sides: sides.storage_seeks(),
    )
    yield Contest(
        f"{GROUP}: list {sizes.many:,} names",
        lambda sides: sides.driver_lists_many(),
        lambda sides: sides.storage_lists_many(),
        resident=lambda sides: sides.growth(),
        memory="Growth of resident memory",
    )
    yield Contest(
        f"{GROUP}: list {sizes.names:,} names",
        lambda sides: sides.lists_among_others(),
        lambda sides: sides.lists_alone(),
        contenders=(f"with {sizes.others:,} others", "alone in the bucket"),
        most=1.30,
    )


def _transfers(size: str) -> Iterator[Contest]:
    yield Contest(
        f"{GROUP}: put {size}",
        lambda sides: sides.driver_puts(),
        lambda sides: sides.storage_puts(),
        target=0.80,
    )
    yield Contest(
        f"{GROUP}: get {size}",
        lambda sides: sides.driver_gets(),
        lambda sides: sides.storage_gets(),
        target=0.80,
    )
    yield Contest(
        f"{GROUP}: sftp -D, put {size}",
        lambda sides: sides.program_puts(),
        lambda sides: sides.sftp_puts(),
        target=0.80,
        resident=lambda sides: sides.peak_of_put(),
        most_resident=MOST_RESIDENT,
    )
    yield Contest(
        f"{GROUP}: sftp -D, get {size}",
        lambda sides: sides.program_gets(),
        lambda sides: sides.sftp_gets(),
        target=0.80,
        resident=lambda sides: sides.peak_of_get(),
        most_resident=MOST_RESIDENT,
    )
