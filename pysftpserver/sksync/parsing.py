"""Parsers for what a peer sends, fed with pieces of any size: lines, listings, contents.

A parser keeps what it cannot use yet, never more than a line. Contents go to a sink. What may not
enter: I/O.
"""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod

from pysftpserver.sksync import wire
from pysftpserver.sksync.wire import Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from pysftpserver.sksync.wire import Dialect

    class Sink(Protocol):
        """Receives contents: begin(), write() for each piece, and end(), one file after the other."""

        def begin(self, name: str, mtime: int, length: int) -> None:
            """Begin a file. mtime: seconds since the epoch. length: bytes."""

        def write(self, piece: memoryview) -> None:
            """The next piece of the file, valid only during this call."""

        def end(self) -> None:
            """The file is complete and its digest, if any, is right."""


OBJECT = 100  # most bytes of memory that a str takes in addition to its characters
ENTRY = 112  # bytes of memory that a name in a listing and its time take in addition to the str


class Damaged(Exception):
    """The received content differs from what was sent. The text is for the log."""


class LineParser:
    """One line at a time."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, data: bytes | bytearray, start: int, end: int) -> tuple[bytes | None, int]:
        """(line without its end, where the next begins); the line is None while it is incomplete.

        Raises Malformed for a line that is too long.
        """
        stop = data.find(b"\n", start, end)
        stop_or_end = end if stop < 0 else stop
        if len(self._begun) + stop_or_end - start >= wire.MOST_LINE:
            raise Malformed(f"a line of more than {wire.MOST_LINE} bytes")
        if stop < 0:
            self._begun += data[start:end]
            return None, end
        line = bytes(self._begun + data[start:stop]) if self._begun else bytes(data[start:stop])
        self._begun.clear()
        return line, stop + 1


class ListingParser:
    """A client's listing.

    files: modification times in whole seconds, by name. undecodable: number of names that are not in the
    dialect's encoding. is_done: whether the listing is complete. most_names, most_bytes: its maximum size.
    take: called with the bytes of memory that each piece has needed; may raise to end the parsing.
    """

    def __init__(
        self,
        dialect: Dialect,
        is_recursive: bool,
        most_names: int,
        most_bytes: int,
        take: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.files: dict[str, int] = {}
        self.undecodable = 0
        self.is_done = False
        self._dialect = dialect
        self._is_recursive = is_recursive
        self._most_names = most_names
        self._bytes_left = most_bytes
        self._take = take
        self._needs = 0
        self._lines = LineParser()

    def feed(self, data: bytes | bytearray, start: int, end: int) -> int:
        """Parse data[start:end]; return where parsing stopped. Raises Malformed, and what take() raises."""
        while start < end:
            line, after = self._lines.feed(data, start, end)
            self._bytes_left -= after - start
            start = after
            if line is None:
                break
            if not line:
                self.is_done = True
                break
            self._add(line)
        needs, self._needs = self._needs, 0
        self._take(needs)
        return start

    def _add(self, line: bytes) -> None:
        if len(self.files) + self.undecodable >= self._most_names or self._bytes_left < 0:
            raise Malformed("a listing that is too long (max_names, max_listing_bytes)")
        try:
            name, mtime = wire.parse_entry(line, self._dialect)
        except wire.Undecodable:
            self.undecodable += 1
            return
        if "/" in name and not self._is_recursive:
            raise Malformed("a name in a directory, where only one directory was asked for")
        # A single character beyond the BMP makes a str take four bytes for each character.
        size = sys.getsizeof(name)
        self._bytes_left -= max(0, size - OBJECT - len(line))
        self._needs += size + ENTRY
        self.files[name] = mtime


class ContentParser(ABC):
    """Passes the contents of files to a sink, one after the other. Subclasses parse the lines before each.

    count: number of files that are complete. is_done: whether there are no more.
    """

    def __init__(self, dialect: Dialect, sink: Sink) -> None:
        self.count = 0
        self.is_done = False
        self.name = ""
        self._dialect = dialect
        self._sink = sink
        self._lines = LineParser()
        self._left = 0  # bytes of the content still to come
        # Not a bound method: the reference cycle would keep the sink's storage open for long.
        self._on_line: Callable[[Any, bytes], None] = type(self)._on_first_line
        self._digest = hashlib.md5(usedforsecurity=False)

    def feed(self, data: bytes | bytearray, start: int, end: int) -> int:
        """Parse data[start:end]; return where parsing stopped. Raises Malformed, Damaged, and what the sink
        raises.
        """
        view = memoryview(data)
        while start < end and not self.is_done:
            if self._left:
                piece = view[start : min(end, start + self._left)]
                start += len(piece)
                self._left -= len(piece)
                if self._dialect.has_digests:
                    self._digest.update(piece)
                self._sink.write(piece)
                if not self._left:
                    self._on_content_end()
            else:
                line, start = self._lines.feed(data, start, end)
                if line is not None:
                    self._on_line(self, line)
        return start

    def _begin(self, name: str, mtime: int, length: int) -> None:
        self.name = name
        self._sink.begin(name, mtime, length)
        self._left = length
        if self._dialect.has_digests:
            self._digest = hashlib.md5(usedforsecurity=False)
        if not length:
            self._on_content_end()

    def _on_content_end(self) -> None:
        if self._dialect.has_digests:
            self._on_line = type(self)._on_digest
        else:
            self._end()

    def _on_digest(self, line: bytes) -> None:
        if wire.parse_digest(line) != self._digest.hexdigest():
            raise Damaged("a digest that does not match the content")
        self._end()

    def _end(self) -> None:
        self._sink.end()
        self.count += 1
        self._on_line = type(self)._on_first_line

    @abstractmethod
    def _on_first_line(self, line: bytes) -> None:
        """Parse the first of the lines before a content."""


class UploadParser(ContentParser):
    """What a client sends: the contents of the files that the server asked for, in that order.

    wanted: (name, modification time in seconds) of each.
    """

    def __init__(self, dialect: Dialect, sink: Sink, wanted: Iterable[tuple[str, int]]) -> None:
        super().__init__(dialect, sink)
        self._wanted = iter(wanted)
        self._may_be_stray = True
        self._next = next(self._wanted, None)
        self.is_done = self._next is None

    def _on_first_line(self, line: bytes) -> None:
        if not line and self._may_be_stray:  # some clients end a listing with two empty lines
            self._may_be_stray = False
            return
        self._may_be_stray = False
        assert self._next is not None
        self._begin(*self._next, wire.parse_length(line))

    def _end(self) -> None:
        super()._end()
        self._next = next(self._wanted, None)
        self.is_done = self._next is None


class DownloadParser(ContentParser):
    """What a server sends: files with their names, until an empty line.

    check: raises Malformed for a file, (name, modification time in seconds), that was not asked for.
    """

    def __init__(self, dialect: Dialect, sink: Sink, check: Callable[[str, int], None]) -> None:
        super().__init__(dialect, sink)
        self._check = check
        self._coming = ""
        self._mtime = 0

    def _on_first_line(self, line: bytes) -> None:
        if not line:
            self.is_done = True
            return
        self._coming = wire.parse_name(line, self._dialect)
        self._on_line = type(self)._on_time

    def _on_time(self, line: bytes) -> None:
        self._mtime = wire.parse_time(line)
        self._check(self._coming, self._mtime)
        self._on_line = type(self)._on_length

    def _on_length(self, line: bytes) -> None:
        self._begin(self._coming, self._mtime, wire.parse_length(line))
