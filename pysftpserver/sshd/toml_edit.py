"""Changing one table of a TOML file and leaving every other byte as it is, comments and all.

A scanner finds where headers and values begin and end; what they mean is tomllib's to say, before and after.
Whoever calls compares the parsed result with what was wanted: a file that this module does not understand is
then refused and not spoilt.
What may not enter: files, users.
Facts: the TOML specification 1.0.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Value = str | bool | list[str]

OPENING, CLOSING = "[{", "]}"


@dataclass(frozen=True)
class Pair:
    """One `key = value`: from the key's first letter to the line's end, and the value's own letters."""

    key: tuple[str, ...]
    start: int
    value_start: int
    value_end: int
    end: int


@dataclass
class Table:
    """A header and the pairs below it. end: behind the last of them, or behind the header's line."""

    key: tuple[str, ...]
    start: int
    end: int
    pairs: list[Pair]

    def pair(self, name: str) -> Pair | None:
        """The pair of a plain key."""
        return next((pair for pair in self.pairs if pair.key == (name,)), None)


def set_values(text: str, key: Sequence[str], values: Mapping[str, Value | None]) -> str | None:
    """The text with these values in a table, None: without that one.

    Returns None where the table has no header of its own.
    """
    table = find(text, key)
    if table is None:
        return None
    newline = "\r\n" if "\r\n" in text else "\n"
    # From the last to the first, so that the places of the others stay.
    new = [
        f"{name} = {encode(value, newline)}"
        for name, value in values.items()
        if value is not None and table.pair(name) is None
    ]
    if new:
        before = "" if text[: table.end].endswith("\n") else newline
        text = text[: table.end] + before + newline.join(new) + newline + text[table.end :]
    for pair in reversed(table.pairs):
        if len(pair.key) == 1 and pair.key[0] in values:
            value = values[pair.key[0]]
            if value is None:
                text = text[: pair.start] + text[pair.end :]
            else:
                text = text[: pair.value_start] + encode(value, newline) + text[pair.value_end :]
    return text


def append(text: str, key: Sequence[str], values: Mapping[str, Value]) -> str:
    """The text with one more table at its end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = [f"[{'.'.join(map(encode_key, key))}]"]
    lines += [f"{name} = {encode(value, newline)}" for name, value in values.items()]
    if text and not text.endswith("\n"):
        text += newline
    gap = newline if text.strip() and not text.endswith(newline * 2) else ""
    return text + gap + newline.join(lines) + newline


def remove(text: str, key: Sequence[str]) -> str | None:
    """The text without a table, from its header to its last value; None where it has no header of its own.

    Comments above and below it stay: whose they are, nobody can tell.
    """
    table = find(text, key)
    if table is None:
        return None
    before, rest = text[: table.start], text[table.end :]
    if not before or before.endswith(("\n\n", "\n\r\n")):  # not two empty lines where there was one
        rest = rest.removeprefix("\r\n").removeprefix("\n")
    return before + rest


def find(text: str, key: Sequence[str]) -> Table | None:
    """The one table with a header of that key."""
    found = [table for table in tables(text) if table.key == tuple(key)]
    return found[0] if len(found) == 1 else None


def tables(text: str) -> Iterator[Table]:
    """All tables with headers, in their order; the first is what is before any header. text: valid TOML."""
    current = Table((), 0, 0, [])
    at = 0
    while (at := _skip_blank(text, at)) < len(text):
        if text[at] == "[":
            yield current
            end = _end_of_line(text, _scan(text, at, "\n#"))
            header = text[at:end]
            # An array of tables has no key that anybody looks for here.
            parsed = () if header.startswith("[[") else _key_of(tomllib.loads(header))
            current = Table(parsed, at, end, [])
        else:
            equals = _scan(text, at, "=")
            value_start = _skip_spaces(text, equals + 1)
            stop = _scan(text, value_start, "\n#")
            value_end = value_start + len(text[value_start:stop].rstrip())
            end = _end_of_line(text, stop)
            key = _key_of(tomllib.loads(text[at:equals] + "= 0"))
            current.pairs.append(Pair(key, at, value_start, value_end, end))
            current.end = end
        at = end
    yield current


def _scan(text: str, at: int, stops: str) -> int:
    """Where the next of these letters stands that is in no string and in no brackets; or the end."""
    depth = 0
    while at < len(text):
        letter = text[at]
        if letter in stops and depth == 0:
            return at
        if letter in "\"'":
            at = _behind_string(text, at)
            continue
        if letter == "#":
            at = _end_of_line(text, at)
            continue
        depth += (letter in OPENING) - (letter in CLOSING)
        at += 1
    return at


def _behind_string(text: str, at: int) -> int:
    """Where a string ends that begins here, of any of the four kinds."""
    quote = text[at]
    if text.startswith(quote * 3, at):
        closing, at = quote * 3, at + 3
    else:
        closing, at = quote, at + 1
    while at < len(text):
        if quote == '"' and text[at] == "\\":
            at += 2
        elif text.startswith(closing, at):
            at += len(closing)
            while len(closing) == 3 and text.startswith(quote, at):  # """" ends in a quote of its own
                at += 1
            return at
        else:
            at += 1
    return at


def _skip_blank(text: str, at: int) -> int:
    """Behind white space, empty lines and lines of comment."""
    while at < len(text):
        if text[at] == "#":
            at = _end_of_line(text, at)
        elif text[at] in " \t\r\n":
            at += 1
        else:
            break
    return at


def _skip_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _key_of(parsed: object) -> tuple[str, ...]:
    """The path to the only leaf of a parsed header or pair."""
    key = []
    while isinstance(parsed, dict) and parsed:
        (name,) = parsed
        key.append(name)
        parsed = parsed[name]
    return tuple(key)


def encode_key(name: str) -> str:
    """A key, in quotes where it needs them."""
    is_bare = name.isascii() and name != "" and name.replace("-", "a").replace("_", "a").isalnum()
    return name if is_bare else encode(name)


def encode(value: Value, newline: str = "\n") -> str:
    """A value: a list with more than one element has a line for each."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON escapes what TOML wants escaped, but for one letter.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if len(value) < 2:
        return f"[{''.join(map(encode, value))}]"
    return f"[{newline}{''.join(f'    {encode(one)},{newline}' for one in value)}]"
