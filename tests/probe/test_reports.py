"""What a probe shows: real reports in every form, and hostile ones that come out harmless."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import io
import os
import pty
import re
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pysftpserver.cli import pysftp_probe
from pysftpserver.contract.rules import RULES
from pysftpserver.contract.table import LEVELS
from pysftpserver.failures import BadInput
from pysftpserver.probe.report import comparing, html, json, junit, rules, summing, terminal
from pysftpserver.probe.report.reproduction import reproduction
from pysftpserver.probe.results import ERROR, FAILED, PASSED, UNSUPPORTED, Outcome, Report, Step, Task
from tests.probe.reports import Upside, hostile_report, report_of

BROKEN = "link-text"
VOID = {"meta", "br"}
LOADING = {
    "script",
    "link",
    "img",
    "iframe",
    "object",
    "embed",
    "base",
    "form",
    "svg",
    "video",
    "audio",
    "source",
}


def right() -> Report:
    return report_of()


def wrong() -> Report:
    return report_of(Upside)


class Elements(HTMLParser):
    """What a page has; every element that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.style = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data

    def values(self, attribute: str) -> list[str]:
        return [found[attribute] for _, found in self.tags if attribute in found]


class Summary(unittest.TestCase):
    def test_it_counts_each_level_without_what_is_unsupported(self):
        report = wrong()
        self.assertRegex(summing.summary(report), r"\Adoes not conform: 1 of 3 musts, 1 of 1 shoulds\Z")
        self.assertEqual(summing.summary(right()), "conforms: 3 of 3 musts, 1 of 1 shoulds")

    def test_a_probe_that_was_stopped_does_not_conform(self):
        report = right()
        report.stopped = "no session can begin"
        self.assertTrue(summing.summary(report).startswith("stopped early: 3 of 3 musts"))
        self.assertFalse(summing.conforms(report))
        self.assertEqual(summing.summary(Report("x")), "no rule was tried")

    def test_the_start_of_a_session_is_left_out_of_the_packets_unless_the_rule_is_about_it(self):
        start = [Step(True, "INIT version 3", "", 9), Step(False, "VERSION version 3", "", 9)]
        request, handle = Step(True, "STAT id 1", "", 9), Step(False, "HANDLE id 1", "", 9)
        wrong = Step(True, "VERSION version 3", "", 9)
        for steps, told in (
            ([*start, request], [request]),
            ([*start, request, *start], [request, *start]),
            ([*start, request, wrong], [request, wrong]),
            ([*start, start[0], handle], [start[0], handle]),
        ):
            self.assertEqual(summing.telling(steps), told)


class Terminal(unittest.TestCase):
    def test_it_has_a_table_each_broken_rule_with_its_packets_and_a_summary(self):
        report = wrong()
        page = terminal.text(report)
        outcome = report.outcomes[0]
        self.assertRegex(page, r"(?m)^links +1 of 3 +- +- +-$")
        self.assertRegex(page, r"(?m)^files +- +1 of 1 +- +1$")
        self.assertIn(f"must broken: {BROKEN}\n  {outcome.sentence}\n  {outcome.source}\n  why: ", page)
        self.assertRegex(page, r'  --> READLINK id 2 "/link-0"\n      0000  00 00 00 10 13 ')
        self.assertRegex(page, r'  <-- NAME id 2 1 name: "f\\377!" attrs\(\)\n      0000  ')
        self.assertRegex(page, r"rclone +sync +observed +works, but re-copies every file; times")
        self.assertRegex(page, r"longest READ +261,120 +bytes +261,120 bytes")
        self.assertEqual(page.splitlines()[-1], summing.summary(report))

    def test_every_line_fits_and_holds_no_escape_unless_colour_is_asked_for(self):
        for report in (right(), wrong(), hostile_report()):
            for width in (60, 80, 200):
                page = terminal.text(report, width)
                self.assertEqual([line for line in page.split("\n") if not line.isprintable()], [])
                self.assertEqual([line for line in page.split("\n") if len(line) > width], [])
                coloured = terminal.text(report, width, colour=True)
                self.assertEqual(re.sub(r"\x1b\[[0-9;]+m", "", coloured), page)
                self.assertNotEqual(coloured, page)

    def test_colour_is_for_terminals_without_NO_COLOR(self):
        controlling, controlled = pty.openpty()
        self.addCleanup(os.close, controlling)
        self.addCleanup(os.close, controlled)
        self.assertTrue(terminal.uses_colour(controlled, {"TERM": "xterm"}))
        self.assertFalse(terminal.uses_colour(controlled, {"NO_COLOR": "1"}))
        self.assertFalse(terminal.uses_colour(controlled, {"TERM": "dumb"}))
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.assertFalse(terminal.uses_colour(writing, {}))
        self.assertEqual(terminal.width_of(writing), terminal.WIDTH)

    def test_long_evidence_is_shortened_and_says_so(self):
        outcome = wrong().outcomes[0]
        outcome.steps *= 3
        page = terminal.text(Report("x", outcomes=[outcome]))
        self.assertIn(f"the last {terminal.STEPS} of {len(outcome.steps) - 6} packets", page)
        self.assertLess(page.count("\n"), 50)


