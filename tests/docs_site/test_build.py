"""The site as `make site` builds it: no warning, nothing from other hosts, and a search that finds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import unittest
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE
from tools.site_builder import __main__ as builder

LOADED = {"img": "src", "script": "src", "link": "href", "source": "srcset", "iframe": "src", "use": "href"}


class Page(HTMLParser):
    """What a page of the site leads to, what it loads, and what can be led to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if (address := values.get(LOADED.get(tag, ""))) and values.get("rel") not in ("search", "canonical"):
            self.loaded.append(address)


def built(target: Path) -> subprocess.CompletedProcess[str]:
    """Build the site."""
    command = [sys.executable, "-m", "tools.site_builder", "--to", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20 * PATIENCE)


@unittest.skipUnless(IS_HARD, "installs Sphinx and takes half a minute; test_links has the links every day")
class Build(InAPlace):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if importlib.util.find_spec("sphinx") is None:
            subprocess.run([ROOT / "tools" / "venv.sh", "docs"], check=True, timeout=20 * PATIENCE)

    def test_the_site_is_built_without_a_warning_and_needs_no_other_host(self):
        site = self.place / "site"
        done = built(site)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        pages = {path: Page(path) for path in site.rglob("*.html")}
        self.assertGreater(len(pages), 60)
        for path, page in pages.items():
            for address in page.loaded:
                with self.subTest(page=str(path.relative_to(site)), loads=address):
                    self.assertNotRegex(address, r"\A(?:[a-z]+:)?//")
                    self.assertTrue((path.parent / unquote(re.split("[?#]", address)[0])).exists())
            for link in page.links:
                name, _, anchor = link.partition("#")
                if re.match(r"[a-z]+:", name):
                    continue
                target = (
                    Path(os.path.normpath(path.parent / unquote(name.partition("?")[0]))) if name else path
                )
                with self.subTest(page=str(path.relative_to(site)), leads=link):
                    self.assertTrue(target.exists())
                    if anchor and target in pages:
                        self.assertIn(unquote(anchor), pages[target].anchors)
        index = (site / "searchindex.js").read_text()
        words = json.loads(index[index.index("(") + 1 : index.rindex(")")])
        (number,) = (at for at, name in enumerate(words["docnames"]) if name == "glossary")
        self.assertIn(number, words["terms"]["longnam"])  # the stem of "longname"

    def test_a_broken_anchor_and_a_broken_link_fail_the_build(self):
        source, target = self.place / "site-source", self.place / "site"
        source.mkdir()
        (source / "other.md").write_text("# Other\n")
        text = "[there](other.md#other) [away](other.md#no-such-anchor) [gone](nowhere.md)"
        (source / "index.md").write_text(f"# Start\n\n{text}\n")
        done = subprocess.run(builder.sphinx(source, target), cwd=ROOT, capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stderr.count("WARNING"), 2, done.stderr)
        self.assertIn("no-such-anchor", done.stderr)
        self.assertIn("nowhere.md", done.stderr)
