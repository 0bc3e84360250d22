"""Rows for SK Sync: `pysksync` compared with `cp -r` of the same tree, in turn.

This module has names, sizes, targets and the evaluation. sksync_sides.py does the work, and is imported when
a row is selected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.run import Result
    from bench.sksync_sides import Sides

GROUP = "sksync"  # in the names of all rows here, and of no others
GIB = 1 << 30
CONTENDERS = ("cp -r", "pysksync")
DIRECTIONS = ("from server", "to server", "both ways")
TWO_INTERPRETERS = 0.15  # seconds for the starts, which are not part of the sync
MOST_SMALL, MOST_BIG, MOST_APART = 4.0, 2.5, 1.3  # how many times as long it may take


@dataclass(frozen=True)
class Sizes:
    """Number of small files, their average size in bytes, and the bytes of the large file."""

    files: int = 1_502
    each: int = 5_127  # 7.7 MB in all
    big: int = GIB


@dataclass(frozen=True)
class Contest:
    """One line of the table.

    wanted: computes the target for the ratio cp / pysksync from the seconds that cp took; None for no target.
    """

    name: str
    tree: str
    direction: str
    way: str
    wanted: Callable[[float], float] | None
    contenders: tuple[str, str] = CONTENDERS
    target: float | None = None  # set by with_target()

    def reference(self, sides: Sides) -> float:
        """Return the seconds that cp takes."""
        return sides.copied(self.tree)

    def ours(self, sides: Sides) -> float:
        """Return the seconds that a client takes."""
        return sides.synced(self.tree, self.direction, self.way)


def small_target(seconds: float) -> float:
    """Return the target for small files: at most MOST_SMALL times as long, plus the interpreters."""
    return seconds / (MOST_SMALL * seconds + TWO_INTERPRETERS)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    for way in ("plain", "TLS"):
        for direction in DIRECTIONS:
            name = f"{GROUP}: {sizes.files:,} files, {direction}, {way}"
            yield Contest(name, "small", direction, way, small_target)
    big = f"1 file of {sizes.big / GIB:g} GiB"
    for way in ("plain", "plain with digests", "TLS"):
        target = (lambda _: 1 / MOST_BIG) if way == "plain" else None
        for direction in DIRECTIONS[:2]:
            yield Contest(f"{GROUP}: {big}, {direction}, {way}", "big", direction, way, target)


def with_target(contest: Contest, result: Result) -> Result:
    """Return the result with its target."""
    if contest.wanted is None:
        return result
    return dataclasses.replace(result, target=contest.wanted(result.reference))


def apart(down: Result, up: Result) -> Result:
    """Return a row that compares both directions of the same work."""
    return dataclasses.replace(
        up,
        name=up.name.replace(", to server", ""),
        contenders=DIRECTIONS[:2],
        reference=down.ours,
        spread_reference=down.spread_ours,
        ratio=down.ours / up.ours,
        target=1 / MOST_APART,
        note=down.note or up.note,
    )


def compared(results: list[Result]) -> list[Result]:
    """Return a row for each piece of work that was measured in both directions."""
    by_name = {result.name: result for result in results}
    found = []
    for result in results:
        other = by_name.get(result.name.replace(DIRECTIONS[0], DIRECTIONS[1]))
        if DIRECTIONS[0] in result.name and other is not None:
            found.append(apart(result, other))
    return found
