"""The remo protocol, for both sides: paths, logins, token streams and their numbers.

What may not enter: sockets, HTTP, files, keys; a cipher is passed in. Facts: a body is Fernet tokens, one per
line; numbered mode puts six bytes before the data of each, and binds a request to its path and a response to
its status.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import json
import re
import struct
import time
from typing import NamedTuple

from pysftpserver import __version__
from pysftpserver.http import MOST_LOGIN as MOST_LOGIN
from pysftpserver.http import ProtocolError as ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Protocol

    class Cipher(Protocol):
        """Makes tokens and opens them."""

        def encrypt(self, data: bytes) -> bytes: ...

        def decrypt(self, token: bytes) -> bytes:
            """Raises BadToken."""


NAME = f"pysftpserver.remo {__version__}"
COOKIE = "SESSION_ID"
OTHER_INFO = b"remo_serv"  # for the derivation of session keys
X448_BYTES = 56
END = b"\r\n"
LIFETIME = 10  # seconds for which a token is accepted in numbered mode
AHEAD = 60  # seconds that a peer's clock may be ahead
PAUSE = 2 * LIFETIME  # seconds without a request after which any number may follow
TOKEN_DATA = 65536  # bytes of data in each token of a stream
MOST_TOKEN_DATA = 1 << 20  # the same for the longest streams
NUMBERS = 1 << 16
TURN = 1 << 15  # tokens of one body that are numbered before the numbers turn negative
_PART = struct.Struct(">2shh")
_HEAD = re.compile(rb"[A-Za-z0-9_-]{36}")  # of a token: version, time and initialization vector, in base64
_PATH_HASH = 48
FIRST, NOT_FIRST = b"B", b"."
LAST, NOT_LAST = b"E", b"."


class BadToken(ProtocolError):
    """Not a token of this session: forged, of another session, or damaged."""


class Tampered(ProtocolError):
    """In numbered mode: a part is missing, repeated, out of order, too old or of another request."""


class Unnumbered(Tampered):
    """A body without numbers, from a peer that speaks plain mode only, or from an attacker."""


# --- logins ---------------------------------------------------------------------------------------------


class Login(NamedTuple):
    """A client's login. key: its one-time X448 public key, raw."""

    user: str
    key: bytes
    signature: bytes

    def encode(self) -> bytes:
        """The body of the request."""
        said = {"user": self.user, "key": b64(self.key), "sign": b64(self.signature)}
        return json.dumps(said).encode()


def signed_by_user(user: str, key: bytes) -> bytes:
    """The bytes that the signature of a login covers."""
    return user.encode() + key


def parse_login(body: bytes) -> Login:
    """Raises ProtocolError."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise ProtocolError("the login is not JSON") from None
    if not isinstance(said, dict):
        raise ProtocolError("the login is not a JSON object")
    user, key, signature = (said.get(name) for name in ("user", "key", "sign"))
    if not isinstance(user, str) or not isinstance(key, str) or not isinstance(signature, str):
        raise ProtocolError('the login needs the texts "user", "key" and "sign"')
    raw = unb64(key)
    if len(raw) != X448_BYTES:
        raise ProtocolError(f"the key of the login has {len(raw)} bytes and not {X448_BYTES}")
    try:
        user.encode()
    except UnicodeEncodeError:
        raise ProtocolError("the user's name is not a text") from None
    return Login(user, raw, unb64(signature))


def login_reply(key: bytes, signature: bytes) -> bytes:
    """The reply to a login: the server's one-time X448 public key, raw, and the signature over it."""
    return b64(key).encode() + END + b64(signature).encode()


def parse_login_reply(body: bytes) -> tuple[bytes, bytes]:
    """(key, signature). Raises ProtocolError."""
    lines = body.split()
    if len(lines) != 2:
        raise ProtocolError("the answer to the login has not two lines")
    key, signature = (unb64(line) for line in lines)
    if len(key) != X448_BYTES:
        raise ProtocolError(f"the server's one-time key has {len(key)} bytes and not {X448_BYTES}")
    return key, signature


def b64(data: bytes) -> str:
    """URL-safe base64 with padding."""
    return base64.urlsafe_b64encode(data).decode()


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def unb64(text: str | bytes) -> bytes:
    """Decode URL-safe base64, strictly. Raises ProtocolError."""
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        data = binascii.a2b_base64(raw.translate(_URL_SAFE), strict_mode=True)
        if base64.urlsafe_b64encode(data) != raw:  # Python ignores other letters and surplus padding
            raise ValueError
        return data
    except ValueError:
        raise ProtocolError("not base64 as URLs have it") from None


# --- lines ----------------------------------------------------------------------------------------------


class Lines:
    """Splits a stream into tokens. most: maximum size of one in bytes; a longer one raises ProtocolError."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add data; return the tokens that are complete."""
        if not self._rest and len(data) <= self._most and data.count(b"\n") == 1 and data.endswith(b"\n"):
            yield from _token(data)  # most chunks are one line
            return
        searched = len(self._rest)
        self._rest += data
        start = 0
        while (end := self._rest.find(b"\n", searched)) >= 0:
            self._check(end - start)
            yield from _token(bytes(memoryview(self._rest)[start:end]))
            start = searched = end + 1
        if start:
            del self._rest[:start]
        self._check(len(self._rest))

    def end(self) -> Iterator[bytes]:
        """Return the last token, which may lack its line end."""
        rest, self._rest = bytes(self._rest), bytearray()
        yield from _token(rest)

    def _check(self, length: int) -> None:
        if length > self._most:
            raise ProtocolError(f"a token of more than {self._most} bytes")


def _token(line: bytes) -> Iterator[bytes]:
    stripped = line.strip()
    if stripped:
        yield stripped


