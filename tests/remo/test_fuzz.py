"""The fuzz targets of this door find what they are there to find: a bug is planted for each invariant."""

from __future__ import annotations

import logging
import re
import struct
import unittest
from typing import Any
from unittest import mock

from fuzz import corpus
from fuzz.remo import Open, ParserTarget, RemoTarget, made_at
from fuzz.targets import TARGETS
from pysftpserver.http import streams
from pysftpserver.http.requests import Request
from pysftpserver.http.server import Server
from pysftpserver.remo import application, routes, wire
from pysftpserver.remo import session as sessions
from pysftpserver.service import throttle
from pysftpserver.uploads.files import StoredFile
from pysftpserver.virtualchroot import SFTPServerVirtualChroot


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nCookie: SESSION_ID=s\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def numbered(path: str, number: int, data: bytes = b"") -> bytes:
    bound = path.encode().ljust(48, b".")
    return request("POST", path, b"~" + struct.pack(">2shh", b"BE", number, 0) + bound + data)


PLAIN = (
    b"\0" + request("GET", "/info") + request("GET", "/get/~f") + request("POST", "/put/~new", b"~x\r\n~y")
)
NUMBERED = b"\0" + numbered("/sts", 1) + numbered("/put/~new", 2, b"x") + numbered("/put/~new", 2, b"x")
LAX = re.compile(rb"(?:0x)?([0-9a-f]+)\r\n")
BROKEN = b"\0" + request("POST", "/put/~new", b"~x\r\nwrong")


class Planted(unittest.TestCase):
    def finds(self, words: str, run: Any, data: bytes, *planted: Any) -> None:
        run(data)
        with mock.patch.object(*planted), self.assertRaisesRegex(AssertionError, words):
            run(data)

    def connection(self) -> RemoTarget:
        target = RemoTarget()
        self.addCleanup(target.place.close)
        return target

    @mock.patch.object(throttle, "FIRST", throttle.MOST)  # or a busy machine has waited long enough
    def test_the_seeds_reach_what_they_are_for(self) -> None:
        target = self.connection()
        statuses: set[int] = set()
        before = target.answers

        def answers(sent: bytes) -> Any:
            found = before(sent)
            statuses.update(status for status, _ in found)
            return found

        with mock.patch.object(target, "answers", answers):
            for _, data in corpus.entries(*TARGETS["remo"].corpora):
                target(data)
        self.assertEqual(statuses, {200, 400, 403, 405, 413, 429})

    def test_what_a_parser_takes_and_should_not_is_found(self) -> None:
        run = ParserTarget()
        anything = mock.Mock(return_value=wire.Login("", b"", b""))
        endless = b"\x03~" + struct.pack(">2shh", b"B.", 1, 0) + b"path"
        self.finds("a second reading", run, b"\0" + b"x" * 65, wire.Lines, "_check", lambda *_: None)
        self.finds("a second reading", run, b'\1{"user":"u"}', wire, "parse_login", anything)
        self.finds("a second reading", run, b"\0020x1\r\nx\r\n0\r\n\r\n", streams, "CHUNK", LAX)
        self.finds("a second reading", run, endless, wire.Opener, "finish", lambda _: None)

    def test_what_a_parser_makes_of_it_is_compared(self) -> None:
        run = ParserTarget()
        whole = b"\x03~" + struct.pack(">2shh", b"BE", 1, 0) + b"pathdata"
        self.finds("a second reading", run, b"\0one\ntwo", wire, "_token", lambda line: iter((line, line)))
        self.finds("a second reading", run, whole, wire.Opener, "take", lambda *_: b"other")
        self.finds("KeyError came out", run, whole, wire.Opener, "take", mock.Mock(side_effect=KeyError))

    def test_a_number_that_is_served_twice_is_found(self) -> None:
        def count(session: sessions.Session, number: int, made: int, now: float) -> None:
            session.is_numbered = True

        self.finds(
            "number 2 was answered behind 2", self.connection(), NUMBERED, sessions.Session, "count", count
        )

    def test_answers_that_are_none_are_found(self) -> None:
        target = self.connection()
        self.finds("answered", target, PLAIN, Request, "ensure_headers_sent", lambda _: None)
        self.finds("answered", target, PLAIN, application, "_status", lambda _: "200 O\nK")
        self.finds("sent b", target, PLAIN, Open, "encrypt", lambda _, data: b"?" + data)
        fault = mock.Mock(side_effect=KeyError)
        self.finds("answered|a fault", target, PLAIN, routes.Routes, "answer", fault)

    def test_faults_in_the_log_are_found(self) -> None:
        target = self.connection()

        def loud(*_: object) -> None:
            logging.getLogger("pysftpserver.remo").error("a fault")

        def forged(*_: object) -> None:
            logging.getLogger("pysftpserver.remo").info("one\ntwo")

        self.finds("a fault was logged", target, PLAIN, Server, "leave", loud)
        self.finds("logged 'one", target, PLAIN, Server, "leave", forged)

    def test_what_comes_out_of_the_connection_is_found(self) -> None:
        fault = mock.Mock(side_effect=SystemError)
        self.finds("SystemError came out", self.connection(), PLAIN, Server, "leave", fault)

    def test_what_is_left_and_what_is_changed_outside_is_found(self) -> None:
        target = self.connection()
        self.finds("left behind", target, BROKEN, StoredFile, "discard", lambda _: None)

        def opendir(*_: object) -> Any:
            (target.place.canary / "new").touch()
            return iter(())

        listing = b"\0" + request("GET", "/lst/~d")
        self.finds("outside the jail", target, listing, SFTPServerVirtualChroot, "opendir", opendir)

    def test_tokens_are_old_when_they_say_so(self) -> None:
        self.assertEqual(made_at(b"~!x"), 0)
        self.assertGreater(made_at(b"~x"), 0)
