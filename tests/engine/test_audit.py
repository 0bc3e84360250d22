"""The audit log: every request is recorded once, with the right names, result and numbers."""

from __future__ import annotations

import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.engine.bulk import LATE_FROM
from pysftpserver.engine.limits import Limits
from pysftpserver.engine.log import ERROR
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.hook import SFTPEvent, SFTPHook, SFTPHooks
from pysftpserver.pysftpexceptions import SFTPForbidden
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
from tests.differential.packets import EXTENDED, INIT
from tests.support import packets as sftp
from tests.support.auditing import ALWAYS, Audited, documented, moment
from tests.support.packets import Attributes, Client, attrs, packet, replies, request, string, u32, u64
from tests.support.storages import Failing, Whole

TABLE = [*REQUESTS.values(), *EXTENDED_REQUESTS.values()]
# What the requests in BODIES are about, in a session with the handles 1 (f), 2 (d) and 3 (g).
TARGETS = {"symlink": "f", "copy-data": "g"} | dict.fromkeys(("rename", "posix-rename", "hardlink"), "g")
PATHS: dict[str, str | None] = {"readdir": "d", "opendir": "d", "rmdir": "d", "mkdir": "new", "symlink": "l"}
PATHS |= {"readlink": "l"} | dict.fromkeys(("limits", "home-directory", "users-groups-by-id"))
BYTES = {"read": 5, "write": 1, "copy-data": 10}


