"""Bodies of requests and replies: from WSGI to tokens and back, in plain mode and in numbered mode.

What may not enter: what a request does, files, commands.
"""

from __future__ import annotations

import time

from pysftpserver.remo import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, BinaryIO

    from pysftpserver.remo.session import Session

READ = 131072  # bytes to read from the WSGI server at once


class LengthRequired(Exception):
    """A chunked body, under a WSGI server that does not decode chunks."""


def raw(environ: dict[str, Any]) -> Iterator[bytes]:
    """A request's body, in pieces. Raises LengthRequired, ProtocolError, OSError."""
    stream: BinaryIO = environ["wsgi.input"]
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        # mod_wsgi, gunicorn, cheroot and others set this when they decode chunks.
        if not environ.get("wsgi.input_terminated"):
            raise LengthRequired
        while piece := _read(stream, READ):
            yield piece
        return
    text = environ.get("CONTENT_LENGTH") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise wire.ProtocolError("the Content-Length is not a number")
    left = int(text)
    while left:
        piece = _read(stream, min(left, READ))
        if not piece:
            raise wire.ProtocolError("the body is shorter than its Content-Length")
        left -= len(piece)
        yield piece


def _read(stream: BinaryIO, most: int) -> bytes:
    try:
        return stream.read(most)
    except ValueError as error:  # our server's error for malformed chunks
        raise wire.ProtocolError(f"the body cannot be read: {error}") from None


def tokens(pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """The tokens of a body. Raises ProtocolError."""
    lines = wire.Lines(most)
    for piece in pieces:
        yield from lines.feed(piece)
    yield from lines.end()


class Exchange:
    """A request of a session. number: of the request, None in plain mode.

    data: the content of the body, in pieces; in numbered mode the last piece is returned only after the whole
    body has been authenticated. is_proved: whether the request proves that the client knows the session's
    key.
    """

    def __init__(
        self, session: Session, number: int | None, data: Iterator[bytes], is_proved: bool = True
    ) -> None:
        self.session = session
        self.number = number
        self.data = data
        self.is_gone: Callable[[], bool] = lambda: False  # whether the peer has hung up, if known
        self.is_proved = number is not None or is_proved

    def reply(self, status: int, pieces: Iterable[bytes], is_eager: bool) -> Iterator[bytes]:
        """The body of an encrypted reply: tokens, each with its line end.

        is_eager: send each piece at once; otherwise a piece waits for the next one, which saves a token.
        """
        cipher = self.session.cipher
        if self.number is None:
            made: Iterator[bytes] = map(cipher.encrypt, pieces)
        else:
            bound = wire.status_bound(status)
            made = wire.sealed_stream(cipher, self.number, pieces, bound, is_eager)
        return (token + wire.END for token in made)


def opened(
    session: Session,
    pieces: Iterable[bytes],
    paths: Iterable[bytes],
    most: int,
    needs_numbers: bool,
    now: float,
) -> Exchange:
    """Open a request by its first token. paths: the paths that its URL may mean.

    Raises Tampered if the session has to end, ProtocolError if the request is not valid.
    """
    parts = tokens(pieces, most)
    try:
        first = next(parts, None)
        plain = None if first is None else session.cipher.decrypt(first)
    except (wire.ProtocolError, OSError) as error:
        if session.is_numbered:
            raise wire.Tampered(_why(error)) from None
        raise
    if first is None or plain is None:
        if session.is_numbered or needs_numbers:
            raise wire.Tampered("a request without numbers")
        return Exchange(session, None, iter(()), is_proved=False)
    bound = wire.begins_numbered(plain, [wire.path_hash(path) for path in paths])
    if bound is None:
        if session.is_numbered or needs_numbers:
            raise wire.Tampered("a request of another path or without numbers")
        return Exchange(session, None, _plain(session, plain, parts))
    opener = wire.Opener(session.cipher, bound)
    try:
        data = opener.take(plain, wire.made_at(first))
    except wire.BadToken as error:
        raise wire.Tampered(str(error)) from None
    assert opener.number is not None
    session.count(opener.number, opener.made, now)
    return Exchange(session, opener.number, _numbered(opener, data, parts))


def _plain(session: Session, data: bytes, parts: Iterator[bytes]) -> Iterator[bytes]:
    yield data
    for token in parts:
        yield session.cipher.decrypt(token)


def _numbered(opener: wire.Opener, data: bytes, parts: Iterator[bytes]) -> Iterator[bytes]:
    """Raises Tampered for any fault."""
    while (token := _next(parts)) is not None:
        began = time.monotonic()
        yield data
        opener.held += time.monotonic() - began
        try:
            data = opener.open(token)
        except wire.BadToken as error:
            raise wire.Tampered(str(error)) from None
    opener.finish()
    yield data


def _next(parts: Iterator[bytes]) -> bytes | None:
    """The next token; None at the end. Raises Tampered, even for a truncated body: an attacker may have cut
    it.
    """
    try:
        return next(parts, None)
    except (wire.ProtocolError, OSError) as error:
        raise wire.Tampered(_why(error)) from None


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, wire.ProtocolError) else "the body breaks off"
