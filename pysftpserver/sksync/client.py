"""The client: sync() synchronises a directory of a storage with a directory of a server.

It blocks and needs no event loop. What may not enter: concrete storages, the format of the
configuration, how progress is shown. Facts: docs/sksync.md, "The protocol".
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.service.patience import OutOfPatience
from pysftpserver.sksync import plan, wire
from pysftpserver.sksync.config import SYNC_TYPES
from pysftpserver.sksync.dialogue import Dialogue, SyncError
from pysftpserver.sksync.listing import listing
from pysftpserver.sksync.logins import need_srptools
from pysftpserver.sksync.parsing import Damaged, DownloadParser
from pysftpserver.sksync.receiving import MOST_SECONDS, Receiver
from pysftpserver.sksync.sending import BLOCK, CannotSend, Sender
from pysftpserver.sksync.shares import Folder, directory
from pysftpserver.sksync.tls import ClientTLS, TLSError
from pysftpserver.sksync.wire import DEFAULT_PORT, Dialect, Malformed, SyncType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.sksync.config import ClientSettings
    from pysftpserver.sksync.listing import Listing
    from pysftpserver.sksync.shares import OpenStorage

__all__ = ["ClientTLS", "Dialect", "Observer", "Request", "Summary", "SyncError", "SyncType", "sync"]


@dataclass(frozen=True)
class Request:
    """The sync to do.

    host, port: the server's. server_path: a directory there. sync_type, is_recursive: what goes where.
    dialect: the protocol's name. login: (user, password), or None. tls: None for no encryption. excluded:
    shell patterns of names that are left out. ignores_time_errors: whether a modification time that cannot be
    set is accepted. timeout: seconds that the server may be silent. client_path: this side's path, as told to
    the server. max_names, max_name_bytes: maximum number of files that the server may send, and maximum
    length of all their names.
    """

    host: str
    server_path: str
    port: int = DEFAULT_PORT
    sync_type: SyncType = SyncType.FROM_SERVER_USE_TIME
    is_recursive: bool = False
    dialect: Dialect = Dialect.PYSKSYNC_2
    login: tuple[str, str] | None = None
    tls: ClientTLS | None = None
    excluded: Sequence[str] = ()
    ignores_time_errors: bool = False
    timeout: float = 120
    client_path: str = "/"
    max_names: int = 1_000_000
    max_name_bytes: int = 256 << 20


@dataclass
class Summary:
    """What a sync did, or in a dry run would do.

    sent, received: bytes of each file, by name. failed: why files were not sent or received, by name. A file
    counts as sent once it is handed to the connection, and as received once it is in place. skipped: paths
    that cannot be encoded in this protocol. unchanged: number of the client's other files. time_errors:
    number of modification times that could not be set. leftovers: number of temporary files of interrupted
    syncs that were removed. seconds: the duration.
    """

    sent: dict[str, int] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[bytes] = field(default_factory=list)
    unchanged: int = 0
    time_errors: int = 0
    leftovers: int = 0
    seconds: float = 0.0

    @property
    def bytes(self) -> int:
        """Total size of the files that were sent and received."""
        return sum(self.sent.values()) + sum(self.received.values())


class Observer:
    """Is told how a sync proceeds. The methods do nothing; subclasses override them.

    files: number of files. size: bytes. name: a path below the synced directory. why: one line.
    """

    def listed(self, files: int) -> None:
        """This side's directory has been read."""

    def moved(self, size: int) -> None:
        """This many more bytes have been sent or received."""

    def sent(self, name: str, size: int) -> None:
        """A file has been sent."""

    def received(self, name: str, size: int) -> None:
        """A file has been received and put in place."""

    def failed(self, name: str, why: str) -> None:
        """A file could not be sent or received; the sync goes on."""


def sync(
    storage: SFTPAbstractServerStorage,
    request: Request,
    path: str = "/",
    observer: Observer | None = None,
    is_dry: bool = False,
) -> Summary:
    """Synchronise a directory of a storage with a directory of a server.

    storage: this side. request: the other side, and what goes where. path: the directory in the storage.
    observer: told of what happens. is_dry: find out what would be sent and received, and change nothing.
    Raises SyncError if the sync was not completed; its attribute `summary` says what was done until then.
    Single files that failed are in the summary and raise nothing.
    """
    run = _Run(storage, directory(path), request, observer or Observer())
    began = time.monotonic()
    try:
        if is_dry:
            from pysftpserver.sksync.dry import find_out

            find_out(run)
        else:
            run.sync()
    except (Malformed, Damaged) as error:
        raise _ended(f"ended: the server sent {error}", run.summary) from None
    except OutOfPatience as error:
        raise _ended(f"ended: waiting for the server, {error}", run.summary) from None
    except (SyncError, TLSError) as error:
        raise _ended(str(error), run.summary) from None
    except (OSError, SFTPException) as error:
        raise _ended(f"ended: {reason_of(error)}", run.summary) from error
    finally:
        run.summary.seconds = time.monotonic() - began
    return run.summary