class JSON(unittest.TestCase):
    def setUp(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.path = Path(self._directory.name, "report.json")

    def test_what_is_written_is_read_again(self):
        for report in (right(), wrong()):
            self.path.write_text(json.text(report))
            self.assertEqual(json.read(str(self.path)), report)

    def test_a_file_that_holds_no_report_is_refused_in_one_line(self):
        good = right().to_json()
        no_steps = {**good["outcomes"][0], "steps": [{"asked": 1, "words": "", "octets": "", "length": 0}]}
        for bad in (
            {},
            {**good, "server": 5},
            {**good, "trip": "long"},
            {**good, "left": "abc"},
            {**good, "extensions": [1]},
            {**good, "extensions": {"a": 1}},
            {**good, "outcomes": None},
            {**good, "outcomes": [{**good["outcomes"][0], "level": "perhaps"}]},
            {**good, "outcomes": [{**good["outcomes"][0], "verdict": "so so"}]},
            {**good, "outcomes": [no_steps]},
            {**good, "more": 1},
        ):
            self.path.write_text(json.json.dumps(bad))
            with self.assertRaisesRegex(BadInput, r"report\.json: not a report; name a file"):
                json.read(str(self.path))
        for content in (b"", b"[1, 2]", b"\xff\xfe", b"[" * 100_000):
            self.path.write_bytes(content)
            with self.assertRaisesRegex(BadInput, r"report\.json: not a report"):
                json.read(str(self.path))
        with self.assertRaisesRegex(BadInput, "no such file"):
            json.read(f"{self.path}.x")


class JUnit(unittest.TestCase):
    """Windy Road's JUnit.xsd, in Python."""

    SUITE = {
        "id",
        "package",
        "name",
        "timestamp",
        "hostname",
        "tests",
        "failures",
        "errors",
        "skipped",
        "time",
    }
    VERDICTS = {"failure": {"message", "type"}, "error": {"message", "type"}, "skipped": {"message"}}

    def suites(self, report: Report) -> list[ElementTree.Element]:
        """The suites of a report, which must be as the schema has them."""
        root = ElementTree.fromstring(junit.text(report).encode())
        self.assertEqual((root.tag, root.attrib), ("testsuites", {}))
        for number, suite in enumerate(root):
            self.assertEqual(suite.tag, "testsuite")
            self.assertEqual(set(suite.keys()), self.SUITE)
            self.assertEqual(suite.get("id"), str(number))
            self.assertRegex(suite.get("timestamp", ""), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\Z")
            self.assertGreaterEqual(float(suite.get("time", "")), 0)
            tags = [child.tag for child in suite]
            cases = suite.findall("testcase")
            self.assertEqual(tags, ["properties", *["testcase"] * len(cases), "system-out", "system-err"])
            self.assertTrue(all(set(child.attrib) == {"name", "value"} for child in suite[0]))
            self.assertEqual(suite.get("tests"), str(len(cases)))
            for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
                self.assertEqual(suite.get(attribute), str(len(suite.findall(f"testcase/{tag}"))))
            for case in cases:
                self.assertEqual(set(case.attrib), {"name", "classname", "time"})
                self.assertLessEqual(len(case), 1)
                for verdict in case:
                    self.assertEqual(set(verdict.attrib), self.VERDICTS[verdict.tag])
        return list(root)

    def test_a_group_is_a_suite_and_a_rule_a_case(self):
        links, files, tasks, probe = self.suites(wrong())
        self.assertEqual(
            [
                (case.get("name"), [child.tag for child in case])
                for case in (*links.iter("testcase"), *files.iter("testcase"))
            ],
            [
                ("link-text", ["failure"]),
                ("symlink-target-first", ["failure"]),
                ("readlink-of-no-link", []),
                ("fsync-of-a-file", ["skipped"]),
                ("stat-size", []),
            ],
        )
        failure = links.find("testcase/failure")
        assert failure is not None
        self.assertEqual(failure.get("type"), "must")
        self.assertIn("--> READLINK id 2", failure.text or "")
        self.assertEqual((tasks.get("tests"), tasks.get("failures")), ("2", "1"))
        self.assertEqual((probe.get("tests"), probe.get("errors")), ("2", "0"))

    def test_a_probe_that_stopped_or_left_something_is_an_error(self):
        report = right()
        report.stopped, report.left = "the disk is full", ["/x"]
        self.assertEqual(self.suites(report)[-1].get("errors"), "2")

    def test_any_text_makes_a_valid_document(self):
        suites = self.suites(hostile_report())
        self.assertEqual([suite.get("failures") for suite in suites], ["3", "1", "0"])


class HTML(unittest.TestCase):
    def test_nothing_is_loaded_and_the_policy_allows_this_style_alone(self):
        for report in (right(), wrong(), hostile_report()):
            found = Elements(html.text(report))
            names = {tag for tag, _ in found.tags}
            self.assertEqual(names & LOADING, set())
            attributes = {name for _, given in found.tags for name in given}
            allowed = {"lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "scope"}
            self.assertEqual(attributes - allowed, set())
            self.assertEqual([url for url in found.values("href") if not url.startswith("#")], [])
            self.assertNotRegex(found.style, r"url\(|@import|<")
            digest = base64.b64encode(hashlib.sha256(found.style.encode()).digest()).decode()
            (policy,) = (given["content"] for _, given in found.tags if "http-equiv" in given)
            self.assertEqual(
                policy,
                f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
            )

    def test_every_rule_has_one_anchor_and_every_link_leads_to_one(self):
        for report in (wrong(), hostile_report()):
            found = Elements(html.text(report))
            anchors = found.values("id")
            self.assertEqual(len(anchors), len(set(anchors)))
            self.assertEqual({url[1:] for url in found.values("href")} - set(anchors), set())
            self.assertEqual(sum(anchor.startswith("rule-") for anchor in anchors), len(report.outcomes))

    def test_it_says_what_the_terminal_says(self):
        report = wrong()
        found = Elements(html.text(report))
        words = " ".join(found.text.split())
        for outcome in report.outcomes:
            for text in (outcome.sentence, outcome.source, outcome.rule):
                self.assertIn(text, words)
        for text in (summing.summary(report), "re-copies every file", "261,120", 'READLINK id 2 "/link-0"'):
            self.assertIn(text, words)
        self.assertTrue(found.text.isascii())


class Comparing(unittest.TestCase):
    def outcome(self, name: str, verdict: str, level: str = "must") -> Outcome:
        return Outcome(name, "group", level, f"{name} holds.", "the draft, 1", verdict, "why so")

    def compared(
        self, *verdicts: tuple[str, str | None, str | None], level: str = "must"
    ) -> comparing.Comparison:
        old = Report("x", outcomes=[self.outcome(name, was, level) for name, was, _ in verdicts if was])
        new = Report("x", outcomes=[self.outcome(name, now, level) for name, _, now in verdicts if now])
        return comparing.compare(old, new)

    def test_each_change_has_its_list(self):
        found = self.compared(
            ("same", PASSED, PASSED),
            ("still", FAILED, ERROR),
            ("broken", PASSED, FAILED),
            ("untriable", PASSED, ERROR),
            ("broken-support", UNSUPPORTED, FAILED),
            ("mended", FAILED, PASSED),
            ("gained", UNSUPPORTED, PASSED),
            ("lost", PASSED, UNSUPPORTED),
            ("given-up", FAILED, UNSUPPORTED),
            ("untried", PASSED, None),
            ("fresh", None, FAILED),
            ("fresh-and-right", None, PASSED),
        )
        lists = {
            field.name: [outcome.rule for outcome in getattr(found, field.name)]
            for field in dataclasses.fields(found)
            if field.name in ("broken", "fresh", "mended", "gained", "lost", "untried")
        }
        self.assertEqual(
            lists,
            {
                "broken": ["broken", "untriable", "broken-support"],
                "fresh": ["fresh"],
                "mended": ["mended"],
                "gained": ["gained"],
                "lost": ["lost", "given-up"],
                "untried": ["untried"],
            },
        )
        page = comparing.text(found)
        self.assertRegex(page, r"newly broken:\n  broken +must +why so\n")
        self.assertRegex(page, r"fixed:\n  mended +must +mended holds\.\n")
        self.assertTrue(
            page.endswith("\n3 newly broken (3 of them musts), 1 fixed, 1 supported now, 2 no longer")
        )

    def test_the_status_is_1_when_a_must_is_newly_broken(self):
        self.assertEqual(self.compared(("a", PASSED, FAILED)).status, 1)
        self.assertEqual(self.compared(("a", PASSED, FAILED), level="should").status, 0)
        self.assertEqual(self.compared(("a", FAILED, FAILED), ("b", FAILED, PASSED)).status, 0)

    def test_a_second_probe_that_was_stopped_is_no_success(self):
        old, new = right(), right()
        new.stopped = "the server is silent"
        self.assertEqual(comparing.compare(old, new).status, 1)
        self.assertIn(
            "the second probe was stopped: the server is silent", comparing.text(comparing.compare(old, new))
        )
        self.assertEqual(comparing.compare(new, new).status, 0)

    def test_tasks_extensions_and_figures_are_compared(self):
        old, new = wrong(), right()
        new.tasks[1] = Task("sshfs", "edit in place", "documented", True, "works")
        new.figures[0].value *= 2
        new.figures[1].value *= 2
        new.extensions = {"copy-data": "1"}
        found = comparing.compare(old, new)
        page = comparing.text(found)
        self.assertRegex(page, r"clients that work now:\n  sshfs +edit in place +works")
        self.assertRegex(page, r"STAT, one at a time +0.218 +0.437 +ms +2.00 times, worse")
        self.assertRegex(page, r"download, \S+ of 32768 bytes +412 +825 +MB/s +2.00 times, better")
        self.assertRegex(page, r"longest READ +261,120 +261,120 +bytes +the same")
        self.assertIn("announces now: copy-data\n", page)
        self.assertIn("announces no longer: limits@openssh.com\n", page)
        self.assertEqual(found.status, 0)

    def test_any_two_reports_can_be_compared(self):
        for old, new in ((hostile_report(), right()), (right(), hostile_report()), (hostile_report(),) * 2):
            for line in comparing.text(comparing.compare(old, new), 60).split("\n"):
                self.assertTrue(line.isprintable(), ascii(line))


class Command(unittest.TestCase):
    def test_it_writes_every_form_and_compares_what_it_wrote(self):
        with tempfile.TemporaryDirectory() as directory:
            paths = [str(Path(directory, name)) for name in ("before", "after")]
            for path, report in zip(paths, (right(), wrong()), strict=True):
                for kind, begin in (
                    ("html", "<!DOCTYPE"),
                    ("junit", "<?xml"),
                    ("terminal", "server "),
                    ("json", "{"),
                ):
                    text = pysftp_probe.rendered(kind, report)
                    self.assertTrue(text.startswith(begin), text[:20])
                    pysftp_probe.write(path, text)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                status = pysftp_probe.answer(["--compare", *paths])
                self.assertEqual(pysftp_probe.answer(["--compare", *reversed(paths)]), 0)
        self.assertEqual(status, 1)
        self.assertIn("newly broken:\n  link-text", printed.getvalue())


class Rules(unittest.TestCase):
    def test_the_table_has_every_rule(self):
        table = rules.markdown_table()
        self.assertEqual(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE), list(RULES))
        self.assertTrue(rules.counts().startswith(f"There are {len(RULES)} rules: "))
        for line in table.splitlines():
            self.assertIn(len(re.findall(r"(?<!\\)\|", line)), (0, 5), line)


class Reproduction(unittest.TestCase):
    def test_it_says_what_is_expected_what_came_and_how_to_see_it_again(self):
        outcome = wrong().outcomes[0]
        page = reproduction(outcome, "-- /usr/libexec/sftp-server")
        self.assertTrue(page.startswith(f"**{outcome.sentence}**\n\nSource: {outcome.source} (must)\n"))
        self.assertIn(f"```text\n{summing.one_line(outcome.why)}\n```", page)
        self.assertRegex(page, r'\nC  READLINK id 2 "/link-0"\n   0000  00 00 00 10 13 .*\n')
        self.assertTrue(page.endswith("`pysftp-probe --only link-text -- /usr/libexec/sftp-server`\n"))

    def test_no_text_of_a_server_leaves_its_block(self):
        for outcome in hostile_report().outcomes:
            outcome.why += "\n```\n# heading ````"
            for step in outcome.steps:
                step.words = "`````"
            page = reproduction(outcome)
            outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", page)
            self.assertNotRegex(outside, r"(?m)^#|(?<!\\)<|^```")
            self.assertTrue(all(line.isprintable() for line in page.split("\n")))


class Levels(unittest.TestCase):
    def test_every_level_has_a_name(self):
        self.assertEqual(tuple(summing.NAMES), LEVELS)
