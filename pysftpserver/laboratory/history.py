"""What was typed at the terminal's prompt, kept for the next time, for its owner alone.

Passwords are not typed there. What may not enter: terminals, what the lines mean.
"""

from __future__ import annotations

import os

from pysftpserver.host import wholefiles
from pysftpserver.laboratory.window import remembered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_LINES = 1000
MOST_BYTES = 1 << 20


def path(environ: Mapping[str, str]) -> str:
    """Where the file is: beside what the window remembers."""
    return os.path.join(os.path.dirname(remembered.path(environ)), "history")


def load(file: str) -> list[str]:
    """The lines, oldest first, as far as the file is there and is one."""
    try:
        # O_NONBLOCK: a FIFO is no file, and nobody waits for it.
        with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as opened:
            raw = opened.read(MOST_BYTES)
    except OSError:
        return []
    lines = raw.decode("utf-8", "replace").split("\n")
    return [line for line in lines if line and line.isprintable()][-MOST_LINES:]


def add(file: str, lines: Sequence[str]) -> None:
    """Keep some more of them; others may have done so meanwhile. Raises OSError."""
    kept = [*load(file), *(line for line in lines if line and line.isprintable())][-MOST_LINES:]
    content = "".join(f"{line}\n" for line in kept).encode("utf-8", "replace")
    while len(content) > MOST_BYTES:
        content = content.partition(b"\n")[2]
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    with wholefiles.open_temporary(file, content) as temporary:
        temporary.commit()
