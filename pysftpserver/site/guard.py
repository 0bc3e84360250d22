"""The layer of rules: decides on what a path really is, then works on exactly that.

Links are resolved here, step by step, and never by the storage: a path is taken for what it says, decided on,
and handed down with links refused. Where there is a link, the storage says so (ELOOP); it is resolved, and
the result is decided on and handed down in the same way. So it does not matter when somebody swaps a
directory for a link: no call reaches what was not decided on. Storages that cannot refuse links are asked for
the real path first.

A hidden path is answered by the storage itself, which is asked for a name that is not there in the same
place, by the rules for that: so errors and times are those of what is missing. Nothing is ever made under
such a name. Layers below get canonical paths. What may not enter: what a rule says, which requests there are.
Facts: path_resolution(7), openat2(2).
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISLNK

from pysftpserver.abstractstorage import check_no_links, known_checksum
from pysftpserver.host.budget import Budget
from pysftpserver.pysftpexceptions import (
    SSH2_FX_FAILURE,
    SFTPException,
    SFTPForbidden,
    SFTPNotFound,
    SFTPUnsupported,
    status_of,
)
from pysftpserver.site.layer import Layer
from pysftpserver.site.patterns import text_of
from pysftpserver.site.rules import ALL, OF_FILES, STAGING, Decision
from pysftpserver.uploads import temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage, StatVFS
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.rules import NameRules, Rules

    Entry = tuple[bytes, SFTPAttributes]

MOST_LINKS = 40  # followed in one path, as in the kernel
PATH_MAX = 4096  # bytes, as in the kernel
MOST_STAGED = 1000  # names at once: memory
ATTEMPTS = 16  # to hit a path that keeps changing
WRITES = os.O_WRONLY | os.O_RDWR
TAILS = {b"": b"/", b".": b"/."}
MAKES = frozenset(("mkdir", "symlink", "upload"))  # actions after which there is a new name


class Opened:
    """What is known of a handle. path: canonical. allows: what may be done through it besides READ and
    WRITE."""

    __slots__ = ("allows", "handle", "path")

    def __init__(self, handle: Any, path: bytes, allows: frozenset[str]) -> None:
        self.handle, self.path, self.allows = handle, path, allows


class RulesLayer(Layer):
    """A storage of which one session has what its rules allow. below: the storage, and what is before it.

    tell: is told what is refused, with the canonical path; None: nothing is.
    """

    def __init__(
        self,
        below: SFTPAbstractServerStorage,
        rules: Rules,
        names: NameRules,
        tell: Callable[[bytes, BaseException], object] | None = None,
    ) -> None:
        super().__init__(below)
        self._rules, self._names, self._tell = rules, names, tell
        refuse_links = getattr(below, "refuse_links", None)
        self._refuses_links = refuse_links is not None
        if refuse_links is not None:
            refuse_links()
        self._no_name = os.urandom(16).hex().encode()  # of what is not there; no client sees it
        self._opened: dict[int, Opened] = {}
        self._staged: set[bytes] = set()  # what this session itself receives under a temporary name

    # --- where a path leads -------------------------------------------------------------------------

    def _places(self, path: bytes, follow: bool) -> Iterator[tuple[bytes, bytes]]:
        """Yield (canonical path, the slash behind it) until one is as it was when it is used."""
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
        for _ in range(ATTEMPTS):
            try:
                where = self._resolved(path, follow or tail != b"")
            except OSError as error:
                if error.errno != errno.ELOOP or isinstance(error, TooManyLinks):
                    raise
                continue
            yield where, tail if where != b"/" else b""
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _as_written(self, path: bytes) -> tuple[bytes | None, bytes]:
        """The canonical form of a path if there is no link in it; None if `..` is. And its slash."""
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

    def _resolved(self, path: bytes, follow: bool) -> bytes:
        """Where a path leads. Its last name may be missing; what is hidden is missing.

        follow: whether a link at its end is followed. Raises OSError and what the storage does.
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
        """The text of a link. Raises OSError(ELOOP), after which another attempt is made, if it is none any
        more."""
        try:
            return self.below.readlink(where)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None

    def _mode(self, where: bytes) -> int | None:
        """The type of what is there; None for nothing, 0 where the storage does not say."""
        try:
            return self.below.lstat(where).permissions or 0
        except (FileNotFoundError, SFTPNotFound):
            return None
        except SFTPUnsupported:
            return 0

    def _missing(self, where: bytes) -> Exception:
        """What the storage says of a name that is not there, in the place of one that is hidden."""
        path, _ = self._stand_in(where, self._rules.decide(where))
        try:
            self.below.lstat(path)
        except (OSError, SFTPException) as error:
            if not isinstance(error, SFTPUnsupported) and getattr(error, "errno", 0) != errno.ELOOP:
                return error
        return SFTPNotFound()

    def _stand_in(self, where: bytes, decision: Decision) -> tuple[bytes, Decision]:
        """A name that is not there in the place of what is hidden, and what may be done to it."""
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
        """What a path is taken for, and what may be done to it. Another one, which is not there, in the place
        of one that is hidden.

        actions: raises what the storage does for what is missing, if they are allowed and would make that
        other one.
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

    def _do(self, path: bytes, follow: bool, actions: tuple[str, ...], method: str, *arguments: Any) -> Any:
        """Call a method of the storage below, if all these actions are allowed where the path leads."""
        if self._refuses_links and is_plain(path):  # as nearly all are; what follows would do the same
            decision, place = self._rules.decide(path), path
            if decision.is_hidden:
                place, decision = self._found(path, actions)
            for action in actions:
                if action not in decision.allowed:
                    raise self._refused(path, action)
            try:
                return getattr(self.below, method)(place, *arguments)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        for where, tail in self._places(path, follow):
            place, decision = self._found(where, actions)
            for action in actions:
                if action not in decision.allowed:
                    raise self._refused(where, action)
            try:
                return getattr(self.below, method)(place + tail, *arguments)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        raise AssertionError  # _places() has raised

    def _do_entry(self, path: bytes, action: str, method: str, *arguments: Any) -> Any:
        """The same for a call on a directory entry, whose last name is no `..`."""
        if path.rstrip(b"/").rpartition(b"/")[2] == b"..":
            self.stat(path)  # what is missing is missing first
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return self._do(path, False, (action,), method, *arguments)

    def _check_name(self, path: bytes) -> None:
        """Raises SFTPForbidden for a path whose last name nothing new may have."""
        error = self._wrong_name(path)
        if error is not None:
            raise self._told(path, error)

    def _wrong_name(self, path: bytes) -> SFTPForbidden | None:
        """The error for a path whose last name nothing new may have; None for other names."""
        name = text_of(path.rstrip(b"/").rpartition(b"/")[2])
        pattern = self._names.refusal(name)
        return None if pattern is None else SFTPForbidden(f"Names such as {pattern} are not allowed here")

    def _refused(self, where: bytes, action: str) -> SFTPForbidden:
        """The answer to what a rule does not allow."""
        return self._told(where, refused(action))

    def _told(self, where: bytes, error: SFTPForbidden) -> SFTPForbidden:
        """The same error, when receivers of events have been told."""
        if self._tell is not None:
            self._tell(where, error)
        return error

    # --- names and attributes -----------------------------------------------------------------------

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
        for _ in range(ATTEMPTS):
            try:
                return self._resolved(path, True)
            except OSError as error:
                if error.errno != errno.ELOOP or isinstance(error, TooManyLinks):
                    raise
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._do(path, True, (), "stat")  # type: ignore[no-any-return]

    def lstat(self, path: bytes) -> SFTPAttributes:
        return self._do(path, False, (), "lstat")  # type: ignore[no-any-return]

    def readlink(self, path: bytes) -> bytes:
        return self._do(path, False, (), "readlink")  # type: ignore[no-any-return]

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._do(path, True, changes(attrs), "setstat", attrs)

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._do(path, False, changes(attrs), "lsetstat", attrs)

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        opened = self._opened.get(_key(handle))
        if opened is not None:  # where not everything was allowed
            for action in changes(attrs):
                if action not in opened.allows and action not in self._rules.decide(opened.path).allowed:
                    raise refused(action)
        self.below.fsetstat(handle, attrs)

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        for where, tail in self._places(path, True):
            place, decision = self._found(where)
            if "download" not in decision.allowed:
                raise self._refused(where, "download")
            try:
                return known_checksum(self.below, place + tail, algorithm)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        raise AssertionError

    def statvfs(self, path: bytes) -> StatVFS:
        return self._do(path, True, (), "statvfs")  # type: ignore[no-any-return]

    def sync_directory(self, path: bytes) -> None:
        self._do(path, True, (), "sync_directory")

    # --- directories --------------------------------------------------------------------------------

    def opendir(self, path: bytes) -> Iterator[Entry]:
        for where, tail in self._places(path, True):
            place, decision = self._found(where)
            if "list" not in decision.allowed:
                raise self._refused(where, "list")
            try:
                entries = self.below.opendir(place + tail)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                continue
            if not self._rules.has_hidden:
                return entries
            return _Seen(entries, where.rstrip(b"/") + b"/", self._rules)
        raise AssertionError

    def mkdir(self, path: bytes, mode: int) -> None:
        self._check_name(path)
        self._do_entry(path, "mkdir", "mkdir", mode)

    def rmdir(self, path: bytes) -> None:
        self._do_entry(path, "rmdir", "rmdir")

    # --- files --------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        if self._refuses_links and is_plain(path) and not (flags & os.O_CREAT and self._names.refuses_any):
            decision, place = self._rules.decide(path), path
            if decision.is_hidden and not flags & os.O_CREAT:
                place, decision = self._found(path)
            if decision.allowed is ALL:  # what follows would do the same
                try:
                    return self.below.open(place, flags, mode)
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise
        follow = not (flags & os.O_CREAT and flags & os.O_EXCL)
        for where, tail in self._places(path, follow):
            is_staged = (
                not follow
                and where not in self._staged
                and temporary.is_temporary(where.rpartition(b"/")[2])
                and len(self._staged) < MOST_STAGED
            )
            if is_staged:
                self._staged.add(where)  # by a door that receives files in this way
            try:
                place, decision = self._found(where, ("upload",) if flags & os.O_CREAT else ())
                handle, allows = self._open(where, place + tail, flags, mode, decision.allowed)
            except BaseException as error:
                if is_staged:
                    self._staged.discard(where)  # it may be another session's
                if getattr(error, "errno", 0) != errno.ELOOP or isinstance(error, TooManyLinks):
                    raise
                continue
            if decision.allowed is not ALL:
                self._opened[_key(handle)] = Opened(handle, where, allows)
            return handle
        raise AssertionError

    def _open(
        self, where: bytes, path: bytes, flags: int, mode: int, allowed: frozenset[str]
    ) -> tuple[Any, frozenset[str]]:
        """A handle, and what else may be done through it. A file that is there counts as that when it is
        opened. where: what the client means. path: what is asked for."""
        if flags & os.O_ACCMODE != os.O_WRONLY and "download" not in allowed:
            raise self._refused(where, "download")
        on_old = ""  # what it does to a file that is there
        if flags & os.O_TRUNC or flags & WRITES:
            on_old = "append" if flags & os.O_APPEND and not flags & os.O_TRUNC else "overwrite"
        may_open_old = not on_old or on_old in allowed
        if on_old and not may_open_old and "upload" in allowed:
            may_open_old = self._names.is_temporary(text_of(where.rpartition(b"/")[2]))
        of_old = frozenset({on_old} if on_old else ())
        if flags & os.O_TRUNC:
            of_old |= {"setstat"}  # a part of writing the file anew, as in `put -p`
        if not flags & os.O_CREAT:
            if not may_open_old:
                raise self._refused(where, on_old)
            return self.below.open(path, flags, mode), of_old
        refusal = None if "upload" in allowed else refused("upload")
        if refusal is None and where not in self._staged:  # the name of a door's own is not the file's
            refusal = self._wrong_name(where)
        if refusal is None and may_open_old:
            return self.below.open(path, flags, mode), of_old
        if refusal is None:
            return self._made(path, flags, mode, on_old), frozenset({"overwrite", "setstat"})
        if not may_open_old or flags & os.O_EXCL:
            raise self._told(where, refusal)
        try:
            return self.below.open(path, flags & ~os.O_CREAT, mode), of_old
        except (FileNotFoundError, SFTPNotFound):
            raise self._told(where, refusal) from None

    def _made(self, path: bytes, flags: int, mode: int, on_old: str) -> Any:
        """A handle of a new file. Raises SFTPForbidden if one is there."""
        try:
            return self.below.open(path, flags | os.O_EXCL, mode)
        except (OSError, SFTPException) as error:
            if flags & os.O_EXCL or status_of(error)[0] != SSH2_FX_FAILURE:
                raise
            there = self._mode(path.rstrip(b"/"))
            if there is None:
                raise
            if S_ISLNK(there):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
            raise self._refused(path, on_old) from None

    def close(self, handle: Any) -> None:
        self._opened.pop(_key(handle), None)
        self.below.close(handle)

    def abandon(self, handle: Any) -> None:
        self._opened.pop(_key(handle), None)
        self.below.abandon(handle)

    # --- the tree -----------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        self._do_entry(path, "upload" if path in self._staged else "delete", "rm")
        self._staged.discard(path)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        self._check_name(linkpath)
        self._do_entry(linkpath, "symlink", "symlink", target)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        for path in (old, new):
            if path.rstrip(b"/").rpartition(b"/")[2] == b"..":
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for (source, tail), (target, new_tail) in self._pairs(old, new):
            (old_place, before), (new_place, after) = self._found(source), self._found(target)
            self._check_rename(source, target, before, after)
            if self._rules.rules and source != target:
                rule = self._rules.that_keeps(source, target)
                if rule is not None and S_ISDIR(self._mode(old_place) or 0):
                    error = SFTPForbidden("Not allowed: there are rules for what is in this directory")
                    raise self._told(source, error)
            if new_place is not target:
                raise self._missing(target)
            is_free = replace and "overwrite" not in after.allowed
            arguments = (old_place + tail, target + new_tail, *([True] if replace and not is_free else ()))
            try:
                self.below.rename(*arguments)
                self._staged.discard(source)
                return
            except (OSError, SFTPException) as failure:
                if getattr(failure, "errno", 0) == errno.ELOOP:
                    continue
                if is_free and status_of(failure)[0] == SSH2_FX_FAILURE and self._mode(target) is not None:
                    raise self._refused(target, "overwrite") from None
                raise

    def _pairs(self, old: bytes, new: bytes) -> Iterator[tuple[tuple[bytes, bytes], tuple[bytes, bytes]]]:
        yield from zip(self._places(old, False), self._places(new, False), strict=False)

    def _check_rename(self, source: bytes, target: bytes, before: Decision, after: Decision) -> None:
        """Raises SFTPForbidden for a rename that is not allowed, by what may be done to both names."""
        if source == target:
            is_upload = False
        else:
            olds, news = text_of(source).rpartition("/"), text_of(target).rpartition("/")
            is_upload = olds[0] == news[0] and (
                self._names.is_upload_of(olds[2], news[2])
                or temporary.is_temporary(source.rpartition(b"/")[2])  # of a door
            )
        both = before.allowed & after.allowed
        if "rename" not in both and not (is_upload and "upload" in both):
            raise self._refused(source if "rename" not in before.allowed else target, "rename")
        if not is_upload and "download" in after.allowed - before.allowed:
            error = SFTPForbidden("Not allowed: what cannot be read here could be read there")
            raise self._told(source, error)
        self._check_name(target)

    def link(self, old: bytes, new: bytes) -> None:
        for (source, tail), (target, new_tail) in self._pairs(old, new):
            (old_place, before), (new_place, after) = self._found(source), self._found(target)
            for place, decision in ((source, before), (target, after)):
                if "link" not in decision.allowed:
                    raise self._refused(place, "link")
            if (after.allowed - before.allowed).intersection(OF_FILES):
                error = SFTPForbidden("Not allowed: the new name would allow more than the old one")
                raise self._told(source, error)
            self._check_name(target)
            if new_place is not target:
                raise self._missing(target)
            try:
                self.below.link(old_place + tail, target + new_tail)
                return
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise


class TooManyLinks(OSError):
    """A path leads through more links than the kernel follows."""


class _Seen:
    """A listing without what is hidden. directory: its path, with a slash."""

    def __init__(self, entries: Iterator[Entry], directory: bytes, rules: Rules) -> None:
        self._entries, self._directory, self._rules = entries, directory, rules
        self._iterator = iter(entries)

    def __iter__(self) -> _Seen:
        return self

    def __next__(self) -> Entry:
        while True:
            entry = next(self._iterator)
            name = entry[0]
            if name in (b".", b"..") or not self._rules.decide(self._directory + name).is_hidden:
                return entry

    def close(self) -> None:
        close = getattr(self._entries, "close", None)
        if close is not None:
            close()


def is_plain(path: bytes) -> bool:
    """Whether a path is the canonical one if no link is in it. False for some that are, too."""
    return path[:1] == b"/" != path[-1:] and b"/." not in path and b"//" not in path and len(path) < PATH_MAX


def refused(action: str) -> SFTPForbidden:
    """The answer to what a rule does not allow."""
    return SFTPForbidden(f"Not allowed here: {action}")


def changes(attrs: SFTPAttributes) -> tuple[str, ...]:
    """The actions that it takes to set attributes."""
    others = (attrs.permissions, attrs.uid, attrs.gid, attrs.atime, attrs.mtime)
    return ("overwrite",) * (attrs.size is not None) + ("setstat",) * any(one is not None for one in others)


def _key(handle: Any) -> int:
    return handle if type(handle) is int else id(handle)
