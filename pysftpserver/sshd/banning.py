"""The front of pysftpd: which connections it refuses before SSH begins, and which addresses it bans.

What may not enter: how bans are counted (service/bans.py), SSH.
"""

from __future__ import annotations

import time

from pysftpserver.service.bans import CAUSES, Ban, Bans, policy_of
from pysftpserver.service.front import Front
from pysftpserver.service.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.people.redis_records import RedisAddress
    from pysftpserver.service.shared import Shared
    from pysftpserver.sshd.redis_bans import RedisBans
    from pysftpserver.sshd.server import Server

BY_HAND = "admin"
LEAST = 0.1  # points; other servers are not told of fewer
SAME = 2.0  # seconds by which the end of a ban may be later than that of the known one to be the same


class Banning:
    """The front and the bans of one process."""

    def __init__(self, server: Server, shared: Shared, process: int) -> None:
        self._server = server
        self._process = process
        self._name = shared.digest("server", "bans").hex()  # the same in all processes of this server alone
        self.bans = Bans(shared.bans, process, shared.secret, self._began)
        self.front = Front(self._refused, time.monotonic, self.bans)
        self._elsewhere: RedisBans | None = None
        self._is_learning = False
        self.apply()

    def share(self, address: RedisAddress, **how: Any) -> None:
        """Tell other servers of bans and points, and learn of theirs. how: further arguments of RedisBans."""
        from pysftpserver.sshd.redis_bans import RedisBans

        log = self._server.log_limit.of("bans in Redis")
        # Processes share points, so only one of them learns.
        how |= {"name": self._name, "learn_points": self._learn_points if self._process == 0 else None}
        self._elsewhere = RedisBans(address, log, self.learn, **how)

    async def close(self) -> None:
        """Stop sharing."""
        if self._elsewhere is not None:
            await self._elsewhere.close()

    def apply(self) -> None:
        """Apply settings that have changed."""
        settings = self._server.settings
        proxies = settings.proxy_from or ()
        self.bans.policy = policy_of(settings, proxies)
        self.front.limit(proxies, settings.allow_networks or (), settings.deny_networks or ())

    # --- what connections do ------------------------------------------------------------------------------

    def fault(self, address: str, cause: str) -> None:
        """An address has done something that costs points (service.bans.POINTS)."""
        self._tell_points(address, self.bans.fault(address, cause, time.monotonic()))

    def succeeded(self, address: str) -> None:
        """A user has logged in."""
        self._tell_points(address, self.bans.succeeded(address, time.monotonic()))

    def _tell_points(self, address: str, points: float) -> None:
        if abs(points) >= LEAST and self._elsewhere is not None:
            self._elsewhere.tell_points(network_of(address), points)

    def _learn_points(self, address: str, points: float) -> None:
        self.bans.learn(address, points, time.monotonic())

    def is_banned(self, address: str) -> bool:
        """Whether an address is banned now."""
        return self.bans.is_banned(address, time.monotonic())

    def end_banned(self) -> None:
        """End the connections from banned addresses that have not logged in."""
        for connection in self._server.connections:
            if connection.is_stranger and self.is_banned(connection.address):
                connection.cast_out("its address is banned")

    def _began(self, ban: Ban) -> None:
        self._server.metrics.bans[ban.cause] += 1
        words = f"{ban.points:.0f} points, ban {ban.bans}" if ban.points else f"ban {ban.bans}"
        seconds = ban.until - time.monotonic()
        if self._is_learning:
            words += ", told by another server"
        elif self._elsewhere is not None:
            self._elsewhere.tell(ban.network, (seconds, ban.cause, ban.bans))
        log = self._server.log_limit.of(ban.network)
        log.error(f"banned {ban.network} for {seconds:.0f} seconds: {ban.cause} ({words})")
        self.end_banned()

    def learn(self, address: str, seconds: float, cause: str, bans: int) -> None:
        """Another server has banned an address, or, with 0 seconds, has lifted its ban."""
        now = time.monotonic()
        if not seconds:
            self._lift(address)
        elif not self.bans.is_banned(address, now + seconds - SAME):
            self._is_learning = True
            try:
                self.bans.ban(address, seconds, cause if cause in CAUSES else "elsewhere", now, bans)
            except ValueError:
                pass  # the address is trusted here
            finally:
                self._is_learning = False

    def _refused(self, address: str, why: str, words: str) -> None:
        self._server.refused(why)
        if words:
            self._server.log_limit.of(network_of(address)).error(f"{address}: refused: {words}")

    # --- what an administrator asks -----------------------------------------------------------------------

    def count(self) -> int:
        """The number of networks that are banned now."""
        return self.bans.count(time.monotonic())

    def listed(self) -> list[dict[str, Any]]:
        """All networks with bans or points, as values for JSON. seconds: until the end of the ban, or 0."""
        now = time.monotonic()
        return [
            {
                "address": ban.network,
                "points": round(ban.points, 1),
                "seconds": round(max(0.0, ban.until - now), 1),
                "cause": ban.cause,
                "bans": ban.bans,
            }
            for ban in self.bans.listed(now)
        ]

    def ban(self, address: str, seconds: float) -> str:
        """Ban an address by hand; returns its network. Raises ValueError."""
        self.bans.ban(address, seconds, BY_HAND, time.monotonic())
        return network_of(address)

    def lift(self, address: str) -> bool:
        """Forget what this process knows of an address; whether there was something."""
        found = self._lift(address)
        if found and self._elsewhere is not None:
            self._elsewhere.tell(network_of(address), (0.0, BY_HAND, 1))
        return found

    def _lift(self, address: str) -> bool:
        found = self.bans.lift(address)
        if found:
            self._server.log.info(f"lifted the ban of {network_of(address)}")
        return self._server.penalties.forgive(address) or found
