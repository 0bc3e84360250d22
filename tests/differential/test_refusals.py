"""Requests refused by flags: read-only mode, denied and allowed requests, and the umask.

Both programs take `-R`, `-P` and `-p` as sftp-server does, and must refuse the same and announce the same.
"""

import subprocess
import unittest
from typing import ClassVar

from . import packets
from .compare import DROP_IN, JAIL, REFERENCE, Pair, Server
from .model import Handle, Step, step
from .packets import APPEND, CREAT, EXCL, READ, TRUNC, WRITE, Attributes

FILE, OTHER, LISTING = Handle("file"), Handle("file", 1), Handle("directory")
OURS = ("check-file-name", "check-file-handle", "check-file")  # requests that only ours has
# One of each request, and of each way to open.
EVERYTHING: tuple[Step, ...] = (
    step("open", b"f", READ),
    step("open", b"large", 0),
    step("opendir", b"d"),
    step("readdir", LISTING),
    *(
        step("open", name, flags)
        for name in (b"g", b"missing", b"d")
        for flags in (READ, WRITE, READ | WRITE, READ | APPEND, READ | CREAT, READ | TRUNC, READ | EXCL)
    ),
    step("read", FILE, 0, 4),
    step("write", FILE, 0, b"x"),
    step("write", Handle("bogus"), 0, b"x"),
    step("fstat", FILE),
    step("fsetstat", FILE, Attributes(permissions=0o600)),
    step("fsetstat", FILE),
    step("stat", b"f"),
    step("lstat", b"missing"),
    step("setstat", b"missing", Attributes(permissions=0o600)),
    step("setstat", b"f"),
    step("lsetstat@openssh.com", b"f", Attributes(times=(1, 2))),
    step("realpath", b"d/.."),
    step("readlink", b"to-f"),
    step("mkdir", b"new"),
    step("mkdir", b"d"),
    step("rmdir", b"empty"),
    step("rename", b"f", b"moved"),
    step("rename", b"missing", b"moved"),
    step("posix-rename@openssh.com", b"g", b"moved"),
    step("hardlink@openssh.com", b"large", b"linked"),
    step("symlink", b"f", b"link"),
    step("remove", b"to-d"),
    step("statvfs@openssh.com", b"."),
    step("fstatvfs@openssh.com", FILE),
    step("fsync@openssh.com", FILE),
    step("limits@openssh.com"),
    step("expand-path@openssh.com", b"~/x"),
    step("copy-data", FILE, 0, 0, OTHER, 0),
    step("home-directory", b"no-such-user"),
    step("users-groups-by-id@openssh.com", packets.u32(0), b""),
    step("no-such-extension@example.com", b""),
    step("close", OTHER),
    step("close", LISTING),
)


class Refusals:
    candidate: ClassVar[Server]

    def agree(self, *flags: str) -> None:
        with Pair(self.candidate, flags) as pair:
            reference, ours = pair.sides
            self.assertEqual(ours.extensions, reference.extensions)
            for taken in EVERYTHING:
                pair.take(taken)
            pair.finish()

    def test_nothing_is_refused_without_flags(self):
        self.agree()

    def test_read_only_refuses_what_writes(self):
        self.agree("-R")

    def test_opening_can_be_denied(self):
        with Pair(self.candidate, ("-P", "open,opendir")) as pair:
            for taken in (
                step("open", b"f", READ),
                step("opendir", b"d"),
                step("open", b"new", WRITE | CREAT),
            ):
                self.assertEqual(pair.take(taken).content, packets.PERMISSION_DENIED)
            pair.finish()

    def test_only_what_is_allowed_is_permitted(self):
        self.agree("-p", "open,close,read,write,opendir,readdir,realpath,posix-rename,limits,fsync")

    def test_denied_wins_over_allowed(self):
        self.agree("-p", "open,opendir,read,write,stat", "-P", "read,stat,mkdir")

    def test_read_only_wins_over_allowed(self):
        self.agree("-R", "-p", "open,opendir,read,write,mkdir,fsync,fstat,rename")


class OfTheDropIn(Refusals, unittest.TestCase):
    candidate = DROP_IN

    def test_each_request_can_be_denied(self):
        for name in request_names(REFERENCE):
            # Without OPEN or OPENDIR there are no handles, and a handle that is not open is another subject.
            if name not in ("open", "opendir"):
                with self.subTest(name):
                    self.agree("-P", name)

    def test_the_requests_are_listed_by_the_same_names(self):
        self.assertEqual(request_names(DROP_IN), [*request_names(REFERENCE), *OURS])

    def test_the_umask_is_octal_and_for_new_files_and_directories(self):
        for umask in ("0", "77", "027", "0777"):
            with self.subTest(umask), Pair(self.candidate, ("-u", umask)) as pair:
                for taken in (
                    step("open", b"new", WRITE | CREAT),
                    step("open", b"newer", WRITE | CREAT, Attributes(permissions=0o7777)),
                    step("mkdir", b"directory"),
                    step("mkdir", b"directories", Attributes(permissions=0o1777)),
                    step("setstat", b"f", Attributes(permissions=0o777)),
                ):
                    pair.take(taken)
                pair.finish()


class OfTheJail(Refusals, unittest.TestCase):
    candidate = JAIL

    def test_the_requests_are_listed_by_the_same_names(self):
        self.assertEqual(request_names(JAIL), [*request_names(REFERENCE), *OURS])


def request_names(server: Server) -> list[str]:
    """What `-Q requests` prints."""
    done = subprocess.run(
        [*server.program, "-Q", "requests"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.split("\n")[:-1]
