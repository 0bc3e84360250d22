"""Deletes that can be undone for ten seconds: entries vanish from pages at once, and are removed later.

Nothing is renamed and nothing is written down: other doors see the entries until they are removed, and a
server that dies within the ten seconds has removed nothing. A server that is stopped in order removes them
first. What may not enter: HTML, HTTP, concrete storages. Times are seconds of time.monotonic().
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from stat import S_IFMT, S_ISDIR

from pysftpserver.failures import BadInput, reason_of
from pysftpserver.http.files import FileProblem
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.web.files import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.people.users import User
    from pysftpserver.web.session import Session

    OnRemoved = Callable[["Session", bytes, FileProblem | None], None]

log = logging.getLogger("pysftpserver.web")
SECONDS = 10.0
PATIENCE = 60.0  # seconds to wait for deletes that are being carried out
MOST_OF_USER = 100  # waiting deletes; another one carries out the first


class Deletion:
    """Entries that one person has deleted together. paths: each with marks that show whether it changed."""

    def __init__(self, session: Session, paths: dict[bytes, Any]) -> None:
        self.id = secrets.token_urlsafe(12)
        self.session = session
        self.paths = paths
        self.due = time.monotonic() + SECONDS
        self.is_over = threading.Event()

    @property
    def seconds_left(self) -> float:
        """Seconds until it can no longer be undone."""
        return max(0.0, self.due - time.monotonic())


class Deletions:
    """All deletes that can still be undone. on_removed: called for each entry, with the problem, if any.

    is_current: whether a user is unchanged since the login; otherwise the user's deletes are not carried out.
    """

    def __init__(self, on_removed: OnRemoved, is_current: Callable[[User], bool] = lambda user: True) -> None:
        self._on_removed = on_removed
        self._is_current = is_current
        self._waiting: dict[str, Deletion] = {}
        self._running: dict[str, Deletion] = {}  # by the user's name: one at a time, in a thread
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def add(self, session: Session, tree: Tree, paths: Iterable[bytes]) -> Deletion:
        """Delete entries, unless that is undone. Raises FileProblem if one of them is not there."""
        found = {}
        for path in paths:
            attrs = tree.look(path)
            if attrs is None or self.hides(session, path):
                raise FileProblem("no such file or directory", "NO_SUCH_FILE")
            found[path] = marks_of(attrs)
        deletion = Deletion(session, found)
        with self._changed:
            mine = [other for other in self._waiting.values() if other.session.name == session.name]
            for other in mine[: max(0, len(mine) + 1 - MOST_OF_USER)]:
                other.due = 0.0
            self._waiting[deletion.id] = deletion
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._sweep, name="deletions", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return deletion

    def undo(self, session: Session, ident: str) -> Deletion | None:
        """Keep the entries of a deletion; None: it is too late."""
        with self._changed:
            deletion = self._waiting.get(ident)
            if deletion is None or deletion.session.name != session.name:
                return None
            del self._waiting[ident]
            deletion.is_over.set()
            return deletion

    def of(self, session: Session) -> list[Deletion]:
        """A person's deletions that can still be undone."""
        return [one for one in list(self._waiting.values()) if one.session.name == session.name]

    def hides(self, session: Session, path: bytes) -> bool:
        """Whether a person has deleted the entry at a path, or a directory that it is in."""
        pending = self._of(session.name)
        return any(is_within(path, gone) for one in pending for gone in one.paths)

    def settle(self, session: Session, path: bytes) -> None:
        """Remove now what a person has deleted at, below or above a path: something else goes there."""
        for one in self._of(session.name):
            if any(is_within(path, gone) or is_within(gone, path) for gone in one.paths):
                with self._changed:
                    one.due = 0.0
                    self._changed.notify_all()
                if not one.is_over.wait(PATIENCE):
                    raise FileProblem("what was deleted there is still being removed; try again later")

    def close(self) -> None:
        """Remove everything that was deleted. Entries that take too long are kept, as if not deleted."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._waiting and not self._running, PATIENCE):
                log.error("%d deletes were not carried out", len(self._waiting) + len(self._running))

    def _of(self, name: str) -> list[Deletion]:
        with self._changed:
            return [
                one for one in (*self._waiting.values(), *self._running.values()) if one.session.name == name
            ]

    def _sweep(self) -> None:
        with self._changed:
            while self._waiting or not self._is_closed:
                left = None
                for one in list(self._waiting.values()):
                    if one.session.name in self._running:
                        continue  # its end wakes this thread
                    seconds = 0.0 if self._is_closed else one.seconds_left
                    if seconds:
                        left = seconds if left is None else min(left, seconds)
                    else:
                        del self._waiting[one.id]
                        self._running[one.session.name] = one
                        threading.Thread(target=self._run, args=(one,), name="delete", daemon=True).start()
                self._changed.wait(left)

    def _run(self, deletion: Deletion) -> None:
        """Carry it out, in a thread: a storage that hangs holds no other user up."""
        try:
            self._carry_out(deletion)
        except Exception:
            log.exception("a delete of %s", deletion.session.name)
        finally:
            with self._changed:
                del self._running[deletion.session.name]
                self._changed.notify_all()
            deletion.is_over.set()

    def _carry_out(self, deletion: Deletion) -> None:
        session = deletion.session
        if not self._is_current(session.user):
            kept = FileProblem("the user was removed or changed meanwhile", "PERMISSION_DENIED")
            for path in deletion.paths:
                self._on_removed(session, path, kept)
            return
        try:
            with session.storage() as storage:
                for path, marks in deletion.paths.items():
                    self._on_removed(session, path, _remove(Tree(storage), path, marks))
        except (OSError, SFTPException, BadInput, FileProblem) as error:
            log.error("%s: what was deleted cannot be reached: %s", session.name, reason_of(error))
            self._on_removed(session, next(iter(deletion.paths)), FileProblem(reason_of(error)))


def _remove(tree: Tree, path: bytes, marks: Any) -> FileProblem | None:
    """Remove a deleted entry; return the problem, if any."""
    try:
        attrs = tree.look(path)
        if attrs is None:
            return None
        if marks_of(attrs) != marks:
            return FileProblem("it has changed since, and was kept", "FAILURE")
        tree.remove(path)
    except FileProblem as error:
        return error
    return None


def marks_of(attrs: SFTPAttributes) -> tuple[Any, ...]:
    """Values that differ if another entry has the name, or something was put into a directory."""
    mode = attrs.permissions or 0
    return S_IFMT(mode), attrs.identity, attrs.mtime, None if S_ISDIR(mode) else attrs.size


def is_within(path: bytes, directory: bytes) -> bool:
    """Whether a path is that directory or below it."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")
