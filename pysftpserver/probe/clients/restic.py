"""restic: each file of a repository is made exclusively under another name, made private, and renamed.

Observed: restic 0.14.0 (Debian), `init` and `backup`, then `restore`. It makes 256 directories data/00 to
data/ff; the script makes four.
"""

from __future__ import annotations

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import CREAT, EXCL, READ, WRITE
from pysftpserver.probe.clients.playing import DOWNLOAD, OBSERVED, UPLOAD, Failed, Play, script

NAME = "restic"
STEP = 1 << 15
READS, WRITES = 65, 1
PRIVATE = SFTPAttributes(permissions=0o600)
KINDS = (b"keys", b"data", b"snapshots", b"index", b"locks")
TEMPORARY = b"-restic-temp-0a1b2c3d"


def path(play: Play, name: bytes) -> bytes:
    """A path in the repository."""
    return play.path(b"repo/" + name)


def save(play: Play, name: bytes, content: bytes) -> None:
    """Put a file into the repository."""
    part = path(play, name) + TEMPORARY
    handle = play.open(part, WRITE | CREAT | EXCL)
    play.fsetstat(handle, PRIVATE)
    play.write_all(handle, content, STEP, WRITES)
    play.close_handle(handle)
    play.replace(part, path(play, name))


def load(play: Play, name: bytes, wanted: bytes) -> None:
    """Read a file of the repository, whose checksum it knows."""
    handle = play.open(path(play, name), READ)
    size = play.stat(path(play, name)).size
    content = play.read_all(handle, STEP, READS, size=size)
    play.close_handle(handle)
    if content != wanted:
        raise Failed("finds the repository damaged: a file has other bytes than were saved")


def names(play: Play, directory: bytes) -> list[bytes]:
    """The files in a directory of the repository."""
    play.lstat(path(play, directory))
    return [name for name, _, _ in play.entries(path(play, directory)) if name not in (b".", b"..")]


def init(play: Play) -> None:
    """restic init: the directories, a key, and the configuration."""
    play.hello()
    play.there(play.lstat, path(play, b"config"))
    play.stat(play.path())
    play.mkdir(play.path(b"repo"))
    for kind in KINDS:
        play.mkdir(path(play, kind))
    for number in range(4):
        play.mkdir(path(play, b"data/%02x" % number))
    save(play, b"keys/k", b"key" * 150)
    save(play, b"config", b"config" * 25)


def backup(play: Play) -> None:
    """restic backup of the file, with a lock."""
    names(play, b"keys")
    load(play, b"keys/k", b"key" * 150)
    load(play, b"config", b"config" * 25)
    names(play, b"locks")
    save(play, b"locks/l", b"lock")
    names(play, b"locks")
    names(play, b"snapshots")
    names(play, b"index")
    save(play, b"data/00/p", play.bytes)
    save(play, b"index/i", b"index")
    save(play, b"snapshots/s", b"snapshot")
    play.remove(path(play, b"locks/l"))


@script(NAME, UPLOAD, OBSERVED)
def restic_upload(play: Play) -> None:
    init(play)
    backup(play)
    play.has(b"repo/data/00/p")
    mode = play.attributes_of(b"repo/config").permissions
    if mode is None or mode & 0o077:
        play.but("the repository is not private, because permissions are not kept")


@script(NAME, DOWNLOAD, OBSERVED)
def restic_download(play: Play) -> None:
    init(play)
    backup(play)
    if names(play, b"snapshots") != [b"s"]:
        raise Failed("does not find its snapshot in the listing")
    load(play, b"snapshots/s", b"snapshot")
    load(play, b"index/i", b"index")
    handle = play.open(path(play, b"data/00/p"), READ)
    play.got(play.read_all(handle, STEP, READS, size=len(play.bytes)))
    play.close_handle(handle)
