"""Why the login attempts on one connection were refused, in words for the log.

The client must not learn it. What may not enter: SSH, users, passwords.
"""

from __future__ import annotations

from collections import Counter

from pysftpserver.people.keys import fingerprint

MOST_SHOWN = 6  # keys of a failed login, in a line of the log


class Refusals:
    """The attempts that were refused."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[bytes, None]] = {}  # by what was wrong
        self._certificates: dict[str, None] = {}  # with what was wrong
        self._others: Counter[str] = Counter()

    def key(self, fault: str, blob: bytes) -> None:
        """A key was refused."""
        self._keys.setdefault(fault, {})[blob] = None

    def certificate(self, words: str) -> None:
        """A certificate was refused. words: which, and why."""
        self._certificates[words] = None

    def other(self, fault: str) -> None:
        """Anything else was refused."""
        self._others[fault] += 1

    @property
    def has_others(self) -> bool:
        """Whether anything but a key or a certificate was refused."""
        return bool(self._others)

    def words(self) -> list[str]:
        """What was wrong with all of them."""
        found = []
        for fault, blobs in self._keys.items():
            shown = [fingerprint(blob) for blob in blobs]
            more = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
            found.append(f"{fault} {', '.join(shown[:MOST_SHOWN])}{more}")
        certificates = list(self._certificates)
        found += certificates[:MOST_SHOWN]
        if len(certificates) > MOST_SHOWN:
            found.append(f"{len(certificates) - MOST_SHOWN} more certificates")
        for fault, count in self._others.items():
            found.append(f"{fault} ({count} times)" if count > 1 else fault)
        return found
