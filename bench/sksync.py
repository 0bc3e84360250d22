"""Rows for SK Sync: `pysksync` beside `cp -r` of the same tree, in turn.

Here are names, sizes and targets, and what becomes of the times. What is timed is in sksync_sides.py, which
is imported when a row is wanted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.run import Result
    from bench.sksync_sides import Sides

GROUP = "sksync"  # the word that all names of rows have here, and no others
GIB = 1 << 30
CONTENDERS = ("cp -r", "pysksync")
DIRECTIONS = ("from server", "to server", "both ways")
TWO_INTERPRETERS = 0.15  # seconds that are not the sync's
MOST_SMALL, MOST_BIG, MOST_APART = 4.0, 2.5, 1.3  # how many times longer it may take


@dataclass(frozen=True)
class Sizes:
    """How much there is: files of the small ones, their bytes each on average, and bytes of the large one."""

    files: int = 1_502
    each: int = 5_127  # 7.7 MB in all
    big: int = GIB


@dataclass(frozen=True)
class Contest:
    """One line of the table.

    wanted: what the ratio cp / pysksync is to reach, made of the seconds that cp took; None for none.
    """

    name: str
    tree: str
    direction: str
    way: str
    wanted: Callable[[float], float] | None
    contenders: tuple[str, str] = CONTENDERS
    target: float | None = None  # with_target() makes one

    def reference(self, sides: Sides) -> float:
        """Seconds that cp takes."""
        return sides.copied(self.tree)

    def ours(self, sides: Sides) -> float:
        """Seconds that a client takes."""
        return sides.synced(self.tree, self.direction, self.way)


def small_target(seconds: float) -> float:
    """At most so many times as long, and the interpreters."""
    return seconds / (MOST_SMALL * seconds + TWO_INTERPRETERS)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """All rows."""
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
    """The result, and what was wanted of it."""
    if contest.wanted is None:
        return result
    return dataclasses.replace(result, target=contest.wanted(result.reference))


def apart(down: Result, up: Result) -> Result:
    """Both directions of the same work beside each other."""
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


def pairs_of_directions(results: list[Result]) -> list[Result]:
    """A row for each work that was measured to the server and from it."""
    by_name = {result.name: result for result in results}
    found = []
    for result in results:
        other = by_name.get(result.name.replace(DIRECTIONS[0], DIRECTIONS[1]))
        if DIRECTIONS[0] in result.name and other is not None:
            found.append(apart(result, other))
    return found
