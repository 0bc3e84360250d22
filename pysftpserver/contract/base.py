"""The common part of the rules of the contract: the storage under test, and ways to query it.

What may not enter: rules.
"""

from __future__ import annotations

import functools
import os

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.client import Client
from pysftpserver.contract.in_process import ServerLine, StorageSubject
from pysftpserver.contract.packets import SFTPTestClient, get_sftphandle, get_sftpstatus
from pysftpserver.engine import wire
from pysftpserver.engine.log import ERROR, SFTPLog
from pysftpserver.pysftpexceptions import is_expected, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import unittest
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

    Base = unittest.TestCase
else:
    Base = object  # the author's class adds TestCase: this one must not be collected by itself

NOT_FOUND = wire.SSH2_FX_NO_SUCH_FILE
DENIED = wire.SSH2_FX_PERMISSION_DENIED
FAILED = wire.SSH2_FX_FAILURE
SENSELESS = wire.SSH2_FX_BAD_MESSAGE
UNSUPPORTED = wire.SSH2_FX_OP_UNSUPPORTED

READ_SIZE = 1 << 20  # bytes
#: Fields that a storage may be unable to set, each with attributes that would set it.
FIELDS = {
    "owner": SFTPAttributes(uid=1000, gid=1000),
    "permissions": SFTPAttributes(permissions=0o640),
    "times": SFTPAttributes(atime=1_000_000_000, mtime=1_000_000_000),
}

#: Extensions, and the methods of storages without which they are not announced.
EXTENSIONS = {
    b"posix-rename@openssh.com": ("rename",),
    b"statvfs@openssh.com": ("statvfs",),
    b"fstatvfs@openssh.com": ("fstatvfs",),
    b"hardlink@openssh.com": ("link",),
    b"fsync@openssh.com": ("fsync",),
    b"lsetstat@openssh.com": ("lsetstat",),
    b"copy-data": ("read", "write"),
    b"check-file": ("open", "read"),
}

#: Arguments with which to try an unsupported method; a and b stand for paths that do not exist.
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "stat": (b"a",),
    "lstat": (b"a",),
    "fstat": (),
    "setstat": (b"a", FIELDS["permissions"]),
    "lsetstat": (b"a", FIELDS["permissions"]),
    "fsetstat": (FIELDS["permissions"],),
    "opendir": (b"a",),
    "mkdir": (b"a", 0o777),
    "rmdir": (b"a",),
    "open": (b"a", os.O_RDONLY, 0),
    "read": (0, 1),
    "write": (0, b"x"),
    "close": (),
    "fsync": (),
    "rm": (b"a",),
    "rename": (b"a", b"b"),
    "symlink": (b"a", b"b"),
    "readlink": (b"a",),
    "link": (b"a", b"b"),
    "statvfs": (b"a",),
    "fstatvfs": (),
}
METHODS = frozenset(_ARGUMENTS)
_OF_A_HANDLE = ("fstat", "fsetstat", "read", "write", "close", "fsync", "fstatvfs")


