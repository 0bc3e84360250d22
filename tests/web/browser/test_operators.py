"""The operators' page in Chromium, over a pysftpd that really runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.sshd.serving import Daemon
from tests.support.processes import require
from tests.web.browser.cases import Browsing
from tests.web.browser.chromium import PHONE
from tests.web.serving import Served, logged

STRANGE = "<img src=x onerror=console.error('ran')>"


def setUpModule() -> None:
    require("sftp")


class TestOperators(Browsing):
    daemon: Daemon
    served: Served

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        place = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="pysftpserver-operators-")))
        cls.daemon = Daemon("--audit", str(place / "audit"))
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.start()
        cls.enterClassContext(logged())
        own = {"users": str(cls.daemon.users), "sftp_path": str(cls.daemon.files)}
        cls.served = Served(place, operators=str(cls.daemon.socket), **own)
        cls.addClassCleanup(cls.served.stop)

    def setUp(self) -> None:
        super().setUp()
        self.url = self.served.url
        self.addCleanup(self.daemon.hang_up)

    def come_in(self) -> None:
        """Use the link that pysftpctl prints."""
        self.open(self.served.door.operators.link("olga"))
        self.check("the page of a link")
        self.browser.press("Log in")
        self.browser.see("Connected")

    def test_what_happens_is_seen_without_loading_the_page_again(self) -> None:
        browser = self.browser
        self.come_in()
        browser.see("Live.", "There are no sessions.")
        browser.run("window.isTheSamePage = true")
        self.daemon.client(say=f'mkdir "{STRANGE}"')
        browser.see("alice")
        browser.see(STRANGE)
        self.assertTrue(browser.run("return window.isTheSamePage"), "it was loaded again")
        self.assertEqual(browser.all("main img"), [])
        self.check("operators", daily=True)
        for tab in ("Users", "Audit log"):
            browser.press(tab)
            browser.find(tab)
            self.check(tab)
        browser.press("Now")
        browser.see("Live.")
        self.daemon.hang_up()
        browser.see("There are no sessions.")
        browser.be(PHONE)
        width = browser.run("return document.documentElement.scrollWidth")
        self.assertLessEqual(width, PHONE[0], "the page is wider than the phone")
        browser.press("Log out")
        browser.miss("Connected")
