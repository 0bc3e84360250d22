"""What the server behind sends is not believed: whatever it is, requests fail with words, and none hangs."""

from __future__ import annotations

import os
import select
import unittest
from collections.abc import Callable
from itertools import islice
from typing import Any
from unittest import mock

from pysftpserver.engine import wire
from pysftpserver.proxystorage import SFTPServerProxyStorage
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure, SFTPNotFound, SFTPSessionEnd
from pysftpserver.storages.sftp import connection
from pysftpserver.storages.sftp.connection import GONE, ConnectionLost
from tests.proxy.servers import Answer, Peer, framed, name_of, reply
from tests.support.packets import string, u32, u64
from tests.support.waiting import NEVER, PATIENCE, until

STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
STATVFS = string(b"statvfs@openssh.com") + string(b"2")
BROKEN_ATTRS = u32(1) + b"\0\0"
#: What breaks the protocol, as an answer to STAT.
BREAKING: dict[str, Callable[[bytes], bytes]] = {
    "a packet without a type": lambda number: u32(0),
    "a packet without an id": lambda number: framed(b"\x69"),
    "a packet too long": lambda number: u32(wire.MAX_PACKET + 1),
    "a packet much too long": lambda number: b"\xff\xff\xff\xff",
    "another request's id": lambda number: reply(ATTRS, b"\xff\xff\xff\xfe", u32(0)),
    "a second answer": lambda number: 2 * reply(ATTRS, number, u32(0)),
    "a HANDLE": lambda number: reply(HANDLE, number, string(b"h")),
    "an unknown type": lambda number: reply(77, number),
    "attributes that break off": lambda number: reply(ATTRS, number, BROKEN_ATTRS),
    "attributes with endless pairs": lambda number: reply(ATTRS, number, u32(1 << 31), u32(0xFFFFFFFF)),
    "a STATUS that breaks off": lambda number: reply(STATUS, number, b"\0\0"),
    "a STATUS whose words break off": lambda number: reply(STATUS, number, u32(4), u32(100), b"x"),
    "an OK for what has content": lambda number: reply(STATUS, number, u32(0), string(b""), string(b"")),
}


