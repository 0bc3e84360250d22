"""sshfs: turns what programs do to files into requests, with WRITEs of 32 KiB ahead of their answers.

Observed: sshfs 3.7.3 (Debian) with `df`, `cp -p`, `cp`, a program that appends, and one that saves as editors
do (a new file, fsync, rename over the old one). How often it asks LSTAT depends on the kernel.
"""

from __future__ import annotations

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import APPEND, CREAT, EXCL, NEW, READ, WRITE, Broken, Refused
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
)

NAME = "sshfs"
STEP = 1 << 15
READS, WRITES = 16, 1 << 10


def mount(play: Play) -> None:
    """The beginning of every mount."""
    play.hello()
    play.lstat(play.path())


@script(NAME, UPLOAD, OBSERVED)
def sshfs_upload(play: Play) -> None:
    mount(play)
    if b"statvfs@openssh.com" in play.extensions:
        try:
            play.statvfs(play.path())
        except (Refused, Broken):
            play.but("df fails, because statvfs@openssh.com is refused")
    else:
        play.but("df shows made-up free space, because the server lacks statvfs@openssh.com")
    path = play.path(b"f")
    play.there(play.lstat, path)
    handle = play.open(path, WRITE | CREAT | EXCL, SFTPAttributes(permissions=0o100600))
    play.lstat(path)
    play.write_all(handle, play.bytes, STEP, WRITES)
    play.setstat(path, SFTPAttributes(atime=MTIME, mtime=MTIME))
    play.setstat(path, SFTPAttributes(permissions=0o100000 | MODE))
    play.close_unheard(handle)
    play.has(b"f")
    play.keeps_times(b"f", "`cp -p` does not keep times")
    play.keeps_mode(b"f", "`cp -p` does not keep permissions")


@script(NAME, DOWNLOAD, OBSERVED)
def sshfs_download(play: Play) -> None:
    mount(play)
    path = play.path(b"there")
    size = play.size_of(play.lstat(path))
    handle = play.open(path, READ, SFTPAttributes(permissions=0))
    play.lstat(path)
    content = play.read_all(handle, STEP, READS, size=size, short="ends")
    play.close_unheard(handle)
    play.got(content)


@script(NAME, RESUME, OBSERVED)
def sshfs_resume(play: Play) -> None:
    mount(play)
    path = play.path(b"half")
    play.lstat(path)
    handle = play.open(path, WRITE | APPEND, SFTPAttributes(permissions=0))
    size = play.lstat(path).size or 0
    play.write_all(handle, play.bytes, STEP, WRITES, play.half, size)
    play.close_unheard(handle)
    play.has(b"half")


@script(NAME, EDIT, OBSERVED)
def sshfs_edit(play: Play) -> None:
    mount(play)
    path, new = play.path(b"there"), play.path(b"new")
    play.there(play.lstat, new)
    handle = play.open(new, NEW, SFTPAttributes(permissions=0o100644))
    play.lstat(new)
    play.write_all(handle, b"new", STEP, WRITES)
    if b"fsync@openssh.com" in play.extensions:
        play.fsync(handle)
    else:
        play.note("fsync does not reach the disk, because the server lacks fsync@openssh.com")
    play.close_unheard(handle)
    play.lstat(path)
    try:
        play.replace(new, path)
    except Refused as refusal:
        play.note("`-o workaround=rename` makes sshfs remove the old file first")
        raise refusal
    play.has(b"there", b"new")
