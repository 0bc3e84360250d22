"""FileZilla: paths are canonicalized before each command, listings come with several READDIRs at a time, and
the time is set after an upload.

Observed: `fzsftp` of FileZilla 3.63.0 (Debian), which does SFTP for it, told what FileZilla tells it. That a
refused time does not spoil the transfer, and that the longname is parsed for owner and group, is from its
sources (src/engine/sftp/filetransfer.cpp, src/engine/directorylistingparser.cpp).
"""

from __future__ import annotations

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import NEW, READ, WRITE, Refused
from pysftpserver.probe.clients.playing import (
    DOWNLOAD,
    EDIT,
    MODE,
    MTIME,
    OBSERVED,
    RESUME,
    UPLOAD,
    Failed,
    Play,
    script,
)

NAME = "FileZilla"
READ_STEP, READS = 1 << 15, 128  # 4 MiB on their way
WRITE_STEP, WRITES = 1 << 14, 128  # as much as SSH's window of 2 MiB takes
AHEAD = 4  # READDIRs
_TYPES = (b"-", b"d", b"l", b"c", b"b", b"p", b"s", b"D")
_COLUMNS = 8  # of a longname before the name: mode, links, user, group, size, three of the date


def enter(play: Play, needs_files: bool = False) -> None:
    """Log in, change to the directory, list it. needs_files: whether the user then chooses a file in it."""
    play.hello()
    play.realpath(b".")
    path = play.resolved(play.path())
    play.close_handle(play.opendir(path))
    play.realpath(path + b"/.")
    entries = play.entries(path, AHEAD)
    if not any(name == b"there" for name, _, _ in entries):
        raise Failed("does not show the server's files")
    if any(not _is_shown(longname) for name, longname, _ in entries if name not in (b".", b"..")):
        hidden = "does not show files, because the longname in listings is not like `ls -l`"
        if needs_files:
            raise Failed(hidden)
        play.but(hidden)
    if any(attributes.mtime is None for _, _, attributes in entries):
        play.but("shows no times, because listings have none")


def _is_shown(longname: bytes) -> bool:
    """Whether the longname can be parsed: FileZilla takes size, permissions, owner and group from it."""
    fields = longname.split()
    return (
        len(fields) > _COLUMNS
        and len(fields[0]) >= 10
        and fields[0][:1] in _TYPES
        and any(field.isdigit() for field in fields[2:_COLUMNS])
    )


def canonical(play: Play, name: bytes) -> bytes:
    """The path for a command; used as it is if the server does not resolve it."""
    path = play.path(name)
    try:
        return play.resolved(path)
    except Refused:
        return path


def set_time(play: Play, name: bytes) -> None:
    """chmtime: the access time is kept. If the time cannot be set, FileZilla goes on."""
    path = canonical(play, name)
    attributes = play.there(play.stat, path)
    atime = MTIME if attributes is None or attributes.atime is None else attributes.atime
    play.unless(
        "files have the time of the upload", play.setstat, path, SFTPAttributes(atime=atime, mtime=MTIME)
    )


def store(play: Play, name: bytes, content: bytes) -> None:
    """put, which replaces a file."""
    handle = play.open(canonical(play, name), NEW)
    play.write_all(handle, content, WRITE_STEP, WRITES)
    play.close_handle(handle)
    set_time(play, name)


def fetch(play: Play, name: bytes, start: int = 0) -> bytes:
    """get, or reget from start on."""
    path = canonical(play, name)
    size = play.stat(path).size
    handle = play.open(path, READ)
    content = play.read_all(handle, READ_STEP, READS, start, size, past_end=True, short="fails")
    play.close_handle(handle)
    return content


@script(NAME, UPLOAD, OBSERVED)
def filezilla_upload(play: Play) -> None:
    enter(play)
    store(play, b"f", play.bytes)
    path = canonical(play, b"f")
    mode = play.stat(path).permissions
    play.unless(
        "file permissions cannot be changed",
        play.setstat,
        path,
        SFTPAttributes(permissions=(mode or 0o100000) & ~0o7777 | MODE),
    )
    play.has(b"f")
    if not play.buts:
        play.keeps_times(b"f")
        play.keeps_mode(b"f", "file permissions do not change")


@script(NAME, DOWNLOAD, OBSERVED)
def filezilla_download(play: Play) -> None:
    enter(play, needs_files=True)
    play.got(fetch(play, b"there"))


@script(NAME, RESUME, OBSERVED)
def filezilla_resume(play: Play) -> None:
    enter(play, needs_files=True)
    handle = play.open(canonical(play, b"half"), WRITE)
    start = play.size_of(play.fstat(handle))
    play.write_all(handle, play.bytes, WRITE_STEP, WRITES, start)
    play.close_handle(handle)
    set_time(play, b"half")
    content = fetch(play, b"there", play.half)
    play.got(content, play.half)
    play.has(b"half")


@script(NAME, EDIT, OBSERVED)
def filezilla_edit(play: Play) -> None:
    enter(play, needs_files=True)
    play.got(fetch(play, b"there"))
    play.stat(canonical(play, b"there"))
    edited = play.bytes[: play.half]
    store(play, b"there", edited)
    play.has(b"there", edited)
