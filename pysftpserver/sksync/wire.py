"""Converts the lines of the SK Sync protocol to values and back.

Lines end in a line feed; their text is in the encoding of the protocol's name, and numbers are decimal.
Everything that a peer may send is checked, so values from this module can be used as they are. What may not
enter: I/O, storages, the contents of files. Facts: docs/sksync.md, from existing clients and servers.
"""

from __future__ import annotations

import enum
import re

DEFAULT_PORT = 23456
MOST_LINE = 64 << 10  # bytes, the line feed included
MOST_LENGTH = (1 << 63) - 1  # bytes of a file
MOST_DEEP = 100  # nested directories
MOST_TIME = 253_402_300_799_999  # milliseconds: the end of the year 9999
ESTABLISHED = b"Protocol Established\n"
WITH_DIGESTS = b"md5\n"
END = b"\n"
SRP_START = b"PYSKSYNC SRP START:"
DIGEST = 32  # characters of an MD5 in hexadecimal
MOST_SRP = 4096  # characters of a number in hexadecimal; the group's have 512

_NUMBER = re.compile(rb"-?[0-9]{1,19}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")


class Malformed(ValueError):
    """A peer has violated the protocol. The text is for the log."""


class Undecodable(Malformed):
    """Text that is not in the encoding of the protocol."""


class Dialect(enum.Enum):
    """The names of the protocol: how text is encoded, and whether digests follow contents."""

    SKSYNC_1 = ("sksync 1", "cp1252", False)
    PYSKSYNC_1 = ("pysksync 1", "utf-8", False)
    PYSKSYNC_2 = ("pysksync 2", "utf-8", True)

    def __init__(self, title: str, encoding: str, has_digests: bool) -> None:
        self.title = title
        self.encoding = encoding
        self.has_digests = has_digests

    def encode(self, text: str) -> bytes | None:
        """The line for a text, with its end, or None if the text cannot be encoded."""
        if "\n" in text:
            return None
        try:
            raw = text.encode(self.encoding)
        except UnicodeEncodeError:
            return None
        return raw + b"\n" if len(raw) < MOST_LINE else None

    def decode(self, line: bytes) -> str:
        """The text of a line. Raises Undecodable."""
        try:
            return line.decode(self.encoding)
        except UnicodeDecodeError:
            raise Undecodable(f"a line that is not {self.encoding}") from None


class SyncType(enum.IntEnum):
    """The direction, and whether times matter or only missing files are copied."""

    BIDIRECTIONAL_USE_TIME = 0
    TO_SERVER_USE_TIME = 1
    FROM_SERVER_USE_TIME = 2
    BIDIRECTIONAL_NO_TIME = 3
    TO_SERVER_NO_TIME = 4
    FROM_SERVER_NO_TIME = 5

    @property
    def to_server(self) -> bool:
        """Whether files may go to the server."""
        return self % 3 != 2

    @property
    def from_server(self) -> bool:
        """Whether files may come from the server."""
        return self % 3 != 1

    @property
    def by_time(self) -> bool:
        """Whether the newer of two files replaces the older."""
        return self < 3


def parse_dialect(line: bytes) -> Dialect:
    """The first line of a client. Raises Malformed."""
    for dialect in Dialect:
        if line == dialect.title.encode():
            return dialect
    raise Malformed("an unknown protocol")


def parse_type(line: bytes) -> SyncType:
    """The type of a sync. Raises Malformed."""
    return SyncType(parse_number(line, 0, 5, "sync type"))


def parse_recursive(line: bytes) -> bool:
    """Whether the sync is recursive; 0 is yes. Raises Malformed."""
    return parse_number(line, 0, 1, "recursion flag") == 0


def parse_number(line: bytes, least: int, most: int, what: str) -> int:
    """A decimal number alone on its line. Raises Malformed."""
    if not _NUMBER.fullmatch(line) or not least <= int(line) <= most:
        raise Malformed(f"{what}: not a number from {least} to {most}")
    return int(line)


