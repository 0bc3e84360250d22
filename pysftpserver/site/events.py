"""Events: a layer that writes down what clients do, for the receivers that want to know of it.

What changes the storage is written down before it happens, so a killed session leaves no change that nobody
is told of; the deliverer does the rest. The digest of an upload is made while it streams, and by reading the
file again only if it came in another order. A session without a wish for an event pays nothing for it. What
may not enter: SQL, receivers' protocols.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import time
from stat import S_ISDIR

from pysftpserver.engine.audit import client_text
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure, SFTPForbidden, words_of
from pysftpserver.site.layer import Layer, _HandedOn
from pysftpserver.site.patterns import text_of
from pysftpserver.site.spool import Spool
from pysftpserver.uploads.temporary import is_temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import Promise, SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.ledger import Ledger
    from pysftpserver.site.who import Who

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
OF_CLIENTS = ("SSH_", "LC_", "LANG")  # variables that sshd sets, or Debian's takes from clients
PAUSE = 0.01  # seconds between two looks whether a receiver has an event
PIECE = 1 << 20  # bytes read at once
OF_UPLOADS = frozenset(("upload", "rejected"))  # what is told of a file that is written
MOST_PARTS = 1000  # uploads under a temporary name that are remembered: memory
SAME_AGAIN, MOST_REFUSALS = 10.0, 20  # seconds, and refusals that are told of in them
NOT_CONFIRMED = "It is done, but a receiver that has to confirm it has not done so"


class Wish:
    """A receiver that wants events.

    on: which. name: the receiver's. matches: whether it is about a path; None: about all. wait: for how many
    seconds a client waits for it; None: it does not.
    """

    def __init__(
        self, on: frozenset[str], name: str, matches: Callable[[bytes], bool] | None, wait: float | None
    ) -> None:
        self.on, self.name, self.matches, self.wait = on, name, matches, wait


class Upload:
    """A file that is open to be written. path: of it. position: where the bytes end that are in digest; None
    there: they came in another order. is_changed: whether there is anything to tell."""

    __slots__ = ("digest", "handle", "is_changed", "path", "position", "refusal")

    def __init__(self, handle: Any, path: bytes, is_changed: bool, keeps_content: bool) -> None:
        self.handle, self.path, self.is_changed = handle, path, is_changed
        self.digest: Any = None if keeps_content else hashlib.sha256()
        self.position = 0
        self.refusal: BaseException | None = None


class Refusals:
    """Which refusals of a session are told of: a client must not fill the spool with what costs it nothing.

    left_out: the number of those that were not, since the last one that was. clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[bytes, str], float] = {}
        self.left_out = 0

    def is_due(self, path: bytes, reason: str) -> bool:
        """Whether a refusal is told of: not the same again within SAME_AGAIN seconds, and not more than
        MOST_REFUSALS in them."""
        now = self._clock()
        self._told = {one: moment for one, moment in self._told.items() if now - moment < SAME_AGAIN}
        if (path, reason) in self._told or len(self._told) >= MOST_REFUSALS:
            self.left_out += 1
            return False
        self._told[path, reason] = now
        return True


class _AtFirst(_HandedOn):
    """A method of the storage below; the session begins when it is called for the first time."""

    def __get__(self, layer: EventsLayer | None, owner: type) -> Any:  # type: ignore[override]
        if layer is not None and not layer._has_begun:
            layer._begin()
        return super().__get__(layer, owner)


