"""MKCOL, DELETE, COPY, MOVE, LOCK and UNLOCK of WebDAV.

What may not enter: concrete storages. Facts: RFC 4918, sections 9.3, 9.6 and 9.8 to 9.11.
"""

from __future__ import annotations

import contextlib
import errno
import re

from pysftpserver.http.files import FileProblem
from pysftpserver.web.dav_locks import LONGEST, MOST_OWNER, USUAL, Locked, parent_of
from pysftpserver.web.dav_problems import DavRefusal, refusal_of
from pysftpserver.web.dav_properties import lock_text
from pysftpserver.web.dav_xml import HEAD, KIND, BadXML, dav, multistatus, serialized
from pysftpserver.web.files import Entry
from pysftpserver.web.wire import Refusal, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from xml.etree import ElementTree

    from pysftpserver.web.dav import Work
    from pysftpserver.web.dav_locks import Lock

STEP = 16 << 20  # bytes copied at once inside a storage
DEEPEST = 100  # nested directories that are copied
_TIMEOUT = re.compile(r"Second-(\d{1,10})", re.IGNORECASE)


def make_collection(work: Work) -> Reply:
    """MKCOL."""
    environ = work.request.environ
    if environ.get("CONTENT_LENGTH", "0") not in ("", "0") or work.request.header("Transfer-Encoding"):
        raise Refusal(415, "MKCOL with a body means nothing here.")
    if (found := work.tree.find(work.path)) is not None:
        raise Refusal(405, "There is something of that name.")
    work.parent()
    work.check_conditions(found)
    work.check_locks(work.path, with_parent=True)
    work.tree.make_directory(work.path)
    work.dead.forget(work.user, work.path)
    return Reply(b"", 201)


def delete(work: Work) -> Reply:
    """DELETE, of a directory with all that is in it."""
    if work.path == b"/":
        raise Refusal(403, "The root stays.")
    entry = _entry(work)
    work.depth(("infinity",) if entry.is_directory else ("0", "infinity"), "infinity")
    work.check_conditions(entry)
    work.check_locks(work.path, with_parent=True, with_members=True)
    try:
        work.tree.remove(work.path)
    except FileProblem as problem:
        if problem.path == work.path:
            raise
        return _failed(work, problem)
    _forget(work, work.path)
    return Reply(b"", 204)


def _entry(work: Work) -> Entry:
    """The entry at the path, which may be a dangling link."""
    found = work.tree.find(work.path)
    if found is None and work.tree.link_at(work.path) is not None:
        found = Entry(work.path, False, False, 0, None)
    return found if found is not None else work.existing()


def _failed(work: Work, problem: FileProblem) -> Reply:
    """The reply to a failure below the path. Facts: RFC 4918, section 9.6.1."""
    work.failure = problem
    status = refusal_of(problem).status
    href = work.href(problem.path)
    phrase = {403: "Forbidden", 507: "Insufficient Storage"}.get(status, "Failed")
    return Reply(
        multistatus(
            f"<D:response><D:href>{href}</D:href><D:status>HTTP/1.1 {status} {phrase}</D:status></D:response>"
        ),
        207,
        kind=KIND,
    )


def _forget(work: Work, path: bytes) -> None:
    """Forget the locks and properties of a path that no longer exists."""
    work.locks.forget(work.scope, path)
    work.dead.forget(work.user, path)


# --- COPY and MOVE ----------------------------------------------------------------------------------------


