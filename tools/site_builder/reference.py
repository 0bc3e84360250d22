"""The list of all tables in the pages that come from the code, for docs/reference.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tools.site_builder import markdown

ROOT = Path(__file__).resolve().parents[2]
TABLE = re.compile(r"^<!-- table: ([\w.:]+) -->$", re.MULTILINE)
#: The kind of a table, by its name in the code; the first match counts.
KINDS = (
    ("Settings, in files and as options", r"[Ss]ettings|\.site\.schema:"),
    ("Options of commands", r"\.cli\."),
    ("Commands, requests, rules and storages", r""),
)
OF_PAGES = "tools.site_builder."  # tables of pages to read


class Table(NamedTuple):
    """A table of a page: its name in the code, the page, and the headings above it, from the title on."""

    name: str
    page: str
    headings: tuple[markdown.Heading, ...]


def tables(docs: Path) -> list[Table]:
    """All tables of the pages in a directory that come from the code."""
    found = []
    for path in sorted(docs.glob("*.md")):
        page = path.read_text()
        every = markdown.headings(page)
        for match in TABLE.finditer(page):
            if not match[1].startswith(OF_PAGES):
                above = [heading for heading in every if heading.position < match.start()]
                found.append(Table(match[1], path.name, _chain(above)))
    return found


def _chain(above: list[markdown.Heading]) -> tuple[markdown.Heading, ...]:
    """The headings above the last one, from the page's title to itself."""
    chain: list[markdown.Heading] = []
    for heading in reversed(above):
        if not chain or heading.level < chain[0].level:
            chain.insert(0, heading)
    return tuple(chain)


def kind_of(table: Table) -> str:
    """The kind of a table: the title of its section in the list."""
    return next(title for title, pattern in KINDS if re.search(pattern, table.name))


def markdown_table() -> str:
    """The list."""
    parts = []
    every = tables(ROOT / "docs")
    for title, _ in KINDS:
        rows = ["| page | table |", "| --- | --- |"]
        pages: dict[str, list[str]] = {}
        for table in every:
            if kind_of(table) == title:
                first, *rest = table.headings
                last = rest[-1] if rest else first
                shown = ": ".join(_plain(heading.text) for heading in rest) or _plain(first.text)
                link = f"[{shown}]({table.page}#{last.anchor})"
                links = pages.setdefault(f"[{_plain(first.text)}]({table.page})", [])
                if link not in links:
                    links.append(link)
        rows += [f"| {page} | {', '.join(links)} |" for page, links in pages.items()]
        parts.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    return "\n" + "\n".join(parts) + "\n"


def _plain(heading: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link is its text
