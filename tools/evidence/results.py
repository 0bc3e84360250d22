"""The results of a section, kept between runs; and texts without traces of this machine.

What may not enter: what sections do, what the page looks like.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPORARY = re.compile(
    rf"({re.escape(tempfile.gettempdir())}|/tmp|/var/tmp|/dev/shm|/root|/home)/[^\s'\"`,;:)]*"
)


@dataclass
class Result:
    """name: the section's. command: what to type for the whole of it. ran: what it ran, with counts. rows: a
    table's, the first of which is its heading. failures: one line each; empty if it passed. load: the
    machine's when it began.
    """

    name: str
    command: str
    ran: str
    rows: list[list[str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    date: str = ""
    commit: str = ""
    load: str = ""

    @property
    def is_good(self) -> bool:
        return not self.failures


def keep(result: Result, place: Path) -> None:
    """Keep a result until the section runs again. It contains neither the machine's name nor its paths."""
    place.mkdir(parents=True, exist_ok=True)
    values = asdict(result)
    values["rows"] = [[neutral(cell) for cell in row] for row in result.rows]
    values["failures"] = [neutral(line) for line in result.failures]
    values["ran"] = neutral(result.ran)
    (place / f"{result.name}.json").write_text(json.dumps(values, indent=1) + "\n")


def kept(name: str, place: Path) -> Result | None:
    """The last result of a section, or None."""
    path = place / f"{name}.json"
    return Result(**json.loads(path.read_text())) if path.exists() else None


def neutral(text: str) -> str:
    """A text without paths of this machine, its name, and the name of this user."""
    text = text.replace(f"{ROOT}/", "").replace(str(ROOT), "the checkout")
    text = TEMPORARY.sub("...", text)
    host = socket.gethostname()
    if len(host) > 2 and host != "localhost":
        text = re.sub(rf"\b{re.escape(host)}\b", "the host", text)
    user = getpass.getuser()
    return text if user == "root" else re.sub(rf"\b{re.escape(user)}\b", "somebody", text)
