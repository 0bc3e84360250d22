"""What all commands say of themselves: one style, the same words for the same option, and exit statuses."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import unittest
from collections import defaultdict
from unittest import mock

from pysftpserver.cli import common
from pysftpserver.cli.options import Command, Commands
from pysftpserver.failures import BadInput, Unavailable
from tools.manual.commands import declaration, help_of, main_of, options_of, programs, walk

#: Options that mean several things: how many, and why.
DIFFERENT = {
    "--account": (3, "of customers, of pysftpd, to try"),
    "--add": (2, "pysksync's users and pysftpctl's bans"),
    "--atomic-uploads": (2, "pysftpd's is for folders alone"),
    "--audit": (2, "of a session, it may be standard error, and a failure ends the session"),
    "--auth-methods": (2, "a browser has no keys"),
    "--check": (2, "what sshd would do, and what a storage can do"),
    "--command": (2, "which forced command gets what"),
    "--config": (4, "what is read is TOML, JSON or, as older files of pysftpd are, INI"),
    "--drain-seconds": (3, "pysftpremo has commands; pysftplab's services get half"),
    "--dry-run": (3, "of a sync, of --gc, of what is done to users"),
    "--durable": (3, "pysftpd and pysftpweb leave storages alone that are no folders"),
    "--folder": (2, "of a customer below --path, of a user below sftp_path"),
    "--from": (2, "with --explain in pysftpsite, and a command's in pysftpctl"),
    "--idle-timeout": (4, "of a session, a connection, a request; SK Sync ends slow ones as well"),
    "--json": (2, "a report's file, and a switch"),
    "--key": (5, "a key to log in with, to write, to add, to ask about"),
    "--list": (3, "of events, of rules, of users"),
    "--listen-address": (2, "HTTP servers listen on one address"),
    "--log-level": (2, "pysftpserver has the levels of sftp-server(8)"),
    "--login-grace": (4, "what has to be done in time is another thing at each door"),
    "--login-share": (2, "of pysftpweb, passwords alone take time"),
    "--max-connections": (2, "of pysftp-warm, sessions"),
    "--max-handles": (2, "of a session, and of a user"),
    "--max-per-address": (2, "of HTTP servers, requests"),
    "--max-per-user": (3, "sessions or connections, and what happens to one more"),
    "--max-sessions": (2, "processes of pysftpd, logins of HTTP servers"),
    "--name": (4, "of a client, a server, a certificate"),
    "--networks": (2, "a customer's, and a user's, which none resets"),
    "--password-file": (2, "pysksync users takes - for standard input"),
    "--port": (2, "to connect to, and to listen on"),
    "--read-only": (2, "of a session or a door, and of a customer"),
    "--remove": (3, "of a password, a secret, a user"),
    "--require-numbered": (2, "of a server, and of a client"),
    "--run-as": (2, "of all users, and of one"),
    "--service": (2, "to use, and to offer"),
    "--site": (5, "what is put under it is another thing at each door"),
    "--start-directory": (2, "pysftpserver fills in %d and %u, as sftp-server(8) does"),
    "--storage": (4, "of a door, and of a user"),
    "--timeout": (2, "pysftplab's is for each request"),
    "--user": (2, "of a session, and to log in as"),
}
#: Options without a default: they are what the command does.
EXITS = re.compile(r"\band exit\b")
DEFAULT = re.compile(r" (?:The default is [^.]|There is none by default\.|By default, )")
METAVARS = set(
    "ACCOUNT ACCOUNTS ADDRESS ADDRESS:PORT BYTES CHANNEL CLASSES COMMAND COUNT DAYS DIR ENTRIES FACILITY "
    "FILE FILES FOLDER FORMAT GROUP HEAD HOST HOURS KEY LEVEL LINES LIST METHODS MIB NAME NAMES NETWORKS "
    "NUMBER NUMBERS PAIRS PASSWORD PATH PATTERN PERCENT POINTS POLICY PORT SCHEMES SECONDS SERVICE "
    "STORAGE TEXT TIME TIMES TYPE UMASK URI URL USER VERSION WORD WORDS YES_OR_NO requests".split()
)


def everything() -> list[tuple[str, Command | Commands]]:
    return [
        (" ".join((program.name, *words)), command)
        for program in programs()
        for words, command in walk(declaration(program))
    ]


def without_default(text: str) -> str:
    return DEFAULT.split(text)[0].strip()


def answered(prog: str, *words: str) -> tuple[int, str, str]:
    """What a command does in this process: exit status, output, and complaints."""
    out, told = io.StringIO(), []
    with contextlib.redirect_stdout(out), mock.patch.object(common, "tell", told.append):
        with mock.patch.dict(os.environ, {"COLUMNS": "80"}):
            try:
                status = main_of(prog)([*words])
            except SystemExit as ended:
                status = int(ended.code or 0)
    return status, out.getvalue(), "\n".join(told)


class Words(unittest.TestCase):
    def test_an_option_has_the_same_text_in_all_commands_or_a_reason(self):
        texts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for name, command in everything():
            for option in options_of(command):
                texts[option.flags[-1]][without_default(help_of(option))].append(name)
        for flag, found in texts.items():
            with self.subTest(flag):
                self.assertEqual(len(found), DIFFERENT.get(flag, (1, ""))[0], dict(found))

    def test_texts_are_whole_sentences_with_the_default_at_the_end(self):
        for name, command in everything():
            for option in options_of(command):
                text = help_of(option)
                with self.subTest(name, option=option.flags[-1]):
                    self.assertRegex(text, r"\A(?:[A-Z]|What \{).*\.\Z")
                    self.assertTrue(option.instead or DEFAULT.search(text) or EXITS.search(text), text)

    def test_values_are_named_by_what_they_are(self):
        for name, command in everything():
            for option in options_of(command):
                with self.subTest(name, option=option.flags[-1]):
                    self.assertIn(option.metavar, {None, *METAVARS})

    def test_help_fits_a_terminal_of_80_columns(self):
        for name, command in everything():
            with self.subTest(name):
                words = name.split()
                status, text, _ = answered(words[0], *words[1:], "--help")
                self.assertEqual(status, 0)
                self.assertEqual([line for line in text.splitlines() if len(line) > 80], [])
                self.assertLessEqual(len(text.split("\n\n")[0].splitlines()), 4, "the usage is short")
                for option in options_of(command):
                    for flag in option.flags:
                        self.assertRegex(text, rf"(?<![\w-]){flag}(?![\w-])")
                for _, line in command.examples:
                    self.assertIn(f"\n    {line}\n", text)

    def test_help_of_a_word_is_the_word_with_help(self):
        for name, command in everything():
            words = name.split()
            if isinstance(command, Commands):
                word = command.subcommands[-1].word
                with self.subTest(f"{name} {word}"):
                    asked = answered(words[0], *words[1:], "help", word)
                    self.assertEqual(asked, answered(words[0], *words[1:], word, "--help"))
                    self.assertIn(f"usage: {name} {word}", asked[1])
        self.assertEqual(answered("pysftpctl", "help"), answered("pysftpctl", "--help"))
        status, _, told = answered("pysftpctl", "help", "nope")
        self.assertEqual(status, 2)
        self.assertIn("unknown command 'nope'", told)


class Examples(unittest.TestCase):
    def test_every_command_has_one_and_takes_what_it_says(self):
        known = dict(everything())
        for name, command in everything():
            if isinstance(command, Command) and len(name.split()) == 1:
                self.assertTrue(command.examples, name)
            for what, line in command.examples:
                with self.subTest(line):
                    self.assertRegex(what, r"\A[A-Z].*:\Z")
                    self.parse(known, shown(line))

    def parse(self, known: dict[str, Command | Commands], words: list[str]) -> None:
        command = known[words[0]]
        at = 1
        while isinstance(command, Commands):
            at += command._shared_before(words[at:])
            subcommands = {subcommand.word: subcommand for subcommand in command.subcommands}
            if at < len(words) and words[at] in subcommands:
                command, at = subcommands[words[at]].declared(), at + 1
            else:
                self.assertIsNotNone(command.own, words)
                command, at = command.own, at
        end = words.index("--") if "--" in words else len(words)
        if "client" in words[at:end]:
            return  # pysksync CONFIG client NAME, which is read in another way
        command.parse(words[at:end])


def shown(line: str) -> list[str]:
    """The words of the command of ours in an example, whoever starts it."""
    words = shlex.split(line.replace("9f3c...", "9f3c" * 16))
    if words[0] == "sftp":
        words = shlex.split(words[2])
    elif words[0] in ("ForceCommand", "Subsystem", "AuthorizedKeysCommand"):
        words = words[2:] if words[0] == "Subsystem" else words[1:]
    elif (found := re.match(r'restrict,command="(.*)" ssh-', line)) is not None:
        words = shlex.split(found[1])
    return [os.path.basename(words[0]), *words[1:]]


class ExitStatuses(unittest.TestCase):
    def test_2_is_for_a_command_line_that_is_wrong_and_0_for_help(self):
        for name, _ in everything():
            words = name.split()
            with self.subTest(name):
                status, _, told = answered(words[0], *words[1:], "--no-such-option")
                self.assertEqual(status, 2, told)
                self.assertRegex(told, rf"\A{words[0]}.*(?:--no-such-option|missing|required)")
                self.assertEqual(answered(words[0], *words[1:], "--version")[0], 0)

    def test_those_of_all_commands_are_in_the_table(self):
        raised = {
            BadInput("wrong"): 2,
            Unavailable("away"): 1,
            KeyboardInterrupt(): 130,
            RuntimeError("a fault"): 1,
        }
        for error, expected in raised.items():
            with (
                self.subTest(repr(error)),
                mock.patch.object(common, "tell"),
                mock.patch.object(common, "syslog"),
            ):
                status = common.run("prog", mock.Mock(side_effect=error), ())
                self.assertEqual(status, expected)
                self.assertIn(status, dict(common.STATUSES))

    def test_a_command_lists_its_own_with_whole_sentences(self):
        for name, command in everything():
            for status, text in command.statuses:
                with self.subTest(name, status=status):
                    self.assertIn(status, range(256))
                    self.assertRegex(text, r"\A[A-Z].*\.\Z")
            self.assertEqual(len({status for status, _ in command.statuses}), len(command.statuses), name)

    def test_session_statuses_are_those_of_the_engine(self):
        from pysftpserver import stdio
        from pysftpserver.cli import session

        self.assertEqual([status for status, _ in session.STATUSES], [stdio.EXIT_CLEAN, stdio.EXIT_BROKEN])