class EventsLayer(Layer):
    """Writes events down.

    ledger: with a session. wishes: of all receivers; there may be none. place: the same for all sessions that
    see the same tree. is_part: whether clients upload under such a name before they rename.
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
        super().__init__(below)
        self._ledger, self._spool, self._wishes = ledger, Spool(ledger), wishes
        self._place = place.encode(errors="surrogateescape") + b" "
        self._is_part = is_part
        group = who.groups[0] if who.groups else None
        self._who = {"user": who.user, "group": group, "address": who.address, "session": who.session or None}
        self._refusals = Refusals()
        self._has_begun = not wishes
        self._logout: int | None = None
        self._uploads: dict[int, Upload] = {}
        self._downloads: dict[int, tuple[Any, bytes]] = {}
        self._parts: dict[
            bytes, tuple[int | None, str | None]
        ] = {}  # what was uploaded under temporary names

    # --- events -----------------------------------------------------------------------------------

    def tells(self, kind: str) -> bool:
        """Whether a receiver wants events of a kind."""
        return any(kind in wish.on for wish in self._wishes)

    def _meant(self, kind: str, *paths: bytes) -> list[Wish]:
        return [
            wish
            for wish in self._wishes
            if kind in wish.on
            and (wish.matches is None or not paths or any(wish.matches(path) for path in paths))
        ]

    def _event(self, kind: str, path: bytes | None, **more: Any) -> dict[str, Any]:
        event: dict[str, Any] = {"event": kind, "time": timestamp(), **self._who}
        if path is not None:
            event.update(client_text("path", path))
        for name, value in more.items():
            event.update(client_text(name, value) if isinstance(value, bytes) else {name: value})
        return event

    def _intend(self, wishes: list[Wish], event: dict[str, Any], *paths: bytes) -> int:
        names = [wish.name for wish in wishes]
        return self._spool.intend(event, [self._place + path for path in paths], names)

    def _tell(self, kind: str, paths: tuple[bytes, ...], act: Callable[..., None], *arguments: Any) -> None:
        """Do what a client asks for, and tell of it."""
        wishes = self._meant(kind, *paths)
        if not wishes:
            act(*arguments)
            return
        more = {"target": paths[1]} if len(paths) > 1 else {}
        event = self._event(kind, paths[0], **more)
        self._carry_out(wishes, event, paths, act, *arguments)

    def _carry_out(
        self,
        wishes: list[Wish],
        event: dict[str, Any],
        paths: tuple[bytes, ...],
        act: Callable[..., None],
        *arguments: Any,
        finds: Callable[[], dict[str, Any] | None] = lambda: None,
    ) -> None:
        """The same for an event. finds: what is known of it only afterwards; None: nothing more."""
        seq = self._intend(wishes, event, *paths)
        try:
            act(*arguments)
        except BaseException as error:
            self._spool.forget(seq)
            self.note_refusal(paths[0], error)
            raise
        more = finds()
        self._spool.finish(seq, None if more is None else {**event, **more})
        self._wait(seq, wishes)

    def _wait(self, seq: int, wishes: list[Wish]) -> None:
        """Wait for receivers that have to confirm. Raises SFTPFailure if one does not."""
        for wish in wishes:
            if wish.wait is not None:
                deadline = time.monotonic() + wish.wait
                while True:
                    try:
                        if self._spool.is_delivered(seq, [wish.name]):
                            break
                    except KeyError:
                        raise SFTPFailure(NOT_CONFIRMED) from None
                    if time.monotonic() > deadline:
                        raise SFTPFailure(NOT_CONFIRMED)
                    time.sleep(PAUSE)

    def note_refusal(self, path: bytes, error: BaseException) -> None:
        """Tell that something was refused, if the error says so."""
        is_rejection = getattr(error, "is_rejection", False)  # of a gate
        is_refusal = is_rejection or isinstance(error, (SFTPForbidden, PermissionError))
        if not is_refusal and getattr(error, "errno", None) != errno.EDQUOT:
            return
        wishes = self._meant("rejected", path)
        if not wishes:
            return
        number = getattr(error, "errno", None)
        reason = (os.strerror(number) if number is not None else words_of(error)) or "Permission denied"
        if not is_rejection and not self._refusals.is_due(path, reason):
            return
        if not self._has_begun:
            self._begin()
        more = {"left_out": self._refusals.left_out} if self._refusals.left_out else {}
        self._refusals.left_out = 0
        event = self._event("rejected", path, reason=reason, **more)
        self._spool.add(event, [self._place + path], [wish.name for wish in wishes])

    def _begin(self) -> None:
        self._has_begun = True
        wishes = self._meant("login")
        if wishes:
            self._spool.add(self._event("login", None), [], [wish.name for wish in wishes])
        wishes = self._meant("logout")
        if wishes:  # ready as soon as the session has ended, however it ends
            self._logout = self._intend(wishes, self._event("logout", None))

    def territory(self) -> Sequence[int] | None:
        return self._ledger.territory(self.below.territory())

    def release(self) -> None:
        if self._logout is not None:
            self._spool.come_last(self._logout, self._event("logout", None))
            self._logout = None
        self.below.release()
        self._ledger.close()

    realpath, stat, lstat, opendir, userhome = (_AtFirst() for _ in range(5))

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
            # Where nobody wants to know of it, it may be renamed to before it is closed.
            is_summed = bool(self._meant("upload", path)) or self._is_temporary(path)
            keeps_content = bool(flags & os.O_APPEND) or not is_summed
            self._uploads[id(handle)] = Upload(handle, path, bool(flags & os.O_TRUNC), keeps_content)
        if self._meant("download", path) and self._has_content(handle, flags):
            self._downloads[id(handle)] = handle, path
        return handle

    def _has_content(self, handle: Any, flags: int) -> bool:
        """Whether there is something to download through a handle that has just been opened."""
        if not flags & WRITES:
            return True
        is_read = flags & os.O_ACCMODE == os.O_RDWR and not flags & os.O_TRUNC
        return is_read and bool(self.below.fstat(handle).size)

    def _is_temporary(self, path: bytes) -> bool:
        name = path.rpartition(b"/")[2]
        return bool(self._wishes) and (is_temporary(name) or self._is_part(text_of(name)))

    def write(self, handle: Any, off: int, chunk: bytes | memoryview) -> None:
        upload = self._uploads.get(id(handle))
        if upload is None:
            return self.below.write(handle, off, chunk)
        try:
            answer = self.below.write(handle, off, chunk)  # type: ignore[func-returns-value]
        except BaseException as error:
            upload.refusal = upload.refusal or error
            raise
        self._note(upload, off, chunk)
        return answer

    def promise_write(self, handle: Any, off: int, chunk: bytes | memoryview) -> Promise | None:
        promise = super().promise_write(handle, off, chunk)
        upload = self._uploads.get(id(handle))
        if promise is not None and upload is not None:
            self._note(upload, off, chunk)
        return promise

    def _note(self, upload: Upload, off: int, chunk: bytes | memoryview) -> None:
        upload.is_changed = True
        if upload.digest is not None and off == upload.position:
            upload.digest.update(chunk)
            upload.position += len(chunk)
        elif len(chunk):
            upload.digest = None

    def check_write(self, handle: Any, off: int, size: int) -> None:
        upload = self._uploads.get(id(handle))
        if upload is not None:
            upload.is_changed, upload.digest = True, None
        self.below.check_write(handle, off, size)

    fileno = Layer.fileno

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        upload = self._uploads.get(id(handle))
        if upload is not None and attrs.size is not None:
            upload.is_changed, upload.digest = True, None
        self.below.fsetstat(handle, attrs)

    def abandon(self, handle: Any) -> None:
        upload = self._uploads.pop(id(handle), None)
        self._close(handle, self.below.abandon)
        if upload is not None and upload.refusal is not None:
            self.note_refusal(upload.path, upload.refusal)

    def close(self, handle: Any) -> None:
        upload = self._uploads.pop(id(handle), None)
        if upload is None:
            self._wait(*self._close(handle, self.below.close))
        else:
            self._close(handle, lambda handle: self._close_upload(handle, upload))

    def _close(self, handle: Any, close: Callable[[Any], None]) -> tuple[int, list[Wish]]:
        """Close a file, and tell of it if it was open to be read: of what, and whom."""
        _, path = self._downloads.pop(id(handle), (None, b""))
        wishes = self._meant("download", path) if path else []
        size = self.below.fstat(handle).size if wishes else None
        close(handle)
        if not wishes:
            return 0, []
        event = self._event("download", path, size=size)
        return self._spool.add(event, [self._place + path], [wish.name for wish in wishes]), wishes

    def _close_upload(self, handle: Any, upload: Upload) -> None:
        path = upload.path
        size = self.below.fstat(handle).size
        is_upload = upload.is_changed or not size
        total = upload.digest.hexdigest() if upload.digest is not None and upload.position == size else None
        wishes = self._meant("upload", path) if is_upload and not self._is_temporary(path) else []
        if wishes and upload.refusal is None:
            event = self._event("upload", path, size=size, sha256=total)
            more = (lambda: None) if total is not None else lambda: {"sha256": self._digest(path)}
            self._carry_out(wishes, event, (path,), self.below.close, handle, finds=more)
            return
        try:
            self.below.close(handle)
        except BaseException as error:
            self.note_refusal(path, upload.refusal or error)
            raise
        if upload.refusal is not None:
            self.note_refusal(path, upload.refusal)
        elif is_upload and self._is_temporary(path) and len(self._parts) < MOST_PARTS:
            self._parts[path] = size, total

    def _digest(self, path: bytes) -> str | None:
        try:
            return digest(self.below, path)
        except (SFTPException, OSError):
            return None  # it cannot be read, or is gone already

    # --- names ------------------------------------------------------------------------------------

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        how = (old, new, True) if replace else (old, new)
        if self._is_upload(old, new):
            self._tell_upload(old, new, self.below.rename, *how)
            self._parts.pop(old, None)
            for upload in self._uploads.values():
                upload.is_changed = upload.is_changed and upload.path != old  # what it has is told of
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
        """Give a file its final name, or one more, and tell of it."""
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
        """Know the files that are open, and those with temporary names, by their new paths."""

        def moved(path: bytes) -> bytes:
            return new + path[len(old) :] if path == old or path.startswith(old + b"/") else path

        for upload in self._uploads.values():
            upload.path = moved(upload.path)
        if self._downloads:
            self._downloads = {key: (one, moved(path)) for key, (one, path) in self._downloads.items()}
        if self._parts:
            self._parts = {moved(path): known for path, known in self._parts.items()}

    def link(self, old: bytes, new: bytes) -> None:
        if self._is_temporary(new):
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


def timestamp() -> str:
    """The time for an event: UTC, with milliseconds."""
    moment = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{stamp}.{int(moment % 1 * 1000):03d}Z"


def digest(storage: SFTPAbstractServerStorage, path: bytes) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises what the storage does."""
    total = hashlib.sha256()
    handle = storage.open(path, os.O_RDONLY, 0)
    try:
        offset = 0
        while data := storage.read(handle, offset, PIECE):
            total.update(data)
            offset += len(data)
    finally:
        storage.close(handle)
    return total.hexdigest()


def start_deliverer(ledger: Ledger, site_file: str, module: str) -> None:
    """Start a process that delivers the site's events until nothing is left to do, unless one is running.

    It is made before a sandbox is entered, and is nobody's child. module: of the command that does it. The
    session has to be open: a deliverer that stops looks for sessions after it has given up its place.
    """
    if ledger.has_deliverer():
        return
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        f"import os, sys; os.fork() and os._exit(0); sys.path.insert(0, {root!r}); "
        f"from {module} import deliver_for_sessions; deliver_for_sessions({os.path.abspath(site_file)!r})"
    )
    nowhere = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
    # It goes on for sessions of others: without what sshd has from this one's client.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_CLIENTS)}
    environment["LC_ALL"] = "C.UTF-8"
    # -P: the directory where a session starts may be one that clients can write to.
    command = [sys.executable, "-P", "-c", code]
    with contextlib.suppress(OSError):  # then events wait for the next session, or for the service
        process = os.posix_spawn(sys.executable, command, environment, file_actions=nowhere, setsid=True)
        os.waitpid(process, 0)
