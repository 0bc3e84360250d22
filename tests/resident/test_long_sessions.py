"""Memory of long sessions and of long listings; and a server that leaks, which the check must notice.

Daily, sessions have 25,000 requests and listings 50,000 entries: whatever is kept of each of them comes to
more than is allowed. `make test-hard` has 200,000 and a million.
"""

from __future__ import annotations

import os
from itertools import chain, islice

from tests.cli.sessions import COMMANDS
from tests.resident.measuring import HANDLE, MemoryCase, packed, status
from tests.support.doors import Wire
from tests.support.hard import IS_HARD
from tests.support.packets import NO_ATTRS, NO_SUCH_FILE, OK, READ, Attributes, attrs, request, string, u32

AT_ONCE = 250  # requests whose replies fit the way back
TURNS = 800 if IS_HARD else 100
MANY = 1_000_000 if IS_HARD else 50_000  # entries of a directory

KEEPS_REPLIES = """
import sys
from pysftpserver.engine.segments import OutputQueue
from pysftpserver.server import SFTPServer
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
kept, append = [], OutputQueue.append
def keep(queue, segment):
    kept.append(bytes(segment))
    append(queue, segment)
OutputQueue.append = keep
sys.exit(SFTPServer(SFTPServerVirtualChroot(sys.argv[1])).run())
"""
# A directory in which no two entries have the same owner, group, mode or time.
ALL_DIFFERENT = """
import sys
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.server import SFTPServer
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
class Storage(SFTPServerVirtualChroot):
    def opendir(self, path):
        for n in range(int(path.rsplit(b"/")[-1])):
            yield b"%d" % n, SFTPAttributes(n, 5000 + n, 9000 + n, n << 14, n, n * 7000)
    def username(self, number):
        return b"user%d" % number
    groupname = username
sys.exit(SFTPServer(Storage(sys.argv[1])).run())
"""


class LongSessions(MemoryCase):
    def each_turn(self, wire: Wire, shape):
        """A turn of assert_flat(): AT_ONCE requests of that shape, numbered through, with their replies."""

        def act(turn: int) -> None:
            numbers = range(turn * AT_ONCE + 1, (turn + 1) * AT_ONCE + 1)
            pairs = [shape(number) for number in numbers]
            self.exchange(wire, b"".join(pair[0] for pair in pairs), b"".join(pair[1] for pair in pairs))

        return act

    def test_files_opened_and_closed_again(self):
        """With another mode each time, and one directory after every seven files."""
        (self.jail / "f").touch()

        def shape(number: int) -> tuple[bytes, bytes]:
            mode = attrs(Attributes(permissions=number * 21474 % (1 << 32)))
            opens = request("open", number, string(b"f"), u32(READ), mode)
            if number % 8 == 0:
                opens = request("opendir", number, string(b"."))
            # The server's handles count up, so they are known before they are given.
            handle = string(u32(number))
            asked = opens + request("close", number, handle)
            return asked, packed(HANDLE + u32(number) + handle) + packed(status(number, OK, b"Success"))

        session, wire, _ = self.command("pysftpjail")
        before = session.descriptors()
        self.assert_flat(session, self.each_turn(wire, shape), TURNS)
        self.assertEqual(session.descriptors(), before)

    def test_failing_requests_each_with_a_path_of_its_own(self):
        tails = {
            "stat": b"",
            "open": u32(READ) + NO_ATTRS,
            "opendir": b"",
            "remove": b"",
            "readlink": b"",
            "rename": string(b"elsewhere"),
            "setstat": attrs(Attributes(permissions=0o600)),
        }
        kinds = list(tails.items())

        def shape(number: int) -> tuple[bytes, bytes]:
            name, tail = kinds[number % len(kinds)]
            asked = request(name, number, string(b"nothing-%d" % number), tail)
            return asked, packed(status(number, NO_SUCH_FILE, b"No such file"))

        session, wire, _ = self.command("pysftpserver")
        self.assert_flat(session, self.each_turn(wire, shape), TURNS)
        self.assertEqual(os.listdir(self.jail), [])

    def test_a_server_that_keeps_its_replies_is_noticed(self):
        def shape(number: int) -> tuple[bytes, bytes]:
            asked = request("stat", number, string(b"nothing"))
            return asked, packed(status(number, NO_SUCH_FILE, b"No such file"))

        session, wire, _ = self.program(KEEPS_REPLIES)
        with self.assertRaisesRegex(AssertionError, r"from \d+ KiB, it grew by \d+"):
            self.assert_flat(session, self.each_turn(wire, shape), 100)


