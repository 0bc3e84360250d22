"""The pictures of the README: what they show is what the code has, and they are safe to embed."""

from __future__ import annotations

import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree as ElementTree

from pysftpserver.cli.registry import ALL, PROGRAMS, doors
from pysftpserver.storages.by_name import SCHEMES
from pysftpserver.storages.tables import GROUPS
from tests.support.paths import ROOT
from tools import pictures, recording

DRAWN = {path.name: path.read_text() for path in (pictures.PICTURE, recording.RECORDING)}
SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[str]:
    """All texts in a picture, with plain spaces."""
    found = [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]
    return [text.replace("\N{NO-BREAK SPACE}", " ") for text in found]


class Pictures(unittest.TestCase):
    def test_the_drawing_is_up_to_date(self) -> None:
        command = [sys.executable, pictures.__file__, "--check"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("", "", 0))

    def test_the_drawing_has_every_door_and_every_storage(self) -> None:
        shown = texts(DRAWN["overview.svg"])
        for door in doors():
            self.assertIn(door.name, shown)
        for scheme in SCHEMES.values():
            self.assertIn(scheme.form.partition("[")[0].strip(), shown)

    def test_every_storage_is_in_one_group_and_every_door_serves_known_storages(self) -> None:
        grouped = [scheme for _, schemes in GROUPS.values() for scheme in schemes]
        self.assertEqual(sorted(grouped), sorted(SCHEMES))
        for page, _ in GROUPS.values():
            self.assertTrue((ROOT / "docs" / page).exists())
        for program in PROGRAMS:
            self.assertIn(program.storages, ("", ALL, *SCHEMES))
            self.assertEqual(bool(program.by), bool(program.storages))

    def test_they_have_no_scripts_and_fetch_nothing(self) -> None:
        for name, picture in DRAWN.items():
            with self.subTest(name):
                self.assertNotRegex(picture, r"<script|href|@import|url\(|\bon\w+=")
                self.assertEqual(set(re.findall(r"\bhttps?://[^\"\s<]+", picture)), {SVG.strip("{}")})

    def test_the_drawing_has_colours_for_dark_pages(self) -> None:
        self.assertIn("prefers-color-scheme: dark", DRAWN["overview.svg"])

    def test_the_recording_shows_what_was_typed_and_no_path_of_a_host(self) -> None:
        shown = texts(DRAWN["session.svg"])
        for typed in recording.TYPED:
            self.assertIn(typed, shown)
        self.assertIn("Remote working directory: /", shown)
        self.assertNotRegex(DRAWN["session.svg"], r"/tmp|/home|/root|/usr|root:")

    def test_a_session_of_today_is_the_recorded_one(self) -> None:
        if f"<desc>Recorded with {recording.client_version()}</desc>" not in DRAWN["session.svg"]:
            self.skipTest("recorded with another OpenSSH, which has other words")
        self.assertEqual(recording.drawing(recording.session()), DRAWN["session.svg"])
