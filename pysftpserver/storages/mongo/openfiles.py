"""The open files of a session, with the changes that other sessions do not see yet.

All handles of a file share one OpenFile, so a session reads what it wrote. Others see the old file until the
new one is stored: when a handle that may write is closed, and at fsync. What may not enter: paths,
directories.
Facts: POSIX's rules for open files; "close-to-open" is what NFS calls this consistency.
"""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import PyMongoError

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.bucket import Bucket, Document, changes, chunk_size, length, metadata
from pysftpserver.storages.mongo.chunks import Chunks, Reading
from pysftpserver.storages.mongo.draft import Draft
from pysftpserver.storages.mongo.names import below, moved
from pysftpserver.storages.mongo.revisions import (
    ANYTHING,
    Conflict,
    publish,
    remove_chunks,
    revoke,
    set_fields,
)

WORKERS = 2  # threads: one reads ahead while another writes in the background
WRITABLE = os.O_WRONLY | os.O_RDWR
MAKES = os.O_CREAT | os.O_TRUNC
SPOILT = "Nothing was stored, because a part of it could not be"


@dataclass(eq=False)
class OpenFile:
    """A file that is open, or is being changed.

    name: its filename, None once it is removed. doc: its document, None until it is stored for the first
    time. draft: its new content, or None if nothing has changed. fields: changes of its metadata that are
    stored with the draft. expected: the _id that must have its name when it is stored.
    """

    name: str | None
    doc: Document | None
    draft: Draft | None = None
    fields: Document = field(default_factory=dict)
    expected: object = None
    handles: int = 0
    writers: int = 0  # number of handles that may change it
    is_spoilt: bool = False
    is_in_doubt: bool = False  # whether the draft's document may be in the database

    @property
    def length(self) -> int:
        """The size of the file in bytes."""
        if self.draft is not None:
            return self.draft.length
        return length(self.doc) if self.doc is not None else 0

    def as_document(self) -> Document:
        """Return the document that it would have now, with its attributes."""
        known = self.doc or {}
        if self.draft is None:
            return known
        fields = {**metadata(known), **self.fields}
        return {**known, "filename": self.name, "length": self.draft.length, "metadata": fields}


@dataclass(eq=False)
class Handle:
    """A client's handle: the file, the flags that it was opened with, and the position of its reads."""

    file: OpenFile
    flags: int
    reading: Reading = field(default_factory=Reading)

    @property
    def may_change(self) -> bool:
        """Whether closing this handle stores the file."""
        return bool(self.flags & (WRITABLE | MAKES))


