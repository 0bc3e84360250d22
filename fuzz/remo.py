"""Targets for remote administration: parsers against a second implementation, and whole connections.

An input is one byte of ways and the data that a peer sends. Its tokens are `~` and plain text, because a
fuzzer cannot forge signatures. What may not enter: atheris, how inputs are mutated.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import socket
import struct
import time
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from fuzz.storages import InJail, small_files
from pysftpserver.http import streams
from pysftpserver.http.server import Connection, Server
from pysftpserver.remo import audit, bodies, login, wire
from pysftpserver.remo.application import Application
from pysftpserver.remo.config import ServerSettings
from pysftpserver.remo.crypto import new_key
from pysftpserver.remo.server import log
from pysftpserver.remo.session import Session
from pysftpserver.remo.users import Permissions, User

COOKIE = "s"  # fixed, so that inputs can contain it
MOST = 64  # bytes of a token, to test its limit
CUTS = 16
MOST_ANSWERS = 1000
STATUSES = {200, 400, 403, 404, 405, 408, 411, 413, 414, 429, 500, 501, 503, 505}
BASE64 = re.compile(rb"(?:[\w-]{4})*(?:[\w-]{2}==|[\w-]{3}=)?", re.ASCII)
CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;[^\r]*)?\r\n")
PART = struct.Struct(">2shh")
BOUND = b"path"
Events = list[object]


class Ended(Exception):
    """The second implementation found invalid input."""


class Open:
    """A cipher that does not encrypt: it encodes in base64, and takes plain text as tokens."""

    def encrypt(self, data: bytes) -> bytes:
        return b"~" + wire.b64(data).encode()

    def decrypt(self, token: bytes) -> bytes:
        if token[:1] != b"~":
            raise wire.BadToken("not a token of this session")
        return token[1:]


def made_at(token: bytes) -> int:
    """Return when a token was made: now, or long ago if it begins with `~!`."""
    return 0 if token[1:2] == b"!" else int(time.time())


# --- the parsers ------------------------------------------------------------------------------------------


def cut(stream: bytes, in_pieces: bool) -> Iterator[bytes]:
    """Return the data in one piece or in several."""
    step = max(1 + zlib.crc32(stream) % 7, len(stream) // CUTS) if in_pieces else len(stream) or 1
    for start in range(0, len(stream), step):
        yield stream[start : start + step]


def read_lines(stream: bytes) -> Iterator[object]:
    """Decode tokens independently."""
    for line in stream.split(b"\n"):
        if len(line) > MOST:
            raise Ended
        if line.strip():
            yield line.strip()


def lines(stream: bytes, in_pieces: bool) -> Iterator[object]:
    yield from bodies.tokens(cut(stream, in_pieces), MOST)


def unb64(text: object) -> bytes:
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    if not isinstance(raw, bytes) or not BASE64.fullmatch(raw):
        raise Ended
    value = 0
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    digits = raw.rstrip(b"=")
    for digit in digits:
        value = value << 6 | alphabet.index(digit)
    spare = len(digits) * 6 % 8
    if value & (1 << spare) - 1:
        raise Ended  # spare bits are set: another text for the same bytes
    return (value >> spare).to_bytes(len(digits) * 6 // 8, "big")


def read_login(stream: bytes) -> Iterator[object]:
    try:
        said = json.loads(stream)
        user, key, signature = said["user"], said["key"], said["sign"]
        user.encode("utf-8", "strict")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Ended from None
    if len(unb64(key)) != wire.X448_BYTES or not isinstance(signature, str):
        raise Ended
    yield from (user, unb64(key), unb64(signature))


def logins(stream: bytes, _: bool) -> Iterator[object]:
    said = wire.parse_login(stream)
    yield from (said.user, said.key, said.signature)


def read_chunks(stream: bytes) -> Iterator[object]:
    found = b""
    while True:
        head, end, stream = stream.partition(b"\n")
        said = CHUNK.fullmatch(head + end)
        if said is None:
            raise Ended
        size = int(said[1], 16)
        if not size:
            break
        if len(stream) < size + 2 or stream[size : size + 2] != b"\r\n":
            raise Ended
        found += stream[:size]
        stream = stream[size + 2 :]
    while True:
        line, end, stream = stream.partition(b"\n")
        if not end or not line.endswith(b"\r"):
            raise Ended
        if line == b"\r":
            break
    yield from (found, stream)


def chunks(stream: bytes, in_pieces: bool) -> Iterator[object]:
    source, step = io.BytesIO(stream), 1 + zlib.crc32(stream) % 7 if in_pieces else len(stream)
    given = types.SimpleNamespace(recv=lambda most: source.read(min(step, most)))
    reader = streams.Reader(streams.Stream(given, 0))  # type: ignore[arg-type]
    body = streams.ChunkedBody(reader)
    found = b""
    while piece := body.read():
        found += piece
    rest = b""
    while piece := reader.stream.receive(streams.RECEIVE):
        rest += piece
    yield from (found, rest)


def read_numbered(stream: bytes) -> Iterator[object]:
    """Decode the tokens of one body independently; the first has the request's number."""
    number = None
    is_last = False
    found = [line.strip() for line in stream.split(b"\n") if line.strip()]
    for count, token in enumerate(found):
        if token[:1] != b"~" or token[1:2] == b"!" or is_last or len(token) < 7:
            raise Ended
        magic, its_number, its_count = PART.unpack_from(token, 1)
        if magic not in ((b".E", b"..") if count else (b"BE", b"B.")) or its_count != count:
            raise Ended
        number = its_number if number is None else number
        data = token[7:]
        if its_number != number or not count and not data.startswith(BOUND):
            raise Ended
        is_last = magic[1:] == b"E"
        yield data if count else data[len(BOUND) :]
    if not is_last:
        raise Ended
    yield number