class ListingCase(MemoryCase):
    def names(self, wire: Wire, handle: bytes):
        """The names of a listing, a reply at a time; every entry has all attributes."""
        asked = request("readdir", 1, string(handle))
        wire.send(asked)
        while (body := wire.packet())[0] == 104:
            wire.send(asked)  # the server is busy with the next one while this one is looked at
            names = []
            at = 9
            while at < len(body):
                end = at + 4 + int.from_bytes(body[at : at + 4], "big")
                names.append(body[at + 4 : end])
                # The longname, the flags and what they stand for: size, owner, group, mode, two times.
                at = end + 4 + int.from_bytes(body[end : end + 4], "big") + 4 + 28
            self.assertEqual((at, len(names)), (len(body), int.from_bytes(body[5:9], "big")))
            yield names
        self.assertEqual(body, status(1, 1, b"End of file"))

    def assert_all_came(self, seen: bytearray, others: list[bytes]) -> None:
        self.assertEqual(seen.count(1), len(seen), "each of them, and once")
        self.assertEqual(sorted(others), [b".", b".."])


class AllDifferent(ListingCase):
    def test_owners_modes_and_times_are_listed_with_flat_memory(self):
        session, wire, _ = self.program(ALL_DIFFERENT)
        pieces = self.names(wire, wire.ask("opendir", string(b"%d" % MANY)).content)
        seen = bytearray(MANY)
        turns = []

        def act(turn: int) -> None:
            for name in chain.from_iterable(islice(pieces, MANY // 40_000)):
                seen[int(name)] += 1
                turns.append(turn)

        self.assert_flat(session, act, 120)
        self.assertLess(turns[-1], 119, "the end was reached")
        self.assert_all_came(seen, [b".", b".."])


class ManyEntries(ListingCase):
    """A real directory. Its entries are links to one file: that is the least a file system can be asked."""

    LISTING_MOST = 40 << 10  # KiB

    def setUp(self) -> None:
        super().setUp()
        self.big = self.jail / "big"
        self.big.mkdir()
        self.source = self.place / "source"
        self.source.touch()
        if not self.fits():
            self.skipTest("no file system in memory with room for so many names")

    def fits(self) -> bool:
        figures = os.statvfs(self.place)
        return self.made_in is not None and figures.f_ffree > MANY + 1000

    def make(self) -> None:
        directory = os.open(self.big, os.O_RDONLY)
        try:
            for number in range(MANY):
                os.link(self.source, str(number), dst_dir_fd=directory)
        finally:
            os.close(directory)

    def test_are_listed_to_the_end_in_less_than_40_mib(self):
        self.make()
        session, wire, _ = self.command(COMMANDS[0])
        handle = wire.ask("opendir", string(b"big")).content
        seen = bytearray(MANY)
        others = []
        early = 0
        for names in self.names(wire, handle):
            for name in names:
                if name.isdigit():
                    seen[int(name)] += 1
                else:
                    others.append(name)
            early = early or session.memory()
        self.assert_all_came(seen, others)
        self.assertLess(session.memory(), self.LISTING_MOST)
        self.assertLess(session.memory() - early, 1024, "KiB between the first reply and the last")
        self.assertEqual(wire.ask("close", string(handle)).content, OK)
