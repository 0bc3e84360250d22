"""Rows for the standalone server: `pysftpd` compared with OpenSSH's sshd with its internal-sftp, in turn.

This module has names, sizes and targets. pysftpd_sides.py does the work, and is imported when a row is
selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.pysftpd_sides import Sides

GROUP = "pysftpd"  # in the names of all rows here, and of no others
MIB = 1 << 20
CONTENDERS = ("sshd", "pysftpd")
PROCESSES = ("one worker", "two workers")
IDLE = ("sshd", "pysftpd", "in threads")
MOST_IDLE = 120 * MIB  # bytes with all idle sessions in threads; processes may need as many as sshd's


@dataclass(frozen=True)
class Sizes:
    """Bytes of a transfer and of one with several clients, numbers of logins and sessions, and the seconds
    after which an idle session gives its process back.
    """

    transfer: int = 512 * MIB
    part: int = 128 * MIB
    clients: int = 4
    logins: int = 40
    idle: int = 1_000
    working: int = 100
    rest: int = 30


@dataclass(frozen=True)
class Contest:
    """One line of the table."""

    name: str
    reference: Callable[[Sides], float]
    ours: Callable[[Sides], float]
    target: float | None
    contenders: tuple[str, str] = CONTENDERS


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield all rows."""
    for verb in ("get", "put"):
        yield Contest(
            f"{GROUP}: {verb} {sizes.transfer // MIB} MiB, aes128-gcm",
            lambda sides, verb=verb: sides.transfer("sshd", verb),  # type: ignore[misc]
            lambda sides, verb=verb: sides.transfer("pysftpd", verb),  # type: ignore[misc]
            1.0,
        )
    yield Contest(
        f"{GROUP}: {sizes.logins} logins, 4 at once",
        lambda sides: sides.logins("sshd"),
        lambda sides: sides.logins("pysftpd"),
        None,
    )
    yield Contest(
        f"{GROUP}: {sizes.clients} clients, get {sizes.part // MIB} MiB each",
        lambda sides: sides.at_once("pysftpd"),
        lambda sides: sides.at_once("two workers"),
        1.6,
        PROCESSES,
    )
    yield Contest(
        f"{GROUP}: {sizes.clients} clients that cost nothing, get {sizes.part // MIB} MiB each",
        lambda sides: sides.for_nothing("pysftpd").seconds,
        lambda sides: sides.for_nothing("two workers").seconds,
        None,
        PROCESSES,
    )
    yield Contest(
        f"{GROUP}: the same, processor time of the busiest process",
        lambda sides: sides.for_nothing("pysftpd").busiest,
        lambda sides: sides.for_nothing("two workers").busiest,
        1.7,
        PROCESSES,
    )
    yield Contest(
        f"{GROUP}: the same, processor time of all processes",
        lambda sides: sides.for_nothing("pysftpd").processor,
        lambda sides: sides.for_nothing("two workers").processor,
        0.9,
        PROCESSES,
    )


def weighed(sizes: Sizes) -> str:
    """Return the situation in which the servers' memory is measured."""
    return f"{GROUP}: {sizes.idle:,} idle sessions"


def weigh(sides: Sides, sizes: Sizes) -> Iterator[tuple[str, int, int | None]]:
    """Yield the name, the bytes and the target of each measurement."""
    most: dict[str, int | None] = {"in threads": MOST_IDLE}
    for server in IDLE:
        found = sides.idle(server)
        worked = f"; {sizes.working} of them at work at once took {found.seconds:.2f} s"
        began = f" ({found.begun / MIB:.0f} MiB when they had begun)"
        name = f"PSS of all processes, {weighed(sizes)}, {server}{began}{worked}"
        yield name, found.resting, most.get(server)
        most.setdefault("pysftpd", found.resting)  # the limit is what the first server, sshd, takes
