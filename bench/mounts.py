"""Rows for a jail below a mount point of a site file, compared with the jail alone: both by pysftpsite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench import drivers
from bench.rows import random_file

GROUP = "mount"  # in the names of all rows here, and of no others
CONTENDERS = ("bare jail", "below a mount")
SHARE = 0.97  # of the bare jail's speed
SITE = """storage = "jail:{top}/empty"

[[mount]]
path = "/jail"
storage = "jail:{top}/jail"
"""


@dataclass(frozen=True)
class Sizes:
    """Bytes of the file, and how many times it is transferred."""

    file: int = 256 << 20
    times: int = 16


class Sides:
    """Both servers, on one jail in the directory top."""

    def __init__(self, top: Path, sizes: Sizes) -> None:
        for name in ("jail", "empty"):
            (top / name).mkdir()
        site = top / "site.toml"
        site.write_text(SITE.format(top=top))
        self._times = sizes.times
        self._local = random_file(top / "local", sizes.file)
        random_file(top / "jail" / "big", sizes.file)
        self._bare = [*drivers.command("pysftpsite"), f"jail:{top}/jail"]
        self._mounted = [*drivers.command("pysftpsite"), str(site)]

    def measure(self, what: str, is_mounted: bool) -> float:
        """Return the seconds of a session that only gets, or only puts."""
        prefix = "/jail" if is_mounted else ""
        line = f"get {prefix}/big /dev/null\n" if what == "get" else f"put {self._local} {prefix}/sent\n"
        return drivers.sftp(self._mounted if is_mounted else self._bare, line * self._times)


def started(top: Path, sizes: Sizes) -> nullcontext[Sides]:
    """The sides; nothing has to run before and after."""
    return nullcontext(Sides(top, sizes))


@dataclass(frozen=True)
class Contest:
    """One line of the table. what: "get" or "put"."""

    name: str
    what: str
    contenders: tuple[str, str] = CONTENDERS
    target: float | None = SHARE

    def reference(self, sides: Sides) -> float:
        """Return the seconds of the bare jail."""
        return sides.measure(self.what, False)

    def ours(self, sides: Sides) -> float:
        """Return the seconds below a mount."""
        return sides.measure(self.what, True)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    for what in ("get", "put"):
        yield Contest(f"{GROUP}: {what} {sizes.times} times {sizes.file >> 20} MiB, sftp -D", what)
