"""docs/conformance.md and what makes it: the page is whole, and servers that are cheap to start are tried."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unittest

from pysftpserver.contract.rules import RULES
from pysftpserver.contract.table import CLIENT
from pysftpserver.probe.results import ERROR, FAILED, Report
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tools.conformance import probing, servers

PAGE = ROOT / "docs" / "conformance.md"
REPRODUCTIONS = ROOT / "docs" / "conformance"
OURS = "jail", "plain", "memory"
OTHERS = "openssh", "asyncssh", "paramiko", "rclone"
CONFINED = """
import os, sys
from pathlib import Path
from tools.conformance import confining
home, top = Path.home(), Path(sys.argv[1])
try:
    confining.confine(top)
except OSError as error:
    sys.exit(print(f"cannot: {error}"))
for name, place in ("inside", top), ("home", home):
    try:
        (place / "made-by-a-test").mkdir()
        print(f"{name}: made")
    except OSError as error:
        print(f"{name}: {error.strerror}")
"""

#: What rclone 1.75's cache of directories does not list after some renames, no client can remove.
UNLISTED = re.compile(r"RMDIR was refused: FAILURE \(4\) \(.*directory not empty\)$", re.IGNORECASE)


class Page(unittest.TestCase):
    def test_it_names_every_server_of_the_table(self) -> None:
        text = PAGE.read_text()
        for server in servers.SERVERS:
            with self.subTest(server.word):
                self.assertTrue(f"\n### {server.title}\n" in text and f" | {server.word} | " in text)
        for title, _ in servers.LEFT_OUT:
            with self.subTest(title):
                self.assertTrue(f"\n- {title}: " in text)

    def test_every_broken_must_has_a_reproduction(self) -> None:
        links = re.findall(r"\]\(conformance/(\w+\.md)#([\w-]+)\)", PAGE.read_text())
        for file, rule in links:
            with self.subTest(file=file, rule=rule):
                self.assertIn(rule, RULES)
                self.assertTrue(f"\n## {rule}\n" in (REPRODUCTIONS / file).read_text())
        self.assertEqual({file for file, _ in links}, {path.name for path in REPRODUCTIONS.glob("*.md")})

    def test_nothing_is_on_it_that_is_another_one_in_each_run(self) -> None:
        for path in PAGE, *REPRODUCTIONS.glob("*.md"):
            text = path.read_text()
            self.assertTrue(probing.constant(text) == text, path.name)


@unittest.skipUnless(IS_HARD, "takes minutes; part of make test-hard")
class Probing(unittest.TestCase):
    def report(self, word: str) -> Report:
        """What all rules say of a server."""
        server = next(server for server in servers.SERVERS if server.word == word)
        with probing.top_directory() as top:
            document = probing.probe(server, top, say=lambda words: None)
        self.assertNotIn("absent", document)
        report = Report.from_json(document["report"])
        self.assertEqual((report.stopped, len(report.outcomes)), ("", len(RULES)))
        left = [what for what in report.left if not (word == "rclone" and UNLISTED.search(what))]
        self.assertEqual(left, [])
        return report

    def test_every_must_and_should_holds_for_our_servers_of_directories_and_in_memory(self) -> None:
        for word in OURS:
            broken = [
                f"{outcome.rule}: {outcome.why}"
                for outcome in self.report(word).outcomes
                if outcome.verdict in (FAILED, ERROR) and outcome.level != CLIENT
            ]
            with self.subTest(word):
                self.assertEqual(broken, [])

    def test_other_servers_are_tried_to_the_end(self) -> None:
        for word in OTHERS:
            with self.subTest(word):
                self.report(word)


class Confining(unittest.TestCase):
    def test_nothing_else_can_be_written_to(self) -> None:
        with probing.top_directory() as top:
            done = subprocess.run(
                [sys.executable, "-c", CONFINED, os.fspath(top)], cwd=ROOT, capture_output=True, text=True
            )
        if done.stdout.startswith("cannot:"):
            self.skipTest(done.stdout.strip())
        self.assertEqual((done.stdout, done.stderr), ("inside: made\nhome: Read-only file system\n", ""))
