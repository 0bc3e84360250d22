"""Limits of one session: one table of them, each with a name, a default and a range.

The commands' flags, the checks and the table in docs/openssh.md are made from it: to add a limit, add a row
and the line that enforces it. A request that exceeds a limit is refused, and the session goes on. If no
single request can be refused (a packet is too long, a client is silent for too long), the session ends. No
limit makes a reply wrong. What may not enter: I/O, what a request does.
"""

from __future__ import annotations

import os

from pysftpserver.engine.wire import MAX_DATA, MAX_PACKET, SSH2_FX_BAD_MESSAGE
from pysftpserver.pysftpexceptions import SFTPLimitReached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESERVED_DESCRIPTORS = 32  # for the interpreter, the log and the work of one request
DESCRIPTORS_A_HANDLE = 2  # a listing needs two; a file needs one
MOST_HANDLES = 1024  # open handles of one session, even if the process could have more
PAIR_HEADER = 8  # the least size in bytes of an extended attribute: two lengths
NAMES = frozenset(("path", "target", "user"))  # fields of requests that hold names
LONGEST_IDLE = 1_000_000  # seconds; poll(2) counts milliseconds in 31 bits


class Limit:
    """A row of the table.

    name: of the value in Limits, and of the flag `--max-NAME` (or of the one named by flag). default: the
    text says what None means. least, most: the range of values. unit: of the values. text: what is limited,
    for the help.
    """

    __slots__ = ("default", "flag", "least", "most", "name", "text", "unit")

    def __init__(
        self, name: str, default: int | None, least: int, most: int, unit: str, text: str, flag: str = ""
    ) -> None:
        self.name = name
        self.default = default
        self.least = least
        self.most = most
        self.unit = unit
        self.text = text
        self.flag = flag or f"--max-{name}"


# fmt: off
LIMITS = (
    Limit(
        "packet", MAX_PACKET, 34_000, MAX_PACKET, "bytes",  # the draft's section 3 asks for 34,000
        "Maximum length of a packet; a longer one ends the session.",
    ),
    Limit(
        "handles", None, 1, 1 << 20, "files",
        "Maximum number of open files and directories. The default is half of what the process's descriptor "
        f"limit leaves, and at most {MOST_HANDLES}.",
    ),
    Limit(
        "queue", 1 << 20, 0, 1 << 30, "bytes",
        "Stop reading requests while more replies than this wait to be sent.",
    ),
    Limit(
        "path", 1 << 15, 1, MAX_PACKET, "bytes",  # the kernel refuses more than 4095 with the right status
        "Maximum length of a path or of a link's text. (For files, the kernel takes at most 4095 bytes.)",
    ),
    Limit(
        "entries", 4096, 1, 1 << 20, "entries",
        "Maximum number of directory entries in one reply; old clients may need 100.",
    ),
    Limit(
        "extended", 64, 0, MAX_PACKET // PAIR_HEADER, "pairs",
        "Maximum number of extended attributes in a request.",
    ),
    Limit(
        "idle", None, 1, LONGEST_IDLE, "seconds",
        "End a session in which nothing moves for this long. The default is no limit.", flag="--idle-timeout",
    ),
)
# fmt: on


class Limits:
    """The limits of one session: attributes with the names of the table.

    Values that are not given have the table's defaults. Raises ValueError for a name that is not in the table
    and for a value out of range.
    data: maximum content of a READ or a WRITE in bytes: that of a packet, less room for the other fields.
    """

    packet: int
    handles: int
    queue: int
    path: int
    entries: int
    extended: int
    idle: int | None

    def __init__(self, **values: int | None) -> None:
        for limit in LIMITS:
            value = values.pop(limit.name, None)
            if value is not None and not limit.least <= value <= limit.most:
                raise ValueError(f"{limit.name}: {limit.least} to {limit.most} {limit.unit}, not {value}")
            setattr(self, limit.name, limit.default if value is None else value)
        if values:
            raise ValueError(f"no such limit: {', '.join(values)}")
        if self.handles is None:
            self.handles = _descriptor_limit()
        self.data = self.packet - (MAX_PACKET - MAX_DATA)

    @property
    def harmless(self) -> int:
        """The length in bytes up to which a request's body cannot exceed any limit that check() enforces."""
        return min(self.path, self.extended * PAIR_HEADER)

    def check(self, fields: list[str], arguments: tuple[Any, ...]) -> None:
        """Raises SFTPLimitReached if the decoded arguments of a request exceed a limit."""
        for field, value in zip(fields, arguments, strict=True):
            if field in NAMES and len(value) > self.path:
                text = f"a path of {len(value)} bytes, where {self.path} are allowed"
                raise SFTPLimitReached(text, SSH2_FX_BAD_MESSAGE)
            if field == "attributes" and value.extended > self.extended:
                text = f"{value.extended} extended attributes, where {self.extended} are allowed"
                raise SFTPLimitReached(text, SSH2_FX_BAD_MESSAGE)


def _descriptor_limit() -> int:
    available = os.sysconf("SC_OPEN_MAX") - RESERVED_DESCRIPTORS
    return max(1, min(available // DESCRIPTORS_A_HANDLE, MOST_HANDLES))
