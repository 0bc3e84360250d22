"""The targets for certificates that a client offers, and for lists of revoked keys and certificates.

An input is one unused byte, and a certificate or the content of a list. What may not enter: atheris,
signatures.
"""

from __future__ import annotations

from pysftpserver.people.keys import fingerprint
from pysftpserver.sshd.certificates import BadCertificate, Certificate, faults, is_certificate, parse
from pysftpserver.sshd.krl import EXPLICIT_KEY, MAGIC, BadList, Revoked, read

ADDRESSES = ("10.1.2.3", "::ffff:127.0.0.1", "fe80::1%eth0")
NOW = 1_796_040_000.0
KEY = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)
MOST_SERIALS = 20  # serial numbers of an input to look up


def string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def certificate_target(data: bytes) -> None:
    """Read a certificate, and judge it."""
    blob = data[1:]
    try:
        it = parse(blob)
    except BadCertificate as error:
        assert str(error).isprintable(), f"{error!r} is not one line"
        return
    assert is_certificate(blob), "a certificate is not known for one"
    assert it.signed + string(it.signature) == blob, "what is signed is not all of it"
    assert it.key[4 + int.from_bytes(it.key[:4], "big") :] in blob, "the key is not the one in it"
    assert str(it).isprintable() and len(str(it)) < 400, f"{it} is not one line"
    for address in ADDRESSES:
        found = faults(it, frozenset(it.principals), address, NOW)
        assert all(one.isprintable() for one in found), f"{found} are not lines"
        in_time = it.valid_after <= NOW < it.valid_before
        assert found or (in_time and it.principals and it.kind == 1), "it lets somebody in"
        assert faults(it, frozenset(), address, NOW), "it lets everybody in"


def list_target(data: bytes) -> None:
    """Read a list, look up serial numbers, and read the list with one more key in it."""
    content = data[1:]
    try:
        revoked = read(content)
    except BadList as error:
        assert str(error).isprintable(), f"{error!r} is not one line"
        return
    serials = {int.from_bytes(content[at : at + 8], "big") for at in range(8, len(content) - 7)}
    several = [one + more for one in sorted(serials)[:MOST_SERIALS] for more in (0, 1, 63)]
    found = [_revokes(revoked, serial) for serial in several]
    if content.startswith(MAGIC):
        content += bytes([EXPLICIT_KEY]) + string(string(KEY))
    else:
        content += f"\n{fingerprint(KEY)}\n".encode()
    longer = read(content)
    assert longer.has_key(KEY), "the key that was added is not revoked"
    assert [_revokes(longer, serial) for serial in several] == found, "another key has changed serials"


def _revokes(revoked: Revoked, serial: int) -> bool:
    """Whether a serial number is revoked for all CAs; checks that a second lookup agrees."""
    it = Certificate(b"", serial, 1, b"", (), 0, 0, (), b"", b"", b"")
    inner = revoked.certificates.get(b"")
    if inner is None:
        return False
    slow = b"" in inner.key_ids or serial in inner.serials
    slow = slow or any(first <= serial <= last for first, last in inner.ranges)
    for first, bits in inner.bitmaps:
        slow = slow or (
            serial >= first and bool(int.from_bytes(bits, "big") >> min(serial - first, 1 << 20) & 1)
        )
    assert inner.has(it) == slow, f"serial {serial}: {not slow}, where a second look says {slow}"
    return slow
