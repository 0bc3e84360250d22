"""Peers that take their time: silent, slow or never reading. Others are served meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import random
import time
from collections.abc import Iterator
from unittest import mock

from pysftpserver.http import server as http
from pysftpserver.http import streams
from pysftpserver.http.connections import LINGER
from pysftpserver.service import throttle
from tests.remo.hosting import OTHER, USER, HereCase, HostCase, Login, Raw, request
from tests.support.waiting import NEVER, PATIENCE, until

IDLE = 1.5  # seconds, of the server here
THREADS = 8
PER_ADDRESS = 3
OPEN = http.OPEN_PER_REQUEST * PER_ADDRESS
INFO = request("GET", "/info")
ADDRESSES = itertools.count(1)  # of this host: a test's connections are not another's
REFUSED = request("POST", "/put/x", None, None, "Content-Length: 1099511627776")
STEPS = {
    "in the request line": b"GET /inf",
    "in the header": b"GET /info HTTP/1.1\r\nHost: ",
    "in the body": request("POST", "/auth", None, None, "Content-Length: 10") + b"12345",
    "in the length of a chunk": request("POST", "/auth", None, None, "Transfer-Encoding: chunked") + b"5",
    "in a chunk": request("POST", "/auth", None, None, "Transfer-Encoding: chunked") + b"5\r\nab",
    "in the trailers": request("POST", "/auth", None, None, "Transfer-Encoding: chunked") + b"0\r\n",
}


class CrowdCase(HostCase):
    limits_of_all = ("--threads", str(THREADS), "--most-per-address", str(PER_ADDRESS), "--debug")

    def setUp(self) -> None:
        super().setUp()
        self.address = f"127.0.1.{next(ADDRESSES)}"

    def mine(self, buffer: int = 0) -> Raw:
        """A connection from this test's address."""
        return self.connect(self.address, buffer)

    def serves(self, source: str) -> bool:
        """Whether somebody is served, at once."""
        with self.host.raw(source) as raw:
            raw.say(INFO)
            return getattr(raw.answer(), "status", None) == 200

    def assert_serves_others(self) -> None:
        for _ in range(5):  # a request counts until its thread has ended it, which may be after its answer
            until(lambda: self.serves(OTHER), "others are not served")


class Silent(CrowdCase):
    """A server that leaves them soon."""

    options = ("--idle", str(IDLE), *CrowdCase.limits_of_all)

    def test_a_peer_that_falls_silent_at_any_step_is_told_so_and_left(self) -> None:
        raws = [self.connect(f"127.0.2.{number}") for number, _ in enumerate(STEPS, 1)]
        for raw, said in zip(raws, STEPS.values(), strict=True):
            raw.say(said)
        for raw, step in zip(raws, STEPS, strict=True):
            with self.subTest(step):
                self.assertEqual(getattr(raw.answer(), "status", None), 408)
                raw.close()

    def test_a_client_that_does_not_read_is_left_and_holds_no_memory(self) -> None:
        os.truncate(self.host.files / "small", 1 << 30)
        self.addCleanup((self.host.files / "small").write_bytes, b"small content")
        peer = self.host.log_in()
        self.one(peer.plain("lst", b"/"))  # which opens the session's storage
        before, descriptors = self.host.memory(), len(self.host.descriptors())
        raw = self.mine(buffer=4096)
        raw.say(peer.plain("get", b"/small"))

        def broken() -> bool:
            return any(line["result"] == "CONNECTION_LOST" for line in self.host.audit("get"))

        until(broken, "it is not left")
        until(lambda: len(self.host.descriptors()) <= descriptors, "the file stays open")
        self.assertLess(self.host.memory() - before, 16 << 10)


