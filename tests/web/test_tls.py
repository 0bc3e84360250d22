"""HTTPS by certificate files: handshakes, what is buffered, and peers that do not go on."""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from pysftpserver.web.server import context_of
from pysftpserver.web.wire import Reply, Request
from tests.sksync.certificates import Pair
from tests.support.lines import logged
from tests.support.waiting import PATIENCE, until
from tests.web.serving import HOST, LOGGER, Browser, Served, WebCase

BODY = 3_000_000  # bytes: many records of TLS


class Echo:
    """A part that answers with what is sent."""

    needs_login = False
    is_for_programs = True

    def answer(self, request: Request, rest: bytes) -> Reply:
        return Reply(request.body(10 * BODY))


class Endless:
    """A part whose reply does not end by itself."""

    needs_login = False
    is_for_programs = False

    def __init__(self) -> None:
        self.ended = threading.Event()

    def answer(self, request: Request, rest: bytes) -> Reply:
        return Reply(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(65536)
        finally:
            self.ended.set()


class TestTLS(WebCase):
    pair: Pair

    @classmethod
    def make(cls, place: Path) -> Served:
        cls.pair = Pair(place, "web", (HOST,))
        Path(cls.pair.keyfile).chmod(0o600)
        how = {"certificate": cls.pair.certfile, "private_key": cls.pair.keyfile}
        return Served(place, **how)

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.pair.certfile)

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection((HOST, self.served.port), PATIENCE)
        wrapped = self.trusting().wrap_socket(plain, server_hostname=HOST)
        self.addCleanup(wrapped.close)
        return wrapped

    def test_a_session_over_https_has_a_cookie_that_other_hosts_and_http_cannot_set(self) -> None:
        with self.served.browser(context=self.trusting()) as browser:
            answer = browser.log_in()
            self.assertEqual(list(browser.cookies), ["__Host-pysftpweb"])
            for words in ("; Path=/;", "; HttpOnly", "; SameSite=Lax", "; Secure"):
                self.assertIn(words, answer.headers["Set-Cookie"])
            self.assertEqual(answer.headers["Strict-Transport-Security"], "max-age=31536000")
            (ident,) = browser.cookies.values()
            self.assertEqual(browser.get("/logout").status, 405)  # it is logged in
            browser.cookies = {"pysftpweb": ident}
            self.assertEqual(browser.get("/logout").status, 303)  # to the login

    def test_several_requests_in_one_record_are_all_answered(self) -> None:
        peer = self.connect()
        peer.sendall(b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        found = b""
        while found.count(b"</html>") < 3:
            piece = peer.recv(65536)
            self.assertTrue(piece, found)
            found += piece

    def test_a_request_that_comes_byte_by_byte_is_answered(self) -> None:
        peer = self.connect()
        for byte in b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n":
            peer.sendall(bytes([byte]))
        self.assertIn(b"200 OK", peer.recv(65536))

    def test_bodies_of_many_records_arrive_whole_both_ways_and_the_connection_goes_on(self) -> None:
        self.served.door.application.parts[b"echo"] = Echo()
        sent = random.Random(1).randbytes(BODY)
        pieces = [sent[at : at + 70_001] for at in range(0, BODY, 70_001)]
        with self.served.browser(context=self.trusting()) as browser:
            for body in (sent, iter(pieces), sent):
                answer = browser.ask("PUT", "/echo", body)
                self.assertEqual(hashlib.sha256(answer.body).digest(), hashlib.sha256(sent).digest())
        peer = self.connect()  # a body whose last record has the next request in it
        head = b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
        peer.sendall(head + b"one" + head + b"two")
        found = b""
        while not found.endswith(b"two"):
            piece = peer.recv(65536)
            self.assertTrue(piece, found)
            found += piece
        self.assertIn(b"\r\n\r\none", found)

    def test_versions_before_1_2_are_refused(self) -> None:
        context = self.trusting()
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with (
            socket.create_connection((HOST, self.served.port), PATIENCE) as plain,
            self.assertRaises(ssl.SSLError),
        ):
            context.wrap_socket(plain, server_hostname=HOST)

    def test_a_peer_that_speaks_plain_http_is_told(self) -> None:
        browser = Browser(self.served.port)
        self.addCleanup(browser.close)
        answer = browser.get("/login")
        self.assertEqual((answer.status, answer.text), (400, "Use https:// for this server.\n"))

    def test_peers_that_do_not_complete_the_handshake_hold_nobody_up_and_are_disconnected(self) -> None:
        with self.served.logged_in(context=self.trusting()) as browser:
            self.enterContext(mock.patch.object(self.served.server, "idle_timeout", 1.0))
            silent = [socket.create_connection((HOST, self.served.port), PATIENCE) for _ in range(20)]
            for number, peer in enumerate(silent):
                self.addCleanup(peer.close)
                if number % 2:
                    peer.sendall(b"\x16\x03\x01")  # how a handshake begins
            self.assertEqual(browser.get("/logout").status, 405)
            for peer in silent:
                self.assertEqual(peer.recv(1), b"")

    def test_a_peer_that_does_not_read_is_disconnected(self) -> None:
        self.served.door.application.parts[b"endless"] = endless = Endless()
        with mock.patch.object(self.served.server, "idle_timeout", 3.0):  # for the handshake as well
            peer = self.connect()
            peer.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(endless.ended.wait(PATIENCE))

    def test_a_new_certificate_is_for_new_connections_and_open_ones_go_on(self) -> None:
        with self.served.browser(context=self.trusting()) as before:
            self.assertEqual(before.get("/login").status, 200)
            place = Path(self.enterContext(tempfile.TemporaryDirectory()))
            new, old = Pair(place, "new", (HOST,)), place / "old"
            shutil.copy(self.pair.certfile, old)
            with logged(LOGGER) as log:
                values = type(self.served.values)(certificate=new.certfile, private_key=new.keyfile)
                tls, self.served.server.tls = self.served.server.tls, context_of(values)
                self.assertEqual(log.count("can be read by others"), 1)
            self.addCleanup(setattr, self.served.server, "tls", tls)
            self.assertEqual(before.get("/login").status, 200)
            with self.served.browser(context=ssl.create_default_context(cafile=new.certfile)) as after:
                self.assertEqual(after.get("/login").status, 200)

    def test_connections_that_end_leave_nothing_open(self) -> None:
        for _ in range(5):
            with self.served.browser(context=self.trusting()) as browser:
                browser.get("/login")
        until(lambda: not self.served.server._open, "connections are still counted")
