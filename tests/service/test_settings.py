"""Settings: one declaration gives options, file keys, defaults, types, help and the table of a page."""

from __future__ import annotations

import os
import unittest

from pysftpserver.cli import options
from pysftpserver.cli.options import Command
from pysftpserver.failures import BadInput
from pysftpserver.service.settings import (
    FLAG,
    IF_GIVEN,
    LEVEL,
    PORT,
    Setting,
    Settings,
    markdown_table,
    one_of,
    optional,
    seconds,
    text,
    texts,
    whole,
)
from tests.support.cases import InAPlace


class Sample(Settings):
    port = Setting(PORT, 2200, "Listen on this port.", "-p", aliases=("sftp_port", "-P"))
    logfile = Setting(optional(text("FILE")), None, "Append the log to this file.", unset="standard error")
    log_level = Setting(LEVEL, "INFO", "Log up to this level.", reloads=True)
    read_only = Setting(FLAG, False, "Refuse every change.", reloads=True)
    max_per_user = Setting(optional(whole(1, 100)), None, "Maximum number of connections of a user.")
    idle_timeout = Setting(seconds(), 2.5, "Close an idle connection after this many seconds.")
    ciphers = Setting(optional(texts("LIST", ",")), None, "Offer these ciphers.")
    service = Setting(texts("NAME"), (), "Offer this service; may be given several times.")
    log_format = Setting(one_of("plain", "json"), "plain", "Write the log in this format.")
    login = Setting(IF_GIVEN, None, "Ask for a password.", unset="yes, but no without users")
    password = Setting(optional(text()), None, "The password.", is_secret=True, in_file_only=True)


COMMAND = Command("sample", "A sample.", "", options.options_of(Sample))


class Case(InAPlace):
    def file(self, content: str, name: str = "sample.toml") -> str:
        path = self.place / name
        path.write_text(content)
        return os.fspath(path)

    def load(self, *words: str, path: str | None = None) -> Sample:
        return options.load(Sample, path, COMMAND.parse(words))

    def assert_refused(self, message: str, *words: str, path: str | None = None) -> None:
        with self.assertRaises(BadInput) as caught:
            self.load(*words, path=path)
        self.assertIn(message, caught.exception.message)


class Values(Case):
    def test_what_is_not_given_has_its_default(self):
        found = self.load()
        for name, setting in Sample.table().items():
            with self.subTest(name):
                self.assertEqual(getattr(found, name), setting.default)
        self.assertEqual(found.given, frozenset())

    def test_the_command_line_wins_over_the_file_and_the_file_over_the_default(self):
        path = self.file('port = 1\nidle_timeout = 7\nservice = ["a", "b"]\n')
        found = self.load("--port", "2", path=path)
        self.assertEqual((found.port, found.idle_timeout, found.service), (2, 7.0, ("a", "b")))
        self.assertEqual(found.given, {"port", "idle_timeout", "service"})

    def test_every_spelling_of_an_option_sets_the_same_value(self):
        for flag in ("-p", "--port", "--sftp-port", "--sftp_port", "-P"):
            with self.subTest(flag):
                self.assertEqual(self.load(flag, "7").port, 7)
        self.assertEqual(self.load("--log-level=debug").log_level, "DEBUG")
        self.assertEqual(self.load("--log_level=warning").log_level, "ERROR")

    def test_every_spelling_of_a_key_sets_the_same_value(self):
        for key in ("port", "sftp_port", "sftp-port"):
            with self.subTest(key):
                self.assertEqual(self.load(path=self.file(f"{key} = 7\n")).port, 7)

    def test_yes_or_no_may_be_left_to_other_settings(self):
        for words, expected in (((), None), (("--login", "yes"), True), (("--login", "false"), False)):
            with self.subTest(words):
                self.assertIs(self.load(*words).login, expected)

    def test_options_that_may_be_repeated_give_all_their_values(self):
        self.assertEqual(self.load("--service", "a", "--service", "b").service, ("a", "b"))
        self.assertEqual(self.load("--ciphers", "x, y").ciphers, ("x", "y"))

    def test_an_option_with_a_word_for_not_set_unsets_the_value_of_the_file(self):
        path = self.file('logfile = "sample.log"\nmax_per_user = 5\nciphers = ["x"]\n')
        plain = ("--logfile", "none", "--max-per-user", "none", "--ciphers", "none")
        for words in (plain, ("--logf", *plain[1:])):  # the latter is parsed by argparse
            with self.subTest(words[0]):
                found = self.load(*words, path=path)
                self.assertEqual((found.logfile, found.max_per_user, found.ciphers), (None, None, None))

    def test_a_list_without_items_is_not_set_and_no_item_of_a_list_is_a_word_for_that(self):
        for content, ciphers in (
            ("ciphers = []", None),
            ("ciphers = ' , '", None),
            ("ciphers = ['none', 'a']", ("none", "a")),
            ("service = []", None),
        ):
            with self.subTest(content):
                self.assertEqual(self.load(path=self.file(content)).ciphers, ciphers)

    def test_an_ini_file_is_read_as_a_toml_file_is(self):
        ini = "[options]\nsftp_port = 7\nread_only = True\nlogfile = none\nciphers = x, y\nmax_per_user =\n"
        toml = 'port = 7\nread_only = true\nciphers = ["x", "y"]\n'
        for content, name in ((ini, "sample.conf"), (toml, "sample.toml"), (toml, "sample.conf")):
            with self.subTest(name):
                found = self.load(path=self.file(content, name))
                self.assertEqual((found.port, found.read_only, found.ciphers), (7, True, ("x", "y")))
                self.assertEqual((found.logfile, found.max_per_user), (None, None))

    def test_a_program_sets_values_by_name(self):
        self.assertEqual(Sample(port=7).port, 7)
        with self.assertRaises(TypeError):
            Sample(prot=7)

    def test_a_reload_changes_what_may_change_and_tells_the_rest(self):
        running, new = Sample(port=1, log_level="INFO"), Sample(port=2, log_level="DEBUG", read_only=True)
        self.assertEqual(running.take_over(new), ["port"])
        self.assertEqual((running.port, running.log_level, running.read_only), (1, "DEBUG", True))