def numbered(stream: bytes, in_pieces: bool) -> Iterator[object]:
    opener = wire.Opener(Open(), BOUND)
    for token in bodies.tokens(cut(stream, in_pieces), 1 << 20):
        yield opener.open(token)
    opener.finish()
    yield opener.number


Parser = Callable[[bytes, bool], Iterator[object]]
PARSERS: tuple[tuple[Parser, Callable[[bytes], Iterator[object]]], ...] = (
    (lines, read_lines),
    (logins, read_login),
    (chunks, read_chunks),
    (numbered, read_numbered),
)


class ParserTarget:
    """Compares a parser with a second implementation: they agree on the result or on the failure."""

    def __call__(self, data: bytes) -> None:
        ways, stream = (data[0], data[1:]) if data else (0, b"")
        parser, second = PARSERS[ways % len(PARSERS)]
        wanted: Events = []
        with contextlib.suppress(Ended):
            wanted.extend(second(stream))
            wanted.append("end")
        found: Events = []
        try:
            with mock.patch.object(wire, "made_at", made_at):
                found.extend(parser(stream, bool(ways & 64)))
            found.append("end")
        except wire.ProtocolError:
            pass
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} came out of the parser") from error
        if found[-1:] != wanted[-1:] and "end" in (*found[-1:], *wanted[-1:]):
            raise AssertionError(f"{found!r}, where a second reading has {wanted!r}")
        if found[-1:] == ["end"]:
            assert found == wanted, f"{found!r}, where a second reading has {wanted!r}"


# --- connections ------------------------------------------------------------------------------------------


class NoUsers:
    """A user table with one user, whose key is unknown."""

    def __init__(self) -> None:
        self._user = User("u", wire.b64(new_key().public_key().public_bytes_raw()), None)

    def find(self, name: str) -> User | None:
        return self._user if name == "u" else None


