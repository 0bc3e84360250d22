"""Chromium, driven as a person uses it: what is seen is found by its words, and every wait has a deadline.

What the browser complains of (a policy that was broken, an error of a script) is kept. Facts: the WebDriver
specification; the Chrome DevTools Protocol, for what that has no word for.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

BROWSER, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
AXE = ROOT / ".venv-axe" / "axe.min.js"
DESKTOP, PHONE = (1280, 800), (390, 844)
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--disable-lcd-text",  # pictures are smaller
    "--lang=en-US",
)
#: Finds what is seen and has these words, as a person looks for it: by its name, label or text.
FIND = """
const [kinds, words, within] = arguments;
const squeezed = text => (text || '').replace(/\\s+/g, ' ').trim();
const text = id => (document.getElementById(id) || {}).textContent;
const named = one => [
    one.getAttribute('aria-label'),
    (one.getAttribute('aria-labelledby') || '').split(' ').map(text).join(' '),
    ...[...(one.labels || [])].map(label => label.innerText),
    one.innerText, one.value, one.title, one.placeholder].map(squeezed);
const seen = one => one.checkVisibility({visibilityProperty: true, opacityProperty: true});
const all = [...(within || document).querySelectorAll(kinds)].filter(seen);
return all.find(one => named(one).includes(words))
    || all.find(one => named(one).some(name => name.startsWith(words)));
"""
CONTROLS = "a[href], button, input, select, textarea, summary, label, [role=button], [role=menuitem]"
PRESSED = "a[href], button, input[type=submit], summary, [role=button], [role=menuitem], label"
GONE = "does not belong to the document"  # what the driver says of elements of a page that was left
TAB = {"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
#: What axe-core finds by all rules or those that are named, one line for each element.
CHECK = """
const [rules, done] = arguments;
axe.run(document, {resultTypes: ['violations'], ...(rules && {runOnly: rules})}).then(
    found => done(found.violations.flatMap(rule => rule.nodes.map(
        node => `${rule.id}: ${node.target.join(' ')}: ${node.failureSummary.replace(/\\s+/g, ' ')}`))),
    error => done(['axe-core failed: ' + error]));
"""
#: Drops files of [name, content as base64] on an element.
DROP = """
const [target, files] = arguments;
const transfer = new DataTransfer();
for (const [name, text] of files) transfer.items.add(
    new File([Uint8Array.from(atob(text), each => each.charCodeAt(0))], name));
for (const kind of ['dragenter', 'dragover', 'drop']) target.dispatchEvent(
    new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer}));
