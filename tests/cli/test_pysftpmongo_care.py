"""--check-only and --gc of bin/pysftpmongo: what looks after a database, and serves nothing."""

from __future__ import annotations

import datetime
import os
import select
import subprocess
import sys
from typing import Any

from bson import ObjectId

from tests.cli.databases import DatabaseCase
from tests.support.packets import HELLO
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

CHUNK = 261120  # bytes


class CheckOnly(DatabaseCase):
    def check(self, *options: Any) -> tuple[int, list[str]]:
        done = self.run_here("--check-only", *options, stdin=HELLO)
        self.assertEqual(done.stderr, b"")
        return done.returncode, done.stdout.decode().splitlines()

    def test_names_what_is_missing_a_sentence_each_and_makes_nothing(self) -> None:
        self.gridfs.put(b"content", filename="file")
        self.database.fs.files.drop_indexes()
        self.database.fs.chunks.drop_indexes()
        for _ in range(2):
            status, lines = self.check()
            self.assertEqual(status, 1)
            self.assertIn("fs.files", "\n".join(lines))
            self.assertIn("fs.chunks", "\n".join(lines))
            for line in lines:
                self.assertRegex(line, r"\A[A-Z].*\S\Z")

    def test_has_nothing_to_say_once_a_session_has_been_there(self) -> None:
        self.gridfs.put(b"content", filename="file")
        self.here()
        self.assertEqual(self.check(), (0, []))
        self.assertEqual(self.check("-R"), (0, []))

    def test_says_what_clients_cannot_reach_in_printable_lines(self) -> None:
        self.gridfs.put(b"", filename="/odd//name\n\x1b[2J")
        self.here()
        status, lines = self.check()
        self.assertEqual(status, 0)
        self.assertIn("such as", lines[0])
        self.assertEqual([line for line in lines if not line.isprintable()], [])


class GarbageCollection(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.gridfs.put(bytes(CHUNK + 1), filename="kept")

    def orphan(self, chunks: int, hours_ago: float) -> None:
        """Chunks of no file, as an upload leaves them that was interrupted."""
        moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours_ago)
        # Its first bytes are when it was made; the others make it one of a kind.
        made, *ids = (
            ObjectId(ObjectId.from_datetime(moment).binary[:4] + ObjectId().binary[4:])
            for _ in range(chunks + 1)
        )
        self.database.fs.chunks.insert_many(
            {"_id": own, "files_id": made, "n": n, "data": bytes(CHUNK)} for n, own in enumerate(ids)
        )

    def gc(self, *options: Any) -> str:
        done = self.run_here("--gc", *options, stdin=HELLO)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode()

    def chunks(self) -> int:
        return self.database.fs.chunks.count_documents({})

    def test_removes_old_chunks_of_no_file_and_says_what_it_left(self) -> None:
        for chunks in (2, 3, 7):
            self.orphan(chunks, hours_ago=25)
        self.orphan(1, hours_ago=23)
        expected = "removed 3 orphaned uploads: 12 chunks, 3133440 bytes; 1 younger than 24 hours kept\n"
        log = self.place / "log"
        self.assertEqual(self.gc("-l", log), expected)
        self.assertIn(expected, log.read_text())
        self.assertEqual(self.chunks(), 2 + 1)
        self.assertEqual(len(self.gridfs.get_last_version("kept").read()), CHUNK + 1)

    def test_finds_nothing_where_all_chunks_belong_to_files(self) -> None:
        self.assertEqual(self.gc(), "removed 0 orphaned uploads: 0 chunks, 0 bytes\n")

    def test_may_be_asked_what_it_would_remove(self) -> None:
        self.orphan(2, hours_ago=25)
        for options in (["--dry-run"], ["--dry-run", "--read-only"]):
            self.assertEqual(self.gc(*options), "would remove 1 orphaned upload: 2 chunks, 522240 bytes\n")
        self.assertEqual(self.chunks(), 4)

    def test_may_be_told_what_is_old(self) -> None:
        self.orphan(1, hours_ago=3)
        self.orphan(1, hours_ago=0.75)
        text = "; 1 younger than 1 hour kept\n"
        self.assertEqual(self.gc("--older-than", "1", "--dry-run")[-len(text) :], text)
        self.assertNotIn("kept", self.gc("--older-than=0.5", "--dry-run"))
        self.assertIn("; 2 younger than 4.5 hours kept", self.gc("--older-than", "4.5"))
        self.assertIn("removed 2 orphaned uploads", self.gc("--older-than", "0"))

    def test_looks_after_the_bucket_that_was_named(self) -> None:
        self.orphan(1, hours_ago=25)
        self.assertEqual(self.gc("--bucket", "other"), "removed 0 orphaned uploads: 0 chunks, 0 bytes\n")
        self.assertEqual(self.chunks(), 3)

    def test_says_on_a_terminal_how_far_it_is_and_takes_that_back(self) -> None:
        self.orphan(1, hours_ago=25)
        ours, theirs = os.openpty()
        try:
            done = subprocess.run(
                [sys.executable, ROOT / "bin" / self.prog, "--database", self.db_name, "--gc"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=theirs,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.variables},
                timeout=PATIENCE,
            )
            shown = b""
            while not shown.endswith(b"\x1b[K") and select.select([ours], [], [], PATIENCE)[0]:
                shown += os.read(ours, 65536)  # the kernel may hand it over in pieces
        finally:
            os.close(ours)
            os.close(theirs)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(shown, rb"\A(\r\d+ files? checked)+\r\x1b\[K\Z")
        self.assertTrue(done.stdout.startswith(b"removed 1 orphaned upload: 1 chunk, 261120 bytes"))