def _ended(text: str, summary: Summary) -> SyncError:
    error = SyncError(text)
    error.summary = summary
    return error


@dataclass(eq=False)
class _Run:
    """One sync. It takes one connection, or more if files cannot be read."""

    storage: SFTPAbstractServerStorage
    top: bytes
    request: Request
    observer: Observer
    summary: Summary = field(default_factory=Summary)

    def list(self) -> Listing:
        """The files on this side."""
        request = self.request
        here = listing(
            self.storage,
            self.top,
            request.is_recursive,
            request.dialect,
            request.excluded,
            may_be_missing=request.sync_type.from_server,
        )
        self.summary.skipped = here.unencodable
        for name, why in here.unlisted.items():
            self.fail(name, why)
        self.observer.listed(len(here.files))
        return here

    def fail(self, name: str, why: str) -> None:
        """Record a file that cannot be synced."""
        self.summary.failed[name] = why
        self.observer.failed(name, why)

    def sync(self) -> None:
        """Sync both sides."""
        here = self.list()
        while True:
            try:
                self._in_one_connection(here)
                break
            except CannotSend as error:
                # The server waits for that file and accepts nothing else, so connect again without it.
                here.withhold(error.name, error.why)
                self.fail(error.name, error.why)
        self.count_unchanged(here)

    def count_unchanged(self, here: Listing) -> None:
        """Count this side's files that the sync leaves unchanged."""
        summary = self.summary
        touched = (summary.sent, summary.received, summary.failed)
        summary.unchanged = sum(1 for name in here.files if not any(name in names for names in touched))

    def _in_one_connection(self, here: Listing) -> None:
        dialogue = Dialogue(self.request)
        try:
            open_sync(dialogue, self.request, self.request.sync_type, here.files)
            self._upload(dialogue, here)
            self._download(dialogue, here)
        finally:
            dialogue.close()

    # --- to the server ------------------------------------------------------------------------------------

    def _upload(self, dialogue: Dialogue, here: Listing) -> None:
        offered = dict(here.files) if self.request.sync_type.to_server else {}
        sender = Sender(self.storage, self.top, self.request.dialect, self._on_sent)
        while True:
            wanted = dialogue.lines_at_hand()
            names = [taken(offered, line, self.request.dialect) for line in wanted if line]
            try:
                for block in sender.uploads(names):
                    dialogue.send(block)
                    self.observer.moved(len(block))
            except CannotSend as error:
                self._withhold_unreadable(here, [name for name in names if name != error.name])
                raise
            if not wanted[-1]:
                return

    def _withhold_unreadable(self, here: Listing, names: Sequence[str]) -> None:
        """Find other files that cannot be read: each would cost another connection."""
        for name in names:
            try:
                handle = self.storage.open(self.top + name.encode(), os.O_RDONLY | os.O_NOFOLLOW, 0)
                self.storage.close(handle)
            except (OSError, SFTPException) as error:
                here.withhold(name, reason_of(error))
                self.fail(name, reason_of(error))

    def _on_sent(self, name: str, size: int) -> None:
        self.summary.sent[name] = size
        self.observer.sent(name, size)

    # --- from the server ----------------------------------------------------------------------------------

    def _download(self, dialogue: Dialogue, here: Listing) -> None:
        request = self.request
        receiver = Receiver(
            self.storage,
            self.top,
            here,
            request.sync_type,
            request.ignores_time_errors,
            self._on_received,
            self.fail,
            self.fail,
        )
        check = DownloadCheck(request, request.sync_type, here)
        parser = DownloadParser(request.dialect, receiver, check)
        try:
            while not parser.is_done:
                if receiver.has_waiting and dialogue.is_quiet(MOST_SECONDS):
                    receiver.commit()
                self.observer.moved(dialogue.feed(parser))
        finally:
            receiver.close()
            self.summary.leftovers += receiver.leftovers
            self.summary.time_errors += receiver.time_errors

    def _on_received(self, name: str, size: int) -> None:
        self.summary.received[name] = size
        self.observer.received(name, size)