# --- numbered mode --------------------------------------------------------------------------------------


def path_hash(path: bytes) -> bytes:
    """The hash that binds the first token of a request to a path."""
    return hashlib.sha384(path).digest()


def next_number(number: int, ahead: int = 1) -> int:
    """The next number, a signed 16-bit integer: -32768 follows 32767."""
    return (number + ahead + TURN) % NUMBERS - TURN


def sealed(number: int, token: int, data: bytes, is_last: bool, bound: bytes = b"") -> bytes:
    """The plain text of a token. bound: what the first one is bound to (path_hash() or a status)."""
    magic = (NOT_FIRST if token else FIRST) + (LAST if is_last else NOT_LAST)
    return b"".join((_PART.pack(magic, number, next_number(token, 0)), bound if not token else b"", data))


def sealed_stream(
    cipher: Cipher, number: int, pieces: Iterable[bytes], bound: bytes, is_eager: bool = False
) -> Iterator[bytes]:
    """The tokens of a body. Arguments are sealed()'s.

    is_eager: make a token of each piece at once, and an empty last one; otherwise a piece waits for the next.
    """
    count = 0
    for piece, is_last in _ended(pieces) if is_eager else _looking_ahead(pieces):
        yield cipher.encrypt(sealed(number, count, piece, is_last, bound))
        count += 1


def _ended(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    yield from zip(pieces, itertools.repeat(False))
    yield b"", True


def _looking_ahead(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    before: bytes | None = None
    for piece in pieces:
        if before is not None:
            yield before, False
        before = piece
    yield before or b"", True


class Opener:
    """Verifies the tokens of one numbered body, in order. bound: as for sealed().

    number: the request's; None: take the first token's, for the caller to judge. now: returns seconds since
    the epoch, by this host's clock.
    """

    def __init__(
        self, cipher: Cipher, bound: bytes, number: int | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.number = number
        self.made = 0  # when the newest token was made, seconds since the epoch by the peer's clock
        self.held = 0.0  # seconds for which tokens had to wait on this side
        self.is_complete = False
        self._cipher = cipher
        self._bound = bound
        self._token = 0
        self._now = now

    def open(self, token: bytes) -> bytes:
        """The data of the next token. Raises BadToken, Tampered."""
        return self.take(self._cipher.decrypt(token), made_at(token))

    def take(self, plain: bytes, made: int) -> bytes:
        """The data of the next token, already decrypted. made: when it was made. Raises Tampered."""
        if self.is_complete:
            raise Tampered("there is more after the last token")
        if not self._token and not _is_first(plain):
            raise Unnumbered("a body without numbers")
        if len(plain) < _PART.size:
            raise Tampered("a token without its numbers")
        magic, number, token = _PART.unpack_from(plain)
        if (
            magic[:1] != (NOT_FIRST if self._token else FIRST)
            or magic[1:] not in (LAST, NOT_LAST)
            or token != next_number(self._token, 0)
        ):
            raise Tampered("a token is missing, repeated or not in its place")
        if self.number is not None and number != self.number:
            raise Tampered("a token of another request")
        check_age(made, self._now(), self.held)
        # A body's tokens are made one after the other. Times keep their order where numbers start again.
        if made < self.made - 1:
            raise Tampered("a token that is older than the one before")
        start = _PART.size
        if not self._token:
            start += len(self._bound)
            if plain[_PART.size : start] != self._bound:
                raise Tampered("a token of another path or status")
        self.number = number
        self.made = max(made, self.made)
        self._token += 1
        self.is_complete = magic[1:] == LAST
        return plain[start:]

    def finish(self) -> None:
        """End the body. Raises Tampered if its last token has not arrived."""
        if not self._token:
            raise Unnumbered("a body without a token")
        if not self.is_complete:
            raise Tampered("the end is missing")


def begins_numbered(plain: bytes, bounds: Iterable[bytes]) -> bytes | None:
    """The path hash that the first token of a request is bound to; None if it is not a first token."""
    if len(plain) < _PART.size + _PATH_HASH or not _is_first(plain):
        return None
    found = plain[_PART.size : _PART.size + _PATH_HASH]
    return found if found in bounds else None


def _is_first(plain: bytes) -> bool:
    """Whether a plain text has the shape of a numbered body's first token."""
    if len(plain) < _PART.size:
        return False
    magic, _, token = _PART.unpack_from(plain)
    return magic[:1] == FIRST and magic[1:] in (LAST, NOT_LAST) and token == 0


def made_at(token: bytes) -> int:
    """When a decrypted token was made, in seconds since the epoch. Raises BadToken."""
    # Decryption skips letters that are not base64, which could move the time and change known_by().
    if not _HEAD.match(token):
        raise BadToken("not a token")
    return int.from_bytes(base64.urlsafe_b64decode(token[:12])[1:9], "big")


def known_by(token: bytes) -> bytes:
    """What identifies a token: 126 bits of the initialization vector."""
    return token[12:33]


def check_age(made: int, now: float, held: float = 0.0) -> None:
    """Check when a token was made. held: seconds that it may have waited on this side. Raises Tampered."""
    if made + LIFETIME + held < int(now):
        raise Tampered(f"a token of {int(now) - made} seconds ago, or the clocks differ")
    if made > now + AHEAD:
        raise Tampered("a token from the future: the clocks differ")


def status_bound(status: int) -> bytes:
    """The bytes to which the first token of a reply is bound."""
    return b"%03d" % status


def data_size(length: int | None) -> int:
    """Bytes of a stream to put into each token, so that the numbers do not run out.

    length: of the stream, in bytes; None if unknown.
    """
    size = TOKEN_DATA
    while length is not None and length // size >= TURN - 2 and size < MOST_TOKEN_DATA:
        size *= 2
    return size
