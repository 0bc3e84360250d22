"""`make evidence`: what fails is said, the rest runs all the same; the page names nothing of this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import io
import os
import re
import socket
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tools.evidence import __main__ as evidence
from tools.evidence import page, results, sections
from tools.evidence.results import Result
from tools.evidence.sections import SECTIONS, Failed, Run

HOST = "build17.example.org"


def passes(name: str) -> Result:
    return Result(name, f"make {name}", "Everything.", [["what", "count"], ["a | b", "3"]])


def fails(name: str) -> Result:
    return Result(name, f"make {name}", "Half.", failures=[f"{ROOT}/tests/x.py is wrong at {HOST}"])


class EvidenceCase(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.page = self.place / "page.md"
        self.ran: list[str] = []
        self.enterContext(mock.patch.object(evidence, "KEPT", self.place / "kept"))
        self.errors = self.enterContext(contextlib.redirect_stderr(io.StringIO()))

    def run_with(self, *words: str, **outcomes: object) -> int:
        """Run the command with other sections. outcomes: what those that do not pass return or raise."""

        def stand_in(name: str):
            def section(run: Run) -> Result:
                self.ran.append(name)
                outcome = outcomes.get(name, passes)
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome(name)

            return section

        with mock.patch.dict(SECTIONS, {name: stand_in(name) for name in SECTIONS}):
            return evidence.main(["--page", str(self.page), *words])


class Command(EvidenceCase):
    def test_all_sections_run_and_the_page_has_them(self) -> None:
        self.assertEqual(self.run_with(), 0)
        self.assertEqual(self.ran, list(SECTIONS))
        text = self.page.read_text()
        for name in SECTIONS:
            self.assertIn(f"\n## {page.TITLES[name][0]}\n", text)
            self.assertIn(f"`make {name}`", text)
        self.assertIn("| a \\| b | 3 |", text)
        self.assertNotIn("failed", text)
        self.assertEqual(self.errors.getvalue(), "", "quiet in a pipe")

    def test_it_goes_on_after_a_section_that_fails_and_says_so(self) -> None:
        self.assertEqual(self.run_with(conformance=fails, faults=Failed("the disk is gone")), 1)
        self.assertEqual(self.ran, list(SECTIONS))
        text = self.page.read_text()
        self.assertIn("| [Faults](#faults) | **1 failed** |", text)
        self.assertIn("- the disk is gone\n", text)
        self.assertIn("faults: the disk is gone\n", self.errors.getvalue())

    def test_one_section_runs_again_and_the_others_stay(self) -> None:
        self.run_with(fuzz=fails)
        self.ran.clear()
        self.assertEqual(self.run_with("fuzz"), 0)
        self.assertEqual(self.ran, ["fuzz"])
        text = self.page.read_text()
        self.assertEqual(text.count("| passed |"), len(SECTIONS))

    def test_an_unknown_section_is_an_error_that_names_the_others(self) -> None:
        with self.assertRaises(SystemExit) as caught:
            self.run_with("fuzzy")
        self.assertEqual(caught.exception.code, 2)
        self.assertIn("no such section: fuzzy; there are conformance", self.errors.getvalue())

    def test_nothing_of_this_machine_is_on_the_page(self) -> None:
        with mock.patch.object(socket, "gethostname", return_value=HOST):
            self.run_with(security=fails)
        self.assertIn("- tests/x.py is wrong at the host\n", self.page.read_text())
        for path in (self.page, evidence.PAGE):
            with self.subTest(path.name):
                text = path.read_text()
                self.assertNotIn(str(ROOT), text)
                self.assertNotRegex(text, r"/(tmp|root|home|work|dev/shm)/")
                if len(socket.gethostname()) > 2:
                    self.assertNotIn(socket.gethostname(), text)

    def test_temporary_directories_and_names_are_left_out(self) -> None:
        with mock.patch.object(getpass, "getuser", return_value="jdoe"):
            self.assertEqual(results.neutral(f"{ROOT}/a by jdoe in /tmp/b-1/c: d"), "a by somebody in ...: d")


class Sections(EvidenceCase):
    def test_every_module_that_is_named_exists(self) -> None:
        for words in (sections.SECURITY, sections.FAULTS, sections.CLIENTS, *sections.QUICK.values()):
            self.assertTrue(sections.modules(words))
        with self.assertRaisesRegex(Failed, r"there is no tests\.faults\.test_nothing"):
            sections.modules("faults faults.test_nothing")

    def test_tests_are_counted_and_failures_named(self) -> None:
        said = "FAILED: tests.a.B.test_c\n5 passed, 1 failed, 2 skipped\n"
        with mock.patch.object(Run, "command", return_value=(1, said)):
            result = SECTIONS["clients"](Run(self.place / "log", True))
        self.assertEqual(result.rows[1:], [["tests.integration.test_openssh_scp", "5", "1", "2"]])
        self.assertEqual(result.failures, ["tests.a.B.test_c"])

    def test_tests_that_end_before_they_are_counted_have_failed(self) -> None:
        with mock.patch.object(Run, "command", return_value=(-9, "")):
            result = SECTIONS["clients"](Run(self.place / "log", True))
        self.assertIn("ended with status -9", result.failures[0])

    def test_a_finding_of_a_fuzzer_is_a_failure(self) -> None:
        said = "jail: 1234 executions, 56 a second, coverage 789, 0 findings\n"
        for more, count in (("", 0), ("site: 9 executions, 1 a second, coverage 2, 1 findings\n", 1)):
            with mock.patch.object(Run, "command", return_value=(count, said + more)):
                result = sections.fuzz(Run(self.place / "log", True))
            self.assertEqual(len(result.failures), count)
            self.assertEqual(result.rows[1], ["jail", "1234", "56", "789", "0"])
        with mock.patch.object(Run, "command", return_value=(1, "atheris cannot be installed\n")):
            result = sections.fuzz(Run(self.place / "log", True))
        self.assertEqual(result.failures, ["the fuzzers ended with status 1: atheris cannot be installed"])

    def test_a_rule_that_our_server_breaks_is_a_failure_and_one_of_the_references_is_none(self) -> None:
        for ours, count in (
            ("376 passed, 0 failed, 0 error in 9 s", 0),
            ("375 passed, 1 failed, 0 error in 9 s", 1),
        ):
            said = f"jail: {ours}\nopenssh: 371 passed, 5 failed, 0 error in 8 s\n"
            with mock.patch.object(Run, "command", return_value=(0, said)):
                result = sections.conformance(Run(self.place / "log", True))
            self.assertEqual(len(result.failures), count)
            self.assertEqual(result.rows[2], ["openssh", "371", "5", "0", "8"])
        with mock.patch.object(Run, "command", return_value=(0, "")):
            self.assertEqual(len(sections.conformance(Run(self.place / "log", True)).failures), 2)

    def test_a_benchmark_that_cannot_run_is_a_failure(self) -> None:
        with mock.patch.object(Run, "command", return_value=(1, "sftp is missing\n")):
            result = sections.benchmarks(Run(self.place / "log", True))
        self.assertEqual(result.failures, ["session start: ended with status 1: sftp is missing"])

    def test_a_command_that_hangs_is_given_up(self) -> None:
        run = dataclasses.replace(Run(self.place / "log", True))
        with mock.patch.object(sections, "LIMIT", 0.2), self.assertRaisesRegex(Failed, "took more than"):
            run.command(sys.executable, "-c", "import time; time.sleep(600)")


class Page(unittest.TestCase):
    def test_what_is_committed_has_all_sections_with_dates_and_commits(self) -> None:
        text = evidence.PAGE.read_text()
        for title, _ in page.TITLES.values():
            self.assertRegex(
                text, rf"\| \[{title}\]\(#{title.lower()}\) \| .* \| \d{{4}}-\d\d-\d\d \| [0-9a-f]+"
            )
        for what in ("Python", "OpenSSH", "kernel", "asyncssh"):
            self.assertRegex(text, rf"(?m)^\| {what} \| .*\d")


@unittest.skipUnless(IS_HARD, "takes minutes: make test-hard")
class Quick(InAPlace):
    def test_a_quick_run_of_everything_passes(self) -> None:
        target = Path(self.place, "page.md")
        argv = [sys.executable, "-m", "tools.evidence", "--quick", "--page", str(target)]
        done = subprocess.run(
            argv, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=1800
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(
            len(re.findall(r"^\| \[\w+\]\(#\w+\) \| passed \|", target.read_text(), re.M)), len(SECTIONS)
        )
