"""Every command of the pages is typed by a test here, or listed with a test of its like or a reason."""

from __future__ import annotations

import ast
import unittest
from collections.abc import Iterator
from functools import cache

from tests.docs import (  # noqa: F401 - the tests mark commands
    ledger,
    pages,
    test_databases,
    test_readme,
    test_servers,
    test_under_sshd,
)
from tests.docs.stage import RUN
from tests.support.paths import ROOT

HINT = "type it in a test of tests/docs, or list it in tests/docs/ledger.py"


def key(command: str) -> str:
    """What stands for a command in the ledger: its first line."""
    return command.split("\n")[0]


def listed() -> Iterator[tuple[str, str, str]]:
    """Page, command and what is said of it."""
    for page, rows in ledger.ELSEWHERE.items():
        for command, account in rows.items():
            yield page, command, account


class Ledger(unittest.TestCase):
    def setUp(self) -> None:
        self.commands = {
            (page, key(command))
            for page, commands in pages.all_commands().items()
            for command in commands
            if not ledger.SYNOPSIS.search(command)
        }
        self.known = {*RUN, *((page, command) for page, command, _ in listed())}

    def test_every_command_of_a_page_is_accounted_for(self) -> None:
        for page, command in sorted(self.commands - self.known):
            with self.subTest(page):
                self.fail(f"{command!r}: {HINT}")

    def test_nothing_is_accounted_for_that_no_page_has(self) -> None:
        for page, command in sorted(self.known - self.commands):
            with self.subTest(page):
                self.fail(f"{command!r} is not in the page any more")

    def test_nothing_is_listed_that_a_test_here_types(self) -> None:
        self.assertEqual([row for row in listed() if row[:2] in RUN], [])

    def test_every_test_that_is_named_exists(self) -> None:
        for page, command, account in listed():
            with self.subTest(page, command=command):
                if account.startswith("tests."):
                    self.assertTrue(exists(account), account)
                else:
                    self.assertRegex(account, r"^[A-Z].* .*\.$")

    def test_every_other_line_of_a_block_without_a_language_is_accounted_for(self) -> None:
        seen = set()
        for page in pages.paths():
            for block in pages.blocks(page):
                if others := pages.others(block):
                    first = others[0].strip()
                    known = [start for start in ledger.NO_COMMANDS.get(page, {}) if first.startswith(start)]
                    with self.subTest(page, line=block.line):
                        self.assertTrue(known, f"{first!r}: give the block a language, or {HINT}")
                    seen |= {(page, start) for start in known}
        rows = {(page, start) for page, starts in ledger.NO_COMMANDS.items() for start in starts}
        self.assertEqual(seen, rows)


def exists(name: str) -> bool:
    """Whether a module, class or method of the tests exists; methods may be inherited."""
    *modules, last = name.split(".")
    path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    if path.exists():
        return True
    path = ROOT.joinpath(*modules).with_suffix(".py")
    if path.exists():
        return last in _names(path.read_text())
    path = ROOT.joinpath(*modules[:-1]).with_suffix(".py")
    return path.exists() and {modules[-1], last} <= _names(path.read_text())


@cache
def _names(source: str) -> set[str]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)}


class Collecting(unittest.TestCase):
    """What counts as a command."""

    def commands(self, text: str, language: str = "") -> list[str]:
        return pages.commands(pages.Block("page", 1, language, text))

    def test_lines_that_begin_with_a_program(self) -> None:
        text = "pysftpd --users x   # comment\nX=y pysftplab serve\nsudo -u bob /opt/bin/pysftpjail /srv\n"
        self.assertEqual(
            self.commands(text),
            ["pysftpd --users x", "X=y pysftplab serve", "sudo -u bob /opt/bin/pysftpjail /srv"],
        )

    def test_lines_after_a_prompt_and_not_the_answers(self) -> None:
        self.assertEqual(self.commands("$ unknown x\nsftp answers\n$ y\n"), ["unknown x", "y"])

    def test_lines_that_go_on(self) -> None:
        text = "make \\\n  test\ncat > x <<END\nmake\nEND\nmake lint\n"
        self.assertEqual(self.commands(text), ["make \\\n  test", "cat > x <<END\nmake\nEND", "make lint"])

    def test_what_configurations_start_in_any_language(self) -> None:
        text = 'restrict,command="a \'b\' c" ssh-rsa AAAA\nForceCommand d "$e"\n17 4 * * * alice f > /x\n'
        self.assertEqual(self.commands(text, "text"), ["a 'b' c", 'd "$e"', "f > /x"])

    def test_other_languages_have_none_and_unknown_programs_are_not_passed_over(self) -> None:
        self.assertEqual(self.commands("make\n", "python"), [])
        block = pages.Block("page", 1, "", "make\nnewprogram --x\n")
        self.assertEqual(pages.others(block), ["newprogram --x"])
