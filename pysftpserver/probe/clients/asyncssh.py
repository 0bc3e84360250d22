"""asyncssh: limits@openssh.com first, then up to 128 requests of what it allows.

Observed: asyncssh 2.24.1, put() and get() with preserve=True, open("ab") and open("r+b"). open("ab") leaves
the place to the server: its WRITEs begin at offset 0.
"""

from __future__ import annotations

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import APPEND, CREAT, NEW, READ, UNSUPPORTED, WRITE, refusal_of
from pysftpserver.probe.clients.playing import (
    DOWNLOAD,
    EDIT,
    MODE,
    MTIME,
    OBSERVED,
    RESUME,
    UPLOAD,
    Play,
    script,
    why,
)

NAME = "asyncssh"
REQUESTS = 128
USUAL = 1 << 14  # bytes of a request unless the server announces more


def begin(play: Play) -> tuple[int, int]:
    """Begin a session; return the longest READ and WRITE, in bytes."""
    play.hello()
    return play.limit(USUAL)


@script(NAME, UPLOAD, OBSERVED)
def asyncssh_upload(play: Play) -> None:
    _, step = begin(play)
    path = play.path(b"f")
    play.there(play.stat, path)
    handle = play.open(path, NEW)
    play.write_all(handle, play.bytes, step, REQUESTS)
    play.close_handle(handle)
    preserved = SFTPAttributes(permissions=0o100000 | MODE, atime=MTIME, mtime=MTIME)
    refusal = refusal_of(play.setstat, path, preserved)
    if refusal is not None and refusal.status != UNSUPPORTED:
        raise refusal
    play.has(b"f")
    if refusal is not None:
        play.but(f"preserve=True does not keep times and permissions, because {why(refusal)}")
    else:
        play.keeps_times(b"f", "preserve=True does not keep times")
        play.keeps_mode(b"f", "preserve=True does not keep permissions")


@script(NAME, DOWNLOAD, OBSERVED)
def asyncssh_download(play: Play) -> None:
    step, _ = begin(play)
    path = play.path(b"there")
    size = play.lstat(path).size or 0
    handle = play.open(path, READ)
    content = play.read_all(handle, step, REQUESTS, size=size)
    play.close_handle(handle)
    play.lstat(path)
    play.got(content)


@script(NAME, RESUME, OBSERVED)
def asyncssh_resume(play: Play) -> None:
    _, step = begin(play)
    handle = play.open(play.path(b"half"), WRITE | APPEND | CREAT)
    play.write_all(handle, play.bytes, step, REQUESTS, play.half, 0)
    play.close_handle(handle)
    play.has(b"half")


@script(NAME, EDIT, OBSERVED)
def asyncssh_edit(play: Play) -> None:
    begin(play)
    handle = play.open(play.path(b"there"), READ | WRITE)
    play.write(handle, 1000, b"edited")
    play.close_handle(handle)
    play.has(b"there", play.bytes[:1000] + b"edited" + play.bytes[1006:])
