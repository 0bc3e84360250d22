"""Messages: those that docs/troubles.md explains, and the texts in the code from which they come.

A message in the page has `...` where the code inserts something. What may not enter: which messages there
are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FILLED = "\0"  # stands for what the code inserts
ELLIPSIS = "..."
OF_OTHERS = "<!-- words of other programs -->\n"
LEAST = 8  # letters of a text that suffice to recognise a message


class Said:
    """The literals in the files below a directory, with FILLED where something is inserted."""

    def __init__(self, root: Path) -> None:
        self._files = [_joined(path.read_text()) for path in sorted(root.rglob("*.py"))]
        self._literals = {text for file in self._files for text in re.findall(r'"([^"\n]*\0[^"\n]*)"', file)}

    def has(self, message: str) -> bool:
        """Whether the code has a message: all its words in one file, or a text that gives it if filled in."""
        parts = [part.strip(" ;:,`") for part in message.split(ELLIPSIS)]
        if any(len(part) >= LEAST for part in parts) and any(
            all(part in file for part in parts) for file in self._files
        ):
            return True
        return any(_makes(text, message) for text in self._literals)


def messages(page: str) -> Iterator[str]:
    """The messages of this project's programs: code in the first column of the page's tables of messages."""
    page = re.sub(re.escape(OF_OTHERS) + r"(?:\|.*\n)+", "", page)
    for table in re.findall(r"^\| message \|.*\n\|[- |]+\n((?:\|.*\n)+)", page, re.MULTILINE):
        for row in table.splitlines():
            yield from (found[1] for found in re.findall(r"(`+)(.+?)\1", row.split(" | ")[0]))


def _joined(source: str) -> str:
    """A file in which a literal of several pieces is one, without the expressions in it."""
    return re.sub(
        r"\{[^{}\"]*(?:\"[^\"]*\")?[^{}\"]*\}", FILLED, re.sub(r"\"\s*\n\s*(?:\w+ \+= )?f?\"", "", source)
    )


def _makes(text: str, message: str) -> bool:
    """Whether a text, filled in, is the message."""
    fixed = text.split(FILLED)
    if sum(map(len, fixed)) < max(LEAST, len(message) // 2):
        return False
    return re.fullmatch(".+".join(map(re.escape, fixed)), message) is not None
