"""docs/objects.md names every setting, and every message about a store."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

from pysftpserver.storages.objects import buffer, draft, errors
from pysftpserver.storages.objects.names import SETTINGS
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "objects.md").read_text()


class Page(unittest.TestCase):
    def test_every_setting_is_in_its_table(self):
        named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
        self.assertEqual(named, set(SETTINGS))

    def test_every_message_of_its_table_is_one_that_clients_can_get(self):
        messages = re.findall(r"^\| ([A-Z][^|`]+?) \|", PAGE, re.MULTILINE)
        self.assertGreaterEqual(len(messages), 15)
        sources = "".join(Path(module.__file__).read_text() for module in (buffer, draft, errors))
        for message in messages:
            with self.subTest(message):
                for part in message.split(" N "):
                    self.assertIn(part, sources)
