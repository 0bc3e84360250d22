"""The only place where ours may answer otherwise than the reference, and why.

Each row says when it applies. Such a request is sent to ours alone, and must get the status of the row:
the reference would end, block, or change its tree. Or the row says what the reference is sent instead, for
which it must do what ours does. A row is kept true by its `example`, which a test sends to the reference too:
when that stops differing, the row must go.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import packets
from .model import Handle, OpenHandle, Step, step
from .packets import FAILURE, NO_SUCH_FILE, OK, READ, WRITE

ENDS = "ends the session"
SILENT = "does not reply"
KNOWN_TYPES = frozenset(packets.REQUEST_TYPES.values())

LAST_OFFSET = (1 << 63) - 1  # of a file
MOST_COPIED = 1 << 30  # bytes: no file is larger


class Situation(NamedTuple):
    """A step about to be sent. `handles` are those it names, None for one that is not open."""

    step: Step
    handles: tuple[OpenHandle | None, ...]
    root: Path  # the reference's
    jailed: bool = False  # ours

    def mode(self, path: bytes, follow: bool) -> int | None:
        """The mode of what a path argument names, None if nothing."""
        try:
            return os.stat(self.inside(path), follow_symlinks=follow).st_mode
        except (OSError, ValueError):
            return None

    def inside(self, path: bytes) -> bytes:
        return bytes(self.root) + b"/" + path if path else b""


class Intended(NamedTuple):
    """One difference. `ours` is the status ours must give, None for any reply in time.

    Statuses may be permissions instead, where the example ends with a request for attributes.
    """

    difference: str
    reason: str
    applies: Callable[[Situation], bool]
    ours: int | None
    example: tuple[Step, ...]  # the last step is the one that differs
    reference: int | str | None  # status, ENDS, SILENT, or None when it cannot be tried without blocking
    instead: Callable[[Step], Step] | None = None  # what the reference gets
    only_jails: bool = False


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
    target = situation.mode(new.rstrip(b"/"), follow=False)
    return (
        source is not None
        and not stat.S_ISREG(source)
        and target is not None
        and stat.S_ISLNK(target)
        and situation.mode(new.rstrip(b"/"), follow=True) is None
    )


def _opens_fifo(situation: Situation) -> bool:
    if situation.step.request != "open":
        return False
    mode = situation.mode(situation.step.paths[0], follow=True)
    return mode is not None and stat.S_ISFIFO(mode)


def _moved_directory(situation: Situation) -> bool:
    """READDIR on a handle whose directory is no longer where it was opened."""
    handle = situation.handles[0] if situation.step.request == "readdir" else None
    if handle is None or handle.kind != "directory":
        return False
    try:
        return os.stat(situation.inside(handle.opened.paths[0])).st_ino != handle.inode
    except OSError:
        return True


def _forgotten_error(situation: Situation) -> bool:
    """copy-data with a handle that cannot be read or written, or not at that offset."""
    if situation.step.request != "copy-data" or None in situation.handles:
        return False
    source, target = situation.handles
    if not _is_file(source) or not _is_file(target):
        return False
    if source.opened.paths[0] == target.opened.paths[0]:
        return False
    reads, writes = (handle.opened.argument("u32") & 3 for handle in situation.handles)
    length, offset = situation.step.arguments[2], situation.step.arguments[4]
    is_far = offset <= LAST_OFFSET < offset + min(length or MOST_COPIED, MOST_COPIED)
    return reads == WRITE or not writes & WRITE or source.directory or is_far


def _with_setid(situation: Situation) -> bool:
    """A client sets the set-uid or set-gid bit, in a jail."""
    return situation.jailed and situation.step != _without_setid(situation.step)


def _without_setid(step: Step) -> Step:
    def dropped(value: object) -> object:
        if isinstance(value, packets.Attributes) and value.permissions is not None:
            return value._replace(permissions=value.permissions & ~0o6000)
        return value

    return Step(step.request, tuple(map(dropped, step.arguments)))


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
        "home-directory of an empty name is the user's own",
        "OpenSSH's PROTOCOL, 4.11: an empty username implies the current user. The reference looks it up.",
        lambda situation: situation.step == step("home-directory", b""),
        None,
        (step("home-directory", b""),),
        FAILURE,
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
    Intended(
        "READDIR lists a directory that was renamed after OPENDIR",
        "The reference looks every name up by the path that was opened, and skips what it does not find.",
        _moved_directory,
        None,
        (step("opendir", b"d"), step("rename", b"d", b"e"), step("readdir", Handle("directory"))),
        packets.EOF,
    ),
    Intended(
        "copy-data always reports that a handle cannot be read or written",
        "The reference overwrites the error with OK when what was left fits its buffer of 64 KiB, and does "
        "not notice when there is nothing to copy: a copy that cannot happen must not look like one.",
        _forgotten_error,
        None,  # NO_SUCH_FILE or FAILURE
        (
            step("open", b"f", READ),
            step("open", b"g", READ),
            step("copy-data", Handle("file"), 0, 5, Handle("file", 1), 0),
        ),
        OK,
    ),
    Intended(
        "set-uid and set-gid bits of clients are dropped in a jail",
        "A program that one account of the host has uploaded through another one's jail would run with that "
        "one's rights. --allow-setid keeps the bits; the drop-in does what the reference does.",
        _with_setid,
        0o100755,
        (step("setstat", b"f", packets.Attributes(permissions=0o6755)), step("stat", b"f")),
        0o106755,
        _without_setid,
        only_jails=True,
    ),
)
