"""Content over WebDAV: GET with ranges and conditions, and PUT, whole or not at all.

What may not enter: concrete storages. Facts: RFC 9110 (sections 9.3 and 14), RFC 4918 (sections 9.4 and 9.7),
RFC 6266, RFC 8187; X-OC-Mtime of ownCloud and Nextcloud; X-Expected-Entity-Length of macOS.
"""

from __future__ import annotations

from pysftpserver.http.sending import FileBody, buffer
from pysftpserver.web.dav_conditions import etag_of, http_date
from pysftpserver.web.dav_properties import type_of
from pysftpserver.web.downloads import ANYTHING, Streamed, disposition, range_of
from pysftpserver.web.files import entry_of
from pysftpserver.web.wire import TEXT, Refusal, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.http.files import Target
    from pysftpserver.web.dav import Work
    from pysftpserver.web.files import Entry
    from pysftpserver.web.wire import Headers, Request

RECEIVE = 131072  # bytes at once, if a storage keeps the buffer it is given
#: Whatever a file contains, a browser downloads it, and it could not run anything.
POLICY = "default-src 'none'; sandbox"
DIRECTORY = b"This is a directory: connect to it with a program for WebDAV.\n"


def get(work: Work) -> Reply:
    """GET and HEAD."""
    entry = work.existing()
    if entry.is_directory:
        work.check_conditions(entry)
        return Reply(DIRECTORY if work.request.method == "GET" else b"", kind=TEXT)
    source = work.tree.source(work.path)
    try:
        entry = entry_of(work.path, source.attributes())
        reply = _reply(work, entry, source.size)
        if reply.status not in (200, 206) or work.request.method == "HEAD":
            source.close()
        else:
            first, end = _wanted(work.request, entry, source.size) or (0, source.size)
            body = FileBody(work.request.environ, source, first, end)

            def close() -> None:
                work.moved = source.moved

            reply.body = Streamed(body, close)
        return reply
    except BaseException:
        source.close()
        raise


def _reply(work: Work, entry: Entry, size: int | None) -> Reply:
    """The status and the headers."""
    headers: Headers = [("Content-Security-Policy", POLICY), ("Accept-Ranges", "bytes")]
    headers.append(("Cache-Control", "private, no-cache"))
    if (tag := etag_of(entry)) is not None:
        headers.append(("ETag", tag))
    if entry.mtime is not None:
        headers.append(("Last-Modified", http_date(entry.mtime)))
    if work.check_conditions(entry):
        return Reply(b"", 304, headers)
    headers.append(("Content-Disposition", disposition(entry.name)))
    found = _wanted(work.request, entry, size)
    if found is None:
        return Reply([], 200, headers, _type(entry), size)
    first, end = found
    if first >= end:  # it cannot be satisfied
        return Reply(b"", 416, [("Content-Range", f"bytes */{size}")])
    headers.append(("Content-Range", f"bytes {first}-{end - 1}/{size}"))
    return Reply([], 206, headers, _type(entry), end - first)


def _type(entry: Entry) -> str:
    """The type of a file; never one that our own pages would accept as a script or a style sheet."""
    found = type_of(entry.name)
    return ANYTHING if found.endswith(("script", "/css")) else found


def _wanted(request: Request, entry: Entry, size: int | None) -> tuple[int, int] | None:
    """The first byte and the end that are asked for; None: all."""
    if size is None or request.method != "GET":
        return None
    tag = etag_of(entry) or ""
    found = {} if tag.startswith("W/") else {"ETag": tag}
    if entry.mtime is not None:
        found["Last-Modified"] = http_date(entry.mtime)
    return range_of(request, size, found)


def put(work: Work) -> Reply:
    """PUT: the file appears under its name, or replaces the old one, when all of it has arrived."""
    request = work.request
    if request.header("Content-Range"):
        raise Refusal(400, "A file is stored as a whole.")
    if work.path == b"/":
        raise Refusal(405, "This is a directory.")
    mtime = _mtime(request)

    def check() -> None:
        """Check again when all has arrived: another client may have stored or locked it meanwhile."""
        entry = work.tree.find(work.path)
        work.check_conditions(entry)
        work.check_locks(work.path, with_parent=entry is None)

    old = work.tree.find(work.path)
    if old is None:
        work.parent()
    elif not old.is_file:
        raise Refusal(405, "There is something else of that name.")
    work.check_conditions(old)
    work.check_locks(work.path, with_parent=old is None)
    target = work.target()
    try:
        _receive(request, target)
        if mtime is not None:
            target.set_time(mtime)
        target.finish(check)
        work.moved = target.moved
    except BaseException:
        target.give_up()
        raise
    if old is None:
        work.dead.forget(work.user, work.path)
    headers: Headers = []
    entry = work.tree.find(work.path)
    if entry is not None and (tag := etag_of(entry)) is not None:
        headers.append(("ETag", tag))
    if mtime is not None:
        headers.append(("X-OC-Mtime", "accepted"))
    return Reply(b"", 201 if old is None else 204, headers)


def _mtime(request: Request) -> int | None:
    said = request.header("X-OC-Mtime").partition(".")[0]
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 12 else None


def _receive(request: Request, target: Target) -> None:
    """Write all of the body. Raises Refusal if some of it is missing."""
    body = request.environ["wsgi.input"]
    if target.takes_views and hasattr(body, "readinto"):
        view = buffer()
        while count := body.readinto(view):  # looked up each time: a session that is over ends here
            target.write(view[:count])
    else:
        while piece := body.read(RECEIVE):
            target.write(piece)
    said = request.environ.get("CONTENT_LENGTH") or request.header("X-Expected-Entity-Length")
    if said and (not said.isdecimal() or int(said) != target.moved):
        raise Refusal(400, "The file has not come as a whole.")
