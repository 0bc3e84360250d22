"""Resolves paths, and applies the rules to where they lead.

Links are resolved here, step by step, and never by the storage: a path is taken literally, decided on, and
handed down with links refused. If there is a link, the storage reports it (ELOOP); it is resolved, and the
result is decided on and handed down in the same way. So it does not matter if a directory is swapped for a
link meanwhile: no call reaches a path that was not decided on. Storages that cannot refuse links are asked
for the real path first.

For a hidden path, the storage is asked for a non-existent name in the same place, under the rules for that
name: so errors and times are those of a missing path. What may not enter: which actions a request needs.
Facts: path_resolution(7), openat2(2).
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISLNK

from pysftpserver.abstractstorage import check_no_links
from pysftpserver.host.budget import Budget
from pysftpserver.pysftpexceptions import SFTPException, SFTPForbidden, SFTPNotFound, SFTPUnsupported
from pysftpserver.site.layer import Layer
from pysftpserver.site.rules import STAGING, Decision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.site.rules import Rules

MOST_LINKS = 40  # followed in one path, as in the kernel
PATH_MAX = 4096  # bytes, as in the kernel
ATTEMPTS = 16  # at a path that keeps changing
TAILS = {b"": b"/", b".": b"/."}
MAKES = frozenset(("mkdir", "symlink", "upload"))  # actions that create a new name


class ResolvingLayer(Layer):
    """A layer whose calls only reach paths that its rules have decided on.

    tell: called with each refused canonical path and the error; None: not called.
    """

    def __init__(
        self,
        below: SFTPAbstractServerStorage,
        rules: Rules,
        tell: Callable[[bytes, BaseException], object] | None = None,
    ) -> None:
        super().__init__(below)
        self._rules, self._tell = rules, tell
        refuse_links = getattr(below, "refuse_links", None)
        self._refuses_links = refuse_links is not None
        if refuse_links is not None:
            refuse_links()
        self._follows_links = True
        self._no_name = os.urandom(16).hex().encode()  # a name that does not exist; clients never see it
        self._staged: set[bytes] = set()  # files that this session itself receives under temporary names

    def refuse_links(self) -> None:
        """From now on, fail for paths that contain links, as the storage below does."""
        self._follows_links = False

    def _places(self, path: bytes, follow: bool) -> Iterator[tuple[bytes, bytes]]:
        """Yield (canonical path, its trailing slash) until one has not changed when it is used."""
        where, tail = self._as_written(path)
        if where is not None:
            if self._refuses_links:
                yield where, tail
            else:
                place, _ = self._found(where)
                try:
                    check_no_links(self.below, place, follow or tail != b"")
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise
                else:
                    yield where, tail
        for where in self._resolutions(path, follow or tail != b""):
            yield where, tail if where != b"/" else b""

    def _as_written(self, path: bytes) -> tuple[bytes | None, bytes]:
        """The canonical form of a path without links, or None if it contains `..`; and its trailing slash."""
        if not path:
            raise SFTPNotFound
        if len(path) >= PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if is_plain(path):
            return path, b""
        parts = path.split(b"/")
        where = b"/" + b"/".join([part for part in parts if part not in (b"", b".")])
        tail = TAILS.get(parts[-1], b"")
        if b".." in parts:
            return None, tail
        return where, tail if where != b"/" else b""

    def _resolutions(self, path: bytes, follow: bool) -> Iterator[bytes]:
        """Yield where a path leads, resolved again each time. Raises OSError(ELOOP) if it keeps changing."""
        for _ in range(ATTEMPTS if self._follows_links else 0):
            try:
                yield self._resolved(path, follow)
            except OSError as error:
                if error.errno != errno.ELOOP or isinstance(error, TooManyLinks):
                    raise
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _resolved(self, path: bytes, follow: bool) -> bytes:
        """Where a path leads. Its last name may not exist; hidden names count as missing.

        follow: whether a link at its end is followed. Raises OSError and the storage's exceptions.
        """
        names: list[bytes] = []
        todo = path.split(b"/")[::-1]
        links = 0
        budget = Budget()
        while todo:
            budget.take()
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del names[-1:]
                continue
            names.append(name)
            is_last = not any(part not in (b"", b".") for part in todo)
            if is_last and not follow:
                break
            where = b"/" + b"/".join(names)
            if self._rules.has_hidden and self._rules.decide(where).is_hidden:
                missing = self._missing(where)
                if is_last:
                    break
                raise missing
            mode = self._mode(where)
            if mode is None:
                if is_last:
                    break
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if S_ISLNK(mode):
                links += 1
                if links > MOST_LINKS:
                    raise TooManyLinks(errno.ELOOP, os.strerror(errno.ELOOP))
                target = self._target(where)
                names = [] if target.startswith(b"/") else names[:-1]
                todo += target.split(b"/")[::-1]
            elif mode and not is_last and not S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return b"/" + b"/".join(names)

    def _target(self, where: bytes) -> bytes:
        """The text of a link. Raises OSError(ELOOP), which leads to another try, if it no longer is one."""
        try:
            return self.below.readlink(where)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None

    def _mode(self, where: bytes) -> int | None:
        """The file type at a path; None if nothing is there, 0 if the storage does not say."""
        try:
            return self.below.lstat(where).permissions or 0
        except (FileNotFoundError, SFTPNotFound):
            return None
        except SFTPUnsupported:
            return 0

    def _missing(self, where: bytes) -> Exception:
        """The storage's error for a non-existent name in place of a hidden one."""
        path, _ = self._stand_in(where, self._rules.decide(where))
        try:
            self.below.lstat(path)
        except (OSError, SFTPException) as error:
            if not isinstance(error, SFTPUnsupported) and getattr(error, "errno", 0) != errno.ELOOP:
                return error
        return SFTPNotFound()

    def _stand_in(self, where: bytes, decision: Decision) -> tuple[bytes, Decision]:
        """A non-existent path in place of a hidden one, and what may be done to it."""
        found = decision.stand_in
        if found is None:
            hidden = where
            while (parent := hidden.rpartition(b"/")[0]) and self._rules.decide(parent).is_hidden:
                hidden = parent
            path = parent + b"/" + self._no_name + where[len(hidden) :]
            of_it = self._rules.decide(path)
            found = decision.stand_in = path, Decision(None) if of_it.is_hidden else of_it  # all are hidden
        return found

    def _found(self, where: bytes, actions: tuple[str, ...] = ()) -> tuple[bytes, Decision]:
        """The path to use for a path, and what may be done to it. For a hidden path, that is a non-existent
        one.

        actions: if they are allowed and would create the non-existent one, the storage's error for a missing
        path is raised.
        """
        decision = self._rules.decide(where)
        if not decision.is_hidden:
            return where, decision
        if decision.rule is STAGING and where in self._staged:
            return where, self._rules.of_staged(where)
        path, of_it = self._stand_in(where, decision)
        if not MAKES.isdisjoint(actions) and of_it.allowed.issuperset(actions):
            raise self._missing(where)
        return path, of_it

    def _do(
        self, path: bytes, follow: bool, actions: tuple[str, ...], act: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Call a method that takes a path, if all these actions are allowed where the path leads."""
        if self._refuses_links and is_plain(path):  # as nearly all are; what follows would do the same
            decision, place = self._rules.decide(path), path
            if decision.is_hidden:
                place, decision = self._found(path, actions)
            for action in actions:
                if action not in decision.allowed:
                    raise self._refused(path, action)
            try:
                return act(place, *arguments)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        for where, tail in self._places(path, follow):
            place, decision = self._found(where, actions)
            for action in actions:
                if action not in decision.allowed:
                    raise self._refused(where, action)
            try:
                return act(place + tail, *arguments)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        raise AssertionError  # _places() has raised

    def _do_entry(self, path: bytes, action: str, act: Callable[..., Any], *arguments: Any) -> Any:
        """The same for a call on a directory entry, whose last name is not `..`."""
        if path.rstrip(b"/").rpartition(b"/")[2] == b"..":
            self.stat(path)  # a missing path takes precedence
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return self._do(path, False, (action,), act, *arguments)

    def _refused(self, where: bytes, action: str) -> SFTPForbidden:
        """The answer to what a rule does not allow."""
        return self._told(where, refused(action))

    def _told(self, where: bytes, error: SFTPForbidden) -> SFTPForbidden:
        """The same error, when receivers of events have been told."""
        if self._tell is not None:
            self._tell(where, error)
        return error

    def realpath(self, path: bytes) -> bytes:
        where, _ = self._as_written(path or b"/")
        if where is not None:
            # Without a link on the way, that is the answer, also for what is hidden.
            place, _ = self._found(where)
            try:
                if self.below.realpath(place) == place:
                    return where
            except (OSError, SFTPException):
                pass  # the steps will say what is wrong
        return next(self._resolutions(path, True))


class TooManyLinks(OSError):
    """A path leads through more links than the kernel follows."""


def is_plain(path: bytes) -> bool:
    """Whether a path without links in it is surely canonical. Also False for some canonical ones."""
    return path[:1] == b"/" != path[-1:] and b"/." not in path and b"//" not in path and len(path) < PATH_MAX


def refused(action: str) -> SFTPForbidden:
    """The answer to what a rule does not allow."""
    return SFTPForbidden(f"Not allowed here: {action}")
