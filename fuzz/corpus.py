"""The corpus as text: inputs as lines of hexadecimal digits, parted by empty lines, with `#` comments.

Text, because what a repository holds should be read and reviewed. What may not enter: what inputs mean.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent / "corpus"
COLUMNS = 100


def entries(*directories: str) -> Iterator[tuple[str, bytes]]:
    """(file and number, input) of each input in these directories of the corpus; a missing one is empty."""
    for directory in directories:
        for path in sorted((HERE / directory).glob("*.txt")):
            for number, data in enumerate(from_text(path.read_text()), 1):
                yield f"{directory}/{path.name}, input {number}", data


def from_text(text: str) -> list[bytes]:
    """The inputs in a text. Raises ValueError for what is no hexadecimal digit."""
    inputs = []
    for block in text.split("\n\n"):
        digits = "".join(line for line in block.splitlines() if not line.startswith("#"))
        if digits:
            inputs.append(bytes.fromhex(digits))
    return inputs


def to_text(data: bytes, comment: str) -> str:
    """One input as text, with its comment above it."""
    lines = textwrap.wrap(comment, COLUMNS - 2)
    lines = [f"# {line}" for line in lines] + textwrap.wrap(data.hex(), COLUMNS)
    return "\n".join(lines) + "\n"
