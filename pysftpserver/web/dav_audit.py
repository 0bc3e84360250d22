"""What WebDAV's requests are in the audit log, in the words of SFTP.

What may not enter: what the requests do.
"""

from __future__ import annotations

import time

from pysftpserver.http.files import FileProblem
from pysftpserver.web.wire import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from pysftpserver.web.dav import Work
    from pysftpserver.web.wire import Reply

REQUESTS = {
    "GET": "open",
    "PUT": "put",
    "DELETE": "remove",
    "MKCOL": "mkdir",
    "COPY": "copy",
    "MOVE": "rename",
    "PROPFIND": "opendir",
}
RESULTS = {404: "NO_SUCH_FILE", 403: "PERMISSION_DENIED", 400: "BAD_MESSAGE"}  # others are FAILURE
MULTISTATUS = 207


def recorded(work: Work, method: Callable[[Work], Reply], opened: contextlib.ExitStack) -> Reply:
    """Carry a request out, and record it: one that sends a file when all is sent, at the end of `opened`."""
    name = REQUESTS.get(work.request.method)
    if name is None:
        return method(work)
    began = time.monotonic()
    details: dict[str, bytes] = {}
    if name in ("copy", "rename") and (destination := work.request.header("Destination")):
        try:
            details["target"] = work.path_of_url(destination)
        except Refusal:
            details["target"] = destination.encode("latin-1", "replace")

    def note(error: BaseException | None = None, size: int = 0) -> None:
        seconds = time.monotonic() - began
        work.session.note(name, work.path, size, error, seconds, **details)

    try:
        reply = method(work)
    except Refusal as refusal:
        note(FileProblem(refusal.words, RESULTS.get(refusal.status, "FAILURE")))
        raise
    except BaseException as error:
        note(error)
        raise
    if reply.status >= 400 or reply.status == MULTISTATUS and name != "opendir":
        note(FileProblem(f"status {reply.status}", RESULTS.get(reply.status, "FAILURE")), work.moved)
    elif name == "open" and not isinstance(reply.body, list):
        body = reply.body
        opened.callback(lambda: note(size=getattr(body, "moved", 0)))
    else:
        note(size=work.moved)
    return reply
