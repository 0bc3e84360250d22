"""Rows for features that watch or restrict a session, compared with the bare jail: the audit log, digests and
a chain, rules, quotas and events. With a quota, uploads are atomic; the cost of that alone has its own rows.

Each contender is a name in WAYS with options of pysftpjail, and with --site a text in SITES.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench import drivers
from bench.rows import random_file
from pysftpserver.engine import wire

GROUP = "site"  # in the names of all rows here, and of no others
BARE = "bare jail"
WAYS = {
    "audit": ("--audit", "{top}/audit"),
    "audit of files": ("--audit", "{top}/audit-files", "--audit-level", "files"),
    "audit, digests and chain": ("--audit", "{top}/chained", "--audit-digests", "--audit-chain"),
    "atomic uploads": ("--atomic-uploads",),
    "rules": ("--site", "{top}/rules.toml"),
    "quota": ("--site", "{top}/quota.toml", "--atomic-uploads"),
    "events": ("--site", "{top}/events.toml"),
    "rules, quota, audit and events": (
        "--site",
        "{top}/all.toml",
        "--atomic-uploads",
        "--audit",
        "{top}/all",
        "--audit-level",
        "files",
    ),
}
RULES = '[[rule]]\npath = "/secret/**"\nhidden = true\n[[rule]]\nallow = "all"\n'
QUOTA = '[[quota]]\nbytes = "1 TiB"\nfiles = 1_000_000\n'
EVENTS = (
    '[[event]]\non = ["delete", "rename", "login"]\nrun = "true"\n'  # uploads: with a SHA-256, as digests
)
STATE = 'state = "{top}/state-{name}"\n'
SITES = {"rules": RULES, "quota": QUOTA, "events": EVENTS, "all": RULES + QUOTA + EVENTS}
BULK, SMALL = 0.95, 0.80  # target shares of the bare jail's speed


@dataclass(frozen=True)
class Sizes:
    """Bytes of the file, how many times it is transferred, small files of put -r, and STAT requests."""

    file: int = 256 << 20
    times: int = 8
    small: int = 1000
    stats: int = 50_000


class Sides:
    """All servers, on one jail in the directory top."""

    def __init__(self, top: Path, sizes: Sizes) -> None:
        (top / "jail").mkdir()
        self._sizes = sizes
        self._local = random_file(top / "local", sizes.file)
        random_file(top / "jail" / "big", sizes.file)
        self._tree = top / "tree"
        self._tree.mkdir()
        for number in range(sizes.small):
            random_file(self._tree / str(number), 1024)
        for name, text in SITES.items():
            (top / f"state-{name}").mkdir(0o700)
            (top / f"{name}.toml").write_text(STATE.format(top=top, name=name) + text)
        self._puts = 0
        ours = [*drivers.command("pysftpjail"), "--log-level", "ERROR"]
        options = {way: [word.format(top=top) for word in words] for way, words in WAYS.items()}
        self._servers = {way: [*ours, *words, f"{top}/jail"] for way, words in {BARE: [], **options}.items()}

    def measure(self, what: str, way: str) -> float:
        """Return the seconds of a session that does one thing. what: as for Contest."""
        server = self._servers[way]
        if what == "STAT":
            return drivers.pipelined_stats(server, [b"/big"], self._sizes.stats, wire.SSH2_FXP_STAT)
        if what == "put -r":
            self._puts += 1  # always new files: replacing costs more with --atomic-uploads
            return drivers.sftp(server, f"put -r {self._tree} /tree{self._puts}\n")
        line = "get /big /dev/null\n" if what == "get" else f"put {self._local} /sent\n"
        return drivers.sftp(server, line * self._sizes.times)


def started(top: Path, sizes: Sizes) -> nullcontext[Sides]:
    """The sides; nothing has to run before and after."""
    return nullcontext(Sides(top, sizes))


@dataclass(frozen=True)
class Contest:
    """One line of the table. what: "get", "put", "put -r" or "STAT". way: one of WAYS."""

    name: str
    what: str
    way: str
    target: float | None

    @property
    def contenders(self) -> tuple[str, str]:
        """The names of both."""
        return BARE, self.way

    def reference(self, sides: Sides) -> float:
        """Return the seconds of the bare jail."""
        return sides.measure(self.what, BARE)

    def ours(self, sides: Sides) -> float:
        """Return the seconds of the other contender."""
        return sides.measure(self.what, self.way)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    bulk = f"{sizes.times} times {sizes.file >> 20} MiB, sftp -D"
    for way in WAYS:
        target = None if "digests" in way or way == "atomic uploads" else BULK
        small = f"{sizes.small:,} files of 1 KiB, sftp -D"
        yield Contest(f"{GROUP}: {way}: get {bulk}", "get", way, target)
        yield Contest(f"{GROUP}: {way}: put {bulk}", "put", way, target)
        yield Contest(f"{GROUP}: {way}: put -r {small}", "put -r", way, None)
        yield Contest(f"{GROUP}: {way}: {sizes.stats:,} pipelined STAT", "STAT", way, SMALL)
