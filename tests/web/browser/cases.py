"""A case of tests with a browser on a server of its own."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import unittest
from typing import ClassVar
from unittest import mock

from pysftpserver.web import deletions
from pysftpserver.web.session import COOKIE
from tests.support.hard import IS_HARD
from tests.support.ports import LOOPBACK
from tests.support.waiting import NEVER, PATIENCE, until
from tests.web.browser.chromium import AXE, Chromium, is_missing
from tests.web.serving import WebCase


@functools.cache
def started() -> Chromium:
    """The browser of this process: starting one takes as long as several tests."""
    browser = Chromium()
    atexit.register(browser.close)
    return browser


class Browsing(unittest.TestCase):
    """Each test begins with a browser that has not been there. url: of the server, which a test sets.

    Whatever the browser complains of fails the test, but for what it has said beforehand with expect().
    """

    browser: ClassVar[Chromium]
    url: str

    @classmethod
    def setUpClass(cls) -> None:
        if why := is_missing():
            raise unittest.SkipTest(why)
        super().setUpClass()
        cls.browser = started()

    def setUp(self) -> None:
        super().setUp()
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

    def check(self, page: str, daily: bool = False) -> None:
        """No barrier on this page, in either theme. page: what it is, for the failure.

        daily: whether it stands for its kind; a look at a page takes a second of processor time.
        """
        if not AXE.exists() or not (daily or IS_HARD):
            return
        self.assertEqual(self.browser.barriers(), [], page)
        self.browser.prefer("dark")  # which changes colours and nothing else
        self.assertEqual(self.browser.barriers("color-contrast"), [], f"{page}, dark")
        self.browser.prefer("light")


class BrowserCase(Browsing, WebCase):
    """A browser, and a server in this process. Nothing is in alice's jail when a test begins.

    A delete can be undone as long as a test lasts.
    """

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.object(deletions, "SECONDS", NEVER))
        self.jail = self.served.jail()
        for entry in self.jail.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.url = self.served.url

    def log_in(self, name: str = "alice") -> None:
        """Be logged in, and see the files. The page to log in has tests of its own."""
        door = self.served.door
        session = door.welcome.begin(door.people.find(name), LOOPBACK, 0, "password")
        self.browser.tell("Network.setCookie", name=COOKIE, value=session.id, url=self.url)
        self.open("/files/")
        self.browser.see("Log out")

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
