"""Files in a bucket, with the library obstore: a plugin of pysftpserver, as an example to copy.

An object's key is its path. An upload is in an unnamed temporary file until its last close(), which stores it
as one object: whole, or not at all. Directories are the parts of keys before a slash; an empty one is known
only to the session that made it. What a bucket cannot do (renames, attributes, links) is left out. The
package has a complete storage for buckets: docs/objects.md.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from stat import S_IFDIR, S_IFREG, S_ISDIR

import obstore
from obstore.exceptions import BaseError, PreconditionError

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPBadMessage, SFTPFailure, SFTPNotFound, SFTPUnavailable

NAME_MAX = 255  # bytes, as clients expect
LONGEST_KEY = 1024  # bytes
LARGEST = 5 << 40  # bytes of an object
BLOCK = 1 << 20  # bytes to fetch at once: each request takes a while


def fail(number: int):
    """Raise the OSError for an errno."""
    raise OSError(number, os.strerror(number))


class Object:
    """An open object: its state when it was opened, and the block fetched last."""

    def __init__(self, key: str, size: int, mtime: int, tag: str | None):
        self.key, self.size, self.mtime, self.tag = key, size, mtime, tag
        self.start, self.block = 0, b""


class Draft:
    """An upload, shared by all handles of its path: its content so far."""

    def __init__(self, key: str):
        self.key: str | None = key  # None if it was removed
        self.file = tempfile.TemporaryFile(buffering=0)
        self.writers = self.handles = 0
        self.mtime = int(time.time())
        self.is_spoiled = False

    @property
    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size


class Handle:
    """What open() returns: an open object or upload, and the flags of the open."""

    def __init__(self, of: Object | Draft, flags: int):
        self.of, self.flags = of, flags
        self.is_writer = flags & os.O_ACCMODE != os.O_RDONLY


class SFTPServerS3Storage(SFTPAbstractServerStorage):
    """The objects of a store of obstore: S3Store(...), GCSStore(...), AzureStore(...), MemoryStore()."""

    home = b"/"
    uses_network = True

    def __init__(self, store):
        self._store = store
        self._began = int(time.time())
        self._drafts: dict[str, Draft] = {}
        self._made = {""}  # directories that exist although they are empty

    def _key(self, path: bytes) -> str:
        """The key of a path; "" for the top. Raises exceptions for the client to see."""
        names = self.realpath(path).split(b"/")[1:] if path else fail(errno.ENOENT)
        if any(len(name) > NAME_MAX for name in names) or sum(map(len, names)) + len(names) > LONGEST_KEY:
            fail(errno.ENAMETOOLONG)
        if any(byte < 32 or byte == 127 for name in names for byte in name):
            raise SFTPBadMessage("control characters cannot be in a key")  # obstore refuses them
        try:
            return "/".join(name.decode() for name in names)
        except UnicodeDecodeError:
            raise SFTPBadMessage("keys of objects are UTF-8") from None

    def _ask(self, call, *words, **more):
        """The result of a call of obstore. Raises exceptions for the client to see, without the store's
        address.
        """
        try:
            return call(self._store, *words, **more)
        except FileNotFoundError:
            raise SFTPNotFound from None
        except PreconditionError:
            raise SFTPFailure("another upload has replaced this file meanwhile; open it again") from None
        except (BaseError, ValueError) as error:
            raise SFTPUnavailable(f"the store does not answer as expected: {type(error).__name__}") from None

    # --- attributes -------------------------------------------------------------------------------

    def _file(self, size: int, mtime: int) -> SFTPAttributes:
        return SFTPAttributes(size, os.getuid(), os.getgid(), S_IFREG | 0o644, mtime, mtime, 1)

    def _directory(self) -> SFTPAttributes:
        return SFTPAttributes(0, os.getuid(), os.getgid(), S_IFDIR | 0o755, self._began, self._began, 2)

    def _find(self, path: bytes) -> SFTPAttributes | None:
        """The attributes of a path; None if nothing is there."""
        key = self._key(path)
        if key in self._drafts:
            found = self._file(self._drafts[key].size, self._drafts[key].mtime)
        elif key in self._made:
            return self._directory()
        else:
            try:
                meta = self._ask(obstore.head, key)
                found = self._file(meta["size"], int(meta["last_modified"].timestamp()))
            except SFTPNotFound:
                return self._directory() if self._is_used(key) else None
        if path.endswith((b"/", b"/.")):
            fail(errno.ENOTDIR)
        return found

    def _is_used(self, key: str) -> bool:
        """Whether there is something below a key."""
        found = self._ask(obstore.list_with_delimiter, key or None)
        inside = (*self._drafts, *self._made - {""})
        return bool(found["objects"] or found["common_prefixes"]) or any(_above(one) == key for one in inside)

    def _check_directory(self, key: str) -> None:
        """Raises OSError unless there is a directory with this key."""
        found = self._find(b"/" + key.encode())
        if found is None or not S_ISDIR(found.permissions):
            fail(errno.ENOENT if found is None else errno.ENOTDIR)

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._find(path) or fail(errno.ENOENT)

    lstat = stat  # there are no links

    def fstat(self, handle: Handle) -> SFTPAttributes:
        return self._file(handle.of.size, handle.of.mtime)

    # --- directories ------------------------------------------------------------------------------

    def opendir(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        key = self._key(path)
        self._check_directory(key)
        found = self._ask(obstore.list_with_delimiter, key or None)
        entries = {b".": self._directory(), b"..": self._directory()}
        made = (one for one in self._made - {""} if _above(one) == key)
        entries |= {_last(one): self._directory() for one in (*found["common_prefixes"], *made)}
        for meta in found["objects"]:
            entries[_last(meta["path"])] = self._file(meta["size"], int(meta["last_modified"].timestamp()))
        for one, draft in self._drafts.items():
            if _above(one) == key:
                entries[_last(one)] = self._file(draft.size, draft.mtime)
        return iter(entries.items())

    def mkdir(self, path: bytes, mode: int) -> None:
        if self._find(path.rstrip(b"/") or path) is not None:
            fail(errno.EEXIST)
        key = self._key(path)
        self._check_directory(_above(key))
        self._made.add(key)

    def rmdir(self, path: bytes) -> None:
        key = self._key(path)
        self._check_directory(key)
        if not key or self._is_used(key):
            fail(errno.ENOTEMPTY if key else errno.EBUSY)
        self._made.discard(key)
        self._made.add(_above(key))

    # --- files ------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Handle:
        found, key = self._find(path), self._key(path)
        if found is None:
            if not flags & os.O_CREAT:
                fail(errno.ENOENT)
            self._check_directory(_above(key))
            if path.endswith((b"/", b"/.")):
                fail(errno.EISDIR)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            fail(errno.EEXIST)
        elif S_ISDIR(found.permissions):
            fail(errno.EISDIR)
        draft = self._drafts.get(key)
        if draft is None and found is not None and flags & os.O_ACCMODE == os.O_RDONLY:
            meta = self._ask(obstore.head, key)
            of = Object(key, meta["size"], int(meta["last_modified"].timestamp()), meta["e_tag"])
            return Handle(of, flags)
        if draft is None:
            draft = Draft(key)
            if found is not None and not flags & os.O_TRUNC:  # to change a part of it, all of it is needed
                for chunk in self._ask(obstore.get, key):
                    write_all(draft.file.fileno(), bytes(chunk), draft.size)
            self._drafts[key] = draft
        elif flags & os.O_TRUNC:
            draft.file.truncate(0)
        draft.handles += 1
        return Handle(draft, flags)

    def read(self, handle: Handle, off: int, size: int) -> bytes:
        if handle.flags & os.O_ACCMODE == os.O_WRONLY:
            fail(errno.EBADF)
        of = handle.of
        if isinstance(of, Draft):
            return os.pread(of.file.fileno(), size, off)
        end = min(off + size, of.size)
        if off >= end:
            return b""
        if off < of.start or end > of.start + len(of.block):
            options = {"range": (off, min(max(end, off + BLOCK), of.size))}
            options |= {"if_match": of.tag} if of.tag else {}  # or blocks of two uploads might be mixed
            of.start, of.block = off, bytes(self._ask(obstore.get, of.key, options=options).bytes())
        return of.block[off - of.start : end - of.start]

    def write(self, handle: Handle, off: int, chunk: bytes) -> None:
        if not handle.is_writer:
            fail(errno.EBADF)
        if off + len(chunk) > LARGEST:
            fail(errno.EFBIG)
        draft = handle.of
        write_all(draft.file.fileno(), chunk, draft.size if handle.flags & os.O_APPEND else off)
        draft.mtime = int(time.time())

    def spoil(self, handle: Handle) -> None:
        handle.of.is_spoiled = True

    def abandon(self, handle: Handle) -> None:
        if isinstance(handle.of, Draft):
            handle.of.is_spoiled = True  # uploads not closed by a lost session are not stored
        try:
            self.close(handle)
        except SFTPFailure:
            pass  # nobody is there to be told

    def close(self, handle: Handle) -> None:
        draft = handle.of
        if isinstance(draft, Object):
            return
        draft.handles -= 1
        if draft.handles:
            return
        with draft.file:
            if draft.key is None:
                return
            del self._drafts[draft.key]
            if draft.is_spoiled:
                raise SFTPFailure("a part of the content is missing; the file stays as it was")
            draft.file.seek(0)
            self._ask(obstore.put, draft.key, draft.file)

    def rm(self, path: bytes) -> None:
        if S_ISDIR(self.stat(path).permissions):
            fail(errno.EISDIR)
        key = self._key(path)
        draft = self._drafts.pop(key, None)
        if draft is not None:
            draft.key = None
        try:
            self._ask(obstore.delete, key)
        except SFTPNotFound:
            pass  # it was a draft only
        self._made.add(_above(key))


def _above(key: str) -> str:
    return key.rpartition("/")[0]


def _last(path: str) -> bytes:
    return path.rstrip("/").rpartition("/")[2].encode()


def write_all(descriptor: int, data: bytes, off: int) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, off)
        view, off = view[count:], off + count
