"""Crowds of clients that do not log in: others, and their own address, are let in at once."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from typing import Any

from pysftpserver.laboratory import client
from pysftpserver.laboratory.services.files import Files
from pysftpserver.service.threads import EACH
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.laboratory.serving import HOST, PASSWORD, Served, ServerCase
from tests.support.waiting import NEVER, PATIENCE, until

FOR_EVER = {"step_timeout": NEVER, "login_grace": NEVER}  # nothing that is slow makes room by its end
NEWCOMER = "127.0.9.1"


class Crowds(ServerCase):
    def crowd(self, served: Served, count: int, addresses: int) -> list[socket.socket]:
        raws = []
        for number in range(count):
            source = (f"127.0.8.{number % addresses + 1}", 0)
            raws.append(socket.create_connection((HOST, served.port), PATIENCE, source))
            self.addCleanup(raws[-1].close)
        return raws

    def gets_a_key(self, served: Served, source: str) -> bool:
        """Whether a newcomer is admitted: the server's key comes, and no refusal."""
        with socket.create_connection((HOST, served.port), PATIENCE, (source, 0)) as raw:
            with contextlib.suppress(ConnectionResetError):
                return raw.recv(5) == b"-----"
        return False

    def test_a_full_server_lets_newcomers_in_at_once_for_those_that_have_not_logged_in(self) -> None:
        served = self.serve(max_connections=50, **FOR_EVER)
        user = self.old(served, "key")
        self.crowd(served, 60, 2)
        self.assertTrue(self.gets_a_key(served, NEWCOMER))
        self.assertEqual(user.ask("x"), 'I received "x" from you.')
        served.log.wait("others are waiting")

    def test_silent_clients_do_not_keep_their_own_address_out(self) -> None:
        served = self.serve(max_per_address=5, **FOR_EVER)
        self.crowd(served, 5, 1)
        until(lambda: self.gets_a_key(served, "127.0.8.1"), "nobody made room")

    def test_forty_that_trickle_their_keys_keep_nobody_waiting(self) -> None:
        served = self.serve(max_connections=30, **FOR_EVER)
        raws = self.crowd(served, 40, 2)
        over = threading.Event()

        def trickle() -> None:
            while not over.wait(0.1):  # how slow they are
                for raw in raws:
                    with contextlib.suppress(OSError):
                        raw.send(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            for _ in range(3):
                client.connect(HOST, served.port, password=PASSWORD, name="new", timeout=PATIENCE).close()
        finally:
            over.set()
            thread.join(PATIENCE)


class Hanging(SFTPServerVirtualChroot):
    """A jail on a disk that hangs, but for its root."""

    goes_on = threading.Event()

    def opendir(self, path: bytes) -> Any:
        if path != b"/":
            self.goes_on.wait()
        return super().opendir(path)


class OnHangingDisks(ServerCase):
    def test_a_directory_that_hangs_holds_up_the_network_that_asks_for_it(self) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory())
        served = self.serve(Files(lambda: Hanging(place)))
        self.addCleanup(Hanging.goes_on.set)
        crowd = [self.old(served, "key", source=NEWCOMER) for _ in range(EACH + 8)]
        for one in crowd:
            one.send("list /hangs")
        for _ in range(3):
            ann = self.old(served, "key")
            self.assertEqual(ann.ask("list /"), "end")
