"""A file that is being written, until it becomes an object as a whole.

If it is written in order, it is sent in parts while the client sends, and only a bounded piece is in memory.
Parts grow, so that 10,000 of them are enough for the largest object. If an object is changed in the middle,
the unchanged parts are copied inside the store. Nothing is visible in the store before commit(), and
discard() leaves nothing behind. What may not enter: paths, handles, other files.
Facts: the limits of multipart uploads in the Amazon S3 User Guide.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time

from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.storages.objects.buffer import AT_ONCE, MEMORY, Buffer
from pysftpserver.storages.objects.errors import Changed, Missing, Unsupported
from pysftpserver.storages.objects.reading import Reader
from pysftpserver.storages.objects.s3 import LEAST_PART, MOST, MOST_PARTS, Meta
from pysftpserver.storages.objects.task import Task
from pysftpserver.storages.objects.web import Body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    Method = TypeVar("Method", bound=Callable[..., Any])

    from pysftpserver.storages.objects.buffer import Spool
    from pysftpserver.storages.objects.s3 import S3

PART = 8 << 20  # bytes of the first parts
GROWS = 1000  # parts, after which they become twice as large: 10,000 of them hold more than MOST bytes
LAG = (
    1 << 18
)  # bytes after a part that must have been written before it is sent: the last ones may be written again
IN_MEMORY = 16 << 20  # bytes of a part that is held in memory while it is sent
COPIED = 1 << 30  # bytes that one request copies inside the store
SMALL = 8 << 20  # bytes of an object that is fetched when it is changed
STARTED = "The beginning of this file is in the store already; write files in order"


def part_size(number: int) -> int:
    """Bytes of a part. number: from 1."""
    return PART << (number - 1) // GROWS


def _alone(method: Method) -> Method:
    """Decorate a method of a draft: one call at a time."""

    @functools.wraps(method)
    def alone(self: Draft, *arguments: Any, **named: Any) -> Any:
        with self._lock:
            return method(self, *arguments, **named)

    return alone  # type: ignore[return-value]


class Draft:
    """The content of a file that becomes the object at `key`; None: it was removed, and is not stored.

    base: the object that is changed, or None. only_new: whether the object must not exist at the end. The
    attributes: size and mtime, current; is_changed, whether there is something to store; metadata, for the
    object; spoilt, why it must not be stored, or "".
    """

    def __init__(self, store: S3, spool: Spool, key: str, base: Meta | None, only_new: bool = False) -> None:
        self.key: str | None = key
        self.base = base
        self.size = base.size if base else 0
        self.mtime = base.mtime if base else int(time.time())
        self.metadata = dict(base.metadata or {}) if base else {}
        self.is_changed = base is None
        self.only_new = only_new
        self.spoilt = ""
        self.is_ended = False  # stored or given up: the store's object is read instead
        self.handles = 0
        self.writers = 0
        self.has_new_time = False
        self._store, self._spool = store, spool
        self._lock = threading.RLock()  # clients of one storage may have the same file open
        self._buffer = Buffer(spool)
        self._base_end = self.size  # below it, unwritten content is that of the base
        self._reader: Reader | None = None
        self._upload = ""  # id
        self._began_with: dict[str, str] = {}  # metadata
        self._sent = 0  # below it, everything is in the upload
        self._parts: list[tuple[int, str]] = []
        self._number = 1  # of the next part
        self._on_the_way: list[tuple[int, Task]] = []

    @property
    def has_begun(self) -> bool:
        """Whether a part is in the store, which belongs to the key."""
        return bool(self._upload)

    # --- content ----------------------------------------------------------------------------------------

    @_alone
    def write(self, off: int, chunk: bytes | memoryview) -> None:
        """Write a chunk. Raises SFTPFailure; then the file is spoilt, and is not stored."""
        self._check_open()
        if not chunk:
            return
        with self._spoiling():
            if off + len(chunk) > MOST:
                raise SFTPFailure("The file would be larger than the store allows")
            self._check_gap(off)
            self._prepare(off)
            if off < self._sent:
                raise SFTPFailure(STARTED)
            self._buffer.write(off, chunk)
            self.size = max(self.size, off + len(chunk))
            self._touch()
            if self.base is None or self._sent:
                self._send_ready()

    @contextlib.contextmanager
    def _spoiling(self) -> Iterator[None]:
        """A context in which an error spoils the file: its content is in an unknown state then."""
        try:
            yield
        except BaseException as error:
            self.spoilt = self.spoilt or (
                str(error) if isinstance(error, SFTPException) else "a write failed"
            )
            raise

    def _check_open(self) -> None:
        if self.is_ended:
            raise SFTPFailure("The file was closed by another client meanwhile; open it again")

    @_alone
    def join(self, is_writer: bool) -> bool:
        """Count a handle; return whether the file is still open."""
        if not self.is_ended:
            self.handles += 1
            self.writers += is_writer
        return not self.is_ended

    @_alone
    def leave(self, is_writer: bool) -> bool:
        """Forget a handle; return whether the file ends with it: the last writing handle stores it."""
        self.handles -= 1
        self.writers -= is_writer
        if self.is_ended or self.writers or self.handles and not is_writer:
            return False
        self.is_ended = True
        return True

    @_alone
    def resize(self, size: int) -> None:
        """Cut the file off, or let it grow with zeros. Raises SFTPFailure."""
        self._check_open()
        if size > MOST:
            raise SFTPFailure("The file would be larger than the store allows")
        if size == self.size:
            return
        self._check_gap(size)
        if 0 < size < self._sent:
            raise SFTPFailure(STARTED)
        with self._spoiling():
            if size < self._sent:
                self._give_up()
                self._buffer.close()
            self._buffer.cut(size)
            self._base_end = min(self._base_end, size)
            if not self._base_end and not self._sent:
                self._forget_base()
            self.size = size
            self._touch()

    def _check_gap(self, off: int) -> None:
        """Refuse a gap whose zeros would take hours to send when the file is closed."""
        if off - self.size > self._spool.limit:
            raise SFTPFailure(f"A gap of more than {self._spool.limit} bytes cannot be stored")

    def _touch(self) -> None:
        self.is_changed = True
        if not self.has_new_time:
            self.mtime = int(time.time())

    def set_time(self, mtime: int) -> None:
        """Set the modification time for the object's metadata, in seconds."""
        self.mtime, self.has_new_time = mtime, True

    @_alone
    def read(self, off: int, size: int) -> bytes:
        """Return current content, if it is not sent already. Raises SFTPFailure."""
        size = min(size, self.size - off)
        if size <= 0:
            return b""
        if max(off, self._base_end) < min(off + size, self._sent):
            raise SFTPFailure("What was written is being sent to the store; read it when the file is closed")
        return bytes(self._content(off, size))

    def _content(self, off: int, size: int) -> bytearray:
        piece = bytearray(size)
        if self.base is not None and off < self._base_end:
            if self._reader is None:
                self._reader = Reader(self._store, self.base, b"")
            kept = self._reader.read(off, min(size, self._base_end - off))
            piece[: len(kept)] = kept
        self._buffer.fill(piece, off)
        return piece

    # --- the object that is changed ---------------------------------------------------------------------

    def _prepare(self, off: int) -> None:
        """Before the first write: find a way to change the base."""
        if self.base is None or self._sent or not self._buffer.is_in_memory:
            return
        if self._base_end <= SMALL:
            self.pin()
        elif self.key is None:
            raise SFTPFailure("The file was removed")
        elif off == self.size == self._base_end and self._buffer.is_empty:
            self._copy_base()
        else:
            self._buffer.spill()

    @_alone
    def pin(self) -> bool:
        """Fetch the needed content of a small base and drop the base; return whether that was done."""
        if self.base is None:
            return True
        if self._base_end > SMALL or self._sent:
            return False
        if self._base_end:
            whole = self._content(0, self._base_end)
            self._forget_base()
            self._buffer.write(0, whole)
        self._forget_base()
        return True

    def _forget_base(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self.base, self._reader, self._base_end = None, None, 0

    def replace_base(self, base: Meta) -> None:
        """Note that the base has another key now."""
        if self._reader is not None:
            self._reader.close()
        self.base, self._reader = base, None

    def _copy_base(self) -> None:
        """Begin an upload with the base as its first parts, to continue after it."""
        self._begin()
        while True:
            left = self._base_end - self._sent
            if self._store.copies_parts and left >= LEAST_PART:
                self._try_to_copy(left)
            elif not self._store.copies_parts and left >= part_size(self._number):
                self._send(part_size(self._number))
            else:
                break
        rest = self._content(self._sent, left)  # too little for a part that is not the last one
        self._buffer.forget(self._sent)
        self._base_end = self._sent
        if rest:
            self._buffer.write(self._sent, rest)

    # --- sending ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        assert self.key is not None
        if not self._upload:
            self._began_with = dict(self.metadata)
            self._upload = self._store.begin(self.key, self.metadata)

    def _send_ready(self) -> None:
        while True:
            size = part_size(self._number)
            if self._buffer.contiguous(self._sent) - self._sent < size + LAG:
                return
            if self.key is None:  # the file was removed
                self._sent += size
                self._buffer.forget(self._sent)
            else:
                self._send(size)

    def _send(self, size: int) -> None:
        """Send the next part."""
        self._begin()
        self._finish(AT_ONCE - 1)
        off = self._sent
        if self._number > MOST_PARTS:
            raise SFTPFailure("The file has more parts than the store allows")
        if size <= IN_MEMORY:
            taken = self._buffer.take(size) if off >= self._base_end and off == self._buffer.origin else None
            content = memoryview(self._content(off, size)) if taken is None else taken
            self._start(Body.of(content), content)
        else:  # from the spool, so nothing may be written meanwhile
            self._start(Body(size, lambda at, length: self._content(off + at, length)), memoryview(b""))
            self._finish(0)
        self._sent = off + size
        self._buffer.forget(self._sent)

    def _try_to_copy(self, run: int) -> None:
        """Copy run bytes, or a first part of them. Download and upload them if the store cannot copy."""
        try:
            self._copy_part(run if run < COPIED + LEAST_PART else COPIED)
        except Unsupported:
            self._store.copies_parts = False
            if self._number == 1:  # rclone's server takes a part once only
                self._give_up()
                self._begin()

    def _copy_part(self, size: int) -> None:
        assert self.base is not None and self.key is not None
        try:
            etag = self._store.copy_part(self.key, self._upload, self._number, self.base, self._sent, size)
        except (Changed, Missing):
            raise SFTPFailure("The file was replaced or removed while it was changed") from None
        self._parts.append((self._number, etag))
        self._number += 1
        self._sent += size

    def _start(self, body: Body, content: memoryview) -> None:
        number = self._number
        self._number += 1
        self._spool.slots.acquire()  # released by the call, which ends within the patience of the store
        task = Task(self._part, self.key, number, body, content)
        self._on_the_way.append((number, task))

    def _part(self, key: str, number: int, body: Body, content: memoryview) -> str:
        try:
            return self._store.part(key, self._upload, number, body)
        finally:
            self._spool.give_room(content)
            self._spool.slots.release()

    def _finish(self, most: int) -> None:
        """Wait until at most this many parts are still being sent."""
        while len(self._on_the_way) > most:
            number, task = self._on_the_way.pop(0)
            self._parts.append((number, task.result()))

    # --- the end ----------------------------------------------------------------------------------------

    @_alone
    def commit(self) -> None:
        """Store the file as the object. Raises the store's errors; then the old object is still there."""
        try:
            if self.spoilt:
                raise SFTPFailure(f"The file was not stored: {self.spoilt}")
            if self.key is None or not self.is_changed:
                pass
            elif not self._upload and self.size <= MEMORY:
                content = self._content(0, self.size)
                self._store.put(self.key, Body.of(content), self.only_new, self.metadata)
            else:
                self._commit_parts()
        except BaseException as error:
            with contextlib.suppress(SFTPException):  # it is tried again at the end of the session
                self.discard()
            self.spoilt = self.spoilt or "it exists already, or was replaced"
            if isinstance(error, Changed):
                raise SFTPFailure(f"The file was not stored: {self.spoilt}") from error
            raise
        self.discard()

    def _commit_parts(self) -> None:
        assert self.key is not None
        self._begin()
        while self._sent < self.size:
            self._send_next()
        self._finish(0)
        self._store.complete(self.key, self._upload, self._parts, self.size, self.only_new)
        self._upload = ""
        self._set_metadata()

    def _set_metadata(self) -> None:
        """Give the object the metadata that was set after its upload had begun."""
        if self.key is not None and self.metadata != self._began_with:
            try:
                self._store.copy(self._store.head(self.key), self.key, metadata=self.metadata)
            except SFTPException as error:
                raise SFTPFailure(f"The file was stored, and its time was not: {error}") from error

    def _send_next(self) -> None:
        """Send or copy what follows."""
        run = self._buffer.next_written(self._sent, self._base_end) - self._sent
        if (
            self._store.copies_parts
            and self._sent < self._base_end
            and (run >= LEAST_PART or self._sent + run == self.size)
        ):
            self._try_to_copy(run)
        else:
            self._send(min(part_size(self._number), self.size - self._sent))

    def _give_up(self, keep: bool = False) -> None:
        """Leave nothing in the store. keep: the offsets stay as they are."""
        for _, task in self._on_the_way:
            task.wait()  # a part that arrived after the end would stay
        self._on_the_way, self._parts, self._number = [], [], 1
        self._sent = self._sent if keep else 0
        upload, self._upload = self._upload, ""
        if upload and self.key is not None:
            try:
                self._store.abort(self.key, upload)
            except SFTPException:
                self._spool.left.append((self.key, upload))
                raise

    @_alone
    def unlink(self) -> None:
        """Note that the file is removed or replaced. Content that was not sent yet can still be read."""
        self.pin()
        self._give_up(keep=True)
        self.key = None

    @_alone
    def discard(self) -> None:
        """End the draft, without an object or after it was stored."""
        try:
            self._give_up()
        finally:
            self._buffer.close()
            self._forget_base()
