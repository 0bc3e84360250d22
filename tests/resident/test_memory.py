"""Memory under hostile clients: some never read, some never stop opening, some send byte by byte."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import resource
import socket
import sys
import termios
import time
import zlib
from collections.abc import Callable, Iterator

from tests.cli.sessions import COMMANDS
from tests.resident.measuring import (
    DATA,
    GROWTH,
    HANDLE,
    MOST,
    Expected,
    MemoryCase,
    Pusher,
    raw,
    status,
)
from tests.support import packets as sftp
from tests.support.doors import FILE, Door, Wire
from tests.support.hard import IS_HARD
from tests.support.packets import request, string, u32, u64
from tests.support.waiting import PATIENCE, until

CONTENT = random.Random(7).randbytes(1 << 20)
Mix = Iterator[tuple[bytes, Expected]]

# An engine that does what the test must notice.
NEVER_PAUSES = """
import sys
from pysftpserver.server import SFTPServer
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
server = SFTPServer(SFTPServerVirtualChroot(sys.argv[1]))
server.queue_limit = 1 << 40
sys.exit(server.run())
"""


def file_part(number: int, offset: int, size: int) -> Expected:
    """The DATA with that part of CONTENT, made when it is compared: thousands wait."""
    return lambda body: body == DATA + u32(number) + string(CONTENT[offset : offset + size])


#: Which mixes others stand for, daily: READs of odd lengths, large READs, the shortest replies.
BY_OTHERS = ("small READs", "large READs that are settled", "STATs", "listings", "unknown extended requests")


class NeverReads(MemoryCase):
    ROUNDS = 12  # at most

    def setUp(self) -> None:
        super().setUp()
        (self.jail / "d").mkdir()
        for number in range(120):
            (self.jail / "d" / f"an-entry-with-a-name-{number}").touch()

    def reads(self, wire: Wire, size: Callable[[int], int]) -> Mix:
        """READs with lengths from size(); zero gives an empty DATA, the offsets differ."""
        for number in itertools.count():
            offset = number * 997 % (len(CONTENT) - sftp.MAX_DATA)
            length = size(number)
            yield request("read", number, FILE, u64(offset), u32(length)), file_part(number, offset, length)

    def large_reads(self, wire: Wire) -> Mix:
        """All of them ask for the most; most of them at the end of the file, or draining would be long."""
        for number in itertools.count():
            offset = 0 if number % 64 == 0 else len(CONTENT) - number % 1000 - 1
            asked = request("read", number, FILE, u64(offset), u32(sftp.MAX_DATA))
            yield asked, file_part(number, offset, sftp.MAX_DATA)

    def settled_reads(self, wire: Wire) -> Mix:
        """Large READs that a request behind them makes the server read at once, and keep."""
        fstat = raw(wire, "fstat", FILE)
        for number, (asked, expected) in enumerate(self.large_reads(wire)):
            yield asked, expected
            yield request("fstat", number, FILE), fstat[:1] + u32(number) + fstat[5:]

    def stats(self, wire: Wire) -> Mix:
        reply = raw(wire, "stat", string(b"f"))
        for number in itertools.count():
            asked = request("stat", number, string(b"./" * (number % 80) + b"f"))
            yield asked, reply[:1] + u32(number) + reply[5:]

    def listings(self, wire: Wire) -> Mix:
        """Whole listings, with handles that are known before they are given: they count up."""
        for _ in range(2):  # the first changes the directory's own access time
            handle = wire.ask("opendir", string(b"d")).content
            names = raw(wire, "readdir", string(handle))
        last = int.from_bytes(handle, "big")
        path = string(b"./" * 1000 + b"d")  # of some length, or there would be very many listings
        for number in itertools.count():
            last += 1
            given = string(u32(last))
            yield request("opendir", number, path), HANDLE + u32(number) + given
            yield request("readdir", number, given), names[:1] + u32(number) + names[5:]
            yield request("readdir", number, given), status(number, 1, b"End of file")
            yield request("close", number, given), status(number, sftp.OK, b"Success")

    def unknown(self, wire: Wire) -> Mix:
        for number in itertools.count():
            name = b"nothing-that-is-known-%d@example.com" % number
            asked = request("extended", number, string(name), string(b"x" * 20))
            yield asked, status(number, 8, b"Operation unsupported")

    def odd_reads_and_writes(self, wire: Wire) -> Mix:
        """READs on both sides of where they become late, between WRITEs that change what they bring."""
        dice = random.Random(3)
        content = bytearray(CONTENT)
        for number in itertools.count():
            offset = dice.randrange(len(content) - 80_000)
            if dice.random() < 0.3:
                chunk = dice.randbytes(dice.randrange(1, 3000, 2))
                content[offset : offset + len(chunk)] = chunk
                asked = request("write", number, FILE, u64(offset), string(chunk))
                yield asked, status(number, sftp.OK, b"Success")
            else:
                size = dice.randrange(1, 70_000, 2)
                asked = request("read", number, FILE, u64(offset), u32(size))
                crc = zlib.crc32(DATA + u32(number) + string(bytes(content[offset : offset + size])))
                yield asked, lambda body, crc=crc: zlib.crc32(body) == crc

    def repeat_until_flat(self, session: Door, act: Callable[[], None], peaks: list[int]) -> None:
        """Do act() until memory (KiB, added to peaks) grows no more by it.

        The allocator finds its shape in a few rounds, each of which adds less than the one before, and a
        busy machine can make the server look idle before its queue is full. A leak adds to every round.
        """
        for _ in range(self.ROUNDS):
            act()
            peaks.append(session.memory())
            if len(peaks) > 1 and peaks[-1] - peaks[-2] < GROWTH // 8:
                return
        self.fail(f"each round grows; the peaks were {peaks} KiB")

    def push_and_read(self, prog: str, mix: Callable[[Wire], Mix]) -> None:
        (self.jail / "f").write_bytes(CONTENT)
        # Read after it was written already, so that reading it leaves its attributes as they are.
        os.utime(self.jail / "f", (time.time() + 1000, time.time()))
        session, wire, ours = self.command(prog)
        self.assertEqual(
            wire.ask("open", string(b"f"), u32(sftp.READ | sftp.WRITE), sftp.NO_ATTRS).content,
            u32(1),
            "its handle is FILE",
        )
        pusher = Pusher(session, ours, mix(wire))
        self.assertGreater(pusher.push(), 1 << 19, "it takes what it has room for")
        peaks: list[int] = []

        def read_half() -> None:
            pusher.read_half()
            pusher.push()

        def read_all() -> None:
            pusher.push()
            pusher.read_all()

        for read in (read_half, read_all):
            self.repeat_until_flat(session, read, peaks)
        self.assertLess(peaks[-1], MOST)
        self.assertGreater(pusher.answered, 500)
        ours.shutdown(socket.SHUT_WR)
        self.assertEqual(wire.take(1), b"", "and there are no other replies")
        self.assertEqual(session.process.wait(PATIENCE), 0)

    def test_memory_is_flat_and_every_reply_right_when_it_is_read_at_last(self):
        mixes = {
            "large READs": self.large_reads,
            "large READs that are settled": self.settled_reads,
            "small READs": lambda wire: self.reads(wire, lambda number: number % 600 + 1),
            "the shortest replies, which are empty": lambda wire: self.reads(wire, lambda _: 0),
            "STATs": self.stats,
            "listings": self.listings,
            "unknown extended requests": self.unknown,
            "READs of odd lengths between WRITEs": self.odd_reads_and_writes,
        }
        for (what, mix), prog in zip(mixes.items(), itertools.cycle(COMMANDS)):
            if not IS_HARD and what in BY_OTHERS:
                continue
            with self.subTest(what, prog=prog):
                self.push_and_read(prog, mix)

    def test_a_server_that_does_not_pause_is_noticed(self):
        session, wire, ours = self.program(NEVER_PAUSES)
        with self.assertRaisesRegex(AssertionError, "reads without end"):
            Pusher(session, ours, self.stats(wire)).push()


class OpensForEver(MemoryCase):
    """Handles up to the limit, and thousands of tries beyond it."""

    MOST = 64 << 10  # KiB; a listing that is under way takes 32 KiB in the C library
    TRIES = 400
    FLAGS = ("--max-packet", "34000")  # a full reply costs less time, and leaves as much behind

    def setUp(self) -> None:
        super().setUp()
        (self.jail / "f").touch()
        # Names so long that one reply does not hold all, and one waits for the next.
        (self.jail / "d").mkdir()
        for number in range(450):
            (self.jail / "d" / f"{number:0255}").touch()

    def shapes(self, wire: Wire) -> dict[str, Callable[[int], bytes]]:
        """What opens the handle of that number."""
        long = b"./" * 1980  # with what pysftpserver puts in front, near the kernel's 4095

        def file(number: int) -> bytes:
            path = (long if number % 2 else b"") + b"f"
            return request("open", number, string(path), u32(sftp.READ), sftp.NO_ATTRS)

        def directory(number: int) -> bytes:
            return request("opendir", number, string((long if number % 2 else b"") + b"d"))

        return {"files": file, "directories": directory, "listings": directory}

    def fill(self, session: Door, wire: Wire, shape: str, limit: int) -> None:
        opening = self.shapes(wire)[shape]
        for number in range(1, limit + 1):
            wire.send(opening(number))
            self.assertEqual(wire.packet(), HANDLE + u32(number) + string(u32(number)))
            if shape == "listings":
                wire.send(request("readdir", number, string(u32(number))))
                self.assertGreater(len(wire.packet()), 32_000, "a full reply")
        text = b"Limit reached: %d open handles; close some of them first" % limit
        refusals: dict[int, int] = {}
        for number in range(self.TRIES):
            wire.send(opening(number))
            self.assertEqual(wire.packet(), status(number, sftp.FAILURE, text))
            refusals[number] = session.memory() if number in (self.TRIES // 4, self.TRIES - 1) else 0
        growth = refusals[self.TRIES - 1] - refusals[self.TRIES // 4]
        self.assertLess(growth, GROWTH, "KiB between refusals")
        self.assertLess(session.memory(), self.MOST)
        self.assertEqual(wire.ask("close", string(u32(1 + limit // 2))).content, sftp.OK)
        wire.send(opening(7) + opening(8))
        self.assertEqual(wire.packet(), HANDLE + u32(7) + string(u32(limit + 1)))
        self.assertEqual(wire.packet(), status(8, sftp.FAILURE, text))
        self.assertIn(text.decode(), session.log())

    def test_is_refused_at_the_limit_and_stays_small_whatever_the_handles_are(self):
        highest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if highest < 4096:
            self.skipTest("4096 descriptors may not be asked for")
        for shape in self.shapes(None):
            tried = (4096,) if shape != "listings" else (1024, highest) if IS_HARD else (highest,)
            for descriptors in tried:
                limit = min(1024, (descriptors - 32) // 2)
                prog = COMMANDS[descriptors == 4096]
                with self.subTest(shape, prog=prog, descriptors=descriptors):
                    session, wire, ours = self.command(prog, *self.FLAGS, descriptors=descriptors)
                    self.fill(session, wire, shape, limit)
                    ours.shutdown(socket.SHUT_WR)
                    self.assertEqual(session.process.wait(PATIENCE), 0)


class ByteByByte(MemoryCase):
    def drip(self, ours: socket.socket, data: bytes) -> None:
        """Each byte in a write of its own, when the server has taken the one before."""
        waiting = bytearray(4)
        one = memoryview(data)

        def taken() -> bool:
            fcntl.ioctl(ours, termios.TIOCOUTQ, waiting)
            return not int.from_bytes(waiting, sys.byteorder)

        for index in range(len(data)):
            ours.send(one[index : index + 1])
            # until() sleeps between two looks, and the server is faster than that.
            if not any(taken() for _ in range(1000)):
                until(taken, "the server takes a byte")

    def test_a_long_packet_and_many_small_ones_are_served_with_flat_memory(self):
        chunk = random.Random(5).randbytes(6000)
        session, wire, ours = self.command(COMMANDS[0])
        wire.ask("open", string(b"g"), u32(sftp.READ | sftp.WRITE | sftp.CREAT), sftp.NO_ATTRS)
        data = request("write", 5, FILE, u64(3), string(chunk))
        self.drip(ours, data[:2000])
        early = session.memory()
        self.drip(ours, data[2000:])
        self.assertEqual(wire.packet(), status(5, sftp.OK, b"Success"))
        self.assertEqual((self.jail / "g").read_bytes(), bytes(3) + chunk)
        self.assertLess(session.memory() - early, GROWTH)

        def act(turn: int) -> None:
            self.drip(ours, request("stat", turn, string(b"none")))
            self.assertEqual(wire.packet(), status(turn, 2, b"No such file"))

        self.assert_flat(session, act, 300)