def parse_length(line: bytes) -> int:
    """The length of a file in bytes. Raises Malformed."""
    return parse_number(line, 0, MOST_LENGTH, "length")


def parse_time(line: bytes) -> int:
    """A modification time, in whole seconds since the epoch. Raises Malformed."""
    return parse_number(line, 0, MOST_TIME, "time") // 1000


def parse_digest(line: bytes) -> str:
    """The MD5 of the content before it. Raises Malformed."""
    if len(line) != DIGEST or not _HEX.fullmatch(line):
        raise Malformed("a malformed digest")
    return line.decode().lower()


def parse_entry(line: bytes, dialect: Dialect) -> tuple[str, int]:
    """A line of a listing: (name, modification time in whole seconds). Raises Malformed."""
    number, space, name = line.partition(b" ")
    if not space:
        raise Malformed("a line of a listing without a name")
    return check_name(dialect.decode(name)), parse_time(number)


def parse_name(line: bytes, dialect: Dialect) -> str:
    """The name of a file. Raises Malformed."""
    return check_name(dialect.decode(line))


def check_name(name: str) -> str:
    """The name, if it is one of a file below the directory that is synced. Raises Malformed."""
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise Malformed("a name that leads elsewhere")
    if name.count("/") > MOST_DEEP:
        raise Malformed(f"a name in more than {MOST_DEEP} directories")
    return name


def entry(name: str, mtime: int, dialect: Dialect) -> bytes | None:
    """A line of a listing, or None for a name that cannot be encoded."""
    return dialect.encode(f"{mtime * 1000} {name}")


def number(value: int) -> bytes:
    """A number alone on its line."""
    return b"%d\n" % value


def parse_srp_start(line: bytes) -> tuple[str, int]:
    """(user, A): how a client begins to log in. Raises Malformed."""
    parts = line.removeprefix(SRP_START).split(b" ")
    if not line.startswith(SRP_START) or len(parts) != 2:
        raise Malformed("a malformed login")
    try:
        return parse_hex(parts[0]).decode("utf-8"), int.from_bytes(parse_hex(parts[1]), "big")
    except UnicodeDecodeError:
        raise Malformed("a user's name that is not UTF-8") from None


def parse_srp_challenge(line: bytes) -> tuple[bytes, int]:
    """(salt, B): the server's answer. Raises Malformed."""
    parts = line.split(b" ")
    if len(parts) != 2:
        raise Malformed("a malformed reply to a login")
    return parse_hex(parts[0]), int.from_bytes(parse_hex(parts[1]), "big")


def parse_hex(text: bytes) -> bytes:
    """Decode hexadecimal; if the number of digits is odd, a leading zero is missing. Raises Malformed."""
    if len(text) > MOST_SRP:
        raise Malformed("a number that is too long")
    text = text.rjust(len(text) + len(text) % 2, b"0")
    if not _HEX.fullmatch(text):
        raise Malformed("a malformed hexadecimal number")
    return bytes.fromhex(text.decode())


def srp_start(user: str, public: int) -> bytes:
    """The line with which a client begins to log in. public: A."""
    return f"{SRP_START.decode()}{user.encode().hex()} {minimal(public).hex()}\n".encode()


def srp_challenge(salt: bytes, public: int) -> bytes:
    """The line with the server's challenge. public: B."""
    return f"{salt.hex()} {minimal(public).hex()}\n".encode()


def srp_proof(proof: bytes) -> bytes:
    """The line with the client's M or the server's HAMK."""
    return proof.hex().encode() + b"\n"


def minimal(value: int) -> bytes:
    """A number as the fewest bytes, big-endian."""
    return value.to_bytes(max(1, -(-value.bit_length() // 8)), "big")


def digest(hexadecimal_digits: str) -> bytes:
    """The line with the MD5 of the content before it."""
    return hexadecimal_digits.encode() + b"\n"
