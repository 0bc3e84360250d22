"""Tries the operations of a storage; reports what works, how long it takes, and what the storage cannot do.

Everything happens in a new directory below the storage's home, which is removed again. What may not enter:
concrete storages, commands, how the result is shown.
"""

from __future__ import annotations

import contextlib
import os
import time

from pysftpserver.abstractstorage import overrides
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SSH2_FX_OP_UNSUPPORTED, is_expected, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

WORKS, CANNOT, FAILED = "works", "cannot", "failed"
PREFIX = b".pysftpsite-check-"
BLOCK = bytes(range(256)) * 128  # 32 KiB
MOST_ENTRIES = 100  # of a listing
A_TIME = 1_000_000_000
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Wrong(Exception):
    """An operation has returned, but done something wrong. The text says what."""


class Ignored(Exception):
    """An operation has returned, but done nothing, as documented for the storage."""


class Outcome:
    """The result of an operation. result: WORKS, CANNOT or FAILED. words: why, or "". seconds: it took."""

    def __init__(self, operation: str, result: str, words: str, seconds: float) -> None:
        self.operation, self.result, self.words, self.seconds = operation, result, words, seconds


def outcome_of(operation: str, function: Callable[[], object]) -> Outcome:
    """Try an operation."""
    result, words = WORKS, ""
    began = time.perf_counter()
    try:
        function()
    except Ignored as error:
        result, words = CANNOT, str(error)
    except Exception as error:
        is_missing = is_expected(error) and status_of(error)[0] == SSH2_FX_OP_UNSUPPORTED
        result = CANNOT if is_missing else FAILED
        words = str(error) if is_missing else reason_of(error)
        if not is_missing and not is_expected(error) and not isinstance(error, Wrong):
            words = f"{type(error).__name__}: {words}"
    return Outcome(operation, result, words, time.perf_counter() - began)


def check(
    storage: SFTPAbstractServerStorage, read_only: bool = False, refused: Collection[str] = ()
) -> Iterator[Outcome]:
    """Try the operations one after the other. read_only: change nothing. refused: requests that sessions may
    not make; operations that need one are left out.
    """
    trial = _Trial(storage)
    try:
        for operation, requests, changes, function in trial.operations():
            if changes and read_only or any(request in refused for request in requests.split()):
                continue
            yield outcome_of(operation, function)
    finally:
        trial.clean()


