"""Measures how fast a server answers, and how much it accepts at once.

Everything is measured in one directory, within a time and a number of bytes, and is removed again. A figure
is the median of several rounds. What may not enter: rules, and how figures are shown.
"""

from __future__ import annotations

import statistics
import time

from pysftpserver.contract import packets
from pysftpserver.contract.client import (
    CREAT,
    NEW,
    OK,
    READ,
    WRITE,
    Closed,
    Refused,
    Silent,
    refusal_of,
)
from pysftpserver.engine import wire
from pysftpserver.probe.kinds import ITEMS, LEAST, ROUNDS, measure_kinds
from pysftpserver.probe.results import Figure
from pysftpserver.probe.workbench import IN_FLIGHT, STEP, Workbench

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.contract.client import Client, Line
    from pysftpserver.probe.workbench import Request

BUDGET = 20.0  # seconds
FILE = 4 << 20  # bytes of the largest file
ROUND_BYTES = 32 << 20  # bytes that one round of reading or writing moves at most
SIZES = tuple(1 << power for power in range(12, 23))  # bytes of a READ or WRITE: 4 KiB to 4 MiB
CLOSENESS = 1 << 8  # bytes of precision when the longest WRITE is searched
HANDLES = 500  # most handles opened at once
NAMES = 3_000  # entries of the directory that is listed
TRIPS = 10  # round trips that a round of a throughput must last
ROUND_SECONDS = 0.02  # minimum duration of a round of a throughput

# Shares of the budget.
_TRIP, _KINDS, _LISTING, _LIMITS, _TRANSFERS, _HANDLES = 0.05, 0.35, 0.2, 0.1, 0.25, 0.05

_DONE = bytes((wire.SSH2_FXP_STATUS,)) + packets.sftpint(OK)  # type and code of a reply


def measure(
    client: Client,
    connect: Callable[[], Line],
    directory: bytes,
    budget: float = BUDGET,
    progress: Callable[[str], None] = lambda words: None,
    figures: list[Figure] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Figure]:
    """Measure a server.

    Args:
        client: a session that has begun.
        connect: opens a line for one more session; a request that is too long may end one.
        directory: an existing, empty directory, which is left empty.
        budget: seconds after which nothing new is begun. An unanswered request adds the client's patience.
        progress: called with what is measured next, in words.
        figures: the list to fill, for a caller that wants the figures before a failure.
        clock: returns seconds from any starting point.

    Raises:
        Broken, Silent, Closed: the server broke the protocol, did not answer, or ended the session.
        Refused: it does not let files be written.

    A request kind that the server refuses has no figure.
    """
    found: list[Figure] = [] if figures is None else figures
    bench = Workbench(client, connect, directory, budget, clock)
    speed = _Speed(bench)
    parts = (
        ("the path's round trip", speed.trips),
        ("one request at a time, and many", speed.kinds),
        ("READDIR", speed.names),
        ("the longest READ and WRITE", speed.longest),
        ("READ and WRITE by size", speed.transfers),
        ("handles", speed.handles),
    )
    try:
        for words, part in parts:
            progress(words)
            found.extend(part())
    finally:
        bench.clean()
    return found


def round_trip(
    client: Client, path: bytes, clock: Callable[[], float] = time.perf_counter, until: float = float("inf")
) -> float:
    """Seconds from a request to its reply, for the cheapest requests: the minimum over some REALPATH and STAT
    of a path. until: the clock's time after which no more are sent."""
    least = float("inf")
    for number in range(2 * ITEMS):
        before = clock()
        client.ask((wire.SSH2_FXP_REALPATH, wire.SSH2_FXP_STAT)[number % 2], packets.sftpstring(path))
        after = clock()
        least = min(least, after - before)
        if number >= LEAST and after > until:
            break
    return least