def open_sync(dialogue: Dialogue, request: Request, sync_type: SyncType, files: dict[str, int]) -> None:
    """Send the request and the listing of this side. Raises SyncError, Malformed."""
    dialect = request.dialect
    paths = [dialect.encode(path) for path in (request.server_path, request.client_path)]
    if None in paths:
        raise SyncError(f"server_path and client_path: cannot be encoded in {dialect.title}")
    head = wire.number(sync_type) + wire.number(0 if request.is_recursive else 1)
    dialogue.send(head + b"".join(path for path in paths if path is not None))
    if dialect.has_digests and dialogue.line() + b"\n" != wire.WITH_DIGESTS:
        raise Malformed("no word about digests")
    for block in _entries(files, dialect):
        dialogue.send(block)


def _entries(files: dict[str, int], dialect: Dialect) -> Iterator[bytes]:
    """A listing and its end, in blocks."""
    lines: list[bytes] = []
    size = 0
    for name, mtime in files.items():
        line = wire.entry(name, mtime, dialect)
        if line is not None:
            lines.append(line)
            size += len(line)
        if size > BLOCK:
            yield b"".join(lines)
            lines.clear()
            size = 0
    yield b"".join([*lines, wire.END])


def taken(offered: dict[str, int], line: bytes, dialect: Dialect) -> str:
    """The name of a file that the server wants; remove it from offered. Raises Malformed."""
    name = wire.parse_name(line, dialect)
    if offered.pop(name, None) is None:
        raise Malformed("the name of a file that it was not offered or already has")
    return name


@dataclass(eq=False)
class DownloadCheck:
    """Checks that the server sends only what was asked for."""

    request: Request
    sync_type: SyncType
    here: Listing

    def __post_init__(self) -> None:
        self._seen: set[str] = set()
        self._names_left = self.request.max_names
        self._bytes_left = self.request.max_name_bytes

    def __call__(self, name: str, mtime: int) -> None:
        """Raises Malformed for a file that was not asked for. mtime: in seconds."""
        own = self.here.files.get(name)
        if not plan.sends_from_server(own, mtime, self.sync_type):
            raise Malformed("a file that it was not asked for")
        if "/" in name and not self.request.is_recursive:
            raise Malformed("a file in a directory, where only one directory was asked for")
        if name in self._seen:
            raise Malformed("a file for the second time")
        self._names_left -= 1
        self._bytes_left -= len(name)
        if self._names_left < 0 or self._bytes_left < 0:
            raise Malformed("too many files (max_names)")
        self._seen.add(name)


# --- syncing by a configuration -----------------------------------------------------------------------------


def request_of(settings: ClientSettings) -> Request:
    """The request for a client's settings. Raises BadInput."""
    login = tls = None
    if settings.username is not None and settings.password is not None:
        need_srptools()
        login = (settings.username, settings.password)
    if settings.use_ssl:
        tls = ClientTLS(
            settings.ssl_server_certfile,
            settings.ssl_client_certfile,
            settings.ssl_client_keyfile,
            settings.ssl_minimum_version,
        )
    return Request(
        host=settings.address,
        server_path=settings.server_path,
        port=settings.port,
        sync_type=SYNC_TYPES[settings.sync_type],
        is_recursive=settings.recursive,
        dialect=settings.dialect,
        login=login,
        tls=tls,
        excluded=settings.filter_fnmatch_exclude,
        ignores_time_errors=settings.ignore_time_errors,
        timeout=settings.idle_timeout,
        client_path=settings.client_path,
        max_names=settings.max_names,
    )


def storage_of(
    settings: ClientSettings, open_storage: OpenStorage, is_dry: bool
) -> tuple[SFTPAbstractServerStorage, str]:
    """The client's side: a storage and the directory in it. Raises BadInput, Unavailable."""
    path = settings.client_path
    if settings.storage is not None:
        return open_storage(settings.storage, f"{settings.place}: storage", is_dry), path
    key = f"{settings.place}: client_path"
    if os.path.lexists(path) or not SYNC_TYPES[settings.sync_type].from_server:
        return open_storage(Folder(path), key), "/"
    # The directory is made when the first file is received; its parent has to exist.
    parent, name = os.path.split(os.path.abspath(path))
    return open_storage(Folder(parent), key), name