class Refusals(Case):
    def test_a_value_that_does_not_do_is_named_with_what_it_has_to_be(self):
        for words, message in (
            (("--port", "x"), "--port: has to be a whole number from 0 to 65535, not 'x'"),
            (("--log-format", "xml"), "--log-format: has to be one of plain, json, not 'xml'"),
            (("--idle-timeout", "0"), "has to be a number of seconds from 0.001 to 31536000, not '0'"),
            (("--log-level", "loud"), "has to be one of QUIET"),
        ):
            with self.subTest(words):
                self.assert_refused(message, *words)

    def test_a_mistake_in_a_file_is_named_with_file_and_key(self):
        for content, message in (
            ("port = 'x'", "sample.toml: port: has to be a number, not 'x'"),
            ("port = true", "sample.toml: port: has to be a number, not 'True'"),
            ("port = 70000", "sample.toml: port: has to be a whole number from 0 to 65535"),
            ("prot = 1", "sample.toml: unknown key 'prot'; the keys are port, logfile"),
            ("port = 1\nsftp_port = 2", "sample.toml: sftp_port is given twice"),
            ("-P = 1", "sample.toml: unknown key '-P'"),
            ("service = 'a'", "sample.toml: service: has to be a list of texts"),
            ("read_only = 'yes'", "sample.toml: read_only: has to be true or false"),
            ("port = \n", "sample.toml: Invalid value"),
            (f"port = {'9' * 5000}", "sample.toml: a number has too many digits"),
            (f"read_only = 0x{'f' * 5000}", "sample.toml: a number has too many digits"),
            (f"service = {'[' * 5000}", "sample.toml: lists or tables are nested too deeply"),
        ):
            with self.subTest(content[:40]):
                self.assert_refused(message, path=self.file(content))

    def test_a_mistake_in_an_ini_file_is_named_without_repeating_the_line(self):
        for content, message in (
            ("[options]\nport = 1\nport = 2\n", "sample.ini: line 3: port is given twice"),
            ("[options]\nhunter2\n", "sample.ini: line 2: not an INI file"),
            ("hunter2\n[options]\n", "sample.ini: line 1: not an INI file"),
            ("[options]\nprot = 1\n", "sample.ini: unknown key 'prot'"),
        ):
            with self.subTest(content):
                self.assert_refused(message, path=self.file(content, "sample.ini"))
                with self.assertRaises(BadInput) as caught:
                    self.load(path=self.file(content, "sample.ini"))
                self.assertNotIn("hunter2", caught.exception.message)

    def test_a_secret_is_not_repeated_and_has_no_option(self):
        with self.assertRaises(BadInput) as caught:
            self.load(path=self.file("password = 12345\n"))
        self.assertIn("password: has to be a text", caught.exception.message)
        self.assertNotIn("12345", caught.exception.message)
        self.assert_refused("unrecognized arguments", "--password", "x")

    def test_a_file_that_cannot_be_read_is_named_with_the_reason(self):
        self.assert_refused("no such file or directory", path=os.fspath(self.place / "none.toml"))
        self.assert_refused("is a directory", path=os.fspath(self.place))
        (self.place / "binary.toml").write_bytes(b"\xff\xfe")
        self.assert_refused("not UTF-8 at byte 0", path=os.fspath(self.place / "binary.toml"))
        self.assert_refused("longer than 1048576 bytes", path=self.file("#" * (1 << 20) + "\n"))


class Texts(unittest.TestCase):
    def test_the_help_of_an_option_says_its_default_and_hides_older_spellings(self):
        from pysftpserver.cli.parser import build_parser

        shown = " ".join(build_parser(COMMAND).format_help().split())
        for sentence in (
            "-p PORT, --port PORT Listen on this port. The default is 2200.",
            "Append the log to this file. The default is standard error.",
            "Refuse every change. The default is no.",
            "--login YES_OR_NO Ask for a password. The default is yes, but no without users.",
            "Close an idle connection after this many seconds. The default is 2.5.",
        ):
            self.assertIn(sentence, shown)
        self.assertNotIn("sftp", shown)
        self.assertNotIn("log_level", shown)

    def test_the_table_of_a_page_has_a_row_for_each_setting(self):
        table = markdown_table(Sample)
        self.assertEqual(len(table.splitlines()), 2 + len(Sample.table()))
        self.assertIn("| `port` `-p` | 2200 | Listen on this port. |", table)
        self.assertIn("| `log_level` | INFO | Log up to this level. Takes effect on SIGHUP. |", table)
        self.assertIn("| `password` | none | The password. In the file only. |", table)
