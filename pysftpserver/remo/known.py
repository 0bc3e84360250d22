"""Which servers have spoken numbered mode: from then on the client wants it of them.

Somebody on the path can make a server look like an older one that speaks plain mode only. Of one that was
met before, he cannot. A file has a line for each of their keys. What may not enter: sessions, what is said
there.
"""

from __future__ import annotations

import contextlib
import os

MOST = 1 << 20  # bytes of the file that are looked at


class KnownServers:
    """The file. path: it is made, for its owner alone, when there is something to remember."""

    def __init__(self, path: str) -> None:
        self.path = path

    def is_numbered(self, fingerprint: str) -> bool:
        """Whether the server with that key has spoken numbered mode. Else False."""
        try:
            with open(self.path, encoding="ascii", errors="replace") as file:
                return fingerprint in file.read(MOST).split("\n")
        except OSError:
            return False

    def remember(self, fingerprint: str) -> None:
        """It has, now. Where that cannot be kept, it is not."""
        if self.is_numbered(fingerprint):
            return
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "w") as file:
                file.write(f"{fingerprint}\n")
