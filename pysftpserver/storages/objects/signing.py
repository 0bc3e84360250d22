"""Signatures of requests: AWS's version 4, which S3-compatible stores and Google's HMAC keys use as well.

What may not enter: connections, files with keys. Facts: "Authenticating Requests (AWS Signature Version 4)"
in the S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import parse_qsl, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.storages.objects.credentials import Keys
    from pysftpserver.storages.objects.web import Body

EMPTY = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"  # TLS protects the content on its way


class Signature4:
    """Signs requests to S3. keys: returns the current keys. is_safe: whether the connection uses TLS."""

    def __init__(self, keys: Callable[[], Keys | None], region: str, host: str, is_safe: bool) -> None:
        self._keys, self._region, self._host, self._is_safe = keys, region, host, is_safe
        self._known: tuple[Keys, str, bytes] | None = None

    def __call__(
        self, method: str, target: str, headers: dict[str, str], body: Body | None
    ) -> dict[str, str]:
        """Return the headers with a signature; without keys, unchanged."""
        headers["Host"] = self._host
        keys = self._keys()
        if keys is None:
            return headers
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers["x-amz-date"] = moment
        headers["x-amz-content-sha256"] = content = self._digest(body)
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        signed = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
        names = ";".join(name for name, _ in signed)
        path, _, query = target.partition("?")
        canonical = "\n".join(
            (
                method,
                path,
                _canonical(query),
                *(f"{name}:{value}" for name, value in signed),
                "",
                names,
                content,
            )
        )
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        proof = hmac.digest(self._key(keys, scope), text.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.key}/{scope}, SignedHeaders={names}, Signature={proof}"
        )
        return headers

    def _key(self, keys: Keys, scope: str) -> bytes:
        """The signing key for a day, which is cached."""
        known = self._known
        if known is None or known[:2] != (keys, scope):
            key = b"AWS4" + keys.secret.encode()
            for part in scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._known = known = keys, scope, key
        return known[2]

    def _digest(self, body: Body | None) -> str:
        if body is None or not body.size:
            return EMPTY
        if self._is_safe:
            return UNSIGNED
        digest = hashlib.sha256()
        for piece in body.pieces():
            digest.update(piece)
        return digest.hexdigest()


class Bearer:
    """Puts a token into requests. token: returns the current token, or "" for none."""

    def __init__(self, token: Callable[[], str], host: str) -> None:
        self._token, self._host = token, host

    def __call__(
        self, method: str, target: str, headers: dict[str, str], body: Body | None
    ) -> dict[str, str]:
        headers["Host"] = self._host
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _canonical(query: str) -> str:
    pairs = sorted(
        (encoded(name), encoded(value)) for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def encoded(text: str, keep: str = "") -> str:
    """Text with everything except unreserved characters percent-encoded, as signatures require."""
    return quote(text, safe="-_.~" + keep)
