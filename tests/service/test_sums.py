"""Command lines for checksums: what is understood, and what is printed, beside a shell and coreutils."""

from __future__ import annotations

import os
import subprocess
import unittest

from pysftpserver.engine.log import SFTPLog
from pysftpserver.server import SFTPServer
from pysftpserver.service import sums
from pysftpserver.service.sums import Command, Refused, Sum, split, understood
from tests.support.cases import InADirectory
from tests.support.examples import given, settings, st

NAMES = [b"plain", b"two words", b"q'uote", b'd"ouble', b"back\\slash", b"new\nline", b"re\rturn"]
NAMES += [b"-n", b"~", b"$HOME", b"`id`", b"*", b"#", b"a;b", b"tab\there", b"%s", b" ", b"!", b"{a,b}"]
NAMES += [b"x=y", b"\xff\xc3\xa9"]


def shell(command: bytes) -> list[bytes]:
    """The words that a shell makes of a command."""
    program = ["sh", "-c", b'printf "%s\\0" ' + command]
    return subprocess.run(program, capture_output=True, check=True).stdout.split(b"\0")[:-1]


def rclone(name: bytes) -> bytes:
    """A path as rclone quotes it."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.,:/@-\n"
    quoted = b"".join(
        bytes([byte]) if byte in plain or byte > 127 else b"\\" + bytes([byte]) for byte in name
    )
    return quoted.replace(b"\n", b"'\n'")


class Understanding(unittest.TestCase):
    def test_words_are_those_of_a_shell(self):
        for command in (
            b"md5sum /a/b.txt",
            b"  md5sum\t/a  ",
            b"md5sum 'a b'\\''c' \"d \\\" \\\\ \\x e\"''f",
            b"md5sum a\\ b\\$HOME\\\\ a~ ''",
            b"\"md5\"s'um' \xc3\xa9",
        ):
            with self.subTest(command):
                self.assertEqual(split(command), shell(command))

    def test_names_survive_every_way_of_quoting(self):
        for name in NAMES:
            quoted = b"'" + name.replace(b"'", b"'\\''") + b"'"
            doubled = (
                b'"' + b"".join(b"\\" + bytes([c]) if c in b'"\\$`' else bytes([c]) for c in name) + b'"'
            )
            for way in (quoted, doubled, rclone(name)):
                with self.subTest(name, way=way):
                    self.assertEqual(split(b"md5sum " + way), [b"md5sum", name])
                    self.assertEqual(shell(way), [name])

    @settings(max_examples=40, deadline=None)
    @given(st.binary(max_size=12))
    def test_what_is_taken_apart_is_put_together_by_rclones_rules(self, name: bytes):
        if name and b"\0" not in name:
            self.assertEqual(split(rclone(name)), [name])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from([bytes([c]) for c in b"a '\"\\$~*;|&<>(#`\n=-!"]), max_size=9))
    def test_what_a_shell_would_do_more_with_is_refused(self, parts: list[bytes]):
        command = b"".join(parts)
        try:
            words = split(command)
        except ValueError:
            return
        self.assertFalse(set(command) & set(b"`$*;|&<>(#\n!") - set(b"".join(words)), command)
        self.assertLessEqual(sum(map(len, words)), len(command))

    def test_only_these_commands_with_exactly_one_path_are_understood(self):
        for word, algorithm in sums.WORDS.items():
            command = understood(word + b" '/a b'")
            assert isinstance(command, Sum)
            self.assertEqual((command.word, command.path), (word, b"/a b"))
            self.assertIn(algorithm.encode(), command.requests)
        for other in (
            b"",
            b"ls",
            b"md5",
            b"b2sum f",
            b"/usr/bin/md5sum f",
            b"rclone md5sum f",
            b"md5sum;id",
            b"'",
        ):
            self.assertIsNone(understood(other), other)
        for wrong in (
            b"md5sum a b",
            b"md5sum -c a",
            b"md5sum -",
            b"md5sum --",
            b"md5sum ''",
            b"md5sum $HOME",
            b"md5sum ~",
            b"md5sum ~root/f",
            b"md5sum a=~/f",  # bash
            b"md5sum a=b:~",
            b"md5sum a; id",
            b"md5sum a | sh",
            b"md5sum a\nid",
            b"md5sum a\\\nb",
            b"md5sum a > b",
            b"md5sum < a",
            b"md5sum *",
            b"md5sum 'a",
            b'md5sum "a',
            b'md5sum "$(id)"',
            b'md5sum "`id`"',
            b"md5sum a\\",
            b"md5sum a\0b",
            b"md5sum # f",
            b"sha1sum {a,b}",
            b"sha256sum [a]",
        ):
            with self.subTest(wrong), self.assertRaises(Refused):
                understood(wrong)

    def test_rclones_questions_have_a_posix_shells_answers(self):
        question = understood(b"echo ${ShellId}%ComSpec%")
        assert question is not None
        self.assertEqual((type(question), question.requests, question.reads), (Command, b"", False))
        self.assertEqual(question.output(b"").out, b"%ComSpec%\n")
        self.assertIsNone(understood(b"echo ${ShellId}%ComSpec% more"))
        for word in (b"md5sum", b"sha1sum"):
            command = understood(word)
            assert command is not None
            self.assertEqual((command.requests, command.reads), (b"", True))
            real = subprocess.run([word], input=b"", capture_output=True, check=True)
            output = command.output(b"")
            self.assertEqual((output.out, output.errors, output.status), (real.stdout, b"", 0))
            self.assertEqual(command.output(b"x").status, 1)


class Printing(InADirectory):
    def output(self, command: bytes) -> sums.Output:
        server = SFTPServer(self.storage(), log=SFTPLog())
        self.addCleanup(server.close)
        found = understood(command)
        assert found is not None
        server.input_queue = found.requests
        server.process()
        return found.output(server.output_queue)

    def test_the_output_is_that_of_coreutils(self):
        names = [name for name in NAMES if not name.startswith(b"-")]
        for number, name in enumerate(names):
            with open(os.path.join(os.fsencode(self.root), name), "wb") as file:
                file.write(b"content %d" % number)
        for word in sums.WORDS:
            if word != b"crc32":
                run = subprocess.run([word, *names], cwd=self.root, capture_output=True, check=True)
                lines = run.stdout.split(b"\n")
                for name, line in zip(names, lines[:-1], strict=True):
                    found = self.output(word + b" " + rclone(name))
                    self.assertEqual((found.out, found.errors, found.status), (line + b"\n", b"", 0))
        (self.root / "check").write_bytes(b"123456789")
        self.assertEqual(self.output(b"crc32 check").out, b"cbf43926  check\n")  # the usual test

    def test_what_cannot_be_read_is_one_line_of_words_and_status_1(self):
        (self.root / "d").mkdir()
        for name, words in ((b"none", b"No such file"), (b"d", b"Only regular files have checksums")):
            found = self.output(b"md5sum " + name)
            self.assertEqual((found.out, found.status), (b"", 1))
            self.assertEqual(found.errors, b"md5sum: %b: %b\n" % (name, words))

    def test_replies_that_make_no_sense_or_break_off_are_a_failure(self):
        (self.root / "f").write_bytes(b"content")
        command = understood(b"md5sum f")
        assert command is not None
        server = SFTPServer(self.storage(), log=SFTPLog())
        self.addCleanup(server.close)
        server.input_queue = command.requests
        server.process()
        whole = server.output_queue
        self.assertEqual(command.output(whole).status, 0)
        for replies in (
            *(whole[:at] for at in range(len(whole))),
            whole.replace(b"md5", b"sha")[-30:],
            b"\0" * 40,
        ):
            output = command.output(replies)
            self.assertEqual((output.out, output.status), (b"", 1))
