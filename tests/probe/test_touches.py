"""Rules change nothing outside of their directory, whatever the server takes their paths for."""

from __future__ import annotations

import posixpath
import unittest

from pysftpserver.contract.client import Client
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.contract.rules import RULES
from pysftpserver.contract.subject import Subject
from pysftpserver.engine import wire
from tests.support.memory import SFTPServerMemoryStorage

OWN = b"/above/own"
#: Which of a request's strings name what it changes; of an extended request, behind the name.
CHANGES = {
    wire.SSH2_FXP_SETSTAT: (0,),
    wire.SSH2_FXP_REMOVE: (0,),
    wire.SSH2_FXP_MKDIR: (0,),
    wire.SSH2_FXP_RMDIR: (0,),
    wire.SSH2_FXP_RENAME: (0, 1),
    wire.SSH2_FXP_SYMLINK: (1,),
}
EXTENDED = {
    b"posix-rename@openssh.com": (1, 2),
    b"hardlink@openssh.com": (1, 2),
    b"lsetstat@openssh.com": (1,),
}


def strings_of(packet: bytes) -> list[bytes]:
    """The strings that a request begins with, behind its id."""
    found = []
    pos = 9
    while pos + 4 <= len(packet):
        end = pos + 4 + int.from_bytes(packet[pos : pos + 4], "big")
        if end > len(packet):
            break
        found.append(packet[pos + 4 : end])
        pos = end
    return found


def changed_by(packet: bytes) -> list[bytes]:
    """The paths that a request changes. OPEN changes something if it may create or truncate."""
    strings = strings_of(packet)
    which = CHANGES.get(packet[4], ())
    if packet[4] == wire.SSH2_FXP_EXTENDED and strings:
        which = EXTENDED.get(strings[0], ())
    elif packet[4] == wire.SSH2_FXP_OPEN and strings:
        flags = packet[13 + len(strings[0]) : 17 + len(strings[0])]
        which = (0,) if int.from_bytes(flags, "big") & (wire.SSH2_FXF_CREAT | wire.SSH2_FXF_TRUNC) else ()
    return [strings[number] for number in which if number < len(strings)]


def is_own(path: bytes) -> bool:
    """Whether it is the rule's directory or in it, without a way out by `..`."""
    return path == OWN or posixpath.normpath(path).startswith(OWN + b"/")


class Watched(ServerLine):
    """A line that notes the paths outside that were to be changed."""

    outside: set[bytes]

    def send(self, data: bytes) -> None:
        pos = 0
        while pos + 5 <= len(data):
            end = pos + 4 + int.from_bytes(data[pos : pos + 4], "big")
            self.outside |= {path for path in changed_by(data[pos:end]) if not is_own(path)}
            pos = max(end, pos + 5)
        super().send(data)


class Rules(unittest.TestCase):
    def test_no_rule_asks_for_a_change_outside_of_its_directory(self):
        for name, rule in RULES.items():
            storage = SFTPServerMemoryStorage()
            storage.mkdir(posixpath.dirname(OWN), 0o777)
            storage.mkdir(OWN, 0o777)
            outside: set[bytes] = set()

            def connect(storage=storage, outside=outside) -> Watched:
                line = Watched(storage)
                line.outside = outside
                return line

            client = Client(connect())
            client.hello()
            subject = Subject(client, OWN, connect, many=200)
            try:
                rule.check(subject)
            except Exception:  # whether the rule holds is no matter here
                pass
            subject.end()
            client.close()
            with self.subTest(name):
                self.assertEqual(outside, set())

    def test_what_is_outside_is_seen(self):
        for path in (b"", b".", b"/", b"/above", OWN + b"/..", OWN + b"/d/../../x", b"own/f", OWN + b"x"):
            self.assertFalse(is_own(path), path)
        for path in (OWN, OWN + b"/f", OWN + b"/d/../f", OWN + b"//f"):
            self.assertTrue(is_own(path), path)
        paths = wire.encode_string(b"") + wire.encode_string(OWN)
        self.assertEqual(changed_by(wire.encode_packet(wire.SSH2_FXP_RENAME, 1, paths)), [b"", OWN])
        opening = wire.encode_string(b"/f") + wire.encode_u32(wire.SSH2_FXF_CREAT) + wire.encode_u32(0)
        self.assertEqual(changed_by(wire.encode_packet(wire.SSH2_FXP_OPEN, 1, opening)), [b"/f"])
        extended = wire.encode_string(b"hardlink@openssh.com") + paths
        self.assertEqual(changed_by(wire.encode_packet(wire.SSH2_FXP_EXTENDED, 1, extended)), [b"", OWN])