class Veto(SFTPHook):
    """Refuses requests of one name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def before(self, event: SFTPEvent) -> None:
        if event.name == self._name:
            raise SFTPForbidden("not today")


class Case(Audited):
    def of_three_handles(self, storage: Any, *others: SFTPHook, **options: Any) -> Client:
        """A session with the handles that BODIES are about; what was recorded so far is forgotten."""
        client = self.session(storage, *others, **options)
        client.open(b"f", sftp.READ | sftp.WRITE)
        client.opendir(b"d")
        client.open(b"g", sftp.READ | sftp.WRITE)
        self.sink.lines.clear()
        return client

    def only(self) -> dict[str, Any]:
        """The one record since the last call."""
        (record,) = self.sink.records
        self.sink.lines.clear()
        return record

    def assert_recorded(self, name: str, result: str, moved: int) -> dict[str, Any]:
        record = self.only()
        found = [record["request"], record["path"], record.get("target"), record["result"], record["bytes"]]
        self.assertEqual(found, [name, PATHS.get(name, "f"), TARGETS.get(name), result, moved])
        return record


class EveryRequestIsRecordedOnce(Case):
    def each(self, client: Client) -> Any:
        """Send every row of the table, the one that closes a handle last; its name, and the reply."""
        for row in sorted(TABLE, key=lambda row: row.name == "close"):
            with self.subTest(row.name):
                yield row, client.ask(row.name, sftp.BODIES.get(row.name, b""))

    def test_when_it_is_served(self) -> None:
        for row, reply in self.each(self.of_three_handles(Whole())):
            self.assertFalse(reply.kind == "status" and reply.content, reply)
            self.assert_recorded(row.name, "OK", BYTES.get(row.name, 0))

    def test_when_it_is_refused_in_read_only_mode(self) -> None:
        client = self.session(Whole(), read_only=True)
        client.open(b"f", sftp.READ)
        client.opendir(b"d")
        client.open(b"g", sftp.READ)
        self.sink.lines.clear()
        for row, _ in self.each(client):
            refused = row.writes or row.name == "open"  # which BODIES opens for writing
            moved = 0 if refused else BYTES.get(row.name, 0)
            self.assert_recorded(row.name, "PERMISSION_DENIED" if refused else "OK", moved)

    def test_when_it_is_on_the_deny_list(self) -> None:
        for row in TABLE:
            with self.subTest(row.name):
                storage = Whole()
                client = self.session(storage, deny=[row.name])
                self.sink.lines.clear()
                client.ask(row.name, sftp.BODIES.get(row.name, b""))
                record = self.only()
                self.assertEqual(record["result"], "PERMISSION_DENIED")
                self.assertEqual((record["request"], storage.calls), (row.name, []))

    def test_when_another_hook_vetoes_it_whatever_their_order(self) -> None:
        for row in TABLE:
            if row.name in ("open", "opendir"):
                continue  # as good as the others, and needed to begin
            with self.subTest(row.name):
                client = self.of_three_handles(Whole(), Veto(row.name))
                client.ask(row.name, sftp.BODIES.get(row.name, b""))
                record = self.assert_recorded(row.name, "PERMISSION_DENIED", 0)
                self.assertEqual(record["message"], "not today")

    def test_when_it_fails(self) -> None:
        error = OSError(5, "Input/output error", "/a/path/of/the/host")
        ways = {"read": "read", "write": "write", "close": "close", "rename": "rename", "lstat": "lstat"}
        for name, method in ways.items():
            with self.subTest(name):
                client = self.of_three_handles(Failing(method, error))
                client.ask(name, sftp.BODIES[name])
                record = self.assert_recorded(name, "FAILURE", 0)
                self.assertEqual(record["message"], "Input/output error")
                self.assertNotIn(b"/a/path", b"".join(self.sink.lines))

    def test_when_the_storage_raises_what_nobody_expects(self) -> None:
        for error in (ZeroDivisionError("why"), SystemExit("why"), RecursionError(), MemoryError()):
            client = self.of_three_handles(Failing("rm", error))
            client.ask("remove", sftp.BODIES["remove"])
            self.assertIn(type(error).__name__, self.assert_recorded("remove", "FAILURE", 0)["message"])

    def test_when_it_is_cut_off_anywhere(self) -> None:
        client = self.of_three_handles(Whole())
        for row in TABLE:
            body = sftp.BODIES.get(row.name, b"")
            for length in range(0, len(body), 3):
                reply = client.ask(row.name, body[:length])
                record = self.only()
                if reply.content != 5:
                    self.assertEqual(record["request"], row.name)  # the rest could be left out
                    continue
                self.assertEqual((record["request"], record["result"]), (row.name, "BAD_MESSAGE"))
                self.assertLessEqual(set(record), {*ALWAYS, "message"})

    def test_when_it_is_over_a_limit(self) -> None:
        client = self.session(Whole(), limits=Limits(path=10, handles=1))
        self.sink.lines.clear()
        client.ask("mkdir", string(b"x" * 11) + sftp.NO_ATTRS)
        record = self.only()
        self.assertEqual(
            [record["request"], record["path"], record["result"]], ["mkdir", None, "BAD_MESSAGE"]
        )
        client.open(b"f")
        client.ask("open", sftp.BODIES["open"])
        record = self.sink.last
        self.assertEqual((record["path"], record["result"], len(self.sink.lines)), ("f", "FAILURE", 2))

    def test_when_it_is_unknown(self) -> None:
        client = self.session(Whole())
        self.sink.lines.clear()
        for body in (b"\x63" + u32(1), bytes((EXTENDED,)) + u32(1) + string(b"\n{}\x1b"), b"\xc8" + u32(1)):
            client.feed(u32(len(body)) + body)
            record = self.only()
            result = "BAD_MESSAGE" if len(body) == 5 and body[0] == EXTENDED else "OP_UNSUPPORTED"
            self.assertEqual([record[field] for field in ("request", "result")], ["unknown", result])

    def test_with_a_handle_that_is_none(self) -> None:
        client = self.session(Whole())
        self.sink.lines.clear()
        for name in ("read", "close", "readdir", "fsetstat", "copy-data", "fsync"):
            client.ask(name, sftp.BODIES[name])
            record = self.only()
            self.assertEqual([record[f] for f in ("request", "path", "result")], [name, None, "FAILURE"])

    def test_and_every_one_of_a_burst_in_its_order(self) -> None:
        client = self.of_three_handles(Whole())
        client.feed(b"".join(request("stat", n, string(b"%d" % n)) for n in range(100)))
        self.assertEqual([record["path"] for record in self.sink.records], [str(n) for n in range(100)])


class TheBeginningAndTheEnd(Case):
    def test_of_a_session_are_records_of_their_own(self) -> None:
        client = self.of_three_handles(Whole())
        for name in ("read", "write", "copy-data"):
            client.ask(name, sftp.BODIES[name])
        client.server.close()
        client.server.close()
        end = self.sink.last
        self.assertEqual([record["request"] for record in self.sink.records].count("end"), 1)
        self.assertEqual((end["bytes"], end["result"], end["path"]), (16, "OK", None))
        self.assertGreater(end["duration"], 0)

    def test_every_init_is_recorded_with_its_version(self) -> None:
        client = self.session(Whole())
        client.feed(packet(INIT, u32(2**32 - 1)))
        found = [(record["request"], record["version"]) for record in self.sink.records]
        self.assertEqual(found, [("init", 3), ("init", 2**32 - 1)])

    def test_an_init_that_is_refused_or_malformed_is_recorded(self) -> None:
        for data, hooks, result in (
            (sftp.HELLO, [Veto("init")], "PERMISSION_DENIED"),
            (packet(INIT, b"\0"), [], "BAD_MESSAGE"),
        ):
            with self.subTest(result):
                server = self.unborn(data, *hooks)
                self.assertIsNotNone(server.ended)
                self.assertEqual(server.output_queue, b"")
                self.assertEqual((self.only()["request"], len(self.sink.lines)), ("init", 0))

    def unborn(self, data: bytes, *hooks: SFTPHook) -> SFTPServer:
        server = SFTPServer(Whole(), hook=SFTPHooks(*hooks, self.audit()))
        server.input_queue = data + request("mkdir", 1, sftp.BODIES["mkdir"])
        server.process()
        return server

    def test_what_is_no_sftp_is_recorded_and_nothing_behind_it(self) -> None:
        for data in (
            request("stat", 1, string(b"f")),
            u32(0) + b"x",
            u32(2**32 - 1) + b"x",
            sftp.HELLO + u32(3) + b"\x0e\0\0",
        ):
            with self.subTest(data):
                self.sink.lines.clear()
                server = self.unborn(data)
                record = self.sink.last
                self.assertEqual([record["request"], record["result"]], ["unknown", "BAD_MESSAGE"])
                self.assertEqual(record["message"], server.ended)
                self.assertEqual(server.storage.calls, [])  # type: ignore[attr-defined]

    def test_times_are_utc_and_increase_and_durations_fit_in_between(self) -> None:
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        with mock.patch.dict(os.environ, {"TZ": "Asia/Kathmandu"}):
            time.tzset()
            try:
                client = self.of_three_handles(Whole())
                for _ in range(50):
                    client.ask("stat", sftp.BODIES["stat"])
                client.server.close()
            finally:
                del os.environ["TZ"]
                time.tzset()
        time.tzset()
        records = self.sink.records
        moments = [moment(record) for record in records]
        self.assertEqual(moments, sorted(moments))
        self.assertTrue(before < moments[0] <= moments[-1] < datetime.now(UTC))
        self.assertLess(sum(record["duration"] for record in records[:-1]), records[-1]["duration"])

    def test_every_session_has_a_name_of_its_own(self) -> None:
        for _ in range(20):
            self.session(Whole()).ask("stat", sftp.BODIES["stat"])
        names = [record["session"] for record in self.sink.records]
        self.assertEqual((len(names), len(set(names))), (40, 20))
        for name in names:
            self.assertRegex(name, r"\A[0-9a-f]{16}\Z")


class TransfersOfRealFiles(Case):
    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.content = os.urandom(3 * LATE_FROM)
        (self.root / "f").write_bytes(self.content)
        # With a log of errors only, and no hook, large READs would be late ones on the fast path.
        self.client = self.session(SFTPServerStorage(self.root), level=ERROR)

    def test_do_not_pass_it_by(self) -> None:
        handle = self.client.open(b"f", sftp.READ | sftp.WRITE)
        self.sink.lines.clear()
        sizes = [LATE_FROM, 3 * LATE_FROM, 10, 4 * LATE_FROM]
        reads = [request("read", n, handle, u64(0), u32(size)) for n, size in enumerate(sizes)]
        write = request("write", 9, handle, u64(5), string(b"x" * 100))
        answers = replies(self.client.feed(b"".join([*reads, write, request("remove", 10, string(b"f"))])))
        self.assertEqual([answer.content for _, answer in answers[:3]], [self.content[:s] for s in sizes[:3]])
        self.assertEqual([r["bytes"] for r in self.sink.records], [*sizes[:3], 3 * LATE_FROM, 100, 0])
        self.assertEqual([r.get("length") for r in self.sink.records], [*sizes, 100, None])
        self.assertEqual([r.get("offset") for r in self.sink.records], [0, 0, 0, 0, 5, None])
        self.assertEqual({r["path"] for r in self.sink.records}, {"f"})

    def test_past_the_end_move_what_there_is(self) -> None:
        handle = self.client.open(b"f")
        size = len(self.content)
        for offset, moved, result in ((size - 7, 7, "OK"), (size, 0, "EOF"), (2**41, 0, "EOF")):
            self.client.ask("read", handle, u64(offset), u32(100))
            record = self.sink.last
            self.assertEqual((record["bytes"], record["result"], record["offset"]), (moved, result, offset))

    def test_have_the_path_that_the_handle_was_opened_with(self) -> None:
        handle = self.client.open(b"f")
        self.client.ask("rename", string(b"f"), string(b"g"))
        self.client.ask("read", handle, u64(0), u32(1))
        self.assertEqual(self.sink.last["path"], "f")
        self.client.ask("close", handle)
        self.assertEqual((self.sink.last["request"], self.sink.last["path"]), ("close", "f"))

    def copied(self, client: Client, length: int) -> dict[str, Any]:
        source, target = client.open(b"f"), client.open(b"g", sftp.WRITE | sftp.CREAT | sftp.TRUNC)
        client.ask("copy-data", source, u64(0), u64(length), target, u64(7))
        record = self.sink.last
        self.assertEqual((record["path"], record["target"], record["target_offset"]), ("f", "g", 7))
        return record

    def test_in_the_server_have_both_paths_and_all_bytes(self) -> None:
        record = self.copied(self.client, 0)
        self.assertEqual((record["result"], record["bytes"]), ("OK", len(self.content)))
        self.assertEqual((self.root / "g").stat().st_size, len(self.content) + 7)

    def test_in_the_server_that_stop_half_way_have_the_bytes_that_were_copied(self) -> None:
        record = self.copied(self.client, 1 << 30)
        self.assertEqual((record["result"], record["bytes"]), ("EOF", len(self.content)))
        failing = Failing()
        client = self.session(failing)
        answers = iter((b"", b"abc"))  # the first is asked for to see whether reading works
        failing.read = lambda handle, off, size: next(answers)  # type: ignore[method-assign]
        client.status("copy-data", client.open(b"f"), u64(0), u64(9), client.open(b"g", sftp.WRITE), u64(0))
        self.assertEqual((self.sink.last["result"], self.sink.last["bytes"]), ("FAILURE", 3))
        client.server.close()
        self.assertEqual(self.sink.last["bytes"], 3)

    def test_that_fail_say_how_much_was_to_be_written(self) -> None:
        handle = self.client.open(b"f", sftp.READ)
        self.assertNotEqual(self.client.status("write", handle, u64(3), string(b"abc")), 0)
        record = self.sink.last
        self.assertEqual((record["bytes"], record["length"], record["offset"]), (0, 3, 3))


class TheFields(Case):
    def test_of_all_requests_are_those_that_the_page_names(self) -> None:
        client = self.of_three_handles(Whole())
        for row in TABLE:
            client.ask(row.name, sftp.BODIES.get(row.name, b""))
        client.ask("rename", string(b"\xff"), string(b"\xfe"))
        client.ask("home-directory", string(b"\xff"))
        everything = attrs(Attributes(size=1, owner=(2, 3), permissions=4, times=(5, 6)))
        client.ask("setstat", string(b"f"), everything)
        client.ask("close", string(b"nope"))
        client.feed(sftp.HELLO)
        client.server.close()
        seen = {field for record in self.sink.records for field in record}
        table, others = documented()
        self.assertEqual(table, set(ALWAYS))
        self.assertEqual(others, seen - table)

    def test_say_what_was_asked_for(self) -> None:
        client = self.session(Whole())
        most = 2**32 - 1
        wild = attrs(Attributes(size=2**64 - 1, owner=(most, most), permissions=most, times=(most, most)))
        client.ask("setstat", string(b"f"), wild)
        record = self.sink.last
        self.assertEqual(record["size"], 2**64 - 1)
        self.assertEqual({record[field] for field in ("uid", "gid", "atime", "mtime")}, {most})
        self.assertEqual(record["permissions"], "37777777777")
        client.ask("mkdir", string(b"d"), attrs(Attributes(permissions=0o40750)))
        self.assertEqual(self.sink.last["permissions"], "40750")
        for flags, words in ((most, "READ,WRITE,APPEND,CREATE,TRUNCATE,EXCL"), (0, ""), (10, "WRITE,CREATE")):
            client.ask("open", string(b"f"), u32(flags), sftp.NO_ATTRS)
            self.assertEqual(self.sink.last["flags"], words)
        client.ask("read", string(u32(1)), u64(2**64 - 1), u32(most))
        self.assertEqual((self.sink.last["offset"], self.sink.last["length"]), (2**64 - 1, most))
        self.assertEqual(client.status("close", string(b"nope")), sftp.FAILURE)
