"""Self-signed certificates: pairs of files that authenticate an SK Sync server or a client.

The other side checks such a certificate against a copy of it. What may not enter: sockets, options, printing.
Facts: RFC 5280; OpenSSL 3 with X509_V_FLAG_X509_STRICT, which Python 3.13 sets; OpenSSL 1.1.1, which does not
accept a certificate as self-signed if its key usage excludes signing certificates.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import re
import stat
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pysftpserver.failures import BadInput, reason_of
from pysftpserver.host import wholefiles

TYPES = ("ecdsa", "ed25519")
EARLIER = datetime.timedelta(hours=1)  # validity begins this long before now: clocks differ
LONGEST_COMMON_NAME = 64  # characters
LONGEST_NAME = 253  # characters
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def make_pair(
    certfile: str, keyfile: str, names: Sequence[str], days: int, kind: str, replace: bool
) -> datetime.datetime:
    """Write a new key and its certificate; return the end of its validity.

    names: DNS names and IP addresses. kind: one of TYPES. replace: whether existing files are replaced.
    Raises BadInput, and leaves no new files then.
    """
    sans = [_general_name(name) for name in names]
    certfile, keyfile = os.path.realpath(certfile), os.path.realpath(keyfile)
    if certfile == keyfile:
        raise BadInput(f"{certfile}: certificate and key need two files")
    for path in (certfile, keyfile):
        _check_place(path, replace)
    key = (
        ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    )
    certificate = _certificate(key, names[0], sans, days)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(certfile, certificate.public_bytes(serialization.Encoding.PEM), keyfile, secret, replace)
    return certificate.not_valid_after_utc


def _check_place(path: str, replace: bool) -> None:
    """Check that a file can be written there. Raises BadInput."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput(f"{path}: {reason_of(error)}") from None
    if not stat.S_ISREG(mode):
        raise BadInput(f"{path}: exists, and is not a regular file")
    if not replace:
        raise BadInput(f"{path}: exists; --force replaces it")


def _certificate(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    name: str,
    sans: Sequence[x509.GeneralName],
    days: int,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:LONGEST_COMMON_NAME])])
    public = key.public_key()
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
        # Not a certificate authority: trusting this certificate does not mean trusting others that its key
        # signs. And no key usage: OpenSSL 1.1.1 refuses one without certificate signing, and strict checking
        # refuses one with it.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    """A name in the form that certificates use. Raises BadInput."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        encoded = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        encoded = ""
    labels = encoded.removeprefix("*.").removesuffix(".").split(".")
    if len(encoded) > LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadInput(f"{name!r} is neither the name of a host nor an IP address")
    return x509.DNSName(encoded.removesuffix("."))


def is_name(name: str) -> bool:
    """Whether a certificate can contain that name."""
    try:
        _general_name(name)
    except BadInput:
        return False
    return True


def _write(certfile: str, certificate: bytes, keyfile: str, key: bytes, replace: bool) -> None:
    """Write both files, or neither if the disk is full or one of them exists by now. Raises BadInput."""
    at = keyfile
    try:
        with wholefiles.open_temporary(keyfile, key) as new_key:
            at = certfile
            with wholefiles.open_temporary(certfile, certificate, 0o644) as new_certificate:
                at = keyfile
                new_key.commit(replace)
                at = certfile
                try:
                    new_certificate.commit(replace)
                except BaseException:
                    os.unlink(keyfile)  # useless without its certificate
                    raise
    except FileExistsError:
        raise BadInput(f"{at}: exists; --force replaces it") from None
    except OSError as error:
        raise BadInput(f"{at}: {reason_of(error)}") from None


def configuration_lines(certfile: str, keyfile: str) -> str:
    """The lines to add to the configurations of both sides, with headings."""
    parts = []
    for title, side, has_key in (
        ("For a server, in its sksync.json:", "server", True),
        ("For its clients, which need a copy of the certificate:", "server", False),
        ("For a client instead, if servers have to check it:", "client", True),
        ("For the servers of that client, which need a copy of the certificate:", "client", False),
    ):
        values = {"use_ssl": True, f"ssl_{side}_certfile": os.path.abspath(certfile)}
        if has_key:
            values[f"ssl_{side}_keyfile"] = os.path.abspath(keyfile)
        lines = [f"    {json.dumps(key)}: {json.dumps(value)}," for key, value in values.items()]
        parts.append("\n".join(["", title, *lines]))
    return "\n".join(parts)
