"""OpenSSH's sftp and scp: limits@openssh.com first, then up to 64 requests of what it allows.

Observed: OpenSSH 9.2p1 (Debian), `sftp` with `put -p`, `get -p`, `reput` and `reget`, and `scp -p`.
"""

from __future__ import annotations

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import APPEND, CREAT, NEW, READ, WRITE, refusal_of
from pysftpserver.probe.clients.playing import (
    DOWNLOAD,
    MODE,
    MTIME,
    OBSERVED,
    RESUME,
    UPLOAD,
    Failed,
    Play,
    script,
    why,
)

SFTP, SCP = "OpenSSH sftp", "OpenSSH scp"
REQUESTS = 64
PRESERVED = SFTPAttributes(permissions=MODE, atime=MTIME, mtime=MTIME)


def begin(play: Play) -> tuple[int, int]:
    """Begin a session; return the longest READ and WRITE that the client will ask for, in bytes."""
    play.hello()
    return play.limit()


def enter(play: Play) -> tuple[int, int]:
    """What sftp does before a command in a directory."""
    sizes = begin(play)
    play.realpath(b".")
    play.stat(play.realpath(play.path()))
    return sizes


def preserve(play: Play, handle: bytes) -> None:
    """-p: a refusal is shown, and the transfer goes on."""
    refusal = refusal_of(play.fsetstat, handle, PRESERVED)
    if refusal is not None:
        play.but(f"-p does not keep times and permissions, because {why(refusal)}")


def kept(play: Play, name: bytes) -> None:
    """Check the result of -p."""
    if not play.buts:
        play.keeps_times(name, "-p does not keep times")
        play.keeps_mode(name, "-p does not keep permissions")


@script(SFTP, UPLOAD, OBSERVED)
def sftp_upload(play: Play) -> None:
    _, step = enter(play)
    handle = play.open(play.path(b"f"), NEW, PRESERVED)
    play.write_all(handle, play.bytes, step, REQUESTS)
    preserve(play, handle)
    play.close_handle(handle)
    play.has(b"f")
    kept(play, b"f")


def download(play: Play, step: int, start: int = 0) -> bytes:
    """get: look up the path, STAT for the size, then READs beyond it until EOF."""
    path = play.path(b"there")
    play.lstat(path)
    size = play.stat(path).size
    handle = play.open(path, READ, SFTPAttributes())
    content = play.read_all(handle, step, REQUESTS, start, size, ramps=True)
    play.close_handle(handle)
    return content


@script(SFTP, DOWNLOAD, OBSERVED)
def sftp_download(play: Play) -> None:
    step, _ = enter(play)
    play.got(download(play, step))


@script(SFTP, RESUME, OBSERVED)
def sftp_resume(play: Play) -> None:
    step_down, step_up = enter(play)
    path = play.path(b"half")
    play.stat(path)
    start = play.stat(path).size
    if start is None:
        raise Failed("fails: STAT does not say how much of the file is there")
    handle = play.open(path, WRITE | APPEND | CREAT, SFTPAttributes(permissions=MODE))
    play.write_all(handle, play.bytes, step_up, REQUESTS, start)
    play.close_handle(handle)
    play.got(download(play, step_down, play.half), play.half)
    play.has(b"half")


@script(SCP, UPLOAD, OBSERVED)
def scp_upload(play: Play) -> None:
    _, step = begin(play)
    path = play.path(b"f")
    play.there(play.stat, path)
    handle = play.open(path, WRITE | CREAT, PRESERVED)
    play.write_all(handle, play.bytes, step, REQUESTS)
    play.unless(
        "a longer file that is replaced keeps its end",
        play.fsetstat,
        handle,
        SFTPAttributes(size=len(play.bytes)),
    )
    preserve(play, handle)
    play.close_handle(handle)
    play.has(b"f")
    kept(play, b"f")


@script(SCP, DOWNLOAD, OBSERVED)
def scp_download(play: Play) -> None:
    step, _ = begin(play)
    content = download(play, step)
    if play.in_order < len(content):
        play.note(
            "scp of OpenSSH 9.2 cuts a file off where answers came out of order or short, and exits with 0"
        )
    play.got(content[: play.in_order])
