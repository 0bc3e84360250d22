"""Uploads that appear whole: new and truncated files are written beside and renamed when they are closed.

AtomicUploads goes in front of a storage of real files and changes what open() and close() mean for files
that are made or emptied; every other open file is the storage's own. The descriptor of the directory and
the last name are kept while the file is open, so that the rename at the end happens where the file was
opened, whatever has become of the path. A file goes away of which a part could not be written, or that
the client has not closed when the session ends. A server that is killed leaves the file beside, with no
lock on it, and remove_leftovers() of a later session takes it away. What may not enter: sessions, wire
formats, how a path is resolved.
Facts: rename(2), flock(2), open(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from stat import S_IMODE, S_ISREG

from pysftpserver.linux import rename_noreplace
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

PREFIX = b".pysftpserver-upload-"  # of the names beside; the rest is chance
CHANCE = 8  # bytes
ATTEMPTS = 100  # at a name of one's own
WRITABLE = os.O_WRONLY | os.O_RDWR
DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC
TIME_TO_LOOK = 2.0  # seconds for leftovers; a client is waiting
MOST_TO_DO = 100_000  # directories that wait to be looked through: memory


class Upload:
    """A file that is written beside. directory: the descriptor of where it is, and stays. name: what it is
    to be called. beside: its name until then. exclusive: nothing may be there when it arrives. broken:
    whether something could not be written. synced: whether the client asked for fsync."""

    __slots__ = ("beside", "broken", "directory", "exclusive", "name", "synced")

    def __init__(self, directory: int, name: bytes, beside: bytes, exclusive: bool) -> None:
        self.directory = directory
        self.name = name
        self.beside = beside
        self.exclusive = exclusive
        self.broken = False
        self.synced = False


class AtomicUploads(SFTPServerStorage):
    """What is different in a storage of real files; to be put in front of one, as below."""

    _uploads: dict[int, Upload] = {}  # by descriptor; every storage has its own from the first on
    _looked_everywhere = False

    # --- files that are made or emptied ---------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> int:
        if not flags & WRITABLE or not flags & (os.O_CREAT | os.O_TRUNC) or path.endswith(b"/"):
            return super().open(path, flags, mode)
        existing = self._existing(path, flags)
        if existing is not None and not (flags & os.O_TRUNC and S_ISREG(existing.st_mode)):
            return super().open(path, flags, mode)  # to go on with a file, or no file: nothing to make whole
        # Links are followed now: the file that a link leads to is replaced, and not the link.
        parent, _, name = self.realpath(path).rpartition(b"/")
        directory = self._open(parent or b"/", os.O_PATH | DIRECTORY)
        try:
            if not self._looked_everywhere:
                self._look_through(parent or b"/")
            descriptor, beside = self._open_beside(directory, flags, mode, existing)
        except BaseException:
            os.close(directory)
            raise
        if not self._uploads:
            self._uploads = {}
        self._uploads[descriptor] = Upload(directory, name, beside, bool(flags & os.O_EXCL))
        return descriptor

    def _existing(self, path: bytes, flags: int) -> os.stat_result | None:
        """What is there, if it may be opened so; None for nothing. Raises what opening it would."""
        if flags & os.O_EXCL and flags & os.O_CREAT:
            try:
                self.lstat(path)
            except FileNotFoundError:
                return None
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            descriptor = super().open(path, flags & ~(os.O_TRUNC | os.O_CREAT), 0)
        except FileNotFoundError:
            if flags & os.O_CREAT:
                return None
            raise
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _open_beside(
        self, directory: int, flags: int, mode: int, existing: os.stat_result | None
    ) -> tuple[int, bytes]:
        """A new, locked file in a directory, and its name."""
        flags = flags & ~os.O_TRUNC | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = mode if self.umask is None else mode & ~self.umask
        for _ in range(ATTEMPTS):
            beside = PREFIX + os.urandom(CHANCE).hex().encode()
            descriptor = os.open(beside, flags, mode, dir_fd=directory)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    if existing is not None:
                        _make_alike(descriptor, existing)
                    elif self.umask is not None:
                        os.fchmod(descriptor, mode)  # the process's umask may have taken more away
                    return descriptor, beside
            except BlockingIOError:
                pass  # another session was quicker, and takes it for a leftover
            except BaseException:
                os.unlink(beside, dir_fd=directory)
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        try:
            super().write(handle, off, chunk)
        except BaseException:
            if handle in self._uploads:
                self._uploads[handle].broken = True
            raise

    def fileno(self, handle: int) -> int | None:
        return handle  # and so says that to read and write there is as good

    def fsync(self, handle: int) -> None:
        super().fsync(handle)
        upload = self._uploads.get(handle)
        if upload is not None:
            upload.synced = True

    def close(self, handle: int) -> None:
        upload = self._uploads.pop(handle, None)
        try:
            if upload is not None:
                self._put_in_place(upload)
        finally:
            super().close(handle)  # and with it the lock, when the name is gone

    def abandon(self, handle: int) -> None:
        upload = self._uploads.pop(handle, None)
        try:
            if upload is not None:
                _take_away(upload)
        finally:
            super().close(handle)

    def _put_in_place(self, upload: Upload) -> None:
        directory = upload.directory
        try:
            if upload.broken:  # many clients close what they could not write
                raise SFTPFailure("Not put in place: a part of it could not be written")
            if upload.exclusive:
                _link_in_place(upload)
            else:
                os.rename(upload.beside, upload.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            _take_away(upload)
            raise
        try:
            if upload.synced:
                _sync_directory(directory)
        finally:
            os.close(directory)

    # --- what a server that was killed left -------------------------------------------------------------

    def remove_leftovers(self) -> tuple[int, bool]:
        """Remove what uploads that nobody works on any more left beside; how many, and whether that is all.

        It looks beneath the top of a jail, or beneath the home directory, for a short time. Where it did
        not come to its end, open() looks once more, in the one directory that it is about.
        """
        deadline = time.monotonic() + TIME_TO_LOOK
        removed, todo = 0, [self._top()]
        while todo:
            if time.monotonic() > deadline or len(todo) > MOST_TO_DO:
                return removed, False
            count, below = self._look_through(todo.pop())
            removed += count
            todo += below
        self._looked_everywhere = self._top() == b"/"
        return removed, True

    def _top(self) -> bytes:
        return self.home

    def _look_through(self, path: bytes) -> tuple[int, list[bytes]]:
        """Remove the leftovers in one directory: how many there were, and the directories in it."""
        removed, below = 0, []
        try:
            directory = self._open(path, os.O_RDONLY | os.O_NONBLOCK | DIRECTORY)
        except OSError:
            return 0, []  # gone, or not for this user
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if name.startswith(PREFIX):
                        removed += _remove_if_left(directory, name)
                    elif entry.is_dir(follow_symlinks=False):
                        below.append(path.rstrip(b"/") + b"/" + name)
        except OSError:
            pass  # a disk's fault; whoever needs this directory will be told
        finally:
            os.close(directory)
        return removed, below


class SFTPAtomicStorage(AtomicUploads):
    """The plain storage with uploads that appear whole."""


class SFTPAtomicVirtualChroot(AtomicUploads, SFTPServerVirtualChroot):
    """The jail with uploads that appear whole."""

    def _top(self) -> bytes:
        return b"/"


def _make_alike(descriptor: int, existing: os.stat_result) -> None:
    """Give the new file the owner and the permissions of the one it will replace, as far as this user may."""
    for uid, gid in ((-1, existing.st_gid), (existing.st_uid, -1)):
        try:
            os.fchown(descriptor, uid, gid)
        except PermissionError:
            pass
    os.fchmod(descriptor, S_IMODE(existing.st_mode))


def _link_in_place(upload: Upload) -> None:
    """Rename, unless something is there by now. Raises FileExistsError."""
    directory = upload.directory
    try:
        rename_noreplace(directory, upload.beside, directory, upload.name)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        os.link(upload.beside, upload.name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        os.unlink(upload.beside, dir_fd=directory)


def _take_away(upload: Upload) -> None:
    """Remove the file beside, and be done with it."""
    try:
        os.unlink(upload.beside, dir_fd=upload.directory)
    except FileNotFoundError:
        pass  # a client may remove it by its name, too
    finally:
        os.close(upload.directory)


def _sync_directory(directory: int) -> None:
    """Make the new name safe from a crash; the client wanted that for the content."""
    try:
        readable = os.open(b".", os.O_RDONLY | DIRECTORY, dir_fd=directory)
    except PermissionError:
        return  # one that may be searched and not read; the content is safe
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


def _remove_if_left(directory: int, name: bytes) -> int:
    """Remove the file of that name if no session has it locked; 1 if that was done, else 0."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError:
        return 0
    try:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            return 0
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Put in place just now, it has this name no more, and this removes nothing.
        os.unlink(name, dir_fd=directory)
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return 1
