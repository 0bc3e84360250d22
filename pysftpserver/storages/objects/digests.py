"""Digests that stores have of their objects, from the headers of an answer.

Only digests of the whole content: for an object that was uploaded in parts, S3 has one of the parts' digests.
What may not enter: requests.
Facts: the Amazon S3 user guide ("Checking object integrity") and API reference ("Object", on ETag); Cloud
Storage's XML API ("x-goog-hash"); the Blob service REST API ("Get Blob Properties").
"""

from __future__ import annotations

import base64
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.storages.objects.web import Headers

OTHER_KEYS = "x-amz-server-side-encryption-customer-algorithm"
MD5 = re.compile(r'"?([0-9a-f]{32})"?')


def in_s3(headers: Headers, algorithm: str) -> bytes | None:
    """S3's: a checksum that it was told to keep; or the etag, an MD5 unless another key encrypts it."""
    if headers.get("x-amz-checksum-type") != "COMPOSITE":
        found = _decoded(headers.get(f"x-amz-checksum-{algorithm}", ""))
        if found is not None:
            return found
    etag = MD5.fullmatch(headers.get("etag", ""))
    is_plain = headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
    if algorithm != "md5" or etag is None or not is_plain or OTHER_KEYS in headers:
        return None
    return bytes.fromhex(etag[1])


def in_google(headers: Headers, algorithm: str) -> bytes | None:
    """Google's digest; None for objects that were joined from others, whose digest cannot be used here."""
    values = (value.strip().partition("=") for value in headers.get("x-goog-hash", "").split(","))
    return next((_decoded(value) for name, _, value in values if name == algorithm), None)


def in_azure(headers: Headers, algorithm: str) -> bytes | None:
    """Azure's digest: of content that was put in one piece, or as given by the client."""
    return _decoded(headers.get("content-md5", "")) if algorithm == "md5" else None


def _decoded(text: str) -> bytes | None:
    """A digest from base64; None for anything else, such as one with the number of parts after it."""
    try:
        return base64.b64decode(text, validate=True) or None
    except ValueError:
        return None
