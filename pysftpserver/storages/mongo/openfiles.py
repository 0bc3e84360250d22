"""The files that a session has open, and what it has written to them that nobody else sees yet.

All handles of a file share one OpenFile, so a session reads what it wrote. Others see the file as it was
until it is stored: when a handle that may write is closed, and at fsync. What may not enter: paths,
directories.
Facts: POSIX's rules for open files; "close-to-open" is what NFS calls this consistency.
"""

from __future__ import annotations

import datetime
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pymongo.errors import PyMongoError

from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.bucket import Bucket, changes, chunk_size, length, metadata
from pysftpserver.storages.mongo.chunks import Chunks, Reading
from pysftpserver.storages.mongo.draft import Draft
from pysftpserver.storages.mongo.errors import fail
from pysftpserver.storages.mongo.names import below, moved
from pysftpserver.storages.mongo.revisions import (
    ANYTHING,
    Conflict,
    publish,
    remove_chunks,
    revoke,
    set_fields,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.attributes import SFTPAttributes

    Document = dict[str, Any]

WORKERS = 2  # threads: one reads ahead while another writes behind
WRITABLE = os.O_WRONLY | os.O_RDWR
MAKES = os.O_CREAT | os.O_TRUNC
SPOILT = "Nothing was stored, because a part of it could not be"


class OpenFile:
    """A file that is open, or is being changed.

    name: its filename, None once it was removed. doc: its document, None before it is stored for the first
    time. draft: what it will be, or None where nothing has changed. fields: what will change in its metadata
    with that. expected: what must be at its name when it is stored.
    """

    __slots__ = (
        "doc",
        "draft",
        "expected",
        "fields",
        "handles",
        "is_in_doubt",
        "is_spoilt",
        "name",
        "writers",
    )

    def __init__(self, name: str, doc: Document | None) -> None:
        self.name: str | None = name
        self.doc = doc
        self.draft: Draft | None = None
        self.fields: Document = {}
        self.expected: object = None
        self.handles = 0
        self.writers = 0  # of the handles, those that may change it
        self.is_spoilt = False
        self.is_in_doubt = False  # whether the draft's document may be in the database

    @property
    def length(self) -> int:
        """Bytes."""
        if self.draft is not None:
            return self.draft.length
        return length(self.doc) if self.doc is not None else 0

    def as_document(self) -> Document:
        """The document that it would have, as far as attributes are concerned."""
        known = self.doc or {}
        if self.draft is None:
            return known
        fields = {**metadata(known), **self.fields}
        return {**known, "filename": self.name, "length": self.draft.length, "metadata": fields}


class Handle:
    """What a client has opened: a file, how, and how far it has read."""

    __slots__ = ("file", "flags", "reading")

    def __init__(self, file: OpenFile, flags: int) -> None:
        self.file = file
        self.flags = flags
        self.reading = Reading()

    @property
    def may_change(self) -> bool:
        """Whether closing it stores the file."""
        return bool(self.flags & (WRITABLE | MAKES))


class OpenFiles:
    """All that one session has open in a bucket. keep: whether replaced content stays, as a revision."""

    def __init__(self, bucket: Bucket, keep: bool) -> None:
        self._bucket = bucket
        self._keep = keep
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="gridfs")
        self.chunks = Chunks(bucket, self._workers)
        self._by_name: dict[str, OpenFile] = {}
        self._all: set[OpenFile] = set()
        self._doomed: list[Any] = []  # files that are gone, and still read here

    # --- who is there -----------------------------------------------------------------------------------

    def changed(self, name: str) -> OpenFile | None:
        """The file of that name, if what the session sees of it is not what is in the database."""
        file = self._by_name.get(name)
        return file if file is not None and file.draft is not None else None

    def new_in(self, directory: str) -> Iterator[OpenFile]:
        """Files in a directory that have not been stored yet."""
        first = below(directory)
        for name, file in list(self._by_name.items()):
            if file.doc is None and name.startswith(first) and "/" not in name[len(first) :]:
                yield file

    def has_new_below(self, directory: str) -> bool:
        """Whether a file that has not been stored yet is in a directory, or further down."""
        first = below(directory)
        return any(file.doc is None and name.startswith(first) for name, file in list(self._by_name.items()))

    def known(self, name: str, doc: Document | None) -> OpenFile:
        """The session's open file of that document, or one that nobody has open."""
        file = self._by_name.get(name)
        return file if file is not None and _identity(file.doc) == _identity(doc) else OpenFile(name, doc)

    def will_replace(self, name: str, doc: Document | None) -> None:
        """A file that is not stored yet has taken the name of one that is: that one has to be there still."""
        file = self._by_name[name]
        if file.expected is not ANYTHING:
            file.expected = _identity(doc)

    # --- opening and closing ----------------------------------------------------------------------------

    def open(self, name: str, doc: Document | None, flags: int, fields: Document) -> Handle:
        """Open a file, doc being its document, or make one. fields: the metadata of one that is made."""
        file = self._by_name.get(name)
        if file is None or file.draft is None and _identity(file.doc) != _identity(doc):
            file = OpenFile(name, doc)
            file.expected = _identity(doc)
        elif file.draft is None:
            file.doc = doc  # its attributes may be others by now
        handle = Handle(file, flags)
        if file.doc is None and file.draft is None:
            self._begin(file, None)
            file.fields.update(fields)
        elif flags & os.O_TRUNC:
            self._truncate(file)
        elif file.draft is None:
            file.expected = _identity(doc)
        if flags & os.O_TRUNC and not flags & os.O_EXCL:
            file.expected = ANYTHING
        self._by_name[name] = file
        self._all.add(file)
        file.handles += 1
        file.writers += handle.may_change
        return handle

    def _truncate(self, file: OpenFile) -> None:
        if file.draft is not None:
            self._resize(file, file.draft, 0)
        else:
            self._begin(file, None)
        _touch(file)

    def _begin(self, file: OpenFile, base: Document | None) -> Draft:
        if file.draft is None:
            file.draft = Draft(self._bucket, self.chunks, self._workers, base)
            if file.expected is not ANYTHING:
                file.expected = _identity(file.doc)
            _touch(file)
        return file.draft

    def close(self, handle: Handle) -> None:
        """Store what was written through it, and others, to the file, and let go of it."""
        file = handle.file
        try:
            if handle.may_change and file.draft is not None and file.name is not None:
                self.store(file)
        except BaseException:
            if file.writers == 1:  # nobody is left who could be told of it
                with suppress(PyMongoError):
                    self.give_up(handle)
            raise
        finally:
            self._let_go(handle)

    def give_up(self, handle: Handle) -> None:
        """Throw away what was written to its file, if it may have been through this handle."""
        file = handle.file
        if not handle.may_change:
            return
        try:
            self._discard(file)
        finally:
            if file.doc is None and file.name is not None:
                self.removed(file.name, [])

    def _let_go(self, handle: Handle) -> None:
        file = handle.file
        file.writers -= handle.may_change
        file.handles -= 1
        if file.handles:
            return
        self._all.discard(file)
        if file.name is not None and self._by_name.get(file.name) is file:
            del self._by_name[file.name]
        if file.doc is not None:
            self.chunks.forget(file.doc["_id"])
        try:
            self._discard(file)
        finally:
            self._remove_chunks([])

    def _discard(self, file: OpenFile) -> None:
        if file.is_in_doubt:
            self._revoke(file)
        draft, file.draft = file.draft, None
        file.fields = {}
        file.is_spoilt = False
        if draft is not None and not file.is_in_doubt:
            draft.discard()
        file.is_in_doubt = False

    # --- content ----------------------------------------------------------------------------------------

    def read(self, handle: Handle, off: int, size: int) -> bytes:
        """Up to size bytes from offset off. Raises OSError (EBADF)."""
        if handle.flags & os.O_ACCMODE == os.O_WRONLY:
            raise fail(errno.EBADF)
        file = handle.file
        size = min(size, file.length - off)
        if size <= 0:
            return b""
        if file.draft is not None:
            return file.draft.read(off, size)
        assert file.doc is not None
        doc, whole = file.doc, chunk_size(file.doc)
        first, last = off // whole, (off + size - 1) // whole
        window = handle.reading.step(first, last)
        if first == last:
            chunk = self.chunks.get(doc, first, window)
            start = off - first * whole
            return chunk if size == len(chunk) else chunk[start : start + size]
        parts = [self.chunks.get(doc, n, max(1, window - (n - first))) for n in range(first, last + 1)]
        start = off - first * whole
        parts[0] = parts[0][start:]
        parts[-1] = parts[-1][: off + size - last * whole]
        return b"".join(parts)

    def write(self, handle: Handle, off: int, chunk: bytes) -> None:
        """Store all of chunk, at the end for a handle that appends. Raises OSError (EBADF, EFBIG)."""
        if not handle.flags & WRITABLE:
            raise fail(errno.EBADF)
        if not chunk:
            return
        file = handle.file
        draft = self._begin(file, file.doc)
        try:
            draft.write(draft.length if handle.flags & os.O_APPEND else off, chunk)
        except BaseException:
            file.is_spoilt = True
            raise
        _touch(file)

    def resize(self, file: OpenFile, size: int) -> None:
        """Cut a file off, or have zeros follow. Raises OSError (EFBIG)."""
        if size != file.length:
            is_new = file.draft is None
            draft = self._begin(file, file.doc if size else None)
            try:
                self._resize(file, draft, size)
            except OSError:
                if is_new:
                    self._discard(file)
                raise
            _touch(file)

    def _resize(self, file: OpenFile, draft: Draft, size: int) -> None:
        try:
            draft.resize(size)
        except BaseException as error:
            # A size that no file can have has changed nothing.
            file.is_spoilt = file.is_spoilt or getattr(error, "errno", None) != errno.EFBIG
            raise

    def store(self, file: OpenFile) -> None:
        """Make what was written the file, for everybody. Raises what keeps it from that."""
        draft, name = file.draft, file.name
        if draft is None or name is None:
            return
        if file.is_spoilt:
            raise SFTPFailure(SPOILT)
        file.is_spoilt = True  # until it is done: a draft that was finished in vain cannot be gone on with
        draft.finish()
        content = {"_id": draft.identity, "length": draft.length, "chunkSize": draft.chunk_size}
        before = file.doc
        try:
            file.doc, gone = publish(self._bucket, name, content, file.fields, file.expected, self._keep)
        except PyMongoError:
            file.is_in_doubt = True
            self._revoke(file)
            raise
        file.draft, file.fields, file.is_spoilt = None, {}, False
        file.expected = file.doc["_id"]
        if before is not None:
            self.chunks.forget(before["_id"])
        self._remove_chunks(gone)

    def _revoke(self, file: OpenFile) -> None:
        """Take back what may have been stored; where not even that can be done, its chunks have to stay."""
        assert file.draft is not None
        with suppress(PyMongoError):
            file.is_in_doubt = not revoke(self._bucket, file.draft.identity, str(file.name))

    def _remove_chunks(self, gone: list[Any]) -> None:
        """Remove the chunks of files that are gone, now or when nobody here reads them any more."""
        self._doomed += gone
        with suppress(PyMongoError):  # the change itself is done, and --gc finds what is left over
            self._doomed = remove_chunks(self._bucket, self._doomed, self._is_read)

    def _is_read(self, identity: Any) -> bool:
        """Whether the chunks of a file are still what somebody reads here."""
        return any(
            _identity(file.doc) == identity
            or file.draft is not None
            and _identity(file.draft.base) == identity
            for file in list(self._all)  # another thread may be opening one
            if file.handles
        )

    # --- attributes -------------------------------------------------------------------------------------

    def set_attributes(self, file: OpenFile, attrs: SFTPAttributes) -> None:
        """Change the attributes of a file, but its size. Raises Conflict when it is not there any more."""
        fields = changes(attrs)
        if not fields:
            return
        if file.draft is not None:
            file.fields.update(fields)
        elif file.doc is not None:
            if file.name is not None and not set_fields(self._bucket, file.doc, fields):
                raise Conflict("Somebody else has replaced or removed this file meanwhile")
            file.doc = {**file.doc, "metadata": {**metadata(file.doc), **fields}}

    # --- names ------------------------------------------------------------------------------------------

    def removed(self, name: str, gone: list[Any]) -> None:
        """A file was removed, or another has taken its name; gone: the _ids of its revisions."""
        file = self._by_name.pop(name, None)
        if file is not None:
            file.name = None
        self._remove_chunks(gone)

    def renamed(self, old: str, new: str) -> None:
        """A file or a directory was renamed; what was at the new name is not there any more."""
        inside = below(old)
        for name in [name for name in list(self._by_name) if name == old or name.startswith(inside)]:
            file = self._by_name.pop(name)
            file.name = moved(name, old, new)
            self._by_name[file.name] = file
            if file.doc is not None:
                file.doc = {**file.doc, "filename": file.name}

    def end(self) -> None:
        """Wait for what is under way."""
        self._workers.shutdown(cancel_futures=True)


def _identity(doc: Document | None) -> Any:
    return doc["_id"] if doc is not None else None


def _touch(file: OpenFile) -> None:
    file.fields["mtime"] = datetime.datetime.now(datetime.UTC)
