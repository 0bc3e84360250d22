"""Counts what one client sends and tries before its login, for login_bytes and auth_tries.

What may not enter: SSH, users, which attempt was right, what a limit leads to.
"""

from __future__ import annotations


class Attempts:
    """The login requests of one client. received: bytes that have arrived before the login."""

    def __init__(self) -> None:
        self.received = 0
        self._requests = 0
        self._other_methods = 0  # of these, with anything but a key
        self._tried: set[bytes] = set()  # keys and certificates
        self._offered = b""  # the last one of these

    @property
    def have_begun(self) -> bool:
        """Whether the client has asked to be logged in."""
        return self._requests > 0

    def request(self, method: bytes) -> None:
        """Count a request. As in OpenSSH, the first "none" is free."""
        self._requests += 1
        if method != b"publickey" and (method != b"none" or self._requests > 1):
            self._other_methods += 1

    def offer(self, blob: bytes) -> None:
        """Count a key or a certificate; the same one offered again is not counted."""
        self._tried.add(blob)
        self._offered = blob

    def take_back_offer(self) -> None:
        """Do not count the last key, which was right: auth_tries is for attempts that fail."""
        self._tried.discard(self._offered)

    def take_back_request(self) -> None:
        """Do not count the last request with anything but a key, which was right."""
        self._other_methods = max(0, self._other_methods - 1)

    def are_too_many(self, tries: int) -> bool:
        """Whether there were more attempts than tries, the number that may fail."""
        return len(self._tried) + self._other_methods > tries

    def are_too_many_requests(self, tries: int) -> bool:
        """Whether there were more requests than tries need: a client asks about a key, then signs."""
        return self._requests > 2 * tries + 1
