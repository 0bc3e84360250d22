"""The layer of gates: a file waits under a hidden name until the gates in front of its path let it in.

When a client opens a path with gates for writing, it gets a file next to it, with a name of
uploads/temporary.py, which RulesLayer hides. When the last handle is closed, the file is put in place by the
steps of uploads/files.py, and before the step that renames it, the gates read it. So a killed process leaves
the old file and a leftover, in any storage, and no visible file is ever written to.

A rename to a path with other gates copies the file: another session may have the old one open for writing.
Only a file that a door has received under a name that no client knows is not copied. Links are refused: a
file with two names could be changed under the one without gates, and a symbolic link leads to a file that was
never scanned. What may not enter: how gates are asked, which paths are hidden, concrete storages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from stat import S_IFMT, S_IMODE, S_ISDIR, S_ISLNK, S_ISREG

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPForbidden
from pysftpserver.site.gates import ACCEPT, Candidate, Rejected
from pysftpserver.site.layer import Layer, handle_key, pieces
from pysftpserver.site.patterns import text_of
from pysftpserver.site.waiting import FOR_OWNER, Waiting, incomplete
from pysftpserver.uploads import temporary
from pysftpserver.uploads.files import attributes, parent_of
from pysftpserver.uploads.leftovers import remove_leftovers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.site.gates import Gate, Gates, Verdict
    from pysftpserver.site.rules import NameRules

WRITES = os.O_WRONLY | os.O_RDWR
MOST_LOOKED_AT = 10_000  # directories, to bound memory
LONGEST_NAME = 200  # bytes of a file's own name in quarantine


class GatesLayer(Layer):
    """A storage where files in paths with gates become visible when the gates let them in.

    below: the storage. Paths are canonical. names: knows the temporary names of clients.
    """

    waits_long = True

    def __init__(self, below: SFTPAbstractServerStorage, gates: Gates, names: NameRules) -> None:
        super().__init__(below)
        self._gates, self._names = gates, names
        self._waiting: dict[int, Waiting] = {}  # by handle
        self._by_path: dict[bytes, Waiting] = {}
        self._of_doors: dict[int, tuple[Any, bytes]] = {}  # files that doors receive, with their paths
        self._looked_at: set[bytes] = set()
        temporary.new_name()  # reads a file that a confined process cannot read

    # --- files --------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        if not flags & (WRITES | os.O_CREAT | os.O_TRUNC):
            return self.below.open(path, flags, mode)
        if temporary.is_temporary(_last(path)):  # hidden from all other sessions
            handle = self.below.open(path, flags, mode)
            self._of_doors[handle_key(handle)] = handle, path
            return handle
        gates = self._gates.of(path)
        if not gates:
            return self.below.open(path, flags, mode)
        if path.endswith((b"/", b"/.")):
            if not flags & os.O_CREAT:
                self.below.stat(path)
            raise _error(errno.EISDIR)
        waiting = self._by_path.get(path)
        if waiting is not None:
            handle = self._open_again(waiting, flags)
        else:
            waiting, handle = self._begin(path, flags, mode, gates)
            self._by_path[path] = waiting
        self._waiting[handle_key(handle)] = waiting
        return handle

    def _begin(self, path: bytes, flags: int, mode: int, gates: tuple[Gate, ...]) -> tuple[Waiting, Any]:
        """A new waiting file, and its first handle. Raises what opening its path would raise."""
        is_new = flags & os.O_CREAT and flags & os.O_EXCL
        there = attributes(self.below.lstat if is_new else self.below.stat, path)
        if there is not None:
            self._check_access(path, flags, there)
        elif not flags & os.O_CREAT:
            raise _error(errno.ENOENT)
        if there is not None and not flags & os.O_TRUNC:
            waiting = self._copied(path, path, there, gates)
            try:
                return waiting, waiting.reopen(flags & ~(os.O_CREAT | os.O_EXCL))
            except BaseException:
                waiting.discard()
                raise
        waiting = self._made(path, flags & ~os.O_TRUNC, mode, gates)
        waiting.is_exclusive = there is None and bool(flags & os.O_EXCL)
        waiting.take_attributes(there)
        return waiting, waiting._handle

    def _made(self, path: bytes, flags: int, mode: int, gates: tuple[Gate, ...]) -> Waiting:
        """An empty waiting file."""
        self._look_once(parent_of(path))
        waits_as = temporary.temporary_path(path)
        handle = self.below.open(waits_as, flags | os.O_CREAT | os.O_EXCL, mode)
        return Waiting(self, handle, waits_as, path, gates)

    def _copied(self, source: bytes, path: bytes, there: SFTPAttributes, gates: tuple[Gate, ...]) -> Waiting:
        """A waiting file with the content of another one. there: the attributes of that one."""
        reading = self.below.open(source, os.O_RDONLY, 0)
        try:
            waiting = self._made(path, os.O_WRONLY, FOR_OWNER, gates)
            try:
                for piece in pieces(self.below, reading):
                    waiting.write(memoryview(piece))
                waiting.take_attributes(there)
            except BaseException:
                waiting.discard()
                raise
            return waiting
        finally:
            self.below.close(reading)

    def _check_access(self, path: bytes, flags: int, there: SFTPAttributes) -> None:
        """Raises what opening an existing file would raise, if it would fail."""
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise _error(errno.EEXIST)
        kind = S_IFMT(there.permissions or 0)
        if S_ISDIR(kind):
            raise _error(errno.EISDIR)
        if kind and not S_ISREG(kind):
            raise SFTPForbidden("Not a regular file")
        if self._moves_by_descriptor:  # a file of the host: its permissions are about opening it
            self.below.abandon(self.below.open(path, flags & os.O_ACCMODE, 0))

    def _open_again(self, waiting: Waiting, flags: int) -> Any:
        """Another handle of a waiting file."""
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise _error(errno.EEXIST)
        handle = self.below.open(waiting.waits_as, flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC), 0)
        if flags & os.O_TRUNC:
            try:
                self.below.fsetstat(handle, SFTPAttributes(size=0))
            except BaseException:
                self.below.abandon(handle)
                raise
        waiting.handles += 1
        return handle

    def _look_once(self, directory: bytes) -> None:
        """Remove leftovers of killed processes from a directory, once."""
        if directory not in self._looked_at:
            if len(self._looked_at) >= MOST_LOOKED_AT:
                self._looked_at.clear()
            self._looked_at.add(directory)
            remove_leftovers(self.below, directory)

    def spoil(self, handle: Any) -> None:
        waiting = self._waiting.get(handle_key(handle))
        if waiting is not None:
            waiting.is_broken = True
        self.below.spoil(handle)

    def fsync(self, handle: Any) -> None:
        try:
            self.below.fsync(handle)
        except OSError:
            self.spoil(handle)  # written data is lost, and the next fsync would not report it
            raise

    def close(self, handle: Any) -> None:
        waiting = self._closing(handle)
        if waiting is None:
            self.below.close(handle)
        elif not waiting.handles:
            waiting.put_in_place(handle)
        else:
            try:
                self.below.close(handle)
            except BaseException:
                waiting.is_broken = True
                raise
            if waiting.is_broken:
                raise incomplete()

    def abandon(self, handle: Any) -> None:
        waiting = self._closing(handle)
        if waiting is None:
            self.below.abandon(handle)
        elif not waiting.handles:
            waiting.drop(handle)
        else:
            waiting.is_broken = True
            self.below.abandon(handle)

    def _closing(self, handle: Any) -> Waiting | None:
        """The waiting file of a handle, which is no longer the client's."""
        self._of_doors.pop(handle_key(handle), None)
        waiting = self._waiting.pop(handle_key(handle), None)
        if waiting is not None:
            waiting.handles -= 1
            if not waiting.handles and self._by_path.get(waiting.path) is waiting:
                del self._by_path[waiting.path]
        return waiting

    # --- attributes ---------------------------------------------------------------------------------

    def fstat(self, handle: Any) -> SFTPAttributes:
        found = self.below.fstat(handle)
        waiting = self._waiting.get(handle_key(handle))
        if waiting is not None and waiting.mode is not None and found.permissions is not None:
            found.permissions = S_IFMT(found.permissions) | waiting.mode
        return found

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        waiting = self._waiting.get(handle_key(handle))
        if waiting is not None and waiting.mode is not None and attrs.permissions is not None:
            waiting.mode = S_IMODE(attrs.permissions)
            attrs = SFTPAttributes(attrs.size, attrs.uid, attrs.gid, None, attrs.atime, attrs.mtime)
        self.below.fsetstat(handle, attrs)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self.below.setstat(path, self._resized(path, attrs))

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        if attrs.size is not None and not S_ISLNK(self.below.lstat(path).permissions or 0):
            attrs = self._resized(path, attrs)
        self.below.lsetstat(path, attrs)

    def _resized(self, path: bytes, attrs: SFTPAttributes) -> SFTPAttributes:
        """Set the size, if a path has gates; return the attributes that remain to be set."""
        gates = self._gates.of(path) if attrs.size is not None else ()
        if not gates:
            return attrs
        waiting, handle = self._begin(path, os.O_WRONLY, 0, gates)
        try:
            self.below.fsetstat(handle, SFTPAttributes(size=attrs.size))
        except BaseException:
            waiting.drop(handle)
            raise
        waiting.put_in_place(handle)
        return SFTPAttributes(None, attrs.uid, attrs.gid, attrs.permissions, attrs.atime, attrs.mtime)

    # --- the tree -----------------------------------------------------------------------------------

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        gates = self._gates.of(new)
        is_of_door = bool(gates) and temporary.is_temporary(_last(old))
        if not is_of_door and not self._gates.differ(old, new):
            if not temporary.is_temporary(_last(new)):
                self._check_names(gates, old, new)
            self.below.rename(old, new, *([True] if replace else ()))
            return
        there = self.below.lstat(old)
        kind = S_IFMT(there.permissions or 0)
        if S_ISDIR(kind):
            raise SFTPForbidden("Not allowed: files are checked there; upload what is in the directory")
        if kind and not S_ISREG(kind) and not S_ISLNK(kind):
            raise SFTPForbidden("Not a regular file")
        if not replace and attributes(self.below.lstat, new) is not None:
            raise _error(errno.EEXIST)
        if S_ISLNK(kind):
            self._check_link(new)
            self._move_link(old, new, replace)
        elif is_of_door and temporary.is_own(_last(old)) and self._is_closed(old):
            self._take_in(old, new, replace, gates)
        else:
            waiting = self._copied(old, new, there, gates)
            waiting.is_exclusive = not replace
            self._keep_times(waiting, there)
            waiting.commit()
            self.below.rm(old)

    def _check_names(self, gates: tuple[Gate, ...], old: bytes, new: bytes) -> None:
        """Raises Rejected for a name that a file which was let in must not get. Directories may get any."""
        names = self._names.finals(text_of(_last(new)))
        for gate in gates:
            verdict = gate.of_names(names)
            if verdict.kind != ACCEPT and not S_ISDIR(self.below.lstat(old).permissions or 0):
                raise Rejected(verdict, new)

    def _move_link(self, old: bytes, new: bytes, replace: bool) -> None:
        """Move a link by making a new one: by the time of a rename, its name might belong to a file."""
        waits_as = temporary.temporary_path(new)
        self.below.symlink(waits_as, self.below.readlink(old))
        try:
            self.below.rename(waits_as, new, *([True] if replace else ()))
        except BaseException:
            with contextlib.suppress(OSError, SFTPException):
                self.below.rm(waits_as)
            raise
        self.below.rm(old)

    def _take_in(self, old: bytes, new: bytes, replace: bool, gates: tuple[Gate, ...]) -> None:
        """Put a file in place that a door has received; until then, no session knows its name."""
        waiting = Waiting(self, None, temporary.temporary_path(new), new, gates)
        self.below.rename(old, waiting.waits_as)
        waiting.is_exclusive = not replace
        try:
            waiting.rename()
        except BaseException:
            waiting._is_open = False
            waiting.discard()
            raise

    def _is_closed(self, path: bytes) -> bool:
        """Whether all handles of a file that a door has received are closed."""
        return all(path != other for _, other in self._of_doors.values())

    def _keep_times(self, waiting: Waiting, there: SFTPAttributes) -> None:
        with contextlib.suppress(OSError, SFTPException):
            if there.atime is not None and there.mtime is not None:
                times = SFTPAttributes(atime=there.atime, mtime=there.mtime)
                self.below.fsetstat(waiting._handle, times)

    def link(self, old: bytes, new: bytes) -> None:
        if self._gates.of(old) or self._gates.of(new):
            raise SFTPForbidden("Not allowed: files that are checked have one name only")
        self.below.link(old, new)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        self._check_link(linkpath)
        self.below.symlink(linkpath, target)

    def _check_link(self, path: bytes) -> None:
        """Raises SFTPForbidden if a link could give a path with gates to a file that they have not seen."""
        if self._gates.are_evaded(path):
            raise SFTPForbidden("Not allowed: files are checked there, and a link could lead to others")

    # --- gates --------------------------------------------------------------------------------------

    def refusal(self, gates: tuple[Gate, ...], waits_as: bytes, path: bytes) -> tuple[Gate, Verdict] | None:
        """The first gate that does not let a file in, and its verdict. Raises the exceptions of reading."""
        if not gates:
            return None

        def content() -> Iterator[bytes]:
            reading = self.below.open(waits_as, os.O_RDONLY, 0)
            try:
                yield from pieces(self.below, reading)
            finally:
                self.below.close(reading)

        size = self.below.stat(waits_as).size or 0
        names = self._names.finals(text_of(_last(path)))
        candidate = Candidate(path, names, size, content, self._gates.who)
        for gate in gates:
            verdict = gate.verdict(candidate)
            if verdict.kind != ACCEPT:
                return gate, verdict
        return None

    def keep(self, gate: Gate, waits_as: bytes, path: bytes) -> bool:
        """Move a file to a gate's quarantine; return whether that worked."""
        place = gate.quarantine
        if place is None:
            return False
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()).encode()
        target = b"%b/%b-%b-%b" % (place, moment, os.urandom(4).hex().encode(), _last(path)[:LONGEST_NAME])
        names = place.split(b"/")
        for count in range(2, len(names) + 1):
            with contextlib.suppress(OSError, SFTPException):  # it exists
                self.below.mkdir(b"/".join(names[:count]), 0o700)
        try:
            self.below.rename(waits_as, target)
        except (OSError, SFTPException):  # another storage, perhaps
            try:
                copy = self._copied(waits_as, target, SFTPAttributes(permissions=FOR_OWNER), ())
                copy.commit()
            except (OSError, SFTPException):
                return False  # it is removed instead
            self.below.rm(waits_as)
        return True


def _last(path: bytes) -> bytes:
    """The last name of a path."""
    return path.rstrip(b"/").rpartition(b"/")[2]


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