class HostileServers(unittest.TestCase):
    def play(self, answer: Answer, *, extensions: bytes = b"", **options: Any) -> SFTPServerProxyStorage:
        peer = Peer(answer, extensions, **options)
        self.addCleanup(peer.close)
        return peer.storage

    def answering(self, *parts: bytes, kind: int, extensions: bytes = b"") -> SFTPServerProxyStorage:
        """A server that answers everything with this."""
        return self.play(lambda _, number, body: [reply(kind, number, *parts)], extensions=extensions)

    def assert_lost(self, storage: SFTPServerProxyStorage, act: Callable[[], Any]) -> None:
        """It fails with words, and so does everything after it."""
        for _ in range(2):
            with self.assertRaises(ConnectionLost) as caught:
                act()
            self.assertEqual(str(caught.exception), GONE)
            self.assertTrue(str(caught.exception.__cause__))
        with self.assertRaises(ConnectionLost):
            storage.mkdir(b"/d", 0o777)

    def test_what_breaks_the_protocol_ends_the_connection(self) -> None:
        for what, broken in BREAKING.items():
            with self.subTest(what):
                storage = self.play(lambda _, number, body, broken=broken: [broken(number)])  # type: ignore[misc]
                if what == "a second answer":
                    storage.stat(b"/f")
                self.assert_lost(storage, lambda storage=storage: storage.stat(b"/f"))  # type: ignore[misc]

    def test_silence_ends_the_connection(self) -> None:
        storage = self.play(lambda *_: [], timeout=0.2)
        self.assert_lost(storage, lambda: storage.stat(b"/f"))
        self.assertIn("no answer for 0.2 seconds", storage._open.reason)  # type: ignore[union-attr]

    def test_a_reply_that_never_ends_is_silence(self) -> None:
        storage = self.play(lambda *_: [u32(1000) + b"\x69"], timeout=0.2)
        self.assert_lost(storage, lambda: storage.stat(b"/f"))

    def test_hanging_up_fails_everything_that_waits(self) -> None:
        reads: list[bytes] = []

        def answer(kind: int, number: bytes, body: bytes) -> list[bytes] | None:
            if kind == wire.SSH2_FXP_OPEN:
                return [reply(HANDLE, number, string(b"h"))]
            reads.append(body)
            return [] if len(reads) < 2 else None

        storage = self.play(answer)
        handle = storage.open(b"/f", os.O_RDWR, 0)
        promises = [storage.promise_read(handle, 0, 100), storage.promise_read(handle, 100, 100)]
        for promise in promises:
            assert promise is not None
            with self.assertRaises(ConnectionLost):
                promise.result()
            self.assertTrue(promise.is_kept())
        self.assert_lost(storage, lambda: storage.write(handle, 0, b"x"))

    def test_where_it_is_wanted_a_session_ends_after_the_loss(self) -> None:
        storage = self.play(lambda *_: None)
        storage.ends_session = True
        with self.assertRaises(ConnectionLost):
            storage.stat(b"/f")
        with self.assertRaises(SFTPSessionEnd):
            storage.stat(b"/f")

    def test_content_that_was_not_asked_for_is_not_passed_on(self) -> None:
        for content in (string(b"x" * 11), u32(5) + b"123", u32(3) + b"12345", b"\0\0"):

            def answer(kind: int, number: bytes, body: bytes, content: bytes = content) -> list[bytes]:
                return [reply(HANDLE, number, string(b"h")) if kind == 3 else reply(DATA, number, content)]

            with self.subTest(content=content):
                storage = self.play(answer)
                handle = storage.open(b"/f", os.O_RDONLY, 0)
                self.assert_lost(storage, lambda s=storage, h=handle: s.read(h, 0, 10))  # type: ignore[misc]

    def test_short_reads_are_continued_to_the_end(self) -> None:
        content = bytes(range(256)) * 40

        def answer(kind: int, number: bytes, body: bytes) -> list[bytes]:
            if kind == wire.SSH2_FXP_OPEN:
                return [reply(HANDLE, number, string(b"h"))]
            start = int.from_bytes(body[5:13], "big")
            data = content[start : start + 1000]
            return [reply(DATA, number, string(data)) if data else reply(STATUS, number, u32(1))]

        storage = self.play(answer)
        handle = storage.open(b"/f", os.O_RDONLY, 0)
        self.assertEqual(bytes(storage.read(handle, 100, 1 << 20)), content[100:])

    def test_handles_that_are_none_are_refused(self) -> None:
        for handle in (b"", b"h" * 257):
            storage = self.answering(string(handle), kind=HANDLE)
            self.assert_lost(storage, lambda s=storage: s.open(b"/f", os.O_RDONLY, 0))  # type: ignore[misc]

    def test_names_that_lead_elsewhere_are_left_out_of_listings(self) -> None:
        names = (b"good", b"../up", b"/etc/passwd", b"", b"n\0ul", b"also good")
        entries = b"".join(string(name) + string(b"x") + u32(0) for name in names)
        storage = self.play(
            lambda kind, number, body: [
                reply(NAME, number, u32(len(names)), entries)
                if kind == wire.SSH2_FXP_READDIR
                else reply(HANDLE, number, string(b"h"))
            ]
        )
        found = [name for name, _ in islice(storage.opendir(b"/"), 4)]
        self.assertEqual(found, [b"good", b"also good"] * 2)

    def test_a_listing_without_end_is_read_only_as_far_as_the_client_asks(self) -> None:
        asked = 0

        def answer(kind: int, number: bytes, body: bytes) -> list[bytes]:
            nonlocal asked
            if kind == wire.SSH2_FXP_OPENDIR:
                return [reply(HANDLE, number, string(b"h"))]
            asked += kind == wire.SSH2_FXP_READDIR
            return [reply(NAME, number, u32(1), string(b"again"), string(b""), u32(0))]

        storage = self.play(answer)
        listing = storage.opendir(b"/")
        self.assertEqual([name for name, _ in islice(listing, 50)], [b"again"] * 50)
        self.assertLessEqual(asked, 51)

    def test_a_listing_without_end_that_has_no_names_ends_the_connection(self) -> None:
        storage = self.play(
            lambda kind, number, body: [
                reply(NAME, number, u32(1), string(b"../up"), string(b""), u32(0))
                if kind == wire.SSH2_FXP_READDIR
                else reply(HANDLE, number, string(b"h"))
            ]
        )
        self.assert_lost(storage, lambda: list(storage.opendir(b"/")))

    def test_limits_of_a_few_bytes_do_not_multiply_what_a_client_asks_for(self) -> None:
        limits = string(b"limits@openssh.com") + string(b"1")
        for least in (1, 7, 1 << 63):
            asked: list[int] = []

            class Small(Peer):
                def _hello(self, kind: int, number: bytes, body: bytes, least: int = least) -> list[bytes]:
                    if kind == wire.SSH2_FXP_EXTENDED:
                        return [reply(EXTENDED_REPLY, number, *map(u64, (34000, least, least, 0)))]
                    return super()._hello(kind, number, body)

            def answer(kind: int, number: bytes, body: bytes, asked: list[int] = asked) -> list[bytes]:
                asked.append(kind)
                is_open = kind == wire.SSH2_FXP_OPEN
                return [reply(HANDLE, number, string(b"h")) if is_open else reply(STATUS, number, u32(0))]

            peer = Small(answer, limits)
            self.addCleanup(peer.close)
            handle = peer.storage.open(b"/f", os.O_RDWR, 0)
            peer.storage.write(handle, 0, bytes(wire.MAX_DATA))
            self.assertLessEqual(len(asked), 100)

    def test_a_listing_that_claims_more_than_it_holds_ends_the_connection(self) -> None:
        def answer(kind: int, number: bytes, body: bytes) -> list[bytes]:
            if kind == wire.SSH2_FXP_OPENDIR:
                return [reply(HANDLE, number, string(b"h"))]
            return [reply(NAME, number, u32(0xFFFFFFFF), string(b"one"), string(b""), u32(0))]

        storage = self.play(answer)
        with self.assertRaises(ConnectionLost):
            list(storage.opendir(b"/"))

    def test_the_end_of_a_file_that_was_only_read_is_not_waited_for(self) -> None:
        held: list[bytes] = []

        def answer(kind: int, number: bytes, body: bytes) -> list[bytes]:
            if kind == wire.SSH2_FXP_OPEN:
                return [reply(HANDLE, number, string(b"h"))]
            if kind == wire.SSH2_FXP_CLOSE:
                held.append(reply(STATUS, number, u32(4)))
                return []
            return [*held, reply(ATTRS, number, u32(0))]

        storage = self.play(answer, timeout=NEVER)
        storage.close(storage.open(b"/f", os.O_RDONLY, 0))
        storage.stat(b"/f")
        self.assertEqual(len(held), 1)

    def test_answers_that_came_while_nothing_was_asked_are_no_silence(self) -> None:
        storage = self.answering(u32(0), string(b""), string(b""), kind=STATUS)
        storage._connection.send(wire.SSH2_FXP_CLOSE, string(b"h"))
        poll = select.poll()  # select() knows no descriptor above 1023
        poll.register(storage._connection._reading, select.POLLIN)
        until(lambda: poll.poll(0), "the answer is here")
        now = connection.time.monotonic
        with mock.patch.object(connection.time, "monotonic", lambda: now() + 2 * PATIENCE):
            storage.mkdir(b"/d", 0o777)

    def test_a_listing_without_entries_is_over(self) -> None:
        storage = self.play(
            lambda kind, number, body: [
                reply(NAME, number, u32(0))
                if kind == wire.SSH2_FXP_READDIR
                else reply(HANDLE, number, string(b"h"))
            ]
        )
        self.assertEqual(list(storage.opendir(b"/")), [])

    def test_paths_and_figures_that_are_none_end_the_connection(self) -> None:
        for parts in (
            (u32(0),),
            (u32(2), 2 * (string(b"/") + string(b"/") + u32(0))),
            (u32(1), string(b"/\0")),
        ):
            storage = self.answering(*parts, kind=NAME)
            self.assert_lost(storage, lambda s=storage: s.realpath(b"/"))  # type: ignore[misc]
        storage = self.answering(u64(0) * 10, kind=EXTENDED_REPLY, extensions=STATVFS)
        self.assert_lost(storage, lambda: storage.statvfs(b"/"))

    def test_its_failures_are_passed_on_with_its_words_and_no_others(self) -> None:
        for status, kind in (
            (2, SFTPNotFound),
            (4, SFTPFailure),
            (9, SFTPFailure),
            (0xFFFFFFFF, SFTPFailure),
        ):
            storage = self.answering(u32(status), string(b"its \xff words"), string(b""), kind=STATUS)
            with self.assertRaises(SFTPException) as caught:
                storage.stat(b"/f")
            self.assertIs(type(caught.exception), kind)
            self.assertEqual(str(caught.exception), "its \ufffd words")

    def test_a_status_without_words_is_one(self) -> None:
        storage = self.answering(u32(2), kind=STATUS)
        self.assertRaises(SFTPNotFound, storage.stat, b"/f")

    def test_a_server_that_is_none_is_not_connected_to(self) -> None:
        for hello in (b"\2\0\0\0\2", b"\2\0\0\0\3\0\0", b"\1\0\0\0\3", b"SSH-2.0-x"):

            class Odd(Peer):
                def _hello(self, kind: int, number: bytes, body: bytes, hello: bytes = hello) -> list[bytes]:
                    return [framed(hello)]

            with self.subTest(hello=hello), self.assertRaises(SFTPFailure):
                Odd(lambda *_: None)

    def test_a_start_that_is_no_path_is_not_believed(self) -> None:
        class Odd(Peer):
            def _hello(self, kind: int, number: bytes, body: bytes) -> list[bytes]:
                return super()._hello(kind, number, body) if kind == 1 else [name_of(number, b"/\0")]

        self.assertRaises(SFTPFailure, Odd, lambda *_: None)
