"""SFTPServerStorage: the file system as the process sees it, starting in a home directory.

Handles are descriptors. Everything that resolves a path to a file is in three small methods (_open,
_place, stat), so that the jail (virtualchroot.py) is this storage with those replaced.
The working directory is never changed, and never used. What may not enter: wire formats, sessions.
Facts: POSIX and the Linux manual's section 2 for what calls do; sftp-server.c for the order of errors.
"""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR, S_ISLNK, S_ISREG

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error
from pysftpserver.host import accounts
from pysftpserver.host.budget import Budget
from pysftpserver.host.entries import Listing, Place, path_of_descriptor
from pysftpserver.pysftpexceptions import SFTPNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    Target = int | bytes | str

MOST_LINKS = 40  # followed in one path, as in the kernel
BILLION = 1_000_000_000  # nanoseconds in a second
PATH_MAX = 4096  # bytes, including the NUL byte that ends a path in the kernel
MAX_OFFSET = (1 << 63) - 1  # bytes, as the kernel counts
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
FAR_OUT = 1 << 40  # bytes; nearer offsets are valid on every file system


class SFTPServerStorage(SFTPAbstractServerStorage):
    """The plain storage: whatever the process may reach.

    home: the directory where sessions start. umask: applied to what this storage creates, in place of the
    process's umask; None: the process's.
    """

    home: bytes
    uses_network = False

    def __init__(self, home: str | bytes | os.PathLike[str], umask: int | None = None) -> None:
        self.home = os.path.abspath(os.fsencode(home))
        self.umask = umask
        self._refuses_links = False
        self._process_umask = 0 if umask is None else _process_umask()
        # Load now what is needed later: an upgrade may replace the package meanwhile.
        import pysftpserver.host.linux  # noqa: F401

    # --- how a path becomes a file: what the jail replaces -------------------------------------------

    def _open(self, path: bytes, flags: int, mode: int = 0) -> int:
        """A descriptor for path, links followed unless flags say otherwise."""
        if self._refuses_links:
            from pysftpserver.virtualchroot import open_without_links

            return open_without_links(path, flags | os.O_CLOEXEC, mode)
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def _place(self, path: bytes) -> Place:
        """The directory entry that path names, without its slash, which some calls treat in odd ways."""
        stripped = path.rstrip(b"/")
        parent, _, name = stripped.rpartition(b"/")
        if name in (b"", b".", b".."):
            return Place(None, path)
        must_be_directory = len(stripped) < len(path)
        if self._refuses_links:
            return Place(self._open(parent or b"/", DIRECTORY), name, True, must_be_directory)
        return Place(None, stripped, must_be_directory=must_be_directory)

    def stat(self, path: bytes) -> SFTPAttributes:
        if self._refuses_links:
            descriptor = self._open(path, os.O_PATH)
            try:
                return SFTPAttributes.from_stat(os.fstat(descriptor))
            finally:
                os.close(descriptor)
        return SFTPAttributes.from_stat(os.stat(path))

    def refuse_links(self) -> None:
        """From now on, fail for paths with links: the caller resolves links and `..` first.

        So a link that appears between that and the call is not followed.
        """
        import pysftpserver.virtualchroot  # noqa: F401 -- now, as in __init__()

        self._refuses_links = True

    # --- names ------------------------------------------------------------------------------------

    def _open_without_links(self, path: bytes) -> int:
        """A descriptor for path; raises OSError if a link is on the way, or if the kernel cannot say."""
        from pysftpserver.host.linux import AT_FDCWD, RESOLVE_NO_SYMLINKS, openat2

        return openat2(AT_FDCWD, b"/" + path, os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS)

    def realpath(self, path: bytes) -> bytes:
        if len(path) >= PATH_MAX:
            raise os_error(errno.ENAMETOOLONG)
        try:
            os.close(self._open_without_links(path))
        except (OSError, ValueError):
            pass
        else:
            return _without_dots(path)
        names: list[bytes] = []
        todo = path.split(b"/")[::-1]
        links = 0
        budget = Budget()
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del names[-1:]
                continue
            names.append(name)
            budget.take()
            try:
                target = self.readlink(b"/" + b"/".join(names))
            except FileNotFoundError:
                if todo:
                    raise
                break  # the last component may be missing
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                continue  # not a link
            links += 1
            if links > MOST_LINKS:
                raise os_error(errno.ELOOP)
            names = [] if target.startswith(b"/") else names[:-1]
            todo += target.split(b"/")[::-1]
        return b"/" + b"/".join(names)

    def _final(self, path: bytes) -> bytes:
        """The path of the file that opening path reaches: links are followed."""
        return path if self._refuses_links else self.realpath(path)

    def userhome(self, user: bytes) -> bytes:
        if not user:
            return self.home
        import pwd

        try:
            return os.fsencode(pwd.getpwnam(os.fsdecode(user)).pw_dir)
        except (KeyError, ValueError):
            raise SFTPNotFound("No such user") from None

    def username(self, uid: int) -> bytes | None:
        return accounts.username(uid)

    def groupname(self, gid: int) -> bytes | None:
        return accounts.groupname(gid)

    # --- attributes -------------------------------------------------------------------------------

    def lstat(self, path: bytes) -> SFTPAttributes:
        if path.endswith(b"/"):
            return self.stat(path)
        with self._place(path) as place:
            return SFTPAttributes.from_stat(place.lstat())

    def fstat(self, handle: int) -> SFTPAttributes:
        return SFTPAttributes.from_stat(os.fstat(handle))

    def path_of(self, handle: int) -> bytes | None:
        return path_of_descriptor(handle)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._change(path, os.O_PATH, attrs)

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._change(path, os.O_PATH | os.O_NOFOLLOW, attrs)

    def _change(self, path: bytes, flags: int, attrs: SFTPAttributes) -> None:
        if attrs == SFTPAttributes(size=attrs.size):
            _check_size(attrs.size)  # truncate(2) looks at the size before the path
        descriptor = self._open(path, flags)
        try:
            # Like a path, an O_PATH descriptor needs no permission on the file. The calls that change
            # attributes take it by its name in /proc, which belongs to the kernel and not to the user.
            change_attributes(f"/proc/self/fd/{descriptor}", attrs)
        finally:
            os.close(descriptor)

    def fsetstat(self, handle: int, attrs: SFTPAttributes) -> None:
        change_attributes(handle, attrs)

    # --- directories ------------------------------------------------------------------------------

    def opendir(self, path: bytes) -> Listing:
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
        try:
            return Listing(descriptor, lambda: self.stat(path + b"/.."))
        except BaseException:
            os.close(descriptor)
            raise

    def mkdir(self, path: bytes, mode: int) -> None:
        with self._place(path) as place:
            if self.umask is None:
                os.mkdir(place.name, mode, dir_fd=place.directory)
                return
            mode &= ~self.umask
            os.mkdir(place.name, mode, dir_fd=place.directory)
        if mode & self._process_umask:
            # If a link has taken the new directory's place meanwhile, it is not followed.
            self.lsetstat(path, SFTPAttributes(permissions=mode))

    def rmdir(self, path: bytes) -> None:
        with self._place(path) as place:
            os.rmdir(place.existing().name, dir_fd=place.directory)

    # --- files ------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> int:
        # Without O_NONBLOCK, opening a FIFO would block the whole session until its other end is opened.
        flags |= os.O_NONBLOCK | os.O_NOCTTY
        if not flags & os.O_CREAT:
            return self._open(path, flags)
        if self.umask is None:
            return self._open(path, flags, mode)
        mode &= ~self.umask
        if not mode & self._process_umask:
            return self._open(path, flags, mode)
        # The process's umask would take away more than this storage's. Only O_EXCL tells whether the
        # file is new and its mode ours to set. (New at the end of a dangling link: the process's rules.)
        try:
            descriptor = self._open(path, flags | os.O_EXCL, mode)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            return self._open(path, flags, mode)
        os.fchmod(descriptor, mode)
        return descriptor

    def read(self, handle: int, off: int, size: int) -> bytes:
        if off >= FAR_OUT:
            _check_offset(handle, off)
        # As in OpenSSH, reading 0 bytes does not touch the file: it works even on one not open for reading.
        return os.pread(handle, size, off) if size else b""

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        if off >= FAR_OUT:
            _check_offset(handle, off)
        done = os.pwrite(handle, chunk, off)
        while done < len(chunk):  # a full disk or a limit: the next call says which
            count = os.pwrite(handle, memoryview(chunk)[done:], off + done)
            if not count:
                raise os_error(errno.EIO)
            done += count

    def close(self, handle: int) -> None:
        os.close(handle)

    def fsync(self, handle: int) -> None:
        os.fsync(handle)

    def sync_directory(self, path: bytes) -> None:
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def fileno(self, handle: int) -> int | None:
        return handle

    # --- the tree ---------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        with self._place(path) as place:
            os.unlink(place.existing().name, dir_fd=place.directory)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        if not replace:
            self.lstat(old)  # a missing file is reported first, whatever is wrong with the new name
        with self._place(old) as source, self._place(new) as target:
            if source.must_be_directory or target.must_be_directory:
                self._check_slashes(source, target, new, replace)
            if replace:
                os.rename(source.name, target.name, src_dir_fd=source.directory, dst_dir_fd=target.directory)
            else:
                _rename_to_free_name(source, target)

    def _check_slashes(self, source: Place, target: Place, new: bytes, replace: bool) -> None:
        """Raise OSError if `name/` is wrong in a rename: the kernel gets the names without the slash."""
        if source.is_dots() or target.is_dots():
            return  # the kernel's own checks are enough
        kind = source.lstat().st_mode
        if not replace and target.exists():
            if target.must_be_directory and not S_ISREG(kind):
                try:
                    self.stat(new)
                except NotADirectoryError:
                    raise
                except OSError:
                    pass
            raise os_error(errno.EEXIST)
        source.existing()
        if target.must_be_directory and not S_ISDIR(kind):
            raise os_error(errno.ENOTDIR)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        if not target or len(target) >= PATH_MAX:  # before the path is looked at, as in symlink(2)
            number = errno.ENAMETOOLONG if target else errno.ENOENT
            raise OSError(number, os.strerror(number))
        with self._place(linkpath) as place:
            os.symlink(target, place.for_a_new_file().name, dir_fd=place.directory)

    def readlink(self, path: bytes) -> bytes:
        if path.endswith(b"/"):
            self.stat(path)
            raise os_error(errno.EINVAL)  # a directory, not a link
        with self._place(path) as place:
            return self._link_at(place)

    def _link_at(self, place: Place) -> bytes:
        return os.readlink(place.name, dir_fd=place.directory)

    def link(self, old: bytes, new: bytes) -> None:
        self.lstat(old)
        with self._place(old) as source, self._place(new) as target:
            target.for_a_new_file()
            if source.must_be_directory:
                if target.exists():
                    raise os_error(errno.EEXIST)
                raise os_error(errno.EPERM)
            os.link(
                source.name,
                target.name,
                src_dir_fd=source.directory,
                dst_dir_fd=target.directory,
                follow_symlinks=False,
            )

    def statvfs(self, path: bytes) -> os.statvfs_result:
        descriptor = self._open(path, os.O_PATH)
        try:
            return os.statvfs(descriptor)
        finally:
            os.close(descriptor)

    def fstatvfs(self, handle: int) -> os.statvfs_result:
        return os.statvfs(handle)


