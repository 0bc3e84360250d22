"""lftp: it asks for version 6, 16 requests of 32 KiB, and compares by size and by the times of listings.

Observed: lftp 4.9.2 (Debian), `put`, `get`, `put -c`, `get -c`, and `mirror -R`.
"""

from __future__ import annotations

from stat import S_ISDIR

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import CREAT, NEW, READ, WRITE, refusal_of
from pysftpserver.probe.clients.playing import (
    DOWNLOAD,
    MTIME,
    OBSERVED,
    RESUME,
    SYNC,
    UPLOAD,
    Failed,
    Play,
    script,
)
from pysftpserver.probe.clients.transfers import Short

NAME = "lftp"
VERSION = 6
STEP = 1 << 15
READS, WRITES = 16, 17
AHEAD = 2  # READDIRs


def enter(play: Play) -> None:
    """Log in and cd."""
    play.hello(VERSION)
    play.realpath(b".")
    play.stat(play.path())
    play.stat(play.path() + b"/.")


def finish(play: Play, handle: bytes, size: int) -> None:
    """What follows the last WRITE: size and time, then CLOSE."""
    attributes = SFTPAttributes(size=size, atime=MTIME, mtime=MTIME)
    play.unless("files have the time of the upload", play.fsetstat, handle, attributes)
    play.close_handle(handle)


def store(play: Play, name: bytes, content: bytes) -> None:
    """Upload a file."""
    handle = play.open(play.path(name), NEW)
    play.write_all(handle, content, STEP, WRITES)
    finish(play, handle, len(content))


def fetch(play: Play, start: int = 0) -> bytes:
    """Download "there" from start on."""
    handle = play.open(play.path(b"there"), READ)
    size = play.fstat(handle).size
    try:
        content = play.read_all(handle, STEP, READS, start, size, short="fails")
    except Short as error:
        raise Failed(f"never ends: it begins again and again, because {error}") from None
    play.close_handle(handle)
    return content


@script(NAME, UPLOAD, OBSERVED)
def lftp_upload(play: Play) -> None:
    enter(play)
    store(play, b"f", play.bytes)
    play.has(b"f")
    if not play.buts:
        play.keeps_times(b"f")


@script(NAME, DOWNLOAD, OBSERVED)
def lftp_download(play: Play) -> None:
    enter(play)
    play.got(fetch(play))


@script(NAME, RESUME, OBSERVED)
def lftp_resume(play: Play) -> None:
    enter(play)
    path = play.path(b"half")
    start = play.size_of(play.stat(path))
    handle = play.open(path, WRITE | CREAT)
    play.write_all(handle, play.bytes, STEP, WRITES, start)
    finish(play, handle, len(play.bytes))
    play.got(fetch(play, play.half), play.half)
    play.has(b"half")


TREE = {b"a": b"a" * 1000, b"d/b": b"b" * 3000}


@script(NAME, SYNC, OBSERVED)
def lftp_sync(play: Play) -> None:
    play.hello(VERSION)
    play.realpath(b".")
    mirror(play)
    for name, content in TREE.items():
        play.has(b"tree/" + name, content)
    again = mirror(play)
    if again:
        play.buts.insert(
            0, f"copies {again} of {len(TREE)} files again each time, because the server dates them back"
        )
    if not play.buts:
        play.keeps_times(b"tree/a")


def mirror(play: Play) -> int:
    """mirror -R of TREE to "tree"; return the number of files copied."""
    copied = 0
    tops: set[bytes] = set()
    tree = play.path(b"tree")
    for path in (play.path(), tree):
        refusal_of(play.mkdir, path)
    modes = []
    for directory in (b"", b"d/"):
        path = tree + b"/" + directory.rstrip(b"/") if directory else tree
        if directory and b"d" not in tops:
            play.mkdir(path)
            modes.append((path, 0o755))
        play.stat(path)
        play.stat(path + b"/.")
        listed = {name: attributes for name, _, attributes in play.entries(path, AHEAD)}
        tops = tops or set(listed)
        for name, content in TREE.items():
            if name.rpartition(b"/")[0] != directory.rstrip(b"/"):
                continue
            found = listed.get(name.rpartition(b"/")[2])
            if found is not None and _same(found, len(content)):
                continue
            store(play, b"tree/" + name, content)
            copied += 1
            modes.insert(0, (tree + b"/" + name, 0o644))
    for path, mode in modes:
        play.unless(
            "files do not get their permissions", play.setstat, path, SFTPAttributes(permissions=mode)
        )
    return copied


def _same(found: SFTPAttributes, size: int) -> bool:
    """Compare as mirror -R does: a value missing in the listing, or a newer file, counts as the same."""
    if found.permissions is not None and S_ISDIR(found.permissions):
        return False
    if found.size is not None and found.size != size:
        return False
    return found.mtime is None or found.mtime >= MTIME - 1
