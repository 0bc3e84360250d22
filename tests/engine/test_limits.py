"""Limits: what reaching one does, with the engine alone. tests/cli/test_limits.py has
the commands, tests/resident/ the memory."""

from __future__ import annotations

import os
import unittest

from pysftpserver.engine.limits import LIMITS, Limits
from tests.support import packets as sftp
from tests.support.cases import InADirectory
from tests.support.packets import replies, request, split, string, u32, u64

EXTENDED_FLAG = 0x80000000


def extended_attrs(count: int) -> bytes:
    """ATTRS with nothing but so many extended pairs."""
    return u32(EXTENDED_FLAG) + u32(count) + (string(b"") + string(b"")) * count


class TheTable(unittest.TestCase):
    def test_every_limit_has_a_value_in_its_range_by_default(self):
        limits = Limits()
        for limit in LIMITS:
            with self.subTest(limit.name):
                value = getattr(limits, limit.name)
                self.assertTrue(value is None or limit.least <= value <= limit.most)

    def test_a_value_out_of_range_and_an_unknown_name_are_told(self):
        for limit in LIMITS:
            for value in (limit.least - 1, limit.most + 1):
                with self.subTest(limit.name, value=value), self.assertRaisesRegex(ValueError, limit.name):
                    Limits(**{limit.name: value})
        with self.assertRaisesRegex(ValueError, "no such limit: speed"):
            Limits(speed=1)

    def test_the_handles_leave_descriptors_for_what_else_there_is(self):
        self.assertLess(2 * Limits().handles, os.sysconf("SC_OPEN_MAX"))


