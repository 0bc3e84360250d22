"""The audit log whose sink fails, and several hooks of one session: nothing goes on unrecorded."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

from pysftpserver.engine import audit
from pysftpserver.engine.audit import AuditLog
from pysftpserver.engine.log import MOST_LINE
from pysftpserver.hook import SFTPEvent, SFTPHook, SFTPHooks
from pysftpserver.pysftpexceptions import SFTPForbidden, SFTPSessionEnd
from pysftpserver.server import SFTPServer
from tests.support import packets as sftp
from tests.support.auditing import Audited, Kept
from tests.support.packets import HELLO, NO_ATTRS, packet, replies, request, string, u32
from tests.support.storages import Whole

FAULTS = (
    OSError(28, "No space left on device"),
    OSError("no number"),
    BrokenPipeError(32, "Broken pipe"),
    ValueError("a mistake in the sink"),
    MemoryError(),
)


def mkdir(name: bytes) -> bytes:
    return request("mkdir", 1, string(name), NO_ATTRS)


class ASinkThatFails(Audited):
    def test_ends_the_session_and_nothing_more_is_served(self) -> None:
        for error in FAULTS:
            with self.subTest(repr(error)):
                self.sink.room, self.sink.error, self.errors = 2, error, []
                storage = Whole()
                client = self.session(storage)
                client.feed(mkdir(b"one") + mkdir(b"two") + mkdir(b"three"))
                self.assertEqual(storage.calls, ["mkdir", "mkdir"])
                self.assertEqual(client.server.ended, "the audit log cannot be written")
                self.assertEqual(client.feed(mkdir(b"four")), b"")
                self.assertEqual(self.sink.last["path"], "one")
                self.assertIn("not recorded: {", self.errors[0])
                self.assertIn('"path":"two","result":"OK"', self.errors[0])
                client.server.close()
                self.assertEqual(storage.calls, ["mkdir", "mkdir"])

    def test_at_init_ends_it_before_anything(self) -> None:
        self.sink.room = 0
        server = SFTPServer(Whole(), hook=self.audit())
        server.input_queue = HELLO + mkdir(b"one")
        server.process()
        self.assertEqual((server.output_queue, server.storage.calls), (b"", []))  # type: ignore[attr-defined]
        self.assertIsNotNone(server.ended)

    def test_ends_it_whatever_is_refused_malformed_or_no_sftp(self) -> None:
        for data in (request("mkdir", 1), request("stat", 1, string(b"f")), packet(99, u32(1)), bytes(5)):
            self.sink.room = 1
            client = self.session(Whole(), deny=["stat"])
            client.feed(data)
            self.assertEqual(client.server.ended, "the audit log cannot be written", data)

    def test_leaves_its_record_in_the_log_in_pieces_of_which_none_is_cut(self) -> None:
        self.sink.room = 1
        name = b"\x1b\n" * 2000
        self.session(Whole()).feed(mkdir(name))
        self.assertGreater(len(self.errors), 10)
        pieces = []
        for line in self.errors:
            self.assertLessEqual(len(line), MOST_LINE)
            before, words, piece = line.partition("; not recorded: ")
            self.assertEqual((before, bool(words)), ("audit: no space left on device", True))
            pieces.append(piece)
        self.assertIn('"path":"' + "\\u001b\\n" * 2000 + '","result":"OK"', "".join(pieces))

    def test_that_a_record_cannot_be_made_is_no_less(self) -> None:
        for best_effort in (False, True):
            client = self.session(Whole(), best_effort=best_effort)
            with mock.patch.object(AuditLog, "_line", side_effect=MemoryError):
                client.feed(mkdir(b"one"))
            self.assertIn("audit: MemoryError; not recorded: (SFTPEvent('mkdir', path=b'one'", self.errors[0])
            self.assertEqual(client.server.ended is None, best_effort)
            self.errors.clear()

    def test_at_the_end_is_logged_and_raises_nothing(self) -> None:
        client = self.session(Whole())
        self.sink.room = 0
        client.server.close()
        self.assertIn('"request":"end"', self.errors[0])
        self.assertEqual(self.errors[1:], ["audit: 1 records were lost"])

    def test_with_best_effort_lets_the_session_go_on_and_the_log_says_so_once(self) -> None:
        storage = Whole()
        client = self.session(storage, best_effort=True)
        self.sink.room = 1
        for number in range(10):
            client.status("mkdir", string(b"%d" % number), NO_ATTRS)
        self.assertEqual((len(self.errors), storage.calls), (1, ["mkdir"] * 10))
        self.sink.room = 1
        client.status("mkdir", string(b"again"), NO_ATTRS)
        self.assertEqual(self.errors[1:], ["audit: 9 records were lost; now it can be written again"])
        client.status("mkdir", string(b"x"), NO_ATTRS)
        self.assertEqual(len(self.errors), 3)
        client.server.close()
        self.assertEqual(self.errors[3:], ["audit: 2 records were lost"])
        self.assertIsNone(client.server.ended)

    def test_does_not_hold_up_an_interrupt(self) -> None:
        client = self.session(Whole(), best_effort=True)
        self.sink.room, self.sink.error = 0, KeyboardInterrupt()
        with self.assertRaises(KeyboardInterrupt):
            client.feed(mkdir(b"one"))
        self.sink.room = 1


class RecordsThatWait(Audited):
    """Those of requests that change nothing, where the sink can store several at once."""

    def setUp(self) -> None:
        super().setUp()
        self.sink = self.together = Together()

    def stats(self, *names: bytes) -> bytes:
        return b"".join(request("stat", 1, string(name)) for name in names)

    def names(self) -> list[str]:
        return [record["request"] for record in self.sink.records]

    def test_are_stored_at_once_before_the_replies_leave(self) -> None:
        client = self.session(Whole())
        client.feed(self.stats(b"a", b"b", b"c"))
        self.assertEqual(self.together.calls, [3])
        self.assertEqual(self.names(), ["init", "stat", "stat", "stat"])

    def test_wait_for_no_change_and_no_change_waits(self) -> None:
        seen: list[list[str]] = []
        storage = Whole()
        storage.act = lambda method: method == "fileno" or seen.append(self.names())  # type: ignore
        flags = sftp.READ | sftp.CREAT
        client = self.session(storage)
        client.feed(
            self.stats(b"a") + mkdir(b"b") + request("open", 1, string(b"c"), u32(flags), NO_ATTRS)
            + request("open", 1, string(b"c"), u32(sftp.READ), NO_ATTRS) + self.stats(b"d") + mkdir(b"e")
        )  # fmt: skip
        looked = ["init", "stat", "mkdir", "open"]
        self.assertEqual(seen, [["init"], ["init"], looked[:3], looked, looked, looked])
        self.assertEqual(self.names(), [*looked, "open", "stat", "mkdir"])

    def test_are_not_many_and_not_long(self) -> None:
        seen: list[int] = []
        storage = Whole()
        storage.act = lambda method: seen.append(len(self.sink.lines))  # type: ignore[method-assign]
        client = self.session(storage)
        client.feed(self.stats(b"x" * audit.LONG, *[b"a"] * (audit.MOST_WAITING + 1)))
        self.assertEqual(seen[-2:], [2, 2 + audit.MOST_WAITING])

    def test_that_cannot_be_stored_end_the_session_and_look_ups_are_not_answered(self) -> None:
        looks, change = self.stats(b"a", b"b", b"c"), self.stats(b"a", b"b") + mkdir(b"c")
        for stored, data, answered in ((0, looks, 0), (2, looks, 0), (0, change, 3), (2, change, 3)):
            self.setUp()
            client = self.session(Whole())
            self.sink.room = self.together.at_once = stored
            self.assertEqual(len(replies(client.feed(data))), answered)
            self.assertEqual(client.server.ended, "the audit log cannot be written")
            self.assertEqual(self.names(), ["init", "stat", "stat"][: 1 + stored])
            lost = [line for line in self.errors if "not recorded" in line]
            for name, line in zip("abc"[stored:], lost, strict=True):
                self.assertIn(f'"path":"{name}"', line)

    def test_with_best_effort_are_lost_and_the_session_goes_on(self) -> None:
        client = self.session(Whole(), best_effort=True)
        self.sink.room = self.together.at_once = 1
        self.assertEqual(len(replies(client.feed(self.stats(b"a", b"b", b"c")))), 3)
        self.sink.room = float("inf")
        client.feed(self.stats(b"d", b"e"))
        self.assertEqual(self.errors[1:], ["audit: 2 records were lost; now it can be written again"])

    def test_of_a_session_that_ends_are_stored(self) -> None:
        audit = self.audit()
        server = SFTPServer(Whole(), hook=SFTPHooks(audit))
        audit.after(SFTPEvent("stat", {"path": b"a"}, b"a"))
        self.assertEqual(self.sink.lines, [])
        server.close()
        self.assertEqual(self.names(), ["stat", "end"])


class Together(Kept):
    """A sink that can store several lines at once: as many as at_once, and calls has how many it stored."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.at_once: int | None = None

    def store_all(self, lines: list[bytes]) -> int:
        stored = lines[: self.at_once]
        for line in stored:
            self(line)
        self.calls.append(len(stored))
        return len(stored)


