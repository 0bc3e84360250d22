"""OpenSSH's user certificates: their fields, and why one does not let its holder in.

What may not enter: files, SSH, asyncio, the clock, the verification of signatures (authorities.py).
Facts: OpenSSH's PROTOCOL.certkeys, sshd_config(5) on TrustedUserCAKeys, ssh-keygen(1) on certificates.
"""

from __future__ import annotations

import binascii
import ipaddress
from dataclasses import dataclass

from pysftpserver.failures import one_line
from pysftpserver.people.fields import Fields
from pysftpserver.people.keys import SIGNATURES, BadKey, check_blob, fingerprint, key_type
from pysftpserver.service.networks import address_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SUFFIX = b"-cert-v01@openssh.com"
# How many fields a key has in a certificate after the nonce; the types are those of keys.TYPES.
KEY_FIELDS = {
    b"ssh-ed25519": 1,
    b"ecdsa-sha2-nistp256": 2,
    b"ecdsa-sha2-nistp384": 2,
    b"ecdsa-sha2-nistp521": 2,
    b"ssh-rsa": 2,
    b"sk-ssh-ed25519@openssh.com": 2,
    b"sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
USER = 1  # a certificate's kind; 2 is a host's
MOST_PRINCIPALS = 256  # as in OpenSSH
LONGEST_ID = 64  # characters of a key id in a line of the log
SFTP = b"internal-sftp"
FORCED = b"force-command"


class BadCertificate(ValueError):
    """Not a certificate. The text says why."""


@dataclass(frozen=True)
class Certificate:
    """A certificate, whose signature has not been verified.

    key: the certified key, as a plain blob. kind: USER or another. valid_after, valid_before: seconds since
    the epoch. options: the critical ones. authority: the blob of the CA's key. signed, signature: the bytes
    that the CA has signed, and its signature.
    """

    key: bytes
    serial: int
    kind: int
    key_id: bytes
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    options: tuple[tuple[bytes, bytes], ...]
    authority: bytes
    signed: bytes
    signature: bytes

    def __str__(self) -> str:
        name = one_line(self.key_id.decode("utf-8", "replace"))[:LONGEST_ID]
        return f'certificate "{name}", serial {self.serial}, of CA {fingerprint(self.authority)}'


def is_certificate(blob: bytes) -> bool:
    """Whether a blob names a type of certificate, supported or not."""
    return b"-cert-v0" in blob[4 : 4 + int.from_bytes(blob[:4], "big")][-24:]


def blob_of_line(line: str) -> bytes | None:
    """The blob of a certificate's line `type base64 comment`; None: not a certificate. Raises ValueError."""
    words = line.split(None, 2)
    if len(words) < 2 or "-cert-v01@" not in words[0]:
        return None
    return binascii.a2b_base64(words[1], strict_mode=True)


def parse(blob: bytes) -> Certificate:
    """The fields of a certificate. Raises BadCertificate."""
    fields = Fields(blob, "the certificate", BadCertificate)
    name = fields.string()
    plain = name.removesuffix(SUFFIX)
    if plain != name and plain.startswith(b"sk-"):
        plain += b"@openssh.com"  # which SUFFIX has taken away
    if plain == name or plain not in KEY_FIELDS:
        raise BadCertificate("not a supported type of certificate")
    fields.string()  # nonce
    start = fields.position
    for _ in range(KEY_FIELDS[plain]):
        fields.string()
    key = len(plain).to_bytes(4, "big") + plain + blob[start : fields.position]
    serial, kind = fields.whole(8), fields.whole(4)
    key_id = fields.string()
    principals = []
    inner = fields.inner("the list of principals")
    while inner:
        principals.append(inner.string())
    valid_after, valid_before = fields.whole(8), fields.whole(8)
    options = _pairs(fields.inner("the list of critical options"))
    _pairs(fields.inner("the list of extensions"))
    fields.string()  # reserved
    authority = fields.string()
    signed = blob[: fields.position]
    signature = fields.string()
    fields.end()
    try:
        check_blob(key)
        check_blob(authority)  # refuses a certificate, so there are no chains
    except BadKey as error:
        raise BadCertificate(f"a key in it: {error}") from None
    if b"\0" in b"".join((key_id, *principals)):
        raise BadCertificate("a zero byte in its key id or in a principal")
    if len(principals) > MOST_PRINCIPALS:
        raise BadCertificate(f"more than {MOST_PRINCIPALS} principals")
    names = tuple(one.decode("utf-8", "surrogateescape") for one in principals)
    return Certificate(
        key,
        serial,
        kind,
        key_id,
        names,
        valid_after,
        valid_before,
        options,
        authority,
        signed,
        signature,
    )


def _pairs(fields: Fields) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    while fields:
        found.append((fields.string(), fields.string()))
    return tuple(found)


def faults(certificate: Certificate, principals: Collection[str], address: str, now: float) -> list[str]:
    """Why a certificate does not let a user in from an address at a time; empty if it is in order.

    principals: one of these has to be in the certificate. now: seconds since the epoch. The time it takes
    hardly depends on what is wrong, so it tells strangers nothing.
    """
    found = []
    if certificate.kind != USER:
        found.append("not a user's certificate")
    if not _signs(certificate):
        found.append("signed with an algorithm that is not allowed")
    if now < certificate.valid_after:
        found.append("not valid yet")
    if now >= certificate.valid_before:
        found.append("expired")
    if not certificate.principals:
        found.append("no principals in it")
    elif not set(principals) & set(certificate.principals):
        found.append("none of its principals is the user's")
    return found + option_faults(certificate.options, address)


def _signs(certificate: Certificate) -> bool:
    """Whether the CA's signature uses an algorithm of SIGNATURES that fits its key."""
    length = int.from_bytes(certificate.signature[:4], "big")
    algorithm = certificate.signature[4 : 4 + length].decode("latin-1")
    kind = key_type(certificate.authority)
    return algorithm in SIGNATURES and (algorithm == kind or kind == "ssh-rsa")


def option_faults(options: Iterable[tuple[bytes, bytes]], address: str) -> list[str]:
    """What is wrong with critical options, for a client at an address."""
    found = []
    seen = set()
    for name, data in options:
        if name in seen:
            found.append("a critical option is there twice")
        seen.add(name)
        try:
            fields = Fields(data, "a critical option", BadCertificate)
            if name == FORCED:
                if fields.string() != SFTP:
                    found.append("force-command is not internal-sftp")
            elif name == b"source-address":
                if not _is_from(fields.string().decode("ascii"), address):
                    found.append("not for this address (source-address)")
            else:
                fields.position = len(data)
                found.append(f'unknown critical option "{one_line(name.decode("utf-8", "replace"))[:64]}"')
            fields.end()
        except ValueError:
            found.append(f"the critical option {one_line(name.decode('utf-8', 'replace'))[:64]} is malformed")
    return found


def _is_from(networks: str, address: str) -> bool:
    """Whether an address is in a list of networks. Raises ValueError for a malformed list."""
    every = [ipaddress.ip_network(one) for one in networks.split(",")]
    client = address_of(address)
    return client is not None and any(client in network for network in every)
