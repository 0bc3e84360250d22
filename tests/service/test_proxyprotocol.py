"""PROXY headers: what is taken, what is refused, and that no byte after a header is."""

from __future__ import annotations

import asyncio
import socket
import struct
import unittest

from pysftpserver.service.proxyprotocol import (
    LONGEST,
    LONGEST_LINE,
    SIGNATURE,
    Announced,
    BadHeader,
    Header,
    Headers,
    length,
    parse,
)
from tests.support.waiting import PATIENCE

SSH = b"SSH-2.0-client\r\n"
TCP4 = bytes([192, 0, 2, 1, 10, 0, 0, 1]) + struct.pack("!HH", 40000, 22)
TCP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(16) + struct.pack("!HH", 1, 2)


def binary(command: int, family: int, body: bytes = b"") -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def taken(data: bytes) -> Header:
    whole = length(data)
    assert whole is not None, "it is not whole"
    return parse(data[:whole])


class Reading(unittest.TestCase):
    def test_the_client_is_the_one_that_the_header_names(self) -> None:
        for header, client in (
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 22\r\n", ("192.0.2.1", 40000)),
            (b"PROXY TCP6 2001:DB8::1 ::2 1 2\r\n", ("2001:db8::1", 1)),
            (binary(0x21, 0x11, TCP4), ("192.0.2.1", 40000)),
            (binary(0x21, 0x21, TCP6), ("2001:db8::1", 1)),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::2 1 2\r\n", ("192.0.2.1", 1)),
            (binary(0x21, 0x21, bytes(10) + b"\xff\xff\xc0\0\2\1" + TCP6[16:]), ("192.0.2.1", 1)),
            (binary(0x21, 0x11, TCP4 + b"\x04\0\x01x"), ("192.0.2.1", 40000)),
        ):
            self.assertEqual(taken(header + SSH), Header(client))
            self.assertEqual(length(header + SSH), len(header))

    def test_a_proxy_may_connect_for_itself_or_not_know(self) -> None:
        own = Header(None, is_own=True)
        self.assertEqual(taken(binary(0x20, 0x00)), own)
        self.assertEqual(taken(binary(0x20, 0x11, TCP4)), own)
        self.assertEqual(taken(binary(0x21, 0x00, b"abc")), Header(None))
        self.assertEqual(taken(b"PROXY UNKNOWN\r\n"), Header(None))
        longest = b"PROXY UNKNOWN " + b"f" * (LONGEST_LINE - 16) + b"\r\n"
        self.assertEqual(taken(longest), Header(None))

    def test_what_the_specification_does_not_allow_is_refused(self) -> None:
        for data in (
            SSH,
            b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 22\n",
            b"PROXY  TCP4 192.0.2.1 10.0.0.1 40000 22\r\n",
            b"PROXY TCP4 192.0.2.01 10.0.0.1 40000 22\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 040000 22\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 22\r\n",
            b"PROXY TCP4 2001:db8::1 ::2 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY UNKNOWN " + b"f" * LONGEST_LINE,
            binary(0x22, 0x11, TCP4),
            binary(0x11, 0x11, TCP4),
            binary(0x21, 0x12, TCP4),
            binary(0x21, 0x41, TCP4),
            binary(0x21, 0x21, TCP4),
            binary(0x21, 0x31, bytes(216)),
            binary(0x21, 0x11, bytes(LONGEST)),
        ):
            with self.subTest(data=data[:60]), self.assertRaises(BadHeader):
                taken(data)
        with self.assertRaisesRegex(BadHeader, "Unix-domain"):
            taken(binary(0x21, 0x31, bytes(216)))

    def test_a_client_is_refused_as_soon_as_it_cannot_become_a_header(self) -> None:
        self.assertIsNone(length(b"PRO"))
        self.assertIsNone(length(SIGNATURE + b"\x21\x11"))
        for data in (b"S", b"PROXX", b"\r\n\r\n\x01"):
            with self.assertRaises(BadHeader):
                length(data)


class Waiting(unittest.TestCase):
    """On sockets."""

    def setUp(self) -> None:
        self.headers: list[Header] = []
        self.refusals: list[str] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        return ours, theirs

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.headers) + len(self.refusals) < count:
                await asyncio.sleep(0.001)

    def test_a_header_comes_byte_by_byte_and_what_follows_stays_in_the_socket(self) -> None:
        async def run() -> None:
            waiting = Headers()
            ours, theirs = self.pair()
            waiting.take(ours, self.headers.append, self.refusals.append)
            header = binary(0x21, 0x11, TCP4)
            for byte in header[:-1]:
                theirs.send(bytes([byte]))
                await asyncio.sleep(0)
            theirs.send(header[-1:] + SSH)
            await self.until(1)
            self.assertEqual((self.headers, len(waiting)), ([Header(("192.0.2.1", 40000))], 0))
            self.assertEqual(ours.recv(100), SSH)

        asyncio.run(run())

    def test_one_that_is_there_already_is_taken_at_once(self) -> None:
        async def run() -> None:
            waiting = Headers(most=0)
            ours, theirs = self.pair()
            theirs.send(b"PROXY UNKNOWN\r\n" + SSH)
            waiting.take(ours, self.headers.append, self.refusals.append)
            self.assertEqual(self.headers, [Header(None)])
            self.assertEqual(ours.recv(100), SSH)

        asyncio.run(run())

    def test_one_that_does_not_come_is_refused_however_slowly_it_comes(self) -> None:
        async def run() -> None:
            waiting = Headers(seconds=0.05)
            ours, theirs = self.pair()
            waiting.take(ours, self.headers.append, self.refusals.append)
            for byte in b"PROXY UNKNOWN" + b" " * 90:
                if self.refusals:
                    break
                theirs.send(bytes([byte]))
                await asyncio.sleep(0.001)
            await self.until(1)
            self.assertEqual((self.refusals, len(waiting)), (["no PROXY header in 0.05 seconds"], 0))
            gone, theirs = self.pair()
            waiting.take(gone, self.headers.append, self.refusals.append)
            theirs.send(b"PROXY")
            theirs.close()
            await self.until(2)
            self.assertIn("it ended after 5 bytes", self.refusals[1])
            check, theirs = self.pair()
            theirs.close()
            waiting.take(check, self.headers.append, self.refusals.append)
            self.assertEqual(self.refusals[2], "")

        asyncio.run(run())

    def test_only_so_many_wait_and_the_oldest_makes_room(self) -> None:
        async def run() -> None:
            waiting = Headers(most=2)
            pairs = [self.pair() for _ in range(5)]
            for number, (ours, _) in enumerate(pairs):
                waiting.take(
                    ours, self.headers.append, lambda words, n=number: self.refusals.append(f"{n} {words}")
                )
            self.assertEqual(len(waiting), 2)
            self.assertEqual([one.split()[0] for one in self.refusals], ["0", "1", "2"])
            pairs[3][1].send(b"PROXY UNKNOWN\r\n")
            await self.until(4)
            self.assertEqual(self.headers, [Header(None)])
            waiting.close()
            self.assertEqual(len(self.refusals), 4)

        asyncio.run(run())

    def test_the_peer_of_the_connection_is_then_the_client(self) -> None:
        async def run() -> None:
            ours, theirs = self.pair()
            one = Announced.take(ours, ("2001:db8::1", 7))
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, one)
            self.assertEqual(transport.get_extra_info("peername")[:2], ("2001:db8::1", 7))
            transport.abort()

        asyncio.run(run())