"""


def is_missing() -> str:
    """Why there can be no browser; "" if there can."""
    return "" if os.path.exists(BROWSER) and os.path.exists(DRIVER) else "Chromium or its driver is missing"


class Chromium:
    """A browser in a profile of its own, from construction to close(). downloads: where it puts files."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-chromium-"))
        self.downloads = self.place / "downloads"
        self.downloads.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for flag in (*FLAGS, f"--user-data-dir={self.place / 'profile'}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.add_experimental_option("excludeSwitches", ["enable-automation"])
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self._runs_scripts = True
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)
        self.tell("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.be(DESKTOP)

    def close(self) -> None:
        """End it, and remove all that it kept."""
        with contextlib.suppress(WebDriverException):
            self.driver.quit()
        shutil.rmtree(self.place, ignore_errors=True)

    # How it is.

    def tell(self, command: str, **values: Any) -> Any:
        """Give an order of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, values)

    def be(self, size: tuple[int, int]) -> None:
        """Have a window of a size in pixels; PHONE is one with fingers."""
        width, height = size
        phone = size == PHONE
        values = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.tell("Emulation.setDeviceMetricsOverride", **values)
        self.tell("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, theme: str) -> None:
        """Prefer pages that are "dark" or "light"."""
        wish = {"name": "prefers-color-scheme", "value": theme}
        self.tell("Emulation.setEmulatedMedia", features=[wish])

    def run_scripts(self, yes: bool) -> None:
        """Have the scripts of pages run or not, from the next page on."""
        self._runs_scripts = yes
        self.tell("Emulation.setScriptExecutionDisabled", value=not yes)

    def forget(self) -> None:
        """Be as new: no cookies, nothing stored, no file downloaded, a desktop that runs scripts."""
        self.driver.get("about:blank")
        self.run_scripts(True)
        self.tell("Network.clearBrowserCookies")
        self.tell("Storage.clearDataForOrigin", origin="*", storageTypes="all")
        self.be(DESKTOP)
        self.prefer("light")
        for file in self.downloads.iterdir():
            file.unlink(missing_ok=True)
        self.complaints()

    # What is seen.

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns in the page."""
        return self.driver.execute_script(script, *arguments)

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self.driver.current_url)

    @property
    def text(self) -> str:
        """All words of the page that are seen."""
        try:
            return str(self.run("return document.body ? document.body.innerText : ''"))
        except WebDriverException:  # the page is just being replaced
            return ""

    def all(self, selector: str) -> list[WebElement]:
        """What a CSS selector selects."""
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """The words of all that a CSS selector selects, whether seen or not."""
        script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent.trim())"
        return list(self.run(script, selector))

    def looks(self, words: str, kinds: str = CONTROLS, within: WebElement | None = None) -> WebElement | None:
        """What is seen now with these words; None: nothing."""
        with contextlib.suppress(StaleElementReferenceException):
            found = self.run(FIND, kinds, words, within)
            return found if isinstance(found, WebElement) else None
        return None

    def find(self, words: str, kinds: str = CONTROLS, within: WebElement | None = None) -> WebElement:
        """Wait for something with these words: it has exactly them, or begins with them."""
        return until(
            lambda: self.looks(words, kinds, within),
            functools.partial(self._misses, words),
        )

    def see(self, *words: str) -> None:
        """Wait for words, wherever on the page they are."""
        for each in words:
            until(functools.partial(self.shows, each), functools.partial(self._misses, each))

    def _misses(self, words: str) -> str:
        return f"no {words!r} at {self.url}:\n{self.text}"

    def shows(self, words: str) -> bool:
        """Whether words are seen now."""
        return words in self.text

    def wait_for(self, script: str) -> Any:
        """Wait for a script to return something true."""
        return until(lambda: self.run(script), f"not true at {self.url}: {script}")

    def miss(self, words: str) -> None:
        """Wait for words to be gone from the page."""
        until(lambda: self.text and not self.shows(words), f"{words!r} stays at {self.url}")

    # What a person does.

    def open(self, url: str) -> None:
        """Go to a URL."""
        self.driver.get(url)

    def press(self, words: str, kinds: str = PRESSED) -> None:
        """Press a button or follow a link."""
        self.retry(lambda: self.find(words, kinds).click())

    def go(self, words: str, kinds: str = PRESSED) -> None:
        """Press something that leads to another page, and wait for that: it may look like this one."""
        since = "return document.readyState === 'complete' && performance.timeOrigin"
        before = self.wait_for(since)
        self.press(words, kinds)

        def is_there() -> bool:
            with contextlib.suppress(WebDriverException):
                return self.run(since) not in (False, before)
            return False

        until(is_there, lambda: f"{words!r} leads nowhere from {self.url}")

    def fill(self, label: str, text: str, within: WebElement | None = None) -> WebElement:
        """Write into a field, in the place of what is there."""
        field = self.find(label, "input, textarea, select", within)
        field.send_keys(Keys.CONTROL + "a")
        field.send_keys(text)
        return field

    def type(self, *keys: str) -> None:
        """Type on the keyboard, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    @property
    def focused(self) -> str:
        """The words of what has the focus."""
        script = (
            "const one = document.activeElement; return ((one.labels && one.labels[0] || {}).innerText"
            " || one.getAttribute('aria-label') || one.innerText || one.value || '').trim()"
        )
        return str(self.run(script))

    def tab_to(self, words: str, backwards: bool = False, most: int = 200) -> None:
        """Press Tab, or Shift and Tab, until something with these words has the focus."""
        passed: list[str] = []
        for _ in range(most):
            self.tell("Input.dispatchKeyEvent", **TAB, modifiers=8 if backwards else 0)
            passed.append(self.focused)
            if passed[-1].startswith(words):
                return
        raise AssertionError(f"Tab does not reach {words!r}, but {passed}")

    def drop(self, selector: str, *files: tuple[str, bytes]) -> None:
        """Drop files of (name, content) on an element."""
        sent = [[name, base64.b64encode(content).decode()] for name, content in files]
        self.run(DROP, self.driver.find_element("css selector", selector), sent)

    def retry(self, act: Callable[[], None]) -> None:
        """Do something with what is on the page; again if the page has changed under the hand."""

        def is_done() -> bool:
            try:
                act()
            except WebDriverException as error:
                if not isinstance(error, StaleElementReferenceException) and GONE not in str(error):
                    raise
                return False
            return True

        until(is_done, "the page keeps changing")

    def downloaded(self, ending: str) -> bytes:
        """Wait for a file to be downloaded; its content. ending: of its name.

        The browser makes an empty file of the name first, and puts the whole one in its place.
        """
        found = until(
            lambda: [file for file in self.downloads.glob(f"*{ending}") if file.stat().st_size],
            lambda: f"no {ending} is downloaded, but {os.listdir(self.downloads)}",
        )
        return found[0].read_bytes()

    # What is wrong.

    def complaints(self) -> list[str]:
        """What the browser has complained of since the last call: policies, scripts, loads."""
        heard = [each for each in self.driver.get_log("browser") if each["level"] in ("WARNING", "SEVERE")]
        return [f"{each['source']}: {each['message']}" for each in heard]

    def barriers(self, *rules: str) -> list[str]:
        """What axe-core sees on this page that keeps somebody out. rules: all, unless some are named."""
        if not self.run("return Boolean(window.axe)"):
            self.run(AXE.read_text())
        self.wait_for("return document.getAnimations().every(each => each.playState === 'finished')")
        wanted = self._runs_scripts
        self.run_scripts(True)  # axe-core's, not the page's, which are looked at when a page is loaded
        found = list(self.driver.execute_async_script(CHECK, rules or None))
        self.run_scripts(wanted)
        return found
