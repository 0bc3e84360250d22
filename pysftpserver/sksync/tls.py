"""TLS by the standard library: which certificates are presented, and which are accepted.

A client accepts the very certificate that it was given, whatever host that names, or one that its owner has
signed for the host. OpenSSL would compare names during the handshake, before it is known which of the two
applies, so it checks signatures only, and service-identity compares the names afterwards. What may not enter:
connections of the server, what is sent on them.
"""

from __future__ import annotations

import contextlib
import ssl
from socket import socket

from pysftpserver.failures import BadInput, needed
from pysftpserver.service.tls import check_readable, load_certificate, tls_words

SERVER = "ssl_server_certfile", "ssl_server_keyfile"
CLIENT = "ssl_client_certfile", "ssl_client_keyfile"
OLD_VERSIONS = ("TLSv1", "TLSv1.1")
OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"  # OpenSSL 3 needs it for old versions


class TLSError(Exception):
    """The server's certificate is not accepted. The text is one line."""


class PassPhrase:
    """The pass phrase of a server's key, asked for once on the terminal. may_ask: whether it may still be."""

    def __init__(self) -> None:
        self.may_ask = True
        self._known = ""

    def __call__(self) -> str:
        if not self._known and self.may_ask:
            import getpass

            with contextlib.suppress(EOFError):  # without a terminal, the key cannot be used
                self._known = getpass.getpass("Pass phrase of the key in ssl_server_keyfile: ")
        return self._known


def server_context(
    certfile: str,
    keyfile: str | None,
    client_certfile: str | None,
    minimum_version: str,
    phrase: PassPhrase | None = None,
) -> ssl.SSLContext:
    """A server's context. client_certfile: what clients' certificates are checked against, None for no check.

    Raises BadInput.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_version(context, minimum_version)
    load_certificate(context, SERVER, certfile, keyfile, phrase or str)
    if client_certfile is not None:
        _trust(context, "ssl_client_certfile", client_certfile)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class ClientTLS:
    """TLS of a client.

    trusted: the file with the server's certificate, or its signer's; in that case the server's has to name
    the host. None for no check. certfile, keyfile: the certificate and key to present. minimum_version:
    TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3. Raises BadInput for files that cannot be used.
    """

    def __init__(
        self,
        trusted: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        minimum_version: str = "TLSv1.2",
    ) -> None:
        self.is_checked = trusted is not None
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        _set_version(context, minimum_version)
        self._known: list[bytes] = []
        if certfile is not None:
            load_certificate(context, CLIENT, certfile, keyfile)
        if trusted is not None:
            _trust(context, "ssl_server_certfile", trusted)
            context.verify_mode = ssl.CERT_REQUIRED
            self._known = _certificates(trusted)

    def wrap(self, connected: socket, host: str) -> ssl.SSLSocket:
        """The encrypted side of a connection. connected: a socket. host: what the certificate has to name.
        Raises TLSError, OSError, BadInput.
        """
        try:
            wrapped = self._context.wrap_socket(connected, server_hostname=host)
        except ssl.SSLError as error:
            raise TLSError(tls_reason(error, "the server's certificate is not trusted")) from None
        try:
            certificate = wrapped.getpeercert(binary_form=True) or b""
            if self.is_checked and certificate not in self._known and not _names(certificate, host):
                problem = "is not the one in ssl_server_certfile, and does not name"
                raise TLSError(f"the server's certificate {problem} {host}")
        except BaseException:
            wrapped.close()
            raise
        return wrapped


def _names(certificate: bytes, host: str) -> bool:
    """Whether a certificate is for a host: a name or an address (RFC 6125). Raises BadInput."""
    import ipaddress

    with needed("sksync", "cryptography", "service_identity"):
        from cryptography.x509 import load_der_x509_certificate
        from service_identity import CertificateError, VerificationError, cryptography
    try:
        ipaddress.ip_address(host)
        is_address = True
    except ValueError:
        is_address = False
    try:
        made = load_der_x509_certificate(certificate)
        if is_address:
            cryptography.verify_certificate_ip_address(made, host)
        else:
            cryptography.verify_certificate_hostname(made, host)
    except (CertificateError, VerificationError, ValueError):
        return False
    return True


def tls_reason(error: Exception, untrusted: str = "TLS") -> str:
    """Why TLS failed, in a few words. untrusted: the prefix of a text about a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{untrusted}: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {tls_words(error)}"
    return "TLS: the handshake was not completed"


def _set_version(context: ssl.SSLContext, minimum: str) -> None:
    context.minimum_version = ssl.TLSVersion[minimum.replace(".", "_")]
    if minimum in OLD_VERSIONS:
        context.set_ciphers(OLD_CIPHERS)


def _trust(context: ssl.SSLContext, key: str, certfile: str) -> None:
    check_readable(key, certfile)
    try:
        context.load_verify_locations(certfile)
    except ssl.SSLError as error:
        raise BadInput(f"{key}: {certfile} is not a certificate: {tls_words(error)}") from None
    # A self-signed certificate is its own authority, even if it does not say so.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


def _certificates(path: str) -> list[bytes]:
    """All certificates in a PEM file, as DER."""
    with open(path, encoding="ascii", errors="replace") as file:
        parts = file.read().split("-----BEGIN CERTIFICATE-----")[1:]
    return [
        ssl.PEM_cert_to_DER_cert(
            "-----BEGIN CERTIFICATE-----" + one.partition("-----END")[0] + "-----END CERTIFICATE-----\n"
        )
        for one in parts
    ]
