"""PROPFIND, sent while the directory is read, and PROPPATCH.

What may not enter: concrete storages. Facts: RFC 4918, sections 9.1 and 9.2.
"""

from __future__ import annotations

from pysftpserver.http import ReplyBroken
from pysftpserver.http.files import FileProblem
from pysftpserver.web.dav_dead import NoRoom
from pysftpserver.web.dav_problems import DavRefusal
from pysftpserver.web.dav_properties import Finder, changes_of, empty, lock_text, propstat, wanted_of
from pysftpserver.web.dav_xml import HEAD, KIND, multistatus
from pysftpserver.web.wire import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.web.dav import Work
    from pysftpserver.web.dav_properties import Change
    from pysftpserver.web.files import Entry

PIECE = 65536  # characters that are sent at once


def propfind(work: Work) -> Reply:
    """PROPFIND of an entry, or of a directory and what is in it."""
    depth = work.depth(("0", "1", "infinity"), "infinity")
    entry = work.existing()
    if depth == "infinity":
        raise DavRefusal(403, "Ask for one directory at a time.", "<D:propfind-finite-depth/>")
    work.check_conditions(entry)
    wanted = wanted_of(work.xml())
    locks = (lambda one: locks_text(work, one)) if work.locks.has_any(work.scope) else None
    finder = Finder(wanted, locks, lambda one: work.tree.space(one.path), work.href)
    first = finder.response(entry, work.dead.of(work.user, work.path))
    if depth == "0" or not entry.is_directory:
        return Reply(multistatus(first), 207, kind=KIND)
    dead = work.dead.below(work.user, work.path)
    entries = work.tree.entries(work.path)
    some = next(entries, None)  # so that a problem with the directory shows before the reply begins
    return Reply(_pieces(finder, first, some, entries, dead), 207, kind=KIND)


def _pieces(
    finder: Finder,
    first: str,
    some: Entry | None,
    entries: Iterator[Entry],
    dead: dict[bytes, dict[str, str]],
) -> Iterator[bytes]:
    parts = [HEAD, '<D:multistatus xmlns:D="DAV:">', first]
    size = 0
    nothing: dict[str, str] = {}
    try:
        if some is not None:
            parts.append(finder.response(some, dead.get(some.path, nothing)))
        for entry in entries:
            text = finder.response(entry, dead.get(entry.path, nothing))
            parts.append(text)
            size += len(text)
            if size > PIECE:
                yield "".join(parts).encode()
                parts, size = [], 0
    except FileProblem as problem:
        raise ReplyBroken(str(problem)) from None
    parts.append("</D:multistatus>")
    yield "".join(parts).encode()


def locks_text(work: Work, entry: Entry) -> str:
    """The locks of an entry, for lockdiscovery."""
    found = work.locks.covering(work.scope, entry.path)
    return "".join(lock_text(lock, work.user, work.href(lock.path)) for lock in found)


def proppatch(work: Work) -> Reply:
    """PROPPATCH: all changes, or none."""
    entry = work.existing()
    changes = changes_of(work.xml())
    work.check_conditions(entry)
    work.check_locks(work.path)
    refused = {change.tag for change in changes if change.is_protected}
    if refused:
        protected = "<D:error><D:cannot-modify-protected-property/></D:error>"
        return _answer(work, entry, changes, refused, "403 Forbidden", protected)
    kept = [(one.tag, one.xml) for one in changes if one.mtime is None and not one.is_ignored]
    try:
        if kept:
            work.dead.change(work.user, work.path, kept)
    except NoRoom:
        full = {tag for tag, xml in kept if xml is not None}
        return _answer(work, entry, changes, full, "507 Insufficient Storage", "")
    for change in changes:
        if change.mtime is not None:
            try:
                work.tree.set_time(work.path, change.mtime)
            except FileProblem:
                return _answer(work, entry, changes, {change.tag}, "403 Forbidden", "")
    return _answer(work, entry, changes, set(), "", "")


def _answer(
    work: Work, entry: Entry, changes: list[Change], refused: set[str], status: str, more: str
) -> Reply:
    """The result for each property: if one is refused, the others are not changed either."""
    tags = dict.fromkeys(change.tag for change in changes)
    rest = "".join(empty(tag) for tag in tags if tag not in refused)
    text = f"<D:response><D:href>{work.href(entry.path, entry.is_directory)}</D:href>"
    if refused:
        text += propstat("".join(empty(tag) for tag in tags if tag in refused), status, more)
    if rest:
        text += propstat(rest, "424 Failed Dependency" if refused else "200 OK")
    return Reply(multistatus(text + "</D:response>"), 207, kind=KIND)
