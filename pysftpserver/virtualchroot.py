"""SFTPServerVirtualChroot: the jail. `/` is its root, and there is no way out.

The kernel contains each operation: openat2(2) with RESOLVE_IN_ROOT resolves a whole path
inside the root, links and `..` included, starting from a descriptor that was opened once; operations on
a directory entry then use that entry's last name, relative to the descriptor of its directory, and
follow nothing. No path is checked first and used afterwards. Where the kernel has no openat2 (before
5.6), walk() does the same step by step with O_NOFOLLOW descriptors. It needs no root privileges and no
special owner or mode.
What may not enter: host paths, except that of the root, which check_root() compares with what was opened.
Facts: openat2(2), path_resolution(7), symlink(7), proc(5).
"""

from __future__ import annotations

import errno
import os
from stat import S_ISLNK

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error
from pysftpserver.host import accounts
from pysftpserver.host.budget import Budget
from pysftpserver.host.entries import Place, path_of_descriptor
from pysftpserver.host.linux import (
    AT_FDCWD,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    has_openat2,
    is_on_procfs,
    openat2,
)
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPNotFound
from pysftpserver.storage import DIRECTORY, MOST_LINKS, PATH_MAX, SFTPServerStorage

RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


class SFTPServerVirtualChroot(SFTPServerStorage):
    """A directory tree as a jail.

    chroot: the directory that becomes `/`. umask: as in SFTPServerStorage. home: where sessions start,
    a path in the jail. use_openat2: None: use it if the kernel has it; False: never; True: always.
    Raises OSError if chroot cannot be opened as a directory, or if use_openat2 is True and it is missing.
    """

    def __init__(
        self,
        chroot: str | bytes | os.PathLike[str],
        umask: int | None = None,
        *,
        home: bytes = b"/",
        use_openat2: bool | None = None,
    ) -> None:
        super().__init__(b"/", umask)
        self._root = os.open(chroot, DIRECTORY)
        path = os.fsencode(chroot)  # not normalized: `..` after a link is not the directory before it
        self._path = path if path.startswith(b"/") else os.path.join(os.getcwdb(), path)
        self._identity = _identity(os.fstat(self._root))
        available = use_openat2 is not False and has_openat2()
        if use_openat2 and not available:
            raise OSError(errno.ENOSYS, "this kernel has no openat2")
        self._openat2 = available
        # Until a path leads to another mount, every file is on the root's file system, and need not be
        # checked for being on procfs. The first path that does lead to one ends that.
        self._is_one_mount = available and not is_on_procfs(self._root)
        self._resolve = RESOLVE
        self.home = self.realpath(home)

    def refuse_links(self) -> None:
        super().refuse_links()
        self._resolve |= RESOLVE_NO_SYMLINKS

    def __del__(self) -> None:
        if hasattr(self, "_root"):
            os.close(self._root)

    def territory(self) -> list[int]:
        accounts.keep()
        return [self._root]

    def check_root(self) -> None:
        try:
            is_there = _identity(os.stat(self._path)) == self._identity
        except OSError:
            is_there = False
        if not is_there:
            raise SFTPFailure("The served directory was moved, replaced or unmounted; connect again")

    def path_of(self, handle: int) -> bytes | None:
        path, root = path_of_descriptor(handle), path_of_descriptor(self._root)
        if path is None or root is None:
            return None
        root = root.rstrip(b"/") + b"/"
        return b"/" + path.removeprefix(root) if path.startswith(root) else None

    # --- how a path becomes a file ------------------------------------------------------------------

    def _open(self, path: bytes, flags: int, mode: int = 0) -> int:
        flags |= os.O_CLOEXEC
        if self._is_one_mount:
            try:
                return openat2(self._root, path, flags, mode, self._resolve | RESOLVE_NO_XDEV)
            except BlockingIOError:
                pass  # renames kept interrupting it: try once more below, which also allows other mounts
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._is_one_mount = False
        descriptor = self._open_anywhere(path, flags, mode)
        if not flags & os.O_PATH and is_on_procfs(descriptor):
            # A /proc mounted inside the jail: its files are this process's memory and other processes'
            # secrets. They are visible, but cannot be opened or listed.
            os.close(descriptor)
            raise os_error(errno.EACCES)
        return descriptor

    def _open_anywhere(self, path: bytes, flags: int, mode: int) -> int:
        if self._openat2:
            try:
                return openat2(self._root, path, flags, mode, self._resolve)
            except BlockingIOError:
                pass  # endless renames keep interrupting it; they do not stop walk()
        return walk(self._root, path, flags, mode, bool(self._resolve & RESOLVE_NO_SYMLINKS))

    def _place(self, path: bytes) -> Place:
        stripped = path.rstrip(b"/")
        parent, _, name = stripped.rpartition(b"/")
        if name in (b"", b".", b".."):
            # No name that could be used relative to a parent: the directory itself, as ".".
            return Place(self._open(path, DIRECTORY), b".", owned=True)
        directory = self._open(parent, DIRECTORY) if parent else self._root
        # The name goes to the kernel without its slash: with it, a link would be followed there, out of
        # the jail. The caller decides what the slash means.
        return Place(directory, name, owned=bool(parent), must_be_directory=len(stripped) < len(path))

    def _open_without_links(self, path: bytes) -> int:
        if not self._openat2:
            raise os_error(errno.ENOSYS)
        return openat2(self._root, path, os.O_PATH | os.O_CLOEXEC, 0, RESOLVE | RESOLVE_NO_SYMLINKS)

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._stat(path, os.O_PATH)

    def lstat(self, path: bytes) -> SFTPAttributes:
        return self._stat(path, os.O_PATH if path.endswith(b"/") else os.O_PATH | os.O_NOFOLLOW)

    def _stat(self, path: bytes, flags: int) -> SFTPAttributes:
        descriptor = self._open(path, flags)
        try:
            return SFTPAttributes.from_stat(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    # --- where the plain storage's answer would be wrong in a jail ------------------------------------

    def rmdir(self, path: bytes) -> None:
        last = path.rstrip(b"/").rpartition(b"/")[2]
        if last == b".." or (path and not last):
            self.stat(path)  # a missing directory is reported first
            error = errno.ENOTEMPTY if last else errno.EBUSY
            raise OSError(error, os.strerror(error))
        super().rmdir(path)

    def _link_at(self, place: Place) -> bytes:
        for _ in range(3):  # a link that is replaced between the two calls may look magic, once
            target = super()._link_at(place)
            if not _is_magic(place.lstat(), target):
                return target
        raise os_error(errno.EACCES)

    def userhome(self, user: bytes) -> bytes:
        if user and user != self.username(os.getuid()):
            raise SFTPNotFound("No such user")  # other users' homes are not in this jail
        return self.home


def _identity(st: os.stat_result) -> tuple[int, int]:
    """Device and inode: they tell directories apart, even if another mount covers one."""
    return st.st_dev, st.st_ino


def open_without_links(path: bytes, flags: int, mode: int) -> int:
    """Open a path of the host. Raises OSError(ELOOP) if a link is in it."""
    try:
        return openat2(AT_FDCWD, b"/" + path, flags, mode, RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    root = os.open(b"/", DIRECTORY)
    try:
        return walk(root, path, flags, mode, refuse_links=True)
    finally:
        os.close(root)


def walk(root: int, path: bytes, flags: int, mode: int = 0, refuse_links: bool = False) -> int:
    """Open path with the directory root as `/`, step by step, as openat2 does with RESOLVE_IN_ROOT.

    refuse_links: as openat2 does with RESOLVE_NO_SYMLINKS.

    Every step opens one name with O_NOFOLLOW, so a link that appears between two calls is an error and
    never a way out; the text of a link is walked like the path itself; `..` goes back to the root and
    down again, because the parent of a directory that was moved meanwhile could be anywhere.
    """
    if not path or len(path) >= PATH_MAX:
        number = errno.ENAMETOOLONG if path else errno.ENOENT
        raise OSError(number, os.strerror(number))
    todo = path.split(b"/")[::-1]
    names: list[bytes] = []
    links = 0
    budget = Budget()
    directory = os.dup(root)
    try:
        while todo:
            budget.take()
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if flags & os.O_CREAT and todo and not any(todo) and name != b"..":
                raise os_error(errno.EISDIR)  # `name/` cannot create a file
            if name == b"..":
                del names[-1:]
                budget.take(len(names))
                os.close(directory)
                directory = -1
                directory = _descend(root, names)
                continue
            if todo:
                # Most names on the way are directories: only others are checked for being links.
                try:
                    below = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                except NotADirectoryError as error:
                    failure = error
                else:
                    os.close(directory)
                    directory = below
                    names.append(name)
                    continue
            if not flags & os.O_NOFOLLOW or todo:
                target = _link_text(directory, name)
                if target is not None:
                    if flags & os.O_EXCL and flags & os.O_CREAT and not todo:
                        raise os_error(errno.EEXIST)
                    links += 1
                    if links > MOST_LINKS or refuse_links:
                        raise os_error(errno.ELOOP)
                    if target.startswith(b"/"):
                        names.clear()
                        os.close(directory)
                        directory = -1
                        directory = os.dup(root)
                    todo += target.split(b"/")[::-1]
                    continue
            if todo:
                raise failure
            return _open_last(directory, name, flags, mode)
        if flags & os.O_CREAT:
            raise os_error(errno.EISDIR)
        return os.open(b".", flags, mode, dir_fd=directory)
    finally:
        if directory >= 0:
            os.close(directory)


def _open_last(directory: int, name: bytes, flags: int, mode: int) -> int:
    """Open the last name of a path, which was not a link a moment ago."""
    descriptor = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)
    if flags & os.O_PATH and not flags & os.O_NOFOLLOW and S_ISLNK(os.fstat(descriptor).st_mode):
        # A link has just appeared: O_PATH opens the link itself, where any other open fails.
        os.close(descriptor)
        raise os_error(errno.ELOOP)
    return descriptor


def _link_text(directory: int, name: bytes) -> bytes | None:
    """The text of a link, or None if name is not a link or does not exist. Magic links are refused."""
    try:
        target = os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise
    if _is_magic(os.stat(name, dir_fd=directory, follow_symlinks=False), target):
        raise os_error(errno.ELOOP)
    return target


def _is_magic(st: os.stat_result, target: bytes) -> bool:
    """Whether a link is a magic one of procfs, which does not lead where its text says and tells host paths.

    A real link has mode 0777, and its size is the length of its text. (That is not so for procfs's `self`,
    whose text is harmless, and on some network file systems; their relative links pass as real.)
    """
    if st.st_size == len(target) and st.st_mode & 0o777 == 0o777:
        return False
    return target.startswith(b"/") or b":[" in target


def _descend(root: int, names: list[bytes]) -> int:
    """The directory at the end of names, none of which may be a link."""
    directory = os.dup(root)
    for name in names:
        try:
            below = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        finally:
            os.close(directory)
        directory = below
    return directory