class Records(logging.Handler):
    """A log handler that stores the records."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)


class RemoTarget:
    """Connections with a session in a jail.

    Checks that answers are valid, each number is served once, nothing outside changes, no temporary file is
    left, and no fault is logged.
    """

    def __init__(self) -> None:
        self.place = InJail()

    def __call__(self, data: bytes) -> None:
        ways, stream = (data[0], data[1:]) if data else (0, b"")
        storage = self.place.fresh(bool(ways & 64))
        given = {"require_numbered": bool(ways & 1), "max_token": 1024, "proxied": bool(ways & 2)}
        values = ServerSettings(**given, max_put=100 if ways & 4 else None)
        records, logger = Records(), logging.getLogger("pysftpserver.remo")
        level, logger.propagate = logger.level, False
        logger.setLevel(logging.DEBUG)
        logger.addHandler(records)
        try:
            with small_files(), self.seams():
                application = Application(values, new_key(), NoUsers(), lambda *_: storage, may_run=False)  # type: ignore[arg-type]
                sent = self.connection(values, application, stream, bool(ways & 8))
                application.close()
        except AssertionError:
            raise
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} came out of the connection") from error
        finally:
            logger.removeHandler(records)
            logger.setLevel(level)
            logger.propagate = True
            self.place.changed()
        self.check_log(records.found)
        answers = self.answers(sent)
        self.check_numbers(answers)
        left = [entry for entry in self.place.snapshot() if b"/.pysftp-" in entry[0]]  # type: ignore[attr-defined, index]
        assert not left, f"left behind: {left!r}"
        self.place.check(b"".join(unb64(token[1:]) for _, tokens in answers for token in tokens or ()))

    @contextlib.contextmanager
    def seams(self) -> Iterator[None]:
        """Let inputs choose token times and path hashes; disable waiting and the removal of old sessions."""
        with (
            mock.patch.object(wire, "made_at", made_at),
            mock.patch.object(wire, "path_hash", lambda path: path[:48].ljust(48, b".")),
            mock.patch.object(login, "REFUSED_AFTER", 0.0),
            mock.patch.object(Application, "_sweep_from_now_on", lambda _: None),
        ):
            yield

    def connection(
        self, values: ServerSettings, application: Application, stream: bytes, in_pieces: bool
    ) -> bytes:
        """Send all data on one connection; return the server's answers."""
        user = User("u", "", None)
        trail = application._trail.of("u", "192.0.2.1", None)
        session = Session(user, Permissions.FILES, Open(), "192.0.2.1", time.monotonic(), trail)  # type: ignore[arg-type]
        session.id, session.is_confirmed = COOKIE, True
        application.sessions._sessions[COOKIE] = session
        server = Server(values, application, "pysftpremo", log)
        server.ready, server._connections = True, types.SimpleNamespace(can_add_keepalive_connection=True)
        theirs, ours = socket.socketpair()
        with theirs, ours:
            theirs.sendall(stream)
            theirs.shutdown(socket.SHUT_WR)
            connection = Connection(server, ours)
            connection.remote_addr, connection.remote_port = "192.0.2.1", 1
            if in_pieces:
                connection.socket = connection.stream._socket = Pieces(ours, 1 + zlib.crc32(stream) % 40)
            count = 0
            while connection.communicate() and connection.ends_at is None:
                count += 1
                assert count < MOST_ANSWERS, "it does not end"
            while connection.ends_at is not None and connection.drain():
                pass
            connection.close()
            sent = bytearray()
            with contextlib.suppress(ConnectionResetError):
                while piece := theirs.recv(1 << 16):
                    sent += piece
        return bytes(sent)

    def answers(self, sent: bytes) -> list[tuple[int, list[bytes] | None]]:
        """Return (status, tokens) for each answer; tokens is None if the answer is not encrypted."""
        found: list[tuple[int, list[bytes] | None]] = []
        while sent:
            head, end, sent = sent.partition(b"\r\n\r\n")
            line, *headers = head.split(b"\r\n")
            said = re.fullmatch(rb"HTTP/1\.[01] (\d{3}) [ -~]+", line)
            assert end and said and int(said[1]) in STATUSES | {100}, f"answered {head!r}"
            named = dict(header.lower().split(b": ", 1) for header in headers)
            status = int(said[1])
            assert status != 500, f"answered {head!r}"
            if status == 100:
                continue
            if b"content-length" in named:
                length = int(named[b"content-length"])
                if len(sent) < length or sent[:length].startswith(b"HTTP/"):
                    length = 0  # an answer to HEAD
                found.append((status, None))
                sent = sent[length:]
                continue
            body, sent = self.body(sent, b"transfer-encoding" in named)
            found.append((status, [token for token in body.split(b"\r\n") if token]))
        return found

    def body(self, sent: bytes, is_chunked: bool) -> tuple[bytes, bytes]:
        """Decode a token stream; return it and the rest. An incomplete one must be the end of the data."""
        if not is_chunked:
            return sent, b""
        body = b""
        while True:
            size, end, rest = sent.partition(b"\r\n")
            length = int(size, 16) if end else 0
            body += rest[:length]
            if not end or len(rest) < length + 2:
                return body, b""
            sent = rest[length + 2 :]
            if not length:
                return body, sent

    def check_numbers(self, found: list[tuple[int, list[bytes] | None]]) -> None:
        """Check that the answered numbers are consecutive."""
        last = 0
        for status, tokens in found:
            for count, token in enumerate(tokens or ()):
                assert token.startswith(b"~"), f"sent {token!r}"
                plain = unb64(token[1:])
                if not last and plain[:1] != b"B":
                    break  # plain mode
                magic, number, place = PART.unpack_from(plain)
                assert place == count and magic[:1] == (b"." if count else b"B"), f"sent {plain!r}"
                assert number == last + 1, f"number {number} was answered behind {last}"
                assert count or plain[6:9] == b"%d" % status, f"sent {plain!r} with status {status}"
            else:
                last += 1 if tokens and (last or unb64(tokens[0][1:])[:1] == b"B") else 0

    def check_log(self, records: list[logging.LogRecord]) -> None:
        for record in records:
            text = record.getMessage()
            assert record.levelno < logging.ERROR, f"a fault was logged: {text!r}"
            assert text.isascii() and text.isprintable(), f"logged {text!r}"
            if record.name == audit.LOGGER:
                said = json.loads(text)
                assert {"time", "session", "user", "request", "result"} <= said.keys(), f"recorded {text!r}"


class Pieces:
    """A socket that returns a few bytes at a time."""

    def __init__(self, sock: socket.socket, most: int) -> None:
        self._socket = sock
        self._most = most

    def recv(self, most: int, *flags: int) -> bytes:
        return self._socket.recv(min(most, self._most), *flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)
