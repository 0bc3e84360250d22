"""Rows over a distance: `pysftpd` beside `sshd` and beside `rclone serve sftp`, behind a proxy that delays.

This module has names, sizes and targets. distance_sides.py does the work, and is imported when a row is
selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.distance_sides import Sides

GROUP = "distance"  # in the names of all rows here, and of no others
IS_LONG = True  # one pair of every row takes a quarter of an hour
MIB = 1 << 20
OTHERS = ("sshd", "rclone")
FASTER = 2.5  # how many times faster than sshd a large put is over the longer distance


@dataclass(frozen=True)
class Sizes:
    """trips: round-trip times in milliseconds. transfers: bytes of files. files: number of small files;
    OpenSSH takes three or four round trips for each.
    """

    trips: tuple[int, ...] = (25, 100)
    transfers: tuple[int, ...] = (64 * MIB, 256 * MIB)
    files: int = 200


@dataclass(frozen=True)
class Contest:
    """One line of the table. target: the least ratio, or None."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    target: float | None
    contenders: tuple[str, str]


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    for trip in sizes.trips:
        for other in OTHERS:
            for work in _works(sizes):
                verb, amount = work
                words = f"{amount // MIB} MiB" if amount > sizes.files else f"-r, {amount} files of 1 KiB"
                yield Contest(
                    f"{GROUP}: {verb} {words}, {trip} ms, beside {other}",
                    lambda sides, trip=trip, other=other, work=work: sides.measure(other, trip, *work),  # type: ignore[misc]
                    lambda sides, trip=trip, work=work: sides.measure("pysftpd", trip, *work),  # type: ignore[misc]
                    _target(sizes, other, trip, *work),
                    (other, "pysftpd"),
                )
    for verb in ("get", "put"):
        amount = sizes.transfers[-1]
        yield Contest(
            f"{GROUP}: {verb} {amount // MIB} MiB, through a proxy that does not delay",
            lambda sides, work=(verb, amount): sides.measure("pysftpd", None, *work),  # type: ignore[misc]
            lambda sides, work=(verb, amount): sides.measure("pysftpd", 0, *work),  # type: ignore[misc]
            None,
            ("no proxy", "proxy"),
        )


def _works(sizes: Sizes) -> Iterator[tuple[str, int]]:
    """Verbs, and bytes of a file or the number of small ones."""
    for verb in ("get", "put"):
        for amount in (*sizes.transfers, sizes.files):
            yield verb, amount


def _target(sizes: Sizes, other: str, trip: int, verb: str, amount: int) -> float | None:
    if other != "sshd":
        return None
    is_longest = trip == sizes.trips[-1] and amount == sizes.transfers[-1]
    return FASTER if verb == "put" and is_longest else 1.0
