"""Open files and listings of the server behind, and READs and WRITEs in flight.

What may not enter: paths, which requests a method of a storage makes.
Facts: draft-ietf-secsh-filexfer-02, sections 6.4 and 6.7.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import count

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.pysftpexceptions import SFTPEndOfFile, SFTPException
from pysftpserver.storages.sftp import replies
from pysftpserver.storages.sftp.connection import Answer, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.storages.sftp.connection import Buffer

MOST_IN_VAIN = 100  # replies of a listing in a row without a name that can be shown


class File:
    """An open file of the server behind. connection: the one it was opened on. name: its handle, encoded.
    reading, writing: the last promises.
    """

    __slots__ = ("connection", "is_appended", "is_written", "name", "reading", "writing")

    def __init__(self, connection: Connection, name: bytes, flags: int) -> None:
        self.connection = connection
        self.name = name
        self.is_appended = bool(flags & os.O_APPEND)
        self.is_written = flags & os.O_ACCMODE != os.O_RDONLY
        self.reading: Answer | None = None
        self.writing: Answer | None = None


class Promise:
    """A READ or WRITE in flight, in several parts if the server behind does not take so much at once.

    is_kept() does not wait. result() waits; it returns what read() would, or raises what read() or write()
    would. fileno() becomes readable when is_kept() may have another result; after seconds_left(), is_kept()
    has to be called in any case.
    """

    __slots__ = ("_connection", "_parts")

    def __init__(self, connection: Connection, parts: list[tuple[Answer, int]]) -> None:
        self._connection = connection
        self._parts = parts

    def is_kept(self) -> bool:
        last = self._parts[-1][0]
        if not last.is_here:
            self._connection.look()
        return all(answer.is_here for answer, _ in self._parts)

    def fileno(self) -> int:
        return self._connection.readiness.fileno()

    def seconds_left(self) -> float:
        return max(0.0, self._connection.seconds_left())


class ReadPromise(Promise):
    __slots__ = ()

    def result(self) -> Buffer:
        """The content, empty at the end of the file."""
        found: list[memoryview] = []
        for answer, size in self._parts:
            data = self._connection.decoded(answer, partial(replies.data_in, size))
            found.append(data)
            if len(data) < size:
                break
        return found[0] if len(found) == 1 else b"".join(found)


class WritePromise(Promise):
    __slots__ = ()

    def result(self) -> None:
        """Returns when all is stored."""
        failure = None
        for answer, _ in self._parts:
            try:
                self._connection.decoded(answer, replies.expect_ok)
            except SFTPException as error:
                failure = failure or error
        if failure is not None:
            raise failure


class Listing:
    """The entries of a directory, one READDIR ahead of the client. After an error, raises it again."""

    def __init__(
        self, connection: Connection, name: bytes, learn: Callable[[bytes, SFTPAttributes], None]
    ) -> None:
        self._connection = connection
        self._name = name
        self._learn = learn
        self._entries: Iterator[tuple[bytes, bytes, SFTPAttributes]] = iter(())
        self._next: Answer = connection.send(wire.SSH2_FXP_READDIR, name)

    def __iter__(self) -> Listing:
        return self

    def __next__(self) -> tuple[bytes, SFTPAttributes]:
        for number in count():
            for name, longname, attrs in self._entries:
                self._learn(longname, attrs)
                return name, attrs
            if number == MOST_IN_VAIN:
                self._connection.lose("it broke the protocol: a listing without names that does not end")
            try:
                self._entries = iter(self._connection.decoded(self._next, replies.entries_in))
            except SFTPEndOfFile:
                raise StopIteration from None
            self._next = self._connection.send(wire.SSH2_FXP_READDIR, self._name)
        raise AssertionError

    def close(self) -> None:
        """Close the directory: the client is done."""
        if self._connection.lost is None:
            self._connection.send(wire.SSH2_FXP_CLOSE, self._name)
