"""Remembers servers that have spoken numbered mode; from then on the client requires it of them.

An attacker on the path can make a server look like an older one that speaks plain mode only. This prevents it
for known servers. The file has one line for each server key. What may not enter: sessions.
"""

from __future__ import annotations

import contextlib
import os

MOST = 1 << 20  # bytes of the file that are read


class KnownServers:
    """The file. path: made at the first entry, readable by its owner only."""

    def __init__(self, path: str) -> None:
        self.path = path

    def is_numbered(self, fingerprint: str) -> bool:
        """Whether the server with that key is known to speak numbered mode."""
        try:
            with open(self.path, encoding="ascii", errors="replace") as file:
                return fingerprint in file.read(MOST).split("\n")
        except OSError:
            return False

    def remember(self, fingerprint: str) -> None:
        """Add a server. A file that cannot be written is ignored."""
        if self.is_numbered(fingerprint):
            return
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "w") as file:
                file.write(f"{fingerprint}\n")
