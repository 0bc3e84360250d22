"""Who may log in to a server, and how soon after failures. Every refusal looks the same to a client.

What may not enter: sockets, lines, the formulas of SRP.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping

from pysftpserver.failures import needed
from pysftpserver.service.throttle import Throttle

THROTTLED = "too many failed logins from its address"


class LoginFailed(Exception):
    """A client may not sync. The text is for the log; the client is not told why."""


class Logins:
    """The users of a server and the recent failures of each address. users: (salt, verifier) by name."""

    def __init__(self, users: Mapping[str, tuple[bytes, int]]) -> None:
        self.users = users
        self.decoy = _decoy(users)
        self._throttle = Throttle()

    def check(self, address: str) -> None:
        """Raises LoginFailed if logins from the address have to wait."""
        if self._throttle.wait(address, time.monotonic()) > 0:
            raise LoginFailed(THROTTLED)

    def failed(self, address: str) -> None:
        """Count a failed login."""
        self._throttle.failed(address, time.monotonic())


def need_srptools() -> None:
    """Raises BadInput if srptools, which logins need, is not installed."""
    with needed("sksync", "srptools"):
        import srptools  # noqa: F401


def _decoy(users: Mapping[str, tuple[bytes, int]]) -> bytes:
    """A secret that is the same after a restart with the same users.

    The salts of unknown users are derived from it. If they changed with every start, that would distinguish
    unknown users from known ones.
    """
    if not users:
        return secrets.token_bytes(32)
    return hashlib.sha256(repr(sorted(users.items())).encode()).digest()