class _Speed:
    """The measurements of one server, in the order in which they need each other."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._client = bench.client
        self._trip = 0.0
        self._size = 0  # bytes of the file to read
        self._limits: tuple[int, ...] = (0, 0, 0, 0)  # as announced
        self._most_read = self._most_write = STEP

    def trips(self) -> Iterator[Figure]:
        """The round-trip time."""
        bench = self._bench
        self._trip = round_trip(self._client, bench.directory, bench.clock, bench.until(_TRIP))
        yield Figure("round trip", self._trip * 1000, "ms")

    def kinds(self) -> Iterator[Figure]:
        """Every request kind, one at a time without the round trip, and pipelined."""
        self._size = self._bench.fill("big", FILE, self._bench.until(_TRANSFERS / 4))
        return measure_kinds(self._bench, "big", self._trip, _KINDS)

    def names(self) -> Iterator[Figure]:
        """READDIR of thousands of names, one READDIR at a time, without the round trips."""
        bench = self._bench
        directory = bench.folder("many")
        if refusal_of(self._client.mkdir, directory) is not None:
            return
        until = bench.until(_LISTING * 0.6)
        made = 0
        while made < NAMES and (made == 0 or bench.clock() < until):
            bench.make([f"many/{number:05}.txt" for number in range(made, made + ITEMS)])
            made += ITEMS
        rates: list[float] = []
        until = bench.until(_LISTING * 0.4)
        while len(rates) < LEAST and (not rates or bench.clock() < until):
            before = bench.clock()
            handle = self._client.opendir(directory)
            found, asked = 0, 3  # OPENDIR, the last READDIR, CLOSE
            while (count := bench.readdir(handle)) is not None:
                found += count
                asked += 1
            self._client.close_handle(handle)
            rates.append(found / max(bench.clock() - before - asked * self._trip, 1e-6))
        yield Figure("READDIR", statistics.median(rates), "names/s")

    def longest(self) -> Iterator[Figure]:
        """The longest requests: as limits@openssh.com announces, and as accepted."""
        if b"limits@openssh.com" in self._client.extensions:
            self._limits = self._client.limits()
        packet, reading, writing, _ = self._limits
        handle = self._client.open(self._bench.path("big"), READ)
        self._most_read = self._longest_read(handle, self._bench.until(_LIMITS / 2))
        self._client.close_handle(handle)
        yield Figure("longest READ answered whole", self._most_read, "bytes", reading or None)
        self._most_write = self._longest_write(self._bench.until(_LIMITS / 2))
        yield Figure("longest WRITE", self._most_write, "bytes", writing or None)
        # Around the data: type, id, the lengths of the handle and of the data, and the offset.
        yield Figure("longest packet", self._most_write + 21 + len(handle), "bytes", packet or None)

    def _longest_read(self, handle: bytes, until: float) -> int:
        """Bytes of the longest DATA reply."""
        most = 0
        for size in sorted({*SIZES, self._limits[1] or STEP}):
            if size > SIZES[-1] or (most and self._bench.clock() >= until):
                break
            try:
                answered = len(self._client.read(handle, 0, size))
            except Refused:
                break
            most = max(most, answered)
            if answered < size:
                break
        return most

    def _longest_write(self, until: float) -> int:
        """Bytes of the longest WRITE that succeeds, as far as there is time: starting from the announced
        size, double until one fails, then bisect. Each is sent in its own session, which it may end."""
        taken, refused = 0, 0
        size = min(self._limits[2] or STEP, SIZES[-1])
        while size <= SIZES[-1] and (not refused or refused - taken > CLOSENESS):
            if self._takes(size):
                taken = size
            else:
                refused = size
            if self._bench.clock() >= until:
                break
            size = (taken + refused) // 2 if refused else taken * 2
        return taken

    def _takes(self, size: int) -> bool:
        """Whether the server accepts a WRITE of size bytes."""
        client = self._bench.session()
        try:
            handle = client.open(self._bench.file("f1"), WRITE | CREAT)
            client.write(handle, 0, bytes(size))
        except (Refused, Closed, Silent):
            return False
        finally:
            client.close()
        return True

    def transfers(self) -> Iterator[Figure]:
        """Throughput of READ and WRITE by request size, with many requests in flight."""
        bench = self._bench
        reading = self._client.open(bench.path("big"), READ)
        writing = self._client.open(bench.file("new"), NEW)
        sizes = [size for size in SIZES if size <= max(self._most_read, self._most_write)]
        for size in sizes:
            share = _TRANSFERS * 0.75 / len(sizes) / 2
            if size <= self._most_write and not bench.over():
                yield from self._throughput("WRITE", size, _writes(writing, size), share)
            if size <= self._most_read and not bench.over():
                yield from self._throughput("READ", size, _reads(reading, size, self._size), share)
        self._client.close_handle(reading)
        self._client.close_handle(writing)

    def _throughput(
        self, name: str, size: int, request: Callable[[int], Request], share: float
    ) -> Iterator[Figure]:
        """MB/s of requests of one size. Rounds grow until a round trip does not matter, and are repeated.
        Nothing if the server refuses them."""
        bench = self._bench
        until = bench.until(share)
        count = IN_FLIGHT // 4
        rates: list[float] = []
        while len(rates) < ROUNDS and (not rates or bench.clock() < until):
            before = bench.clock()
            moved = sum(_moved(size, reply) for _, reply in bench.replies(map(request, range(count))))
            seconds = max(bench.clock() - before, 1e-6)
            long_enough = seconds > TRIPS * self._trip and seconds > ROUND_SECONDS
            if long_enough or 2 * count * size > ROUND_BYTES or bench.clock() + 2 * seconds > until:
                rates.append(moved / seconds / 1e6)
            else:
                count *= 2
        if moved:
            yield Figure(f"{name} of {size >> 10} KiB", statistics.median(rates), "MB/s")

    def handles(self) -> Iterator[Figure]:
        """Number of handles that can be open at once, in their own session, up to a bound."""
        client = self._bench.session()
        opened = 0
        until = self._bench.until(_HANDLES)
        try:
            while opened < HANDLES and (not opened or self._bench.clock() < until):
                if refusal_of(client.open, self._bench.path("f0"), READ) is not None:
                    break
                opened += 1
        except (Closed, Silent):
            pass
        finally:
            client.close()
        yield Figure(f"open handles, of {HANDLES} tried", opened, "handles", self._limits[3] or None)


def _writes(handle: bytes, size: int) -> Callable[[int], Request]:
    """Makes WRITEs by number, cycling through a file of FILE bytes."""
    asked, piece = packets.sftpstring(handle), packets.sftpstring(bytes(size))
    places = FILE // size
    return lambda number: (
        wire.SSH2_FXP_WRITE,
        (asked, packets.sftpint64(number % places * size), piece),
    )


def _reads(handle: bytes, size: int, length: int) -> Callable[[int], Request]:
    """Makes READs by number, cycling through a file of this length: none is beyond its end."""
    asked, most = packets.sftpstring(handle), packets.sftpint(size)
    places = max(length // size, 1)
    return lambda number: (
        wire.SSH2_FXP_READ,
        (asked, packets.sftpint64(number % places * size), most),
    )


def _moved(size: int, reply: bytes) -> int:
    """Bytes that a reply stands for: those of a DATA, or those that a WRITE of this size has written."""
    if reply[4] == wire.SSH2_FXP_DATA:
        return wire.u32_at(reply, 9, len(reply))
    return size if reply[4:5] + reply[9:13] == _DONE else 0
