"""TLS by the standard library: which certificates are shown, and which are wanted.

What may not enter: connections of the server, what is said on them.
"""

from __future__ import annotations

import ssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
OLD_VERSIONS = ("TLSv1", "TLSv1.1")
OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"  # without which OpenSSL 3 speaks no old version, whatever is asked for


class TLSError(Exception):
    """A file of a certificate or key does not do, or the other side's certificate. The text is one line."""


def server_context(
    certfile: str, keyfile: str | None, client_certfile: str | None, minimum_version: str
) -> ssl.SSLContext:
    """For a server. client_certfile: what clients' certificates are checked with, None for no check.

    Raises TLSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_version(context, minimum_version)
    _load(context, "ssl_server_certfile", certfile, "ssl_server_keyfile", keyfile)
    if client_certfile is not None:
        _trust(context, "ssl_client_certfile", client_certfile)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class ClientTLS:
    """For a client.

    trusted: the file with the server's certificate, or with that of who signed it, whose certificates then
    have to name the host; None for no check. certfile, keyfile: what to show. Raises TLSError.
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
            _load(context, "ssl_client_certfile", certfile, "ssl_client_keyfile", keyfile)
        if trusted is not None:
            _trust(context, "ssl_server_certfile", trusted)
            context.verify_mode = ssl.CERT_REQUIRED
            self._known = _certificates(trusted)

    def wrap(self, connected: socket, host: str) -> ssl.SSLSocket:
        """The encrypted side of a connection. Raises TLSError, OSError."""
        try:
            wrapped = self._context.wrap_socket(connected, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise TLSError(f"the server's certificate is not to be trusted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise TLSError(f"TLS: {(error.reason or 'failure').lower().replace('_', ' ')}") from None
        if self.is_checked and not self._is_right(wrapped, host):
            wrapped.close()
            raise TLSError(
                f"the server's certificate is not the one in ssl_server_certfile, and does not name {host}"
            )
        return wrapped

    def _is_right(self, wrapped: ssl.SSLSocket, host: str) -> bool:
        """Whether it is the very certificate that was given, or one by the same signer for that host."""
        certificate = wrapped.getpeercert(binary_form=True)
        if certificate in self._known:
            return True
        fields = wrapped.getpeercert() or {}
        names = fields.get("subjectAltName", ())
        return any(_names(str(name[0]), str(name[1]), host) for name in names)


def _names(kind: str, value: str, host: str) -> bool:
    """Whether a name in a certificate is that of a host; a star stands for one whole label (RFC 6125)."""
    address = _address(host)
    if address is not None:  # which no name is, however much a star may look like it
        return kind == "IP Address" and _address(value.strip()) == address
    if kind != "DNS":
        return False
    pattern, name = value.lower().rstrip("."), host.lower().rstrip(".")
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:] and "." in pattern[2:]
    return name == pattern


def _address(text: str) -> object:
    """The IP address that a text is, or None."""
    import ipaddress

    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _set_version(context: ssl.SSLContext, minimum: str) -> None:
    context.minimum_version = VERSIONS[minimum]
    if minimum in OLD_VERSIONS:
        context.set_ciphers(OLD_CIPHERS)


def _load(context: ssl.SSLContext, key: str, certfile: str, other_key: str, keyfile: str | None) -> None:
    """Load a certificate and its key. Raises TLSError, which names the keys of the configuration."""
    for name, path in ((key, certfile), (other_key, keyfile)):
        _check_readable(name, path)
    try:
        context.load_cert_chain(certfile, keyfile)
    except ssl.SSLError as error:
        raise TLSError(f"{key}: {certfile} and its key do not do: {_words(error)}") from None


def _trust(context: ssl.SSLContext, key: str, certfile: str) -> None:
    _check_readable(key, certfile)
    try:
        context.load_verify_locations(certfile)
    except ssl.SSLError as error:
        raise TLSError(f"{key}: {certfile} is no certificate: {_words(error)}") from None
    # A certificate that nobody else signed is its own authority, even if it does not say so.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


def _check_readable(key: str, path: str | None) -> None:
    if path is not None:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise TLSError(f"{key}: {path}: {(error.strerror or 'failure').lower()}") from None


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "not PEM").lower().replace("_", " ")


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
