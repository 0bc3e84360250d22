"""A storage on an object store: S3 or a store with its API, Google Cloud Storage or Azure Blob Storage.

Files are objects whose keys are their paths, so other programs see them as they are. An upload becomes
visible when it is closed, as a whole. The parts are in storages/objects/: names (names and keys), opening,
s3 and azure (the protocols), web (HTTP), signing, credentials and google (tokens), directories (which there
exist), listing, reading, draft and buffer (writing), moving (renames of directories), care (for operators).
docs/objects.md says what is guaranteed.
What may not enter: wire formats, sessions of clients.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import time
from stat import S_IFDIR, S_IFREG

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error
from pysftpserver.host import accounts, connecting
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure, SFTPUnsupported
from pysftpserver.storages.objects import care, opening
from pysftpserver.storages.objects.directories import Directories, object_at
from pysftpserver.storages.objects.draft import Draft
from pysftpserver.storages.objects.errors import Changed, Missing
from pysftpserver.storages.objects.listing import HADOOP, entries, pages
from pysftpserver.storages.objects.moving import move_directory
from pysftpserver.storages.objects.names import Name, Place, place_of, top_of
from pysftpserver.storages.objects.reading import HEAD, Reader
from pysftpserver.storages.objects.s3 import Meta
from pysftpserver.storages.objects.task import ahead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.storages.objects.s3 import Upload

HEADS = 8  # requests at once for the times of the files in a listing
MTIME = "mtime"  # rclone's metadata: seconds since the epoch, with a fraction
A_DAY = 86_400


class Handle:
    """An open file: an object that is read, or a draft of this session, which may be written."""

    def __init__(self, flags: int, draft: Draft | None, reader: Reader | None) -> None:
        self.flags, self.draft, self.reader = flags, draft, reader
        self.is_writer = flags & os.O_ACCMODE != os.O_RDONLY
        self.is_abandoned = False


class SFTPServerObjectStorage(SFTPAbstractServerStorage):
    """The objects of one bucket, or those below a prefix of it.

    name: `s3://BUCKET/PREFIX?SETTING=VALUE&...`, `gs://...` or `az://...`, as docs/objects.md describes it.
    Requests are made only when needed: if the store cannot be reached, calls fail, and not the constructor.
    Raises ValueError for a name that cannot be used.
    """

    uses_network = True

    def __init__(self, name: str) -> None:
        self._name = Name.of(name)
        settings = opening.Settings(self._name.settings)
        self._store = opening.open_store(self._name, settings)
        self._settings = settings
        self.home = b"/"
        self._began = int(time.time())
        self._owner = os.getuid(), os.getgid()
        self._territory: list[int] = []
        self._begin(top_of(self._name.prefix))

    def _begin(self, top: str, has_markers: bool | None = None) -> None:
        self._top = top
        self._drafts: dict[str, Draft] = {}
        self._directories = Directories(self._store, top, self._has_drafts, has_markers)
        self._spool = self._settings.spool()

    @property
    def label(self) -> str:
        """The name without its settings, for messages to operators."""
        return f"{self._name.kind}://{self._name.bucket}/{self._top}"

    def at_prefix(self, prefix: str) -> SFTPServerObjectStorage:
        """Return a storage for another session that shares the connections of this one.

        prefix: what the keys of the new storage begin with. Raises ValueError for an invalid one.
        """
        other = copy.copy(self)
        other._begin(top_of(prefix), self._directories.has_markers)
        return other

    def connect(self) -> None:
        """List one key, to see whether the store answers. Raises SFTPException."""
        self._store.page(self._top, most=1)

    def close_client(self) -> None:
        """Abandon open files, abort uploads that could not be aborted before, and close idle connections."""
        drafts, self._drafts = self._drafts, {}
        for draft in drafts.values():
            with contextlib.suppress(SFTPException):
                draft.discard()
        with contextlib.suppress(SFTPException):  # gc() finds what cannot be aborted now
            while self._spool.left:
                self._store.abort(*self._spool.left.pop())
        self._store.close()

    def territory(self) -> list[int] | None:
        if self._store.reads is None:
            return None
        accounts.keep()
        self._store.prepare()
        directory = self._settings.spool_directory
        if directory is not None and not self._territory:
            self._territory.append(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return self._territory

    def reads(self) -> list[str]:
        return [*connecting.files(), *(self._store.reads or ())]

    # --- care -------------------------------------------------------------------------------------------

    def leftovers(self) -> Iterator[Upload]:
        """Uploads below the prefix that were neither completed nor aborted, those in progress included."""
        return self._store.uploads(self._top)

    def gc(self, older_than: float = A_DAY, is_dry: bool = False) -> list[str]:
        """Abort uploads that a crash has left behind; return a sentence for each.

        older_than: seconds since an upload began, so that running ones are kept. is_dry: only report.
        """
        return care.abort_old(self._store, self._top, older_than, is_dry)

    def remarks(self) -> list[str]:
        """A sentence for each object that no path leads to, and each that has the name of a directory.

        Reads all keys.
        """
        return care.remarks(self._store, self._top)

    # --- names ------------------------------------------------------------------------------------------

    def username(self, uid: int) -> bytes | None:
        return accounts.username(uid)

    def groupname(self, gid: int) -> bytes | None:
        return accounts.groupname(gid)

    def _place(self, path: bytes) -> Place:
        return place_of(self._top, path, self._store.refused)

    def _has_drafts(self, below: str) -> bool:
        return any(key.startswith(below) for key in list(self._drafts))

    def _object(self, key: str) -> Meta | None:
        return object_at(self._store, key)

    def _gone(self, place: Place) -> OSError:
        """The error for a missing file: another one if there is a directory."""
        return os_error(errno.EISDIR if self._directories.has(place) else errno.ENOENT)

    # --- attributes -------------------------------------------------------------------------------------

    def _attributes(self, mode: int, size: int, mtime: int) -> SFTPAttributes:
        uid, gid = self._owner
        return SFTPAttributes(size, uid, gid, mode, mtime, mtime)

    def _directory(self) -> SFTPAttributes:
        return self._attributes(S_IFDIR | 0o755, 0, self._began)

    def _file(self, meta: Meta | Draft) -> SFTPAttributes:
        mtime = meta.mtime
        if self._settings.has_times and isinstance(meta, Meta):
            mtime = _time_in(meta, mtime)
        return self._attributes(S_IFREG | 0o644, meta.size, mtime)

    def stat(self, path: bytes) -> SFTPAttributes:
        place = self._place(path)
        if place.is_top:
            return self._directory()
        if not place.is_directory:
            found = self._drafts.get(place.key) or self._object(place.key)
            if found is not None:
                return self._file(found)
        if self._directories.has(place):
            return self._directory()
        raise os_error(errno.ENOENT)

    lstat = stat

    def fstat(self, handle: Handle) -> SFTPAttributes:
        if handle.draft is not None:
            return self._file(handle.draft)
        assert handle.reader is not None
        return self._file(handle.reader.meta)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        place = self._place(path)
        draft = None if place.is_directory else self._drafts.get(place.key)
        if draft is not None:
            self._change(draft, attrs)
            return
        if attrs.size is not None:
            self._resize(path, attrs.size)
        if attrs.mtime is not None and self._settings.has_times:
            meta = None if place.is_directory or place.is_top else self._object(place.key)
            if meta is not None:
                self._set_time(meta, attrs.mtime)
        self.stat(path)
        self._check(attrs)

    lsetstat = setstat

    def fsetstat(self, handle: Handle, attrs: SFTPAttributes) -> None:
        if handle.draft is not None:
            if attrs.size is not None and not handle.is_writer:
                raise os_error(errno.EINVAL)
            self._change(handle.draft, attrs)
            return
        assert handle.reader is not None
        if attrs.size is not None:
            raise os_error(errno.EINVAL)
        if attrs.mtime is not None and self._settings.has_times:
            self._set_time(handle.reader.meta, attrs.mtime)
        self._check(attrs)

    def _change(self, draft: Draft, attrs: SFTPAttributes) -> None:
        self._check(attrs)
        if attrs.size is not None:
            draft.resize(attrs.size)
        if attrs.mtime is not None and self._settings.has_times:
            draft.set_time(attrs.mtime)
            if draft.handles and not draft.writers:
                draft.is_changed = True

    def _check(self, attrs: SFTPAttributes) -> None:
        """Raise SFTPUnsupported for fields that cannot be changed, if the settings say so."""
        has_time = (attrs.atime, attrs.mtime) != (None, None) and not self._settings.has_times
        has_more = (attrs.uid, attrs.gid, attrs.permissions) != (None, None, None)
        if self._settings.is_strict and (has_time or has_more):
            raise SFTPUnsupported("This store keeps no owners, permissions and times of clients")

    def _set_time(self, meta: Meta, mtime: int) -> None:
        metadata = {**(meta.metadata or {}), MTIME: str(mtime)}
        self._store.copy(meta, meta.key, metadata=metadata)

    def _resize(self, path: bytes, size: int) -> None:
        handle = self.open(path, os.O_WRONLY, 0)
        assert handle.draft is not None
        try:
            handle.draft.resize(size)
        except BaseException:
            self.abandon(handle)
            raise
        self.close(handle)

    # --- directories ------------------------------------------------------------------------------------

    def opendir(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        place = self._place(path)
        below = self._top if place.is_top else place.below
        is_empty, rows = pages(self._store, below)
        if is_empty and not self._directories.has(place):
            raise os_error(errno.ENOENT if self._object(place.key) is None else errno.ENOTDIR)
        return self._entries(below, rows)

    def _entries(
        self, below: str, rows: Iterator[list[tuple[str, Meta | None]]]
    ) -> Iterator[tuple[bytes, SFTPAttributes]]:
        directory = self._directory()
        yield b".", directory
        yield b"..", directory
        drafts = {
            key[len(below) :].encode(): draft
            for key, draft in list(self._drafts.items())
            if key.startswith(below) and "/" not in key[len(below) :]
        }
        listed: set[str] = set()  # of the directories of this session
        try:
            for page in entries(rows):
                for name, meta in self._with_times(page):
                    if meta is None and self._directories.made:
                        listed.add(f"{below}{name.decode()}/")
                    draft = drafts.pop(name, None)
                    found = meta if draft is None else draft
                    yield name, directory if found is None else self._file(found)
        finally:
            rows.close()  # type: ignore[attr-defined]
        for made in self._directories.made - listed:
            name = made[len(below) : -1].encode()
            if made.startswith(below) and name and b"/" not in name:
                yield name, directory
        for name, draft in drafts.items():
            yield name, self._file(draft)

    def _with_times(self, page: list[tuple[bytes, Meta | None]]) -> Iterator[tuple[bytes, Meta | None]]:
        if not self._settings.has_times:
            yield from page
            return

        def whole(row: tuple[bytes, Meta | None]) -> Meta | None:
            return row[1] and (self._object(row[1].key) or row[1])

        for (name, _), meta in ahead(whole, page, HEADS):
            yield name, meta

    def mkdir(self, path: bytes, mode: int) -> None:
        place = self._place(path)
        is_file = place.key in self._drafts or not place.is_top and self._object(place.key) is not None
        if is_file or self._directories.has(place):
            raise os_error(errno.EEXIST)
        self._directories.need_parent(place)
        self._directories.mark(place.below)
        self._directories.know(place.below)

    def rmdir(self, path: bytes) -> None:
        place = self._place(path)
        if place.is_top:
            raise os_error(errno.EBUSY)
        objects = self._store.page(place.below, most=2).objects
        if self._has_drafts(place.below) or any(meta.key != place.below for meta in objects):
            raise os_error(errno.ENOTEMPTY)
        marker = self._object(place.key + HADOOP)
        if not objects and marker is None and place.below not in self._directories.made:
            raise os_error(errno.ENOENT if self._object(place.key) is None else errno.ENOTDIR)
        self._directories.forget(place.below)
        for meta in (*objects, *([marker] if marker else ())):
            self._store.delete(meta.key)
        self._directories.keep_parent(place)

    # --- files ------------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Handle:
        place = self._place(path)
        if place.is_top:
            raise os_error(errno.EISDIR)
        if place.is_directory:
            raise self._gone(place)
        draft = self._drafts.get(place.key)
        if draft is not None:
            handle = self._open_draft(draft, flags)
            if handle is not None:
                return handle
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return self._open_to_read(place, flags)
        return self._open_to_write(place, flags)

    def _open_to_read(self, place: Place, flags: int) -> Handle:
        try:
            return Handle(flags, None, Reader(self._store, *self._store.get_first(place.key, HEAD)))
        except Missing:
            raise self._gone(place) from None

    def _open_to_write(self, place: Place, flags: int) -> Handle:
        is_new = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        is_whole = flags & os.O_TRUNC and flags & os.O_CREAT and not is_new
        base = None if is_whole else self._object(place.key)
        if base is None and not flags & os.O_CREAT:
            raise self._gone(place)
        if base is not None and is_new:
            raise os_error(errno.EEXIST)
        if base is not None and not flags & (os.O_WRONLY | os.O_RDWR):
            return self._open_to_read(place, flags)
        if base is None:
            page = self._store.page(place.below, most=1)
            if page.objects and (not is_whole or self._object(place.key) is None):
                raise os_error(errno.EISDIR)
            self._directories.need_parent(place)
        draft = Draft(self._store, self._spool, place.key, base, is_new)
        if flags & os.O_TRUNC:
            draft.resize(0)
            draft.is_changed = True
        handle = self._handle_of(draft, flags)
        assert handle is not None
        self._drafts[place.key] = draft
        return handle

    def _open_draft(self, draft: Draft, flags: int) -> Handle | None:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise os_error(errno.EEXIST)
        handle = self._handle_of(draft, flags)
        if handle is not None and flags & os.O_TRUNC and handle.is_writer:
            try:
                draft.resize(0)
            except BaseException:
                self.abandon(handle)
                raise
        return handle

    def _handle_of(self, draft: Draft, flags: int) -> Handle | None:
        """A handle; None if another client has just closed the file."""
        handle = Handle(flags, draft, None)
        return handle if draft.join(handle.is_writer) else None

    def read(self, handle: Handle, off: int, size: int) -> bytes:
        if handle.flags & os.O_ACCMODE == os.O_WRONLY:
            raise os_error(errno.EBADF)
        if handle.reader is not None:
            return handle.reader.read(off, size)
        draft = handle.draft
        assert draft is not None
        if draft.is_ended:
            handle.draft, handle.reader = None, self._stored(draft)
            return handle.reader.read(off, size)
        return draft.read(off, size)

    def _stored(self, draft: Draft) -> Reader:
        """The object that a draft has become, for handles that only read it."""
        if draft.spoilt or draft.key is None:
            raise SFTPFailure("The file was not stored")
        return Reader(self._store, *self._store.get_first(draft.key, HEAD))

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        place = self._place(path)
        if place.is_top or place.is_directory or place.key in self._drafts:
            return None
        try:
            return self._store.digest(place.key, algorithm)
        except Missing:
            return None

    def write(self, handle: Handle, off: int, chunk: bytes | memoryview) -> None:
        draft = handle.draft
        if draft is None or not handle.is_writer:
            raise os_error(errno.EBADF)
        draft.write(draft.size if handle.flags & os.O_APPEND else off, chunk)

    def abandon(self, handle: Handle) -> None:
        handle.is_abandoned = True
        if handle.draft is not None and handle.is_writer:
            handle.draft.spoilt = handle.draft.spoilt or "the session ended before the file was closed"
        self.close(handle)

    def close(self, handle: Handle) -> None:
        if handle.reader is not None:
            handle.reader.close()
        draft = handle.draft
        if draft is None or not draft.leave(handle.is_writer):
            return
        if draft.key is not None and self._drafts.get(draft.key) is draft:
            del self._drafts[draft.key]
        if handle.is_abandoned and draft.spoilt:
            draft.discard()
            return
        if self._settings.has_times and draft.has_new_time:
            draft.metadata[MTIME] = str(draft.mtime)
        draft.commit()

    def spoil(self, handle: Handle) -> None:
        if handle.draft is not None:
            handle.draft.spoilt = handle.draft.spoilt or "a part of it could not be written"

    # --- the tree ---------------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        place = self._place(path)
        if place.is_top:
            raise os_error(errno.EISDIR)
        draft = None if place.is_directory else self._drafts.get(place.key)
        is_there = not place.is_directory and self._object(place.key) is not None
        if draft is None and not is_there:
            raise self._gone(place)
        if draft is not None:
            self._unlink(draft)
        if is_there:
            self._store.delete(place.key)
            self._directories.keep_parent(place)

    def _unlink(self, draft: Draft) -> None:
        """A draft's file is removed or replaced; its handles stay usable."""
        if draft.key is not None:
            self._drafts.pop(draft.key, None)
        draft.unlink()

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        source, target = self._place(old), self._place(new)
        if source.is_top:
            raise os_error(errno.EINVAL)
        draft = None if source.is_directory else self._drafts.get(source.key)
        meta = None if source.is_directory else self._object(source.key)
        if draft is None and meta is None:
            if not self._directories.has(source):
                raise os_error(errno.ENOENT)
            self._rename_directory(source, target, replace)
            return
        if target.is_directory and not self._directories.has(target):
            raise os_error(errno.ENOTDIR)
        self._directories.need_parent(target)
        there = self._drafts.get(target.key) or self._object(target.key)
        if there is None and self._directories.has(target):
            raise os_error(errno.EISDIR)
        if there is not None and not replace:
            raise os_error(errno.EEXIST)
        if target.key != source.key:
            self._rename_file(source, target, draft, meta, replace)

    def _rename_file(
        self, source: Place, target: Place, draft: Draft | None, meta: Meta | None, replace: bool
    ) -> None:
        if draft is not None and draft.has_begun:
            raise SFTPFailure("The file is being written to the store; rename it when it is closed")
        if meta is not None:
            try:
                self._store.copy(meta, target.key, not replace)
            except Changed:
                raise os_error(errno.EEXIST) from None
        replaced = self._drafts.get(target.key)
        if replaced is not None:
            self._unlink(replaced)
        if draft is not None:
            if draft.base is not None:
                draft.replace_base(self._store.head(target.key))
            draft.key = target.key
            self._drafts[target.key] = self._drafts.pop(source.key)
        if meta is not None:
            self._remove_old(source)

    def _remove_old(self, source: Place) -> None:
        try:
            self._store.delete(source.key)
        except SFTPException as error:
            raise SFTPFailure(
                f"The file was copied, and the old one could not be removed: {error}"
            ) from error
        self._directories.keep_parent(source)

    def _rename_directory(self, source: Place, target: Place, replace: bool) -> None:
        if target.below.startswith(source.below) and target.key != source.key:
            raise os_error(errno.EINVAL)
        there = self._drafts.get(target.key) or (None if target.is_top else self._object(target.key))
        if there is not None:
            raise os_error(errno.ENOTDIR if replace else errno.EEXIST)
        if self._directories.has(target):
            if not replace:
                raise os_error(errno.EEXIST)
            if target.key == source.key:
                return
            objects = self._store.page(target.below, most=2).objects
            if target.is_top or self._has_drafts(target.below) or any(m.key != target.below for m in objects):
                raise os_error(errno.ENOTEMPTY)
        self._directories.need_parent(target)
        if self._has_drafts(source.below):
            raise SFTPFailure("Files in this directory are being written; rename it when they are closed")
        self._directories.move(source.below, target.below)
        if self._object(source.key + HADOOP) is not None:
            self._directories.mark(target.below)
            self._store.delete(source.key + HADOOP)
        move_directory(self._store, source.below, target.below)
        self._directories.keep_parent(source)


def _time_in(meta: Meta, mtime: int) -> int:
    """The time in the metadata of an object; mtime if there is none."""
    try:
        return int(float((meta.metadata or {})[MTIME]))
    except (KeyError, ValueError, OverflowError):
        return mtime
