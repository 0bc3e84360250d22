"""The only place where ours may answer otherwise than the reference, and why.

Each row says when it applies. Such a request is sent to ours alone, and must get the status of the row:
the reference would end, block, or change its tree. A row is kept true by its `example`, which a test sends
to the reference too: when that stops differing, the row must go.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import packets
from .model import Handle, OpenHandle, Step, step
from .packets import FAILURE, NO_SUCH_FILE, OK, READ

ENDS = "ends the session"
SILENT = "does not reply"
KNOWN_TYPES = frozenset(packets.REQUEST_TYPES.values())


class Situation(NamedTuple):
    """A step about to be sent. `handles` are those it names, None for one that is not open."""

    step: Step
    handles: tuple[OpenHandle | None, ...]
    root: Path  # the reference's

    def mode(self, path: bytes, follow: bool) -> int | None:
        """The mode of what a path argument names, None if nothing."""
        try:
            return os.stat(self.inside(path), follow_symlinks=follow).st_mode
        except (OSError, ValueError):
            return None

    def inside(self, path: bytes) -> bytes:
        return bytes(self.root) + b"/" + path if path else b""


class Intended(NamedTuple):
    """One difference. `ours` is the status ours must give, None for any reply in time."""

    difference: str
    reason: str
    applies: Callable[[Situation], bool]
    ours: int | None
    example: tuple[Step, ...]  # the last step is the one that differs
    reference: int | str | None  # status, ENDS, SILENT, or None when it cannot be tried without blocking


def _is_file(handle: OpenHandle | None) -> bool:
    return handle is not None and handle.kind == "file"


def _malformed(situation: Situation) -> bool:
    request, arguments = situation.step
    if request == "raw":
        return arguments[0] in KNOWN_TYPES
    if request == "users-groups-by-id@openssh.com":
        return any(len(ids) % 4 for ids in arguments)
    return any(b"\0" in path for path in situation.step.paths)


def _onto_dangling_link(situation: Situation) -> bool:
    if situation.step.request != "rename":
        return False
    old, new = situation.step.paths
    source = situation.mode(old, follow=False)
    target = situation.mode(new, follow=False)
    return (
        source is not None
        and not stat.S_ISREG(source)
        and target is not None
        and stat.S_ISLNK(target)
        and situation.mode(new, follow=True) is None
    )


def _opens_fifo(situation: Situation) -> bool:
    if situation.step.request != "open":
        return False
    mode = situation.mode(situation.step.paths[0], follow=True)
    return mode is not None and stat.S_ISFIFO(mode)


INTENDED = (
    Intended(
        "CLOSE of a handle that is not open is FAILURE",
        "sftp.md: a handle that is not open is FAILURE. The reference closes its -1 and reports EBADF.",
        lambda situation: situation.step.request == "close" and situation.handles == (None,),
        FAILURE,
        (step("close", Handle("bogus")),),
        NO_SUCH_FILE,
    ),
    Intended(
        "fsync of a handle that is not an open file is FAILURE",
        "sftp.md: a handle that is not open is FAILURE, as all other requests with handles say.",
        lambda situation: (
            situation.step.request == "fsync@openssh.com" and not _is_file(situation.handles[0])
        ),
        FAILURE,
        (step("fsync@openssh.com", Handle("bogus")),),
        NO_SUCH_FILE,
    ),
    Intended(
        "RENAME does not replace a dangling symlink",
        "sftp.md: RENAME fails when the target exists. The reference asks stat(2), which follows the link, "
        "and then replaces it, unless the source is a regular file.",
        _onto_dangling_link,
        FAILURE,
        (step("rename", b"to-f", b"dangling"),),
        OK,
    ),
    Intended(
        "a request of an unknown type is OP_UNSUPPORTED",
        "sftp.md: a type we do not know is OP_UNSUPPORTED. The reference logs it and does not reply.",
        lambda situation: situation.step.request == "raw" and situation.step.arguments[0] not in KNOWN_TYPES,
        packets.OP_UNSUPPORTED,
        (step("raw", 99, b""),),
        SILENT,
    ),
    Intended(
        "a malformed body is BAD_MESSAGE and the session goes on",
        "sftp.md: a truncated or malformed body is BAD_MESSAGE. For the reference a path with a NUL and a "
        "list of ids that is no multiple of four bytes are malformed too; it ends.",
        _malformed,
        packets.BAD_MESSAGE,
        (step("stat", b"nul\0inside"),),
        ENDS,
    ),
    Intended(
        "OPEN of a FIFO does not wait for its other end",
        "sftp.md: a failed request never takes the session down; a blocked one would take it with it.",
        _opens_fifo,
        None,
        (step("open", b"fifo", READ),),
        None,
    ),
)
