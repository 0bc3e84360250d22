"""The layer of rules: checks that each call of a session is allowed.

Nothing is ever made under a hidden name, and layers below get canonical paths. What may not enter: where a
path leads (resolving.py), how a rule decides (rules.py), SFTP's requests.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISLNK

from pysftpserver.abstractstorage import known_checksum
from pysftpserver.pysftpexceptions import (
    SSH2_FX_FAILURE,
    SFTPException,
    SFTPForbidden,
    SFTPNotFound,
    status_of,
)
from pysftpserver.site.layer import handle_key
from pysftpserver.site.patterns import text_of
from pysftpserver.site.resolving import ResolvingLayer, TooManyLinks, is_plain, refused
from pysftpserver.site.rules import ALL, OF_FILES
from pysftpserver.uploads import temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage, StatVFS
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.rules import Decision, NameRules, Rules

    Entry = tuple[bytes, SFTPAttributes]

MOST_STAGED = 1000  # names at once, to bound memory
WRITES = os.O_WRONLY | os.O_RDWR


class Opened:
    """An open handle. path: canonical. allows: actions allowed through it besides READ and WRITE."""

    __slots__ = ("allows", "handle", "path")

    def __init__(self, handle: Any, path: bytes, allows: frozenset[str]) -> None:
        self.handle, self.path, self.allows = handle, path, allows


class RulesLayer(ResolvingLayer):
    """A storage, limited to what one session's rules allow. names: the allowed names of files."""

    def __init__(
        self,
        below: SFTPAbstractServerStorage,
        rules: Rules,
        names: NameRules,
        tell: Callable[[bytes, BaseException], object] | None = None,
    ) -> None:
        super().__init__(below, rules, tell)
        self._names = names
        self._opened: dict[int, Opened] = {}

    def _check_name(self, path: bytes) -> None:
        """Raises SFTPForbidden for a path whose last name is not allowed for new entries."""
        error = self._wrong_name(path)
        if error is not None:
            raise self._told(path, error)

    def _wrong_name(self, path: bytes) -> SFTPForbidden | None:
        """The error for a path whose last name is not allowed for new entries; None if it is allowed."""
        name = text_of(path.rstrip(b"/").rpartition(b"/")[2])
        pattern = self._names.refusal(name)
        return None if pattern is None else SFTPForbidden(f"Names such as {pattern} are not allowed here")

    # --- names and attributes -----------------------------------------------------------------------

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._do(path, True, (), self.below.stat)  # type: ignore[no-any-return]

    def lstat(self, path: bytes) -> SFTPAttributes:
        return self._do(path, False, (), self.below.lstat)  # type: ignore[no-any-return]

    def readlink(self, path: bytes) -> bytes:
        return self._do(path, False, (), self.below.readlink)  # type: ignore[no-any-return]

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._do(path, True, changes(attrs), self.below.setstat, attrs)

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._do(path, False, changes(attrs), self.below.lsetstat, attrs)

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        opened = self._opened.get(handle_key(handle))
        if opened is not None:  # where not everything was allowed
            for action in changes(attrs):
                if action not in opened.allows and action not in self._rules.decide(opened.path).allowed:
                    raise refused(action)
        self.below.fsetstat(handle, attrs)

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        def known(where: bytes) -> bytes | None:
            return known_checksum(self.below, where, algorithm)

        return self._do(path, True, ("download",), known)  # type: ignore[no-any-return]

    def statvfs(self, path: bytes) -> StatVFS:
        return self._do(path, True, (), self.below.statvfs)  # type: ignore[no-any-return]

    def sync_directory(self, path: bytes) -> None:
        self._do(path, True, (), self.below.sync_directory)

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
        self._do_entry(path, "mkdir", self.below.mkdir, mode)

    def rmdir(self, path: bytes) -> None:
        self._do_entry(path, "rmdir", self.below.rmdir)

    # --- files --------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        if self._refuses_links and is_plain(path) and not (flags & os.O_CREAT and self._names.refuses_any):
            decision, place = self._rules.decide(path), path
            if decision.is_hidden and not flags & os.O_CREAT:
                place, decision = self._found(path)
            if decision.allowed is ALL:  # a shortcut for the code below
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
                self._opened[handle_key(handle)] = Opened(handle, where, allows)
            return handle
        raise AssertionError

    def _open(
        self, where: bytes, path: bytes, flags: int, mode: int, allowed: frozenset[str]
    ) -> tuple[Any, frozenset[str]]:
        """A handle, and what else may be done through it. Whether the file exists is decided when it is
        opened. where: the path that the client means. path: the one to open.
        """
        if flags & os.O_ACCMODE != os.O_WRONLY and "download" not in allowed:
            raise self._refused(where, "download")
        on_old = ""  # the action on an existing file
        if flags & os.O_TRUNC or flags & WRITES:
            on_old = "append" if flags & os.O_APPEND and not flags & os.O_TRUNC else "overwrite"
        may_open_old = not on_old or on_old in allowed
        if on_old and not may_open_old and "upload" in allowed:
            may_open_old = self._names.is_temporary(text_of(where.rpartition(b"/")[2]))
        of_old = frozenset({on_old} if on_old else ())
        if flags & os.O_TRUNC:
            of_old |= {"setstat"}  # part of rewriting the file, as in `put -p`
        if not flags & os.O_CREAT:
            if not may_open_old:
                raise self._refused(where, on_old)
            return self.below.open(path, flags, mode), of_old
        refusal = None if "upload" in allowed else refused("upload")
        if refusal is None and where not in self._staged:  # a door's temporary name is not the file's
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
        """A handle of a new file. Raises SFTPForbidden if the file exists."""
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
        self._opened.pop(handle_key(handle), None)
        self.below.close(handle)

    def abandon(self, handle: Any) -> None:
        self._opened.pop(handle_key(handle), None)
        self.below.abandon(handle)

    # --- the tree -----------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        self._do_entry(path, "upload" if path in self._staged else "delete", self.below.rm)
        self._staged.discard(path)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        self._check_name(linkpath)
        self._do_entry(linkpath, "symlink", self.below.symlink, target)

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
        """Raises SFTPForbidden for a rename that the decisions for both names do not allow."""
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


class _Seen:
    """A listing without hidden entries. directory: its path, with a slash."""

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


def changes(attrs: SFTPAttributes) -> tuple[str, ...]:
    """The actions that setting these attributes requires."""
    others = (attrs.permissions, attrs.uid, attrs.gid, attrs.atime, attrs.mtime)
    return ("overwrite",) * (attrs.size is not None) + ("setstat",) * any(one is not None for one in others)
