"""Which pages the site has, and where: docs/ is its root, and files that its pages link to are included.

A page of docs/ keeps its place. Other files of the repository that a page links to are below repository/:
Markdown as a page, an image unchanged, a directory as a list of its files, every other text as a page that
shows it. A link to a published module leads to its page in the API reference. What may not enter: Sphinx.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import subprocess
from pathlib import Path

from tools.site_builder import api, markdown

ROOT = Path(__file__).resolve().parents[2]
IMAGES = (".png", ".svg", ".gif", ".webp")
LANGUAGES = {
    ".py": "python",
    ".toml": "toml",
    ".sh": "sh",
    ".service": "ini",
    ".socket": "ini",
    ".conf": "ini",
}
#: The side bar, in order: a title, and pages. Pages that are not listed here are under the last title.
CONTENTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("By task", ("install", "administrators", "developers", "operators", "troubles")),
    ("Doors", ("openssh", "sshd", "web", "sksync", "remo", "laboratory", "proxy")),
    ("Storages", ("storages", "mounts", "gridfs", "objects", "fsspec", "plugins")),
    ("What people see and may do", ("site", "audit", "checksums")),
    ("Keeping it", ("upgrading", "stability", "scale", "evidence")),
    ("Reference", ("reference", "commands", "api", "glossary", "rules", "probe", "conformance")),
    ("The project", ("comparison", "security", "performance", "architecture")),
)
START = "index"


def pages_of(root: Path) -> list[Path]:
    """The pages of a checkout that people read: at the top, and all below docs/ and examples/."""
    below = [path for name in ("docs", "examples", "bench", "fuzz") for path in (root / name).rglob("*.md")]
    return sorted([*root.glob("*.md"), *below])


def place_of(path: str) -> str:
    """The path in the site of a file of the repository, given its path there."""
    module = path.removesuffix(".py").replace("/", ".")
    if any(published.module == module for published in api.PUBLISHED):
        return api.page_name(module)
    return path.removeprefix("docs/") if path.startswith("docs/") else shown_at(path)


def shown_at(path: str) -> str:
    """The path where a file is shown: Markdown and images keep their names, every other file gets a page."""
    keeps = path.endswith((".md", *IMAGES))
    return f"repository/{path}" + ("" if keeps else "/index.md" if (ROOT / path).is_dir() else ".md")


class Site:
    """The pages, as files in a directory that Sphinx reads."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.problems: list[str] = []
        self._waiting: list[str] = []
        self._done: set[str] = set()

    def write(self) -> None:
        """Write all pages. Broken links are added to `problems`."""
        shutil.rmtree(self.target, ignore_errors=True)
        for path in pages_of(ROOT):
            self._take(path.relative_to(ROOT).as_posix())
        for published in api.PUBLISHED:
            path = api.source_of(published.module).path.relative_to(ROOT).as_posix()
            name = api.page_name(published.module)
            self._save(name, api.page(published, posixpath.relpath(shown_at(path), posixpath.dirname(name))))
            self._show(path)
        while self._waiting:
            self._take(self._waiting.pop())
        with (self.target / f"{START}.md").open("a") as start:
            start.write(self._contents())

    def _take(self, path: str) -> None:
        """Write the page of a file or a directory, and remember its links."""
        if path in self._done:
            return
        self._done.add(path)
        place = place_of(path)
        if path.endswith(".md"):
            text = (ROOT / path).read_text()
            text = markdown.with_texts(text, lambda link: self._title(path, link))
            self._save(place, markdown.with_links(text, lambda link: self._moved(path, place, link)))
        elif path.endswith(IMAGES):
            (self.target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, self.target / place)
        elif (ROOT / path).is_dir():
            names = _tracked(path)
            self._waiting += names
            rows = (
                f"- [{name}]({posixpath.relpath(place_of(name), posixpath.dirname(place))})" for name in names
            )
            self._save(place, f"# {path}\n\n" + "\n".join(rows) + "\n")
        elif not place.startswith("api/"):
            self._show(path)

    def _show(self, path: str) -> None:
        text = (ROOT / path).read_text()
        language = LANGUAGES.get(posixpath.splitext(path)[1], "text")
        self._save(
            shown_at(path),
            f"---\nnosearch: true\n---\n# {path}\n\n````````{language}\n{text.rstrip()}\n````````\n",
        )

    def _title(self, path: str, link: str) -> str:
        """The heading of a page, or of the part that a link leads to."""
        name, _, anchor = link.partition("#")
        wanted = ROOT / posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        every = markdown.headings(wanted.read_text()) if wanted.exists() else []
        titles = [one.text for one in every if not anchor or one.anchor == anchor]
        return titles[0] if titles else name

    def _moved(self, path: str, place: str, link: str) -> str:
        """The link in the site for a link of a page."""
        name, hash_, anchor = link.partition("#")
        if not name:
            return link
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        if not (ROOT / wanted).exists() or wanted.startswith(".."):
            self.problems.append(f"{path}: {link} leads nowhere")
            return link
        if (ROOT / wanted / "README.md").exists():
            wanted = posixpath.join(wanted, "README.md")
        self._waiting.append(wanted)
        return posixpath.relpath(place_of(wanted), posixpath.dirname(place)) + hash_ + anchor

    def _save(self, place: str, text: str) -> None:
        path = self.target / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _contents(self) -> str:
        """The side bar: hidden lists of pages at the end of the first page."""
        every = {path.relative_to(self.target).as_posix()[:-3] for path in self.target.rglob("*.md")}
        listed = {START, *(name for _, names in CONTENTS for name in names)}
        inner = {name for name in every if name.startswith(("repository/", "api/", "conformance/"))}
        parts = []
        for title, names in CONTENTS:
            shown = [name for name in names if name in every]
            if title == CONTENTS[-1][0]:
                shown += sorted(every - listed - inner) + _named(
                    every, "README", "CHANGELOG", "CONTRIBUTING", "SECURITY"
                )
            parts.append(_toctree(title, shown))
        return "\n" + "".join(parts)


def _named(every: set[str], *names: str) -> list[str]:
    return [f"repository/{name}" for name in names if f"repository/{name}" in every]


def _toctree(title: str, names: list[str]) -> str:
    return f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(names) + "\n```\n"


def _tracked(directory: str) -> list[str]:
    """The files below a directory that belong to the project."""
    listed = ["git", "-C", os.fspath(ROOT), "ls-files", "--", directory]
    try:
        names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):  # not a clone
        names = [
            path.relative_to(ROOT).as_posix() for path in (ROOT / directory).rglob("*") if path.is_file()
        ]
    return sorted(name for name in names if name)