class ContractBase(Base):
    """The author's part of the contract, and helpers for the rules.

    make_storage: override it; a new, empty storage each time (use self.addCleanup() for what has to be
    removed). unsupported: the methods that the storage leaves out, and "owner", "permissions" or "times" if
    setstat() cannot set these, "nlink" if only listings know it. Every rule that needs one of them then
    checks that clients get OP_UNSUPPORTED; what is missing and not declared fails. unencodable: those of
    names.NAMES that the storage cannot store; it has to refuse them as bad messages. many: entries of the
    largest listing; override fill() if storing them one by one takes long. failing: override it if the
    storage can be made to fail. seed: for everything random.

    In its methods, path is a whole path, name a single name in the test's directory, content the bytes of a
    file, and tree a dict from names to contents, or None for a directory. method is the name of a storage
    method, and arguments are its arguments. expected is a code SSH2_FX_*.
    """

    unsupported: frozenset[str] = frozenset()
    unencodable: frozenset[bytes] = frozenset()
    many = 3_000
    seed = 1

    def make_storage(self) -> SFTPAbstractServerStorage:
        """A new, empty storage."""
        raise NotImplementedError("override make_storage(): return a fresh and empty storage")

    def put(self, path: bytes, content: bytes) -> None:
        """Put a file into the storage. Override it for a storage that has no write()."""
        if {"open", "write", "close"} & self.unsupported:
            raise NotImplementedError("override put(path, content): this storage cannot be written to")
        handle = self.storage.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            self.storage.write(handle, 0, content)
        finally:
            self.storage.close(handle)

    def fill(self, directory: bytes, names: list[bytes]) -> None:
        """Put empty files with these names into a directory."""
        for name in names:
            self.put(directory + b"/" + name, b"")

    def failing(self) -> AbstractContextManager[Any] | None:
        """A context in which the storage fails, as when its server is down; None if it cannot be made to."""
        return None

    # --- for the rules ------------------------------------------------------------------------------

    @functools.cached_property
    def storage(self) -> SFTPAbstractServerStorage:
        """The storage of this test."""
        return self.make_storage()

    @functools.cached_property
    def client(self) -> SFTPTestClient:
        """A client of the storage. An exception that is not an answer fails the test."""
        faults: list[str] = []
        log = SFTPLog(lambda level, text: faults.append(text), ERROR)
        client = SFTPTestClient(self.storage, log=log)
        self.addCleanup(lambda: self.assertEqual(faults, [], "the session logged faults"))
        self.addCleanup(client.close)
        return client

    def line(self) -> ServerLine:
        """A line to a new session of the storage. An unexpected exception in the session fails the test."""
        faults: list[str] = []
        log = SFTPLog(lambda level, text: faults.append(text), ERROR)
        line = ServerLine(self.storage, log=log)
        self.addCleanup(lambda: self.assertEqual(faults, [], "the session logged faults"))
        self.addCleanup(line.close)
        return line

    @functools.cached_property
    def subject(self) -> StorageSubject:
        """The subject on which a rule of the table is tried."""
        client = Client(self.line())
        client.hello()
        subject = StorageSubject(self, client)
        self.addCleanup(subject.end)
        return subject

    def path(self, name: bytes) -> bytes:
        """A path of the storage: a name below its home; without a home, the name as a client sends it."""
        home = self.storage.home
        return name if home is None else home.rstrip(b"/") + b"/" + name

    def file(self, name: bytes, content: bytes = b"") -> bytes:
        """Put a file into the storage; return its path."""
        path = self.path(name)
        self.put(path, content)
        return path

    def make(self, tree: dict[bytes, bytes | None]) -> None:
        """Put files (content by name) and directories (None) into the storage, in order."""
        for name, content in tree.items():
            if content is None:
                self.storage.mkdir(self.path(name), 0o777)
            else:
                self.put(self.path(name), content)

    def content(self, path: bytes) -> bytes:
        """The whole content of a file, read from the storage itself."""
        handle = self.storage.open(path, os.O_RDONLY, 0)
        try:
            content = bytearray()
            while len(content) % READ_SIZE == 0:  # a read is short only at the end
                part = self.storage.read(handle, len(content), READ_SIZE)
                if not part:
                    break
                content += part
            return bytes(content)
        finally:
            self.storage.close(handle)

    def opened(self, path: bytes, flags: int, mode: int = 0o666) -> Any:
        """A handle of the storage itself, closed when the test ends. flags, mode: as open() takes them."""
        handle = self.storage.open(path, flags, mode)
        self.addCleanup(self.storage.close, handle)
        return handle

    def exists(self, path: bytes) -> bool:
        """Whether something has that name."""
        try:
            self.storage.lstat(path)
        except Exception as error:
            self.assertEqual(self.status(error), NOT_FOUND, f"lstat of {path!r} raised {error!r}")
            return False
        return True

    def listing(self, path: bytes) -> list[tuple[bytes, SFTPAttributes]]:
        """All entries of a directory; the listing is closed."""
        entries = self.storage.opendir(path)
        try:
            return list(entries)
        finally:
            close(entries)

    def names(self, path: bytes) -> list[bytes]:
        """The names in a directory, sorted, without `.` and `..`."""
        return sorted(name for name, _ in self.listing(path) if name not in (b".", b".."))

    def status(self, error: BaseException) -> int:
        """The status of an exception. error: must be a valid answer, not a fault of the storage."""
        if not is_expected(error):
            raise error
        return status_of(error)[0]

    def assert_refused(self, expected: int | None, method: str, *arguments: Any) -> None:
        """Check that a method raises an exception with that status (None: any), and that a client sees the
        same.
        """
        status = self.raised(getattr(self.storage, method), *arguments)
        self.assertIsNotNone(status, f"{method}{arguments} raised nothing")
        if expected is not None:
            self.assertEqual(status, expected, f"{method}{arguments}: status")
        if method not in ("read", "write", "close", "fsync", "fstat", "fsetstat", "fstatvfs"):
            seen = get_sftpstatus(self.client.call(method, *arguments))
            self.assertEqual(seen, status, f"{method}{arguments}: status that a client sees")

    def raised(self, function: Callable[..., Any], *arguments: Any) -> int | None:
        """The status of what calling function with arguments raises, or None if it returns."""
        try:
            result = function(*arguments)
        except Exception as error:
            return self.status(error)
        if result is not None and getattr(function, "__name__", "") == "open":
            self.storage.close(result)
        elif result is not None:
            close(result)
        return None

    def assert_unsupported(self, what: str) -> None:
        """Check that a method or field declared unsupported is so for the storage and for a client."""
        storage, client = self.storage, self.client
        if what == "nlink":
            self.assertEqual(storage.lstat(self.path(b"")).nlink, 1)
            return
        path = self.path(b"of-unsupported")
        if what in FIELDS:
            if "setstat" not in self.unsupported:
                self.put(path, b"")
                self.assert_refused(UNSUPPORTED, "setstat", path, FIELDS[what])
            return
        arguments = _ARGUMENTS[what]
        paths = [self.path(a) if a in (b"a", b"b") else a for a in arguments]
        if what not in _OF_A_HANDLE:
            self.assert_refused(UNSUPPORTED, what, *paths)
            return
        if "open" in self.unsupported:
            self.assertEqual(self.raised(getattr(storage, what), object(), *arguments), UNSUPPORTED)
            return
        self.put(path, b"")
        opened = storage.open(path, os.O_RDONLY, 0)
        self.assertEqual(self.raised(getattr(storage, what), opened, *arguments), UNSUPPORTED)
        if what != "close" and "close" not in self.unsupported:
            storage.close(opened)
        handle = get_sftphandle(client.call("open", path, os.O_RDONLY, 0))
        self.assertEqual(get_sftpstatus(client.call(what, handle, *arguments)), UNSUPPORTED)

    def assert_ok(self, reply: bytes) -> None:
        """Check that a reply is STATUS OK."""
        self.assertEqual(get_sftpstatus(reply), wire.SSH2_FX_OK)


def close(entries: object) -> None:
    """Close the object if it has a close()."""
    method = getattr(entries, "close", None)
    if method is not None:
        method()


def needs(*what: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Mark a rule for storages that have all of these methods and fields.

    For other storages it checks instead that clients are told OP_UNSUPPORTED: no rule is ever skipped.
    """

    def decorate(rule: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(rule)
        def run(case: Any) -> None:
            missing = [name for name in what if name in case.unsupported]
            for name in missing:
                case.assert_unsupported(name)
            if not missing:
                rule(case)

        return run

    return decorate
