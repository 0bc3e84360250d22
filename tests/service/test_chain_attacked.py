"""A chain, attacked: what is done to a log while sessions go on writing to it, and to FILE.chain."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from pysftpserver.cli import common, pysftp_audit
from pysftpserver.engine.chain import STATE, chained_sink
from tests.service.test_chain import COUNT, MANY, ChainCase
from tests.support.examples import given, settings, st
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

FORGED = b'{"time":"2026-01-01T00:00:00.000000Z","user":"eve","request":"remove","path":"/x","result":"OK"}'
CHANGES = ("remove", "double", "move", "splice", "insert", "forge", "forge at the end", "cut", "strip")
Change = tuple[str, int, int]


class Attacked(ChainCase):
    def setUp(self) -> None:
        super().setUp()
        self.state = Path(f"{self.path}{STATE}")
        self.lines = self.written()
        self.before = self.path.read_bytes(), self.state.read_bytes()

    def put_back(self) -> None:
        """The log and FILE.chain as they were."""
        self.path.write_bytes(self.before[0])
        self.state.write_bytes(self.before[1])

    def go_on(self, count: int = 2) -> None:
        sink = self.sink()
        for number in range(count):
            sink(b'{"text":"more %d"}\n' % number)

    def changed(self, change: Change, other: list[bytes]) -> bytes:
        """The log after a change. other: lines of another log."""
        what, where, number = change
        lines = list(self.lines)
        if what == "remove":
            del lines[where : where + number % 3 + 1]
        elif what == "double":
            lines.insert(number % (COUNT + 1), lines[where])
        elif what == "move":
            lines.insert(number % COUNT, lines.pop(where))
        elif what == "splice":
            lines[where:] = other[where:]
        elif what == "insert":
            lines.insert(where, other[number % COUNT])
        elif what == "forge":
            lines.insert(where, FORGED + b"\n")
        elif what == "forge at the end":
            lines.append(FORGED + b"\n" * (number % 2))
        elif what == "cut":
            return b"".join(lines)[: -1 - number % sum(map(len, lines))]
        else:  # strip a record of what binds it, perhaps with as many bytes as before
            record = json.loads(lines[where])
            record = {"text": record["text"], "pad": "x" * (number % 300)}
            lines[where] = json.dumps(record).encode() + b"\n"
        return b"".join(lines)

    @settings(max_examples=1500 if IS_HARD else 40, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    (
                        "remove",
                        "double",
                        "move",
                        "splice",
                        "insert",
                        "forge",
                        "forge at the end",
                        "cut",
                        "strip",
                    )
                ),
                st.integers(0, COUNT - 1),
                st.integers(0, 1000),
            ),
            min_size=1,
            max_size=3,
        ),
        st.booleans(),
    )
    def test_whatever_was_done_is_found_after_sessions_have_gone_on(
        self, changes: list[Change], before_each: bool
    ) -> None:
        self.put_back()
        other = [line.replace(b'"text":"', b'"text":"other ') for line in self.lines]
        is_changed = False
        for change in changes:
            found = self.changed(change, other)
            is_changed = found != self.before[0] or (is_changed and before_each)
            self.path.write_bytes(found)
            if before_each:
                self.go_on(1)
        self.go_on()
        if is_changed:
            self.assertTrue(self.verified().problems, changes)
        self.put_back()

    def test_a_record_that_was_added_is_found_though_the_next_session_goes_on_behind_it(self) -> None:
        for end in (b"\n", b""):
            with self.path.open("ab") as log:
                log.write(FORGED + end)
            line = COUNT + 1
            for _ in range(2):
                found = self.verified()
                self.assertEqual(
                    found.problems, [f"{self.path}, line {line}: a record that is not of the chain was added"]
                )
                self.go_on(1)
            self.put_back()

    def test_half_a_line_of_a_killed_session_is_still_none(self) -> None:
        for cut in (2, 20, 150):
            with self.path.open("ab") as log:
                log.write(self.lines[0][:-cut])
            self.assertEqual(self.verified().problems, [])
            self.go_on(1)
            self.assert_good(COUNT + 1)
            self.put_back()

    def test_a_note_of_the_end_that_was_changed_is_found(self) -> None:
        for content in (b"x", self.before[1][:-1], self.before[1] + b"\n", bytes(len(self.before[1]))):
            self.state.write_bytes(content)
            self.assertEqual(self.verified().problems, [f"{self.state}: it was changed"])
        self.state.write_bytes(b"")  # of a session that has recorded nothing yet
        self.assertEqual(self.verified().problems, [])

    def test_an_older_note_of_the_end_does_no_harm(self) -> None:
        old = self.before[1]
        self.go_on(3)
        self.state.write_bytes(old)
        self.go_on(3)
        self.assert_good(COUNT + 6)

    def test_what_only_a_head_that_was_kept_elsewhere_finds(self) -> None:
        """The page says so: who can write both files."""
        self.go_on(3)
        head = self.sink()
        head(b'{"text":"kept"}\n')
        kept = {f"h{head.head.partition(':')[0]}": head.head.partition(":")[2]}

        def roll_back() -> None:
            self.put_back()

        def another_chain() -> None:
            self.put_back()
            self.go_on(4)

        def begin_anew() -> None:
            lines = [b'{"text":"%d"}\n' % number for number in range(COUNT)]
            self.path.write_bytes(b"".join(lines))
            self.state.unlink()
            self.go_on(9)

        def cut_both() -> None:
            self.path.write_bytes(b"".join(self.lines[:2]))
            self.state.unlink(missing_ok=True)

        for attack in (roll_back, another_chain, begin_anew, cut_both):
            attack()
            self.assertEqual(self.verified().problems, [], attack)
            self.assertTrue(self.verified(**kept).problems, attack)

    def test_a_head_that_stands_for_older_files_says_what_it_stands_for(self) -> None:
        sink = self.sink()
        sink(b'{"text":"last of the old"}\n')
        number, _, digest = sink.head.partition(":")
        self.path.rename(self.place / "old")
        self.go_on()
        found = self.verified(**{f"h{number}": digest})
        self.assertEqual((found.problems, found.records), ([], 2))
        self.assertEqual(
            found.notes, [f"records 1 to {number} are not in these files; a head stands for them"]
        )


class TwoLogs(ChainCase):
    def test_lines_of_another_log_are_found_wherever_they_are_put(self) -> None:
        self.written()
        lines = self.path.read_bytes().splitlines(keepends=True)
        elsewhere = self.place / "elsewhere"
        sink = chained_sink(os.fspath(elsewhere), f"{elsewhere}{STATE}")
        for number in range(COUNT):
            sink(b'{"text":"e%d"}\n' % number)
        others = elsewhere.read_bytes().splitlines(keepends=True)
        for at in range(COUNT):
            for spliced in (lines[:at] + others[at:], lines[:at] + others[at : at + 1] + lines[at + 1 :]):
                self.path.write_bytes(b"".join(spliced))
                self.assertTrue(self.verified().problems, at)
        self.path.write_bytes(b"".join(others))  # with its own FILE.chain beside it, it would be another log
        self.assertTrue(self.verified().problems)


class OddFiles(ChainCase):
    def run_it(self, *words: str | Path) -> tuple[int, str]:
        out, errors = io.StringIO(), []
        with contextlib.redirect_stdout(out), mock.patch.object(common, "tell", errors.append):
            status = pysftp_audit.main([os.fspath(word) for word in words])
        return status, out.getvalue() + "".join(map(str, errors))

    def test_a_compressed_log_that_was_changed_is_one_line(self) -> None:
        self.written()
        whole = gzip.compress(self.path.read_bytes() * 50)
        packed = self.place / "audit.1.gz"
        chance = random.Random(5)
        statuses = set()
        for _ in range(200 if IS_HARD else 15):
            changed = bytearray(whole)
            changed[chance.randrange(10, len(changed))] ^= 1 << chance.randrange(8)
            packed.write_bytes(changed)
            for words in (("verify", packed), ("who", "/f", packed)):
                status, said = self.run_it(*words)
                statuses.add(status)
                self.assertNotIn("Traceback", said)
                self.assertNotIn("internal", said.lower())
        self.assertLessEqual(statuses, {0, 1, 2})

    def test_lines_that_nobody_of_us_has_written_stop_no_question(self) -> None:
        for line in (
            b'{"result":"OK","request":"rename"}',
            b'{"result":"OK","request":"close","path":"/f"}',
            b'{"result":"OK","request":"rename","path":"/f","target":7,"time":"x"}',
            b'{"result":"OK","request":"close","path_hex":"zz","path":"/f","time":[]}',
            b'{"result":"OK","request":"close","path":null,"read":"x","written":{}}',
            b'{"result":"OK","request":["close"],"path":"/f"}',
            b"[" * 100_000,
            b'{"result":"OK","x":' * 3000,
            b"\xff\xfe{}",
        ):
            self.path.write_bytes(line + b"\n" + FORGED + b"\n")
            status, said = self.run_it("who", "/x", self.path)
            self.assertEqual((status, said.count("eve")), (0, 1), line[:60])
            self.assertEqual(self.run_it("verify", self.path)[0], 1, line[:60])


if IS_HARD:

    class Killed(ChainCase):
        def test_several_sessions_with_rotation_and_kills_at_any_moment_are_one_chain(self) -> None:
            chance = random.Random(11)
            rotated: list[Path] = []
            for number in range(25):
                writers = [
                    subprocess.Popen(
                        [sys.executable, "-c", MANY, os.fspath(self.path), "400"],
                        stdin=subprocess.PIPE,
                        cwd=ROOT,
                    )
                    for _ in range(3)
                ]
                for writer in writers:
                    assert writer.stdin is not None
                    writer.stdin.write(b"\n")
                    writer.stdin.close()
                old = self.path.stat().st_size if self.path.exists() else 0
                until(lambda old=old: self.path.exists() and self.path.stat().st_size > old)  # type: ignore[misc]
                for writer in writers:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        writer.wait(chance.random() * 0.05)
                    writer.send_signal(signal.SIGKILL)
                    writer.wait(PATIENCE)
                if number % 5 == 4:
                    self.sink()(b'{"text":"the last one before"}\n')  # see the page
                    rotated.append(self.place / f"audit.{number}")
                    self.path.rename(rotated[-1])
            self.sink()(b'{"text":"last"}\n')
            found = self.verified(*rotated, self.path)
            self.assertEqual(found.problems, [])
            shutil.copy(rotated[0], self.place / "copy")
            self.assertTrue(self.verified(self.place / "copy", *rotated, self.path).problems)
