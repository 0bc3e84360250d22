"""The memory that the processes of one server share: connections, one-time codes, and failures and bans.

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DIGEST = 16  # bytes, of an address or a user's name
FAILURES = 1024  # remembered by each process
TIME = 4  # bytes of a moment, in seconds
CODES = 4096  # one-time codes that each process remembers as used
_NOBODY = bytes(DIGEST)


class Shared:
    """The memory. processes: their number. most: maximum number of connections of one process.

    bans: a table for each process (service.bans.Bans), with keys by the secret.
    """

    def __init__(self, processes: int, most: int) -> None:
        self.most = most
        self.places = most * 2 * DIGEST  # bytes of each part, before the failures
        self.codes = self.places + FAILURES * (DIGEST + TIME)
        self._part = self.codes + CODES * DIGEST
        self.processes = processes
        self._memory = mmap.mmap(-1, self._part * processes)
        self.bans = mmap.mmap(-1, bans.BYTES * processes)
        self.secret = secrets.token_bytes(16)

    def digest(self, kind: str, text: str) -> bytes:
        """A digest of an address or a user's name. It is keyed: clients cannot choose names that collide."""
        return hashlib.blake2b(f"{kind} {text}".encode(), digest_size=DIGEST, key=self.secret).digest()

    def wipe(self, process: int) -> None:
        """Forget everything that a process wrote, except bans and used codes. It must not be running."""
        start = process * self._part
        self._memory[start : start + self.codes] = bytes(self.codes)

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
            part = self._of(process)[self.places : self.codes]
            at = part.find(digest)
            while at >= 0:
                found += int.from_bytes(part[at + DIGEST : at + DIGEST + TIME], "big") >= since
                at = part.find(digest, at + DIGEST)
        return found

    def forget_failures(self, process: int, digest: bytes) -> bool:
        """Forget the failures with that digest that a process has written; return whether there was one."""
        start = process * self._part
        at = first = self._memory.find(digest, start + self.places, start + self.codes)
        while at >= 0:
            self._memory[at : at + DIGEST + TIME] = bytes(DIGEST + TIME)
            at = self._memory.find(digest, at, start + self.codes)
        return first >= 0

    def has_code(self, digest: bytes, processes: Iterable[int]) -> bool:
        """Whether one of these processes has written a code with that digest."""
        return any(digest in self._of(process)[self.codes :] for process in processes)

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
        """Note that the connection at a place has logged in; return the reason for refusing it, or None."""
        digest = self._shared.digest("user", user)
        if self.per_user is not None and self._shared.present(digest) >= self.per_user:
            return f"the user has {self.per_user} connections (max_per_user)"
        self._shared.write(self._process, place * 2 * DIGEST + DIGEST, digest)
        return None

    def leave(self, place: int) -> None:
        """Note that an admitted connection has ended."""
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
        self._write(self._shared.digest("failure", network_of(address)), now)

    def _write(self, digest: bytes, now: float) -> None:
        record = digest + int(now).to_bytes(TIME, "big")
        self._shared.write(self._process, self._shared.places + self._next * len(record), record)
        self._next = (self._next + 1) % FAILURES

    def delay(self, address: str, now: float) -> float:
        """Seconds that the next login from an address has to wait."""
        digest = self._shared.digest("failure", network_of(address))
        count = self._shared.failures(digest, max(0, int(now) - WINDOW))
        return throttle.delay(count)

    def forgive(self, address: str) -> bool:
        """Forget the failures from an address that this process has seen; return whether there was one."""
        return self._shared.forget_failures(
            self._process, self._shared.digest("failure", network_of(address))
        )

    def failed_code(self, user: str, now: float) -> None:
        """Count a wrong one-time code of a user."""
        self._write(self._shared.digest("wrong code", user), now)

    def wrong_codes(self, user: str, now: float) -> int:
        """The number of a user's wrong codes lately."""
        return self._shared.failures(self._shared.digest("wrong code", user), max(0, int(now) - WINDOW))


class Codes:
    """One-time codes, each of which is accepted once by all processes."""

    def __init__(self, shared: Shared, process: int) -> None:
        self._shared = shared
        self._process = process
        self._next = 0

    def use(self, user: str, step: int) -> bool:
        """Whether the code of a user for that step is used for the first time.

        Of two processes that are asked at once, at most one accepts it: each writes before it looks.
        """
        digest = self._shared.digest("code", f"{step} {user}")
        if self._shared.has_code(digest, range(self._shared.processes)):
            return False
        self._shared.write(self._process, self._shared.codes + self._next * DIGEST, digest)
        self._next = (self._next + 1) % CODES
        others = (one for one in range(self._shared.processes) if one != self._process)
        return not self._shared.has_code(digest, others)
