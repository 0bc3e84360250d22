"""What the README promises and the packaging lists is there."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import unittest

from pysftpserver.cli.registry import PROGRAMS
from tests import test_architecture as architecture
from tests.support.cases import InAPlace
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

DISTRIBUTIONS = {"argon2": "argon2-cffi"}  # whose names are not those of their modules


def _plain(requirement: str) -> str:
    """The name in a requirement, as indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement)[0]).lower()


class Project(unittest.TestCase):
    def test_every_make_target_in_the_documents_exists(self):
        targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
            named = set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", document.read_text(), re.MULTILINE))
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
        parts = {program.extra for program in PROGRAMS if program.extra} | {"embedded", "objects", "fsspec"}
        self.assertEqual(
            set(project["optional-dependencies"]), {*parts, "all", "test", "docs", "dist", "conformance"}
        )
        (everything,) = project["optional-dependencies"]["all"]
        named = re.fullmatch(r"pysftpserver\[(.*)\]", everything)
        self.assertIsNotNone(named, everything)
        self.assertEqual(set(named[1].split(",")), parts)

    def test_an_extra_installs_every_library_that_the_rooms_of_its_door_import(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for extra, rooms in {
            "web": ("web", "http", "people"),
            "sshd": ("sshd", "people"),
            "remo": ("remo", "http"),
        }.items():
            with self.subTest(extra):
                files = [path for room in rooms for path in (ROOT / "pysftpserver" / room).rglob("*.py")]
                found = {name.partition(".")[0] for path in files for _, name in architecture.imports(path)}
                libraries = found - set(sys.stdlib_module_names) - {"pysftpserver"}
                wanted = {_plain(DISTRIBUTIONS.get(name, name)) for name in libraries}
                self.assertLessEqual(wanted, set(map(_plain, project["optional-dependencies"][extra])))

    def test_every_dependency_has_a_known_good_version_in_the_constraints(self):
        lines = (ROOT / "tools" / "constraints.txt").read_text().splitlines()
        pinned = [line for line in lines if not line.startswith("#")]
        for line in pinned:
            self.assertRegex(line, r"\A[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*\Z")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [need for needs in project["optional-dependencies"].values() for need in needs]
        self.assertLessEqual({_plain(need) for need in wanted} - {"pysftpserver"}, set(map(_plain, pinned)))

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

    @unittest.skipUnless((ROOT / ".git").exists(), "not a clone")
    def test_the_repository_has_no_symbolic_links(self):
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        links = [name for name in listed.stdout.split("\0") if (ROOT / name).is_symlink()]
        self.assertEqual(links, [], "a program that was tried may have left them")


STUB = """#!/bin/sh
# Stands in for Python: makes environments of itself, and writes down what it is asked to install.
case "$*" in
"-m venv "*) for last; do :; done; mkdir -p "$last/bin"; rm -f "$last"/.done-*; cp "$0" "$last/bin/python" ;;
"-m pip "*) echo "$*" >> installed ;;
esac
"""


class Environment(InAPlace):
    """tools/venv.sh in a copy of what it looks at, with a program in the place of Python."""

    def setUp(self) -> None:
        super().setUp()
        for name in (
            "pyproject.toml",
            "setup.py",
            "bin/pysftpjail",
            "tools/venv.sh",
            "tools/constraints.txt",
        ):
            (self.place / name).parent.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, self.place / name)
        self.python = self.place / "stub"
        self.python.write_text(STUB)
        self.python.chmod(0o755)

    def installs(self, *words: str) -> list[str]:
        """What a run has pip do, but for a newer pip."""
        asked = self.place / "installed"
        asked.write_text("")
        subprocess.run(
            [self.place / "tools" / "venv.sh", *words],
            env={**os.environ, "PYTHON": str(self.python)},
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=PATIENCE,
        )
        return [line for line in asked.read_text().splitlines() if not line.endswith(" pip>=25")]

    def test_an_environment_is_made_once_and_anew_when_what_it_is_made_of_changes(self):
        (asked,) = self.installs("test")
        self.assertRegex(asked, r"--constraint tools/constraints\.txt .*--editable \.\[test\]")
        self.assertEqual(self.installs("test"), [])
        self.assertEqual(self.installs("sshd"), [], "what the tests need is enough")
        for name in ("pyproject.toml", "setup.py", "bin/pysftpjail", "tools/constraints.txt"):
            with self.subTest(name), (self.place / name).open("a") as file:
                file.write("\n")
                file.flush()
                self.assertEqual(len(self.installs("test")), 1)
                self.assertEqual(self.installs("test"), [])

    def test_another_python_has_an_environment_of_its_own(self):
        for count in (1, 0):
            self.assertEqual(len(self.installs("--for", str(self.python), "test")), count)
        self.assertTrue((self.place / ".venv-stub" / "bin" / "python").exists())
        self.assertFalse((self.place / ".venv").exists())

    def test_the_newest_versions_go_into_an_environment_of_their_own_and_are_asked_for_each_time(self):
        for _ in range(2):
            (asked,) = self.installs("--latest", "test")
            self.assertRegex(asked, r"--upgrade --upgrade-strategy eager .*--editable \.\[test\]")
            self.assertNotIn("constraint", asked)
        self.assertTrue((self.place / ".venv-latest" / "bin" / "python").exists())
        self.assertFalse((self.place / ".venv").exists())
        self.assertEqual(len(self.installs("test")), 1)
