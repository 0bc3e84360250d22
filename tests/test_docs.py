"""README.md is short; other pages name every message and option of the commands, taken from the code."""

from __future__ import annotations

import ast
import pkgutil
import re
import unittest

from pysftpserver import cli
from pysftpserver.cli import (
    pysftpmongo,
    session,
)
from pysftpserver.cli.options import Command
from pysftpserver.cli.registry import PROGRAMS
from pysftpserver.engine.limits import LIMITS, MOST_HANDLES
from pysftpserver.engine.log import FACILITIES, LEVELS
from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.laboratory import wire as laboratory_wire
from pysftpserver.remo.routes import ROUTES
from pysftpserver.remo.shell import Shell
from pysftpserver.remo.users import WORDS
from pysftpserver.sksync import config
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "openssh.md").read_text()
GRIDFS_PAGE = (ROOT / "docs" / "gridfs.md").read_text()
TROUBLES_PAGE = (ROOT / "docs" / "troubles.md").read_text()
SKSYNC_PAGE = (ROOT / "docs" / "sksync.md").read_text()
REMO_PAGE = (ROOT / "docs" / "remo.md").read_text()
LABORATORY_PAGE = (ROOT / "docs" / "laboratory.md").read_text()
#: Modules whose messages an SFTP client may be shown, by the page that explains them.
MESSAGES = {
    "openssh.md": (
        "cli/common.py",
        "cli/session.py",
        "cli/pysftpjail.py",
        "cli/pysftpserver.py",
        "cli/parser.py",
        "engine/log.py",
    ),
    "gridfs.md": ("cli/pysftpmongo.py", "host/wholefiles.py", "failures.py"),
}
ERRORS = (BadInput.__name__, Unavailable.__name__)
SYSLOG = BadInput("in full", "").public  # what follows a text that leaves out something
TABLE = re.compile(r"<!-- table: [\w.:]+ -->\n(.*?)<!-- end of table -->", re.DOTALL)


def section(title: str, page: str = PAGE) -> str:
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]


