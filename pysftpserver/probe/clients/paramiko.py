"""paramiko: WRITEs of 32 KiB without waiting, then a STAT to compare the size; get() asks for all of a file
at once.

Observed: paramiko 5.1.0, put() with confirm=True, get(), open("ab") and open("r+b").
"""

from __future__ import annotations

from pysftpserver.contract.client import APPEND, CREAT, NEW, READ, WRITE
from pysftpserver.probe.clients.playing import (
    DOWNLOAD,
    EDIT,
    OBSERVED,
    RESUME,
    UPLOAD,
    Failed,
    Play,
    script,
)

NAME = "paramiko"
STEP = 1 << 15
WITHOUT_WAITING = 100  # WRITEs after which it begins to read answers
ALL = 1 << 20


@script(NAME, UPLOAD, OBSERVED)
def paramiko_upload(play: Play) -> None:
    play.hello()
    path = play.path(b"f")
    handle = play.open(path, NEW)
    play.write_all(handle, play.bytes, STEP, WITHOUT_WAITING)
    play.close_unheard(handle)
    size = play.stat(path).size
    if size != len(play.bytes):
        raise Failed(
            f"fails with 'size mismatch in put', because STAT says {size} bytes of {len(play.bytes)}"
        )
    play.has(b"f")


@script(NAME, DOWNLOAD, OBSERVED)
def paramiko_download(play: Play) -> None:
    play.hello()
    path = play.path(b"there")
    size = play.size_of(play.stat(path))
    handle = play.open(path, READ)
    content = play.read_all(handle, STEP, ALL, size=size)
    content += play.read_all(handle, STEP, 1, len(content))
    play.close_unheard(handle)
    play.got(content)


@script(NAME, RESUME, OBSERVED)
def paramiko_resume(play: Play) -> None:
    play.hello()
    handle = play.open(play.path(b"half"), WRITE | APPEND | CREAT)
    size = play.size_of(play.fstat(handle))
    play.write_all(handle, play.bytes, STEP, 1, play.half, size)
    play.close_unheard(handle)
    play.has(b"half")


@script(NAME, EDIT, OBSERVED)
def paramiko_edit(play: Play) -> None:
    play.hello()
    handle = play.open(play.path(b"there"), READ | WRITE)
    play.write(handle, 1000, b"edited")
    play.close_unheard(handle)
    play.has(b"there", play.bytes[:1000] + b"edited" + play.bytes[1006:])
