"""The manual pages say what the tables in the code say, and man, mandoc and whatis accept them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

from pysftpserver.cli.options import Command
from pysftpserver.cli.registry import PROGRAMS
from pysftpserver.people import users_file
from pysftpserver.site import file as site_file
from pysftpserver.site.schema import TABLES
from pysftpserver.sksync import config as sync_config
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE
from tools import manual
from tools.manual import formats, pages, roff
from tools.manual.commands import declaration, help_of, options_of, programs, section_of, walk

#: The variables of the environment that the code reads and people may set.
#: Variables that a process of ours sets for the next one are left out.
OURS = re.compile(r'b?"((?:PYSFTP[A-Z]*_|AWS_|AZURE_STORAGE_|GOOGLE_APPLICATION_|GCE_)[A-Z0-9_]+)"')
FILES = manual.files()
PAGES = {name: text for name, text in FILES.items() if "/man/" in name}


def page_of(name: str) -> str:
    section = section_of(name)
    return PAGES[f"share/man/man{section}/{name}.{section}"]


def section(page: str, title: str) -> str:
    """A section of a page; "" if there is none."""
    found = re.search(rf"^\.SH {title}\n(.*?)(?=^\.SH |\Z)", page, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def plain(page: str) -> str:
    """A page without fonts and escapes, on one line."""
    page = re.sub(r"\\f[BIR]|\\%|\\:|\\&", "", page)
    for escape, letter in {"\\-": "-", "\\(aq": "'", "\\(ti": "~", "\\(ha": "^", "\\e": "\\"}.items():
        page = page.replace(escape, letter)
    return " ".join(page.split())


class CommandsOfTheProject(unittest.TestCase):
    def test_have_a_page_each_in_the_section_of_those_who_use_them(self):
        for program in PROGRAMS:
            with self.subTest(program.name):
                self.assertRegex(
                    page_of(program.name), rf"\A\.TH {re.escape(roff.literal(program.name.upper()))} "
                )
        self.assertEqual(
            {name: section_of(name) for name in ("pysftpjail", "pysksync")}, {"pysftpjail": 8, "pysksync": 1}
        )

    def test_say_there_what_every_option_and_subcommand_does(self):
        for program in programs():
            page = plain(page_of(program.name))
            for words, command in walk(declaration(program)):
                name = " ".join((program.name, *words))
                if isinstance(command, Command):
                    self.assertIn(f"{name} [OPTION ...]", page)
                for option in options_of(command):
                    with self.subTest(name, option=option.flags[-1]):
                        value = f" {option.metavar}" if option.metavar else ""
                        spelled = ", ".join(f"{flag}{value}" for flag in option.flags)
                        self.assertIn(f".TP {spelled} {plain(roff.text(help_of(option)))}", page)

    def test_have_their_exit_statuses_and_examples_there(self):
        for program in programs():
            declared = declaration(program)
            page = page_of(program.name)
            with self.subTest(program.name):
                listed = re.findall(r"^\\fB\\%(\d+)\\fR$", section(page, "EXIT STATUS"), re.MULTILINE)
                own = {str(status) for status, _ in declared.statuses}
                self.assertEqual(set(listed), {"0", "1", "2", "130", "141"} | own)
                self.assertEqual(len(listed), len(set(listed)))
                for _, command in walk(declared):
                    for _, line in command.examples:
                        self.assertIn(line, plain(page))

    def test_are_explained_in_tables_that_name_no_others(self):
        known = {program.name for program in programs()}
        self.assertEqual(set(pages.SEE), known)
        self.assertLessEqual({*pages.FILES, *pages.ENVIRONMENT}, known)

    def test_name_every_variable_of_the_environment_that_is_read(self):
        sources = (path.read_text() for path in (ROOT / "pysftpserver").rglob("*.py"))
        found = {
            name
            for source in sources
            for name in OURS.findall(source)
            if not name.endswith(("_", "_HANDED_OVER"))
        }
        self.assertLessEqual({"PYSFTPMONGO_URI", "AWS_PROFILE", "PYSFTP_WARM"}, found)
        written = " ".join(plain(section(page, "ENVIRONMENT")) for page in PAGES.values())
        self.assertEqual({name for name in found if not re.search(rf"\b{name}\b", written)}, set())


class Formats(unittest.TestCase):
    def test_of_files_have_pages_with_every_key(self):
        page = PAGES["share/man/man5/pysftpsite.5"]
        for table in TABLES:
            for key in (table.keys or {}).values():
                self.assertIn(f"\n\\fB\\%{roff.literal(key.name)}\\fR = ", page)
        for name, (_, settings, _, _) in formats.SETTINGS.items():
            page = PAGES[f"share/man/man5/{name}.5"]
            for setting in settings.table():
                self.assertIn(f"\n\\fB\\%{setting}\\fR = ", page)
        for field in users_file.FIELDS:
            self.assertIn(f"\n\\fB\\%{field}\\fR = ", PAGES["share/man/man5/pysftpd-users.5"])
        for setting in (*sync_config.ServerSettings.table(), *sync_config.ClientSettings.table()):
            self.assertIn(f"\n\\fB\\%{setting}\\fR = ", PAGES["share/man/man5/sksync.json.5"])

    def test_have_examples_that_can_be_read(self):
        with tempfile.TemporaryDirectory() as place:
            site = Path(place) / "site.toml"
            site.write_text(formats.SITE_EXAMPLE)
            self.assertEqual(len(site_file.read(str(site)).mounts), 1)
            for name, (_, settings, example, _) in formats.SETTINGS.items():
                with self.subTest(name):
                    self.assertEqual(set(settings.parse(example, f"{name}")), set(tomllib.loads(example)))
        read = sync_config.read(formats.SYNC_EXAMPLE, "sksync.json")
        self.assertEqual((read.unknown, read.client("photos").recursive), ([], True))
        self.assertEqual(json.loads(formats.SYNC_EXAMPLE)["clients"].keys(), {"photos"})
        users = tomllib.loads(formats.USERS_EXAMPLE)["users"]
        self.assertEqual(
            {field for user in users.values() for field in user} - users_file.FIELDS.keys(), set()
        )


class Files(unittest.TestCase):
    def test_refer_to_pages_that_are_there(self):
        for name, page in PAGES.items():
            referred = re.findall(r"\\fB\\%([^\\ ]+(?:\\-[^\\ ]+)*)\\fR\((\d)\)", page)
            self.assertTrue(referred, name)
            for words, number in referred:
                other = words.replace("\\-", "-")
                if other.startswith(("pysftp", "pysk", "sksync")):
                    with self.subTest(name, other=other):
                        self.assertIn(f"share/man/man{number}/{other}.{number}", PAGES)

    def test_are_the_same_each_time_and_need_the_standard_library_alone(self):
        code = f"import sys, hashlib; sys.path.insert(0, {str(ROOT)!r}); from tools import manual\n"
        code += (
            "text = repr(sorted(manual.files().items()))\nprint(hashlib.sha256(text.encode()).hexdigest())"
        )
        wanted = hashlib.sha256(repr(sorted(FILES.items())).encode()).hexdigest()
        for seed in ("1", "2") if IS_HARD else ("1",):
            done = subprocess.run(
                [sys.executable, "-S", "-P", "-c", code],
                env={"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            self.assertEqual((done.stdout.strip(), done.stderr), (wanted, ""))

    def test_have_the_day_of_the_release_that_is_being_built(self):
        before = os.environ.get("SOURCE_DATE_EPOCH")
        os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
        try:
            self.assertIn(" 8 2023-11-14 ", roff.page("x", 8, "y", ()).splitlines()[0])
        finally:
            del os.environ["SOURCE_DATE_EPOCH"]
            if before is not None:
                os.environ["SOURCE_DATE_EPOCH"] = before

    def test_are_ascii_which_every_terminal_shows(self):
        for name, text in FILES.items():
            with self.subTest(name):
                self.assertTrue(text.isascii() and text.endswith("\n"))


@unittest.skipUnless(IS_HARD, "make test-hard reads each page with man, mandoc and lexgrog")
class Readers(unittest.TestCase):
    def test_have_nothing_to_complain_about(self):
        with tempfile.TemporaryDirectory() as place:
            for name, text in PAGES.items():
                path = Path(place) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            for name, text in PAGES.items():
                with self.subTest(name):
                    path = Path(place) / name
                    linted = self.run_it("mandoc", "-T", "lint", path)
                    self.assertEqual((linted.returncode, linted.stdout), (0, ""))
                    shown = self.run_it("man", "--warnings", "-l", path)
                    self.assertEqual((shown.returncode, shown.stderr), (0, ""))
                    self.assertGreater(len(shown.stdout.splitlines()), 10)
                    named = self.run_it("lexgrog", path)
                    summary = plain(section(text, "NAME")).partition(" - ")[2]
                    self.assertIn(f'"{path.name.rpartition(".")[0]} - {summary}"', named.stdout)
            for program in programs():
                shown = self.run_it("man", "-M", Path(place) / "share/man", program.name)
                for _, command in walk(declaration(program)):
                    for _, line in command.examples:  # as it is typed
                        self.assertIn(f"    {line}\n", shown.stdout)
                for file, _ in pages.FILES.get(program.name, ()):
                    self.assertIn(f" {file}", shown.stdout)
            shown = self.run_it("man", "-M", Path(place) / "share/man", "5", "pysftpsite")
            self.assertIn("PYSFTPSITE(5)", shown.stdout)

    def run_it(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
        return subprocess.run(
            words, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
