"""SFTP's atomic uploads: new and truncated files become visible, complete, when the client closes them.

AtomicUploads goes in front of a storage of real files and changes what open() and close() mean for files
that are created or truncated: they are received in a temporary file. Other open files are left to the
storage. The descriptor of the directory and the last name are kept while the file is open, so that it is
renamed where it was opened, even if the path has changed. It is discarded if a part of it could not be
written, or if the client has not closed it when the session ends. A client that opens a file again while it
is received gets another handle of the same upload, which is complete when the last handle is closed: some
clients send a file in segments. Other sessions cannot open it until then. A server that is killed leaves the
temporary file without a lock, and remove_leftovers() of a later session removes it.
What may not enter: sessions, wire formats, how a path is resolved.
Facts: rename(2), flock(2), open(2), close(2), acl(5).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from stat import S_IMODE, S_IRWXU, S_ISGID, S_ISREG, S_ISUID, S_IXGRP

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error
from pysftpserver.host.linux import rename_noreplace
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.uploads import leftovers, temporary
from pysftpserver.uploads.files import TemporaryFile
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ATTEMPTS = 100  # to open and lock a temporary file
WRITABLE = os.O_WRONLY | os.O_RDWR
DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC
LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
TIME_TO_LOOK = 2.0  # seconds to search for leftovers; a client is waiting
MOST_TO_DO = 100_000  # directories that wait to be searched: memory
MOST_LOOKED_AT = 10_000  # directories that open() remembers: memory
TIMES_BUSY, TIME_TO_REMOVE = 3, 0.01  # tries, and seconds between them, for a file that is locked
IN_USE = "Another session is uploading this file; try again when it has ended"
ACCESS_LIST = "system.posix_acl_access"


class Upload(TemporaryFile):
    """A locked temporary file of the host, which a client writes to.

    handle: the client's first descriptor, which has the lock; the storage closes it after commit() or
    discard(). handles: how many the client has. directory: a descriptor of its directory. temporary, name:
    its current and its final name there. exclusive: whether the final name must be free when the file is
    renamed. broken: whether something could not be written. durable: whether the file has to survive a crash,
    for example because the client asked for fsync. mode: its final permissions. Until then, only the owner
    can open it: users who can open a file can also lock it, and so prevent the removal of a leftover.
    check_root: the storage's.
    """

    __slots__ = (
        "broken",
        "check_root",
        "directory",
        "durable",
        "exclusive",
        "handle",
        "handles",
        "mode",
        "name",
        "temporary",
    )

    def __init__(
        self,
        handle: int,
        directory: int,
        temporary: bytes,
        name: bytes,
        exclusive: bool,
        mode: int,
        check_root: Callable[[], None],
    ) -> None:
        self.check_root = check_root
        self.handle = handle
        self.handles = 0
        self.directory = directory
        self.temporary = temporary
        self.name = name
        self.exclusive = exclusive
        self.mode = mode
        self.broken = False
        self.durable = False

    def prepare(self) -> None:
        if self.broken:  # many clients close a file that they could not write
            raise Incomplete
        os.fchmod(self.handle, self.mode)
        os.close(os.dup(self.handle))  # a file system that reports a full disk only here (NFS) does so now

    def sync(self) -> None:
        # A file system may carry out a rename before it writes the content. After a crash, the old file would
        # then be lost as well.
        if self.durable or self._replaces():
            os.fsync(self.handle)

    def _replaces(self) -> bool:
        try:
            os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def rename(self) -> None:
        self.check_root()
        if not self._has_its_name():
            raise os_error(errno.ENOENT)
        ends = {"src_dir_fd": self.directory, "dst_dir_fd": self.directory}
        if not self.exclusive:
            os.rename(self.temporary, self.name, **ends)
            return
        try:
            rename_noreplace(self.directory, self.temporary, self.directory, self.name)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            os.link(self.temporary, self.name, follow_symlinks=False, **ends)
            os.unlink(self.temporary, dir_fd=self.directory)

    def sync_name(self, synced: dict[bytes, Exception | None]) -> None:
        try:
            if self.durable:
                readable = os.open(b".", os.O_RDONLY | DIRECTORY, dir_fd=self.directory)
                try:
                    os.fsync(readable)
                finally:
                    os.close(readable)
        except OSError as error:  # as in sync_directory()
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL):
                raise

    def finish(self) -> None:
        self.check_root()
        self._close()

    def discard(self) -> None:
        if self.directory < 0:
            return
        try:
            with contextlib.suppress(OSError):
                if self._has_its_name():
                    os.unlink(self.temporary, dir_fd=self.directory)
        finally:
            self._close()

    def _has_its_name(self) -> bool:
        """Whether this file still has its temporary name.

        A client may have removed it or put another file there; once this file is renamed, the next upload
        takes the name.
        """
        try:
            there = os.stat(self.temporary, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self.handle))

    def _close(self) -> None:
        os.close(self.directory)
        self.directory = -1


class Incomplete(SFTPFailure):
    """An upload is discarded because a part of it is missing."""

    def __init__(self) -> None:
        super().__init__("Not put in place: a part of it could not be written")


class AtomicUploads(SFTPServerStorage):
    """A mixin that goes in front of a storage of real files, as in the two classes below."""

    _uploads: dict[int, Upload] = {}  # by descriptor; each storage makes its own dict for the first one
    _syncs_new = False  # whether uploads have to survive a crash even if they replace nothing
    _looked_everywhere = False
    _looked_at: frozenset[bytes] | set[bytes] = frozenset()  # directories; as above

    # --- files that are created or truncated ----------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> int:
        if not flags & WRITABLE or path.endswith(b"/"):
            return super().open(path, flags, mode)
        upload = self._upload_of(path) if self._uploads else None
        if upload is not None:
            return self._open_again(upload, flags)
        if not flags & (os.O_CREAT | os.O_TRUNC):
            return super().open(path, flags, mode)
        existing = self._existing(path, flags)
        try:
            if existing is None or (flags & os.O_TRUNC and S_ISREG(os.fstat(existing).st_mode)):
                return self._open_upload(path, flags, mode, existing)
            opened, existing = existing, None
            return opened  # a file that keeps its content, or not a regular file: written in place
        finally:
            if existing is not None:
                with contextlib.suppress(OSError):  # nothing was written there, and the upload may be open
                    os.close(existing)

    def _upload_of(self, path: bytes) -> Upload | None:
        """The upload of this session to that path."""
        parent, _, name = self._final(path).rpartition(b"/")
        of_that_name = {upload for upload in self._uploads.values() if upload.name == name}
        if of_that_name:
            directory = self._open(parent or b"/", os.O_PATH | DIRECTORY)
            try:
                for upload in of_that_name:
                    if os.path.samestat(os.fstat(directory), os.fstat(upload.directory)):
                        return upload
            finally:
                os.close(directory)
        return None

    def _open_again(self, upload: Upload, flags: int) -> int:
        """Another handle of an upload."""
        if flags & os.O_EXCL and flags & os.O_CREAT:
            raise os_error(errno.EEXIST)
        how = flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(upload.temporary, how, dir_fd=upload.directory)
        try:
            if not os.path.samestat(os.fstat(descriptor), os.fstat(upload.handle)):
                raise os_error(errno.ENOENT)  # a client has put another file there
            if flags & os.O_TRUNC:
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._add_handle(descriptor, upload)
        return descriptor

    def _add_handle(self, descriptor: int, upload: Upload) -> None:
        if not self._uploads:
            self._uploads = {}
        self._uploads[descriptor] = upload
        upload.handles += 1

    def _existing(self, path: bytes, flags: int) -> int | None:
        """A descriptor of the existing file, opened with these flags; None: there is none. Raises OSError."""
        if flags & os.O_EXCL and flags & os.O_CREAT:
            try:
                self.lstat(path)
            except FileNotFoundError:
                return None
            raise os_error(errno.EEXIST)
        try:
            return super().open(path, flags & ~(os.O_TRUNC | os.O_CREAT), 0)
        except FileNotFoundError:
            if flags & os.O_CREAT:
                return None
            raise

    def _open_upload(self, path: bytes, flags: int, mode: int, existing: int | None) -> int:
        # Links are followed now: the target of a link is replaced, not the link.
        parent, _, name = self._final(path).rpartition(b"/")
        if not path or not name:
            raise os_error(errno.ENOENT)
        directory = self._open(parent or b"/", os.O_PATH | DIRECTORY)
        try:
            self._look_once(parent or b"/")
            descriptor, temporary_name, mode = self._open_temporary(directory, name, flags, mode, existing)
        except BaseException:
            os.close(directory)
            raise
        exclusive = bool(flags & os.O_EXCL)
        upload = Upload(descriptor, directory, temporary_name, name, exclusive, mode, self.check_root)
        upload.durable = self._syncs_new
        self._add_handle(descriptor, upload)
        return descriptor

    def _open_temporary(
        self, directory: int, final_name: bytes, flags: int, mode: int, existing: int | None
    ) -> tuple[int, bytes, int]:
        """A new, locked file in a directory, its name, and the permissions that it will have.

        Raises SFTPFailure if another session has it.
        """
        flags = flags & ~os.O_TRUNC | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        if existing is not None:
            mode = os.fstat(existing).st_mode & S_IRWXU  # only the owner's until it is like the old one
        elif self.umask is not None:
            mode &= ~self.umask
        name = temporary.locked_name(final_name)
        busy = 0
        for _ in range(ATTEMPTS):
            try:
                descriptor = os.open(name, flags, mode, dir_fd=directory)
            except FileExistsError:
                try:
                    if not _remove_leftover(directory, name):
                        name = temporary.another_locked_name()  # or another user could stop this upload
                except BlockingIOError:
                    busy += 1
                    if busy == TIMES_BUSY:
                        raise SFTPFailure(IN_USE) from None
                    time.sleep(TIME_TO_REMOVE)  # perhaps another session is removing a leftover
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.fstat(descriptor).st_nlink:
                    raise BlockingIOError
                if existing is not None:
                    mode = _make_alike(descriptor, existing)
                elif not mode & self._process_umask:  # or the process's umask has taken more away
                    mode = S_IMODE(os.fstat(descriptor).st_mode)
                os.fchmod(descriptor, mode & S_IRWXU)
                return descriptor, name, mode
            except BlockingIOError:  # another session was faster, and takes it for a leftover
                os.close(descriptor)
            except BaseException:
                _unlink_and_close(directory, name, descriptor)
                raise
        raise os_error(errno.EAGAIN)

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        try:
            super().write(handle, off, chunk)
        except BaseException:
            self.spoil(handle)
            raise

    def spoil(self, handle: int) -> None:
        upload = self._uploads.get(handle)
        if upload is not None:
            upload.broken = True

    def fileno(self, handle: int) -> int | None:
        return handle  # reading and writing through it is as good as read() and write()

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        if replace:
            self._sync_before_rename(old, new)
        super().rename(old, new, replace)

    def _sync_before_rename(self, old: bytes, new: bytes) -> None:
        """As Upload.sync(). Errors of the paths are left to rename()."""
        try:
            self.lstat(new)
            if not S_ISREG(self.lstat(old).permissions or 0):
                return
            descriptor = self._open(old, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def fstat(self, handle: int) -> SFTPAttributes:
        attrs = super().fstat(handle)
        upload = self._uploads.get(handle)
        if upload is not None:
            attrs.permissions = (attrs.permissions or 0) & ~0o7777 | upload.mode
        return attrs

    def fsetstat(self, handle: int, attrs: SFTPAttributes) -> None:
        upload = self._uploads.get(handle)
        if upload is not None and attrs.permissions is not None:
            upload.mode = S_IMODE(attrs.permissions)
            attrs = SFTPAttributes(attrs.size, attrs.uid, attrs.gid, None, attrs.atime, attrs.mtime)
        super().fsetstat(handle, attrs)

    def fsync(self, handle: int) -> None:
        try:
            super().fsync(handle)
        except BaseException:
            self.spoil(handle)  # written content is lost, and the next fsync would not report it
            raise
        upload = self._uploads.get(handle)
        if upload is not None:
            upload.durable = True

    def close(self, handle: int) -> None:
        upload = self._uploads.pop(handle, None)
        if upload is None:
            super().close(handle)
            return
        upload.handles -= 1
        try:
            if not upload.handles:
                upload.commit()
            elif upload.broken:
                raise Incomplete
        finally:
            try:
                if handle != upload.handle:
                    super().close(handle)
            except BaseException:
                upload.broken = True  # a network file system reports failed writes here
                raise
            finally:
                if not upload.handles:
                    super().close(upload.handle)  # and with it the lock, when the name is gone

    def replaces(self, handle: int) -> SFTPAttributes | None:
        """Attributes of the file that the upload of this handle would replace now; None: no file."""
        upload = self._uploads[handle]
        try:
            found = os.stat(upload.name, dir_fd=upload.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return SFTPAttributes.from_stat(found)

    def abandon(self, handle: int) -> None:
        self.spoil(handle)
        with contextlib.suppress(Incomplete):
            self.close(handle)

    # --- what killed servers have left ------------------------------------------------------------------

    def remove_leftovers(self) -> tuple[int, bool]:
        """Remove leftovers of interrupted uploads; return how many, and whether the search was complete.

        It searches below the top of a jail, or below the home directory, for a short time. If that is not
        enough, open() searches the directory that it opens a file in.
        """
        deadline = time.monotonic() + TIME_TO_LOOK
        removed, todo = 0, [self._top()]
        while todo:
            if len(todo) > MOST_TO_DO:
                return removed, False
            count, below = self._look_through(todo.pop(), deadline)
            removed += count
            todo += below
            if time.monotonic() > deadline:
                return removed, False
        self._looked_everywhere = self._top() == b"/"
        return removed, True

    def _top(self) -> bytes:
        return b"/" if isinstance(self, SFTPServerVirtualChroot) else self.home

    def _look_once(self, path: bytes) -> None:
        """Remove the leftovers in one directory, if this session has not searched it yet."""
        if self._looked_everywhere or path in self._looked_at:
            return
        if not self._looked_at or len(self._looked_at) >= MOST_LOOKED_AT:
            self._looked_at = set()
        self._looked_at |= {path}
        self._look_through(path, time.monotonic() + TIME_TO_LOOK)

    def _look_through(self, path: bytes, deadline: float) -> tuple[int, list[bytes]]:
        """Remove the leftovers in one directory; return how many, and the directories in it."""
        below: list[bytes] = []
        return leftovers.remove_leftovers(self, path, self._candidates(path, deadline, below)), below

    def _candidates(self, path: bytes, deadline: float, below: list[bytes]) -> Iterator[bytes]:
        """The names in a directory that may be leftovers. Append the paths of its directories to below.

        Unlike a listing, it does not read each file's attributes: this is the start of a session.
        """
        directory = self._open(path, os.O_RDONLY | os.O_NONBLOCK | DIRECTORY)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        below.append(path.rstrip(b"/") + b"/" + name)
                    elif temporary.is_locked_name(name) and entry.is_file(follow_symlinks=False):
                        yield name
                    if time.monotonic() > deadline:
                        break
        finally:
            os.close(directory)


class SFTPAtomicStorage(AtomicUploads):
    """The plain storage with atomic uploads."""


class SFTPAtomicVirtualChroot(AtomicUploads, SFTPServerVirtualChroot):
    """The jail with atomic uploads."""


def _make_alike(new: int, old: int) -> int:
    """Give the new file the owner of the one it will replace, as far as this user may; return its mode.

    No user gets more access than the old file gave: if its owner or group cannot be set, their permissions
    are not given to another one. The set-uid and set-gid bits are cleared if a write in place would do so.
    """
    st = os.fstat(old)
    mode = S_IMODE(st.st_mode) & ~S_ISUID
    if mode & S_IXGRP:
        mode &= ~S_ISGID
    has_group = _change_owner(new, -1, st.st_gid)
    if not has_group:
        mode = mode & ~(0o070 | S_ISGID) | (mode & 0o007) << 3  # another group gets what all others have
    _change_owner(new, st.st_uid, -1)
    _copy_access_list(new, old if has_group else None)
    return mode


def _change_owner(descriptor: int, uid: int, gid: int) -> bool:
    """Change owner and group; return whether that worked. No error (also not EINVAL) fails the upload."""
    try:
        os.fchown(descriptor, uid, gid)
    except OSError:
        return False
    return True


def _copy_access_list(new: int, old: int | None) -> None:
    """Give the new file the access control list of the old one, or none, instead of its directory's default.

    The permission bits of a file with such a list mean something else without it.
    """
    try:
        access = None if old is None else os.getxattr(old, ACCESS_LIST)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return
        if error.errno != errno.ENODATA:
            raise
        access = None
    try:
        if access is not None:
            os.setxattr(new, ACCESS_LIST, access)
        else:
            os.removexattr(new, ACCESS_LIST)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise


def _remove_leftover(directory: int, name: bytes) -> bool:
    """Remove a temporary file that no session has locked; return False if this user must not remove it.

    Raises BlockingIOError if it is in use.
    """
    try:
        descriptor = os.open(name, LOOK, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO):
            return False
        raise
    try:
        st = os.fstat(descriptor)
        if not S_ISREG(st.st_mode) or os.geteuid() not in (0, st.st_uid):
            return False
        leftovers.lock(descriptor)
        # Another session may have removed it before it was locked, and be uploading under that name.
        if os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), st):
            os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass  # another session was faster
    finally:
        os.close(descriptor)
    return True


def _unlink_and_close(directory: int, name: bytes, descriptor: int) -> None:
    """Remove a file that was just created; another session may have removed it already."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    finally:
        os.close(descriptor)
