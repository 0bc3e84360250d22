"""Crowds of peers that have not logged in: how long a good login waits meanwhile."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import unittest
from collections.abc import Iterator

from pysftpserver.remo import wire
from pysftpserver.remo.config import ServerSettings
from tests.remo import running
from tests.remo.hosting import USER, HostCase, Raw, request
from tests.support.hard import IS_HARD
from tests.support.waiting import NEVER, PATIENCE, until

FOR_EVER = ("--idle", str(NEVER), "--slowest", "0")  # nothing that is slow makes room by its end
NEWCOMER = "127.0.9.1"
LOGIN = request("POST", "/auth", None, None, "Content-Length: 4000")
CHUNKED = request("POST", "/auth", None, None, "Transfer-Encoding: chunked")
#: What a crowd begins with, and what it goes on with, a piece every half second.
CROWDS = {
    "bodies of logins": (LOGIN, b"x"),
    "bodies of logins under another spelling": (LOGIN.replace(b"/auth", b"http://x/%61uth?x"), b"x"),
    "chunks of logins": (CHUNKED, b"1\r\nx\r\n"),
    "the length of a chunk": (CHUNKED, b"0"),
    "extensions of a chunk": (CHUNKED + b"1;", b"x"),
    "trailers of a login": (CHUNKED + b"0\r\n", b"x: y\r\n"),
    "request lines": (b"GET /", b"x"),
    "headers": (b"GET /info HTTP/1.1\r\n", b"x: y\r\n"),
    "empty lines": (b"\r\nPOST", b" "),
    "bodies that nobody asked for": (request("POST", "/put/x", None, None, "Content-Length: 999999"), b"x"),
    "bodies that are too long": (LOGIN.replace(b"4000", b"999999"), bytes(4000)),
    "silence": (b"", b""),
    "answers that are not read": (request("GET", "/info") * 2000, request("GET", "/info") * 100),
}


class Crowds(HostCase):
    options = FOR_EVER

    def crowd(self, count: int, addresses: int, begin: bytes) -> list[Raw]:
        raws = [self.connect(f"127.0.8.{number % addresses + 1}", buffer=4096) for number in range(count)]
        for raw in raws:
            raw.socket.setblocking(False)
            say(raw, begin)
        return raws

    @contextlib.contextmanager
    def trickling(self, raws: list[Raw], piece: bytes) -> Iterator[None]:
        over = threading.Event()

        def trickle() -> None:
            while not over.wait(0.5):  # how slow they are
                for raw in raws:
                    say(raw, piece)

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(PATIENCE)
            for raw in raws:
                raw.close()

    def log_in(self, source: str = NEWCOMER) -> None:
        """It waits for no end of another's time."""
        for _ in range(3):
            with self.host.raw(source) as raw:
                self.host.log_in(raw)

    def comes_in(self) -> bool:
        """Whether a client at an address of the crowd does; while that is being answered, it may get 503."""
        try:
            self.log_in("127.0.8.1")
        except AssertionError as error:
            self.assertTrue(str(error).endswith("503"), error)
            return False
        return True

    def test_forty_that_trickle_from_two_addresses_keep_nobody_waiting(self) -> None:
        for what, (begin, piece) in CROWDS.items():
            with self.subTest(what):
                raws = self.crowd(40, 2, begin)
                with self.trickling(raws, piece):
                    self.log_in()

    def test_two_hundred_from_ten_addresses_keep_nobody_out(self) -> None:
        crowds = CROWDS if IS_HARD else {key: CROWDS[key] for key in list(CROWDS)[:1]}
        for what, (begin, piece) in crowds.items():
            with self.subTest(what):
                raws = self.crowd(200, 10, begin)
                with self.trickling(raws, piece):
                    self.log_in()
                    until(self.comes_in, "an address of the crowd's")


class Full(HostCase):
    """More connections than the server has room for: those that say nothing make room."""

    options = (*FOR_EVER, "--max-connections", "60", "--max-per-address", "10")

    def test_a_full_house_has_room_for_a_newcomer(self) -> None:
        raws = [self.connect(f"127.0.7.{number % 6 + 1}") for number in range(90)]
        for raw in raws:
            say(raw, LOGIN + b"x")
        with self.host.raw(NEWCOMER) as raw:
            self.host.log_in(raw)

    def test_a_session_s_connection_is_not_the_one_that_goes(self) -> None:
        mine = self.connect(NEWCOMER)
        peer = self.host.log_in(mine)
        raws = [self.connect(f"127.0.6.{number % 20 + 1}") for number in range(90)]
        for raw in raws:
            say(raw, b"GET")
        self.assertEqual(mine.ask(peer.plain("sts", None, b"")).status, 200)


