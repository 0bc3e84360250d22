"""The fast path for READ and WRITE against the way of all other requests: the same replies and files."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.engine.bulk import LATE_FROM
from pysftpserver.engine.wire import transfer_at
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support import packets as sftp
from tests.support.hard import IS_HARD
from tests.support.packets import Attributes, attrs, packet, replies, request, split, string, u32, u64
from tests.support.watching import BIG, MEDIUM, READING, WRITING, Watched, counters

STREAMS = 300 if IS_HARD else 60
ATTRS = 105
OFFSETS = (2**33, 2**40 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
READ_LENGTHS = (
    0,
    1,
    100,
    5000,
    32767,
    32768,
    32769,
    100_000,
    sftp.MAX_DATA - 1,
    sftp.MAX_DATA,
    sftp.MAX_DATA + 1,
    2**32 - 1,
)
WRITE_LENGTHS = (0, 1, 1, 100, 100, 5000, 32767, 32768, 32769, sftp.MAX_DATA, sftp.MAX_DATA + 900)
NAMES = ("small", "medium", "big", "new")
OPENED = (  # before every stream: handles 1 to 9; the tenth is a listing
    (b"small", sftp.READ),
    (b"small", sftp.READ | sftp.WRITE),
    (b"medium", sftp.READ),
    (b"medium", sftp.WRITE),
    (b"medium", sftp.READ | sftp.WRITE | sftp.APPEND),
    (b"big", sftp.READ),
    (b"big", sftp.READ | sftp.WRITE),
    (b"big", sftp.WRITE | sftp.APPEND),
    (b"d", sftp.READ),
)


class Streams:
    """Random streams of requests, by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def files(self) -> dict[str, bytes]:
        """What is there when a stream begins."""
        small = self.random.randrange(101)
        return {"small": bytes(range(1, small + 1)), "medium": self.random.randbytes(MEDIUM), "big": _BIG}

    def stream(self) -> bytes:
        shapes = [self.read] * 8 + [self.write] * 8 + [self.attributes, self.size, self.open, self.close]
        count = self.random.randrange(5, 90)
        broken = self.random.randrange(4 * count)  # the place of what ends a session, if it has one
        packets = []
        for place in range(count):
            if place == broken:
                packets.append(self.fatal())
            for _ in range(self.random.choice((1, 1, 1, 4))):
                packets.append(self.random.choice(shapes)())
        return b"".join(packets)

    def cuts(self, stream: bytes) -> list[bytes]:
        pieces = []
        while stream:
            piece = self.random.choice((1, 3, 28, 29, 30, 400, 33_000, 300_000, len(stream)))
            pieces.append(stream[:piece])
            stream = stream[piece:]
            if len(pieces) > 200:  # enough of them
                return [*pieces, stream]
        return pieces

    def id(self) -> bytes:
        return u32(self.random.randrange(2**32))

    def handle(self) -> bytes:
        if self.random.random() < 0.04:
            size = self.random.choice((0, 3, 5, 100))
            return string(self.random.choice((u32(1) * 25, bytes(100)))[:size])
        if self.random.random() < 0.04:
            return string(self.random.choice((bytes(4), u32(2**32 - 1), b"abcd")))
        return string(u32(self.random.choice((*range(1, 14), 6, 7, 7, 2, 5))))

    def offset(self) -> bytes:
        if self.random.random() < 0.1:
            return u64(self.random.choice(OFFSETS))
        size = self.random.choice((10, 100, MEDIUM, BIG))
        near = self.random.choice((0, 0, size // 2, size - LATE_FROM, size - 5, size, size + 1))
        return u64(max(0, near + self.random.choice((0, 0, 0, -1, 1))))

    def read(self) -> bytes:
        body = self.id() + self.handle() + self.offset() + u32(self.random.choice(READ_LENGTHS))
        return self.malformed(READING, body)

    def write(self) -> bytes:
        size = self.random.choice(WRITE_LENGTHS)
        chunk = self.random.randbytes(min(size, 64)) * (size // 64 + 1)
        body = self.id() + self.handle() + self.offset() + string(chunk[:size])
        return self.malformed(WRITING, body)

    def malformed(self, kind: int, body: bytes) -> bytes:
        """A packet of that body; now and then something is wrong with it."""
        choice = self.random.randrange(60)
        if choice == 0:
            return packet(kind, body + self.random.randbytes(self.random.choice((1, 4, 29))))
        if choice == 1:
            return packet(kind, body[: self.random.randrange(4, len(body))])
        if choice == 2 and kind == WRITING:  # the chunk's length is another than what follows
            chunk = self.random.choice((u32(0), u32(5), u32(sftp.MAX_DATA), u32(2**32 - 1)))
            return packet(kind, body[:20] + chunk + body[24:])
        if choice in (4, 5):  # the handle's length is another, and the packet's is as ever
            return packet(kind, body[:4] + u32(self.random.choice((0, 3, 5, 8, 100, 2**32 - 1))) + body[8:])
        if choice == 3 and self.random.random() < 0.3:  # from here on, packets begin at odd places
            wrong = len(body) + 1 + self.random.choice((-1, 1, 10, 1000))
            return u32(wrong) + bytes([kind]) + body
        return packet(kind, body)

    def attributes(self) -> bytes:
        return packet(8, self.id() + self.handle())

    def size(self) -> bytes:
        size = self.random.choice((0, 50, 100, LATE_FROM, MEDIUM, BIG, BIG + 1, 2**33))
        return packet(10, self.id() + self.handle() + attrs(Attributes(size=size)))

    def open(self) -> bytes:
        name = self.random.choice(NAMES).encode()
        access = self.random.choice((sftp.READ, sftp.WRITE, sftp.READ | sftp.WRITE))
        more = self.random.choice(
            (0, 0, sftp.CREAT, sftp.CREAT | sftp.TRUNC, sftp.APPEND, sftp.CREAT | sftp.EXCL)
        )
        return packet(3, self.id() + string(name) + u32(access | more) + sftp.NO_ATTRS)

    def close(self) -> bytes:
        return packet(4, self.id() + self.handle())

    def fatal(self) -> bytes:
        kind = bytes([self.random.choice((READING, WRITING))])
        return self.random.choice(
            (
                u32(0),
                u32(sftp.MAX_PACKET + 1) + kind + bytes(40),
                u32(2**32 - 1) + kind + bytes(40),
                u32(4) + kind + bytes(3),
                # All right but for its length
                request("write", 1, string(u32(2)), u64(0), string(bytes(sftp.MAX_PACKET - 24))),
            )
        )


_BIG = random.Random(BIG).randbytes(BIG)


def without_times(output: bytes) -> list[bytes]:
    """The replies in an output; ATTRS without their times."""
    return [body[:-8] if body[0] == ATTRS else body for body in split(output)]


def digest(path: Path) -> tuple[int, ...]:
    """The size of a file, and hashes of where a stream may have written; the holes are left out."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return ()
    try:
        size = os.fstat(descriptor).st_size
        places = [
            (0, 2 * BIG),
            (2**33 - sftp.MAX_DATA, 3 * sftp.MAX_DATA),
            (2**40 - sftp.MAX_DATA, 3 * sftp.MAX_DATA),
        ]
        places.append((max(0, size - sftp.MAX_DATA), sftp.MAX_DATA))
        return (size, *(hash(os.pread(descriptor, length, offset)) for offset, length in places))
    finally:
        os.close(descriptor)


class BothWays(Watched):
    def test_give_the_same_replies_and_the_same_files_for_any_stream(self):
        seed = random.randrange(2**32)
        for number in range(STREAMS):
            with self.subTest(seed=seed + number):
                self.compare(Streams(seed + number), jailed=bool(number % 2))
        for kind in (READING, WRITING):
            self.assertGreater(self.watch.served[kind], 2 * STREAMS, f"seed {seed}")

    def compare(self, streams: Streams, jailed: bool) -> None:
        files = streams.files()
        clients = []
        for fast in (True, False):
            root = self.root / ("fast" if fast else "engine")
            root.mkdir(exist_ok=True)
            (root / "d").mkdir(exist_ok=True)
            for name in NAMES:
                (root / name).unlink(missing_ok=True)
            for name, content in files.items():
                (root / name).write_bytes(content)
            storage = SFTPServerVirtualChroot(root) if jailed else SFTPServerStorage(root)
            client = self.client_of(storage, fast)
            for path, flags in OPENED:
                client.open(path, flags)
            client.opendir(b"d")
            clients.append(client)
        first, second = clients
        for piece in streams.cuts(streams.stream()):
            answered = without_times(first.feed(piece))
            taken = self.watch.calls
            expected = without_times(second.feed(piece))
            self.assertEqual(self.watch.calls, taken, "the other one went the fast way too")
            # Equal lists are compared without making a text of megabytes.
            for number, (one, other) in enumerate(zip(answered, expected, strict=False)):
                if one != other:
                    self.fail(
                        f"reply {number}: {len(one)} {one[:80]!r}, expected {len(other)} {other[:80]!r}"
                    )
            self.assertEqual(len(answered), len(expected))
            self.assertEqual(first.server.ended, second.server.ended)
            self.assertEqual(len(first.server.input_queue), len(second.server.input_queue))
        self.assertEqual(counters(first.server), counters(second.server))
        for client in clients:
            client.server.close()
        self.assertEqual(first.log, second.log)
        for name in NAMES:
            same = digest(self.root / "fast" / name) == digest(self.root / "engine" / name)
            self.assertTrue(same, f"{name} differs")

    def test_answer_alike_at_every_cut_of_a_packet(self):
        self.random_file("f", MEDIUM)
        stream = request("read", 1, string(u32(1)), u64(5), u32(LATE_FROM)) + request(
            "write", 2, string(u32(1)), u64(5), string(b"new")
        )
        outputs = set()
        for cut in range(len(stream) + 1):
            self.random_file("f", MEDIUM)
            client = self.client_of(self.storage())
            client.open(b"f", sftp.READ | sftp.WRITE)
            outputs.add(client.feed(stream[:cut]) + client.feed(stream[cut:]))
        self.assertEqual(len(outputs), 1)
        self.assert_fast(READING, len(stream) + 1)
        self.assert_fast(WRITING, len(stream) + 1)

    def test_read_the_bytes_as_they_were_before_a_write_behind_them(self):
        content = self.random_file("f", BIG)
        for fast in (True, False):
            with self.subTest(fast=fast):
                (self.root / "f").write_bytes(content)
                client = self.client_of(self.storage(), fast)
                handle = client.open(b"f", sftp.READ | sftp.WRITE)
                read = request("read", 1, handle, u64(0), u32(sftp.MAX_DATA))
                write = request("write", 2, handle, u64(0), string(b"new" * 20_000))
                answers = replies(client.feed(read + write + read + write + read))
                self.assertEqual(answers[0][1].content, content[: sftp.MAX_DATA])
                for place in (2, 4):
                    expected = b"new" * 20_000 + content[60_000 : sftp.MAX_DATA]
                    self.assertEqual(answers[place][1].content, expected)
        self.assert_fast(READING, 3)
        self.assert_fast(WRITING, 2)

    def test_see_what_was_appended_behind_the_size_that_they_knew(self):
        self.random_file("f", MEDIUM)
        for fast in (True, False):
            with self.subTest(fast=fast):
                content = self.random_file("f", MEDIUM)
                client = self.client_of(self.storage(), fast)
                handle = client.open(b"f", sftp.READ | sftp.WRITE)
                read = request("read", 1, handle, u64(MEDIUM - LATE_FROM), u32(sftp.MAX_DATA))
                write = request("write", 2, handle, u64(MEDIUM), string(b"more" * 10_000))
                answers = replies(client.feed(read + write + read))
                self.assertEqual(answers[0][1].content, content[-LATE_FROM:])
                self.assertEqual(answers[2][1].content, content[-LATE_FROM:] + b"more" * 10_000)

    def test_see_what_another_process_appends_between_two_requests_of_a_batch(self):
        content = self.random_file("f", MEDIUM)
        client = self.client_of(self.storage())
        handle = client.open(b"f")
        looked = []

        def appending(buffer: memoryview, start: int) -> tuple[Any, ...]:
            looked.append(start)
            if start and looked.count(start) == 1:
                with (self.root / "f").open("ab") as file:
                    file.write(b"more" * 20_000)
            return transfer_at(buffer, start)

        read = request("read", 1, handle, u64(MEDIUM - LATE_FROM), u32(sftp.MAX_DATA))
        with mock.patch("pysftpserver.engine.bulk.transfer_at", appending):
            answers = replies(client.feed(read + read))
        for answer in answers:  # neither is read before it is taken
            self.assertTrue(answer[1].content == content[-LATE_FROM:] + b"more" * 20_000)
        self.assertEqual((self.watch.calls, self.watch.served[READING]), (1, 2))
