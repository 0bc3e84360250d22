"""Dry runs: find out what a sync would do, from a server that does not support dry runs.

The server asks for the files that it wants; in place of the first one's length it gets a line that makes it
end the connection. What the server would send is read and discarded. If a file is so large that connecting
again is cheaper, the connection is closed, and the next one claims that the file is already here. Nothing is
written on either side. What may not enter: the storage, except its listing and sizes.
"""

from __future__ import annotations

from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.sksync.client import DownloadCheck, Request, _Run, open_sync, taken
from pysftpserver.sksync.dialogue import Dialogue, SyncError
from pysftpserver.sksync.listing import Listing
from pysftpserver.sksync.parsing import DownloadParser
from pysftpserver.sksync.wire import SyncType

NO_LENGTH = b"dry run\n"  # instead of a length
CHEAP = 256 << 10  # bytes of content that are cheaper to read than a new connection


def find_out(run: _Run) -> None:
    """Fill the run's summary with what would be sent and received, and what would fail."""
    here = run.list()
    sync_type = run.request.sync_type
    times = "USE_TIME" if sync_type.by_time else "NO_TIME"
    if sync_type.to_server:
        for name in _wanted(run.request, SyncType[f"TO_SERVER_{times}"], dict(here.files)):
            run.summary.sent[name] = _size(run, name)
    if sync_type.from_server:
        for name, size in _offered(run.request, SyncType[f"FROM_SERVER_{times}"], here).items():
            why = here.refuses(name)
            if why is not None:
                run.fail(name, why)
            elif not here.is_excluded(name):
                run.summary.received[name] = size
    run.count_unchanged(here)


def _size(run: _Run, name: str) -> int:
    try:
        return run.storage.lstat(run.top + name.encode()).size or 0
    except (OSError, SFTPException):
        return 0


def _wanted(request: Request, kind: SyncType, offered: dict[str, int]) -> list[str]:
    """The names that the server wants. offered: times by name."""
    names: list[str] = []
    while True:
        before = len(names)
        dialogue = Dialogue(request)
        try:
            open_sync(dialogue, request, kind, offered)
            line: bytes | None = dialogue.line()
            if line:
                names.append(taken(offered, line, request.dialect))
                dialogue.send(NO_LENGTH)
            while line:
                line = dialogue.line_or_end()
                if line:
                    names.append(taken(offered, line, request.dialect))
        finally:
            dialogue.close()
        if line is not None:
            return names
        if len(names) == before:
            raise SyncError("the server ended the connection early; its log says why")


def _offered(request: Request, kind: SyncType, here: Listing) -> dict[str, int]:
    """The size of each file that the server would send, by name."""
    known = dict(here.files)
    found: dict[str, int] = {}
    check = DownloadCheck(request, kind, here)  # for all connections: a file may be offered once
    while True:
        sink = _Nowhere(CHEAP + sum(map(len, known)))
        dialogue = Dialogue(request)
        try:
            open_sync(dialogue, request, kind, known)
            if dialogue.line():
                raise SyncError("the server wants files in a sync from the server")
            parser = DownloadParser(request.dialect, sink, check)
            while not parser.is_done:
                dialogue.feed(parser)
        except _TooMuch:
            pass
        finally:
            dialogue.close()
        found.update((name, size) for name, (_, size) in sink.files.items())
        known.update((name, mtime) for name, (mtime, _) in sink.files.items())
        if parser.is_done:
            return found


class _TooMuch(Exception):
    """A new connection is cheaper than the rest of a file."""


class _Nowhere:
    """A sink that keeps names only. files: (time in seconds, bytes) by name. most: largest file to read, in
    bytes.
    """

    def __init__(self, most: int) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        self._most = most

    def begin(self, name: str, mtime: int, length: int) -> None:
        """Record a file."""
        self.files[name] = (mtime, length)
        if length > self._most:
            raise _TooMuch

    def write(self, piece: memoryview) -> None:
        """Discard the content."""

    def end(self) -> None:
        """The file is complete."""
