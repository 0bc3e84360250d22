"""Targets for the message server: codecs and handshakes against a second implementation, and whole sessions.

An input is one byte of ways and the data that a peer sends. In encrypted sessions, each line of the input is
a message that the target encrypts; a line that begins with `!` is sent unchanged, as a token. What may not
enter: atheris, how inputs are mutated.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from pysftpserver.engine.log import MOST_LINE, VERBOSE, SFTPLog
from pysftpserver.laboratory import wire
from pysftpserver.laboratory.config import options
from pysftpserver.laboratory.handshake import ClientHandshake
from pysftpserver.laboratory.keys import ServerKey, make
from pysftpserver.laboratory.server import Server
from pysftpserver.laboratory.services.echo import Echo
from pysftpserver.laboratory.session import Session
from pysftpserver.laboratory.wire import Malformed

KEY, PASSWORD, NAME = "key", "pw", "Lab"
MOST = 60  # bytes of a message
CUTS = 16
ENCRYPTED, PIECES, CLIENT, PLAIN_ALLOWED, AS_IT_IS = 1, 2, 4, 8, 16  # bits of the first byte
TOKEN = re.compile(rb"[A-Za-z0-9_-]+={0,2}")
TEXTS = {"NAME ?", "SERVER ?", "SERVICE ?", "STOP SERVER"}


def pieces(ways: int, data: bytes) -> list[bytes]:
    """Return the data in the pieces in which they are fed."""
    step = max(1, len(data) // CUTS) if ways & PIECES else len(data) or 1
    return [data[at : at + step] for at in range(0, len(data), step)]


def as_stream(ways: int, data: bytes) -> bytes:
    """Return the bytes on the wire."""
    if not ways & ENCRYPTED:
        return data
    cipher = wire.fernet(KEY)
    lines = data.split(b"\n")
    return b"".join((line[1:] if line[:1] == b"!" else cipher.encrypt(line)) + b"\n" for line in lines)


def reading(ways: int, stream: bytes) -> tuple[list[str], bool]:
    """Decode the whole stream independently; return (the texts, whether something ends the session)."""
    texts: list[str] = []
    is_encrypted = bool(ways & ENCRYPTED)
    parts = stream.split(b"\n" if is_encrypted else b"\0")
    most = wire.most_token(MOST) if is_encrypted else MOST
    for part in parts[:-1]:
        raw = part
        if len(part) > most:
            return texts, True
        if is_encrypted:
            try:
                assert TOKEN.fullmatch(part)
                raw = wire.fernet(KEY).decrypt(part)
            except Exception:
                return texts, True
            if raw.count(b"\0") != 1 or raw[-1] or len(raw) > MOST + 1:
                return texts, True
            raw = raw[:-1]
        try:
            texts.append(raw.decode())
        except UnicodeDecodeError:
            return texts, True
        if is_encrypted and texts[-1].startswith("KEY = "):
            return texts, False  # later data uses another key
    return texts, len(parts[-1]) > most


class MessagesTarget:
    """The codecs, and the client's side of the handshake."""

    def __init__(self) -> None:
        self.pem = make().pem

    def __call__(self, data: bytes) -> None:
        ways, data = (data[0], data[1:]) if data else (0, b"")
        if ways & CLIENT:
            self.beginning(ways, data)
            return
        stream = as_stream(ways, data)
        codec = wire.codec(KEY if ways & ENCRYPTED else "", MOST)
        texts: list[str] = []
        for piece in pieces(ways, stream):
            texts += codec.feed(piece)
            if texts and texts[-1].startswith("KEY = ") and ways & ENCRYPTED:
                break
        wanted, is_over = reading(ways, stream)
        assert texts == wanted, f"{texts!r}, a second reading has {wanted!r}"
        assert (codec.failure is not None) == is_over, f"failure: {codec.failure}"
        for text in texts:
            own = wire.parse(text)
            assert (own is not None) == wire.is_own(text), f"{text!r} is {own}"
            found = wire.parse(wire.escaped(text))
            assert (found.value if found else text) == text, f"{text!r} is not {found}"

    def beginning(self, ways: int, data: bytes) -> None:
        stream = data if ways & AS_IT_IS else self.pem + as_stream(ways, data)
        client = ClientHandshake("secret", "ann", KEY if ways & ENCRYPTED else "", MOST)
        sent = b""
        try:
            for piece in pieces(ways, stream):
                sent += client.feed(piece)
                if client.is_done or client.refusal is not None:
                    break
        except Malformed:
            pass
        assert client.is_done or not client.texts, "texts before it is accepted"
        assert not (client.is_done and client.refusal is not None), "accepted and refused"
        assert b"secret" not in sent or not ways & ENCRYPTED, "the password was sent in the clear"


