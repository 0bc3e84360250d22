"""The chain of an audit log: whatever is done to its records is found, and nothing else is complained of."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from unittest import mock

from pysftpserver.cli import common, pysftp_audit
from pysftpserver.engine import chain
from pysftpserver.engine.audit import AuditLog
from pysftpserver.engine.chain import STATE, chained_sink, link_of
from pysftpserver.engine.log import DEBUG3, SFTPLog
from pysftpserver.service.audit import AuditFile, DoorAudit
from pysftpserver.service.verifying import Verified, verify
from tests.support.cases import InAPlace
from tests.support.examples import given, settings, st
from tests.support.hard import IS_HARD
from tests.support.packets import Client
from tests.support.paths import ROOT
from tests.support.storages import Whole
from tests.support.waiting import PATIENCE, until

MANY = """
import sys
from pysftpserver.engine.chain import STATE, chained_sink
sink = chained_sink(sys.argv[1], sys.argv[1] + STATE)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    sink(b'{"text":"%b"}\\n' % (b"x" * (number * 7919 % 3000)))
"""
COUNT = 6  # records of the log that is changed


class ChainCase(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.place / "audit"

    def sink(self, path: Path | None = None) -> chain.ChainedSink:
        sink = chained_sink(os.fspath(path or self.path), os.fspath(self.path) + STATE)
        assert isinstance(sink, chain.ChainedSink)
        return sink

    def written(self, count: int = COUNT) -> list[bytes]:
        """A log with so many records; its lines."""
        sink = self.sink()
        for number in range(count):
            sink(b'{"text":"%d"}\n' % number)
        return self.path.read_bytes().splitlines(keepends=True)

    def verified(self, *paths: Path, **heads: str) -> Verified:
        found = {int(name[1:]): digest for name, digest in heads.items()}
        return verify([os.fspath(path) for path in paths or (self.path,)], found)

    def assert_good(self, count: int, *paths: Path) -> None:
        found = self.verified(*paths)
        self.assertEqual((found.problems, found.records), ([], count))


class AChain(ChainCase):
    def test_has_numbers_and_hashes_in_records_that_are_json_as_before(self) -> None:
        self.written()
        self.sink()(b'{"text":"\\",\\"seq\\":9"}\n')
        records = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        self.assertEqual([record["seq"] for record in records], list(range(1, COUNT + 2)))
        self.assertEqual([r["prev"] for r in records], [chain.NONE, *(r["hash"] for r in records[:-1])])
        self.assert_good(COUNT + 1)

    def test_is_the_same_for_records_that_are_stored_together(self) -> None:
        sink = self.sink()
        self.path.write_bytes(b"half a li")
        for _ in range(2):
            self.assertEqual(sink.store_all([b'{"text":"%d"}\n' % number for number in range(3)]), 3)
            sink(b'{"text":"alone"}\n')
        self.assert_good(8)

    def test_is_one_for_all_sessions_that_write_at_once(self) -> None:
        processes = [self.begun("300") for _ in range(2)]
        for process in processes:
            process.communicate(timeout=PATIENCE)
        self.assert_good(600)

    def test_goes_on_after_sessions_that_were_killed_at_any_moment(self) -> None:
        for _ in range(5):
            process = self.begun("1000000")
            size = self.path.stat().st_size if self.path.exists() else 0
            until(lambda: self.path.exists() and self.path.stat().st_size > size + 9999, "it writes")  # noqa: B023
            process.kill()
            process.communicate()
        self.written(1)
        self.assertEqual(self.verified().problems, [])

    def begun(self, count: str) -> subprocess.Popen[bytes]:
        """A process that writes so many records."""
        process = subprocess.Popen(
            [sys.executable, "-c", MANY, self.path, count],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        return process

    def test_goes_on_after_a_session_that_was_killed_in_the_middle_of_a_line(self) -> None:
        for rest in (b'{"text":"hal', b"{", b'{"text":"a line"\n', b'{"a":1\n{"b'):
            with self.subTest(rest):
                self.path.unlink(missing_ok=True)
                (self.place / f"audit{STATE}").unlink(missing_ok=True)
                self.written(2)
                with self.path.open("ab") as file:
                    file.write(rest)
                if rest.count(b"\n") == 0:
                    self.assert_good(2)
                self.written(2)
                self.assert_good(4)
                self.assertEqual(len(self.verified().notes), 1)
                damaged = self.path.read_bytes().replace(rest[:-1], rest[:-1][::-1] + b"?", 1)
                self.path.write_bytes(damaged)
                self.assertTrue(self.verified().problems)

    def test_goes_on_after_one_that_was_killed_before_it_noted_what_it_had_written(self) -> None:
        self.written(2)
        state = (self.place / f"audit{STATE}").read_bytes()
        self.written(2)
        (self.place / f"audit{STATE}").write_bytes(state)
        self.assert_good(4)
        self.written(1)
        self.assert_good(5)

    def test_goes_on_from_the_last_record_if_its_head_is_lost(self) -> None:
        for content in (b"", b"rubbish"):
            self.written(2)
            (self.place / f"audit{STATE}").write_bytes(content)
        self.written(2)
        self.assert_good(6)

    def test_may_begin_in_a_log_that_has_records_already(self) -> None:
        for before in (b'{"a":1}\n{"b":2}\n', b'{"a":1}\n{"b'):
            self.path.write_bytes(before)
            (self.place / f"audit{STATE}").unlink(missing_ok=True)
            self.written(3)
            self.assert_good(3)
            self.path.write_bytes(self.path.read_bytes().replace(b'{"a":1}', b'{"a":2}'))
            self.assertTrue(self.verified().problems)

    def test_goes_through_rotation_whoever_writes_where(self) -> None:
        old = self.sink()
        old(b'{"n":1}\n')
        moved = self.path.rename(self.place / "audit.1")
        new = self.sink()
        for sink in (new, old, new, old):
            sink(b'{"n":2}\n')
        self.assert_good(5, self.path, moved)
        packed = self.place / "audit.1.gz"
        packed.write_bytes(gzip.compress(moved.read_bytes()))
        self.assert_good(5, packed, self.path)
        self.assertTrue(self.verified(self.path).problems)
        first = link_of(self.path.read_bytes().splitlines()[0])
        assert first is not None
        self.assertTrue(self.verified(self.path, h1=first.prev).problems, "there is one more gap")

    def test_goes_on_when_the_log_is_copied_and_emptied(self) -> None:
        sink = self.sink()
        sink(b'{"n":1}\n')
        copy = self.place / "audit.1"
        copy.write_bytes(self.path.read_bytes())
        os.truncate(self.path, 0)
        sink(b'{"n":2}\n')
        self.assert_good(2, copy, self.path)
        first = link_of(copy.read_bytes()[:-1])
        assert first is not None
        self.assertEqual(self.verified(self.path, h1=first.hash).problems, [])

    def test_is_the_doors_as_well_and_the_log_has_its_head(self) -> None:
        file = AuditFile(os.fspath(self.path), True)
        lines: list[str] = []
        log = SFTPLog(lambda level, text: lines.append(text), DEBUG3)
        for name in ("alice", "bob"):
            audit = DoorAudit(file, name, None, None, log)
            audit.note("get", path=b"/f", size=3)
            audit.ended()
            file.reopen()
        hook = AuditLog(self.sink(), "carol", None, None, log)
        Client(Whole(), hook=hook).server.close()
        self.assert_good(6)
        heads = [line.partition("audit head ")[2] for line in lines if "audit head" in line]
        self.assertEqual([head.partition(":")[0] for head in heads], ["2", "4", "6"])
        self.assertEqual(self.verified().head, heads[-1])

    def test_of_what_is_no_regular_file_is_refused(self) -> None:
        os.mkfifo(self.path)
        reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        with self.assertRaises(OSError):
            self.sink()


class WhatIsDoneToAChain(ChainCase):
    def setUp(self) -> None:
        super().setUp()
        self.lines = self.written()

    def assert_found(self, lines: list[bytes]) -> list[str]:
        if lines == self.lines:
            return []
        self.path.write_bytes(b"".join(lines))
        problems = self.verified().problems
        self.assertTrue(problems, lines)
        return problems

    @settings(max_examples=400 if IS_HARD else 60, deadline=None)
    @given(st.integers(0, COUNT - 1), st.integers(0, 10_000), st.integers(1, 255))
    def test_is_found_for_every_byte_that_is_changed(self, number: int, place: int, change: int) -> None:
        line = bytearray(self.lines[number])
        place %= len(line) - 1
        line[place] ^= change
        problems = self.assert_found([*self.lines[:number], bytes(line), *self.lines[number + 1 :]])
        if chr(line[place]) != "\n":
            self.assertIn(f"audit, line {number + 1}: ", problems[0])

    @settings(max_examples=400 if IS_HARD else 60, deadline=None)
    @given(st.permutations(range(COUNT)), st.integers(1, COUNT))
    def test_is_found_for_any_order_and_any_part_of_it(self, order: list[int], count: int) -> None:
        self.assert_found([self.lines[number] for number in order[:count]])

    def test_is_found_for_each_record_that_is_removed_doubled_or_forged(self) -> None:
        for number in range(COUNT):
            without = [*self.lines[:number], *self.lines[number + 1 :]]
            self.assert_found(without)
            self.assert_found([*self.lines[: number + 1], *self.lines[number:]])
            self.assert_found([*self.lines[:number], b'{"text":"new"}\n', *self.lines[number:]])
            self.assert_found([*self.lines[:number], self.forged(number), *self.lines[number + 1 :]])
            self.assert_found(self.lines[:number])

    def forged(self, number: int) -> bytes:
        """A record with another text, and the hash for that."""
        other = self.place / "other"
        other.mkdir(exist_ok=True)
        link = link_of(self.lines[number][:-1])
        assert link is not None
        (other / f"audit{STATE}").write_text(chain.HEAD % (number, link.prev, 0, 0, 0))
        (other / "audit").write_bytes(b"")
        chained_sink(os.fspath(other / "audit"), os.fspath(other / f"audit{STATE}"))(b'{"text":"forged"}\n')
        return (other / "audit").read_bytes()

    def test_is_named_with_its_line(self) -> None:
        changed = self.lines[2].replace(b'"2"', b'"9"')
        problems = self.assert_found([*self.lines[:2], changed, *self.lines[3:]])
        self.assertEqual(problems, [f"{self.path}, line 3: record 3 was changed"])
        problems = self.assert_found([*self.lines[:2], self.forged(2), *self.lines[3:]])
        self.assertEqual(
            problems, [f"{self.path}, line 3: record 3 was replaced; record 4 follows another one"]
        )
        problems = self.assert_found([*self.lines[:2], *self.lines[3:]])
        self.assertEqual(problems, [f"{self.path}, line 3: record 3 is missing before record 4"])

    def test_is_found_with_a_head_that_was_kept_if_the_end_is_cut_off_and_its_note_with_it(self) -> None:
        head = link_of(self.lines[-1][:-1])
        assert head is not None
        self.path.write_bytes(b"".join(self.lines[:-1]))
        (self.place / f"audit{STATE}").unlink()
        found = self.verified()
        self.assertEqual((found.problems, len(found.notes)), ([], 1))
        self.assertEqual(len(self.verified(h6=head.hash).problems), 1)


class TheCommand(ChainCase):
    def run_it(self, *words: str | Path) -> tuple[int, list[str]]:
        with contextlib.redirect_stdout(io.StringIO()) as out, mock.patch.object(common, "tell"):
            status = pysftp_audit.main([os.fspath(word) for word in words])
        return status, out.getvalue().splitlines()

    def test_verifies_with_an_exit_status_and_a_head_that_it_takes_again(self) -> None:
        lines = self.written()
        status, (text,) = self.run_it("verify", self.path)
        self.assertEqual(status, 0)
        self.assertRegex(text, rf"\A{COUNT} records, no problem, head {COUNT}:[0-9a-f]{{64}}\Z")
        head = text.rpartition(" ")[2]
        self.assertEqual(self.run_it("verify", "--head", head, self.path)[0], 0)
        self.path.write_bytes(b"".join(lines[1:]))
        self.assertEqual(self.run_it("verify", "--head", head, self.path)[0], 1)

    def test_says_once_that_a_log_has_no_chain(self) -> None:
        self.path.write_text('{"request": "open"}\n' * 3)
        status, said = self.run_it("verify", self.path)
        no_chain = f"{self.path}: none of 3 lines is a record of a chain; was it written with a chain?"
        self.assertEqual((status, said.count(no_chain), len(said)), (1, 1, 3))

    def test_refuses_what_it_cannot_read(self) -> None:
        for words in (
            ["verify"],
            ["verify", "--head", "x", self.path],
            ["verify", self.place],
            ["who", "/f"],
        ):
            self.assertEqual(self.run_it(*words), (2, []))

    def test_says_who_did_what_to_a_file_and_follows_renames(self) -> None:
        sink = self.sink()

        def note(user: str, request: str, path: str, result: str = "OK", **more: object) -> None:
            log = DoorAudit(sink, user, "192.0.2.1", 1, SFTPLog())
            log.note(request, result, path=os.fsencode(path), **more)  # type: ignore[arg-type]

        note("alice", "close", "/in/.x.part", read=0, written=9, sha256="ab")
        note("alice", "rename", "/in/.x.part", target=b"/in/x")
        note("bob", "close", "in/x", read=9, written=0)
        note("bob", "remove", "/in/x", "PERMISSION_DENIED")
        note("eve", "get", "/other", size=5)
        note("carol", "rename", "/in", target=b"/old")
        note("carol", "remove", "/old/x")
        note("dave", "put", "/in/x", size=4)
        status, lines = self.run_it("who", "/in/x", self.path)
        self.assertEqual(status, 0)
        found = [line.split(" ", 1)[1] for line in lines]
        self.assertEqual(
            found,
            [
                "alice 192.0.2.1 stored 9 bytes, sha256 ab: /in/.x.part",
                "alice 192.0.2.1 renamed to /in/x: /in/.x.part",
                "bob 192.0.2.1 fetched 9 bytes: /in/x",
                "carol 192.0.2.1 removed: /old/x",
                "dave 192.0.2.1 stored 4 bytes: /in/x",
            ],
        )
        self.assertEqual(self.run_it("who", "/nothing", self.path), (0, []))

    def test_says_who_fetched_a_file_by_a_shared_link(self) -> None:
        shared = {
            "time": "t",
            "session": "s",
            "peer": "192.0.2.9",
            "user": "al",
            "path": "/f",
            "result": "OK",
        }
        shared |= {"share": "5f0c"}
        records = [shared | {"request": "open", "bytes": 0}, shared | {"request": "close", "bytes": 7}]
        self.path.write_text("".join(json.dumps(record) + "\n" for record in records))
        told = "t al 192.0.2.9 by the link 5f0c fetched 7 bytes: /f"
        self.assertEqual(self.run_it("who", "/f", self.path), (0, [told]))


class AnyLine(ChainCase):
    def test_that_is_no_record_of_a_chain_is_none(self) -> None:
        self.written(1)
        line = self.path.read_bytes()[:-1]
        self.assertIsNotNone(link_of(line))
        generator = random.Random(1)
        for text in (b"", b"{}", line[1:20], line[-100:], line[:-1], line + b"}", line[:-70] + line[-69:]):
            self.assertIsNone(link_of(text))
        for _ in range(200):
            link_of(generator.randbytes(generator.randrange(400)))
