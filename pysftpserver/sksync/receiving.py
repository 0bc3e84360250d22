"""Receives the files of a sync in temporary files, and puts them in place in batches.

Making a file safe from a crash means waiting for the disk; for 1,500 small files one by one, that takes many
seconds. So complete files wait for others until there are MOST_WAITING of them or MOST_BYTES, or for
MOST_SECONDS; then all are synced together and renamed. Files without a descriptor of this host do not wait:
they cannot be synced together, and their storage may keep them in memory.

Calls of the storage block. What may not enter: sockets, wire formats, the plan.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from stat import S_ISDIR, S_ISREG

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.failures import os_error, reason_of
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.sksync.listing import Listing, seconds
from pysftpserver.sksync.wire import SyncType
from pysftpserver.uploads.files import StoredFile, attributes, commit_all, open_temporary, sync_directory
from pysftpserver.uploads.leftovers import remove_leftovers

DIRECTORY = 0o777
MOST_WAITING = 128  # complete files: each is an open file
MOST_BYTES = 64 << 20  # of complete files, which are lost if this process is killed
MOST_SECONDS = 2.0  # that a complete file waits, however slow the peer is
TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Overtaken(Exception):
    """A file was changed here after it was listed, so the plan no longer applies to it."""


@dataclass(eq=False)
class Receiver:
    """Puts files into a directory of a storage, one after the other: a sink of parsing.py.

    top: the directory, with a slash at its end; it is made for the first file. here: the listing of it.
    sync_type: says whether a file that appeared since may be replaced. ignores_time_errors: whether a time
    that cannot be set is accepted. on_file: called with name and bytes for each file that is in its place.
    on_failure: called with name and reason for each file that failed; the others are still received, unless
    the reason applies to them as well. on_overtaken: the same for each file that was changed here since it
    was listed, and is kept.

    It counts files and bytes in place, failures, times that could not be set, and leftovers: removed
    temporary files of interrupted syncs.
    """

    storage: SFTPAbstractServerStorage
    top: bytes
    here: Listing
    sync_type: SyncType
    ignores_time_errors: bool
    on_file: Callable[[str, int], None]
    on_failure: Callable[[str, str], None]
    on_overtaken: Callable[[str, str], None]
    count: int = 0
    size: int = 0
    failures: int = 0
    time_errors: int = 0
    leftovers: int = 0
    _directories: set[bytes] = field(default_factory=set)
    _made: set[bytes] = field(default_factory=set)  # directories with new names that are not synced yet
    _incoming: StoredFile | None = None
    _waiting: dict[str, StoredFile] = field(default_factory=dict)  # complete files, by name
    _waiting_bytes: int = 0
    _waiting_since: float = 0.0

    @property
    def has_waiting(self) -> bool:
        """Whether there are complete files not yet in place: call commit() when the peer is silent."""
        return bool(self._waiting)

    # --- a sink -------------------------------------------------------------------------------------------

    def begin(self, name: str, mtime: int, length: int) -> None:
        """Begin a file; if it cannot be received, report why."""
        self._name = name
        self._mtime = mtime
        if self.here.is_excluded(name):
            return
        refusal = self.here.refuses(name)
        if refusal is not None:
            self._fail(name, refusal)
            return
        try:
            self._incoming = self._open_or_commit(name)
        except (OSError, SFTPException) as error:
            self._fail_for(error)

    def write(self, piece: memoryview) -> None:
        """Write the next piece; discard it if the file has failed."""
        if self._incoming is not None:
            try:
                self._incoming.write(piece)
            except (OSError, SFTPException) as error:
                self._fail_for(error)
                return
            if self._waiting and self._have_waited(self._incoming.size):
                self.commit()  # a large file may take hours

    def end(self) -> None:
        """Set the file's time; once enough files are complete, put them in place."""
        if self._incoming is None:
            return
        try:
            self._set_attributes(self._incoming)
        except (OSError, SFTPException) as error:
            self._fail_for(error)
            return
        incoming, self._incoming = self._incoming, None
        name, mtime = self._name, self._mtime
        incoming.check = lambda: self._check_unchanged(name, mtime)
        if not self._waiting:
            self._waiting_since = time.monotonic()
        self._waiting[name] = incoming
        self._waiting_bytes += incoming.size
        if len(self._waiting) >= MOST_WAITING or self._have_waited() or incoming.descriptor() is None:
            self.commit()

    def _have_waited(self, more: int = 0) -> bool:
        """Whether the complete files have waited long enough. more: bytes of another one."""
        has_time = time.monotonic() - self._waiting_since < MOST_SECONDS
        return self._waiting_bytes + more >= MOST_BYTES or not has_time

    def commit(self) -> None:
        """Put the complete files in place. Files reported to on_file survive a crash."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        failures = commit_all(list(waiting.values()))
        try:
            for directory in self._made:
                sync_directory(self.storage, directory)
            self._made.clear()
        except (OSError, SFTPException) as failure:
            failures = dict.fromkeys(waiting.values(), failure) | failures
        for name, incoming in waiting.items():
            error = failures.get(incoming)
            if error is None:
                self.count += 1
                self.size += incoming.size
                self.on_file(name, incoming.size)
            elif isinstance(error, Overtaken):
                self.on_overtaken(name, str(error))
            else:
                self._fail(name, reason_of(error))
        for error in failures.values():
            _raise_fatal(error)

    def close(self) -> None:
        """Put the complete files in place, and remove an incomplete one."""
        self._give_up()
        self.commit()

    def _give_up(self) -> None:
        if self._incoming is not None:
            incoming, self._incoming = self._incoming, None
            incoming.discard()

    # --- the steps ----------------------------------------------------------------------------------------

    def _fail_for(self, error: Exception) -> None:
        self._give_up()
        self._fail(self._name, reason_of(error))
        _raise_fatal(error)

    def _fail(self, name: str, why: str) -> None:
        self.failures += 1
        self.on_failure(name, why)

    def _open_or_commit(self, name: str) -> StoredFile:
        try:
            return self._open(name)
        except OSError as error:
            if error.errno not in TOO_MANY_FILES or not self._waiting:
                raise
        self.commit()  # each of them is an open file
        return self._open(name)

    def _open(self, name: str) -> StoredFile:
        if self.here.leftovers:  # only now: a sync that receives nothing, such as a dry run, changes nothing
            self.leftovers += remove_leftovers(self.storage, self.top, self.here.leftovers)
            self.here.leftovers.clear()
        if self._waiting and any(part in self._waiting for part in _prefixes(name)):
            self.commit()  # the name is taken
        path = self.top + name.encode()
        parent = path.rpartition(b"/")[0] + b"/"
        self._make_directory(parent)
        replaced = attributes(self.storage.lstat, path) if name in self.here.files else None
        return open_temporary(self.storage, path, replaced)

    def _check_unchanged(self, name: str, mtime: int) -> None:
        """Check that the plan, which may be hours old, still applies. mtime: of the received file.

        Raises Overtaken, and what the storage raises.
        """
        attrs = attributes(self.storage.lstat, self.top + name.encode())
        if attrs is None:
            return
        if attrs.permissions is not None and not S_ISREG(attrs.permissions):
            raise SFTPFailure("a directory, a link or another special file has that name now")
        now = seconds(attrs)
        if now != self.here.files.get(name) and (now > mtime or not self.sync_type.by_time):
            raise Overtaken("it was changed here meanwhile")

    def _make_directory(self, path: bytes) -> None:
        """Make a directory and those above it. path: ends in a slash. Raises what the storage raises, and
        NotADirectoryError for a link.
        """
        if path in self._directories:
            return
        stripped = path.rstrip(b"/")
        is_top = len(path) <= len(self.top)
        if not is_top:
            self._make_directory(stripped.rpartition(b"/")[0] + b"/")
        # The top is named by this side's user and may be a link. In names from the peer, links are refused.
        look = self.storage.stat if is_top else self.storage.lstat
        attrs = attributes(look, path if is_top else stripped)
        if attrs is None:
            with contextlib.suppress(FileExistsError):
                # by another session; or it is a dangling link, for which the next line raises
                self.storage.mkdir(stripped, DIRECTORY)
                self._made.add(stripped.rpartition(b"/")[0] or b"/")
            attrs = look(path if is_top else stripped)
        if not S_ISDIR(attrs.permissions or 0):
            raise os_error(errno.ENOTDIR)
        self._directories.add(path)

    def _set_attributes(self, incoming: StoredFile) -> None:
        try:
            incoming.set_time(self._mtime)
        except (OSError, SFTPException):
            if not self.ignores_time_errors:
                raise
            self.time_errors += 1


def _prefixes(name: str) -> Iterator[str]:
    """A name, and those of the directories above it."""
    while name:
        yield name
        name = name.rpartition("/")[0]


def _raise_fatal(error: Exception) -> None:
    """Raise an error that would stop every other file as well."""
    if isinstance(error, OSError) and error.errno in FATAL:
        raise error
