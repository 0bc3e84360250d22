"""What the README promises and the packaging lists is there."""

import os
import re
import tomllib
import unittest

from pysftpserver.cli.registry import PROGRAMS
from tests.support.paths import ROOT


class Project(unittest.TestCase):
    def test_every_make_target_in_the_documents_exists(self):
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
            named = set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.MULTILINE))
            with self.subTest(document.name):
                self.assertLessEqual(named, targets)
            if document.name == "README.md":
                self.assertLessEqual({"try", "test"}, named)

    def test_every_command_is_registered_and_every_registered_command_is_there(self):
        present = {path.name for path in (ROOT / "bin").iterdir() if path.is_file()}
        self.assertEqual({program.name for program in PROGRAMS}, present)
        for program in PROGRAMS:
            with self.subTest(program.name):
                path = ROOT / "bin" / program.name
                self.assertTrue(os.access(path, os.X_OK))
                lines = path.read_text().splitlines()
                self.assertEqual(lines[0], "#!/usr/bin/env python3")
                self.assertIn(f"from pysftpserver.cli.{program.module} import ", path.read_text())
                self.assertTrue((ROOT / "docs" / program.page).exists())
                self.assertTrue((ROOT / "tests" / program.tests).is_dir())
                room = ROOT / "pysftpserver" / program.room
                self.assertTrue(room.is_dir() or room.with_suffix(".py").exists())

    def test_the_core_depends_on_nothing_and_every_other_part_has_an_extra(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        self.assertEqual(project["dependencies"], [])
        self.assertEqual(project["requires-python"], ">=3.11")
        parts = {program.extra for program in PROGRAMS if program.extra} | {"embedded"}
        self.assertEqual(set(project["optional-dependencies"]), {*parts, "all", "test"})
        (everything,) = project["optional-dependencies"]["all"]
        named = re.fullmatch(r"pysftpserver\[(.*)\]", everything)
        self.assertIsNotNone(named, everything)
        self.assertEqual(set(named[1].split(",")), parts)

    def test_the_security_page_names_tests_that_exist_and_figures_that_meet_the_aim(self):
        page = (ROOT / "docs" / "security.md").read_text()
        for modules in re.findall(r'make test ARGS="?([a-z_. ]+)"?`', page):
            for module in modules.split():
                path = ROOT.joinpath(*module.split("."))
                with self.subTest(module):
                    self.assertTrue(path.is_dir() or path.with_suffix(".py").exists())
        rows = re.findall(r"^\| [^|]+ \| ([0-9,]+) \| 0 \|$", page, re.MULTILINE)
        *parts, together = (int(figure.replace(",", "")) for figure in rows)
        self.assertEqual(sum(parts), together)
        self.assertGreaterEqual(together, 10_000_000)

    def test_every_link_in_the_documents_leads_to_a_file(self):
        for document in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]:
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
                with self.subTest(document=document.name, link=link):
                    self.assertTrue((document.parent / link).exists())
