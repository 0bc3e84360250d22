"""Bans of addresses that fail or scan: points that fade, and bans that grow.

The table is in memory that the processes of one server share. Each process writes only to its own part and
reads all of them, so nothing needs a lock: points fade by halves, so that those in several parts add up, and
points that a process takes away are negative in its own part. A keyed digest of the network decides where its
record may be: clients cannot choose whose record they displace. Times are arguments, in seconds of a clock
that all processes share. What may not enter: sockets, clocks, what a fault is.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import math
import mmap
import struct
from dataclasses import dataclass

from pysftpserver.service.networks import MAPPED, Networks, address_of
from pysftpserver.service.settings import span
from pysftpserver.service.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pysftpserver.service.settings import StrangerSettings

#: Faults, and the points for each. A wrong key and an unknown user cost the same: the time of a ban must not
#: reveal which names exist.
POINTS = {
    "failed": 3.0,  # to log in, once for each connection
    "garbage": 5.0,  # the data was not SSH
    "left": 1.0,  # the connection ended before keys were exchanged, or did not send anything
    "crowd": 2.0,  # too many connections from one address at once
}
CAUSES = (*POINTS, "admin", "elsewhere")  # "elsewhere": a cause that this version does not know
RECORD = struct.Struct("=16sdddHB5x")  # network, points, time of the points, end of the ban, bans, cause
WAYS = 8  # possible places for the record of one network
SETS = 512
LATEST = struct.Struct("=d")  # in front of the records: the end of the last ban that was written
BYTES = LATEST.size + SETS * WAYS * RECORD.size  # of the table of one process; 192 KiB
MOST_BANS = 0xFFFF
NO_KEY = bytes(16)
PREFIX = MAPPED.network_address.packed[:12]  # of the keys of IPv4


@dataclass(frozen=True)
class Policy:
    """points: at which an address is banned; None: only by hand. times: seconds of the first ban, the second
    and so on; the last one applies to all further bans. fade: seconds in which half of the points fade.
    trusted: networks that are never banned.

    Bans are forgotten after the longest of the times without another one.
    """

    points: float | None = None
    times: Sequence[float] = (60.0,)
    fade: float = 600.0
    trusted: Networks = Networks(())


def policy_of(settings: StrangerSettings, proxies: Sequence[str] = ()) -> Policy:
    """The policy of a door's settings. proxies: never banned, because all of their clients would be."""
    return Policy(
        settings.ban_points if settings.bans else None,
        tuple(span(text) for text in settings.ban_times) or Policy.times,
        settings.ban_fade,
        Networks((*(settings.trusted_networks or ()), *proxies)),
    )


@dataclass(frozen=True)
class Ban:
    """A network and its points; until: the end of its ban, in seconds of the table's clock, or 0.0."""

    network: str
    until: float
    cause: str
    bans: int = 1
    points: float = 0.0


@dataclass
class _Record:
    """One record. place: in the memory. at: the time of its points."""

    place: int
    key: bytes
    points: float = 0.0
    at: float = 0.0
    until: float = 0.0
    bans: int = 0
    cause: int = 0

    def faded(self, now: float, fade: float) -> float:
        return self.points * math.exp2(-max(0.0, now - self.at) / fade)


