"""Finds the line of each key in a TOML file, which tomllib does not tell.

What may not enter: which keys there are. Facts: the TOML specification 1.0.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Place = tuple[str, int, str]

_NAME = r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[\w-]+)\s*"""
_HEADER = re.compile(rf"\s*(\[\[?){_NAME}([.\]])")
_KEY = re.compile(rf"{_NAME}[=.]")
_PIECE = re.compile(r""""{3,5}|'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'|#.*|[\[\]{}]""")
_ENDS = {
    '"""': re.compile(r'(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'),
    "'''": re.compile(r"(?:[^']|'{1,2}(?!'))*'{3,5}"),
}


def places(text: str) -> dict[Place, int]:
    """The line of each key, by its table, the table's number and its name; "" is the name of a table itself.

    Keys above the first table belong to table "" with the number 0. Tables of one name are counted from 1.
    """
    found: dict[Place, int] = {}
    counts: dict[str, int] = {}
    table = ("", 0)
    for number, line in _statements(text):
        header = _HEADER.match(line)
        if header is not None:
            name = header[2].strip("\"'")
            if name not in counts or header[1] == "[[" and header[3] == "]":
                counts[name] = counts.get(name, 0) + 1
            table = (name, counts[name])
            found.setdefault((*table, ""), number)
        elif (key := _KEY.match(line)) is not None:
            found.setdefault((*table, key[1].strip("\"'")), number)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The lines that do not continue a value, each with its number."""
    depth, quotes = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        at = 0
        if not quotes and not depth:
            yield number, line
        while at < len(line):
            if quotes:
                end = _ENDS[quotes].match(line, at)
                if end is None:
                    break
                at, quotes = end.end(), ""
                continue
            piece = _PIECE.search(line, at)
            if piece is None:
                break
            at = piece.end()
            if piece[0][:3] in _ENDS:
                quotes, at = piece[0][:3], piece.start() + 3
            else:
                depth = max(0, depth + (piece[0] in "[{") - (piece[0] in "]}"))
