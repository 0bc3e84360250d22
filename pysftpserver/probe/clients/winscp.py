"""WinSCP: an upload of more than 100 KiB goes to NAME.filepart, which is renamed at the end; SETSTAT sets the
time.

Documented: source/core/SftpFileSystem.cpp of WinSCP (Source, SFTPOpenRemote, Sink, ReadDirectory, DoStartup,
TransferBlockSize) with its usual settings: SFTP up to version 6, times kept and permissions not, 32 requests
at a time, resuming above 100 KiB.
"""

from __future__ import annotations

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.contract.client import CREAT, NEW, READ, WRITE, Refused
from pysftpserver.engine import wire
from pysftpserver.probe.clients.playing import (
    DOCUMENTED,
    DOWNLOAD,
    EDIT,
    MTIME,
    RESUME,
    SYNC,
    UPLOAD,
    Failed,
    Play,
    script,
    why,
)

NAME = "WinSCP"
VERSION = 6  # the highest that it speaks; servers answer with their own
REQUESTS = 32
STEP = 1 << 15
SMALL = 20_000  # bytes; such a file is written in place
TIMES = SFTPAttributes(atime=MTIME, mtime=MTIME)
NO_TIMES = "an error is shown after each upload until 'Preserve timestamp' is switched off"


def enter(play: Play) -> dict[bytes, SFTPAttributes]:
    """Log in and open the directory; return its entries."""
    play.hello(VERSION)
    if play.version < 3:
        play.note(f"it speaks version {play.version} with the server")
    play.realpath(b".")
    play.lstat(play.realpath(play.path()))
    return {name: attributes for name, _, attributes in play.entries(play.path())}


def set_properties(play: Play, name: bytes, mode: int | None = None) -> None:
    """SETSTAT after an upload: the time, and the permissions of a file that was replaced."""
    attributes = SFTPAttributes(permissions=mode, atime=MTIME, mtime=MTIME)
    try:
        play.setstat(play.path(name), attributes)
    except Refused as refusal:
        raise Failed(f"uploads, but {NO_TIMES}, because {why(refusal)}") from None


def upload(play: Play, name: bytes, *, again: bool = False) -> None:
    """Upload a file long enough to be resumed. again: NAME.filepart has its first half."""
    path, part = play.path(name), play.path(name + b".filepart")
    there = play.there(play.lstat, path)
    partly = play.there(play.lstat, part)
    start = 0
    if again:
        start = play.size_of(partly) if partly is not None else 0
    flags = WRITE | CREAT if again else NEW
    size = None if again else len(play.bytes)
    handle = play.open(part, flags, SFTPAttributes(size=size))
    play.write_all(handle, play.bytes, STEP, REQUESTS, start)
    play.close_handle(handle)
    mode = None
    if there is not None:
        mode = None if there.permissions is None else there.permissions & 0o7777
        play.remove(path)
    play.rename(part, path)
    set_properties(play, name, mode)


@script(NAME, UPLOAD, DOCUMENTED)
def winscp_upload(play: Play) -> None:
    enter(play)
    upload(play, b"f")
    play.has(b"f")
    play.keeps_times(b"f")


@script(NAME, DOWNLOAD, DOCUMENTED)
def winscp_download(play: Play) -> None:
    size = enter(play).get(b"there", SFTPAttributes()).size
    if size is None:
        raise Failed("does not find the file in the listing, with its size")
    content = fetch(play, b"there", size)
    play.got(content)


def fetch(play: Play, name: bytes, size: int) -> bytes:
    """Download a file of this size: READs are sent until one is answered with EOF."""
    handle = play.open(play.path(name), READ)
    play.there(play.fstat, handle)
    content = play.read_all(handle, STEP, min(REQUESTS, size // STEP + 1))
    play.close_handle(handle)
    return content


@script(NAME, RESUME, DOCUMENTED)
def winscp_resume(play: Play) -> None:
    play.keeper.put(play.path(b"f.filepart"), play.bytes[: play.half])
    enter(play)
    upload(play, b"f", again=True)
    handle = play.open(play.path(b"there"), READ)
    play.there(play.fstat, handle)
    content = play.read_all(handle, STEP, REQUESTS, play.half)
    play.close_handle(handle)
    play.got(content, play.half)
    play.has(b"f")
    play.keeps_times(b"f")


@script(NAME, SYNC, DOCUMENTED)
def winscp_sync(play: Play) -> None:
    enter(play)
    upload(play, b"f")
    play.has(b"f")
    found = {name: attributes for name, _, attributes in play.entries(play.path())}.get(b"f")
    if found is None:
        raise Failed("does not find the uploaded file in the listing")
    if found.mtime is None:
        play.but("cannot compare by time: listings have no times")
    elif abs(found.mtime - MTIME) > 1:
        play.but("takes its uploads for newer than what it has uploaded, because times are not kept")
    if found.size != len(play.bytes):
        play.but("copies every file each time, because listings have no right sizes")


@script(NAME, EDIT, DOCUMENTED)
def winscp_edit(play: Play) -> None:
    play.keeper.put(play.path(b"text"), play.bytes[:SMALL])
    size = enter(play).get(b"text", SFTPAttributes()).size
    if size is None:
        raise Failed("does not find the file in the listing, with its size")
    if fetch(play, b"text", size) != play.bytes[:SMALL]:
        raise Failed("opens the file with other bytes than the server has")
    edited = play.bytes[: SMALL // 2]
    path = play.path(b"text")
    handle = play.open(path, NEW, SFTPAttributes(size=len(edited)))
    play.write_all(handle, edited, STEP, REQUESTS)
    closing = play.send(wire.SSH2_FXP_CLOSE, packets.sftpstring(handle))
    setting = play.send(wire.SSH2_FXP_SETSTAT, packets.sftpstring(path), packets.sftpattrs(TIMES))
    play.ok("CLOSE", closing)
    try:
        play.ok("SETSTAT", setting)
    except Refused as refusal:
        raise Failed(f"saves, but {NO_TIMES}, because {why(refusal)}") from None
    play.has(b"text", edited)
    play.keeps_times(b"text")
