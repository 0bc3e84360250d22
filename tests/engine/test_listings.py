"""READDIR: replies of up to 64 KiB, as full as that allows, which lose no name."""

from __future__ import annotations

import random
import unittest

from pysftpserver.attributes import SFTPAttributes
from tests.support import packets
from tests.support.packets import EOF, MAX_PACKET, Client, request
from tests.support.storages import Listed, Whole

LONGEST = 64 << 10  # bytes of a reply, its length field among them


class Listings(unittest.TestCase):
    def read_all(self, client: Client) -> list[bytes]:
        """All names of a directory; no reply is too long, and none smaller than it need be."""
        handle = client.opendir(b"d")
        names: list[bytes] = []
        sizes = []
        while True:
            client.number += 1
            output = client.feed(request("readdir", client.number, handle))
            self.assertLessEqual(len(output), LONGEST)
            ((_, reply),) = packets.replies(output)
            if reply.kind == "status":
                self.assertEqual(reply.content, EOF)
                break
            self.assertTrue(reply.content)
            sizes.append(len(output))
            names += [entry.name for entry in reply.content]
        self.assertEqual(client.status("readdir", handle), EOF, "again")
        for size in sizes[:-1]:
            self.assertGreater(size, LONGEST - 1024)
        return names

    def test_fill_replies_up_to_64_kib_with_5000_long_names_and_lose_none(self):
        names = [b"%05d" % number + b"n" * 250 for number in range(5000)]
        entries = [(name, SFTPAttributes(1, 0, 0, 0o100644, 0, 0)) for name in names]
        self.assertEqual(self.read_all(Client(Listed(entries))), names)

    def test_fill_replies_whatever_the_lengths_of_the_names(self):
        seed = random.randrange(2**32)
        order = random.Random(seed)
        names = [b"%06d" % n + b"x" * order.randrange(250) for n in range(3000)]
        got = self.read_all(Client(Listed([(name, SFTPAttributes()) for name in names])))
        self.assertEqual(got, names, f"seed {seed}")

    def test_an_entry_that_fits_exactly_is_not_pushed_into_the_next_reply(self):
        wide = SFTPAttributes(size=10**8)  # one column more, for an even number of bytes to fill
        probe = Client(Listed([(b"", wide)]))
        empty = probe.feed(request("readdir", 1, probe.opendir(b"d")))
        spare = LONGEST - len(empty)
        self.assertEqual(spare % 2, 0)
        client = Client(Listed([(b"n" * (spare // 2), wide), (b"next", wide)]))
        handle = client.opendir(b"d")
        output = client.feed(request("readdir", 1, handle))
        self.assertEqual(len(output), LONGEST)
        self.assertEqual([e.name for e in client.content("name", "readdir", handle)], [b"next"])

    def test_an_entry_that_is_one_byte_too_long_waits_for_the_next_reply(self):
        wide, narrow = SFTPAttributes(size=10**8), SFTPAttributes(size=1)
        for first in (wide, narrow):
            probe = Client(Listed([(b"first", first), (b"", wide)]))
            together = probe.feed(request("readdir", 1, probe.opendir(b"d")))
            spare = LONGEST - len(together)
            if spare % 2:  # a name counts twice, so the total is one byte too many for one of the two
                name = b"n" * ((spare + 1) // 2)
                client = Client(Listed([(b"first", first), (name, wide)]))
                handle = client.opendir(b"d")
                for expected in (b"first", name):
                    self.assertEqual([e.name for e in client.content("name", "readdir", handle)], [expected])
                return
        self.fail("neither total is odd")

    def test_a_name_that_is_too_long_for_that_has_a_reply_of_its_own(self):
        names = [b"a", b"n" * 100_000, b"z"]
        client = Client(Listed([(name, SFTPAttributes()) for name in names]))
        handle = client.opendir(b"d")
        for name in names:
            self.assertEqual([e.name for e in client.content("name", "readdir", handle)], [name])

    def test_a_name_that_no_packet_holds_hides_no_other_and_makes_no_packet_too_long(self):
        entries = [(b"a", SFTPAttributes()), (b"n" * 200_000, SFTPAttributes()), (b"z", SFTPAttributes())]
        for order in (entries, entries[1:], entries[::-1]):
            client = Client(Listed(order))
            handle = client.opendir(b"d")
            seen: list[bytes] = []
            for _ in range(6):
                client.number += 1
                output = client.feed(request("readdir", client.number, handle))
                self.assertLessEqual(len(output), MAX_PACKET + 4)
                ((_, reply),) = packets.replies(output)
                if reply.kind == "name":
                    seen += [entry.name for entry in reply.content]
                elif reply.content == EOF:
                    break
            with self.subTest([name[:5] for name, _ in order]):
                self.assertEqual(set(seen) - {b"n" * 200_000}, {name for name, _ in order if len(name) == 1})

    def test_a_listing_that_broke_off_never_looks_like_all_there_is(self):
        class Breaks(Whole):
            def opendir(self, path):
                yield b"one", SFTPAttributes()
                raise OSError(5, "Input/output error")

        client = Client(Breaks())
        handle = client.opendir(b"d")
        for _ in range(3):
            self.assertNotIn(client.status("readdir", handle), (EOF, 0))
        again = client.opendir(b"d")
        self.assertNotIn(client.status("readdir", again), (EOF, 0))

    def test_an_empty_listing_is_the_end_at_once(self):
        client = Client(Listed([]))
        self.assertEqual(client.status("readdir", client.opendir(b"d")), EOF)

    def test_are_read_lazily(self):
        taken = []

        def entries():
            for number in range(100_000):
                taken.append(number)
                yield b"%0100d" % number, SFTPAttributes()

        storage = Whole()
        storage.opendir = lambda path: entries()
        client = Client(storage)
        handle = client.opendir(b"d")
        self.assertEqual(taken, [])
        names = client.content("name", "readdir", handle)
        self.assertEqual(len(taken), len(names) + 1)
