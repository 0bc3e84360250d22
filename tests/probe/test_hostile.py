"""pysftp-probe against servers that hang, lie, flood and close: it says so, ends and leaves nothing.

No time limit is waited for: the servers say that they hang, and then the probe's clock is put forward.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.subject import Subject
from pysftpserver.contract.table import MUST, Rule
from pysftpserver.probe.lines import Patience
from pysftpserver.probe.results import ERROR, FAILED, PASSED, UNSUPPORTED, Outcome, Report
from pysftpserver.probe.running import Plan, Probe
from pysftpserver.probe.target import of_command
from tests.support.hard import IS_HARD
from tests.support.paths import IN_MEMORY
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, until

HOSTILE = Path(__file__).with_name("hostile.py")
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = range(3, 11)
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR = range(11, 16)
REALPATH, STAT, RENAME, READLINK, SYMLINK = range(16, 21)
KINDS = range(OPEN, SYMLINK + 1)


def a_file_is_kept(subject: Subject) -> None:
    subject.equal(subject.content(subject.file(b"f", b"content" * 100)), b"content" * 100, "the content")


def a_link_is_kept(subject: Subject) -> None:
    subject.client.symlink(b"target", subject.path(b"l"))
    subject.equal(subject.client.readlink(subject.path(b"l")), b"target", "the text of the link")


def a_tree_is_left(subject: Subject) -> None:
    subject.make({b"d": None, b"d/e": None, b"d/e/f": b"", b"d/g": b""})
    for name in (b"d/e", b"d"):
        subject.client.setstat(subject.path(name), SFTPAttributes(permissions=0))


RULES = [
    Rule(check, MUST, "a test", "A sentence.", needs, False)
    for check, needs in (
        (a_file_is_kept, ("write", "read")),
        (a_link_is_kept, ("symlink", "readlink")),
        (a_tree_is_left, ("write", "setstat")),
    )
]


class Clock(Patience):
    """Stands still, however slow the machine is, and goes forward by as much as is waited for, once the
    server has said that it hangs.

    pids: a directory with a file for each server; one that hangs has an empty file "hangs-PID", and one that
    sends a little now and then "drips-PID".
    """

    def __init__(self, pids: Path, seconds: float) -> None:
        super().__init__(seconds)
        self._pids = pids
        self._ahead = 0.0

    def now(self) -> float:
        return self._ahead

    def wait(self, poll: select.poll, seconds: float) -> list[tuple[int, int]]:
        deadline = time.monotonic() + PATIENCE
        while not (events := poll.poll(10)):
            if self._has("hangs"):
                self._ahead += seconds
                return poll.poll(0)
            if time.monotonic() > deadline:
                raise AssertionError("the server neither answers nor says that it hangs")
        if self._has("drips"):
            self._ahead += seconds * 0.9
        return events

    def _has(self, what: str) -> bool:
        return any(is_alive(int(name.partition("-")[2])) for name in os.listdir(self._pids) if what in name)


class Hostile(unittest.TestCase):
    """One misbehaviour each."""

    def setUp(self) -> None:
        self.top = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        self.addCleanup(self.cleared, self.top)
        self.jail = self.top / "jail"
        self.pids = self.top / "jail.pids"
        self.jail.mkdir()
        self.pids.mkdir()
        (self.jail / "victim").write_text("not the probe's")

    def cleared(self, top: Path) -> None:
        for directory, _, _ in os.walk(top):
            os.chmod(directory, 0o700)
        shutil.rmtree(top)

    def probe(self, mode: str, kind: int | None = None, *, leaves: bool = False) -> Report:
        """The report of a probe whose server has left no process, and no file unless the report says so."""
        report = self.run_probe(mode, kind)
        self.assertEqual(bool(report.left), leaves, report.left)
        self.assertEqual(len(os.listdir(self.jail)) > 1, leaves)
        return report

    def run_probe(self, mode: str, kind: int | None, deadline: float = 600.0) -> Report:
        """The report of a probe that has ended in time, whose server has left no process."""
        command = [sys.executable, "-I", "-S", str(HOSTILE), str(self.jail), mode]
        target = of_command([*command, *([] if kind is None else [str(kind)])])
        plan = Plan(RULES, deadline=deadline)
        report = Probe(target, plan, Clock(self.pids, plan.seconds)).run()
        self.assertLess(report.seconds, plan.deadline + PATIENCE)
        # All were killed; those that are no children of the probe may take a moment.
        until(lambda: not any(map(is_alive, self.servers())), "processes are left")
        self.assertEqual((self.jail / "victim").read_text(), "not the probe's")
        return report

    def servers(self) -> list[int]:
        """Numbers of all servers that were started."""
        return [int(name) for name in os.listdir(self.pids) if name.isdecimal()]

    def outcome(self, report: Report, check: object) -> Outcome:
        (found,) = (o for o in report.outcomes if o.rule == check.__name__.replace("_", "-"))  # type: ignore[attr-defined]
        return found

    def test_a_server_that_behaves_passes(self) -> None:
        report = self.probe("twice", 99)
        self.assertEqual([outcome.verdict for outcome in report.outcomes], [PASSED] * 3)
        self.assertEqual((report.stopped, report.version, report.lacks), ("", 3, []))

    def test_one_that_says_nothing_is_given_up_after_some_tries(self) -> None:
        report = self.probe("hang")
        self.assertIn("no session can begin: the server did not answer within 10 seconds", report.stopped)
        self.assertEqual(len(self.servers()), 3)

    @unittest.skipUnless(IS_HARD, "a kind of failure that other tests have as well")
    def test_one_that_talks_in_another_protocol_is_told_so(self) -> None:
        self.assertIn("says to be 1466264675 bytes long", self.probe("garbage").stopped)

    def test_a_rule_that_loses_the_session_has_failed_and_the_next_goes_on(self) -> None:
        report = self.probe("close", READLINK)
        self.assertEqual(report.stopped, "")
        self.assertEqual([outcome.verdict for outcome in report.outcomes], [PASSED, FAILED, PASSED])
        outcome = self.outcome(report, a_link_is_kept)
        self.assertIn("the server ended the session, with exit status 3", outcome.why)
        self.assertEqual([step.asked for step in outcome.steps], [True, False, True])

    def test_one_byte_at_a_time_does_not_outlast_the_time_of_a_rule(self) -> None:
        report = self.probe("drip", SYMLINK)
        self.assertIn("it took longer than 60 seconds", self.outcome(report, a_link_is_kept).why)

    def test_a_rule_that_is_not_answered_has_failed_and_the_server_is_killed_with_its_children(self) -> None:
        """One that ignores signals and the end of its input, and so does the process that it has started."""
        report = self.probe("stubborn", READLINK)
        self.assertEqual([outcome.verdict for outcome in report.outcomes], [PASSED, FAILED, PASSED])
        self.assertIn("did not answer within", self.outcome(report, a_link_is_kept).why)
        self.assertGreater(len(self.servers()), 2)

    def test_the_whole_ends_in_time_and_says_how_far_it_came(self) -> None:
        report = self.run_probe("hang", READLINK, deadline=18.0)
        self.assertEqual(report.stopped, "the time for all rules (18 seconds) is over after 2 of 3 rules")
        self.assertEqual([outcome.verdict for outcome in report.outcomes], [PASSED, ERROR])
        self.assertEqual(report.left, [])

    def test_a_reply_too_many_is_noticed_where_it_came(self) -> None:
        report = self.probe("twice", READLINK)
        self.assertEqual([outcome.verdict for outcome in report.outcomes], [PASSED, FAILED, PASSED])
        self.assertIn("which nothing waits for", self.outcome(report, a_link_is_kept).why)

    def test_names_that_lead_elsewhere_are_not_removed(self) -> None:
        self.assertEqual(self.probe("outside", READDIR).stopped, "")

    def test_what_cannot_be_removed_is_reported(self) -> None:
        report = self.probe("denied", REMOVE, leaves=True)
        self.assertTrue(any("REMOVE was refused: PERMISSION_DENIED" in what for what in report.left))

    def test_a_disk_that_is_full_is_said_to_be(self) -> None:
        report = self.probe("full", WRITE)
        self.assertIn("No space left on device", self.outcome(report, a_file_is_kept).why)
        self.assertIn("the server no longer stores files: WRITE was refused", report.stopped)

    def test_one_where_no_directory_can_be_made_is_told_how_to_name_another(self) -> None:
        report = self.probe("denied", MKDIR)
        self.assertIn("MKDIR was refused: PERMISSION_DENIED", report.stopped)
        self.assertIn("--directory", report.stopped)

    def test_one_that_makes_no_directories_is_tried_with_what_does_not_write(self) -> None:
        report = self.probe("unsupported", MKDIR)
        self.assertEqual([outcome.verdict for outcome in report.outcomes], [UNSUPPORTED] * 3)
        self.assertEqual(report.stopped, "")


@unittest.skipUnless(IS_HARD, "every misbehaviour at every request takes minutes")
class Everywhere(Hostile):
    """Every misbehaviour at every request."""

    MODES = (
        *("hang", "stubborn", "close", "killed", "garbage", "longer", "shorter", "huge", "empty", "other_id"),
        *("twice", "flood", "noise", "drip", "full", "denied", "unsupported"),
    )

    def test_it_ends_in_time_says_what_is_left_and_leaves_no_process(self) -> None:
        for mode in self.MODES:
            for kind in (None, *KINDS):
                if kind is None and mode in ("other_id", *REFUSING):
                    continue  # they answer to a request id
                with self.subTest(mode, kind=kind):
                    self.setUp()
                    self.probe_any(mode, kind)
                    self.doCleanups()

    def probe_any(self, mode: str, kind: int | None) -> None:
        report = self.run_probe(mode, kind)
        if len(os.listdir(self.jail)) > 1:
            self.assertTrue(report.left)
        verdicts = {outcome.verdict for outcome in report.outcomes}
        is_noticed = bool(report.stopped or verdicts & {FAILED, ERROR, UNSUPPORTED})
        self.assertTrue(is_noticed or kind not in USED or kind == REALPATH and mode in REFUSING)


#: They refuse, and a probe can do without REALPATH.
REFUSING = ("full", "denied", "unsupported")
#: What the rules here ask for: a misbehaviour elsewhere need not be noticed.
USED = (None, OPEN, CLOSE, READ, WRITE, SETSTAT, MKDIR, REALPATH, READLINK, SYMLINK)
