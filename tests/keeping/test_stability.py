"""What docs/stability.md promises to keep is there: names, commands, options, keys, requests, formats."""

from __future__ import annotations

import json
import re
import unittest

import yaml  # type: ignore[import-untyped]

from pysftpserver import formats
from pysftpserver.cli.registry import PROGRAMS
from tests.keeping import published
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/stability.md").read_text()


class WhatIsPublished(unittest.TestCase):
    def test_nothing_that_was_recorded_is_gone(self) -> None:
        recorded, present = json.loads(published.RECORDED.read_text()), published.published()
        for kind, names in recorded.items():
            with self.subTest(kind):
                self.assertEqual(
                    set(names) - set(present[kind]), set(), "deprecate it first: docs/stability.md"
                )

    def test_every_kind_is_recorded(self) -> None:
        # A name may come in any change: only what a tagged version has is promised (make release checks it).
        recorded, present = json.loads(published.RECORDED.read_text()), published.published()
        self.assertEqual(set(recorded), set(present))
        self.assertEqual(sorted(recorded["commands"]), recorded["commands"])

    def test_the_page_has_a_row_for_each_kind(self) -> None:
        for kind in published.published():
            with self.subTest(kind):
                self.assertIn(f"| {kind} |", PAGE)

    def test_the_page_has_every_format(self) -> None:
        for form in formats.FORMATS:
            self.assertIn(f"| {form.name} | {form.place} | {form.version} |", PAGE)

    def test_the_oldest_python_that_the_page_names_is_the_one_that_is_required(self) -> None:
        wanted = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
        assert wanted is not None
        self.assertIn(f"Python {wanted[1]}", PAGE)


class PagesForPeopleWhoHelp(unittest.TestCase):
    def test_the_forms_for_issues_are_forms_and_the_one_for_faults_has_every_command(self) -> None:
        forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))
        forms.append(ROOT / ".github/ISSUE_TEMPLATE/client.yml")
        for path in forms:
            with self.subTest(path.name):
                form = yaml.safe_load(path.read_text())
                self.assertTrue(form["name"] and form["description"])
                ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
                self.assertEqual(len(set(ids)), len(ids))
                kinds = {part["type"] for part in form["body"]}
                self.assertLessEqual(kinds, {"markdown", "input", "textarea", "dropdown", "checkboxes"})
        bug = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
        options = next(part for part in bug["body"] if part.get("id") == "door")["attributes"]["options"]
        self.assertLessEqual({program.name for program in PROGRAMS}, set(options))
        self.assertIn("probe", {part.get("id") for part in bug["body"]})