class Noted(SFTPHook):
    """Notes its calls in a list that it shares, and raises where it is told to."""

    def __init__(self, name: str, calls: list[str], **errors: BaseException) -> None:
        self._name = name
        self._calls = calls
        self._errors = errors

    def note(self, what: str) -> None:
        self._calls.append(f"{self._name}.{what}")
        if what in self._errors:
            raise self._errors[what]

    def started(self) -> None:
        self.note("started")

    def ended(self) -> None:
        self.note("ended")

    def before(self, event: SFTPEvent) -> None:
        if event.name != "init":
            self.note("before")

    def after(self, event: SFTPEvent) -> None:
        if event.name != "init":
            self.note("after")

    def rejected(self, event: SFTPEvent) -> None:
        self.note(f"rejected {event.name}")


class SeveralHooks(unittest.TestCase):
    def server(self, one: dict[str, Any], two: dict[str, Any], data: bytes) -> tuple[SFTPServer, list[str]]:
        calls: list[str] = []
        server = SFTPServer(Whole(), hook=SFTPHooks(Noted("1", calls, **one), Noted("2", calls, **two)))
        self.addCleanup(server.close)
        server.input_queue = HELLO + data
        server.process()
        return server, calls

    def test_are_asked_and_told_in_their_order(self) -> None:
        server, calls = self.server({}, {}, mkdir(b"a") + request("mkdir", 2))
        server.close()
        steps = ("started", "before", "after", "rejected mkdir", "ended")
        self.assertEqual(calls, [f"{hook}.{step}" for step in steps for hook in "12"])

    def test_are_asked_up_to_the_first_veto_and_all_told(self) -> None:
        server, calls = self.server({"before": SFTPForbidden()}, {}, mkdir(b"a"))
        self.assertEqual(calls[2:], ["1.before", "1.after", "2.after"])
        server, calls = self.server({}, {"before": SFTPForbidden()}, mkdir(b"a"))
        self.assertEqual(calls[2:], ["1.before", "2.before", "1.after", "2.after"])
        self.assertEqual(server.storage.calls, [])  # type: ignore[attr-defined]

    def test_are_all_told_whatever_one_of_them_raises(self) -> None:
        fault = ValueError("x")
        errors = {"after": fault, "ended": fault, "rejected mkdir": fault}
        server, calls = self.server(errors, errors, mkdir(b"a") + request("mkdir", 2) + mkdir(b"b"))
        self.assertIsNone(server.ended)
        server.close()
        told = [call for call in calls[2:] if "before" not in call]
        steps = ("after", "rejected mkdir", "after", "ended")
        self.assertEqual(told, [f"{hook}.{step}" for step in steps for hook in "12"])

    def test_end_the_session_if_one_of_them_wants_to(self) -> None:
        for one, two in (
            (ValueError("x"), SFTPSessionEnd("over")),
            (SFTPSessionEnd("over"), ValueError("x")),
        ):
            for step in ("after", "rejected mkdir"):
                data = mkdir(b"a") + request("mkdir", 2)
                server, calls = self.server({step: one}, {step: two}, data + mkdir(b"b"))
                self.assertEqual(server.ended, "over")
                self.assertEqual(calls[-2:], [f"1.{step}", f"2.{step}"])

    def test_do_not_swallow_an_interrupt(self) -> None:
        with self.assertRaises(KeyboardInterrupt):
            self.server({"after": ValueError("x")}, {"after": KeyboardInterrupt()}, mkdir(b"a"))

    def test_none_at_all_are_like_no_hook(self) -> None:
        server = SFTPServer(Whole(), hook=SFTPHooks())
        server.input_queue = HELLO + mkdir(b"a")
        server.process()
        server.close()
        self.assertEqual(server.storage.calls, ["mkdir"])  # type: ignore[attr-defined]