class _Transfer:
    """One COPY or MOVE. Raises Refusal for an impossible one."""

    def __init__(self, work: Work, is_move: bool) -> None:
        self.work, self.is_move = work, is_move
        self.source = _entry(work) if is_move else work.existing()
        depths = ("0", "infinity") if not is_move or not self.source.is_directory else ("infinity",)
        self.is_deep = work.depth(depths, "infinity") == "infinity"
        destination = work.request.header("Destination")
        if not destination:
            raise Refusal(400, "There is no Destination header.")
        overwrite = work.request.header("Overwrite").strip().upper() or "T"
        if overwrite not in ("T", "F"):
            raise Refusal(400, "The Overwrite header is neither T nor F.")
        self.old, self.new = work.path, work.path_of_url(destination)
        work.other = self.new
        self._check_paths()
        self.replaced = work.tree.find(self.new)
        self.is_there = self.replaced is not None or work.tree.link_at(self.new) is not None
        work.check_conditions(self.source)
        if self.is_there and overwrite == "F":
            raise Refusal(412, "There is something of that name.")
        parent = work.tree.find(parent_of(self.new))
        if parent is None or not parent.is_directory:
            raise Refusal(409, "There is no directory for it.")
        if is_move:
            work.check_locks(self.old, with_parent=True, with_members=True)
        work.check_locks(self.new, with_parent=not self.is_there, with_members=True)

    def _check_paths(self) -> None:
        is_in_itself = self.new.startswith(self.old.rstrip(b"/") + b"/") and (self.is_deep or self.is_move)
        if self.old == self.new or is_in_itself and self.source.is_directory:
            raise Refusal(403, "It cannot go into itself.")
        if self.new == b"/" or self.old.startswith(self.new + b"/"):
            raise Refusal(403, "It cannot replace a directory that it is in.")
        if self.is_move and self.old == b"/":
            raise Refusal(403, "The root stays.")

    def run(self) -> Reply:
        """Do it. An entry that is replaced is removed when its successor is complete."""
        tree = self.work.tree
        aside = None
        is_file_for_file = self.source.is_file and self.replaced is not None and self.replaced.is_file
        if self.is_there and not is_file_for_file:
            aside = self._set_aside()
        try:
            failure = self._move() if self.is_move else self._copy()
        except BaseException:
            if aside is not None:
                with contextlib.suppress(FileProblem):  # remove the incomplete copy
                    if tree.find(self.new) is not None:
                        tree.remove(self.new)
                    tree.move(aside, self.new)
            raise
        if aside is not None:
            tree.remove(aside)
            self.work.locks.forget(self.work.scope, self.new)
        self._carry()
        if failure is not None:
            return _failed(self.work, failure)
        return Reply(b"", 204 if self.is_there else 201)

    def _set_aside(self) -> bytes | None:
        tree = self.work.tree
        try:
            return tree.set_aside(self.new)
        except FileProblem as problem:
            if problem.result != "OP_UNSUPPORTED":
                raise
        tree.remove(self.new)
        return None

    def _move(self) -> FileProblem | None:
        tree = self.work.tree
        try:
            tree.replace(self.old, self.new) if self.is_there else tree.move(self.old, self.new)
            return None
        except FileProblem as problem:
            # Between file systems or mounts, and in storages that cannot rename directories.
            is_failure = problem.result == "FAILURE" and not problem.errno
            if problem.errno != errno.EXDEV and problem.result != "OP_UNSUPPORTED" and not is_failure:
                raise
        failure = self._copy()
        if failure is None:
            tree.remove(self.old)
        return failure

    def _copy(self) -> FileProblem | None:
        """Copy the whole tree; return the first failure below the top."""
        tree = self.work.tree
        if not self.source.is_directory:
            tree.copy_file(self.old, self.new, STEP)
            return None
        tree.make_directory(self.new)
        todo = [(self.old, self.new, 0)] if self.is_deep else []
        failure = None
        while todo:
            old, new, depth = todo.pop()
            for entry in list(tree.entries(old)):
                below = new + b"/" + entry.name
                try:
                    if entry.is_link:
                        tree.make_link(below, tree.link_at(entry.path) or b"")
                    elif not entry.is_directory:
                        tree.copy_file(entry.path, below, STEP)
                    elif depth >= DEEPEST:
                        raise FileProblem("too many directories in one another")
                    else:
                        tree.make_directory(below)
                        todo.append((entry.path, below, depth + 1))
                except FileProblem as problem:
                    problem.path = below
                    failure = failure or problem
        return failure

    def _carry(self) -> None:
        """Let properties follow, but not locks."""
        work = self.work
        work.dead.forget(work.user, self.new)
        work.dead.copy(work.user, self.old, self.new)
        if self.is_move:
            _forget(work, self.old)


