"""Links to a file or a folder, for somebody who has nothing but a browser."""

from __future__ import annotations

import time
import unittest
from unittest import mock

from selenium.webdriver.common.keys import Keys

from tests.support.hard import IS_HARD
from tests.web.browser.cases import BrowserCase


class TestShares(BrowserCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("reports/july.txt", b"July was warm.\n")
        self.write("reports/august.txt", b"August was wet.\n")
        self.write("secret.txt", b"not shared\n")
        self.log_in()

    def share(self, name: str, *choices: str, password: str = "", most: str = "") -> str:
        """Share an entry; return its link, which is for people who have not logged in."""
        browser = self.browser
        self.open("/files/")
        browser.press(f"Choose {name}", kinds="input[type=checkbox]")
        browser.go("Share", kinds="form button")
        for each in choices:
            browser.press(each, kinds="label")
        if password:
            browser.fill("Password", password)
        if most:
            browser.fill("Maximum number", most)
        self.check("a new link")
        browser.go("Make the link")
        link = str(browser.find("Link", "input").get_attribute("value"))
        self.check("a link that is ready")
        self.assertTrue(link.startswith(self.url), link)
        return link

    def become_a_stranger(self) -> None:
        """Have no session any more."""
        self.browser.tell("Network.clearBrowserCookies")

    def test_a_folder_is_read_by_a_link_until_that_is_revoked(self) -> None:
        self.expect("status of 404")
        browser = self.browser
        link = self.share("reports")
        self.become_a_stranger()
        browser.open(link)
        browser.see("july.txt", "august.txt")
        self.assertFalse(browser.shows("secret.txt"))
        self.check("a shared folder", daily=True)
        browser.press("july.txt")
        self.assertEqual(browser.downloaded("july.txt"), b"July was warm.\n")
        browser.open(link)
        browser.press("Download all as a zip")
        self.assertEqual(browser.downloaded(".zip")[:2], b"PK")
        for path in ("../", "../../files/", "%2e%2e/secret.txt", "..%2fsecret.txt"):
            browser.open(link + path)
            self.assertFalse(browser.shows("not shared"), path)
        self.log_in()
        self.open("/shares")
        browser.see("reports", "downloads")
        self.check("shared links", daily=True)
        browser.go("Revoke")
        browser.see("You have shared nothing")
        self.become_a_stranger()
        browser.open(link)
        browser.miss("july.txt")
        self.check("a revoked link")

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_files_are_sent_into_a_folder_by_a_link_that_shows_nothing(self) -> None:
        browser = self.browser
        link = self.share("reports", "People can send files into it")
        self.become_a_stranger()
        browser.run_scripts(False)
        browser.open(link)
        browser.see("Send files to alice")
        self.assertFalse(browser.shows("july.txt"))
        self.check("where to send files")
        sent = browser.place / "from outside.txt"
        sent.write_bytes(b"here you are\n")
        browser.find("Files", "input[type=file]").send_keys(str(sent))
        browser.go("Send", kinds="form button")
        self.wait_for_file("reports/from outside.txt", b"here you are\n")
        browser.see("from outside.txt")
        browser.open(link)
        browser.see("Send files to alice")
        self.assertFalse(browser.shows("from outside.txt"))

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_a_link_asks_for_its_password_and_expires(self) -> None:
        self.expect("status of 404", "status of 403", "status of 401")
        browser = self.browser
        link = self.share("secret.txt", password="rain under seven roofs")
        self.become_a_stranger()
        browser.open(link)
        self.check("a password is asked for")
        browser.fill("Password", "sun over seven roofs")
        browser.type(Keys.ENTER)
        browser.see("password")
        browser.fill("Password", "rain under seven roofs")
        browser.type(Keys.ENTER)
        browser.see("secret.txt")
        browser.press("Download")
        self.assertEqual(browser.downloaded("secret.txt"), b"not shared\n")
        later = time.time() + 8 * 86400
        with mock.patch.object(self.served.door.shares, "_clock", lambda: later):
            browser.open(link)
            browser.miss("secret.txt")
