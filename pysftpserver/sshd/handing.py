"""How a process of pysftpd makes way for its new version: it accepts no more, and ends with its sessions.

What may not enter: how a process is started and told (service/handover.py), SSH.
"""

from __future__ import annotations

import asyncio

from pysftpserver.failures import Unavailable
from pysftpserver.service.handover import Successor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.sshd.processes import Service
    from pysftpserver.sshd.server import Server

BY_ROOT = "run_as needs root, which this process is not: restart the service; transfers have drain_seconds"


def successor(service: Service) -> Successor:
    """Start a process of the new version. Raises Unavailable."""
    if service.settings.run_as is not None or service.settings.run_as_accounts:
        raise Unavailable(BY_ROOT)
    service.log.info("handing over: starting the new version")
    return Successor(service.sockets, service.life.for_successor())


class Handing:
    """One process's part. stop: set when its last connection has ended. serves: set when it is ready."""

    def __init__(self, service: Service, server: Server, stop: asyncio.Event, serves: asyncio.Event) -> None:
        self._service = service
        self._server = server
        self._stop = stop
        self._serves = serves
        self._task: asyncio.Task[None] | None = None
        self._new: Successor | None = None
        self._is_ending = False

    def asked(self) -> None:
        """SIGUSR2: hand over, unless that is under way. The parent of several starts the new version."""
        if self._task is None or self._task.done():
            is_alone = self._service.settings.workers == 1
            self._task = asyncio.create_task(self._hand_over() if is_alone else self._leave())

    async def _hand_over(self) -> None:
        await self._serves.wait()  # what it hands over is complete only then
        loop = asyncio.get_running_loop()
        try:
            self._new = await loop.run_in_executor(None, self._started)
            process = await loop.run_in_executor(None, self._new.process)
        except Unavailable as error:
            self._service.log.error(f"not handed over: {error.message}")
            return
        finally:
            self._new = None
        self._service.handed_over(process)
        await self._leave()

    def _started(self) -> Successor:
        """Start a successor; in a thread, which may finish after this process was told to end."""
        new = successor(self._service)
        if self._is_ending:
            new.abandon()
        return new

    def end(self) -> None:
        """End the process that is to take over, unless it has: this process ends."""
        self._is_ending = True
        if self._new is not None:
            self._new.abandon()

    async def _leave(self) -> None:
        log, connections = self._service.log, self._server.connections
        self._server.leave()
        await self._service.endpoints.leave()
        log.info(f"handed over; connections that go on here: {len(connections)}")
        await connections.emptied(None)
        self._stop.set()