class Reaching(InADirectory):
    def lines(self, client) -> list[str]:
        return [text.partition(": ")[2] for _, text in client.log if ": Limit reached: " in text]

    def test_a_packet_over_the_limit_ends_the_session_and_one_of_that_length_does_not(self):
        for limit in (34_000, 50_000, 262_144):
            for over in (0, 1):
                with self.subTest(limit, over=over):
                    client = self.client(limits=Limits(packet=limit))
                    start = request("stat", 7, string(b"."))
                    length = limit + over
                    body = bytes((17,)) + u32(8) + string(b".")
                    data = start + u32(length) + body + bytes(length - len(body))
                    answered = replies(client.feed(data))
                    self.assertEqual([number for number, _ in answered], [7] if over else [7, 8])
                    self.assertEqual(client.server.ended, f"a packet of {length} bytes" if over else None)

    def test_a_smaller_packet_limit_holds_for_replies_too_and_is_told_to_who_asks(self):
        (self.root / "f").write_bytes(bytes(300_000))
        for number in range(800):
            (self.root / f"a-rather-long-name-of-an-entry-{number}").touch()
        client = self.client(limits=Limits(packet=40_000))
        body = client.content("extended", "limits")
        self.assertEqual(body[:24], u64(40_000) + u64(40_000 - 1024) + u64(40_000 - 1024))
        for asked in (262_144, 40_000, 39_000):
            answer = client.feed(request("read", 1, client.open(b"f"), u64(0), u32(asked)))
            self.assertLessEqual(len(answer), 40_004)
            self.assertEqual(len(replies(answer)[0][1].content), 40_000 - 1024)
        listing = client.opendir(b".")
        seen = 0
        while True:
            answer = client.feed(request("readdir", 1, listing))
            self.assertLessEqual(len(answer), 40_004)
            reply = replies(answer)[0][1]
            if reply.kind == "status":
                self.assertEqual(reply.content, sftp.EOF)
                break
            seen += len(reply.content)
        self.assertEqual(seen, 803)

    def test_a_write_over_the_packet_limit_is_refused_on_the_fast_path_too(self):
        client = self.client(limits=Limits(packet=34_000), level=0)
        handle = client.open(b"new", sftp.WRITE | sftp.CREAT)
        client.feed(request("write", 1, handle, u64(0), string(bytes(34_000 - 24))))
        self.assertEqual(client.server.ended, "a packet of 34001 bytes")
        self.assertEqual((self.root / "new").read_bytes(), b"")

    def test_a_long_path_is_refused_in_every_request_that_has_one(self):
        (self.root / "f").touch()
        bodies = {
            "open": [string(b"{}"), u32(sftp.READ), sftp.NO_ATTRS],
            "lstat": [string(b"{}")],
            "setstat": [string(b"{}"), sftp.NO_ATTRS],
            "opendir": [string(b"{}")],
            "remove": [string(b"{}")],
            "mkdir": [string(b"{}"), sftp.NO_ATTRS],
            "rmdir": [string(b"{}")],
            "realpath": [string(b"{}")],
            "stat": [string(b"{}")],
            "readlink": [string(b"{}")],
            "statvfs": [string(b"{}")],
            "lsetstat": [string(b"{}"), sftp.NO_ATTRS],
            "expand-path": [string(b"{}")],
            "home-directory": [string(b"{}")],
        }
        for name in ("rename", "posix-rename", "hardlink", "symlink"):
            bodies[name] = [string(b"{}"), string(b"f")]
            bodies[f"{name} "] = [string(b"f"), string(b"{}")]
        long = b"x" * 65
        client = self.client(limits=Limits(path=64))
        for name, parts in bodies.items():
            with self.subTest(name):
                body = [string(long) if part == string(b"{}") else part for part in parts]
                reply = client.ask(name.strip(), *body)
                self.assertEqual((reply.kind, reply.content), ("status", sftp.BAD_MESSAGE))
                self.assertEqual(reply.message, b"Limit reached: a path of 65 bytes, where 64 are allowed")
        self.assertEqual(len(self.lines(client)), len(bodies))
        self.assertEqual(os.listdir(self.root), ["f"])
        self.assertEqual(client.ask("realpath", string(b"y" * 64)).kind, "name")

    def test_extended_attributes_are_refused_over_the_limit_and_passed_over_up_to_it(self):
        (self.root / "f").touch()
        for limit in (0, 3, 64):
            client = self.client(limits=Limits(extended=limit))
            handle = client.open(b"f")
            for count, status in ((limit, sftp.OK), (limit + 1, sftp.BAD_MESSAGE)):
                with self.subTest(limit, count=count):
                    attributes = extended_attrs(count)
                    self.assertEqual(client.status("setstat", string(b"f"), attributes), status)
                    self.assertEqual(client.status("fsetstat", handle, attributes), status)
                    name = f"d{limit}-{count}"
                    self.assertEqual(client.status("mkdir", string(name.encode()), attributes), status)
                    self.assertEqual((self.root / name).exists(), status == sftp.OK)
            self.assertEqual(len(self.lines(client)), 3)

    def test_a_listing_comes_in_replies_of_no_more_entries_and_is_whole(self):
        names = {f"e{number}".encode() for number in range(250)} | {b".", b".."}
        for name in names - {b".", b".."}:
            (self.root / os.fsdecode(name)).touch()
        for limit in (1, 100, 252, 4096):
            client = self.client(limits=Limits(entries=limit))
            listing = client.opendir(b".")
            seen: list[bytes] = []
            while (reply := client.ask("readdir", listing)).kind == "name":
                self.assertLessEqual(len(reply.content), limit)
                seen += [entry[0] for entry in reply.content]
            with self.subTest(limit):
                self.assertEqual(reply.content, sftp.EOF)
                self.assertEqual(sorted(seen), sorted(names))

    def test_no_more_handles_are_opened_and_the_log_says_so(self):
        (self.root / "f").touch()
        client = self.client(limits=Limits(handles=2))
        client.open(b"f")
        client.opendir(b".")
        reply = client.ask("open", string(b"f"), u32(sftp.READ), sftp.NO_ATTRS)
        self.assertEqual(reply.content, sftp.FAILURE)
        self.assertEqual(self.lines(client), ["Limit reached: 2 open handles; close some of them first"])

    def test_the_queue_pauses_the_session_and_loses_nothing(self):
        client = self.client(limits=Limits(queue=1000))
        stream = b"".join(request("stat", number, string(b".")) for number in range(500))
        view, start, answers = memoryview(stream), 0, []
        pauses = 0
        while start < len(stream):
            start = client.server.consume(view, start, len(stream))
            self.assertLessEqual(client.server.output.size, 1000 + 100)
            answers += split(client.server.output_queue)
            client.server.output_queue = b""
            pauses += 1
        self.assertEqual(len(answers), 500)
        self.assertGreater(pauses, 10)

    def test_what_is_no_limit_of_a_request_stays_what_it_was(self):
        client = self.client(limits=Limits(path=1, extended=0))
        self.assertEqual(client.status("extended", string(b"a" * 100)), sftp.OP_UNSUPPORTED)
        self.assertEqual(client.status("close", string(b"h" * 5000)), sftp.FAILURE)
