"""Listening without descriptors."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import unittest

from pysftpserver.engine.log import SFTPLog
from pysftpserver.service.accepting import QUIET, Acceptor, Seldom
from pysftpserver.service.serving import listen
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


class Accepting(unittest.TestCase):
    def setUp(self) -> None:
        self.lines: list[str] = []
        self.log = SFTPLog(lambda level, text: self.lines.append(text))

    def answers(self, serves_in_need: bool) -> list[bytes]:
        """What four clients receive: two while there are no descriptors, two afterwards."""

        async def run() -> list[bytes]:
            loop = asyncio.get_running_loop()
            listening = listen(HOST, 0)
            name = listening.getsockname()
            acceptor = Acceptor(listening, Greeting, self.log, "door", 2, serves_in_need)
            clients = [socket.socket() for _ in range(4)]
            for one in clients:
                one.setblocking(False)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            gc.collect()  # what garbage of other tests has open would be free meanwhile
            fill = os.dup(0)  # the lowest free descriptor; the rest up to the last one may be free as well
            resource.setrlimit(resource.RLIMIT_NOFILE, (fill, hard))
            got = []
            try:
                for number, one in enumerate(clients):
                    if number == 2:
                        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    await loop.sock_connect(one, name)
                    got.append(await asyncio.wait_for(loop.sock_recv(one, 10), PATIENCE))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                os.close(fill)
                acceptor.close()
                acceptor.close()
                for one in clients:
                    one.close()
            return got

        return asyncio.run(run())

    def test_clients_are_sent_away_at_once_and_later_ones_served(self) -> None:
        self.assertEqual(self.answers(False), [b"", b"", b"hello", b"hello"])
        self.assertEqual(len(self.lines), 1)
        self.assertIn("door: too many open files: connections are closed at once", self.lines[0])

    def test_those_that_the_reserve_is_for_are_served(self) -> None:
        self.assertEqual(self.answers(True), [b"hello"] * 4)
        self.assertIn("served from the reserve", self.lines[0])

    def test_what_happens_again_and_again_is_logged_seldom(self) -> None:
        seldom = Seldom(self.log)
        for _ in range(100):
            seldom.error("full", 5.0)
        seldom.error("full", 5.0 + QUIET)
        self.assertEqual(self.lines, ["full", "full (99 times more in the last 10 seconds)"])
