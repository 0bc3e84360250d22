"""The drop-in's log on stderr (`-e`) has the reference's lines, word for word, at INFO and at VERBOSE.

Two differences are intended. An extension that the server does not know is an ordinary question of a client
(check-file, for one), which it answers: the reference logs it at ERROR, ours at VERBOSE. After a status come
the words that went with it, which clients seldom show.

Before a line there may be a process id or a time, as log files have them. What the reference writes at
ERROR about system calls that failed ("process_read: read ...") is its own affair and not compared.
"""

import os
import re
import unittest
from unittest import mock

from . import packets
from .compare import DROP_IN, Pair
from .model import Handle, Step, step
from .packets import APPEND, CREAT, EXCL, READ, TRUNC, WRITE, Attributes

FILE, LISTING = Handle("file"), Handle("directory")
_PREFIX = re.compile(rb"^(?:[-0-9T:., ]+ )?(?:\S*\[\d+\]: )?")
_WORDS = re.compile(rb"(?<=^sent status )([^:]*): .*")
LEVELS = ("QUIET", "FATAL", "ERROR", "INFO", "VERBOSE")


class Log(unittest.TestCase):
    maxDiff = None

    def agree(
        self,
        *steps: Step,
        flags: tuple[str, ...] = (),
        levels: tuple[str, ...] = ("INFO", "VERBOSE"),
        missing: bytes = b"",
    ) -> None:
        """Compare the logs of these steps. missing: how a line begins that only the reference has."""
        for level in levels:
            with self.subTest(level), Pair(DROP_IN, ("-l", level, *flags)) as pair:
                for taken in steps:
                    self.assertIsNotNone(pair.take(taken), taken)
                pair.end()
                reference, ours = (
                    [
                        _WORDS.sub(rb"\1", _PREFIX.sub(b"", line.replace(bytes(side.root), b"ROOT")))
                        for line in side.session.log.splitlines()
                        if b"sandbox: " not in line  # which the reference does not have
                    ]
                    for side in pair.sides
                )
                if missing:
                    self.assertEqual([line for line in ours if line.startswith(missing)], [])
                    reference.remove(next(line for line in reference if line.startswith(missing)))
                self.assertEqual(ours, reference)

    def test_a_session_is_opened_and_closed(self):
        self.agree()

    def test_the_peer_is_the_first_word_of_ssh_connection(self):
        with mock.patch.dict(os.environ, SSH_CONNECTION="192.0.2.7 50022 192.0.2.1 22"):
            self.agree()

    def test_open_and_close_tell_flags_mode_and_bytes(self):
        self.agree(
            step("open", b"f", READ),
            step("read", FILE, 0, 100),
            step("read", FILE, 4, 3),
            step("read", FILE, 10, 1),
            step("close", FILE),
            step("open", b"new", READ | WRITE | APPEND | CREAT | TRUNC | EXCL, Attributes(permissions=0o600)),
            step("write", FILE, 0, b"abc"),
            step("write", FILE, 0, b"def"),
            step("read", FILE, 0, 2),
            step("close", FILE),
            step("open", b"f", 0, Attributes(permissions=0o100640)),
            step("open", b"f", APPEND, Attributes(permissions=0)),
            step("open", b"missing", READ),
            step("close", FILE),
        )

    def test_what_is_left_open_is_closed_by_force(self):
        self.agree(
            step("open", b"f", READ | WRITE),
            step("opendir", b"d"),
            step("open", b"large", READ),
            step("read", Handle("file", 1), 0, 262144),
            step("write", FILE, 0, b"abc"),
            levels=LEVELS,
        )

    def test_directories(self):
        self.agree(
            step("opendir", b"d"),
            step("readdir", LISTING),
            step("close", LISTING),
            step("opendir", b"missing"),
            step("opendir", b"f"),
            step("mkdir", b"new"),
            step("mkdir", b"newer", Attributes(permissions=0o41755)),
            step("mkdir", b"newest", Attributes(permissions=0)),
            step("mkdir", b"d"),
            step("rmdir", b"new"),
            step("rmdir", b"d"),
        )

    def test_files_and_links_and_renames(self):
        self.agree(
            step("remove", b"g"),
            step("remove", b"missing"),
            step("rename", b"f", b"renamed"),
            step("rename", b"renamed", b"d"),
            step("posix-rename@openssh.com", b"renamed", b"f"),
            step("posix-rename@openssh.com", b"missing", b"x"),
            step("symlink", b"target", b"link"),
            step("symlink", b"target", b"link"),
            step("hardlink@openssh.com", b"f", b"linked"),
            step("readlink", b"link"),
            step("readlink", b"f"),
        )

    def test_setting_attributes(self):
        every = Attributes(5, (0, 0), 0o100640, (1, 1_500_000_000))
        self.agree(
            step("setstat", b"f", every),
            step("setstat", b"missing", every),
            step("setstat", b"f"),
            step("setstat", b"f", Attributes(permissions=7)),
            step("setstat", b"f", Attributes(times=(0, (1 << 32) - 1))),
            step("lsetstat@openssh.com", b"to-f", Attributes(owner=(0, 0), times=(1, 2))),
            step("lsetstat@openssh.com", b"to-f", Attributes(permissions=0o600)),
            step("lsetstat@openssh.com", b"to-f", every),
            step("open", b"g", READ | WRITE),
            step("fsetstat", FILE, every),
            step("fsetstat", FILE),
            step("fsetstat", Handle("bogus"), every),
        )

    def test_looking_around(self):
        self.agree(
            step("stat", b"f"),
            step("stat", b"missing"),
            step("stat", b""),
            step("stat", b"x" * 256),
            step("lstat", b"to-f"),
            step("lstat", b"missing"),
            step("realpath", b"."),
            step("realpath", b""),
            step("realpath", b"missing/x"),
            step("open", b"f", READ),
            step("fstat", FILE),
            step("fstat", Handle("bogus")),
        )

    def test_extensions(self):
        ids = packets.u32(0) + packets.u32(1)
        self.agree(
            step("open", b"f", READ),
            step("open", b"new", WRITE | CREAT),
            step("statvfs@openssh.com", b"f"),
            step("statvfs@openssh.com", b"missing"),
            step("fstatvfs@openssh.com", FILE),
            step("fsync@openssh.com", FILE),
            step("limits@openssh.com"),
            step("expand-path@openssh.com", b"~/f"),
            step("expand-path@openssh.com", b"~"),
            step("expand-path@openssh.com", b"d/.."),
            step("expand-path@openssh.com", b"missing/x"),
            step("copy-data", FILE, 2, 5, Handle("file", 1), 0),
            step("copy-data", FILE, 0, 0, Handle("file", 1), 0),
            step("copy-data", FILE, 0, 0, FILE, 0),
            step("home-directory", b"no-such-user"),
            # Only users: the reference counts groups as users too.
            step("users-groups-by-id@openssh.com", ids, b""),
            step("users-groups-by-id@openssh.com", b"", b""),
            step("close", Handle("file", 1)),
            levels=LEVELS,
        )

    def test_unknown_users_are_errors(self):
        self.agree(step("expand-path@openssh.com", b"~no-such-user/x"), levels=LEVELS)

    def test_unknown_extensions_are_told_at_verbose_only(self):
        unknown = step("no-such-extension@example.com", b"")
        self.agree(unknown, levels=("QUIET", "FATAL", "VERBOSE"))
        self.agree(unknown, levels=("ERROR", "INFO"), missing=b"Unknown extended request")

    def test_names_are_shown_with_octal_escapes(self):
        # Not a line end or a tab: the reference writes them as they are, ours never does.
        for name in (
            b"caf\xe9\xff",
            b'quote"back\\slash',
            b"\x01\x1b[31m\x7f",
            b"%s%n",
            b" a b ",
        ):
            with self.subTest(name):
                self.agree(step("lstat", name), step("mkdir", name), levels=("VERBOSE",))

    def test_long_lines_are_cut(self):
        self.agree(step("lstat", b"d/../" * 300), levels=("VERBOSE",))

    def test_refusals_are_told_at_verbose(self):
        for flags in (("-R",), ("-P", "mkdir,stat,fsync"), ("-p", "open,stat,close")):
            with self.subTest(flags=flags):
                self.agree(
                    step("open", b"f", READ),
                    step("open", b"f", READ | CREAT),
                    step("mkdir", b"new"),
                    step("stat", b"f"),
                    step("fsync@openssh.com", FILE),
                    step("close", FILE),
                    flags=flags,
                )