def change_attributes(target: Target, attrs: SFTPAttributes) -> None:
    """Change the fields that are set: size, permissions, times, owner, in this order.

    target: a descriptor or a path. After a failure the rest is still tried, and the last failure is
    raised. This is what OpenSSH does, and what `put -p` by another owner relies on.
    """
    failure = None
    steps = (_change_size, _change_permissions, _change_times, _change_owner)
    for step in steps:
        try:
            step(target, attrs)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure


def _change_size(target: Target, attrs: SFTPAttributes) -> None:
    if attrs.size is not None:
        _check_size(attrs.size)
        os.truncate(target, attrs.size)


def _change_permissions(target: Target, attrs: SFTPAttributes) -> None:
    if attrs.permissions is not None:
        if S_ISLNK(os.stat(target).st_mode):  # some file systems would do it, and nothing honours it
            raise os_error(errno.EOPNOTSUPP)
        os.chmod(target, attrs.permissions & 0o7777)


def _change_times(target: Target, attrs: SFTPAttributes) -> None:
    if attrs.mtime is not None or attrs.atime is not None:
        os.utime(target, ns=_times(attrs, os.stat(target)))


def _change_owner(target: Target, attrs: SFTPAttributes) -> None:
    if attrs.uid is not None or attrs.gid is not None:
        os.chown(target, *_owner(attrs))


