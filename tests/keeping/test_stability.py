"""What docs/stability.md promises to keep is there: names, commands, options, keys, requests, formats."""

from __future__ import annotations

import json
import re
import unittest

from pysftpserver import formats
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

    def test_what_is_new_is_recorded_before_a_release(self) -> None:
        # A name may come in any change: only what a tagged version has is promised.
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
