"""Set-uid and set-gid bits from clients: with them, an uploaded dd reads for anybody what the server can."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.commands import CommandCase
from tests.sshd.running import Place
from tests.support import packets as sftp
from tests.support.packets import Attributes, attrs, request, string, u32

PROGRAM = attrs(Attributes(permissions=0o6755))
REQUESTS = (
    request("open", 1, string(b"f"), u32(sftp.WRITE | sftp.CREAT), PROGRAM)
    + request("mkdir", 2, string(b"d"), PROGRAM)
    + request("open", 3, string(b"g"), u32(sftp.WRITE | sftp.CREAT), sftp.NO_ATTRS)
    + request("fsetstat", 4, string(u32(2)), PROGRAM)
    + request("mkdir", 5, string(b"e"), sftp.NO_ATTRS)
    + request("setstat", 6, string(b"e"), PROGRAM)
)
BITS = 0o6000


def with_bits(directory: Path) -> list[str]:
    """The names of the entries that have one."""
    return sorted(entry.name for entry in directory.iterdir() if entry.stat().st_mode & BITS)


class Commands(CommandCase):
    def test_the_jail_drops_them_unless_they_are_allowed_and_the_drop_in_keeps_them(self) -> None:
        every = ["e", "f", "g"]  # mkdir(2) takes none
        ways: tuple[tuple[str, tuple[str, ...], list[str]], ...] = (
            ("pysftpjail", ("once",), []),
            ("pysftpjail", ("--allow-setid", "twice"), every),
            ("pysftpserver", (), every),
        )
        for self.prog, words, kept in ways:
            with self.subTest(self.prog, words=words):
                directory = self.place / (words[-1] if words else "jail")
                directory.mkdir(exist_ok=True)
                answers = self.serve(*words, requests=REQUESTS, cwd=self.place if words else directory)
                self.assertEqual([answers[at].content for at in (1, 3, 4, 5)], [sftp.OK] * 4)
                self.assertEqual(with_bits(directory), kept)


class Server(Place):
    def uploaded(self, *options: str) -> list[str]:
        server = self.server(*options)
        program = self.place / "dd"
        program.write_bytes(b"#!/bin/sh\n")
        os.chmod(program, 0o6755)
        commands = ("put -p dd", "chmod 6755 dd", "mkdir d", "chmod 2775 d", "put dd plain")
        run = self.sftp(self.alice, *commands)
        self.assertEqual(run.returncode, 0, run.stderr)
        server.stop()
        return with_bits(server.files / "a")

    def test_pysftpd_drops_them(self) -> None:
        self.assertEqual(self.uploaded(), [])

    def test_and_without_processes(self) -> None:
        self.assertEqual(self.uploaded("--isolation", "thread"), [])

    def test_unless_they_are_allowed(self) -> None:
        self.assertEqual(self.uploaded("--allow-setid"), ["d", "dd"])
