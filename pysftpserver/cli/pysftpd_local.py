"""The doors of pysftpd to its own host: admin sockets for pysftpctl, and figures for Prometheus.

Opened by the first process, before there is a second; served by each, the figures by number 0 alone.
What may not enter: SSH, what is asked there.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from pysftpserver.failures import Unavailable
from pysftpserver.sshd import admin, metrics_http
from pysftpserver.sshd.admin import Admin
from pysftpserver.sshd.admin_client import AdminError, path_of
from pysftpserver.sshd.metrics_http import Collector, MetricsDoor
from pysftpserver.sshd.sessions import Sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.config import Options
    from pysftpserver.sshd.server import Server


class LocalDoors:
    """The sockets, and whoever serves on them. Raises BadInput, Unavailable."""

    def __init__(self, options: Options, log: SFTPLog) -> None:
        self._processes = options.workers
        self._log = log
        self._metrics: socket.socket | None = None
        self._admin: list[socket.socket] = []
        self._directory: str | None = None
        self._path = options.admin_socket
        self._serving: list[Admin | MetricsDoor] = []
        try:
            if options.metrics is not None:
                self._metrics = self._listen_for_metrics(options.metrics)
                if self._path is None and self._processes > 1:  # process 0 has to ask the others somewhere
                    self._directory = tempfile.mkdtemp(prefix="pysftpd-")
                    self._path = os.path.join(self._directory, "admin")
            if self._path is not None:
                self._path = os.path.abspath(self._path)
                self._admin = admin.listening(self._path, self._processes)
        except AdminError as error:
            self.remove()
            raise Unavailable(str(error)) from None
        except BaseException:
            self.remove()
            raise

    def _listen_for_metrics(self, port: int) -> socket.socket:
        try:
            one = metrics_http.listening(port)
        except OSError as error:
            reason = (error.strerror or "failure").lower()
            raise Unavailable(f"metrics: port {port} of {metrics_http.HOST}: {reason}") from None
        self._log.info(f"metrics on {metrics_http.HOST} port {one.getsockname()[1]}")
        return one

    async def start(self, server: Server, number: int) -> None:
        """Serve, in the process of that number."""
        sessions = Sessions(server, number, self._processes)
        if self._admin:
            door = Admin(sessions, number, self._log)
            await door.start(self._admin[number])
            self._serving.append(door)
        if self._metrics is not None and number == 0:
            others = [path_of(str(self._path), other, self._processes) for other in range(1, self._processes)]
            figures = MetricsDoor(Collector(sessions.figures, others), self._log)
            await figures.start(self._metrics)
            self._serving.append(figures)

    async def close(self) -> None:
        """Serve no more, in this process."""
        for door in self._serving:
            await door.close()

    def __enter__(self) -> LocalDoors:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Leave nothing behind; for the process that has opened them."""
        admin.remove(self._admin, str(self._path), self._processes)
        if self._metrics is not None:
            self._metrics.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
