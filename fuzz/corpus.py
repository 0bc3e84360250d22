"""Reads and writes the corpus: inputs in hexadecimal digits, separated by empty lines, with `#` comments.

It is text so that it can be reviewed. What may not enter: what inputs mean.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent / "corpus"
COLUMNS = 100


def entries(*directories: str) -> Iterator[tuple[str, bytes]]:
    """Yield (file and number, input) for all inputs in these directories of the corpus, if they exist."""
    for directory in directories:
        for path in sorted((HERE / directory).glob("*.txt")):
            for number, data in enumerate(from_text(path.read_text()), 1):
                yield f"{directory}/{path.name}, input {number}", data


def from_text(text: str) -> list[bytes]:
    """Return the inputs in a text. Raises ValueError for invalid hexadecimal digits."""
    inputs = []
    for block in text.split("\n\n"):
        digits = "".join(line for line in block.splitlines() if not line.startswith("#"))
        if digits:
            inputs.append(bytes.fromhex(digits))
    return inputs


def to_text(data: bytes, comment: str) -> str:
    """Return one input as text, with its comment above it."""
    lines = textwrap.wrap(comment, COLUMNS - 2)
    lines = [f"# {line}" for line in lines] + textwrap.wrap(data.hex(), COLUMNS)
    return "\n".join(lines) + "\n"