class Memory(HostCase):
    options = ("--max-request-memory", str(8 << 20))

    def test_headers_that_do_not_end_take_no_more_memory_than_they_may(self) -> None:
        self.host.log_in()
        before = self.host.memory("VmHWM")
        line = b"x: " + b"y" * 1000 + b"\r\n"
        for number in range(400):
            raw = self.connect(f"127.0.5.{number % 10 + 1}")
            with contextlib.suppress(ConnectionError):
                raw.socket.sendall(b"GET /info HTTP/1.1\r\n" + line * 110)
        with self.host.raw(NEWCOMER) as raw:
            self.host.log_in(raw)
        self.host.process.said("max_request_memory")
        self.assertLess(self.host.memory("VmHWM") - before, 20 << 10)


class HangingDisk(HostCase):
    options = ("--storage", 'tests.remo.storages:Hanging "files"')

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        running.admit(cls.host.place, "mallory")


class OnAHangingDisk(HangingDisk):
    def test_what_hangs_holds_up_the_user_who_asks_for_it(self) -> None:
        for number in range(4):  # more than there are threads, from addresses that have sessions
            source = f"127.0.8.{number + 1}"
            peer = self.host.log_in(self.connect(source), "mallory")
            for _ in range(ServerSettings().max_per_address):
                self.connect(source).say(peer.plain("get", b"/hangs"))
        for source in (NEWCOMER, "127.0.8.1"):  # their neighbours, too
            with self.host.raw(source) as raw:
                peer = self.host.log_in(raw)
                self.assertEqual(peer.opened(raw.ask(peer.plain("get", b"/small"))), b"small content")


@unittest.skipUnless(IS_HARD, "it waits for a quarter of a minute")
class Ending(HangingDisk):
    options = (*HangingDisk.options, "--drain-seconds", "1")

    def tearDown(self) -> None:
        pass  # it has ended

    def test_a_server_ends_though_a_request_hangs(self) -> None:
        raw = self.connect()
        raw.say(self.host.log_in().plain("get", b"/hangs"))
        until((self.host.files / "asked").exists)
        self.host.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.host.process.wait(PATIENCE), 1)
        self.assertIn("a storage hangs", self.host.log())


class Opening(HangingDisk):
    options = (*HangingDisk.options, "--session-timeout", "3")

    def test_a_storage_that_hangs_while_it_is_opened_does_not_keep_sessions_from_their_end(self) -> None:
        hung = self.host.files / "hung"
        hung.touch()
        self.addCleanup(hung.unlink)
        self.connect().say(self.host.log_in(user="mallory").plain("get", b"/small"))
        with self.host.raw() as raw:
            raw.ask(self.host.log_in(raw).plain("sts", None, b""))
        self.host.process.said(f"of {USER}: timed out")


class Expectations(HostCase):
    def test_a_login_that_waits_for_leave_gets_it(self) -> None:
        raw = self.connect()
        raw.say(request("POST", "/auth", None, None, "Expect: 100-continue", "Content-Length: 1"))
        self.assertEqual(raw.socket.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
        raw.say(b"x")
        answer = raw.answer()
        self.assertEqual(getattr(answer, "status", None), 400)

    def test_a_login_in_single_bytes_is_a_login(self) -> None:
        for head in (LOGIN.replace(b"4000", b"5"), CHUNKED):
            body = b"hello" if head is not CHUNKED else b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx: y\r\n\r\n"
            raw = self.connect()
            raw.say(*(bytes([byte]) for byte in head + body + request("GET", "/info")))
            self.assertEqual([getattr(raw.answer(), "status", None) for _ in range(2)], [400, 200])


def say(raw: Raw, data: bytes) -> None:
    """What fits without waiting; the server may have ended it."""
    with contextlib.suppress(OSError):
        raw.socket.send(data, socket.MSG_DONTWAIT)


assert wire.MOST_LOGIN > 4000