def public_messages(page: str) -> set[str]:
    """What a client may be shown: of each BadInput, the public text, or the only one that it has.

    As regular expressions, because a text may have places for values.
    """
    found = set()
    for name in MESSAGES[page]:
        tree = ast.parse((ROOT / "pysftpserver" / name).read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ERRORS:
                        texts = [*node.args, *(keyword.value for keyword in node.keywords)]
                        text = pattern(texts[-1], function)
                        found.add(text if len(texts) == 1 else text + re.escape(SYSLOG))
    return found


def pattern(text: ast.expr, function: ast.FunctionDef) -> str:
    """The regular expression of a literal, an f-string, or the variable that one was just given to."""
    if isinstance(text, ast.Constant):
        return re.escape(str(text.value))
    if isinstance(text, ast.JoinedStr):
        return "".join(
            pattern(part, function) if isinstance(part, ast.Constant) else "[^`]+" for part in text.values
        )
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == ast.unparse(text):
            return pattern(node.value, function)
    raise AssertionError(f"line {text.lineno}: what does {ast.unparse(text)} say?")


def mentions(text: str, flag: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) is not None


class Readme(unittest.TestCase):
    def test_it_is_short_enough_to_be_read(self) -> None:
        self.assertLessEqual(len((ROOT / "README.md").read_text().splitlines()), 150)

    def test_it_shows_the_pictures_that_are_drawn_for_it(self) -> None:
        for name in ("overview.svg", "session.svg"):
            self.assertRegex((ROOT / "README.md").read_text(), rf"!\[[^]]+\]\(docs/images/{name}\)")


class Options(unittest.TestCase):
    def test_every_option_of_every_command_is_in_a_table_of_its_page(self) -> None:
        pages = {program.module: program.page for program in PROGRAMS}
        for info in pkgutil.iter_modules(cli.__path__):
            module = pkgutil.resolve_name(f"pysftpserver.cli.{info.name}")
            page = next((pages[name] for name in pages if info.name.startswith(name)), "")
            for name, command in vars(module).items():
                if isinstance(command, Command) and vars(module)["__name__"].endswith(info.name):
                    tables = "".join(TABLE.findall((ROOT / "docs" / page).read_text()))
                    for option in command.options:
                        with self.subTest(f"{info.name}:{name}", option=option.name):
                            self.assertRegex(tables, f"`({option.flags[-1]}( [A-Z_]+)?|{option.name})`")


class OpenSSHPage(unittest.TestCase):
    def test_every_message_that_a_client_may_be_shown_is_in_the_troubleshooting_table(self) -> None:
        messages = public_messages("openssh.md")
        self.assertGreaterEqual(len(messages), 5)
        shown = "".join(re.findall(r"^\| (`.*?) \| ", section("Under sshd", TROUBLES_PAGE), re.MULTILINE))
        for message in messages:
            with self.subTest(message):
                # Which those are that syslog says more about, the text in front of the table says.
                self.assertRegex(shown, f"`{message.removesuffix(re.escape(SYSLOG))}`")

    def test_every_log_level_and_facility_is_named(self) -> None:
        text = section("The whole host: Subsystem")
        for level in LEVELS:
            self.assertTrue(mentions(text, level), level)
        for facility in FACILITIES:
            if not facility.startswith("LOCAL"):
                self.assertTrue(mentions(text, facility), facility)
        self.assertIn("LOCAL0 to LOCAL7", text)

    def test_the_table_of_limits_has_every_limit_with_its_default(self) -> None:
        table = PAGE.split("\n### Limits\n")[1].split("\n### ")[0]
        rows = dict(re.findall(r"^\| `(--[a-z-]+) [A-Z]+` \| ([^|]+) \|", table, re.MULTILINE))
        self.assertEqual(list(rows), [limit.flag for limit in LIMITS])
        for limit in LIMITS:
            with self.subTest(limit.name):
                if limit.default is not None:
                    self.assertEqual(rows[limit.flag], str(limit.default))
        self.assertIn(f"at most {MOST_HANDLES}", rows["--max-handles"])
        self.assertEqual(rows["--idle-timeout"], "none")

    def test_every_request_in_its_lists_exists(self) -> None:
        text = section("Options of pysftpjail").split("\n### Request lists\n")[1].split("\n### ")[0]
        lists = re.findall(r"--allow-requests (\S+) /", text)
        self.assertEqual(len(lists), 1)
        for row in re.findall(r"^\| (?!to )[^|]+\| ([^|]*`[^|]*) \|$", text, re.MULTILINE):
            lists += re.findall(r"`([^`]+)`", row)
        self.assertGreater(len(lists), 15)
        for names in lists:
            with self.subTest(names):
                self.assertTrue(session.request_list(names))


class GridFSPage(unittest.TestCase):
    def test_every_message_that_a_client_may_be_shown_is_in_the_troubleshooting_table(self) -> None:
        messages = public_messages("gridfs.md") | {
            re.escape("the start directory cannot be used" + SYSLOG)  # pysftpjail's as well
        }
        self.assertGreaterEqual(len(messages), 8)
        table = section("When it does not work", GRIDFS_PAGE)
        for message in messages:
            with self.subTest(message):
                self.assertRegex(table, f"`pysftpmongo: {message}`")

    def test_the_table_has_no_message_that_the_command_does_not_print(self) -> None:
        messages = public_messages("gridfs.md") | public_messages("openssh.md")
        shown = re.findall(r"`pysftpmongo: ([^`]*)`", section("When it does not work", GRIDFS_PAGE))
        self.assertGreaterEqual(len(shown), 8)
        for message in shown:
            with self.subTest(message):
                self.assertTrue(any(re.fullmatch(one, message) for one in messages))

    def test_every_way_to_name_a_database_is_explained_with_its_figures(self) -> None:
        text = section("pysftpmongo", GRIDFS_PAGE)
        for words in ("REMOTE PORT DB_NAME", *pysftpmongo.SCHEMES, f"`{pysftpmongo.VARIABLE}`"):
            self.assertIn(words, text)
        self.assertIn(f"`--embedded DIR`, for trials and tests | `{pysftpmongo.EMBEDDED_DATABASE}`", text)
        self.assertIn(f"within {pysftpmongo.PATIENCE:g} seconds", text)
        self.assertIn(f"({session.OLD:g} by\ndefault", text)


class SKSyncPage(unittest.TestCase):
    def test_every_sync_type_is_explained(self) -> None:
        text = section("What goes where", SKSYNC_PAGE)
        self.assertEqual(set(re.findall(r"^\| `(\w+_time)`", text, re.MULTILINE)), set(config.SYNC_TYPES))


class RemoPage(unittest.TestCase):
    def test_every_permission_is_explained(self) -> None:
        rows = re.findall(r"^\| `([a-z]+)` \| ", section("Keys and users", REMO_PAGE), re.MULTILINE)
        self.assertEqual(set(rows), set(WORDS))

    def test_every_verb_of_the_prompt_is_explained(self) -> None:
        text = section("The client", REMO_PAGE)
        verbs = [name[3:] for name in dir(Shell) if name.startswith("do_")]
        for verb in set(verbs) - {"EOF", "help"}:
            with self.subTest(verb):
                self.assertRegex(text, rf"\| `{verb}\b")

    def test_every_path_beyond_the_protocol_is_explained(self) -> None:
        text = section("The protocol, beyond what others speak", REMO_PAGE)
        for path in set(ROUTES) - {"info", "get", "put", "cmd", "icm", "idt", "edt"}:
            self.assertIn(f"`/{path}", text)


class LaboratoryPage(unittest.TestCase):
    def test_the_service_in_ten_lines_is_the_one_that_is_supplied(self) -> None:
        text = section("A service in ten lines", LABORATORY_PAGE)
        (code, *_) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        supplied = (ROOT / "pysftpserver" / "laboratory" / "services" / "clock.py").read_text()
        self.assertEqual(supplied.split('"""\n\n', 1)[1], code)
        self.assertLessEqual(len([line for line in code.splitlines() if line.strip()]), 10)

    def test_every_method_that_a_service_may_write_or_call_is_explained(self) -> None:
        text = section("A service in ten lines", LABORATORY_PAGE)
        tree = ast.parse((ROOT / "pysftpserver" / "laboratory" / "service.py").read_text())
        (service,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Service")
        names = {
            node.name for node in service.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for name in names - {"attach", "detach"}:
            with self.subTest(name):
                self.assertRegex(text, rf"`(?:await )?(?:self\.)?{name}\b")

    def test_every_word_of_the_protocol_is_in_its_table(self) -> None:
        text = section("The protocol", LABORATORY_PAGE)
        for word in laboratory_wire.Word:
            with self.subTest(word):
                self.assertIn(word.value, text)

    def test_every_word_of_the_terminal_client_is_named(self) -> None:
        text = section("pysftplab connect", LABORATORY_PAGE)
        words = re.findall(
            r'": \(self\._\w+, "(:\w+)', (ROOT / "pysftpserver/laboratory/terminal.py").read_text()
        )
        self.assertGreater(len(words), 5)
        for word in words:
            with self.subTest(word):
                self.assertIn(f"`{word}", text)
