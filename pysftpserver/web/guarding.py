"""Decides who may try to log in now: networks that are let in, bans, and waits after failed logins.

What may not enter: HTTP, what a login needs. Several threads may use it.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import threading
import time

from pysftpserver.service.bans import Ban, Bans, policy_of
from pysftpserver.service.networks import Networks
from pysftpserver.service.throttle import Throttle, network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.web.config import WebSettings

log = logging.getLogger("pysftpserver.web")
#: Failures of a name without a delay: beyond it, guesses come from several networks.
SPARE = 12
MOST_FRIENDS = 10_000  # names with networks of earlier logins, which such guesses do not delay
EACH = 4  # logins of one network at once


class Guard:
    """The failures and bans of a server."""

    def __init__(self, values: WebSettings) -> None:
        self._values = values
        self._networks = Throttle()
        self._names = Throttle(SPARE)
        self._friends: collections.OrderedDict[tuple[str, str], None] = collections.OrderedDict()
        self._lock = threading.RLock()  # began() is called within
        self._trying: collections.Counter[str] = collections.Counter()
        self._most = max(2, values.threads // 2)
        self._bans = Bans(began=self._began)
        self.apply()

    def apply(self) -> None:
        """Apply settings that have changed."""
        with self._lock:
            self._bans.policy = policy_of(self._values, self._values.proxies or ())
            self._allowed = Networks(self._values.allow_networks or ())
            self._denied = Networks(self._values.deny_networks or ())

    def is_let_in(self, address: str) -> bool:
        """Whether requests of an address are answered at all."""
        if self._bans.is_banned(address, time.monotonic()):
            return False
        return address not in self._denied and (not self._allowed or address in self._allowed)

    def wait(self, name: str, address: str) -> float:
        """Seconds until a login of that name from an address may be tried; 0.0: now."""
        now, network = time.monotonic(), network_of(address)
        wait = self._networks.wait(network, now)
        if (name, network) not in self._friends:
            wait = max(wait, self._names.wait(_short(name), now))
        return wait

    @contextlib.contextmanager
    def turn(self, address: str) -> Iterator[bool]:
        """Surrounds a login attempt. Yields whether it may go on: few at once, so requests have threads."""
        network = network_of(address)
        with self._lock:
            may = self._trying[network] < EACH and self._trying.total() < self._most
            self._trying[network] += may
        try:
            yield may
        finally:
            with self._lock:
                self._trying[network] -= may
                if not self._trying[network]:
                    del self._trying[network]

    def failed(self, name: str, address: str) -> None:
        """A login has failed."""
        now = time.monotonic()
        self._networks.failed(address, now)
        self._names.failed(_short(name), now)
        with self._lock:
            self._bans.fault(address, "failed", now)

    def succeeded(self, name: str, address: str) -> None:
        """A user has logged in."""
        friend = name, network_of(address)
        with self._lock:
            self._friends[friend] = None
            self._friends.move_to_end(friend)
            if len(self._friends) > MOST_FRIENDS:
                self._friends.popitem(last=False)
            self._bans.succeeded(address, time.monotonic())

    # --- bans ---------------------------------------------------------------------------------------------

    def listed(self) -> list[Ban]:
        """All networks with bans or points; ends of bans are in seconds of time.monotonic()."""
        with self._lock:
            return self._bans.listed(time.monotonic())

    def ban(self, address: str, seconds: float) -> None:
        """Ban an address by hand. Raises ValueError."""
        with self._lock:
            self._bans.ban(address, seconds, "admin", time.monotonic())

    def lift(self, address: str) -> bool:
        """Forget the ban and the points of an address; return whether there were any."""
        with self._lock:
            found = self._bans.lift(address)
        if found:
            log.info("lifted the ban of %s", network_of(address))
        return found

    def _began(self, ban: Ban) -> None:
        seconds = ban.until - time.monotonic()
        log.error("%s: banned for %.0f seconds: %s (ban %d)", ban.network, seconds, ban.cause, ban.bans)


def _short(name: str) -> str:
    """A name in the form that is kept, which takes the same memory whatever a stranger sends."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
