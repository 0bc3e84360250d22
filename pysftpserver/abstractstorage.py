"""The plugin interface: where files live, as every door sees it.

A storage is a class with some of the methods below. A method that it does not override raises
SFTPUnsupported, which a client sees as SSH_FX_OP_UNSUPPORTED: a storage may have as few methods as it can
serve. Methods may raise the exceptions of pysftpexceptions, or any OSError with an errno.

Paths are bytes, `/`-separated and rooted at the storage: b"/" is its top. The server joins a relative
path to `home` and otherwise passes every path on unchanged; the storage decides what `..` and links mean.
A storage that leaves `home` at None gets paths exactly as the client sent them.

What may not enter: wire formats, doors, sessions. Facts: the requests of draft-ietf-secsh-filexfer-02,
section 6, and of OpenSSH's extensions, which these methods serve; POSIX for what the calls mean.
"""

from __future__ import annotations

import errno
import os
import posixpath

from pysftpserver.pysftpexceptions import SFTPNotFound, SFTPUnsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Protocol

    from pysftpserver.attributes import SFTPAttributes

    class StatVFS(Protocol):
        """Statistics of a file system; os.statvfs_result has these fields."""

        @property
        def f_bsize(self) -> int: ...

        @property
        def f_frsize(self) -> int: ...

        @property
        def f_blocks(self) -> int: ...

        @property
        def f_bfree(self) -> int: ...

        @property
        def f_bavail(self) -> int: ...

        @property
        def f_files(self) -> int: ...

        @property
        def f_ffree(self) -> int: ...

        @property
        def f_favail(self) -> int: ...

        @property
        def f_fsid(self) -> int: ...

        @property
        def f_flag(self) -> int: ...

        @property
        def f_namemax(self) -> int: ...

    class Promise(Protocol):
        """A read() or write() that has begun."""

        def is_kept(self) -> bool:
            """Whether result() can answer without waiting. Does not wait itself."""

        def result(self) -> Any:
            """Wait for the answer, and return or raise what read() or write() would."""

        def fileno(self) -> int:
            """A descriptor that becomes readable when is_kept() should be called again."""

        def seconds_left(self) -> float:
            """Seconds after which is_kept() has to be called even if the descriptor is not readable."""


