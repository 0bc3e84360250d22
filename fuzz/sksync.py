"""Targets for SK Sync: parsers against a second implementation, and whole sessions of its server.

An input is one byte of ways and the data that a peer sends. What may not enter: atheris, how inputs are
mutated.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import zlib
from collections.abc import Callable
from typing import Any

from fuzz.storages import InJail, small_files
from pysftpserver.engine.log import MOST_LINE, VERBOSE, SFTPLog
from pysftpserver.service.budget import Budget
from pysftpserver.sksync import config
from pysftpserver.sksync.connection import Connection
from pysftpserver.sksync.logins import Logins
from pysftpserver.sksync.parsing import (
    OBJECT,
    Damaged,
    DownloadParser,
    LineParser,
    ListingParser,
    UploadParser,
)
from pysftpserver.sksync.session import Session
from pysftpserver.sksync.shares import whole_storage
from pysftpserver.sksync.wire import MOST_DEEP, MOST_LENGTH, MOST_TIME, Dialect, Malformed
from pysftpserver.sksync.wire import MOST_LINE as MOST_BYTES

ENDS = (Malformed, Damaged)
WANTED = [("a", 1), ("b", 2), ("c/d", 3)]
MOST_NAMES, MOST_LISTING = 20, 400
DIALECTS = tuple(Dialect)
NUMBER = re.compile(rb"-?[0-9]{1,19}")
CUTS = 16
Events = list[object]


class Ended(Exception):
    """The second implementation found input that has to end the connection."""


# --- the second implementation: straightforward, on the whole stream --------------------------------------


class Reading:
    """The second implementation: decodes a whole stream from its start."""

    def __init__(self, stream: bytes, dialect: Dialect) -> None:
        self.rest = stream
        self.dialect = dialect
        self.events: Events = []

    def line(self) -> bytes | None:
        """Return the next line, or None if it is incomplete."""
        line, end, after = self.rest.partition(b"\n")
        if len(line) >= MOST_BYTES:
            raise Ended
        if not end:
            return None
        self.rest = after
        return line

    def number(self, line: bytes, most: int) -> int:
        if not NUMBER.fullmatch(line) or not 0 <= int(line) <= most:
            raise Ended
        return int(line)

    def name(self, raw: bytes) -> str:
        parts = raw.split(b"/")
        if {b"", b".", b".."} & {*parts} or b"\0" in raw or len(parts) > MOST_DEEP + 1:
            raise Ended
        return raw.decode(self.dialect.encoding)

    def content(self, length: int) -> bool:
        """Skip a content and its digest; return whether it was complete."""
        found, self.rest = self.rest[:length], self.rest[length:]
        if found:
            self.events.append(found)
        if len(found) < length:
            return False
        if self.dialect.has_digests:
            line = self.line()
            if line is None:
                return False
            if line.lower() != hashlib.md5(found).hexdigest().encode():
                raise Ended
        self.events.append("end")
        return True

    # --- what each parser reads ---------------------------------------------------------------------------

    def lines(self) -> None:
        while (line := self.line()) is not None:
            self.events.append(line)

    def listing(self, is_recursive: bool) -> None:
        size, undecodable = 0, 0
        files: dict[str, int] = {}
        self.events.append(files)
        while (line := self.line()) not in (None, b""):
            assert line is not None
            size += len(line) + 1
            if len(files) + undecodable >= MOST_NAMES or size > MOST_LISTING:
                raise Ended
            time, space, raw = line.partition(b" ")
            if not space:
                raise Ended
            try:
                raw.decode(self.dialect.encoding)
            except UnicodeDecodeError:
                undecodable += 1
                continue
            name = self.name(raw)
            mtime = self.number(time, MOST_TIME) // 1000
            if b"/" in raw and not is_recursive:
                raise Ended
            size += max(0, sys.getsizeof(name) - OBJECT - len(line))
            files[name] = mtime

    def uploads(self) -> None:
        for position, (name, mtime) in enumerate(WANTED):
            line = self.line()
            if line == b"" and not position:
                line = self.line()
            if line is None:
                return
            length = self.number(line, MOST_LENGTH)
            self.events.append((name, mtime, length))
            if not self.content(length):
                return

    def downloads(self) -> None:
        while (raw := self.line()) not in (None, b""):
            assert raw is not None
            try:
                name = self.name(raw)
            except UnicodeDecodeError:
                raise Ended from None
            time = self.line()
            if time is None:
                return
            mtime = self.number(time, MOST_TIME) // 1000
            length = self.line()
            if length is None:
                return
            size = self.number(length, MOST_LENGTH)
            self.events.append((name, mtime, size))
            if not self.content(size):
                return


# --- the parsers ------------------------------------------------------------------------------------------


class Kept:
    """A sink that stores everything, and joins the pieces of a content."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def begin(self, name: str, mtime: int, length: int) -> None:
        self.events.append((name, mtime, length))

    def write(self, piece: memoryview) -> None:
        if isinstance(self.events[-1], bytes):
            self.events[-1] += bytes(piece)
        else:
            self.events.append(bytes(piece))

    def end(self) -> None:
        self.events.append("end")


