"""The memory that the processes of one server share: connections, and failed logins and bans by address.

Each process writes only to its own part and reads all of them, so nothing needs a lock; the parent wipes the
part of a process that was killed. Times are arguments, in seconds of a clock that all processes share. What
may not enter: SSH, clocks.
"""

from __future__ import annotations

import hashlib
import mmap
import secrets

from pysftpserver.service import bans, throttle
from pysftpserver.service.throttle import WINDOW, network_of

DIGEST = 16  # bytes, of an address or a user's name
FAILURES = 1024  # remembered by each process
TIME = 4  # bytes of a moment, in seconds
_NOBODY = bytes(DIGEST)


class Shared:
    """The memory. processes: their number. most: maximum number of connections of one process.

    bans: a table for each process (service.bans.Bans), with keys by the secret.
    """

    def __init__(self, processes: int, most: int) -> None:
        self.most = most
        self.places = most * 2 * DIGEST  # bytes of each part, before the failures
        self._part = self.places + FAILURES * (DIGEST + TIME)
        self.processes = processes
        self._memory = mmap.mmap(-1, self._part * processes)
        self.bans = mmap.mmap(-1, bans.BYTES * processes)
        self.secret = secrets.token_bytes(16)

    def digest(self, kind: str, text: str) -> bytes:
        """A digest of an address or a user's name. It is keyed: clients cannot choose names that collide."""
        return hashlib.blake2b(f"{kind} {text}".encode(), digest_size=DIGEST, key=self.secret).digest()

    def wipe(self, process: int) -> None:
        """Forget what a process has written, but for its bans. It must not be running."""
        start = process * self._part
        self._memory[start : start + self._part] = bytes(self._part)

    def write(self, process: int, place: int, data: bytes) -> None:
        """Write bytes into the part of a process."""
        start = process * self._part + place
        self._memory[start : start + len(data)] = data

    def present(self, digest: bytes) -> int:
        """The number of connections with that digest, in all processes."""
        parts = (self._of(process)[: self.places] for process in range(self.processes))
        return sum(part.count(digest) for part in parts)

    def occupied(self, process: int) -> int:
        """The number of connections of a process."""
        part = self._of(process)
        return sum(part[at : at + DIGEST] != _NOBODY for at in range(0, self.places, 2 * DIGEST))

    def failures(self, digest: bytes, since: int) -> int:
        """The number of failures with that digest since a time, in all processes."""
        found = 0
        for process in range(self.processes):
            part = self._of(process)[self.places :]
            at = part.find(digest)
            while at >= 0:
                found += int.from_bytes(part[at + DIGEST : at + DIGEST + TIME], "big") >= since
                at = part.find(digest, at + DIGEST)
        return found

    def _of(self, process: int) -> bytes:
        return self._memory[process * self._part : (process + 1) * self._part]


class Gate:
    """Limits connections: in all, from one address, of one user. None: no limit.

    process: the number of this one. Two processes that accept a connection at the same moment may exceed a
    limit by one each.
    """

    def __init__(
        self, shared: Shared, process: int, most: int, per_address: int | None, per_user: int | None
    ) -> None:
        self._shared = shared
        self.limit(most, per_address, per_user)
        self._process = process
        self._free = list(range(shared.most))
        self.room = shared.most  # places that this process has in the memory

    def limit(self, most: int, per_address: int | None, per_user: int | None) -> None:
        """Set new limits. One process cannot have more connections than the memory has places for."""
        self.most = most
        self.per_address = per_address
        self.per_user = per_user

    def enter(self, address: str) -> tuple[int, str | None]:
        """Admit a connection: (its place, None), or (-1, the reason for refusing it).

        The reason ends with the setting, in parentheses.
        """
        digest = self._shared.digest("address", network_of(address))
        if self.per_address is not None and self._shared.present(digest) >= self.per_address:
            return -1, f"{self.per_address} connections from its address are open (max_per_address)"
        if self.is_full():
            return -1, f"{min(self.most, self.room)} connections are open (max_connections)"
        place = self._free.pop()
        self._shared.write(self._process, place * 2 * DIGEST, digest)
        return place, None

    def is_full(self) -> bool:
        """Whether no further connection is admitted from any address."""
        return not self._free or self._total() >= self.most

    def _total(self) -> int:
        """Connections in all; only this process's are counted exactly, by its free places."""
        shared = self._shared
        own = shared.most - len(self._free)
        return own + sum(
            shared.occupied(process) for process in range(shared.processes) if process != self._process
        )

    def log_in(self, place: int, user: str) -> str | None:
        """The connection at a place has logged in; the reason for refusing it, or None."""
        digest = self._shared.digest("user", user)
        if self.per_user is not None and self._shared.present(digest) >= self.per_user:
            return f"the user has {self.per_user} connections (max_per_user)"
        self._shared.write(self._process, place * 2 * DIGEST + DIGEST, digest)
        return None

    def leave(self, place: int) -> None:
        """A connection that was admitted has ended."""
        self._shared.write(self._process, place * 2 * DIGEST, 2 * _NOBODY)
        self._free.append(place)


class Penalties:
    """Delays logins from addresses with recent failures."""

    def __init__(self, shared: Shared, process: int) -> None:
        self._shared = shared
        self._process = process
        self._next = 0

    def failed(self, address: str, now: float) -> None:
        """A login from an address has failed."""
        record = self._shared.digest("failure", network_of(address)) + int(now).to_bytes(TIME, "big")
        self._shared.write(self._process, self._shared.places + self._next * len(record), record)
        self._next = (self._next + 1) % FAILURES

    def delay(self, address: str, now: float) -> float:
        """Seconds that the next login from an address has to wait."""
        digest = self._shared.digest("failure", network_of(address))
        count = self._shared.failures(digest, max(0, int(now) - WINDOW))
        return throttle.delay(count)
