"""Cyberduck: up to 64 requests of 32 KiB; an existing file is opened for WRITE and TRUNC without CREAT.

Documented: ssh/src/main/java/ch/cyberduck/core/sftp/ (SFTPWriteFeature, SFTPReadFeature, SFTPMoveFeature,
SFTPTimestampFeature, SFTPListService) and the preferences of Cyberduck 8 (neither times nor permissions are
changed unless its user asks), and sshj's net/schmizz/sshj/sftp/RemoteFile.java, which is its SFTP.
"""

from __future__ import annotations

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import CREAT, READ, TRUNC, WRITE
from pysftpserver.probe.clients.playing import (
    DOCUMENTED,
    DOWNLOAD,
    EDIT,
    RESUME,
    UPLOAD,
    Failed,
    Play,
    script,
)

NAME = "Cyberduck"
STEP, REQUESTS = 1 << 15, 65


def enter(play: Play) -> dict[bytes, SFTPAttributes]:
    """Log in and list the directory."""
    play.hello()
    play.realpath(b".")
    entries = play.entries(play.path())
    found = {name: attributes for name, _, attributes in entries}
    if found.get(b"there") is None:
        raise Failed("does not show the server's files")
    if found[b"there"].mtime is None:
        play.but("shows no times, because listings have none")
    return found


def fetch(play: Play, start: int = 0) -> bytes:
    """Download "there" from start on."""
    handle = play.open(play.path(b"there"), READ)
    content = play.read_all(handle, STEP, REQUESTS, start)
    play.close_handle(handle)
    return content


@script(NAME, UPLOAD, DOCUMENTED)
def cyberduck_upload(play: Play) -> None:
    enter(play)
    path = play.path(b"f")
    handle = play.open(path, WRITE | CREAT | TRUNC)
    play.write_all(handle, play.bytes, STEP, REQUESTS)
    play.close_handle(handle)
    play.has(b"f")


@script(NAME, DOWNLOAD, DOCUMENTED)
def cyberduck_download(play: Play) -> None:
    enter(play)
    play.got(fetch(play))


@script(NAME, RESUME, DOCUMENTED)
def cyberduck_resume(play: Play) -> None:
    start = play.size_of(enter(play).get(b"half", SFTPAttributes()))
    handle = play.open(play.path(b"half"), WRITE)
    play.write_all(handle, play.bytes, STEP, REQUESTS, start)
    play.close_handle(handle)
    play.got(fetch(play, play.half), play.half)
    play.has(b"half")


@script(NAME, EDIT, DOCUMENTED)
def cyberduck_edit(play: Play) -> None:
    enter(play)
    play.got(fetch(play))
    edited = play.bytes[: play.half]
    handle = play.open(play.path(b"there"), WRITE | TRUNC)
    play.write_all(handle, edited, STEP, REQUESTS)
    play.close_handle(handle)
    play.has(b"there", edited)
