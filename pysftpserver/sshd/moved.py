"""The number and size of the files that the sessions of a connection have moved, for the log.

What may not enter: open files, SSH.
"""

from __future__ import annotations

from pysftpserver.sshd.metrics import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NAMES = ("stored", "written", "fetched", "read")  # files and bytes, as HandleTable.moved has them


class Moved:
    """The sum of sessions that have ended. lacks_some: one of them could not say what it has moved."""

    def __init__(self) -> None:
        self.lacks_some = False
        self._sum = dict.fromkeys(NAMES, 0)

    def add(self, moved: Mapping[str, int]) -> None:
        """Add the figures of a session."""
        for name in NAMES:
            self._sum[name] += moved[name]

    def __str__(self) -> str:
        words = "{stored} files stored ({written} bytes), {fetched} fetched ({read} bytes)"
        return ("at least " if self.lacks_some else "") + words.format(**self._sum)


def of_session(told: Any) -> dict[str, int]:
    """Another process's figures, checked. Raises ValueError and others for anything else."""
    return {name: int(number(told[name])) for name in NAMES}
