"""What a person does with files in a browser, from the login to the logout."""

from __future__ import annotations

import io
import struct
import unittest
import zipfile
import zlib

from selenium.webdriver.common.keys import Keys

from tests.support.hard import IS_HARD
from tests.support.ports import LOOPBACK
from tests.web.browser.cases import BrowserCase
from tests.web.browser.chromium import PHONE
from tests.web.serving import PASSWORDS

TEXT = b"Whatever is written here is shown.\n<script>console.error('ran')</script>\n"


def png() -> bytes:
    """A picture of one red pixel."""
    chunks = ((b"IHDR", struct.pack(">2I5B", 1, 1, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0\xff\0\0")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (*chunks, (b"IEND", b""))
    )


class TestPeople(BrowserCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("notes.txt", TEXT)
        self.write("red.png", png())
        self.write("numbers 10.csv", b"a,b\n")
        self.write("numbers 2.csv", b"a,b,c,d,e,f\n")
        self.write("reports/july.txt", b"July was warm.\n")

    def test_logging_in_and_out(self) -> None:
        self.expect("status of 403")
        self.open("/files/reports/")
        self.check("login", daily=True)
        self.browser.fill("Name", "alice")
        self.browser.fill("Password", "wrong")
        self.browser.go("Log in")
        self.browser.see("Log in", "wrong")
        self.check("login refused")
        self.browser.fill("Name", "alice")
        self.browser.fill("Password", PASSWORDS["alice"])
        self.browser.go("Log in")
        self.browser.see("july.txt")  # where the person wanted to go
        self.browser.go("Log out")
        self.browser.see("Password")
        self.open("/files/")
        self.browser.see("Password")

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_a_link_from_ssh_logs_in_once(self) -> None:
        self.expect("status of 410")
        link = self.served.door.links.url({"user": "alice", "address": LOOPBACK})
        self.open(link)
        self.check("the page of a link")
        self.browser.go("Log in as alice")
        self.browser.see("Log out", "notes.txt")
        self.browser.tell("Network.clearBrowserCookies")
        self.open(link)
        self.browser.see("This link no longer works")

    def test_everything_on_a_desktop(self) -> None:
        self.everything()

    def test_everything_on_a_phone_without_scripts(self) -> None:
        self.browser.run_scripts(False)
        self.on_a_phone()

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_everything_on_a_phone(self) -> None:
        self.on_a_phone()

    def on_a_phone(self) -> None:
        self.browser.be(PHONE)
        self.everything()
        width = self.browser.run("return document.documentElement.scrollWidth")
        self.assertLessEqual(width, PHONE[0], "the page is wider than the phone")

    def everything(self) -> None:
        browser = self.browser
        self.log_in()
        # A folder, and files in it.
        browser.press("New folder")
        browser.fill("Name of the new folder", "Grüße & more")
        browser.go("Create")
        browser.see("Grüße & more")
        browser.go("Grüße & more")
        browser.see("This folder is empty")
        self.choose("first.txt", b"the first\n")
        browser.see("first.txt")
        self.wait_for_file("Grüße & more/first.txt", b"the first\n")
        # Rename and move.
        self.pick("first.txt")
        browser.go("Rename")
        browser.fill("New name for", "second.txt")
        browser.go("Rename")
        browser.see("second.txt")
        self.pick("second.txt")
        browser.go("Move")
        browser.fill("or to this one", "/reports")
        browser.go("Move")
        browser.miss("second.txt\n")
        self.wait_for_file("reports/second.txt", b"the first\n")
        self.open("/files/reports/")
        browser.see("second.txt", "july.txt")
        # See one, and download it.
        browser.go("july.txt")
        browser.see("July was warm.")
        browser.press("Download")
        self.assertEqual(browser.downloaded("july.txt"), b"July was warm.\n")
        # Delete, and think better of it; then for good.
        self.open("/files/reports/")
        self.pick("second.txt")
        browser.go("Delete")
        browser.see("Deleted: second.txt")
        browser.go("Undo")
        self.pick("second.txt")
        self.assertTrue((self.jail / "reports" / "second.txt").exists())
        # Several as one file.
        self.open("/files/")
        self.pick("reports")
        self.pick("notes.txt")
        browser.press("Download")
        with zipfile.ZipFile(io.BytesIO(browser.downloaded(".zip"))) as zipped:
            names = sorted(name for name in zipped.namelist() if not name.endswith("/"))
            self.assertEqual(names, ["notes.txt", "reports/july.txt", "reports/second.txt"])

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_listings_are_sorted_and_filtered(self) -> None:
        self.log_in()
        self.assertEqual(self.names(), ["reports", "notes.txt", "numbers 2.csv", "numbers 10.csv", "red.png"])
        self.browser.go("Size")
        self.assertEqual(self.names()[:2], ["reports", "notes.txt"])
        self.browser.go("Size")
        self.assertEqual(self.names()[:2], ["reports", "numbers 10.csv"])
        self.browser.fill("Filter by name", "NUMBERS")
        self.browser.type(Keys.ENTER)
        self.browser.miss("red.png")
        self.assertEqual(sorted(self.names()), ["numbers 10.csv", "numbers 2.csv"])
        self.check("filtered")
        self.browser.go("Show all")
        self.browser.see("red.png")

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_images_texts_and_pdfs_are_previewed(self) -> None:
        self.write(
            "paper.pdf",
            b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
            b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n",
        )
        self.log_in()
        self.browser.go("notes.txt")
        self.browser.see("<script>console.error('ran')</script>")
        self.check("text", daily=True)
        self.open("/files/")
        self.browser.go("red.png")
        self.browser.wait_for("return (document.querySelector('main img') || {}).naturalWidth")
        self.check("image")
        self.open("/files/")
        self.browser.go("paper.pdf")
        self.browser.wait_for("return document.querySelector('main iframe, main embed, main object')")

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_the_keyboard_alone_is_enough(self) -> None:
        browser = self.browser
        self.open("/login")
        browser.wait_for("return document.activeElement.id === 'name'")
        browser.type("alice", Keys.TAB)
        browser.type(PASSWORDS["alice"], Keys.ENTER)
        browser.see("Log out")
        browser.tab_to("New folder")
        browser.type(Keys.ENTER)
        browser.tab_to("Name of the new folder")
        browser.type("by keys", Keys.ENTER)
        browser.see("by keys")
        browser.tab_to("Choose by keys")
        browser.type(Keys.SPACE)
        browser.tab_to("Rename", backwards=True)
        browser.type(Keys.ENTER)
        browser.find("New name for")
        browser.tab_to("New name for")
        browser.type(Keys.CONTROL + "a")
        browser.type("renamed", Keys.ENTER)
        browser.see("renamed")
        browser.tab_to("Choose renamed")
        browser.type(Keys.SPACE)
        browser.tab_to("Delete", backwards=True)
        browser.type(Keys.ENTER)
        browser.tab_to("Undo")
        browser.type(Keys.ENTER)
        browser.see("Nothing was deleted.")
        browser.tab_to("renamed")
        browser.type(Keys.ENTER)
        browser.see("This folder is empty")
        browser.tab_to("Log out")
        browser.type(Keys.ENTER)
        browser.see("Password")

    @unittest.skipUnless(IS_HARD, "only make test-hard")
    def test_no_page_keeps_anybody_out(self) -> None:
        browser = self.browser
        self.log_in()
        self.check("listing")
        browser.press("New folder")
        browser.press("Upload")
        self.check("listing with forms open", daily=True)
        self.open("/files/")
        self.pick("notes.txt")
        self.check("something chosen")
        browser.go("Delete")
        browser.find("Undo")
        self.check("undo")
        browser.go("Undo")
        for button in ("Rename", "Move"):
            self.pick("reports")
            browser.go(button)
            browser.find("Cancel")
            self.check(button, daily=button == "Move")
            browser.go("Cancel")
        self.expect("status of 404")
        self.open("/files/nothing")
        self.check("nothing there")
        browser.be(PHONE)
        self.open("/files/")
        self.check("listing on a phone")

    # --- what it is made of -----------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Of the entries, as they are listed."""
        return self.browser.texts("tbody th bdi")

    def pick(self, name: str) -> None:
        """Choose an entry."""
        self.browser.press(f"Choose {name}", kinds="input[type=checkbox]")

    def choose(self, name: str, content: bytes) -> None:
        """Upload a file by choosing it."""
        self.browser.press("Upload", kinds="summary, button")
        sent = self.browser.place / name
        sent.write_bytes(content)
        form = self.browser.find("Files", "input[type=file]")
        form.send_keys(str(sent))
        self.browser.press("Upload", kinds="form button")
