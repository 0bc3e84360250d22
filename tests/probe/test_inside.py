"""No rule asks a server to change anything outside of the directory that it is given.

A server may understand a strange path in its own way, and a probe removes whatever it finds in its
directory: a RENAME of an empty path into it can bring the home of a user there.
"""

from __future__ import annotations

import posixpath
import unittest
from collections.abc import Iterator

from pysftpserver.contract.client import APPEND, CREAT, EXCL, TRUNC, WRITE, Client, Refused
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.contract.rules import RULES
from pysftpserver.contract.subject import Subject
from pysftpserver.engine import wire
from tests.support.memory import SFTPServerMemoryStorage

TOP = b"/below/top"
CHANGES = WRITE | APPEND | CREAT | TRUNC | EXCL
#: How many strings at the beginning of a request are paths of what it changes.
PATHS = {
    wire.SSH2_FXP_SETSTAT: 1,
    wire.SSH2_FXP_REMOVE: 1,
    wire.SSH2_FXP_MKDIR: 1,
    wire.SSH2_FXP_RMDIR: 1,
    wire.SSH2_FXP_RENAME: 2,
}
EXTENDED = {b"posix-rename@openssh.com": 2, b"hardlink@openssh.com": 2, b"lsetstat@openssh.com": 1}


class Recorded(ServerLine):
    """A line that keeps what is sent."""

    def __init__(self, storage: SFTPServerMemoryStorage, sent: list[bytes]) -> None:
        super().__init__(storage)
        self._sent = sent
        self._rest = b""

    def send(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 4 and len(self._rest) >= 4 + int.from_bytes(self._rest[:4], "big"):
            end = 4 + int.from_bytes(self._rest[:4], "big")
            self._sent.append(self._rest[:end])
            self._rest = self._rest[end:]
        super().send(data)


def strings(packet: bytes) -> list[bytes]:
    """The strings that a request begins with, as far as they are whole."""
    found, at = [], 9
    while at + 4 <= len(packet):
        end = at + 4 + int.from_bytes(packet[at : at + 4], "big")
        if end > len(packet):
            break
        found.append(packet[at + 4 : end])
        at = end
    return found


def changed(packet: bytes) -> Iterator[bytes]:
    """The paths of what a request would change."""
    given = strings(packet)
    kind = packet[4] if len(packet) > 4 else 0
    if kind == wire.SSH2_FXP_OPEN and given:
        flags = packet[13 + len(given[0]) :][:4]
        if int.from_bytes(flags, "big") & CHANGES:
            yield given[0]
    elif kind == wire.SSH2_FXP_SYMLINK:
        # Which one is made depends on the server: one of the two must be inside, and the other one is a text.
        inside = [path for path in given[:2] if is_inside(path)]
        yield from inside or given[:2]
    elif kind == wire.SSH2_FXP_EXTENDED and given:
        yield from given[1 : 1 + EXTENDED.get(given[0], 0)]
    else:
        yield from given[: PATHS.get(kind, 0)]


def is_inside(path: bytes) -> bool:
    """Whether a path leads to something below the directory, however a server goes about `..` and NUL."""
    plain = path.split(b"\0")[0]
    return plain.startswith(TOP + b"/") and posixpath.normpath(plain).startswith(TOP + b"/")


class Inside(unittest.TestCase):
    def test_no_rule_asks_for_a_change_outside_of_its_directory(self) -> None:
        outside = {}
        for name, rule in RULES.items():
            storage, sent = SFTPServerMemoryStorage(), []
            client = Client(Recorded(storage, sent))
            client.hello()
            for path in b"/below", TOP:
                client.mkdir(path)
            sent.clear()
            subject = Subject(
                client, TOP, lambda storage=storage, sent=sent: Recorded(storage, sent), many=100
            )
            try:
                rule.check(subject)
            except (AssertionError, Refused):
                pass  # other tests tell
            finally:
                subject.end()
            paths = {path for packet in sent for path in changed(packet) if not is_inside(path)}
            if paths:
                outside[name] = sorted(paths)
        self.assertEqual(outside, {})
