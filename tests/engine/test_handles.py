"""Handles: never the same one twice, so many and no more, and all closed at the end."""

from __future__ import annotations

import os

from pysftpserver.engine.limits import Limits
from tests.support import packets
from tests.support import packets as sftp
from tests.support.cases import InADirectory
from tests.support.packets import Client, string, u32, u64
from tests.support.storages import Failing, Listed, Whole
from tests.support.uploads import descriptors


class Handles(InADirectory):
    def test_are_never_used_again_and_a_closed_one_is_a_failure(self):
        (self.root / "f").write_bytes(b"x")
        client = self.client()
        seen = set()
        for number in range(500):
            handle = client.open(b"f") if number % 2 else client.opendir(b".")
            self.assertNotIn(handle, seen)
            seen.add(handle)
            self.assertEqual(client.status("close", handle), sftp.OK)
            self.assertEqual(client.status("close", handle), sftp.FAILURE)

    def test_too_many_are_a_failure_before_anything_is_opened_and_closing_makes_room(self):
        client = self.client(limits=Limits(handles=3))
        flags = u32(sftp.WRITE | sftp.CREAT)
        handles = [
            client.opendir(b"."),
            client.open(b"a", sftp.WRITE | sftp.CREAT),
            client.open(b"b", sftp.WRITE | sftp.CREAT),
        ]
        self.assertEqual(client.status("open", string(b"c"), flags, sftp.NO_ATTRS), sftp.FAILURE)
        self.assertEqual(client.status("opendir", string(b".")), sftp.FAILURE)
        self.assertEqual(sorted(os.listdir(self.root)), ["a", "b"])
        self.assertEqual(client.ask("stat", string(b".")).kind, "attrs")
        self.assertEqual(client.status("close", handles[0]), sftp.OK)
        client.open(b"c", sftp.WRITE | sftp.CREAT)

    def test_limits_tells_how_many_there_may_be(self):
        for limit in (1, 77):
            body = self.client(limits=Limits(handles=limit)).content("extended", "limits")
            self.assertEqual(body, u64(262144) + u64(261120) + u64(261120) + u64(limit))
        reader = packets.Reader(self.client().content("extended", "limits"))
        reader.take(24)
        self.assertIn(reader.u64(), range(16, os.sysconf("SC_OPEN_MAX")))

    def test_all_close_at_the_end_listings_that_were_never_read_too(self):
        (self.root / "f").write_bytes(b"x")
        before = len(descriptors())
        client = self.client()
        for _ in range(20):
            client.open(b"f")
            client.opendir(b".")
        begun = client.opendir(b".")
        client.ask("readdir", begun)
        self.assertGreaterEqual(len(descriptors()), before + 41)
        client.server.close()
        self.assertEqual(len(descriptors()), before)
        closed = [line for line in client.lines() if line.startswith("forced close")]
        self.assertEqual(len(closed), 41)

    def test_one_that_cannot_be_closed_does_not_keep_the_others_open(self):
        class Stubborn(Whole):
            def close(self, handle: object) -> None:
                super().close(handle)
                raise (ValueError, SystemExit, KeyboardInterrupt)[self.calls.count("close") % 3]

        storage = Stubborn()
        client = Client(storage)
        for _ in range(6):
            client.open(b"f")
        client.server.close()
        self.assertEqual(storage.calls.count("close"), 6)

    def test_a_listing_is_closed_once_by_close_or_by_the_end(self):
        storage = Listed([])
        client = Client(storage)
        first = client.opendir(b"d")
        client.opendir(b"d")
        self.assertEqual(client.status("close", first), sftp.OK)
        self.assertEqual(storage.closed, 1)
        client.server.close()
        client.server.close()
        self.assertEqual(storage.closed, 2)

    def test_a_file_whose_descriptor_cannot_be_told_is_closed_again(self):
        storage = Failing("fileno", ValueError())
        client = Client(storage)
        self.assertEqual(client.status("open", string(b"f"), u32(sftp.READ), sftp.NO_ATTRS), sftp.FAILURE)
        self.assertEqual(storage.calls, ["open", "fileno", "close"])
