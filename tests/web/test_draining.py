"""The end of a server: requests that run are completed, and no others begin."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

from pysftpserver.web.wire import Reply, Request
from tests.support.waiting import PATIENCE, until
from tests.web.serving import HOST, WebCase


class Slow:
    """A part whose reply is complete once the test lets it be."""

    needs_login = False
    is_for_programs = False

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def answer(self, request: Request, rest: bytes) -> Reply:
        return Reply(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        yield b"one "
        self.begun.set()
        self.may_end.wait(PATIENCE)
        yield b"two"


class Broken:
    """A part with a fault in it."""

    needs_login = False
    is_for_programs = False

    def answer(self, request: Request, rest: bytes) -> Reply:
        raise KeyError("/a/path/of/the/host")


class Reads:
    """A part that reads the body."""

    needs_login = False
    is_for_programs = True

    def answer(self, request: Request, rest: bytes) -> Reply:
        return Reply(request.body(1 << 20))


class TestDraining(WebCase):
    def test_a_reply_that_has_begun_is_completed_and_other_requests_are_refused(self) -> None:
        slow, running = Slow(), self.served.door.application.running
        self.served.door.application.parts[b"slow"] = slow
        with self.served.browser() as browser, self.served.browser() as other:
            said: list[bytes] = []
            asking = threading.Thread(target=lambda: said.append(browser.get("/slow").body))
            asking.start()
            self.assertTrue(slow.begun.wait(PATIENCE))
            self.assertFalse(running.drain(0.01))
            refused = other.get("/login")
            self.assertEqual((refused.status, refused.headers["Connection"]), (503, "close"))
            slow.may_end.set()
            self.assertTrue(running.drain(PATIENCE))
            asking.join(PATIENCE)
            self.assertEqual(said, [b"one two"])
        running.closed.clear()

    def test_a_fault_is_in_the_log_and_not_on_the_page(self) -> None:
        self.served.door.application.parts[b"broken\nb"] = Broken()
        with self.served.browser() as browser:
            answer = browser.get("/broken%0Ab/c")
        self.assertEqual(answer.status, 500)
        self.assertNotIn("/a/path", answer.text)
        self.assertIn("GET of /broken\\012b has failed", self.log.wait("has failed"))
        self.assertIn("KeyError", self.log.wait("KeyError"))
        self.until_nothing_runs()

    def test_bodies_that_are_malformed_or_break_off_are_the_clients_faults(self) -> None:
        self.served.door.application.parts[b"reads"] = Reads()
        before = len(self.log.lines)
        head = b"PUT /reads HTTP/1.1\r\nHost: x\r\n"
        with socket.create_connection((HOST, self.served.port), PATIENCE) as peer:
            peer.sendall(head + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
            self.assertIn(b"400 Bad Request", peer.recv(65536))
        with socket.create_connection((HOST, self.served.port), PATIENCE) as peer:
            peer.sendall(head + b"Content-Length: 5\r\n\r\nab")
            until(lambda: self.served.door.application.running._count, "it does not begin")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # to reset it
        self.until_nothing_runs()
        self.log.wait("a chunk without a length")
        self.assertEqual([line for line in self.log.lines[before:] if "failed" in line], [])

    def until_nothing_runs(self) -> None:
        until(lambda: not self.served.door.application.running._count, "a request is still counted")
