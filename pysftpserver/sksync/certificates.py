"""Self-signed certificates: a pair of files with which an SK Sync server, or a client, says who it is.

Such a certificate is checked by having a copy of it: it is both what is presented and what is trusted. What
may not enter: sockets, options, printing. Facts: RFC 5280; OpenSSL 3 with X509_V_FLAG_X509_STRICT, which
Python 3.13 sets; OpenSSL 1.1.1, which takes no certificate as self-signed whose key usage leaves out
certificates.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import stat

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pysftpserver.host import wholefiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TYPES = ("ecdsa", "ed25519")
EARLIER = datetime.timedelta(hours=1)  # before now: clocks differ
LONGEST_COMMON_NAME = 64  # characters
LONGEST_NAME = 253  # characters
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class CertificateError(Exception):
    """The pair cannot be made. The text is one line."""


def make_pair(
    certfile: str, keyfile: str, names: Sequence[str], days: int, kind: str, replace: bool
) -> datetime.datetime:
    """Write a new key and its certificate; return until when it is valid.

    names: DNS names and IP addresses. kind: one of TYPES. replace: whether files of these names may go.
    Raises CertificateError, and then there are no new files.
    """
    sans = [_general_name(name) for name in names]
    certfile, keyfile = os.path.realpath(certfile), os.path.realpath(keyfile)
    if certfile == keyfile:
        raise CertificateError(f"{certfile}: certificate and key need two files")
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
    """Raises CertificateError for a path where nothing can or may be put."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise CertificateError(f"{path}: is there already, and no regular file")
    if not replace:
        raise CertificateError(f"{path}: is there already; --force replaces it")


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
        # No certificate authority: who trusts this certificate trusts no other that its key may sign. And no
        # key usage: one without the signing of certificates is what OpenSSL 1.1.1 fails at, and one with it
        # is what strict checking forbids here.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    """A name as a certificate has it. Raises CertificateError for what is none."""
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
        raise CertificateError(f"{name!r} is neither the name of a host nor an IP address")
    return x509.DNSName(encoded.removesuffix("."))


def is_name(name: str) -> bool:
    """Whether a certificate can be for that name."""
    try:
        _general_name(name)
    except CertificateError:
        return False
    return True


def _write(certfile: str, certificate: bytes, keyfile: str, key: bytes, replace: bool) -> None:
    """Both files or, if the disk is full or somebody was quicker, none. Raises CertificateError."""
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
                    os.unlink(keyfile)  # of no use without its certificate
                    raise
    except FileExistsError:
        raise CertificateError(f"{at}: is there already; --force replaces it") from None
    except OSError as error:
        raise CertificateError(f"{at}: {error.strerror}") from None