class Crowds(CrowdCase):
    """A server that waits for ever: who is served meanwhile does not wait for the end of another's time."""

    options = ("--idle", str(NEVER), *CrowdCase.limits_of_all)

    def test_silent_connections_of_one_address_take_no_threads_and_are_not_too_many(self) -> None:
        raws = [self.mine() for _ in range(OPEN)]
        late = self.mine()
        self.assertEqual(late.answer().status, 503)  # type: ignore[union-attr]
        self.assertTrue(late.is_over())
        self.assert_serves_others()
        raws[0].close()
        until(lambda: self.serves(self.address), "the room of the one that went is not free")

    def test_the_oldest_silent_connection_makes_room_for_another_of_its_address(self) -> None:
        raws = [self.mine() for _ in range(OPEN)]
        until(lambda: self.serves(self.address), "silent connections keep their own address out")
        self.assertTrue(raws[0].is_over(may_be_reset=True))

    def test_slow_requests_take_no_threads_not_even_those_of_their_address(self) -> None:
        raws = [self.mine() for _ in range(OPEN - 1)]
        for raw in raws:
            raw.say(b"GET /info HT")
        self.assertTrue(self.serves(self.address))
        self.assert_serves_others()

    def test_one_request_too_many_is_503(self) -> None:
        peer = self.host.log_in()
        raws = [self.mine() for _ in range(PER_ADDRESS)]
        for number, raw in enumerate(raws):
            path = peer.path("put", b"/slow %d" % number)
            raw.say(request("POST", path, None, peer.cookie, "Content-Length: 1000"))
        until(lambda: not self.serves(self.address), "nobody is told that there are too many")
        self.assert_serves_others()
        for raw in raws:
            raw.close()
        until(lambda: self.serves(self.address), "the slow ones count when they have gone")

    def test_answers_that_are_still_to_be_read_take_no_threads(self) -> None:
        raws = [self.mine() for _ in range(OPEN)]
        for raw in raws:
            raw.say(REFUSED)
        began = time.monotonic()
        found = [getattr(raw.answer(), "status", None) for raw in raws]
        self.assertGreaterEqual(found.count(403), PER_ADDRESS)
        self.assertLessEqual(set(found), {403, 503})
        waits = (OPEN // PER_ADDRESS - 1) * LINGER  # if each had a thread
        self.assertLess(time.monotonic() - began, 0.9 * waits)
        self.assert_serves_others()
        for raw in raws:
            raw.say(bytes(100_000))
            self.assertTrue(raw.is_over())
        until(lambda: self.serves(self.address), "they are not left")

    def test_a_peer_that_talks_on_when_he_was_refused_is_left(self) -> None:
        raw = self.mine()
        self.assertEqual(raw.ask(REFUSED).status, 403)
        began = time.monotonic()
        with self.assertRaises(ConnectionError):
            while time.monotonic() < began + PATIENCE:
                raw.socket.sendall(bytes(1000))
                time.sleep(0.002)  # how fast he talks

    def test_a_command_goes_with_the_client_that_waits_for_it_whatever_he_has_said_behind_it(self) -> None:
        peer = self.host.log_in()
        raw = self.mine()
        name = str(1_000_000 + random.randrange(1_000_000))  # seconds
        raw.say(peer.plain("cmd", f"sleep {name}".encode()), INFO)
        until(lambda: name in running(), "it does not start")
        raw.close()
        until(lambda: name not in running(), "it runs on")


class FewDescriptors(HostCase):
    options = ("--threads", "2", "--most-per-address", "2")
    limits = {"NOFILE": 100}

    def test_it_keeps_some_for_what_it_serves_whoever_connects(self) -> None:
        raws = [self.connect(f"127.0.3.{number % 30 + 1}") for number in range(150)]
        for raw in raws:
            raw.say(INFO)
        found = [getattr(raw.answer(), "status", None) for raw in raws]
        self.assertGreaterEqual(found.count(200), http.FEWEST_OPEN)
        self.assertGreater(found.count(503), 30)
        for raw in raws:
            raw.close()
        until(self.serves_somebody, "they are not closed")

    def serves_somebody(self) -> bool:
        with self.host.raw(OTHER) as raw:
            raw.say(INFO)
            return getattr(raw.answer(), "status", None) == 200


def running() -> set[str]:
    """The words of this user's command lines that are `sleep`."""
    found: set[str] = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            words = file.read().decode("utf-8", "replace").split("\0")
            if words[0] == "sleep":
                found.update(words)
    return found


class Dribbles(HereCase):
    """Peers that are never silent for long: their speed counts, once they were waited for."""

    @contextlib.contextmanager
    def listening(self, slowest: int) -> Iterator[int]:
        logging.getLogger("pysftpserver.remo").setLevel(logging.CRITICAL)
        self.addCleanup(logging.getLogger("pysftpserver.remo").setLevel, logging.NOTSET)
        here = self.serve(idle_timeout=5, slowest=slowest)
        with mock.patch.object(streams, "FREE", 0.2):
            here.listen()
            yield here.port

    def dribble(self, raw: Raw, data: bytes) -> int:
        """Say a byte after another, until there is an answer; how many."""
        for count in range(len(data)):
            raw.socket.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                if raw.socket.recv(1, 2):  # a look, without taking it
                    return count
            raw.say(data[count : count + 1])
        return len(data)

    def test_a_header_and_a_body_that_come_too_slowly_end_in_408(self) -> None:
        login = request("POST", "/auth", b"x" * 300)
        with self.listening(slowest=1024) as port:
            for said, rest in ((b"", INFO[:-2] + b"X: y\r\n" * 50), (login[:-300], login[-300:])):
                with self.subTest(said[:10]), Raw(port) as raw:
                    raw.say(said)
                    self.assertLess(self.dribble(raw, rest), 100)
                    raw.socket.settimeout(PATIENCE)
                    self.assertEqual(raw.answer().status, 408)  # type: ignore[union-attr]

    def test_where_any_speed_will_do_they_are_served(self) -> None:
        with self.listening(slowest=0) as port, Raw(port) as raw:
            self.assertEqual(self.dribble(raw, INFO), len(INFO))
            raw.socket.settimeout(PATIENCE)
            self.assertEqual(raw.answer().status, 200)  # type: ignore[union-attr]


class Proxies(HereCase):
    @mock.patch.object(throttle, "FIRST", throttle.MOST)
    def test_a_header_that_looks_like_the_proxy_s_does_not_say_who_somebody_is(self) -> None:
        here = self.serve(proxied=True)
        here.listen()
        bad = Login(USER, here.key).body
        statuses = []
        for number in range(5):
            headers = ("X-Forwarded-For: 192.0.2.1", f"X_Forwarded_For: 192.0.2.{number + 10}")
            with Raw(here.port) as raw:
                statuses.append(raw.ask(request("POST", "/auth", bad, None, *headers)).status)
        self.assertEqual(statuses, [403, 403, 403, 429, 429])

    def test_behind_a_proxy_all_threads_are_for_its_address(self) -> None:
        here = self.serve(proxied=True, threads=4, max_per_address=1, idle_timeout=5)
        here.listen()
        slow = Raw(here.port)
        self.addCleanup(slow.close)
        slow.say(b"GET /info HT")
        with Raw(here.port) as raw:
            self.assertEqual(raw.ask(INFO).status, 200)