class _Trial:
    def __init__(self, storage: SFTPAbstractServerStorage) -> None:
        self.storage = storage
        self.home = storage.home or b"."
        self.place = self.home.rstrip(b"/") + b"/" + PREFIX + os.urandom(6).hex().encode()
        self.has_place = False
        self.made: list[bytes] = []

    def operations(self) -> Iterator[tuple[str, str, bool, Callable[[], object]]]:
        """Each operation: its name, the requests that it makes, whether it changes anything, a function."""
        yield "list a directory", "opendir readdir", False, self.list_home
        yield "attributes", "stat", False, lambda: self.storage.stat(self.home)
        yield "free space", "statvfs", False, lambda: self.storage.statvfs(self.home)
        yield "make a directory", "mkdir", True, self.make_place
        yield "upload", "open write", True, self.upload
        if not self.made:
            return
        yield "list what was uploaded", "opendir readdir", True, self.find
        yield "download", "open read", True, lambda: self.expect(BLOCK * 2)
        yield "read from the middle", "open read", True, self.read_middle
        yield "create only if missing", "open write", True, self.exclude
        yield "append", "open write", True, self.append
        yield "write into the middle", "open write", True, self.overwrite
        yield "truncate", "setstat", True, self.truncate
        yield "set times", "setstat", True, self.set_times
        yield "set permissions", "setstat", True, self.set_permissions
        yield "wait for the disk", "open fsync", True, self.sync
        yield "symbolic link", "symlink readlink", True, self.symlink
        yield "hard link", "hardlink", True, self.link
        yield "rename", "rename", True, self.rename
        yield "rename onto a file", "posix-rename", True, self.replace
        yield "remove a file", "remove", True, lambda: self.remove(self.file)
        if self.has_place:
            yield "remove a directory", "rmdir", True, self.remove_place

    @property
    def file(self) -> bytes:
        return self.path(b"file")

    def path(self, name: bytes) -> bytes:
        return self.place + (b"/" if self.has_place else b"-") + name

    def list_home(self) -> None:
        self.names(self.home)

    def names(self, path: bytes) -> list[bytes]:
        entries = self.storage.opendir(path)
        try:
            return [name for name, _ in _first(entries)]
        finally:
            close = getattr(entries, "close", None)
            if close is not None:
                close()

    def make_place(self) -> None:
        self.storage.mkdir(self.place, 0o700)
        self.has_place = True

    def upload(self) -> None:
        if getattr(self.storage, "read_only", False) or not overrides(type(self.storage), "write"):
            raise Ignored("This storage is read-only")
        self.write(self.file, NEW, (0, BLOCK), (len(BLOCK), BLOCK))

    def write(self, path: bytes, flags: int, *chunks: tuple[int, bytes]) -> None:
        handle = self.storage.open(path, flags, 0o600)
        if path not in self.made:
            self.made.append(path)
        try:
            for offset, chunk in chunks:
                self.storage.write(handle, offset, chunk)
        except BaseException:
            self.storage.abandon(handle)
            raise
        self.storage.close(handle)

    def read(self, offset: int, size: int) -> bytes:
        handle = self.storage.open(self.file, os.O_RDONLY, 0)
        try:
            content = b""
            while len(content) < size:
                part = self.storage.read(handle, offset + len(content), size - len(content))
                if not part:
                    break
                content += part
            return content
        finally:
            self.storage.close(handle)

    def expect(self, content: bytes) -> None:
        self.expect_beginning(content, more=1)

    def expect_beginning(self, content: bytes, more: int = 0) -> None:
        if self.read(0, len(content) + more) != content:
            raise Wrong("the content is another")

    def find(self) -> None:
        if self.has_place and b"file" not in self.names(self.place):
            raise Wrong("the file is not in the listing")
        if self.storage.stat(self.file).size != 2 * len(BLOCK):
            raise Wrong("the size is another")

    def read_middle(self) -> None:
        if self.read(len(BLOCK) - 7, 14) != BLOCK[-7:] + BLOCK[:7]:
            raise Wrong("the content is another")

    def exclude(self) -> None:
        new, flags = self.path(b"new"), os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self.write(new, flags, (0, b"new"))
        try:
            self.write(new, flags, (0, b"again"))
        except Exception as error:
            if not is_expected(error):
                raise
        else:
            raise Wrong("it replaces a file that is there")
        self.remove(new)

    def append(self) -> None:
        self.write(self.file, os.O_WRONLY | os.O_APPEND, (0, b"more"))
        self.expect(BLOCK * 2 + b"more")

    def overwrite(self) -> None:
        self.write(self.file, os.O_WRONLY, (1, b"middle"))
        self.expect_beginning(BLOCK[:1] + b"middle" + BLOCK[7:100])

    def truncate(self) -> None:
        self.storage.setstat(self.file, SFTPAttributes(size=100))
        if self.storage.stat(self.file).size != 100:
            raise Wrong("the size is another")

    def set_times(self) -> None:
        self.storage.setstat(self.file, SFTPAttributes(atime=A_TIME, mtime=A_TIME))
        if self.storage.stat(self.file).mtime != A_TIME:
            raise Ignored("accepted, and changes nothing")

    def set_permissions(self) -> None:
        self.storage.setstat(self.file, SFTPAttributes(permissions=0o640))
        if (self.storage.stat(self.file).permissions or 0) & 0o777 != 0o640:
            raise Ignored("accepted, and changes nothing")

    def sync(self) -> None:
        handle = self.storage.open(self.file, os.O_RDWR, 0)
        try:
            self.storage.fsync(handle)
        finally:
            self.storage.close(handle)

    def symlink(self) -> None:
        path = self.path(b"symlink")
        self.storage.symlink(path, b"file")
        self.made.append(path)
        if self.storage.readlink(path) != b"file":
            raise Wrong("the target is another")
        self.remove(path)

    def link(self) -> None:
        path = self.path(b"link")
        self.storage.link(self.file, path)
        self.made.append(path)
        self.remove(path)

    def rename(self) -> None:
        new = self.path(b"renamed")
        self.made.append(new)
        self.storage.rename(self.file, new)
        self.storage.rename(new, self.file)

    def replace(self) -> None:
        other = self.path(b"other")
        self.write(other, NEW, (0, b"other"))
        self.storage.rename(other, self.file, True)
        self.expect(b"other")

    def remove(self, path: bytes) -> None:
        self.storage.rm(path)
        self.made.remove(path)

    def remove_place(self) -> None:
        self.clean_files()
        self.storage.rmdir(self.place)
        self.has_place = False

    def clean(self) -> None:
        """Remove what is left."""
        self.clean_files()
        if self.has_place:
            with contextlib.suppress(Exception):
                self.storage.rmdir(self.place)

    def clean_files(self) -> None:
        for path in self.made:
            with contextlib.suppress(Exception):
                self.storage.rm(path)
        self.made = []


def _first(entries: Iterator[tuple[bytes, SFTPAttributes]]) -> Iterator[tuple[bytes, SFTPAttributes]]:
    """The first entries of a listing, which may be long."""
    for number, entry in enumerate(entries):
        if number == MOST_ENTRIES:
            return
        yield entry