class Lines:
    """Gives LineParser the interface of the other parsers; it is never done."""

    is_done = False

    def __init__(self, events: Events) -> None:
        self.events = events
        self.parser = LineParser()

    def feed(self, data: bytes, start: int, end: int) -> int:
        while start < end:
            line, start = self.parser.feed(data, start, end)
            if line is not None:
                self.events.append(line)
        return start


class ParserTarget:
    """Compares a parser, fed in random pieces, with the second implementation."""

    def __call__(self, data: bytes) -> None:
        ways, stream = (data[0], data[1:]) if data else (0, b"")
        dialect = DIALECTS[(ways >> 2 & 7) % len(DIALECTS)]
        is_recursive = bool(ways & 32)
        reading = Reading(stream, dialect)
        read = (reading.lines, lambda: reading.listing(is_recursive), reading.uploads, reading.downloads)
        try:
            read[ways % 4]()
            ended = False
        except Ended:
            ended = True
        events: Events = []
        parser = self.parser(ways % 4, dialect, is_recursive, events)
        position, has_ended = self.feed(parser, stream, bool(ways & 64))
        if has_ended != ended:
            raise AssertionError(f"ended: {has_ended}, where a second reading says {ended}")
        assert events == reading.events, f"{events!r}, where a second reading has {reading.events!r}"
        if parser.is_done:
            assert stream[position:] == reading.rest, f"stopped at {position}, {len(reading.rest)} were left"
        elif not ended:
            assert position == len(stream), f"took {position} bytes of {len(stream)}"

    def parser(self, kind: int, dialect: Dialect, is_recursive: bool, events: Events) -> Any:
        if kind == 0:
            return Lines(events)
        if kind == 1:
            listing = ListingParser(dialect, is_recursive, MOST_NAMES, MOST_LISTING)
            events.append(listing.files)
            return listing
        if kind == 2:
            return UploadParser(dialect, Kept(events), WANTED)
        return DownloadParser(dialect, Kept(events), lambda _name, _mtime: None)

    def feed(self, parser: Any, stream: bytes, in_pieces: bool) -> tuple[int, bool]:
        """Return (where it stopped, whether it ended the connection). Other exceptions are faults."""
        chance = zlib.crc32(stream)
        step = max(1 + chance % 7, len(stream) // CUTS) if in_pieces else len(stream)
        position = 0
        try:
            while position < len(stream) and not parser.is_done:
                end = min(position + step, len(stream))
                stop = parser.feed(stream, position, end)
                assert position <= stop <= end, f"feed({position}, {end}) returned {stop}"
                assert stop == end or parser.is_done, "it left bytes without being done"
                position = stop
        except ENDS:
            return position, True
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} came out of the parser") from error
        return position, False


# --- sessions ---------------------------------------------------------------------------------------------


class Transport(asyncio.Transport):
    """A transport without a peer, which accepts what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()

    def write(self, data: Any) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class SyncTarget:
    """Sessions of the server in a jail: nothing outside changes, no file is left, no fault is logged."""

    def __init__(self) -> None:
        self.place = InJail()
        self.loop = asyncio.new_event_loop()

    def __call__(self, data: bytes) -> None:
        ways, stream = (data[0], data[1:]) if data else (0, b"")
        storage = self.place.fresh(bool(ways & 64))
        lines: list[str] = []
        try:
            with small_files():
                sent = self.loop.run_until_complete(self.session(ways, stream, storage, lines))
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} came out of the session") from error
        finally:
            self.place.changed()
        assert lines, "nothing was logged"
        for line in lines:
            assert len(line) <= MOST_LINE and line.isascii() and line.isprintable(), f"logged {line!r}"
            assert "fault" not in line, f"a fault was logged: {lines!r}"
        left = [entry for entry in self.place.snapshot() if b"/.pysftp-" in entry[0]]  # type: ignore[attr-defined, index]
        assert not left, f"left behind: {left!r}"
        self.place.check(bytes(sent))

    async def session(self, ways: int, stream: bytes, storage: Any, lines: list[str]) -> bytearray:
        keys: dict[str, Any] = {"require_auth": False, "max_names": MOST_NAMES, "timeout": 5}
        if ways & 1:
            keys["filter_fnmatch_exclude"] = ["*.tmp", "d/*"]
        if ways & 2:
            keys["users"] = {"u": {"authsrp": ["00ff", "07"]}}
            keys["require_auth"] = bool(ways & 4)
        log = SFTPLog(lambda _, text: lines.append(text), VERBOSE)
        connection = Connection(5, lambda _: None)
        transport = Transport()
        connection.connection_made(transport)
        step = max(1, len(stream) // CUTS) if ways & 8 else len(stream) or 1
        for start in range(0, len(stream), step):
            connection.data_received(stream[start : start + step])
        connection.eof_received()

        async def in_place(function: Callable[..., Any], *arguments: Any) -> Any:
            return function(*arguments)

        settings = config.checked(keys)
        shares, logins = whole_storage(lambda: storage), Logins(settings.users)
        memory = Budget(settings.max_listing_memory, settings.max_connections)
        must_be_in = asyncio.get_running_loop().time() + settings.login_grace
        await Session(connection, settings, shares, logins, log, in_place, memory, must_be_in).run()
        return transport.sent
