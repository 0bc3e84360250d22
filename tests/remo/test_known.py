"""known: a server that has spoken numbered mode is remembered, and nothing else happens."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path

from pysftpserver.remo.known import KnownServers

FINGERPRINT = "SHA256:one"


class TestKnownServers(unittest.TestCase):
    def setUp(self) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory())
        self.path = Path(place, "state", "numbered")
        self.known = KnownServers(str(self.path))

    def test_nobody_is_known_at_first(self) -> None:
        self.assertFalse(self.known.is_numbered(FINGERPRINT))
        self.assertFalse(self.path.exists())

    def test_who_is_remembered_is_known_to_the_next_one_who_looks(self) -> None:
        self.known.remember(FINGERPRINT)
        self.assertTrue(KnownServers(str(self.path)).is_numbered(FINGERPRINT))

    def test_a_part_of_a_fingerprint_is_not_one(self) -> None:
        self.known.remember(FINGERPRINT)
        self.assertFalse(self.known.is_numbered(FINGERPRINT[:-1]))

    def test_a_server_is_remembered_once(self) -> None:
        for name in (FINGERPRINT, "SHA256:two", FINGERPRINT):
            self.known.remember(name)
        self.assertEqual(self.path.read_text().splitlines(), [FINGERPRINT, "SHA256:two"])

    def test_the_file_is_for_its_owner_alone(self) -> None:
        self.known.remember(FINGERPRINT)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)

    def test_what_cannot_be_kept_is_not(self) -> None:
        blocked = KnownServers(os.path.join(os.devnull, "numbered"))
        blocked.remember(FINGERPRINT)
        self.assertFalse(blocked.is_numbered(FINGERPRINT))
