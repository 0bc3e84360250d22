"""Change one member of an object in a JSON text, and nothing else.

Texts are as config.parse() accepts them: there may be a comma after the last item. What may not enter:
what the members mean. Facts: RFC 8259.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from pysftpserver.sksync.config import without_trailing_commas

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


class Member(NamedTuple):
    """The position of a member in the text: from the quote before its key to the end of its value."""

    start: int
    value: int
    end: int


def members(text: str, start: int = 0) -> dict[str, Member]:
    """The members of the object that begins at start, in order. The text has to be valid."""
    plain = without_trailing_commas(text)
    found: dict[str, Member] = {}
    at = _skip(plain, _skip(plain, start) + 1)
    while plain[at] != "}":
        key, end = _DECODER.raw_decode(plain, at)
        value = _skip(plain, _skip(plain, end) + 1)
        _, end = _DECODER.raw_decode(plain, value)
        found[key] = Member(at, value, end)
        at = _skip(plain, end)
        if plain[at] == ",":
            at = _skip(plain, at + 1)
    return found


def with_member(text: str, start: int, key: str, value: str) -> str:
    """The text with a value (JSON) set for a key of the object that begins at start."""
    start = _skip(text, start)
    known = members(text, start)
    if key in known:
        return text[: known[key].value] + value + text[known[key].end :]
    member = f"{json.dumps(key, ensure_ascii=False)}: {value}"
    if not known:
        end = text.index("}", start)
        line = "\r\n" if "\r\n" in text else "\n"
        indent = re.match(r"[ \t]*", text[text.rfind("\n", 0, start) + 1 :])
        before = indent[0] if indent is not None else ""
        return f"{text[: start + 1]}{line}{before}    {member}{line}{before}{text[end:]}"
    last = list(known.values())[-1]
    space = re.search(r"[ \t\n\r]*\Z", text[: last.start])
    return f"{text[: last.end]},{space[0] if space is not None else ''}{member}{text[last.end :]}"


def without_member(text: str, start: int, key: str) -> str:
    """The text without a member of the object that begins at start."""
    start = _skip(text, start)
    known = members(text, start)
    places = list(known.values())
    at = places.index(known[key])
    if at + 1 < len(places):
        return text[: places[at].start] + text[places[at + 1].start :]
    if at:
        return text[: places[at - 1].end] + text[places[at].end :]
    return text[: start + 1] + text[_closing(text, places[at].end) :]


def _closing(text: str, at: int) -> int:
    """Where an object ends after its last member, with or without a comma."""
    return _skip(text, _skip(text, at) + 1) if text[_skip(text, at)] == "," else _skip(text, at)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
