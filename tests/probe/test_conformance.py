"""docs/conformance.md and what makes it: the page is whole, and servers that are cheap to start are tried."""

from __future__ import annotations

import re
import unittest

from pysftpserver.contract.rules import RULES
from pysftpserver.contract.table import CLIENT
from pysftpserver.probe.results import ERROR, FAILED, Report
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tools.conformance import probing, servers

PAGE = ROOT / "docs" / "conformance.md"
REPRODUCTIONS = ROOT / "docs" / "conformance"
OTHERS = "openssh", "asyncssh", "paramiko", "rclone"


class Page(unittest.TestCase):
    def test_it_names_every_server_of_the_table(self) -> None:
        text = PAGE.read_text()
        for server in servers.SERVERS:
            with self.subTest(server.word):
                self.assertIn(f"\n### {server.title}\n", text)
                self.assertIn(f" | {server.word} | ", text)
        for title, _ in servers.LEFT_OUT:
            with self.subTest(title):
                self.assertIn(f"\n- {title}: ", text)

    def test_every_broken_must_has_a_reproduction(self) -> None:
        links = re.findall(r"\]\(conformance/(\w+\.md)#([\w-]+)\)", PAGE.read_text())
        for file, rule in links:
            with self.subTest(file=file, rule=rule):
                self.assertIn(rule, RULES)
                self.assertIn(f"\n## {rule}\n", (REPRODUCTIONS / file).read_text())
        self.assertEqual({file for file, _ in links}, {path.name for path in REPRODUCTIONS.glob("*.md")})

    def test_nothing_is_on_it_that_is_another_one_in_each_run(self) -> None:
        for path in PAGE, *REPRODUCTIONS.glob("*.md"):
            text = path.read_text()
            self.assertEqual(probing.constant(text), text, path.name)


class Probing(unittest.TestCase):
    def report(self, word: str) -> Report:
        """What all rules say of a server."""
        server = next(server for server in servers.SERVERS if server.word == word)
        with probing.top_directory() as top:
            document = probing.probe(server, top, say=lambda words: None)
        self.assertNotIn("absent", document)
        report = Report.from_json(document["report"])
        self.assertEqual((report.stopped, report.left, len(report.outcomes)), ("", [], len(RULES)))
        return report

    def test_every_must_and_should_holds_for_the_storage_in_memory(self) -> None:
        self.assert_all_holds("memory")

    def assert_all_holds(self, word: str) -> None:
        broken = [
            f"{outcome.rule}: {outcome.why}"
            for outcome in self.report(word).outcomes
            if outcome.verdict in (FAILED, ERROR) and outcome.level != CLIENT
        ]
        self.assertEqual(broken, [])

    @unittest.skipUnless(IS_HARD, "takes half a minute; part of make test-hard")
    def test_every_must_and_should_holds_for_our_servers_of_directories(self) -> None:
        for word in "jail", "plain":
            with self.subTest(word):
                self.assert_all_holds(word)

    @unittest.skipUnless(IS_HARD, "takes minutes; part of make test-hard")
    def test_other_servers_are_tried_to_the_end(self) -> None:
        for word in OTHERS:
            with self.subTest(word):
                self.report(word)
