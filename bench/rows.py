"""The rows compared with sftp-server: each is a piece of work whose time is measured for both servers.

All data is in one temporary directory on a tmpfs (/dev/shm) if there is one, else in the page cache. A row's
`measure` takes the command line of a server; its target is the project's aim.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import drivers
from pysftpserver.engine import wire
from tests.integration.sshd import TARGET, Sshd

GIB = 1 << 30
BULK = 2 * GIB
PART = 256 << 20  # bytes of the file for puts
SMALL_FILES = 10_000
STATS = 100_000
SMALL_READS = 20_000

Server = Sequence[str]


@dataclass
class Row:
    """One line of the table.

    target: for the ratio reference / ours, or None. limit: the same bytes without a protocol. bulk: whether
    the server's memory is measured as well.
    """

    name: str
    measure: Callable[[Server], float]
    target: float | None
    limit: Callable[[], float] | None = None
    commands: str = ""
    options: Sequence[str] = field(default_factory=tuple)


class Material:
    """The files that the rows work on, made once."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.jail = top / "jail"
        self.jail.mkdir()
        self.local = top / "local"
        self.local.mkdir()

    def big(self, size: int) -> Path:
        """Return a file in the jail with this many random bytes."""
        return random_file(self.jail / f"big-{size}", size)

    def part(self) -> Path:
        """Return a file of PART bytes outside the jail, for puts.

        They send it repeatedly to one name, until the row's bytes are reached. In one piece, most of the time
        would go into allocating two gigabytes of new memory in a tmpfs: in a virtual machine that is the
        host's work, and takes 1 to 7 seconds.
        """
        return random_file(self.local / "part", PART)

    def small_files(self, directory: Path, count: int, size: int = 1024) -> Path:
        """Return a directory with this many files."""
        if not directory.exists():
            directory.mkdir()
            content = os.urandom(size)
            for number in range(count):
                (directory / f"file-{number:06d}.txt").write_bytes(content)
        return directory

    def deep_paths(self, count: int) -> list[bytes]:
        """Return absolute paths in the jail, three directories deep, of files of 1 KiB."""
        self.small_files(self.jail / "a", 0)
        self.small_files(self.jail / "a" / "b", 0)
        directory = self.small_files(self.jail / "a" / "b" / "c", count)
        return [b"/a/b/c/" + os.fsencode(path.name) for path in sorted(directory.iterdir())]

    def fresh(self, name: str) -> Path:
        """Return an empty directory for the files of a row, without those of the last run."""
        path = self.top / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


def random_file(path: Path, size: int) -> Path:
    """Return the file with this path, and create it if it is missing. size: bytes, a multiple of 4 MiB."""
    if not path.exists():
        block = os.urandom(1 << 22)
        with path.open("wb") as file:
            for _ in range(size // len(block)):
                file.write(block)
    return path


def rows(material: Material, jailed: Callable[[Server], bool]) -> Iterator[Row]:
    """Return the rows that need no sshd. jailed: whether a server sees the jail as its root."""

    def root(server: Server) -> str:
        return "" if jailed(server) else str(material.jail)

    yield from _bulk_rows(material, root)
    yield from _listing_rows(material, root)
    yield from _small_file_rows(material, root)
    yield from _raw_rows(material, root)


Root = Callable[[Server], str]


def _bulk_rows(material: Material, root: Root) -> Iterator[Row]:
    big = material.big(BULK)
    part = material.part()

    def bulk(
        name: str, commands: str, options: Sequence[str], target: float, limit: Callable[[], float]
    ) -> Row:
        def measure(server: Server) -> float:
            return drivers.sftp(server, commands.format(root=root(server)), options)

        return Row(name, measure, target, limit, commands, options)

    def limit_of_get() -> float:
        return drivers.limit_of_get(big)

    def limit_of_put() -> float:
        return drivers.limit_of_put(part, material.top / "limit", BULK // PART)

    get = f"get {{root}}/{big.name} /dev/null\n"
    put = f"put {part} {{root}}/uploaded\n" * (BULK // PART)
    small = ("-B", "32768")
    yield bulk("get 2 GiB, 255 KiB requests", get, (), 1.30, limit_of_get)
    yield bulk("get 2 GiB, 32 KiB requests", get, small, 1.45, limit_of_get)
    yield bulk("put 2 GiB, 255 KiB requests", put, (), 1.00, limit_of_put)
    yield bulk("put 2 GiB, 32 KiB requests", put, small, 1.60, limit_of_put)


def _listing_rows(material: Material, root: Root) -> Iterator[Row]:
    for count, target in ((10_000, 0.90), (100_000, 1.00)):
        directory = material.small_files(material.jail / f"listing-{count}", count, size=0)

        def measure(server: Server, name: str = directory.name) -> float:
            return drivers.sftp(server, f"ls -l {root(server)}/{name}\n")

        yield Row(f"ls -l, {count:,} entries", measure, target)


def _small_file_rows(material: Material, root: Root) -> Iterator[Row]:
    tree = material.small_files(material.jail / "tree", SMALL_FILES)

    def get(server: Server) -> float:
        target = material.fresh("fetched")
        return drivers.sftp(server, f"get -r {root(server)}/{tree.name} {target}/\n")

    def put(server: Server) -> float:
        shutil.rmtree(material.jail / "sent", ignore_errors=True)
        (material.jail / "sent").mkdir()
        return drivers.sftp(server, f"put -r {tree} {root(server)}/sent/\n")

    yield Row(f"get -r, {SMALL_FILES:,} files of 1 KiB", get, 1.10)
    yield Row(f"put -r, {SMALL_FILES:,} files of 1 KiB", put, 1.00)


def ssh_rows(material: Material, sshd: Sshd, jailed: Callable[[Server], bool]) -> Iterator[Row]:
    """Return the rows through a real sshd on loopback."""
    big = material.big(GIB)
    cipher = ("-c", "aes128-gcm@openssh.com")

    def over_ssh(name: str, commands: str) -> Row:
        def measure(server: Server) -> float:
            sshd.serve(server)
            root = "" if jailed(server) else str(material.jail)
            return drivers.sftp_over_ssh(sshd.ssh_config, TARGET, commands.format(root=root), cipher)

        return Row(name, measure, 1.00)

    yield over_ssh("sshd, aes128-gcm: get 1 GiB", f"get {{root}}/{big.name} /dev/null\n")
    put = f"put {material.part()} {{root}}/uploaded\n" * (GIB // PART)
    yield over_ssh("sshd, aes128-gcm: put 1 GiB", put)


def _raw_rows(material: Material, root: Root) -> Iterator[Row]:
    paths = material.deep_paths(1000)

    def rooted(server: Server) -> list[bytes]:
        return [os.fsencode(root(server)) + path for path in paths]

    for name, kind in (("STAT", wire.SSH2_FXP_STAT), ("LSTAT", wire.SSH2_FXP_LSTAT)):

        def stats(server: Server, kind: int = kind) -> float:
            return drivers.pipelined_stats(server, rooted(server), STATS, kind)

        yield Row(f"raw: {STATS:,} pipelined {name}", stats, 0.50)

    def reads(server: Server) -> float:
        return drivers.small_reads(server, rooted(server), SMALL_READS)

    yield Row(f"raw: {SMALL_READS:,} OPEN-READ-CLOSE", reads, 0.70)
