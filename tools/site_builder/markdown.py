"""Links, headings and anchors of a page, as GitHub and MyST read Markdown. Does not access files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

# What is not text: fenced code, comments, inline code.
_NOT_TEXT = re.compile(
    r"^(`{3,}|~{3,}).*?^\1[`~]*$|<!--.*?-->|(?<!`)(`+)(?!`).*?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"(\]\(\s*)([^()\s]+(?:\([^()\s]*\))?)(?=[\s)])")
_ATTRIBUTE = re.compile(r"(<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\")([^\"]+)")
_LETTER = re.compile(r"[^\n]")
_NAMED = re.compile(r"\[([\w./-]+\.md)\]\(([\w./-]+\.md(?:#[\w-]*)?)\)")
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
_ID = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


class Heading(NamedTuple):
    """A heading: its level (1 to 6), its text as Markdown, its anchor, and where it begins in the page."""

    level: int
    text: str
    anchor: str
    position: int


@cache
def _blanked(page: str) -> str:
    """The page with spaces in place of what is not text, so that all positions stay the same."""
    return _NOT_TEXT.sub(lambda found: _LETTER.sub(" ", found[0]), page)


def _found_links(page: str) -> Iterator[re.Match[str]]:
    blanked = _blanked(page)
    for pattern in (_LINK, _ATTRIBUTE):
        yield from pattern.finditer(blanked)


def is_local(link: str) -> bool:
    """Whether a link leads to a file or an anchor of the project, not to another host."""
    return not re.match(r"[a-z][a-z0-9+.-]*:|//", link)


def links(page: str) -> list[str]:
    """The targets of all links and images of a page that lead to files or anchors of the project."""
    return [found[2] for found in _found_links(page) if is_local(found[2])]


def with_links(page: str, changed: Callable[[str], str]) -> str:
    """The page with each such target replaced by the function's result for it."""
    for found in sorted(_found_links(page), key=lambda found: -found.start()):
        if is_local(found[2]):
            page = page[: found.start(2)] + changed(found[2]) + page[found.end(2) :]
    return page


def with_texts(page: str, text_of: Callable[[str], str]) -> str:
    """The page with each link text that is the name of a page, `[a.md](a.md)`, replaced by text_of()."""
    blanked = _blanked(page)
    for found in reversed(list(_NAMED.finditer(blanked))):
        page = page[: found.start(1)] + text_of(found[2]) + page[found.end(1) :]
    return page


@cache
def headings(page: str) -> tuple[Heading, ...]:
    """All headings of a page, in order."""
    blanked = _blanked(page)
    seen: dict[str, int] = {}
    found = []
    for match in re.finditer(_HEADING, page):
        if not blanked[match.start()] == "#":
            continue
        anchor = _slug(match[2])
        seen[anchor] = seen.get(anchor, -1) + 1
        if seen[anchor]:
            anchor += f"-{seen[anchor]}"
        found.append(Heading(len(match[1]), match[2], anchor, match.start()))
    return tuple(found)


def anchors(page: str) -> set[str]:
    """The anchors of a page, to which `#` may link."""
    return {heading.anchor for heading in headings(page)} | set(_ID.findall(_blanked(page)))


def _slug(text: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)  # a link is its text
    return re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
