"""How long every kind of request takes, one at a time and with many in flight.

What may not enter: throughput, and a server's limits.
"""

from __future__ import annotations

import statistics

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import NOTHING, READ, WRITE, Refused
from pysftpserver.engine import wire
from pysftpserver.probe.results import Figure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.probe.workbench import Request, Workbench

    Step = Callable[[int, bytes], Request]

ITEMS = 32  # files used in turn
ROUNDS = 5  # whose median is taken, if there is time
LEAST = 3  # samples for a median if time is short

_TIMES = SFTPAttributes(atime=1_000_000_000, mtime=1_000_000_000)


class Kind:
    """A kind of request. name: as in figures. steps: functions that make a request from an item's number and
    the handle from the previous step. prepared: whether the files must be made anew for each round.
    """

    def __init__(self, name: str, *steps: Step, prepared: bool = False) -> None:
        self.name = name
        self.steps = steps
        self.prepared = prepared


def table(bench: Workbench, reading: bytes, writing: bytes) -> tuple[Kind, ...]:
    """The kinds of requests, about the files f0, f1, ... of a bench. reading, writing: handles of files."""
    string, u64, nothing = packets.sftpstring, packets.sftpint64, packets.sftpattrs(NOTHING)
    renamed: set[int] = set()  # numbers of the files that are now called g0, g1, ...

    def of_path(kind: int, *more: bytes, letter: str = "f") -> Step:
        return lambda number, handle: (kind, (string(bench.path(f"{letter}{number}")), *more))

    def of_handle(number: int, handle: bytes) -> Request:
        return wire.SSH2_FXP_CLOSE, (string(handle),)

    def read(number: int, handle: bytes) -> Request:
        return wire.SSH2_FXP_READ, (string(reading), u64(number * 997), packets.sftpint(1))

    def write(number: int, handle: bytes) -> Request:
        return wire.SSH2_FXP_WRITE, (string(writing), u64(number), string(b"x"))

    def rename(number: int, handle: bytes) -> Request:
        names = bench.path(f"f{number}"), bench.file(f"g{number}")
        old, new = reversed(names) if number in renamed else names
        renamed.symmetric_difference_update({number})
        return wire.SSH2_FXP_RENAME, (string(old), string(new))

    def mkdir(number: int, handle: bytes) -> Request:
        return wire.SSH2_FXP_MKDIR, (string(bench.folder(f"d{number}")), nothing)

    opening = of_path(wire.SSH2_FXP_OPEN, packets.sftpint(READ), nothing)
    listing = wire.SSH2_FXP_OPENDIR, (string(bench.directory),)
    return (
        Kind("STAT", of_path(wire.SSH2_FXP_STAT)),
        Kind("LSTAT", of_path(wire.SSH2_FXP_LSTAT)),
        Kind("REALPATH", of_path(wire.SSH2_FXP_REALPATH)),
        Kind("OPEN and CLOSE", opening, of_handle),
        Kind("READ of 1 byte", read),
        Kind("WRITE of 1 byte", write),
        Kind("OPENDIR and CLOSE", lambda number, handle: listing, of_handle),
        Kind("SETSTAT", of_path(wire.SSH2_FXP_SETSTAT, packets.sftpattrs(_TIMES))),
        Kind("MKDIR and RMDIR", mkdir, of_path(wire.SSH2_FXP_RMDIR, letter="d")),
        Kind("RENAME", rename),
        Kind("REMOVE", of_path(wire.SSH2_FXP_REMOVE), prepared=True),
    )


def measure_kinds(bench: Workbench, big: str, trip: float, share: float) -> Iterator[Figure]:
    """Milliseconds of each kind, as far as there is time; no figure for kinds that the server refuses.

    big: name of a file to read. trip: seconds of a round trip, subtracted for requests sent one at a time.
    share: of the budget.
    """
    names = [f"f{number}" for number in range(ITEMS)]
    bench.make(names)
    reading, writing = bench.client.open(bench.path(big), READ), bench.client.open(bench.path("f0"), WRITE)
    kinds = table(bench, reading, writing)
    for kind in kinds:
        if bench.over():
            break
        part = share / len(kinds) / 2
        alone = _rounds(bench, kind, names, bench.until(part), trip)
        together = alone and _rounds(bench, kind, names, bench.until(part))
        if together:
            yield Figure(f"{kind.name}, one at a time", statistics.median(alone) * 1000, "ms")
            yield Figure(f"{kind.name}, pipelined", statistics.median(together) * 1000, "ms")
    bench.client.close_handle(reading)
    bench.client.close_handle(writing)


def _rounds(
    bench: Workbench, kind: Kind, names: list[str], until: float, trip: float | None = None
) -> list[float]:
    """Seconds per request in each round; empty if the server refuses the kind. trip: None for many in
    flight."""
    seconds: list[float] = []
    try:
        while len(seconds) < ROUNDS and (not seconds or bench.clock() < until):
            if kind.prepared:
                bench.make(names)
            seconds.append(
                _pipelined(bench, kind) if trip is None else _one_at_a_time(bench, kind, until, trip)
            )
    except Refused:
        return []
    finally:
        if kind.prepared:
            bench.make(names)
    return seconds


def _one_at_a_time(bench: Workbench, kind: Kind, until: float, trip: float) -> float:
    samples = []
    for number in range(ITEMS):
        handle = b""
        before = bench.clock()
        for step in kind.steps:
            asked, fields = step(number, handle)
            handle = _handle(bench, kind, bench.client.ask(asked, *fields))
        after = bench.clock()
        samples.append(max(after - before - len(kind.steps) * trip, 0.0))
        if after >= until and len(samples) >= LEAST:
            break
    return statistics.median(samples)


def _pipelined(bench: Workbench, kind: Kind) -> float:
    handles = [b""] * ITEMS
    before = bench.clock()
    for step in kind.steps:
        requests = [step(number, handles[number]) for number in range(ITEMS)]
        # Sorted into the order of the requests.
        handles = [_handle(bench, kind, reply) for _, reply in sorted(bench.all_replies(requests))]
    return (bench.clock() - before) / ITEMS


def _handle(bench: Workbench, kind: Kind, reply: bytes) -> bytes:
    """The handle in a reply, if it has one. Raises Refused for a STATUS that is not OK."""
    if reply[4] == wire.SSH2_FXP_STATUS:
        bench.client.expect(kind.name, reply, packets.get_sftpstatus)
    return wire.string_at(reply, 9, len(reply))[0] if reply[4] == wire.SSH2_FXP_HANDLE else b""
