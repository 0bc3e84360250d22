"""Sessions and transfers as plain values for JSON.

What may not enter: sockets, commands, anything that waits.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter

from pysftpserver import __version__
from pysftpserver.service.transfers import total
from pysftpserver.sshd import metrics
from pysftpserver.sshd.tickets import MOST_FILES

ANSWERS = 1  # version of the answers; grows when the meaning of one changes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.sshd.channel import Session
    from pysftpserver.sshd.connection import Connection
    from pysftpserver.sshd.server import Server


class Sessions:
    """The sessions of one process: connections of users who have logged in. process: its number."""

    def __init__(self, server: Server, process: int = 0) -> None:
        self._server = server
        self._process = process

    async def all(self) -> list[dict[str, Any]]:
        """All sessions, oldest first."""
        there = sorted(self._present(), key=lambda connection: connection.number)
        return await asyncio.gather(*map(self._told, there))

    async def end(self, number: int | None = None, user: str | None = None) -> list[int]:
        """End the session with that number, or all sessions of a user; returns the numbers of those."""
        ended = []
        for connection in list(self._present()):
            assert connection.user is not None
            if connection.number == number or connection.user.name == user:
                ended.append(connection.number)
                self._server.log.info(f"{connection}: ended: by pysftpctl")
                connection.end("Ended by the administrator")
        return sorted(ended)

    async def figures(self) -> dict[str, Any]:
        """The figures of the process so far. All except those of GAUGES only grow."""
        if self._server.settings.counts_requests:
            everywhere = [one for connection in self._present() for one in _served(connection)]
            await asyncio.gather(*(one.report() for one in everywhere))
        # Read in one go: a session that ends meanwhile adds its figures to the server's.
        elsewhere = [one.figures() for connection in self._present() for one in _served(connection)]
        figures: dict[str, Any] = total([self._server.metrics.figures(), *elsewhere])
        running = metrics.Metrics(self._server.settings.metrics_users)
        for connection in self._server.connections:
            name = None if connection.user is None else self._server.metrics.label(connection.user.name)
            received, sent = connection.moved()
            running.count_moved(received, sent, name)
        figures = total([figures, running.figures()])
        figures["sessions"] = sum(1 for _ in self._present())
        figures["connections"] = len(self._server.connections)
        served = [one for connection in self._present() for one in _served(connection)]
        figures["served"] = {"process": 0, "thread": 0} | Counter(one.isolation for one in served)
        figures["handles"] = self._server.handles.count + sum(one.handles for one in served)
        figures["kept"] = sum(connection.kept for connection in self._server.connections)
        figures["banned"] = self._server.banning.count() if self._process == 0 else 0
        figures["outdated"] = int(self._server.directory.trouble() is not None)
        figures["processes"] = 1
        return figures

    async def about(self) -> dict[str, Any]:
        """About the server: the version of its answers, and where to find what it does not answer."""
        settings = self._server.settings
        return {
            "answers": ANSWERS,
            "version": __version__,
            "audit": None if settings.audit is None else os.path.abspath(settings.audit),
            "counts_requests": settings.counts_requests,
            "web_socket": self._server.web_socket,
        }

    async def notes(self) -> list[dict[str, Any]]:
        """The latest notes on connections that were refused or ended by a limit, oldest first."""
        return [{"time": round(at, 3), "text": text} for at, text in self._server.notes]

    async def health(self) -> dict[str, list[str]]:
        """What keeps this process from serving (faults), and what is not as it should be (notes)."""
        faults = self._server.authorities.troubles()
        if self._server.is_draining:
            faults.append("the server is stopping")
        trouble = self._server.directory.trouble()
        return {"faults": faults, "notes": [] if trouble is None else [trouble]}

    def _present(self) -> Iterator[Connection]:
        return (connection for connection in self._server.connections if connection.user is not None)

    async def _told(self, connection: Connection) -> dict[str, Any]:
        reports = await asyncio.gather(*(one.report() for one in _served(connection)))
        files = [
            {**file, "id": f"{place}.{file['id']}"}
            for place, report in enumerate(reports)
            for file in report["files"]
        ]
        more = sum(report["more_files"] for report in reports)
        now = asyncio.get_running_loop().time()
        received, sent = connection.moved()
        return {
            "number": connection.number,
            "process": self._process,
            "user": connection.user.name if connection.user is not None else "",
            "address": connection.address,
            "login": connection.login.described(),
            "since": round(time.time() - (now - connection.began), 3),
            "idle": round(now - connection.moved_at(), 3),
            "received": received,
            "sent": sent,
            "kept": connection.kept,
            "isolation": next((one.isolation for one in _served(connection)), None),
            "handles": sum(report["handles"] for report in reports),
            "files": files[:MOST_FILES],
            "more_files": more + max(0, len(files) - MOST_FILES),
        }


def _served(connection: Connection) -> list[Session]:
    """The sessions of a connection, in a stable order."""
    channels = sorted(connection.channels, key=id)
    return [channel.session for channel in channels if channel.session is not None]
