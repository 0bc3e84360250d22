"""Rows for what is stored: each door and option that syncs, compared with the same without syncing.

This module has names, sizes and targets. stored_sides.py does the work, and is imported when a row is
selected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.run import Result
    from bench.stored_sides import Sides

GROUP = "stored"  # in the names of all rows here, and of no others
DISK = "/var/tmp"  # on a disk, where /tmp may be a tmpfs
CONTENDERS = ("not synced", "synced")
MOST_MORE = 1.0  # seconds that syncing may add to a sync
SFTP = (
    ("--atomic-uploads", "replaced"),
    ("--durable", "new"),
    ("--durable", "replaced"),
    ("--durable --atomic-uploads", "new"),
    ("--durable --atomic-uploads", "replaced"),
)


@dataclass(frozen=True)
class Sizes:
    """Number of files of a sync, number of files stored one by one, and bytes of each."""

    synced: int = 1_502
    files: int = 200
    each: int = 5_127


@dataclass(frozen=True)
class Contest:
    """One line of the table. door: a method of Sides; words: its arguments."""

    name: str
    door: str
    words: tuple[str, ...]
    most_more: float | None = None
    contenders: tuple[str, str] = CONTENDERS
    target: float | None = None  # set by with_target()

    def reference(self, sides: Sides) -> float:
        """Return the seconds without syncing."""
        return sides.measure(self.door, False, *self.words)

    def ours(self, sides: Sides) -> float:
        """Return the seconds with it."""
        return sides.measure(self.door, True, *self.words)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    for direction in ("to server", "from server"):
        name = f"{GROUP}: SK Sync, {sizes.synced:,} files, {direction}"
        yield Contest(name, "sksync", (direction,), MOST_MORE)
    few = f"{sizes.files:,} files, one by one"
    for door, what in (("remo", "pysftpremo put"), ("messages", "Files of pysftplab")):
        yield Contest(f"{GROUP}: {what}, {few}", door, ())
    for options, which in SFTP:
        yield Contest(f"{GROUP}: SFTP {options}, {few}, {which}", "sftp", (options, which))


def with_target(contest: Contest, result: Result) -> Result:
    """Return the result with its target."""
    if contest.most_more is None:
        return result
    return dataclasses.replace(result, target=result.reference / (result.reference + contest.most_more))
