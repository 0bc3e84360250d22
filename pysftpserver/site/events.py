"""Events: a layer that reports what clients do with files and names.

The digest of an upload is computed while it streams; the file is read again only if bytes arrived out of
order. What may not enter: the spool's tables, who waits for a receiver, receivers' protocols.
"""

from __future__ import annotations

import contextlib
import os
from stat import S_ISDIR

from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.site.layer import Layer
from pysftpserver.site.patterns import text_of
from pysftpserver.site.telling import TellingLayer
from pysftpserver.site.told import Upload, Wish, digest
from pysftpserver.uploads.temporary import is_temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import Promise, SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.ledger import Ledger
    from pysftpserver.site.who import Who

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
OF_UPLOADS = frozenset(("upload", "rejected"))  # events about a written file
MOST_PARTS = 1000  # uploads under temporary names that are remembered, to bound memory


class EventsLayer(TellingLayer):
    """Reports uploads, downloads, and changes to the tree.

    is_part: returns whether clients upload under such a name before they rename.
    """

    def __init__(
        self,
        below: SFTPAbstractServerStorage,
        ledger: Ledger,
        wishes: list[Wish],
        who: Who,
        place: str,
        is_part: Callable[[str], bool] = lambda name: False,
    ) -> None:
        super().__init__(below, ledger, wishes, who, place)
        self._is_part = is_part
        self._uploads: dict[int, Upload] = {}
        self._downloads: dict[int, tuple[Any, bytes]] = {}
        #: Files uploaded under temporary names.
        self._parts: dict[bytes, tuple[int | None, str | None]] = {}

    # --- files ------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        if not self._has_begun:
            self._begin()
        try:
            handle = self.below.open(path, flags, mode)
        except BaseException as error:
            if self._wishes:
                self.note_refusal(path, error)
            raise
        if flags & WRITES and any(not wish.on.isdisjoint(OF_UPLOADS) for wish in self._wishes):
            # Before the file is closed, a temporary name may become one that a receiver asks for.
            is_summed = self._meant("upload", path) or self._is_temporary(path)
            upload = Upload(handle, path, bool(is_summed) and not flags & os.O_APPEND)
            self._uploads[id(handle)] = upload
            if flags & os.O_TRUNC:
                self._begin_to_change(upload)
                upload.is_changed = True
        if self._meant("download", path) and self._has_content(handle, flags):
            self._downloads[id(handle)] = handle, path
        return handle

    def _has_content(self, handle: Any, flags: int) -> bool:
        """Whether a handle that has just been opened has content to download."""
        if not flags & WRITES:
            return True
        is_read = flags & os.O_ACCMODE == os.O_RDWR and not flags & os.O_TRUNC
        return is_read and bool(self.below.fstat(handle).size)

    def _is_temporary(self, path: bytes) -> bool:
        name = path.rpartition(b"/")[2]
        return bool(self._wishes) and (is_temporary(name) or self._is_part(text_of(name)))

    def _for_upload(self, path: bytes) -> list[Wish]:
        """The wishes for an upload to a path; none for a temporary name."""
        return [] if self._is_temporary(path) else self._meant("upload", path)

    def write(self, handle: Any, off: int, chunk: bytes | memoryview) -> None:
        upload = self._uploads.get(id(handle))
        if upload is None:
            return self.below.write(handle, off, chunk)
        if upload.note is None:
            self._begin_to_change(upload)
        try:
            answer = self.below.write(handle, off, chunk)  # type: ignore[func-returns-value]
        except BaseException as error:
            upload.refusal = upload.refusal or error
            raise
        self._add_to_digest(upload, off, chunk)
        return answer

    def promise_write(self, handle: Any, off: int, chunk: bytes | memoryview) -> Promise | None:
        upload = self._uploads.get(id(handle))
        if upload is not None and upload.note is None:
            self._begin_to_change(upload)
        promise = super().promise_write(handle, off, chunk)
        if promise is not None and upload is not None:
            self._add_to_digest(upload, off, chunk)
        return promise

    def _add_to_digest(self, upload: Upload, off: int, chunk: bytes | memoryview) -> None:
        upload.is_changed = True
        if upload.digest is not None and off == upload.position:
            upload.digest.update(chunk)
            upload.position += len(chunk)
        elif len(chunk):
            upload.digest = None

    def check_write(self, handle: Any, off: int, size: int) -> None:
        upload = self._uploads.get(id(handle))
        if upload is not None:
            self._begin_to_change(upload)
            upload.is_changed, upload.digest = True, None
        self.below.check_write(handle, off, size)

    fileno = Layer.fileno

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        upload = self._uploads.get(id(handle))
        if upload is not None and attrs.size is not None:
            self._begin_to_change(upload)
            upload.is_changed, upload.digest = True, None
        self.below.fsetstat(handle, attrs)

    def _begin_to_change(self, upload: Upload) -> None:
        """Record that a file is about to be changed under its own name, if so, and if a receiver wants to
        know: if the session is killed, there is no other trace of it.
        """
        if upload.note is None:
            upload.note = 0
            wishes = self._for_upload(upload.path)
            if wishes and self._is_in_place(upload.path, self._attributes(upload.handle)):
                self._write_note(upload, wishes)

    def _write_note(self, upload: Upload, wishes: list[Wish]) -> None:
        event = self._event("upload", upload.path, size=None, sha256=None, complete=False)
        names = [wish.name for wish in wishes]
        upload.note = self._spool.note(event, self._place + upload.path, names, upload.note or 0)

    def _drop_note(self, upload: Upload) -> None:
        if upload.note:
            self._spool.forget(upload.note)
        upload.note = 0

    def _attributes(self, handle: Any) -> SFTPAttributes | None:
        try:
            return self.below.fstat(handle)
        except (SFTPException, OSError):
            return None

    def _is_in_place(self, path: bytes, own: SFTPAttributes | None) -> bool:
        """Whether an open file with these attributes is the one at a path, so that clients see what is
        written.

        If the storage has no inode numbers, a file of the same size is considered the same.
        """
        try:
            there = self.below.stat(path)
        except (SFTPException, OSError):
            return False
        if own is None or own.identity is None:
            return own is not None and there.size == own.size
        return there.identity == own.identity

    def _now(self, handle: Any, path: bytes, own: SFTPAttributes | None) -> bytes:
        """The current path of an open file, which others may have renamed. path: its former one."""
        if own is None or own.identity is None or self._is_in_place(path, own):
            return path
        found = None
        with contextlib.suppress(SFTPException, OSError):
            found = self.below.path_of(handle)
        if found is None:
            return path
        parent, slash, name = found.rpartition(b"/")
        if is_temporary(name):  # it gets its name when it is closed
            return parent + slash + path.rpartition(b"/")[2]
        return found if self._is_in_place(found, own) else path

    def abandon(self, handle: Any) -> None:
        upload = self._uploads.pop(id(handle), None)
        if upload is None:
            self._close(handle, self.below.abandon)
            return
        own = self._attributes(handle)
        upload.path = self._now(handle, upload.path, own)
        self._close(handle, self.below.abandon)
        if upload.refusal is not None:
            self.note_refusal(upload.path, upload.refusal)
        self._tell_incomplete(upload, own)

    def close(self, handle: Any) -> None:
        upload = self._uploads.pop(id(handle), None)
        if upload is None:
            self._wait(*self._close(handle, self.below.close))
        else:
            self._close(handle, lambda handle: self._close_upload(handle, upload))

    def _close(self, handle: Any, close: Callable[[Any], None]) -> tuple[int, list[Wish]]:
        """Close a file, and report it if it was read; returns the event's number and the wishes for it."""
        _, path = self._downloads.pop(id(handle), (None, b""))
        if not path:
            close(handle)
            return 0, []
        own = self._attributes(handle)
        path = self._now(handle, path, own)
        wishes = self._meant("download", path)
        close(handle)
        if not wishes:
            return 0, []
        event = self._event("download", path, size=None if own is None else own.size)
        return self._spool.add(event, [self._place + path], [wish.name for wish in wishes]), wishes

    def _close_upload(self, handle: Any, upload: Upload) -> None:
        own = self.below.fstat(handle)
        size = own.size
        path = upload.path = self._now(handle, upload.path, own)
        is_upload = upload.is_changed or not size
        total = upload.digest.hexdigest() if upload.digest is not None and upload.position == size else None
        wishes = self._for_upload(path) if is_upload else []
        is_closed = False

        def close(handle: Any) -> None:
            nonlocal is_closed
            is_closed = True
            self.below.close(handle)

        try:
            if wishes and upload.refusal is None:
                event = self._event("upload", path, size=size, sha256=total)
                more = (lambda: None) if total is not None else lambda: {"sha256": self._digest(path)}
                note = upload.note or 0
                self._carry_out(wishes, event, (path,), close, handle, finds=more, note=note)
                return
            close(handle)
        except BaseException as error:
            if not is_closed:  # the ledger cannot be used
                self.below.abandon(handle)
            if not wishes or upload.refusal is not None:
                self.note_refusal(path, upload.refusal or error)
            self._tell_incomplete(upload, own)
            raise
        if upload.refusal is not None:
            self.note_refusal(path, upload.refusal)
            self._tell_incomplete(upload, own)
            return
        self._drop_note(upload)
        if is_upload and self._is_temporary(path) and len(self._parts) < MOST_PARTS:
            self._parts[path] = size, total

    def _tell_incomplete(self, upload: Upload, own: SFTPAttributes | None) -> None:
        """Report a visible file that was closed without the client having said that it is complete.

        own: its attributes when it was closed.
        """
        path = upload.path
        is_upload = upload.is_changed or own is not None and not own.size
        wishes = self._for_upload(path) if is_upload else []
        if not wishes or own is None or not self._is_in_place(path, own):
            self._drop_note(upload)
            return
        # It is not read again: a session that ends must not wait for that.
        is_whole = upload.digest is not None and upload.position == own.size
        event = self._event("upload", path, size=own.size, complete=False)
        event["sha256"] = upload.digest.hexdigest() if is_whole else None
        if own.identity is None:
            event["certain"] = False
        receivers = [wish.name for wish in wishes]
        self._spool.add(event, [self._place + path], receivers, note=upload.note or 0)

    def _digest(self, path: bytes) -> str | None:
        try:
            return digest(self.below, path)
        except (SFTPException, OSError):
            return None  # it cannot be read, or is already gone

    # --- names ------------------------------------------------------------------------------------

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        how = (old, new, True) if replace else (old, new)
        if self._is_upload(old, new):
            self._tell_upload(old, new, self.below.rename, *how)
            self._parts.pop(old, None)
            for upload in self._uploads.values():
                if upload.path == old:  # its content is reported
                    upload.is_changed, upload.note = False, None
        else:
            self._tell("rename", (old, new), self.below.rename, *how)
        self._follow(old, new)

    def _is_upload(self, old: bytes, new: bytes) -> bool:
        """Whether a new name of a file is its final one."""
        return self._is_temporary(old) and not self._is_temporary(new) and not self._is_directory(old)

    def _is_directory(self, path: bytes) -> bool:
        try:
            return S_ISDIR(self.below.lstat(path).permissions or 0)
        except (SFTPException, OSError):
            return False

    def _tell_upload(self, old: bytes, new: bytes, act: Callable[..., None], *how: Any) -> None:
        """Give a file its final name, or an additional one, and report it."""
        wishes = self._meant("upload", new)
        if not wishes:
            act(*how)
            return
        size, total = self._parts.get(old, (None, None))
        if size is None:
            size = self.below.lstat(old).size
        more = (lambda: None) if total is not None else lambda: {"sha256": self._digest(new)}
        event = self._event("upload", new, size=size, sha256=total)
        self._carry_out(wishes, event, (new, old), act, *how, finds=more)

    def _follow(self, old: bytes, new: bytes) -> None:
        """Update the paths of open files, and of those with temporary names, after a rename."""

        def moved(path: bytes) -> bytes:
            return new + path[len(old) :] if path == old or path.startswith(old + b"/") else path

        for upload in self._uploads.values():
            path = moved(upload.path)
            if path != upload.path:
                upload.path = path
                wishes = self._for_upload(path) if upload.note else []
                if wishes:
                    self._write_note(upload, wishes)
        if self._downloads:
            self._downloads = {key: (one, moved(path)) for key, (one, path) in self._downloads.items()}
        if self._parts:
            self._parts = {moved(path): known for path, known in self._parts.items()}

    def link(self, old: bytes, new: bytes) -> None:
        if self._is_temporary(new) or "link" in self.lacks:
            self.below.link(old, new)
        else:
            self._tell_upload(old, new, self.below.link, old, new)

    def rm(self, path: bytes) -> None:
        self._parts.pop(path, None)
        if is_temporary(path.rpartition(b"/")[2]):
            self.below.rm(path)
        else:
            self._tell("delete", (path,), self.below.rm, path)

    def mkdir(self, path: bytes, mode: int) -> None:
        self._tell("mkdir", (path,), self.below.mkdir, path, mode)

    def rmdir(self, path: bytes) -> None:
        self._tell("rmdir", (path,), self.below.rmdir, path)