class SFTPAbstractServerStorage:
    """The base class of all storages. Subclass it and write the methods that your storage has.

    What every method raises: SFTPNotFound (or FileNotFoundError, NotADirectoryError) if a path does not
    exist, SFTPForbidden (or PermissionError) if this user may not do it, SFTPBadMessage (or EINVAL,
    ENAMETOOLONG) if an argument is invalid, SFTPUnsupported if the storage cannot do it, and SFTPFailure (or
    the OSError that names the reason: EEXIST, ENOTEMPTY, EISDIR, ENOSPC, ...) for any other failure.

    What methods take: path, old, new and linkpath are paths. handle, source and target are what open() has
    returned. off, target_off and size are in bytes. mode has POSIX permission bits. attrs has the fields to
    change; fields that are None stay as they are. uid and gid are numeric IDs of the host. Times are whole
    seconds since the epoch.
    """

    #: Where sessions start, an absolute path of the storage; None: paths arrive as the client sent them.
    home: bytes | None = None

    #: Whether it may talk to other hosts; if so, a sandbox leaves it network access.
    uses_network: bool = True

    #: Methods that this storage has but its backend cannot serve, such as "link" or "rename(replace)":
    #: extensions that need them are not announced.
    lacks: frozenset[str] = frozenset()

    #: Bytes of promised reads to keep in flight for full speed; 0: this storage makes no promises.
    window: int = 0

    def territory(self) -> Sequence[int] | None:
        """Descriptors of the directories below which it opens, creates, removes and renames files.

        Optional. A door that sandboxes its process calls this once, just before it does so; afterwards
        nothing else can be opened, not even modules to import. None: the storage may need any file.
        """
        return None

    def reads(self) -> Sequence[str]:
        """Paths of other files and directories of this host that it reads, such as those with credentials.

        Optional. The same door calls this after territory(). Paths that do not exist are ignored.
        """
        return ()

    def release(self) -> None:
        """Release what belongs to this session alone, such as a connection: the session is over.

        Called after all handles are closed, by doors that go on to serve other sessions. The default does
        nothing.
        """

    # --- names ------------------------------------------------------------------------------------

    def realpath(self, path: bytes) -> bytes:
        """The canonical absolute form of path; its last component may be missing.

        The default looks only at the text of path, which is right for storages without links.
        """
        return b"/" + posixpath.normpath(b"/" + path).lstrip(b"/")

    def userhome(self, user: bytes) -> bytes:
        """The home directory of the user with that name; b"" is the session's own user.

        Raises SFTPNotFound for a user that the storage does not know.
        """
        if user:
            raise SFTPNotFound("No such user")
        return self.home or b"/"

    def username(self, uid: int) -> bytes | None:
        """The name of a user for listings, or None."""
        return None

    def groupname(self, gid: int) -> bytes | None:
        """The name of a group for listings, or None."""
        return None

    # --- attributes -------------------------------------------------------------------------------

    def stat(self, path: bytes) -> SFTPAttributes:
        """Attributes of the file that path leads to; links are followed."""
        raise SFTPUnsupported

    def lstat(self, path: bytes) -> SFTPAttributes:
        """Attributes of path itself, even if it is a link."""
        raise SFTPUnsupported

    def fstat(self, handle: Any) -> SFTPAttributes:
        """Attributes of an open file."""
        raise SFTPUnsupported

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        """Change the fields that are set in attrs: size, permissions, times, owner. Links are followed."""
        raise SFTPUnsupported

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        """Change the fields that are set in attrs, on path itself even if it is a link."""
        raise SFTPUnsupported

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        """Change the fields that are set in attrs, of an open file."""
        raise SFTPUnsupported

    # --- directories ------------------------------------------------------------------------------

    def opendir(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        """An iterator of (name, attributes of the entry itself), b"." and b".." included.

        It is read lazily while the client asks for more, and closed (its close(), if it has one)
        when the client closes the directory or the session ends. Raise an error about the path here,
        not at the first entry.
        """
        raise SFTPUnsupported

    def mkdir(self, path: bytes, mode: int) -> None:
        """Make a directory. mode: permission bits before the umask."""
        raise SFTPUnsupported

    def rmdir(self, path: bytes) -> None:
        """Remove an empty directory."""
        raise SFTPUnsupported

    # --- files ------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        """Open a file and return a handle, any object.

        flags: os.O_RDONLY, O_WRONLY or O_RDWR, with any of O_APPEND, O_CREAT, O_TRUNC and O_EXCL.
        mode: permission bits, before the umask, for a file that is created.
        """
        raise SFTPUnsupported

    def read(self, handle: Any, off: int, size: int) -> bytes | bytearray | memoryview:
        """Return up to size bytes from offset off; fewer only at the end of the file, none beyond it."""
        raise SFTPUnsupported

    def write(self, handle: Any, off: int, chunk: bytes | memoryview) -> None:
        """Store all of chunk at offset off, or raise. A handle opened with O_APPEND ignores off.

        chunk is bytes; for a handle with a fileno() it is a view that is valid only during the call.
        """
        raise SFTPUnsupported

    def check_write(self, handle: Any, off: int, size: int) -> None:
        """Raise if size bytes may not be stored at offset off.

        Called before content is copied into a file through its fileno() or by copy_range() instead of
        write(). The default does nothing.
        """

    def promise_read(self, handle: Any, off: int, size: int) -> Promise | None:
        """Start a read() with these arguments and return at once; None: the caller has to use read().

        Optional, for storages that wait for other hosts and set `window`: a door that moves content keeps
        many reads and writes in flight, and answers each when its promise is kept. They start in order.
        """
        return None

    def promise_write(self, handle: Any, off: int, chunk: bytes | memoryview) -> Promise | None:
        """The same for write(). chunk: may be a view that is valid only during the call."""
        return None

    def copy_range(self, source: Any, off: int, size: int, target: Any, target_off: int) -> int | None:
        """Copy up to size bytes inside the storage, from off in source to target_off in target.

        Return the number of bytes copied; None: the storage cannot do this, and nothing was copied.
        Optional: without it, content is copied by read() and write().
        """
        return None

    def path_of(self, handle: Any) -> bytes | None:
        """The current path of an open file, without links in it; None: it is not known.

        Optional: the file, or a directory on its path, may have been renamed since it was opened.
        """
        return None

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        """The digest of the whole file that path leads to, if the storage has it; else None.

        Optional: without it, content is read. algorithm: md5, sha1, sha224, sha256, sha384, sha512 or crc32.
        Return None unless the digest is certain to be that of the content that open() would find now.
        """
        return None

    def close(self, handle: Any) -> None:
        """Close a handle for the client. Each handle gets exactly one call of close() or abandon()."""
        raise SFTPUnsupported

    def abandon(self, handle: Any) -> None:
        """Close a handle that was still open when its session ended: the file may be incomplete.

        The default calls close().
        """
        self.close(handle)

    def spoil(self, handle: Any) -> None:
        """Note that content which the client wanted in this file is missing: a hook refused a WRITE, or a
        copy failed halfway. Many clients close the file as if nothing had happened. The default does nothing.
        """

    def fsync(self, handle: Any) -> None:
        """Return when everything written so far is safe from a crash."""
        raise SFTPUnsupported

    def sync_directory(self, path: bytes) -> None:
        """Return when the names in a directory are safe from a crash, as fsync() does for a file's content.

        Storages whose names are already safe when a method returns need not override it.
        """
        raise SFTPUnsupported

    def check_root(self) -> None:
        """Raise SFTPFailure if the storage's root was moved or replaced, so that new sessions get another.

        Doors call this before they say that something is stored. The default does nothing.
        """

    def fileno(self, handle: Any) -> int | None:
        """The descriptor of the real file behind a handle, or None.

        Optional: with it, a door may move data through the descriptor instead of through read() and write().
        If a subclass overrides read() or write() but not this one, its own methods are used.
        """
        return None

    # --- the tree ---------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        """Remove a file or a link."""
        raise SFTPUnsupported

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        """Rename old to new. An existing new is an error; with replace, it is replaced atomically."""
        raise SFTPUnsupported

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        """Make a symbolic link at linkpath with the text target."""
        raise SFTPUnsupported

    def readlink(self, path: bytes) -> bytes:
        """The text of a symbolic link."""
        raise SFTPUnsupported

    def link(self, old: bytes, new: bytes) -> None:
        """Make new a hard link to the file old."""
        raise SFTPUnsupported

    def statvfs(self, path: bytes) -> StatVFS:
        """Statistics of the file system that holds path: an os.statvfs_result or an object like it."""
        raise SFTPUnsupported

    def fstatvfs(self, handle: Any) -> StatVFS:
        """The same for an open file."""
        raise SFTPUnsupported


def moves_by_descriptor(storage: SFTPAbstractServerStorage, method: str) -> bool:
    """Whether moving bytes through fileno() means the same as calling that method, "read" or "write"."""
    return speaks_for(storage, "fileno", method)


def moves_by_promise(storage: SFTPAbstractServerStorage, method: str) -> bool:
    """The same for promise_read() or promise_write()."""
    return speaks_for(storage, f"promise_{method}", method)


def known_checksum(storage: SFTPAbstractServerStorage, path: bytes, algorithm: str) -> bytes | None:
    """The result of checksum(), if it means the same as reading the file; else None."""
    return storage.checksum(path, algorithm) if speaks_for(storage, "checksum", "read") else None


TAKES_ANY_KEYWORD = 0x08  # inspect.CO_VARKEYWORDS, without importing inspect


def overrides(cls: type, need: str) -> bool:
    """Whether a storage class overrides a method; `rename(replace)` asks for that argument as well."""
    method, _, argument = need.rstrip(")").partition("(")
    own = getattr(cls, method)
    if own is getattr(SFTPAbstractServerStorage, method):
        return False
    code = getattr(own, "__code__", None)
    if not argument or code is None or code.co_flags & TAKES_ANY_KEYWORD:
        return True
    return argument in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def check_no_links(storage: SFTPAbstractServerStorage, path: bytes, follow: bool) -> None:
    """Raise OSError(ELOOP) if a canonical path leads through a link. For storages without refuse_links().

    follow: whether a link at its end counts. Raises what realpath() does.
    """
    if "readlink" in storage.lacks or not overrides(type(storage), "readlink"):
        return
    parent, slash, name = path.rpartition(b"/")
    real = (
        storage.realpath(path) if follow else storage.realpath(parent or slash).rstrip(slash) + slash + name
    )
    if real != path:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def speaks_for(storage: SFTPAbstractServerStorage, instead: str, method: str) -> bool:
    """Whether one method of a storage may be used in place of another.

    It may not if a subclass overrides `method` but inherits `instead`: a storage that decrypts in read()
    must not be bypassed.
    """
    if method in getattr(storage, "__dict__", ()):
        return False
    for cls in type(storage).__mro__:
        if instead in vars(cls):
            return True
        if method in vars(cls):
            return False
    return False
