"""Replies that are unusual and right are no faults of a server."""

from __future__ import annotations

import unittest

from pysftpserver.contract.packets import get_sftpentries, get_sftpstat, sftpint, sftpstring
from pysftpserver.engine import wire

EXTENDED = wire.SSH2_FILEXFER_ATTR_EXTENDED
PAIRS = sftpint(0), sftpint(1) + sftpstring(b"acl@example.org") + sftpstring(b"x" * 10)


class UnusualReplies(unittest.TestCase):
    def test_extended_attributes_are_taken_where_there_are_some_and_where_there_are_none(self) -> None:
        size = wire.SSH2_FILEXFER_ATTR_SIZE
        for pairs in PAIRS:
            attributes = sftpint(EXTENDED | size) + bytes(7) + b"\5" + pairs
            with self.subTest(pairs=pairs):
                self.assertEqual(get_sftpstat(wire.encode_packet(wire.SSH2_FXP_ATTRS, 1, attributes)).size, 5)
                entry = sftpstring(b"f") + sftpstring(b"long") + attributes
                names = wire.encode_packet(wire.SSH2_FXP_NAME, 1, sftpint(2) + entry + entry)
                self.assertEqual([name for name, _, _ in get_sftpentries(names)], [b"f", b"f"])
