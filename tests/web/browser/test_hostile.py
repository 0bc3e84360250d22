"""Names and content made by an attacker: nothing of them runs, whatever page shows them.

Whatever runs reports that on the console, which fails the test.
"""

from __future__ import annotations

from tests.support.hard import IS_HARD
from tests.web.browser.cases import BrowserCase

RUN = "console.error('ran')"
NAMES = (
    f"<img src=x onerror={RUN}>.txt",
    f'"><svg onload={RUN}>.txt',
    f"' autofocus onfocus={RUN} x='.txt",
    f"javascript:{RUN}",
    f"${{{RUN}}}.txt",
    "\u202egnp.<b>txt",
    "line\nbreak <i>.txt",
    "&lt;script&gt;.txt",
)
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{RUN}"><script>{RUN}</script></svg>'.encode()
HTML = f"<!doctype html><title>x</title><script>{RUN}</script><body onload={RUN}>evil".encode()


class TestHostile(BrowserCase):
    def test_no_name_runs_on_any_page(self) -> None:
        for name in NAMES:
            self.write(name, b"content\n")
        (self.jail / f"<iframe srcdoc='<svg onload={RUN}>'>").mkdir()
        (self.jail / "\udcff\udcfe<b>").mkdir()
        self.log_in()
        browser = self.browser
        browser.see("<img src=x", "<iframe srcdoc=", "&lt;script&gt;")
        rows = browser.run("return [...document.querySelectorAll('tbody th a')].map(one => one.href)")
        self.assertEqual(len(rows), len(NAMES) + 2)
        for address in rows if IS_HARD else rows[::3]:
            browser.open(address)
            browser.see("Log out")
            self.assertEqual(
                browser.run("return document.querySelectorAll('main img, main b, main i').length"), 0
            )
        self.open("/files/?q=" + "%22%3E%3Csvg%20onload%3Dconsole.error('ran')%3E")
        browser.see("1 of 10")
        for button in ("Rename", "Move"):
            self.open("/files/")
            browser.press("Choose <img", kinds="input[type=checkbox]")
            browser.go(button)
            browser.find("Cancel")
        self.open("/files/")
        browser.press("Choose <img", kinds="input[type=checkbox]")
        browser.go("Delete")
        browser.see("Deleted: <img")
        browser.go("Undo")
        browser.press("New folder")
        browser.fill("Name of the new folder", "<img src=y onerror=console.error('ran')>")
        browser.go("Create")
        browser.see("<img src=y")

    def test_no_content_runs_as_a_page(self) -> None:
        self.expect("status of 404", "favicon.ico", "fake.mp4?inline=1")
        names = ["evil.html", "evil.svg", "fake.png"]
        if IS_HARD:
            names += ["evil.xhtml", "evil.xml", "fake.pdf", "fake.mp4"]
        for name in names:
            self.write(name, SVG if name.endswith(("svg", "xml")) else HTML)
        self.log_in()
        for name in names:
            with self.subTest(name):
                self.open(f"/files/{name}?view=1")
                self.browser.see("Log out")
                self.open(f"/files/{name}?inline=1")
                kind = self.browser.run("return document.contentType")
                self.assertNotIn(
                    kind, ("image/svg+xml", "text/xml", "application/xml", "application/xhtml+xml")
                )
                self.assertFalse(self.browser.shows("evil"))
                self.open("/files/")
                self.browser.press(f"Download {name}")
                self.browser.downloaded(name)

    def test_a_dropped_name_does_not_run(self) -> None:
        self.expect("status of 409")
        self.write("<b onclick=1>x", b"1\n")
        self.log_in()
        self.browser.drop("main", (f"<img src=x onerror={RUN}>", b"1\n"), ("<b onclick=1>x", b"2\n"))
        self.browser.see("called “<b onclick=1>x” already")
        self.browser.press("Skip")
        self.browser.see("<img src=x onerror")
        self.assertEqual(self.browser.all("main img, main b"), [])
