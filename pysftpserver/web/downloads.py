"""Files as replies: whole or a range of bytes and, if the client asks for that, only if they have changed.

A file is sent as an attachment or, for a preview, with a type from a fixed list and a policy under which it
cannot run anything: whatever is in a file, it is never one of our pages. What may not enter: pages, concrete
storages. Facts: RFC 9110 (sections 8.8, 13, 14), RFC 6266, RFC 8187; Content Security Policy Level 3
(sandbox).
"""

from __future__ import annotations

import email.utils
import re
import time
import urllib.parse

from pysftpserver.http.sending import FileBody
from pysftpserver.web.files import SETTLED
from pysftpserver.web.wire import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pysftpserver.web.files import Entry, Tree
    from pysftpserver.web.wire import Headers, Request

PIECE = 262144  # bytes that are read at once
ANYTHING = "application/octet-stream"
#: Nothing runs, and only styles and media that the browser's own viewers need are loaded.
SANDBOX = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'; sandbox"
)
_RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[ \t]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9 ._()+=@,-]")


class Streamed:
    """The body of a reply, and what has to be closed after it."""

    def __init__(self, pieces: Iterable[bytes], close: Callable[[], object]) -> None:
        self._pieces, self._close = pieces, close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        """Close it."""
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            self._close()


def disposition(name: bytes, kind: str = "attachment") -> str:
    """The value of Content-Disposition for a name. Unprintable characters are left out."""
    text = "".join(letter if letter.isprintable() else "_" for letter in name.decode("utf-8", "replace"))
    text = text.replace("/", "_").replace("\\", "_") or "file"
    plain_text = _UNSAFE.sub("_", text)
    value = f'{kind}; filename="{plain_text}"'
    if plain_text == text:
        return value
    return value + f"; filename*=UTF-8''{urllib.parse.quote(text, safe='')}"


def validators(entry: Entry) -> dict[str, str]:
    """ETag and Last-Modified of a file; none while a change might leave its time and size the same."""
    if entry.mtime is None or not 0 <= entry.mtime <= time.time() - SETTLED:
        return {}
    identity = "".join(f"-{number:x}" for number in entry.identity or ())
    modified = email.utils.formatdate(entry.mtime, usegmt=True)
    return {"ETag": f'"{entry.mtime:x}-{entry.size:x}{identity}"', "Last-Modified": modified}


def is_known(request: Request, found: dict[str, str]) -> bool:
    """Whether the browser already has what it asks for (RFC 9110, 13.2.2)."""
    wanted = request.header("If-None-Match")
    if wanted:
        tags = [tag.strip().removeprefix("W/") for tag in wanted.split(",")]
        return "*" in tags or found.get("ETag") in tags
    return _is_not_since(request.header("If-Modified-Since"), found)


def _is_not_since(wanted: str, found: dict[str, str]) -> bool:
    if not wanted or "Last-Modified" not in found:
        return False
    try:
        then = email.utils.parsedate_to_datetime(wanted)
        return email.utils.parsedate_to_datetime(found["Last-Modified"]) <= then
    except (ValueError, TypeError, OverflowError):
        return False


def is_other(request: Request, found: dict[str, str]) -> bool:
    """Whether the file is not the one that a condition names."""
    wanted = request.header("If-Match")
    if wanted:
        return wanted.strip() != "*" and found.get("ETag") not in [tag.strip() for tag in wanted.split(",")]
    since = request.header("If-Unmodified-Since")
    return bool(since) and not _is_not_since(since, found)


def range_of(request: Request, size: int, found: dict[str, str]) -> tuple[int, int] | None:
    """The requested (first, end), at most the size; None: the whole file, also if several ranges are
    requested.

    If first is not below the size, the range cannot be satisfied.
    """
    said = _RANGE.fullmatch(request.header("Range"))
    condition = request.header("If-Range")
    if said is None or condition and condition not in (found.get("ETag"), found.get("Last-Modified")):
        return None
    first, last, suffix = said.groups()
    if suffix:
        return (max(0, size - int(suffix)) if int(suffix) else size), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def download(
    request: Request, tree: Tree, entry: Entry, finished: Callable[[int], object] = lambda size: None
) -> Reply:
    """A file as an attachment. finished: as for sent(). Raises FileProblem."""
    return sent(request, tree, entry, ANYTHING, disposition(entry.name), finished)


def sent(
    request: Request, tree: Tree, entry: Entry, kind: str, how: str, finished: Callable[[int], object]
) -> Reply:
    """A file as a reply. kind: its type. how: Content-Disposition. finished: called once after content was
    read, with the number of bytes. Raises FileProblem.
    """
    found = validators(entry)
    headers: Headers = [
        *found.items(),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "private, no-cache"),
        ("Content-Security-Policy", SANDBOX),
        ("Cross-Origin-Opener-Policy", "unsafe-none"),  # a page in a sandbox cannot have another one
    ]
    if is_other(request, found):
        return Reply(b"The file has changed.\n", 412, headers)
    if is_known(request, found):
        return Reply(b"", 304, headers)
    headers.append(("Content-Disposition", how))
    source = tree.source(entry.path)
    size = source.size

    def close() -> None:  # after the body, which closes the file
        finished(source.moved)

    if size is None:
        return Reply(Streamed(FileBody(request.environ, source, 0, None), close), 200, headers, kind)
    wanted = range_of(request, size, found) if request.method == "GET" else None
    first, end = wanted or (0, size)
    status = 206 if wanted else 200
    if wanted:
        if first >= size:
            source.close()
            return Reply(b"", 416, [*headers, ("Content-Range", f"bytes */{size}")])
        headers.append(("Content-Range", f"bytes {first}-{end - 1}/{size}"))
    if request.method == "HEAD":
        source.close()
        return Reply([], status, headers, kind, end - first)
    body = Streamed(FileBody(request.environ, source, first, end), close)
    return Reply(body, status, headers, kind, end - first)
