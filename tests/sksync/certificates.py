"""Certificates for tests: authorities, and what they sign, in files."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Pair:
    """A certificate and its key. certfile, keyfile: where they are."""

    def __init__(
        self,
        place: Path,
        name: str,
        hosts: tuple[str, ...] = (),
        signer: Pair | None = None,
        is_authority: bool = False,
        is_over: bool = False,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.certificate.subject if signer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now - DAY if is_over else now + DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([*map(_name, hosts)]), critical=False)
        self.certificate: x509.Certificate = builder.sign(signer.key if signer else self.key, hashes.SHA256())
        self.certfile = str(place / f"{name}.crt")
        self.keyfile = str(place / f"{name}.key")
        Path(self.certfile).write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        Path(self.keyfile).write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _name(host: str) -> x509.GeneralName:
    """The name for a host: its address or, also for what looks like one, its DNS name after "DNS:"."""
    if host.startswith("DNS:"):
        return x509.DNSName(host[4:])
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
