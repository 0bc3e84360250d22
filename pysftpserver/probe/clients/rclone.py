"""rclone: an upload goes to a partial file, gets its time, is checked, and renamed; a sync compares sizes and
times.

Observed: rclone 1.75.2, `copyto` and `sync --transfers 1 --checkers 1`. It asks a shell for checksums
(md5sum, sha1sum) in separate sessions, and compares without them if there is no shell. That is not tried
here.
"""

from __future__ import annotations

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import NEW, NOT_FOUND, READ, Refused, refusal_of
from pysftpserver.probe.clients.playing import (
    DOWNLOAD,
    MTIME,
    OBSERVED,
    SYNC,
    UPLOAD,
    Failed,
    Play,
    script,
)

NAME = "rclone"
STEP, REQUESTS = 1 << 15, 65
SUFFIX = b".0a1b2c3d.partial"
TIMES = SFTPAttributes(atime=MTIME, mtime=MTIME)


def store(play: Play, name: bytes, content: bytes) -> None:
    """Upload a file, or replace one."""
    path = play.path(name)
    part = path + SUFFIX
    handle = play.open(part, NEW)
    play.write_all(handle, content, STEP, REQUESTS)
    play.close_handle(handle)
    play.setstat(part, TIMES)
    size = play.stat(part).size
    if size != len(content):
        raise Failed(f"removes what it has uploaded, because STAT says {size} bytes of {len(content)}")
    play.there(play.stat, path.rpartition(b"/")[0])
    if b"posix-rename@openssh.com" in play.extensions:
        play.posix_rename(part, path)
    else:
        if refusal_of(play.remove, path) is None:
            play.but("a file that it replaces is missing for a moment, because the server lacks posix-rename")
        play.rename(part, path)
    play.stat(path)


@script(NAME, UPLOAD, OBSERVED)
def rclone_upload(play: Play) -> None:
    play.hello()
    play.realpath(play.path() + b"/")
    play.there(play.stat, play.path(b"f"))
    play.stat(play.path())
    store(play, b"f", play.bytes)
    play.has(b"f")
    play.keeps_times(b"f")


@script(NAME, DOWNLOAD, OBSERVED)
def rclone_download(play: Play) -> None:
    play.hello()
    path = play.path(b"there")
    play.realpath(path)
    play.stat(path)
    play.stat(path)
    handle = play.open(path, READ)
    size = play.stat(path).size
    content = play.read_all(handle, STEP, REQUESTS, size=size, short="fails")
    play.close_handle(handle)
    play.got(content)


@script(NAME, SYNC, OBSERVED)
def rclone_sync(play: Play) -> None:
    play.hello()
    tree = play.path(b"tree")
    path = b"tree/a"
    listed(play, tree)
    play.there(play.stat, tree)
    play.stat(play.path())
    play.mkdir(tree)
    store(play, path, b"a" * 1000)
    play.has(path, b"a" * 1000)
    found = listed(play, tree).get(b"a")
    if found is None:
        raise Failed("does not find what it has uploaded in the listing")
    if found.size != 1000 or found.mtime is None or abs(found.mtime - MTIME) > 1:
        reason = "listings have no times" if found.mtime is None else "times are not kept"
        play.but(f"copies every file again each time, because {reason}")
    listed(play, tree)
    play.stat(tree)
    store(play, path, b"b" * 2000)
    play.has(path, b"b" * 2000)


def listed(play: Play, path: bytes) -> dict[bytes, SFTPAttributes]:
    """The beginning of a sync: the entries of the directory, which may be missing."""
    play.realpath(path)
    play.there(play.stat, path)
    try:
        return {name: attributes for name, _, attributes in play.entries(path)}
    except Refused as refusal:
        if refusal.status != NOT_FOUND:
            raise
        return {}