def copy(work: Work) -> Reply:
    """COPY, inside the storage if it can do that."""
    return _Transfer(work, False).run()


def move(work: Work) -> Reply:
    """MOVE."""
    return _Transfer(work, True).run()


# --- LOCK and UNLOCK --------------------------------------------------------------------------------------


def lock(work: Work) -> Reply:
    """LOCK: make a new lock, on a new empty file if nothing is there; or refresh one."""
    entry = work.tree.find(work.path)
    work.check_conditions(entry)
    seconds = _seconds(work.request.header("Timeout"))
    root = work.xml()
    if root is None:
        refreshed = work.locks.refresh(work.scope, work.user, work.path, work.conditions.tokens, seconds)
        if refreshed is None:
            raise Refusal(412, "The If header names no lock of yours here.")
        return _locked(work, refreshed, 200)
    is_exclusive, owner = _lockinfo(root)
    is_deep = work.depth(("0", "infinity"), "infinity") == "infinity"
    if entry is None:
        work.parent()
        work.check_locks(work.path, with_parent=True)
    elif entry.is_file or entry.is_directory:
        work.tree.check_writable(entry)  # a reader must not lock writers out
    try:
        made = work.locks.add(
            work.scope,
            work.user,
            work.path,
            is_deep and entry is not None and entry.is_directory,
            is_exclusive,
            owner,
            seconds,
        )
    except Locked as locked:
        href = work.href(locked.lock.path)
        condition = f"<D:no-conflicting-lock><D:href>{href}</D:href></D:no-conflicting-lock>"
        raise DavRefusal(423, "It is locked.", condition) from None
    if entry is None:
        try:
            target = work.target()
            try:
                target.finish()
            except BaseException:
                target.give_up()
                raise
        except BaseException:
            work.locks.remove(work.scope, work.user, work.path, made.token)
            raise
    reply = _locked(work, made, 201 if entry is None else 200)
    reply.headers.append(("Lock-Token", f"<{made.token}>"))
    return reply


def _locked(work: Work, found: Lock, status: int) -> Reply:
    text = lock_text(found, work.user, work.href(found.path))
    body = f'{HEAD}<D:prop xmlns:D="DAV:"><D:lockdiscovery>{text}</D:lockdiscovery></D:prop>'
    return Reply(body.encode(), status, kind=KIND)


def _lockinfo(root: ElementTree.Element) -> tuple[bool, str]:
    """Whether the lock is to be exclusive, and its owner. Raises BadXML."""
    scope, kind, owner = (root.find(dav(name)) for name in ("lockscope", "locktype", "owner"))
    if root.tag != dav("lockinfo") or scope is None or kind is None:
        raise BadXML("The body is not a lockinfo.")
    if kind.find(dav("write")) is None:
        raise BadXML("Only write locks are supported.")
    scopes = [name for name in ("exclusive", "shared") if scope.find(dav(name)) is not None]
    if len(scopes) != 1:
        raise BadXML("The lock is neither exclusive nor shared.")
    text = "" if owner is None else serialized(owner)
    return scopes[0] == "exclusive", text if len(text) <= MOST_OWNER else ""


def _seconds(header: str) -> float:
    """The first valid timeout in seconds, within the limits."""
    for word in header.split(","):
        if word.strip().lower() == "infinite":
            return LONGEST
        if (found := _TIMEOUT.fullmatch(word.strip())) is not None:
            return min(max(1.0, float(found[1])), LONGEST)
    return USUAL


def unlock(work: Work) -> Reply:
    """UNLOCK."""
    token = work.request.header("Lock-Token").strip()
    if not (token.startswith("<") and token.endswith(">")):
        raise Refusal(400, "There is no Lock-Token header.")
    work.check_conditions(work.existing())
    removed = work.locks.remove(work.scope, work.user, work.path, token[1:-1])
    if removed is None:
        raise DavRefusal(409, "It has no such lock.", "<D:lock-token-matches-request-uri/>")
    if not removed:
        raise Refusal(403, "The lock is another user's.")
    return Reply(b"", 204)
