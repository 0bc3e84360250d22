"""The tables of the pages are those of the code."""

from __future__ import annotations

import subprocess
import sys
import unittest
from pathlib import Path

from tools import docs_tables


class Tables(unittest.TestCase):
    def test_every_page_is_up_to_date(self):
        command = [sys.executable, docs_tables.__file__, "--check"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.stdout, done.returncode), ("", 0), done.stderr)

    def test_a_page_with_an_old_table_gets_the_new_one_and_keeps_the_rest(self):
        name = "pysftpserver.service.settings:LogSettings"
        page = f"before\n<!-- table: {name} -->\nold\n<!-- end of table -->\nafter\n"
        new = docs_tables.with_tables(page)
        self.assertRegex(new, r"\Abefore\n<!-- table: \S+ -->\n\| setting \|")
        self.assertIn("| `log_level` |", new)
        self.assertTrue(new.endswith(" |\n<!-- end of table -->\nafter\n"))
        self.assertNotIn("old", new)
        self.assertEqual(docs_tables.with_tables(new), new)

    def test_the_tool_looks_at_every_page(self):
        names = {path.name for path in docs_tables.pages()}
        self.assertLessEqual({"README.md", "sshd.md", "remo.md"}, names)
        self.assertTrue(all(isinstance(path, Path) for path in docs_tables.pages()))