def _times(attrs: SFTPAttributes, st: os.stat_result) -> tuple[int, int]:
    """atime and mtime in nanoseconds; one that is not set stays as it is."""
    atime = st.st_atime_ns if attrs.atime is None else attrs.atime * BILLION
    mtime = st.st_mtime_ns if attrs.mtime is None else attrs.mtime * BILLION
    return atime, mtime


def _owner(attrs: SFTPAttributes) -> tuple[int, int]:
    """uid and gid, -1 for the one that stays; the wire's 2**32 - 1 is -1 too, as in chown(2)."""
    numbers = (-1 if number is None else number for number in (attrs.uid, attrs.gid))
    uid, gid = (-1 if number == 0xFFFFFFFF else number for number in numbers)
    return uid, gid


def _check_size(size: int | None) -> None:
    """Raises OSError(EINVAL) for a size that no file can have."""
    if size is not None and size > MAX_OFFSET:
        raise os_error(errno.EINVAL)


def _check_offset(handle: int, offset: int) -> None:
    """Raises OSError(EINVAL) for an offset that the file system cannot have, as OpenSSH's seek does."""
    if offset > MAX_OFFSET:
        raise os_error(errno.EINVAL)
    os.lseek(handle, offset, os.SEEK_SET)


def _rename_to_free_name(source: Place, target: Place) -> None:
    """Rename; an existing target is an error. Free of races, except in the last case below."""
    from pysftpserver.host.linux import rename_noreplace

    try:
        rename_noreplace(source.directory, source.name, target.directory, target.name)
        return
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    # This file system lacks that call. For a file: link, then unlink, which is free of races too.
    ends = {"src_dir_fd": source.directory, "dst_dir_fd": target.directory}
    if S_ISREG(source.lstat().st_mode):
        os.link(source.name, target.name, follow_symlinks=False, **ends)
        os.unlink(source.name, dir_fd=source.directory)
        return
    if target.exists():
        raise os_error(errno.EEXIST)
    os.rename(source.name, target.name, **ends)


def _without_dots(path: bytes) -> bytes:
    """The absolute form of a path that has no links on it."""
    kept: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            del kept[-1:]
        elif name not in (b"", b"."):
            kept.append(name)
    return b"/" + b"/".join(kept)


def _process_umask() -> int:
    # umask(2) returns the umask only by changing it for a moment, in every thread; /proc just shows it.
    with open("/proc/self/status", "rb") as status:
        line = next(line for line in status if line.startswith(b"Umask:"))
    return int(line.split()[1], 8)
