"""Revoked keys and certificates: OpenSSH's binary KRL, or a list of keys and fingerprints, a line each.

What may not enter: files, asyncio, logs.
Facts: OpenSSH's PROTOCOL.krl, ssh-keygen(1) on key revocation lists, sshd_config(5) on RevokedKeys. As in
OpenSSH, a part that is not understood makes the whole list unusable, and serial 0 means that a certificate
has no serial.
"""

from __future__ import annotations

import binascii
import hashlib
from bisect import bisect_left, bisect_right

from pysftpserver.people.fields import Fields
from pysftpserver.people.keys import parse_key
from pysftpserver.sshd.certificates import blob_of_line, is_certificate, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.sshd.certificates import Certificate

MAGIC = b"SSHKRL\n\0"
VERSION = 1
CERTIFICATES, EXPLICIT_KEY, SHA1, SHA256, EXTENSION = 1, 2, 3, 5, 255  # sections
SERIAL_LIST, SERIAL_RANGE, SERIAL_BITMAP, KEY_ID, CERTIFICATE_EXTENSION = 0x20, 0x21, 0x22, 0x23, 0x39
DIGESTS = {SHA1: 20, SHA256: 32}  # bytes
MOST_BITS = 16_384  # of a bitmap, as of a number in OpenSSH
MOST_SERIAL = (1 << 64) - 1


class BadList(ValueError):
    """Not a list of revoked keys. The text says why."""


class _Certificates:
    """The revoked certificates of one CA, or of all."""

    def __init__(self) -> None:
        self.key_ids: set[bytes] = set()
        self.serials: set[int] = set()
        self.ranges: list[tuple[int, int]] = []  # (first, last), in order and apart once joined
        self.bitmaps: list[tuple[int, bytes]] = []  # (first serial, bits from the last one), in order

    def join(self) -> None:
        """Sort what was read, for has()."""
        self.bitmaps.sort()
        joined: list[tuple[int, int]] = []
        for first, last in sorted(self.ranges):
            if joined and first <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], last)
            else:
                joined.append((first, last))
        self.ranges = joined

    def has(self, certificate: Certificate) -> bool:
        serial = certificate.serial
        if certificate.key_id in self.key_ids or serial in self.serials:
            return True
        place = bisect_right(self.ranges, (serial, MOST_SERIAL)) - 1
        if place >= 0 and serial <= self.ranges[place][1]:
            return True
        place = bisect_left(self.bitmaps, (max(0, serial - MOST_BITS), b""))
        while place < len(self.bitmaps) and self.bitmaps[place][0] <= serial:
            first, bits = self.bitmaps[place]
            byte, bit = divmod(serial - first, 8)
            if byte < len(bits) and bits[-1 - byte] >> bit & 1:
                return True
            place += 1
        return False


