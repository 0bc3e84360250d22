"""The style sheet, script and icons of pages: files of this package, kept in memory.

What may not enter: files of storages. Facts: RFC 8246 (immutable), RFC 9110.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from pysftpserver.web.wire import Refusal, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.web.wire import Request

KINDS = {
    "style.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "operators.css": "text/css; charset=utf-8",
    "operators.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "icons.svg": "image/svg+xml",
}
FOR_A_YEAR = "public, max-age=31536000, immutable"


@functools.cache
def content(name: str) -> bytes:
    """The content of a file, by its name."""
    return Path(__file__).with_name(name).read_bytes()


def text(name: str) -> str:
    """The content of a text file."""
    return content(name).decode()


@functools.cache
def mark(name: str) -> str:
    """A mark that changes with the content."""
    return hashlib.sha256(content(name)).hexdigest()[:16]


def address(name: str) -> str:
    """The URL of a file: browsers may cache it for good, because other content has another URL."""
    return f"/static/{name}?v={mark(name)}"


class Static:
    """The part of the door that serves these files."""

    needs_login = False
    is_for_programs = False

    def __init__(self) -> None:
        for name in KINDS:
            content(name)  # now: an upgrade may replace the files

    def answer(self, request: Request, rest: bytes) -> Reply:
        """A file."""
        name = rest[1:].decode("latin-1")
        if name not in KINDS:
            raise Refusal(404, "There is no such page.")
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, "Use GET.", [("Allow", "GET, HEAD")])
        entity = f'"{mark(name)}"'
        is_named = request.query().get("v") == mark(name)
        headers = [("ETag", entity), ("Cache-Control", FOR_A_YEAR if is_named else "no-cache")]
        if entity in request.header("If-None-Match"):
            return Reply(b"", 304, headers)
        return Reply(content(name), 200, headers, KINDS[name])
