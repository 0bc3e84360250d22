"""The operators' page in Chromium: it follows a real pysftpd, by mouse, by keyboard and without scripts."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import ClassVar

from tests.sshd.serving import Daemon
from tests.support.hard import IS_HARD
from tests.support.processes import require
from tests.support.waiting import until
from tests.web.browser.cases import BrowserCase
from tests.web.browser.chromium import PHONE
from tests.web.serving import Served

ENTER = {"type": "keyDown", "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}


class Watching(BrowserCase):
    """One pysftpd, and the page for it."""

    daemon: ClassVar[Daemon]

    @classmethod
    def make(cls, place: Path) -> Served:
        require("sftp")
        cls.daemon = Daemon("--audit", str(place / "audit"))
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.start()
        own = {"users": str(cls.daemon.users), "sftp_path": str(cls.daemon.files)}
        return Served(place, **own, operators=str(cls.daemon.socket))

    def enter(self, is_checked: bool = True) -> None:
        """Log in with a link."""
        self.addCleanup(self.daemon.hang_up)
        assert self.served.door.operators is not None
        self.open(self.served.door.operators.link("olga"))
        if is_checked:
            self.check("a link")
        self.browser.press("Log in as olga")
        self.browser.see("Log out")

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_what_happens_is_seen_without_loading_the_page_again(self) -> None:
        self.enter()
        self.browser.see("Live.", "Nothing moves.", "There are no sessions.")
        self.daemon.get_slowly()
        self.browser.see("get /large", "of 16.0 MiB", "KiB/s")
        self.browser.wait_for("return document.querySelectorAll('#plots svg path').length >= 7")
        self.check("the page now")
        self.browser.be(PHONE)
        wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        self.browser.wait_for(wide)
        self.check("the page now, on a phone")
        # The focus stays where it is while the page changes around it, so a keyboard is enough.
        self.browser.tab_to("End session")
        seen = self.browser.texts("#sessions td:nth-child(7)")
        until(lambda: self.browser.texts("#sessions td:nth-child(7)") != seen, "the page goes on")
        self.assertIn("End session", self.browser.focused)
        self.browser.tell("Input.dispatchKeyEvent", **ENTER)  # to what has the focus at that moment
        self.browser.see("ended session", "There are no sessions.")
        self.browser.go("Log out")
        self.browser.see("pysftpctl web")

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_it_all_works_without_scripts_by_loading_pages(self) -> None:
        self.browser.run_scripts(False)
        self.enter(is_checked=False)
        self.daemon.client(say="pwd")
        until(lambda: len(self.daemon.sessions()) == 1, "a session is there")
        self.browser.press("Reload")
        for text in ("alice", "127.0.0.1"):
            until(lambda text=text: text in self.browser.driver.page_source, text)  # type: ignore[misc]
        self.browser.press("Users")
        self.browser.press("bob")
        self.browser.press("Deactivate: refuse logins and end sessions")
        until(lambda: "deactivated the user bob" in self.browser.driver.page_source, "it says so")
        self.browser.press("Activate")
        until(lambda: "activated the user bob" in self.browser.driver.page_source, "it says so")
        self.browser.press("Audit log")
        self.browser.fill("Path of a file", "/nothing")
        self.browser.press("Search")
        until(lambda: "nothing about it" in self.browser.driver.page_source, "it says so")
