"""Rows for what watches or rules a session, beside the bare jail: the audit log, digests and a chain.

A contender of its own is a name in WAYS and options of pysftpjail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import drivers
from bench.rows import random_file
from pysftpserver.engine import wire

GROUP = "site"  # in the names of all rows here, and of no others
BARE = "bare jail"
WAYS = {
    "audit": ("--audit", "{top}/audit"),
    "audit, digests and chain": ("--audit", "{top}/chained", "--audit-digests", "--audit-chain"),
}
BULK, SMALL = 0.95, 0.80  # shares of the bare jail's speed that are aimed for


@dataclass(frozen=True)
class Sizes:
    """Bytes of the file, how many times it is transferred, and number of STAT requests."""

    file: int = 256 << 20
    times: int = 8
    stats: int = 50_000


class Sides:
    """All servers, on one jail in the directory top."""

    def __init__(self, top: Path, sizes: Sizes) -> None:
        (top / "jail").mkdir()
        self._sizes = sizes
        self._local = random_file(top / "local", sizes.file)
        random_file(top / "jail" / "big", sizes.file)
        ours = [*drivers.command("pysftpjail"), "--log-level", "ERROR"]
        options = {way: [word.format(top=top) for word in words] for way, words in WAYS.items()}
        self._servers = {way: [*ours, *words, f"{top}/jail"] for way, words in {BARE: [], **options}.items()}

    def measure(self, what: str, way: str) -> float:
        """Return the seconds of a session that only gets, only puts, or only asks for attributes."""
        server = self._servers[way]
        if what == "STAT":
            return drivers.pipelined_stats(server, [b"/big"], self._sizes.stats, wire.SSH2_FXP_STAT)
        line = "get /big /dev/null\n" if what == "get" else f"put {self._local} /sent\n"
        return drivers.sftp(server, line * self._sizes.times)


@dataclass(frozen=True)
class Contest:
    """One line of the table. what: "get", "put" or "STAT". way: one of WAYS."""

    name: str
    what: str
    way: str
    target: float | None

    @property
    def contenders(self) -> tuple[str, str]:
        """What is measured."""
        return BARE, self.way

    def reference(self, sides: Sides) -> float:
        """Return the seconds of the bare jail."""
        return sides.measure(self.what, BARE)

    def ours(self, sides: Sides) -> float:
        """Return the seconds of the other."""
        return sides.measure(self.what, self.way)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    bulk = f"{sizes.times} times {sizes.file >> 20} MiB, sftp -D"
    for way in WAYS:
        target = None if "digests" in way else BULK
        yield Contest(f"{GROUP}: {way}: get {bulk}", "get", way, target)
        yield Contest(f"{GROUP}: {way}: put {bulk}", "put", way, target)
        yield Contest(f"{GROUP}: {way}: {sizes.stats:,} pipelined STAT", "STAT", way, SMALL)
