"""Certificates and keys in files, for the TLS of the standard library.

What may not enter: protocols, whom to trust.
"""

from __future__ import annotations

import ssl

from pysftpserver.failures import BadInput, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def load_certificate(
    context: ssl.SSLContext,
    keys: tuple[str, str],
    certfile: str,
    keyfile: str | None,
    phrase: Callable[[], str] = str,
) -> None:
    """Load a certificate and its key. Raises BadInput.

    keys: the settings that name both. keyfile: None if the key is in the file of the certificate. phrase:
    returns the pass phrase of the key.
    """
    for name, path in zip(keys, (certfile, keyfile), strict=True):
        check_readable(name, path)
    try:
        context.load_cert_chain(certfile, keyfile, phrase)
    except ssl.SSLError as error:
        message = f"{keys[0]}: {certfile} and its key cannot be used: {tls_words(error)}"
        raise BadInput(message) from None


def check_readable(key: str, path: str | None) -> None:
    """Raises BadInput for a file that cannot be read. key: the setting that names it."""
    if path is not None:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise BadInput(f"{key}: {path}: {reason_of(error)}") from None


def tls_words(error: ssl.SSLError) -> str:
    """OpenSSL's reason, in small letters."""
    return (error.reason or "").lower().replace("_", " ") or "not in PEM format, or without its pass phrase"
