"""What the server offers to its own host: admin sockets for pysftpctl, and metrics for Prometheus.

The first process opens them before there is a second; each serves its admin socket, and process 0 the metrics
as well. What may not enter: SSH, the questions that are asked there.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from pysftpserver.failures import Unavailable, reason_of
from pysftpserver.service.admin_client import path_of
from pysftpserver.sshd import admin
from pysftpserver.sshd.admin import Admin
from pysftpserver.sshd.sessions import Sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Self

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.service.handover import Sockets
    from pysftpserver.sshd.browsers import Browsers
    from pysftpserver.sshd.config import ServerSettings
    from pysftpserver.sshd.metrics_http import MetricsEndpoint
    from pysftpserver.sshd.server import Server


class LocalEndpoints:
    """The sockets, and what serves them. web_argv: the command that runs pysftpweb.

    sockets: taken over from a predecessor, and handed to a successor.

    Raises BadInput, Unavailable.
    """

    def __init__(
        self, settings: ServerSettings, log: SFTPLog, sockets: Sockets, web_argv: Sequence[str] = ()
    ) -> None:
        self._processes = settings.workers
        self._log = log
        self._sockets = sockets
        self._is_handed_over = False
        self._metrics: socket.socket | None = None
        self._admin: list[socket.socket] = []
        self._directory: str | None = None
        self._path = settings.admin_socket
        self._serving: list[Admin | MetricsEndpoint | Browsers] = []
        self._browsers: Browsers | None = None
        try:
            if settings.metrics is not None:
                self._metrics = self._listen_for_metrics(settings.metrics)
                if self._path is None and self._processes > 1:  # process 0 has to ask the others somewhere
                    self._path = os.path.join(self._own_directory(), "admin")
            if settings.web is not None:
                from pysftpserver.sshd.browsers import Browsers

                links = settings.web_socket or os.path.join(self._own_directory(), "links")
                self._path = self._path or os.path.join(self._own_directory(), "admin")
                self._browsers = Browsers(settings, web_argv, os.path.abspath(self._path), links, log)
            if self._path is not None:
                self._path = os.path.abspath(self._path)
                names = f"admin {self._path} {self._processes}"
                self._admin = sockets.take(names) or admin.listening(self._path, self._processes)
                sockets.keep(names, self._admin)
        except BaseException:
            self.remove()
            raise

    def _own_directory(self) -> str:
        """A directory for sockets that the settings do not name."""
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="pysftpd-")
        return self._directory

    def _listen_for_metrics(self, port: int) -> socket.socket:
        from pysftpserver.service.serving import listen
        from pysftpserver.sshd.metrics_http import HOST

        name = f"metrics {port}"
        try:
            (one,) = self._sockets.take(name) or [listen(HOST, port)]
        except OSError as error:
            raise Unavailable(f"metrics: port {port} of {HOST}: {reason_of(error)}") from None
        self._sockets.keep(name, [one])
        self._log.info(f"metrics on {HOST} port {one.getsockname()[1]}")
        return one

    async def start(self, server: Server, number: int) -> None:
        """Serve, in the process with that number."""
        sessions = Sessions(server, number)
        if self._browsers is not None:
            server.own_web_socket = self._browsers.links
        if self._admin:
            endpoint = Admin(sessions, server.banning, number, self._log)
            await endpoint.start(self._admin[number])
            self._serving.append(endpoint)
        if self._metrics is not None and number == 0:
            from pysftpserver.sshd.metrics_http import MetricsEndpoint

            others = [path_of(str(self._path), other, self._processes) for other in range(1, self._processes)]
            figures = MetricsEndpoint(sessions.figures, sessions.health, others, self._log)
            await figures.start(self._metrics)
            self._serving.append(figures)
        if self._browsers is not None and number == 0:
            self._browsers.start()
            self._serving.append(self._browsers)

    def stopping(self) -> None:
        """The server takes no more clients: what runs next to it may end meanwhile."""
        if self._browsers is not None:
            self._browsers.stop()

    def handed_over(self) -> None:
        """Leave the files of the sockets where they are: another process has the sockets now."""
        self._is_handed_over = True

    async def leave(self) -> None:
        """Make way for the process that serves now, and for what runs next to it."""
        self.handed_over()
        self.stopping()
        serving, self._serving = self._serving, [one for one in self._serving if one is self._browsers]
        for endpoint in serving:
            if endpoint is not self._browsers:  # these get time for their transfers
                await endpoint.close()

    async def close(self) -> None:
        """Stop serving in this process."""
        for endpoint in self._serving:
            await endpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Close the sockets and remove their files, in the process that opened them."""
        if not self._is_handed_over:
            admin.remove(self._admin, str(self._path), self._processes)
        if self._metrics is not None:
            self._metrics.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
