"""The supplied services, and those who mean them harm: names like numbers, lying origins, clients that go."""

from __future__ import annotations

import base64
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from pysftpserver.laboratory import client
from pysftpserver.laboratory.services import http as http_service
from pysftpserver.laboratory.services.chat import MOST_REMEMBERED, Chat, Room
from pysftpserver.laboratory.services.echo import Echo
from pysftpserver.laboratory.services.files import Files
from pysftpserver.laboratory.services.http import HTTP, NotFetched, check_same, checked, place_of
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.laboratory.serving import HOST, ServiceCase
from tests.support.waiting import PATIENCE, until


class InChat(ServiceCase):
    def test_nobody_gets_anothers_private_messages_by_a_name_like_a_number(self) -> None:
        served = self.serve(Chat())
        ann, bob, eve = self.connect(served), self.connect(served, "bob"), self.connect(served, "#2")
        for one, count in ((ann, 3), (bob, 2), (eve, 1)):
            for _ in range(count):
                one.receive(PATIENCE)
        self.assertEqual(self.ask(ann, "/msg #2 secret"), "[private to bob (#2)] secret")
        self.assertEqual(bob.receive(PATIENCE), "[private] ann (#1): secret")
        bob.close()
        self.assertEqual(ann.receive(PATIENCE), "* bob (#2) has gone")
        self.assertEqual(self.ask(ann, "/msg #2 secret"), "* no client has that name")

    def test_what_a_room_remembers_is_bounded_by_its_size_and_its_count(self) -> None:
        room = Room(10_000)
        for _ in range(20_000):
            room.remember("x" * 20)
        self.assertEqual(sum(map(len, room.said)), MOST_REMEMBERED // 20 * 20)
        room = Room(3)
        for number in range(9):
            room.remember(f"{number}")
        self.assertEqual(list(room.said), ["6", "7", "8"])
        nothing = Room(0)
        nothing.remember("x")
        self.assertEqual(list(nothing.said), [])


class Origin:
    """A server that says what it likes, however long, to each that comes."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer:
                try:
                    peer.recv(4096)
                    self._talk(peer)
                except OSError:
                    pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(PATIENCE)


class OverHTTP(ServiceCase):
    def said(self, talk: Callable[[socket.socket], None], scheme: str = "http", **given: Any) -> str:
        origin = Origin(talk)
        self.addCleanup(origin.close)
        top = f"{scheme}://{HOST}:{origin.port}"
        return self.ask(self.connect(self.serve(HTTP([top], **given))), f"GET {top}/")

    def test_an_origin_that_never_ends_is_not_kept_in_memory(self) -> None:
        taken: list[int] = []

        def endless(head: bytes, piece: bytes) -> Callable[[socket.socket], None]:
            def talk(peer: socket.socket) -> None:
                peer.sendall(b"HTTP/1.1 200 OK\r\n" + head)
                taken.append(0)
                for _ in range(2000):
                    peer.sendall(piece)
                    taken[-1] += len(piece)

            return talk

        chunked = b"Transfer-Encoding: chunked\r\n\r\n"
        many = b"".join(b"h%d: %s\r\n" % (number, b"y" * 900) for number in range(90))
        for head, piece in (
            (chunked + b"-1\r\n", b"x" * 10_000),
            (chunked + b"0\r\n", b"x: y\r\n" * 1000),
            (many + b"\r\nbody", b"x" * 100),
        ):
            with self.subTest(piece=piece[:3]):
                said = self.said(endless(head, piece), max_bytes=1000)
                self.assertRegex(said, r"\Aerror: .*(?:more than |too long|illegal chunk header)")
        self.assertLess(max(taken), 12_000_000)

    def test_an_origin_that_keeps_the_parser_busy_delays_no_other_client(self) -> None:
        over = threading.Event()
        self.addCleanup(over.set)

        def talk(peer: socket.socket) -> None:
            while not over.is_set():
                peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000)

        origin = Origin(talk)
        self.addCleanup(origin.close)
        top = f"http://{HOST}:{origin.port}"
        threads: list[str] = []

        class Noted(HTTP):
            title = "HTTP"

            async def _fetch(self, url: str) -> http_service.Answer:
                threads.append(threading.current_thread().name)
                return await super()._fetch(url)

        served = self.serve(Noted([top], timeout=PATIENCE), Echo())
        busy, ann = self.connect(served), self.connect(served)
        ann.choose("echo")
        busy.send(f"GET {top}/")
        until(lambda: threads, "nothing is fetched")
        for _ in range(50):
            self.assertEqual(self.ask(ann, "x"), 'I received "x" from you.')
        with self.assertRaises(client.TimedOut):
            busy.receive(0.0)
        self.assertEqual(threads, ["laboratory-http"])
        busy.close()

    def test_no_proxy_of_the_environment_is_used(self) -> None:
        def talk(peer: socket.socket) -> None:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norigin")

        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), f"http://{HOST}:9")
        with mock.patch.dict(os.environ, proxies):
            self.assertTrue(self.said(talk).startswith("HTTP 200 OK\n"))

    def test_a_url_that_httpx_reads_in_another_way_is_not_fetched(self) -> None:
        parts = checked("http://h/a")
        for url in ("http://other/a", "http://h:81/a", "https://h/a", "http://h/b", "http://h/a?b"):
            with self.subTest(url), self.assertRaises(NotFetched):
                check_same(httpx.URL(url), place_of(parts.geturl()), parts)

    def test_a_body_that_is_packed_is_no_text_whatever_it_is_called(self) -> None:
        packed = b"\x1b\x05\xf8 packed"  # without a zero, so that it could be taken for Latin-1

        def talk(peer: socket.socket) -> None:
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Encoding: br"
            peer.sendall(f"{head}\r\nContent-Length: {len(packed)}\r\n\r\n".encode() + packed)

        head, _, body = self.said(talk).partition("\n\n")
        self.assertIn("\nlaboratory-body: base64\n", head)
        self.assertEqual(base64.b64decode(body), packed)

    def test_a_handshake_that_drips_takes_no_longer_than_a_fetch_may(self) -> None:
        over = threading.Event()

        def drip(peer: socket.socket) -> None:
            peer.sendall(b"\x16\x03\x03\x40\x00")  # the beginning of a record of 16 KiB
            while not over.wait(0.05):
                peer.sendall(b"\0")

        began = time.monotonic()
        try:
            self.assertEqual(self.said(drip, "https", timeout=0.3), "error: it took more than 0.3 seconds")
        finally:
            over.set()  # before the cleanup that waits for the peer
        self.assertLess(time.monotonic() - began, PATIENCE / 4)

    def test_dots_with_parameters_and_lists_with_queries_are_refused(self) -> None:
        for url in ("http://h/a/..;/x", "http://h/a/..;x=y/x", "http://h/a/%2e%2E%3b/x", "http://h/a/.;/x"):
            with self.subTest(url), self.assertRaises(ValueError):
                checked(url)
        self.assertEqual(checked("http://h/a;v=1/x").path, "/a;v=1/x")
        for url in ("http://h/x?id=", "http://h/x#y", "nonsense"):
            with self.subTest(url), self.assertRaisesRegex(ValueError, http_service.re.escape(repr(url))):
                HTTP(["http://h/", url])


class OnFiles(ServiceCase):
    def test_a_client_that_goes_while_a_file_or_a_directory_is_opened_leaves_it_closed(self) -> None:
        opened, closed = [], []
        begun, may_go_on = threading.Event(), threading.Event()

        class Slow(SFTPServerVirtualChroot):
            def open(self, path: bytes, flags: int, mode: int) -> Any:
                begun.set()
                may_go_on.wait(PATIENCE)
                opened.append(super().open(path, flags, mode))
                return opened[-1]

            def close(self, handle: Any) -> None:
                closed.append(handle)
                super().close(handle)

            def opendir(self, path: bytes) -> Any:
                begun.set()
                may_go_on.wait(PATIENCE)
                opened.append(mock.Mock(wraps=super().opendir(path)))
                opened[-1].close.side_effect = lambda: closed.append(opened[-1])
                return opened[-1]

        with tempfile.TemporaryDirectory() as place:
            Path(place, "a.txt").write_bytes(b"x")
            served = self.serve(Files(lambda: Slow(place)))
            for count, text in enumerate(("get a.txt", "list"), 1):
                with self.subTest(text):
                    begun.clear()
                    may_go_on.clear()
                    ann = self.connect(served)
                    ann.send(text)
                    self.assertTrue(begun.wait(PATIENCE))
                    ann.close()
                    served.log.wait("ended: gone", count)
                    may_go_on.set()
                    until(lambda count=count: len(closed) >= count, "it is closed")
                    self.assertEqual(len(opened), count)
                    self.assertEqual(closed, opened)
            self.assertEqual(os.listdir(place), ["a.txt"])
