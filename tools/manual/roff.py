"""Writes manual pages in man(7), which groff and mandoc read. What may not enter: what a page is about."""

from __future__ import annotations

import os
import re
import textwrap
import time
from collections.abc import Iterable

from pysftpserver import __version__

#: Pages of docs/ that are manual pages as well.
MANUALS = {"storages.md": "`pysftp-storages`(7)", "site.md": "`pysftpsite`(5)"}
LONG = 40  # letters from which a word may be broken after a slash and the like
DAY = "2026-11-30"  # on the pages, unless SOURCE_DATE_EPOCH is set: two builds make the same pages
WIDTH = 78  # mandoc complains about lines of more than 80
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")
_FLAG = re.compile(r"(?<![\w-])(--?[a-zA-Z][\w-]*)")
_BREAKS = re.compile(r"(?<=\w)[/&?,](?=\w)|(?<=\w)(?=\[)")
_MARKED = re.compile("\0([^\1]*)\1")
_SPECIAL = {"\\": "\\e", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga"}


def page(name: str, section: int, summary: str, body: Iterable[str]) -> str:
    """A whole page. summary: what it is about, in half a sentence. body: what follows NAME."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    day = time.strftime("%Y-%m-%d", time.gmtime(int(epoch))) if epoch.isdecimal() else DAY
    title = f'.TH {literal(name.upper())} {section} {day} "pysftpserver {__version__}"'
    named = _wrapped(f"{literal(name)} \\- {_escaped(summary)}")
    # No justified lines and no hyphenated words: people read and copy options and paths.
    return "\n".join([title, ".ad l", ".nh", ".SH NAME", named, *body]) + "\n"


def section(title: str, *body: str) -> list[str]:
    """A section, or nothing if it has no body."""
    return [f".SH {title}", *body] if body else []


def subsection(title: str, *body: str) -> list[str]:
    """A section in a section."""
    return [f'.SS "{_escaped(title)}"', *body]


def text(words: str) -> str:
    """Running text, with `code` and options in bold, on separate lines."""
    words = _LINK.sub(lambda found: MANUALS.get(found[1], found[1]), words)
    for name, manual in MANUALS.items():
        words = words.replace(f"docs/{name}", manual)
    parts = []
    for at, part in enumerate(_CODE.split(words)):
        parts.append(bold(part) if at % 2 else _FLAG.sub(lambda found: f"\0{found[1]}\1", part))
    whole = "".join(part if at % 2 else _escaped(part) for at, part in enumerate(parts))
    whole = _MARKED.sub(lambda found: "\\fB" + found[1].replace("-", "\\-") + "\\fR", whole)
    return _wrapped(whole)


def bold(words: str) -> str:
    """Words to be typed literally; none is hyphenated."""
    return "\\fB" + " ".join(f"\\%{literal(word)}" for word in words.split(" ")) + "\\fR"


def italic(words: str) -> str:
    """A placeholder."""
    return f"\\fI{literal(words)}\\fR"


def literal(words: str) -> str:
    """Words to be copied: hyphens, quotes and accents stay unchanged."""
    return _escaped(words).replace("-", "\\-").replace("'", "\\(aq")


def tagged(tag: str, words: str) -> list[str]:
    """An entry of a list. tag: ready for roff."""
    return [".TP", _not_a_request(tag), text(words)]


def quoted(lines: str) -> list[str]:
    """Lines unchanged, in a fixed-width font."""
    return [".RS 4", ".EX", *(_not_a_request(literal(line)) for line in lines.splitlines()), ".EE", ".RE"]


def paragraphs(words: str) -> list[str]:
    """Paragraphs, with an empty line between them."""
    found: list[str] = []
    for part in words.strip().split("\n\n"):
        found += [*([".PP"] if found else []), text(" ".join(part.split()))]
    return found


def examples(rows: Iterable[tuple[str, str]]) -> list[str]:
    """What each example does, and its line."""
    found = []
    for what, line in rows:
        found += [".PP", text(what), *quoted(line)]
    return found[1:]


def _wrapped(words: str) -> str:
    words = " ".join(_BREAKS.sub(r"\g<0>\\:", word) if len(word) > LONG else word for word in words.split())
    lines = textwrap.wrap(words, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(_not_a_request(line) for line in lines)


def _escaped(words: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in words)


def _not_a_request(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line
