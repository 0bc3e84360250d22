"""Rows for WebDAV: `pysftpweb` compared with nginx with its own dav module and dav-ext, on the same
directory.

This module has names, sizes and targets. webdav_sides.py does the work, and is imported for selected rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.webdav_sides import Sides

GROUP = "webdav"  # in the names of all rows here, and of no others
MIB = 1 << 20
CONTENDERS = ("nginx", "pysftpweb")
SHARE = 0.5  # of nginx's speed, for content
MOST_GROWTH = 32 * MIB  # bytes resident, in a transfer


@dataclass(frozen=True)
class Sizes:
    """Bytes of a transfer, number of entries of a directory, and number of listings."""

    transfer: int = 512 * MIB
    entries: int = 10_000
    listings: int = 3


@dataclass(frozen=True)
class Contest:
    """One line of the table."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    target: float | None = None
    contenders: tuple[str, str] = CONTENDERS


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    size = f"{sizes.transfer // MIB} MiB"
    works: tuple[tuple[str, Callable[[Sides, str], float], float | None], ...] = (
        (f"get {size}", lambda sides, server: sides.get(server), SHARE),
        (f"put {size}", lambda sides, server: sides.put(server), SHARE),
        (
            f"PROPFIND of {sizes.entries:,} entries, {sizes.listings} times",
            lambda sides, server: sides.list(server),
            None,
        ),
    )
    for name, work, target in works:
        yield Contest(
            f"{GROUP}: {name}",
            lambda sides, work=work: work(sides, "nginx"),  # type: ignore[misc]
            lambda sides, work=work: work(sides, "pysftpweb"),  # type: ignore[misc]
            target,
        )


def weighed(sizes: Sizes) -> str:
    """Return the situation in which the server's memory is measured."""
    return f"{GROUP}: a get and a put of {sizes.transfer // MIB} MiB"


def weigh(sides: Sides, sizes: Sizes) -> Iterator[tuple[str, int, int | None]]:
    """Yield the name, the bytes and the target of each measurement."""
    yield f"Growth of the server in {weighed(sizes)}", sides.growth(), MOST_GROWTH