class Transport(asyncio.Transport):
    """A transport that stores what is sent, at once."""

    def __init__(self, session: Session) -> None:
        super().__init__({"peername": ("192.0.2.1", 7)})
        self.session = session
        self.sent = bytearray()
        self.is_over = self.is_silent = False

    def write(self, data: Any) -> None:
        assert not self.is_silent, "something was said behind the last word"
        self.sent += data

    def write_eof(self) -> None:
        self.is_silent = True

    def close(self) -> None:
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_over

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Keys:
    """One key for all connections."""

    def __init__(self) -> None:
        self.key = make()

    def get(self) -> ServerKey:
        return self.key


class ServerTarget:
    """Whole sessions of the server with Echo, and the answers that they must get."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.keys = Keys()

    def __call__(self, data: bytes) -> None:
        ways, data = (data[0], data[1:]) if data else (0, b"")
        lines: list[str] = []
        try:
            sent, count = self.loop.run_until_complete(self.session(ways, data, lines))
        except AssertionError:
            raise
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} came out of the session") from error
        assert count == 0, "the connection is still counted"
        assert lines or ways & AS_IT_IS, "nothing was logged"
        for line in lines:
            assert len(line) <= MOST_LINE and line.isascii() and line.isprintable(), f"logged {line!r}"
            assert " failed" not in line, f"a fault was logged: {lines!r}"
        assert sent.startswith(self.keys.key.pem)
        if not ways & AS_IT_IS:
            self.check(ways, data, sent[len(self.keys.key.pem) :])

    async def session(self, ways: int, data: bytes, lines: list[str]) -> tuple[bytes, int]:
        log = SFTPLog(lambda level, text: lines.append(text), VERBOSE)
        allowed = bool(ways & PLAIN_ALLOWED)
        server = Server(
            options(password=PASSWORD, name=NAME, allow_plaintext=allowed, max_message=MOST), [Echo()], log
        )
        server.loop = asyncio.get_running_loop()
        server.keys = self.keys  # type: ignore[assignment]
        session = Session(server)
        transport = Transport(session)
        session.connection_made(transport)
        key = wire.encrypted_key(self.keys.key.pem, KEY if ways & ENCRYPTED else "")
        stream = data if ways & AS_IT_IS else key + as_stream(ways, data)
        for piece in pieces(ways, stream):
            if transport.is_over:
                break
            room = session.get_buffer(-1)
            room[: len(piece)] = piece
            session.buffer_updated(len(piece))
        await asyncio.sleep(0)
        session.connection_lost(None)
        while server._goodbyes:
            await asyncio.wait(server._goodbyes)
        return bytes(transport.sent), server.count

    def check(self, ways: int, data: bytes, sent: bytes) -> None:
        """Compare the answers with the expected ones."""
        if not ways & ENCRYPTED and not ways & PLAIN_ALLOWED:
            assert sent.startswith(b"REFUSED CONNECTION: ") and sent.count(b"\0") == 1, f"answered {sent!r}"
            return
        texts, is_over = reading(ways, as_stream(ways, data))
        codec = wire.codec(KEY if ways & ENCRYPTED else "", 1 << 20)
        found = codec.feed(sent)
        wanted = answers(texts, is_over, bool(ways & ENCRYPTED))
        if texts and ways & ENCRYPTED and texts[-1].startswith("KEY = "):
            found, wanted = found[: len(wanted)], wanted[: len(found)]  # the rest uses another key
        assert len(found) == len(wanted), f"{found!r} and not {wanted!r}"
        for one, other in zip(found, wanted, strict=True):
            assert one == other or other.startswith("REFUSED") and one.startswith(other), (
                f"{one!r} and not {other!r}"
            )


def answers(texts: list[str], is_over: bool, is_encrypted: bool) -> list[str]:
    """Return the expected answers; for refusals, only their beginning."""
    said = ["PASSWORD ?"]
    coming = iter(texts)
    ended = "REFUSED CONNECTION: "
    password = next(coming, None)
    if password is not None:
        if password != PASSWORD:
            return [*said, ended]
        said.append("NAME ?")
        name = next(coming, None)
        if name is not None:
            if not is_name(name):
                return [*said, ended]
            said.append("ACCEPTED")
    for text in coming:
        said.append(answer(text, is_encrypted))
    return [*said, ended] if is_over else said


def is_name(text: str) -> bool:
    return bool(text.strip()) and len(text) <= 64 and text.isprintable()


def answer(text: str, is_encrypted: bool) -> str:
    """Return the expected answers to one message of an accepted client."""
    word, equals, value = text.partition(" = ")
    if text in TEXTS:
        about = {"NAME ?": NAME, "SERVER ?": f"SERVER = {NAME}", "STOP SERVER": "REFUSED STOP: "}
        return about.get(text, "SERVICES = Echo\nEcho: Says what it has received.")
    if equals and word == "NAME":
        return text if is_name(value) else "REFUSED NAME: "
    if equals and word == "SERVICE":
        return "SERVICE = Echo" if value.strip().casefold() == "echo" else "REFUSED SERVICE: "
    if equals and word == "KEY":
        return "KEY = changed" if is_encrypted and value and len(value.encode()) <= 245 else "REFUSED KEY: "
    return f'I received "{value if equals and word == "TEXT" else text}" from you.'
