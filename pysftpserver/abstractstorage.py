"""The plugin interface: where files live, as every door sees it.

A storage is a class with some of the methods below. A method that it does not override raises
SFTPUnsupported, which a client sees as SSH_FX_OP_UNSUPPORTED: a storage with three methods is an honest
three-method storage. It may raise the exceptions of pysftpexceptions, or any OSError with an errno.

Paths are bytes, `/`-separated and rooted at the storage: b"/" is its top. The server joins a relative
path to `home` and hands every path over otherwise untouched; what `..` and links mean is the storage's
business. A storage that leaves `home` at None gets paths exactly as the client sent them.

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
        """The figures of a file system; os.statvfs_result is one of these."""

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
            """Whether result() has an answer now. Does not wait."""

        def result(self) -> Any:
            """Wait; return or raise what read() or write() would."""

        def fileno(self) -> int:
            """A descriptor that is readable when is_kept() should be asked again."""

        def seconds_left(self) -> float:
            """After this time, is_kept() has to be asked even if the descriptor is not readable."""


class SFTPAbstractServerStorage:
    """The base class of all storages. Subclass it and write the methods that your storage has.

    What every method raises: SFTPNotFound (or FileNotFoundError, NotADirectoryError) for what is not there,
    SFTPForbidden (or PermissionError) for what this user may not do, SFTPFailure (or the OSError that names
    it: EEXIST, ENOTEMPTY, EISDIR, ENOSPC, ...) for what is there and in the way, SFTPBadMessage (or EINVAL,
    ENAMETOOLONG) for what makes no sense, SFTPUnsupported for what the storage does not do.

    What methods take: path, old, new and linkpath are paths. handle, source and target are what open() has
    returned. off, target_off and size are bytes. mode has POSIX permission bits. attrs has the fields to
    change; those that are None stay. uid and gid are numbers of the host. Times are whole seconds since the
    epoch.
    """

    #: Where sessions start, an absolute path of the storage; None: paths arrive as the client sent them.
    home: bytes | None = None

    #: Whether it talks to other hosts, or may: then a sandbox leaves it the network.
    uses_network: bool = True

    #: Methods that this storage has, and that cannot work on what is behind it, such as "link" or
    #: "rename(replace)": extensions that need them are not announced.
    lacks: frozenset[str] = frozenset()

    #: Bytes of promised reads that are needed in flight to be fast; 0: nothing is promised.
    window: int = 0

    def territory(self) -> Sequence[int] | None:
        """Descriptors of the directories beneath which it opens, makes, removes and renames files.

        Optional. A door that confines its process asks for it once, just before nothing else can be opened,
        modules to import included. None: the storage may need any file.
        """
        return None

    def reads(self) -> Sequence[str]:
        """Paths of files and directories of this host that it reads besides, such as those with credentials.

        Optional. The same door asks for it after territory(). What is not there is left out.
        """
        return ()

    def release(self) -> None:
        """Give up what is this session's alone, such as a connection: the session is over.

        Called after all handles are closed, by doors that go on to serve others. By default, does nothing.
        """

    # --- names ------------------------------------------------------------------------------------

    def realpath(self, path: bytes) -> bytes:
        """The canonical absolute form of path; its last component may be missing.

        By default by the text alone: right for storages without links.
        """
        return b"/" + posixpath.normpath(b"/" + path).lstrip(b"/")

    def userhome(self, user: bytes) -> bytes:
        """Where the user of that name starts; b"" is the session's own user.

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
        """Attributes of what path leads to, links followed."""
        raise SFTPUnsupported

    def lstat(self, path: bytes) -> SFTPAttributes:
        """Attributes of path itself, even if it is a link."""
        raise SFTPUnsupported

    def fstat(self, handle: Any) -> SFTPAttributes:
        """Attributes of an open file."""
        raise SFTPUnsupported

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        """Change the fields that are set in attrs, links followed: size, permissions, times, owner."""
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

        It is read lazily while the client asks for more, and closed (its close(), where it has one)
        when the client closes the directory or the session ends. Raises what is wrong with the path
        at once, not at the first entry.
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
        """Up to size bytes from offset off; fewer only before the end of the file, none behind it."""
        raise SFTPUnsupported

    def write(self, handle: Any, off: int, chunk: bytes | memoryview) -> None:
        """Store all of chunk at offset off, or raise. A handle opened with O_APPEND ignores off.

        chunk is bytes; for a handle with a fileno() it is a view that is valid only during the call.
        """
        raise SFTPUnsupported

    def check_write(self, handle: Any, off: int, size: int) -> None:
        """Raise if size bytes may not be stored at offset off.

        Asked before content is copied into a file through its fileno() or by copy_range(), without write().
        By default, does nothing.
        """

    def promise_read(self, handle: Any, off: int, size: int) -> Promise | None:
        """Begin what read() does with these arguments, and return at once; None: read() has to be called.

        Optional, for storages that wait for other hosts, with `window`: a door that moves content then has
        many reads and writes in flight, and answers each when its promise is kept. They are begun in order.
        """
        return None

    def promise_write(self, handle: Any, off: int, chunk: bytes | memoryview) -> Promise | None:
        """The same for write(). chunk: may be a view that is valid only during the call."""
        return None

    def copy_range(self, source: Any, off: int, size: int, target: Any, target_off: int) -> int | None:
        """Copy up to size bytes from off in source to target_off in target, where they are; return how many.

        None: this cannot, and nothing was copied. Optional: without it, content is copied by read() and
        write().
        """
        return None

    def path_of(self, handle: Any) -> bytes | None:
        """The path at which an open file is now, without links in it; None: that is not known.

        Optional: others may have renamed the file, or a directory on the way to it, since it was opened.
        """
        return None

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        """A digest of all that is in the file that path leads to, if the storage has it; else None.

        Optional: without it, content is read. algorithm: md5, sha1, sha224, sha256, sha384, sha512 or crc32.
        Whatever is not certain to be of the content that open() would find now is None.
        """
        return None

    def close(self, handle: Any) -> None:
        """Close a handle for the client. Called exactly once for each handle, unless abandon() is."""
        raise SFTPUnsupported

    def abandon(self, handle: Any) -> None:
        """Close a handle that was open when its session ended: what was written may be half a file.

        By default, the same as close().
        """
        self.close(handle)

    def spoil(self, handle: Any) -> None:
        """Note that content which the client wanted in this file is missing: a hook refused a WRITE, or a
        copy failed halfway. Many clients close the file as if nothing had happened. By default, does nothing.
        """

    def fsync(self, handle: Any) -> None:
        """Return when all that was written is safe from a crash."""
        raise SFTPUnsupported

    def sync_directory(self, path: bytes) -> None:
        """Return when the names in a directory are safe from a crash: what fsync() is for a file's content.

        Storages whose names are safe when a method returns need not override it.
        """
        raise SFTPUnsupported

    def check_root(self) -> None:
        """Raise SFTPFailure if the storage's place is no longer where new sessions would find it.

        Doors ask before they say that something is stored. By default, does nothing.
        """

    def fileno(self, handle: Any) -> int | None:
        """The descriptor of the real file behind a handle, or None.

        Optional: with it, a door may move data through the descriptor instead of through read() and write().
        A subclass that overrides read() or write() and not this one is asked through its own methods.
        """
        return None

    # --- the tree ---------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        """Remove a file or a link."""
        raise SFTPUnsupported

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        """Rename; an existing target is an error, or with replace is replaced atomically."""
        raise SFTPUnsupported

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        """Make a symbolic link at linkpath that holds the text target."""
        raise SFTPUnsupported

    def readlink(self, path: bytes) -> bytes:
        """The text of a symbolic link."""
        raise SFTPUnsupported

    def link(self, old: bytes, new: bytes) -> None:
        """Make new another name (a hard link) of the file old."""
        raise SFTPUnsupported

    def statvfs(self, path: bytes) -> StatVFS:
        """Figures of the file system that holds path: an os.statvfs_result, or what looks like one."""
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
    """What checksum() says, if it means the same as reading the file; else None."""
    return storage.checksum(path, algorithm) if speaks_for(storage, "checksum", "read") else None


TAKES_ANY_KEYWORD = 0x08  # inspect.CO_VARKEYWORDS, without importing inspect


def overrides(cls: type, need: str) -> bool:
    """Whether a storage class has a method of its own; `rename(replace)` asks for that argument as well."""
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

    follow: whether one at its end counts. Raises what realpath() does.
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

    It may not when a subclass overrides the other and leaves this one as its base class has it: a storage
    that decrypts in read() must not be bypassed.
    """
    if method in getattr(storage, "__dict__", ()):
        return False
    for cls in type(storage).__mro__:
        if instead in vars(cls):
            return True
        if method in vars(cls):
            return False
    return False
