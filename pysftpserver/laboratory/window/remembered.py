"""The last server, for the next start: its address and who was connected, and never a password or a key.

What may not enter: tkinter, what is done with it. Facts: XDG Base Directory Specification, $XDG_STATE_HOME.
"""

from __future__ import annotations

import json
import os

from pysftpserver.host import wholefiles
from pysftpserver.laboratory import wire
from pysftpserver.laboratory.window.fields import HOST, NAME, PORT, fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = (HOST, PORT, NAME)
MOST_BYTES = 4096


def path(environ: Mapping[str, str]) -> str:
    """Where the file is."""
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the specification: then it is as if it were not set
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "pysftplab", "window.json")


def beginning(given: Mapping[str, str], last: Mapping[str, str], account: str) -> dict[str, str]:
    """What the fields begin with: what is given, else what was last, else what is usual.

    The port that was last is of that server only.
    """
    port = last.get(PORT) if given.get(HOST, last.get(HOST)) == last.get(HOST) else None
    return {**last, NAME: last.get(NAME, account), PORT: port or str(wire.DEFAULT_PORT), **given}


def load(file: str) -> dict[str, str]:
    """The values of fields, as far as the file is there and they do."""
    try:
        with open(file, "rb") as opened:
            found = json.loads(opened.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    texts = {field: str(found[field]) for field in KEPT if isinstance(found.get(field), str | int)}
    return {field: text for field, text in texts.items() if fault(field, text) is None}


def save(file: str, values: Mapping[str, str]) -> None:
    """Keep the values of those fields. Raises OSError."""
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    content = json.dumps({field: values[field] for field in KEPT}).encode() + b"\n"
    with wholefiles.open_temporary(file, content) as temporary:
        temporary.commit()
