"""What the window remembers: address and port of the last server, and the name. Never a password or a key.

What may not enter: tkinter, how these values are used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from pysftpserver.host import wholefiles
from pysftpserver.laboratory.config import DEFAULT_PORT
from pysftpserver.laboratory.window.fields import HOST, NAME, PORT, fault
from pysftpserver.service.terminal import state_directory

KEPT = (HOST, PORT, NAME)
MOST_BYTES = 4096


def path(environ: Mapping[str, str]) -> str:
    """The path of the file, which need not exist."""
    return os.path.join(state_directory("pysftplab", environ), "window.json")


def beginning(given: Mapping[str, str], last: Mapping[str, str], account: str) -> dict[str, str]:
    """The initial values of the fields: those given, else the last ones, else the defaults.

    The last port is used only with the last server.
    """
    port = last.get(PORT) if given.get(HOST, last.get(HOST)) == last.get(HOST) else None
    return {**last, NAME: last.get(NAME, account), PORT: port or str(DEFAULT_PORT), **given}


def load(file: str) -> dict[str, str]:
    """The valid values of fields in the file; none if it cannot be read."""
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
    """Save the values of those fields. Raises OSError."""
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    content = json.dumps({field: values[field] for field in KEPT}).encode() + b"\n"
    with wholefiles.open_temporary(file, content) as temporary:
        temporary.commit()
