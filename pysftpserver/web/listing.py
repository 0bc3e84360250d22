"""Selects the entries of a directory for a page: filtered, sorted, and cut into pages.

What may not enter: HTML, HTTP, storages.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from pysftpserver.web.html import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from pysftpserver.web.files import Entry

NAME, SIZE, DATE = "name", "size", "date"
ON_A_PAGE = 500  # entries
MOST_SORTED = 200_000  # entries: memory
_DIGITS = re.compile(r"(\d{1,18})")


def natural(name: bytes) -> tuple[Any, ...]:
    """The key by which names are sorted: case-insensitive, and 2 before 10."""
    parts: list[Any] = _DIGITS.split(plain(name).casefold())
    parts[1::2] = map(int, parts[1::2])
    return (*parts, name)


_KEYS: dict[str, Callable[[Entry], Any]] = {
    NAME: lambda entry: (),
    SIZE: lambda entry: entry.size,
    DATE: lambda entry: entry.mtime or 0,
}


@dataclass(frozen=True)
class View:
    """What a person wants to see. sort: NAME, SIZE or DATE. words: in names; * and ? are wildcards. page:
    from 1.
    """

    sort: str = NAME
    is_descending: bool = False
    words: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> View:
        """The view that a query asks for; invalid values are ignored."""
        sort = query.get("sort", NAME)
        page = query.get("page", "1")
        return cls(
            sort if sort in _KEYS else NAME,
            query.get("order") == "desc",
            query.get("q", "").strip()[:255],
            int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 7 else 1,
        )

    def query(self, **changes: Any) -> dict[str, str]:
        """The query that asks for it."""
        wanted = View(**{**vars(self), **changes})
        found = {"sort": wanted.sort, "order": "desc" if wanted.is_descending else "", "q": wanted.words}
        found["page"] = str(wanted.page)
        return {name: value for name, value in found.items() if value not in ("", NAME, "1", "0")}

    def matches(self, name: bytes) -> bool:
        """Whether a name is wanted."""
        if not self.words:
            return True
        text, words = plain(name).casefold(), self.words.casefold()
        if "*" in words or "?" in words:
            return fnmatch.fnmatchcase(text, words)
        return words in text


@dataclass(frozen=True)
class Seen:
    """The entries on a page. found: number of wanted entries on all pages. total: of all in the directory.
    is_cut: there were more than can be sorted.
    """

    entries: list[Entry]
    found: int
    total: int
    size: int
    page: int
    pages: int
    is_cut: bool


def look(entries: Iterable[Entry], view: View) -> Seen:
    """The entries on the page of a view. Directories come first."""
    wanted: list[Entry] = []
    total, is_cut = 0, False
    for entry in entries:
        total += 1
        if view.matches(entry.name):
            wanted.append(entry)
        if total >= MOST_SORTED:
            is_cut = True
            break
    wanted.sort(key=lambda entry: natural(entry.name), reverse=view.is_descending and view.sort == NAME)
    if view.sort != NAME:
        wanted.sort(key=_KEYS[view.sort], reverse=view.is_descending)
    wanted.sort(key=lambda entry: not entry.is_directory)
    pages = max(1, -(-len(wanted) // ON_A_PAGE))
    page = min(view.page, pages)
    some = wanted[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]
    return Seen(some, len(wanted), total, sum(entry.size for entry in wanted), page, pages, is_cut)