class Bans:
    """The table. memory: of BYTES for each process. own: the number of this process. secret: the same in all
    of them. began: called with each ban that begins here, by points or by hand.
    """

    def __init__(
        self,
        memory: mmap.mmap | None = None,
        own: int = 0,
        secret: bytes = b"",
        began: Callable[[Ban], None] = lambda ban: None,
    ) -> None:
        self._memory = mmap.mmap(-1, BYTES) if memory is None else memory
        self._tables = list(range(0, len(self._memory), BYTES))
        self._own = self._tables[own]
        self._secret = secret
        self._began = began
        self.policy = Policy()

    # --- asking -------------------------------------------------------------------------------------------

    def is_banned(self, address: str, now: float) -> bool:
        """Whether an address is banned. Without any ban, this costs a microsecond."""
        if not self._are_any(now):
            return False
        key = key_of(address)
        if key is None or not any(now < record.until for record in self._of(key)):
            return False
        return address not in self.policy.trusted

    def count(self, now: float) -> int:
        """The number of networks that are banned."""
        if not self._are_any(now):
            return 0
        parts = (self._memory[table + LATEST.size : table + BYTES] for table in self._tables)
        records = itertools.chain.from_iterable(map(RECORD.iter_unpack, parts))
        return len({key for key, _, _, until, *_ in records if now < until})

    def _are_any(self, now: float) -> bool:
        """Whether a ban may be in force."""
        return any(now < LATEST.unpack_from(self._memory, table)[0] for table in self._tables)

    def listed(self, now: float) -> list[Ban]:
        """All networks that are banned or have points, those banned longest first."""
        found: dict[bytes, list[_Record]] = {}
        for table in self._tables:
            for place in range(table + LATEST.size, table + BYTES, RECORD.size):
                record = self._read(place)
                if record is not None:
                    found.setdefault(record.key, []).append(record)
        bans = [self._told(key, records, now) for key, records in found.items()]
        wanted = (ban for ban in bans if ban.until or ban.points >= 0.5)
        return sorted(wanted, key=lambda ban: (-ban.until, -ban.points, ban.network))

    def _told(self, key: bytes, records: Sequence[_Record], now: float) -> Ban:
        last = max(records, key=lambda record: (record.until, record.at))
        until = last.until if now < last.until else 0.0
        return Ban(name_of(key), until, CAUSES[last.cause], last.bans, self._sum(records, now))

    # --- telling ------------------------------------------------------------------------------------------

    def fault(self, address: str, cause: str, now: float) -> float:
        """Count a fault of an address. cause: one of POINTS.

        Returns the points that were added: 0.0 if a ban begins. Faults of connections that were open when a
        ban began are not counted.
        """
        policy = self.policy
        found = self._not_banned(address, now)
        if policy.points is None or found is None:
            return 0.0
        key, records = found
        points = self._sum(records, now) + POINTS[cause]
        is_over = round(points) >= policy.points  # some have faded since the connection began
        self._add(key, POINTS[cause] - points * is_over, cause, now)
        if is_over:
            bans = max((record.bans for record in records if self._counts(record, now)), default=0)
            seconds = policy.times[min(bans, len(policy.times) - 1)]
            self._ban(key, now + seconds, cause, bans + 1, now, points)
        return 0.0 if is_over else POINTS[cause]

    def succeeded(self, address: str, now: float) -> float:
        """Take back half of an address's points after a login. Returns the change, a negative number."""
        key = key_of(address) if self.policy.points is not None else None
        points = self._sum(list(self._of(key)), now) if key is not None else 0.0
        if key is not None and points > 0:
            self._add(key, -points / 2, "", now)
        return -points / 2

    def learn(self, address: str, points: float, now: float) -> None:
        """Add points that another server has given an address (or taken back). Does not begin a ban."""
        found = self._not_banned(address, now)
        if found is not None:
            key, records = found
            self._add(key, max(points, -self._sum(records, now)), "", now)

    def _not_banned(self, address: str, now: float) -> tuple[bytes, list[_Record]] | None:
        """The key and the records of an address that may get points; None if it may not."""
        key = key_of(address)
        if self.policy.points is None or key is None or address in self.policy.trusted:
            return None
        records = list(self._of(key))
        return None if any(now < record.until for record in records) else (key, records)

    def ban(self, address: str, seconds: float, cause: str, now: float, bans: int | None = None) -> None:
        """Ban an address for this time, or longer if it is banned already. That uses up its points.

        cause: one of CAUSES. bans: its number of bans including this one; None: one more. Raises ValueError
        for a text that is not an address, or a trusted one.
        """
        key = key_of(address)
        if key is None:
            raise ValueError(f"{address!r} is not an address")
        if address in self.policy.trusted:
            raise ValueError(f"{address} is trusted, and never banned")
        if bans is None:
            bans = 1 + max((record.bans for record in self._of(key) if self._counts(record, now)), default=0)
        if points := self._sum(list(self._of(key)), now):
            self._add(key, -points, "", now)
        self._ban(key, now + seconds, cause, bans, now)

    def lift(self, address: str) -> bool:
        """Forget everything that this process knows of an address; return whether there was anything."""
        key = key_of(address)
        known = [record for record in self._of(key) if self._is_own(record)] if key is not None else []
        for record in known:
            self._memory[record.place : record.place + RECORD.size] = bytes(RECORD.size)
        return bool(known)

    # --- the table ----------------------------------------------------------------------------------------

    def _ban(self, key: bytes, until: float, cause: str, bans: int, now: float, points: float = 0.0) -> None:
        record = self._record(key, now)
        record.until, record.bans = max(until, record.until), min(bans, MOST_BANS)
        record.cause = CAUSES.index(cause)
        self._write(record)
        (latest,) = LATEST.unpack_from(self._memory, self._own)
        LATEST.pack_into(self._memory, self._own, max(latest, until))
        self._began(Ban(name_of(key), record.until, cause, record.bans, points))

    def _add(self, key: bytes, points: float, cause: str, now: float) -> None:
        record = self._record(key, now)
        record.points = record.faded(now, self.policy.fade) + points
        record.at = now
        if cause:
            record.cause = CAUSES.index(cause)
        self._write(record)

    def _sum(self, records: Sequence[_Record], now: float) -> float:
        return max(0.0, sum(record.faded(now, self.policy.fade) for record in records))

    def _counts(self, record: _Record, now: float) -> bool:
        """Whether its bans are remembered."""
        return now < record.until + max(self.policy.times)

    def _is_own(self, record: _Record) -> bool:
        return self._own <= record.place < self._own + BYTES

    def _of(self, key: bytes, tables: Sequence[int] = ()) -> Iterator[_Record]:
        """The records of a network, in all tables or in those that begin at these offsets."""
        start = self._start(key)
        for table in tables or self._tables:
            first = table + start
            place = self._memory.find(key, first, first + WAYS * RECORD.size)
            while place >= 0 and (place - first) % RECORD.size:
                place = self._memory.find(key, place + 1, first + WAYS * RECORD.size)
            record = self._read(place) if place >= 0 else None
            if record is not None:
                yield record

    def _record(self, key: bytes, now: float) -> _Record:
        """The record of a network in this process's table; a new one replaces another.

        Bans in force are replaced last, and among them those that end first.
        """
        for record in self._of(key, [self._own]):
            return record
        start = self._own + self._start(key)
        places = range(start, start + WAYS * RECORD.size, RECORD.size)
        return _Record(min(places, key=lambda place: self._worth(self._read(place), now)), key)

    def _worth(self, record: _Record | None, now: float) -> tuple[float, float]:
        if record is None:
            return 0.0, -1.0
        if now < record.until:
            return record.until, 0.0
        bans = record.bans if self._counts(record, now) else 0
        return 0.0, max(0.0, record.faded(now, self.policy.fade)) + bans * (self.policy.points or 1.0)

    def _read(self, place: int) -> _Record | None:
        """The record at a place; None: there is none, or a killed process has left it half written."""
        key, points, at, until, bans, cause = RECORD.unpack_from(self._memory, place)
        if key == NO_KEY or cause >= len(CAUSES) or not math.isfinite(points + at + until):
            return None
        return _Record(place, key, points, at, until, bans, cause)

    def _write(self, record: _Record) -> None:
        values = record.points, record.at, record.until, record.bans, record.cause
        RECORD.pack_into(self._memory, record.place, record.key, *values)

    def _start(self, key: bytes) -> int:
        """The offset, in each table, of the possible places for the record of a network."""
        number = int.from_bytes(hashlib.blake2b(key, digest_size=2, key=self._secret).digest(), "big")
        return LATEST.size + number % SETS * WAYS * RECORD.size


def key_of(address: str) -> bytes | None:
    """The network of an address (throttle.network_of()) in 16 bytes; None if it is not an address."""
    parsed = address_of(address)
    if parsed is None:
        return None
    return PREFIX + parsed.packed if parsed.version == 4 else parsed.packed[:8] + bytes(8)


def name_of(key: bytes) -> str:
    """The network of a key, as network_of() returns it."""
    return network_of(str(ipaddress.IPv6Address(key)))
