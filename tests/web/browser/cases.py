"""A case of tests with a browser on a server of its own."""

from __future__ import annotations

import os
import shutil
import unittest
from typing import ClassVar

from tests.support.waiting import PATIENCE, until
from tests.web.browser.chromium import AXE, Chromium, is_missing
from tests.web.serving import PASSWORDS, WebCase


class BrowserCase(WebCase):
    """Each test begins with a browser that has not been there, and nothing in alice's jail.

    Whatever the browser complains of fails the test, but for what it has said beforehand with expect().
    """

    browser: ClassVar[Chromium]

    @classmethod
    def setUpClass(cls) -> None:
        if why := is_missing():
            raise unittest.SkipTest(why)
        super().setUpClass()
        cls.browser = Chromium()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self) -> None:
        super().setUp()
        self.jail = self.served.jail()
        for entry in self.jail.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.url = self.served.url
        self._expected: list[str] = []
        self.browser.forget()
        self.addCleanup(self._hear)

    def expect(self, *parts: str) -> None:
        """Complaints with these words in them are what the test is about."""
        self._expected += parts

    def _hear(self) -> None:
        heard = self.browser.complaints()
        unexpected = [line for line in heard if not any(part in line for part in self._expected)]
        self.assertEqual(unexpected, [])

    def open(self, path: str = "/") -> None:
        """Go to a page of the server."""
        self.browser.open(self.url + path.lstrip("/"))

    def log_in(self, name: str = "alice") -> None:
        """Log in, as somebody who types."""
        self.open("/login")
        self.browser.fill("Name", name)
        self.browser.fill("Password", PASSWORDS[name])
        self.browser.press("Log in")
        self.browser.see("Log out")

    def check(self, page: str) -> None:
        """No barrier on this page, in either theme. page: what it is, for the failure."""
        if not AXE.exists():
            return
        self.assertEqual(self.browser.barriers(), [], page)
        self.browser.prefer("dark")  # which changes colours and nothing else
        self.assertEqual(self.browser.barriers("color-contrast"), [], f"{page}, dark")
        self.browser.prefer("light")

    def write(self, name: str | bytes, content: bytes) -> None:
        """A file in the jail."""
        file = self.jail / os.fsdecode(name)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)

    def wait_for_file(self, name: str, content: bytes) -> None:
        """Wait for a file of the jail to have this content."""
        file = self.jail / name
        until(
            lambda: file.exists() and file.read_bytes() == content, f"{name} does not come as sent", PATIENCE
        )