class OpenFiles:
    """The open files of one session. keep: whether replaced content stays in the bucket, as a revision."""

    def __init__(self, bucket: Bucket, keep: bool) -> None:
        self._bucket = bucket
        self._keep = keep
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="gridfs")
        self.chunks = Chunks(bucket, self._workers)
        self._by_name: dict[str, OpenFile] = {}
        self._all: set[OpenFile] = set()
        self._doomed: list[Any] = []  # files that were removed and are still open here

    # --- finding open files -----------------------------------------------------------------------------

    def changed(self, name: str) -> OpenFile | None:
        """Return the open file of a name if it differs from the database, else None."""
        file = self._by_name.get(name)
        return file if file is not None and file.draft is not None else None

    def new_in(self, directory: str) -> Iterator[OpenFile]:
        """Return the files in a directory that have not been stored yet."""
        first = below(directory)
        for name, file in list(self._by_name.items()):
            if file.doc is None and name.startswith(first) and "/" not in name[len(first) :]:
                yield file

    def has_new_below(self, directory: str) -> bool:
        """Return whether a file that has not been stored yet is in a directory or below."""
        first = below(directory)
        return any(file.doc is None and name.startswith(first) for name, file in list(self._by_name.items()))

    def known(self, name: str, doc: Document | None) -> OpenFile:
        """Return the session's open file for a document, or a new OpenFile without handles."""
        file = self._by_name.get(name)
        return file if file is not None and _identity(file.doc) == _identity(doc) else OpenFile(name, doc)

    def will_replace(self, name: str, doc: Document | None) -> None:
        """Note that a file that is not stored yet was renamed over a stored one, which it will replace."""
        file = self._by_name[name]
        if file.expected is not ANYTHING:
            file.expected = _identity(doc)

    # --- opening and closing ----------------------------------------------------------------------------

    def open(self, name: str, doc: Document | None, flags: int, fields: Document) -> Handle:
        """Open a file, or create one if doc, its document, is None. fields: the metadata of a new file."""
        file = self._by_name.get(name)
        if file is None or file.draft is None and _identity(file.doc) != _identity(doc):
            file = OpenFile(name, doc)
            file.expected = _identity(doc)
        elif file.draft is None:
            file.doc = doc  # its attributes may have changed
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
        """Close a handle. If it may change the file, store what was written through all handles."""
        file = handle.file
        try:
            if handle.may_change and file.draft is not None and file.name is not None:
                self.store(file)
        except BaseException:
            if file.writers == 1:  # the file was removed, so there is no name to store it under
                with suppress(PyMongoError):
                    self.give_up(handle)
            raise
        finally:
            self._let_go(handle)

    def give_up(self, handle: Handle) -> None:
        """Discard what was written to the file, if this handle may have written to it."""
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
        """Return up to size bytes from offset off. Raises OSError (EBADF)."""
        if handle.flags & os.O_ACCMODE == os.O_WRONLY:
            raise os_error(errno.EBADF)
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
        """Write all of chunk, at the end for a handle that appends. Raises OSError (EBADF, EFBIG)."""
        if not handle.flags & WRITABLE:
            raise os_error(errno.EBADF)
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
        """Truncate a file, or extend it with zeros. Raises OSError (EFBIG)."""
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
            # An impossible size has changed nothing.
            file.is_spoilt = file.is_spoilt or getattr(error, "errno", None) != errno.EFBIG
            raise

    def store(self, file: OpenFile) -> None:
        """Store what was written, so that all sessions see it. Raises an exception if that fails."""
        draft, name = file.draft, file.name
        if draft is None or name is None:
            return
        if file.is_spoilt:
            raise SFTPFailure(SPOILT)
        file.is_spoilt = True  # until it succeeds: writing to a finished draft is not possible
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
        """Revoke a document that may have been stored. If that fails too, keep its chunks."""
        assert file.draft is not None
        with suppress(PyMongoError):
            file.is_in_doubt = not revoke(self._bucket, file.draft.identity, str(file.name))

    def _remove_chunks(self, gone: list[Any]) -> None:
        """Remove the chunks of removed files, now or when they are no longer open here."""
        self._doomed += gone
        with suppress(PyMongoError):  # the change itself succeeded, and --gc will remove the chunks
            self._doomed = remove_chunks(self._bucket, self._doomed, self._is_read)

    def _is_read(self, identity: Any) -> bool:
        """Return whether an open handle still reads the chunks of a file."""
        return any(
            _identity(file.doc) == identity
            or file.draft is not None
            and _identity(file.draft.base) == identity
            for file in list(self._all)  # another thread may be opening a file
            if file.handles
        )

    # --- attributes -------------------------------------------------------------------------------------

    def set_attributes(self, file: OpenFile, attrs: SFTPAttributes) -> None:
        """Change the attributes of a file except its size. Raises Conflict if it no longer exists."""
        fields = changes(attrs)
        if not fields:
            return
        if file.draft is not None:
            file.fields.update(fields)
        elif file.doc is not None:
            if file.name is not None and not set_fields(self._bucket, file.doc, fields):
                raise Conflict("Another session has replaced or removed this file meanwhile")
            file.doc = {**file.doc, "metadata": {**metadata(file.doc), **fields}}

    # --- names ------------------------------------------------------------------------------------------

    def removed(self, name: str, gone: list[Any]) -> None:
        """Note that a file was removed or replaced. gone: the _ids of its removed revisions."""
        file = self._by_name.pop(name, None)
        if file is not None:
            file.name = None
        self._remove_chunks(gone)

    def renamed(self, old: str, new: str) -> None:
        """Note that a file or a directory was renamed; what had the new name is gone."""
        inside = below(old)
        for name in [name for name in list(self._by_name) if name == old or name.startswith(inside)]:
            file = self._by_name.pop(name)
            file.name = moved(name, old, new)
            self._by_name[file.name] = file
            if file.doc is not None:
                file.doc = {**file.doc, "filename": file.name}

    def end(self) -> None:
        """Wait for background reads and writes."""
        self._workers.shutdown(cancel_futures=True)


def _identity(doc: Document | None) -> Any:
    return doc["_id"] if doc is not None else None


def _touch(file: OpenFile) -> None:
    file.fields["mtime"] = datetime.datetime.now(datetime.UTC)
