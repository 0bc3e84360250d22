"""The audit log: one JSON object a line for each login, file and command.

What may not enter: keys, tokens, what files and commands say. Through Python's logging, under its own
name, so that a configuration can send it elsewhere.
"""

from __future__ import annotations

import json
import logging
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.remo.sessions import Session

LOGGER = "pysftpserver.remo.audit"
_log = logging.getLogger(LOGGER)


def record(
    event: str,
    result: str,
    address: str,
    session: Session | None = None,
    user: str | None = None,
    **details: object,
) -> None:
    """One line. event: "login", "get", "cmd", ... result: "OK", or why not. user: where there is no session.

    details: what it was about; bytes are text as far as they can be.
    """
    moment = time.time()
    said: dict[str, object] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z",
        "session": session.label if session is not None else None,
        "address": address,
        "user": session.user.name if session is not None else user,
        "event": event,
        "result": result,
    }
    for name, value in details.items():
        said[name] = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    # json escapes whatever is not printable ASCII.
    _log.info("%s", json.dumps(said, separators=(",", ":")))
