"""Sessions and transfers as plain values for JSON.

What may not enter: sockets, commands, anything that waits.
"""

from __future__ import annotations

import asyncio
import os
import time

from pysftpserver.engine.handles import FileHandle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.sshd.connection import Connection
    from pysftpserver.sshd.server import Server

MOST_FILES = 20  # of a session that are listed one by one


class Sessions:
    """The sessions of one process: connections of users who have logged in. process: its number."""

    def __init__(self, server: Server, process: int = 0) -> None:
        self._server = server
        self._process = process

    def all(self) -> list[dict[str, Any]]:
        """All sessions, the oldest first."""
        there = sorted(self._present(), key=lambda connection: connection.number)
        return [self._told(connection) for connection in there]

    def end(self, number: int | None = None, user: str | None = None) -> list[int]:
        """End the session with that number, or all sessions of a user; returns the numbers of those."""
        ended = []
        for connection in list(self._present()):
            assert connection.user is not None
            if connection.number == number or connection.user.name == user:
                ended.append(connection.number)
                self._server.log.info(f"{connection}: ended: by pysftpctl")
                connection.end("Ended by the administrator")
        return sorted(ended)

    def figures(self) -> dict[str, Any]:
        """The figures of the process so far. All but those of GAUGES only grow."""
        figures: dict[str, Any] = dict(self._server.metrics.figures())
        moved = figures["moved"]
        for connection in self._server.connections:
            received, sent = connection.moved()
            moved["received"] += received
            moved["sent"] += sent
        figures["sessions"] = sum(1 for _ in self._present())
        figures["connections"] = len(self._server.connections)
        figures["handles"] = self._server.handles.count
        figures["outdated"] = int(self._server.directory.trouble() is not None)
        figures["processes"] = 1
        return figures

    def _present(self) -> Iterator[Connection]:
        return (connection for connection in self._server.connections if connection.user is not None)

    def _told(self, connection: Connection) -> dict[str, Any]:
        now = asyncio.get_running_loop().time()
        received, sent = connection.moved()
        files = list(_files(connection))
        return {
            "number": connection.number,
            "process": self._process,
            "user": connection.user.name if connection.user is not None else "",
            "address": connection.address,
            "since": round(time.time() - (now - connection.began), 3),
            "idle": round(now - connection.moved_at(), 3),
            "received": received,
            "sent": sent,
            "files": files[:MOST_FILES],
            "more_files": max(0, len(files) - MOST_FILES),
        }


def _files(connection: Connection) -> Iterator[dict[str, Any]]:
    """The open files. id: the same as long as the file is open."""
    for place, channel in enumerate(sorted(connection.channels, key=id)):
        if channel.server is None:
            continue
        for name, handle in list(channel.server.handles.opened.items()):
            if type(handle) is FileHandle:
                yield {
                    "id": f"{place}.{int.from_bytes(name, 'big')}",
                    "path": handle.path.decode("utf-8", "backslashreplace"),
                    "read": handle.bytes_read,
                    "written": handle.bytes_written,
                    "size": _size(handle),
                }


def _size(handle: FileHandle) -> int | None:
    """The size of a file that is read; None for an upload, and where the system does not know it."""
    if handle.descriptor is None or handle.flags & os.O_ACCMODE != os.O_RDONLY:
        return None
    try:
        return os.fstat(handle.descriptor).st_size
    except OSError:
        return None