class Revoked:
    """The content of a list: revoked keys and certificates."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()  # blobs
        self.digests: dict[int, set[bytes]] = {SHA1: set(), SHA256: set()}
        self.certificates: dict[bytes, _Certificates] = {}  # by the CA's blob; b"" for all

    def __len__(self) -> int:
        """The number of entries."""
        every = self.certificates.values()
        inner = sum(len(one.key_ids) + len(one.serials) + len(one.ranges) + len(one.bitmaps) for one in every)
        return len(self.keys) + sum(map(len, self.digests.values())) + inner

    def has_key(self, blob: bytes) -> bool:
        """Whether a plain key is revoked."""
        return (
            blob in self.keys
            or hashlib.sha256(blob).digest() in self.digests[SHA256]
            or hashlib.sha1(blob, usedforsecurity=False).digest() in self.digests[SHA1]
        )

    def fault(self, certificate: Certificate) -> str | None:
        """Which part of a certificate is revoked; None: it is not."""
        if self.has_key(certificate.key):
            return "its key is revoked"
        if self.has_key(certificate.authority):
            return "its CA is revoked"
        lists = (self.certificates.get(one) for one in (certificate.authority, b""))
        if any(one is not None and one.has(certificate) for one in lists):
            return "it is revoked"
        return None


def read(content: bytes) -> Revoked:
    """The list in the content of a file. Raises BadList."""
    return _read_krl(content) if content.startswith(MAGIC) else _read_lines(content)


# --- text -------------------------------------------------------------------------------------------------


def _read_lines(content: bytes) -> Revoked:
    revoked = Revoked()
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        raise BadList("neither a KRL nor text") from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            if text.startswith("SHA256:"):
                revoked.digests[SHA256].add(_digest(text.split()[0].removeprefix("SHA256:")))
            else:
                revoked.keys.add(_key(text))
        except ValueError as error:
            raise BadList(f"line {number}: {error}") from None
    return revoked


def _digest(text: str) -> bytes:
    digest = binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    if len(digest) != DIGESTS[SHA256]:
        raise ValueError("the fingerprint's length is wrong")
    return digest


def _key(text: str) -> bytes:
    """The blob of a key's line, or of the key in a certificate's line. Raises ValueError."""
    certificate = blob_of_line(text)
    return parse_key(text) if certificate is None else parse(certificate).key


# --- OpenSSH's KRL ----------------------------------------------------------------------------------------


def _read_krl(content: bytes) -> Revoked:
    fields = Fields(content, "the KRL", BadList)
    fields.raw(len(MAGIC))
    version = fields.whole(4)
    if version != VERSION:
        raise BadList(f"a KRL of version {version}; this server reads version {VERSION}")
    fields.raw(3 * 8)  # its own version, its date, flags
    fields.string(), _text(fields.string())  # reserved, comment
    revoked = Revoked()
    while fields:
        kind = fields.whole(1)
        section = fields.inner("a section of the KRL")
        if kind == CERTIFICATES:
            _read_certificates(section, revoked)
        elif kind == EXPLICIT_KEY:
            while section:
                revoked.keys.add(section.string())
        elif kind in DIGESTS:
            while section:
                digest = section.string()
                if len(digest) != DIGESTS[kind]:
                    raise BadList("a digest in the KRL has the wrong length")
                revoked.digests[kind].add(digest)
        elif kind == EXTENSION:
            _skip_extension(section)
        else:
            raise BadList(f"a section of type {kind} in the KRL, which this server does not know")
        section.end()
    for one in revoked.certificates.values():
        one.join()
    return revoked


def _read_certificates(section: Fields, revoked: Revoked) -> None:
    authority = section.string()
    if is_certificate(authority):
        raise BadList("a CA in the KRL is a certificate")
    section.string()  # reserved
    into = revoked.certificates.setdefault(authority, _Certificates())
    while section:
        kind = section.whole(1)
        part = section.inner("a section of the KRL")
        if kind == SERIAL_LIST:
            while part:
                into.serials.add(_serial(part.whole(8)))
        elif kind == SERIAL_RANGE:
            first, last = _serial(part.whole(8)), part.whole(8)
            if first > last:
                raise BadList("a range in the KRL ends before it begins")
            into.ranges.append((first, last))
        elif kind == SERIAL_BITMAP:
            _read_bitmap(part, into)
        elif kind == KEY_ID:
            while part:
                into.key_ids.add(_text(part.string()))
        elif kind == CERTIFICATE_EXTENSION:
            _skip_extension(part)
        else:
            raise BadList(f"a section of type {kind} for certificates in the KRL, which is not known here")
        part.end()


def _read_bitmap(part: Fields, into: _Certificates) -> None:
    first = part.whole(8)
    bits = part.string()
    if bits and bits[0] & 0x80:
        raise BadList("a bitmap in the KRL is negative")
    bits = bits.lstrip(b"\0")
    length = int.from_bytes(bits, "big").bit_length()
    if length > MOST_BITS or first + max(length - 1, 0) > MOST_SERIAL:
        raise BadList("a bitmap in the KRL is too long")
    if bits:
        if first == 0 and bits[-1] & 1:
            raise BadList("serial 0 in the KRL, which certificates have that have none")
        into.bitmaps.append((first, bits))


def _serial(number: int) -> int:
    if number == 0:
        raise BadList("serial 0 in the KRL, which certificates have that have none")
    return number


def _skip_extension(section: Fields) -> None:
    """Skip an extension. Raises BadList for a critical one."""
    name = section.string()
    if section.whole(1):
        raise BadList(f"the KRL needs an extension that this server does not have, {name[:64]!r}")
    section.string()


def _text(raw: bytes) -> bytes:
    """A text, without the zero byte that may end it. Raises BadList."""
    text = raw.removesuffix(b"\0")
    if b"\0" in text:
        raise BadList("a text in the KRL has a zero byte in it")
    return text
