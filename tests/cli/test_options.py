"""Plain command lines are parsed without argparse, and mean what argparse says they mean."""

from __future__ import annotations

import unittest

from pysftpserver.cli import pysftpjail, pysftpmongo, pysftpserver
from pysftpserver.cli.parser import parse
from pysftpserver.failures import BadInput
from tests.support.examples import SEEDED, given, settings, st
from tests.support.hard import IS_HARD

WORDS = (
    ["-R", "--read-only", "-u", "--umask", "022", "-u022", "--umask=7", "--uma", "999", "-d", "/in", "-e"]
    + ["-l", "log", "--logfile=", "--log-level", "debug", "-P", "mkdir,rmdir", "-p", "open", "nope", "-Re"]
    + ["--", "-", "", "/srv/jail", "--nope", "-f", "LOCAL0", "--start-directory=-x", "--read-only=1"]
    + ["mongodb://h/db", "27017", "--gc", "--older-than", "1.5", "--bucket=", "--prefix"]
)


class PlainCommandLines(unittest.TestCase):
    @settings(SEEDED, max_examples=2000 if IS_HARD else 300)
    @given(
        st.sampled_from([pysftpjail, pysftpserver, pysftpmongo]), st.lists(st.sampled_from(WORDS), max_size=6)
    )
    def test_mean_what_argparse_makes_of_them(self, module, words):
        command = module.COMMAND
        plain = command._parse_plain(words)
        if plain is None:
            return
        try:
            expected = parse(command, words)
        except (BadInput, SystemExit) as error:
            self.fail(f"{words}: argparse refuses what was plain: {error!r}")
        expected = {name: value for name, value in expected.items() if name in plain}
        self.assertEqual(plain, expected, words)

    def test_of_every_option_spelled_out_need_no_argparse(self):
        words = ["-R", "--umask", "022", "--log-level=QUIET", "-P", "mkdir", "-p", "open,close", "/srv/jail"]
        values = pysftpjail.COMMAND._parse_plain(words)
        self.assertIsNotNone(values)
        self.assertEqual((values["chroot"], values["umask"], values["read_only"]), ("/srv/jail", 0o22, True))
        self.assertEqual(pysftpjail.COMMAND.parse(words), values)

    def test_behind_two_dashes_are_words_and_no_options(self):
        for words in (["-e", "--", "-R", "--nope"], ["-e", "--", "--", "--nope"]):
            with self.subTest(words):
                values = pysftpserver.COMMAND._parse_plain(words)
                self.assertEqual((values["to_stderr"], values["read_only"]), (True, False))
                self.assertEqual(values["operand"], words[2:])

    def test_with_any_number_of_words_have_them_in_a_list_options_among_them_or_not(self):
        command = pysftpmongo.COMMAND
        for words in (["host", "27017", "db"], ["host", "-R", "27017", "--bucket", "b", "db"]):
            with self.subTest(words):
                self.assertEqual(command._parse_plain(words)["address"], ["host", "27017", "db"])
                self.assertEqual(parse(command, words)["address"], ["host", "27017", "db"])
        for read in (command._parse_plain, lambda words: parse(command, words)):
            self.assertEqual(read(["--gc"])["address"], [])
