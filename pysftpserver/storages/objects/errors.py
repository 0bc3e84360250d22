"""Turns a store's refusals into exceptions whose text a client may see.

The text names no host, no key of an account and no address: the exception that a library raised is the cause
of the new one, for the log. What may not enter: requests, paths.
Facts: the error codes of S3's API, which Google's XML API and S3's imitations share.
"""

from __future__ import annotations

import errno
import math
import socket
import ssl

from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPForbidden, SFTPNotFound, SFTPUnavailable

#: Error codes after which a retry may succeed.
TRANSIENT = frozenset(
    "InternalError OperationAborted RequestTimeout ServiceUnavailable SlowDown TooManyRequests".split()
)
AGAIN = frozenset((408, 429, 500, 502, 503, 504))
GATEWAY = frozenset((502, 503, 504))
_NOT_FOUND = frozenset(("NoSuchKey", "NotFound", "BlobNotFound"))
_CHANGED = frozenset(
    ("", "PreconditionFailed", "ConditionalRequestConflict", "BlobAlreadyExists", "ConditionNotMet")
)
_WORDS = {
    "ContainerNotFound": "The bucket does not exist",
    "AuthenticationFailed": "The store does not accept the credentials",
    "InvalidBlockList": "The upload is gone: another client has written the same file",
    "NoSuchBucket": "The bucket does not exist",
    "InvalidBucketName": "The name of the bucket is not valid",
    "ExpiredToken": "The credentials for the store have expired",
    "InvalidToken": "The store does not accept the credentials",
    "TokenRefreshRequired": "The credentials for the store have expired",
    "InvalidAccessKeyId": "The store does not know the access key",
    "SignatureDoesNotMatch": "The store does not accept the credentials: the secret key is wrong",
    "RequestTimeTooSkewed": "The clock of this server and that of the store differ too much",
    "EntityTooLarge": "The file is larger than the store allows",
    "KeyTooLongError": "The path is longer than the store allows",
    "QuotaExceeded": "The quota of the store is exhausted",
    "InvalidObjectState": "The object is archived; restore it in the store first",
    "NoSuchUpload": "The upload is gone: it was aborted in the store",
}


class Refused(SFTPFailure):
    """The store refused a request. code: its error code, or "".

    attempts: how many it took; since: the first one's time by the store's clock, in seconds.
    """

    attempts = 1
    since = math.inf

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.http_status, self.code = status, code


class Gone(Refused, SFTPUnavailable):
    """A gateway answered in place of the store, or the store without a reason: it cannot be reached."""


class Missing(SFTPNotFound):
    """The object does not exist."""


class Changed(SFTPFailure):
    """A condition of the request does not hold: the object exists already, or is another one by now.

    attempts, since: as in Refused.
    """

    attempts = 1
    since = math.inf


class Unsupported(SFTPFailure):
    """The store does not know a part of the request that the caller can do without."""


def refusal(status: int, code: str, region: str = "") -> Exception:
    """The exception for an answer of the store that reports a failure.

    code: the store's error code; "" if the answer has none. region: where the bucket really is.
    """
    if code in _NOT_FOUND or status == 404 and not code:
        return Missing()
    if status in (412, 409) and code in _CHANGED:
        return Changed("The object has changed in the store, or exists already")
    if code in ("NotImplemented", "NotSupported") or status in (405, 501):
        return Unsupported(f"The store does not support this request{_of(code)}")
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect") or status == 301:
        where = f"it is in {region}" if region else "set the region of the bucket"
        return Refused(status, code, f"The bucket is in another region: {where}")
    if code in _WORDS:
        return Refused(status, code, _WORDS[code])
    if status in (401, 403) or code == "AccessDenied":
        return SFTPForbidden(f"The store denies access{_of(code)}")
    kind = Gone if status in GATEWAY and not code else Refused
    if status in (429, 503):
        return kind(status, code, f"The store is busy ({code or status}); try again later")
    if status in AGAIN:
        return kind(status, code, f"The store has a fault or is busy ({code or status}); try again later")
    return Refused(status, code, f"The store refused the request ({code or status})")


def _of(code: str) -> str:
    return f" ({code})" if code and code.isalnum() else ""


def unclear() -> SFTPFailure:
    """The exception for an answer that no store should give."""
    return SFTPFailure("The store's answer cannot be understood")


class Over(SFTPUnavailable):
    """The session ended while it waited for the store's answer."""

    def __init__(self) -> None:
        super().__init__("The session is over")


def unreachable(error: Exception, seconds: float) -> SFTPUnavailable:
    """The exception for a store that does not answer. seconds: the time waited."""
    if isinstance(error, TimeoutError):
        return SFTPUnavailable(f"The store did not answer within {seconds:g} seconds")
    if isinstance(error, socket.gaierror):
        return SFTPUnavailable("The store cannot be reached: its host name cannot be resolved")
    if isinstance(error, ssl.SSLCertVerificationError):
        return SFTPUnavailable("The store cannot be reached: its certificate is not trusted")
    if isinstance(error, OSError) and error.errno:
        return SFTPUnavailable(f"The store cannot be reached: {reason_of(error)}")
    return SFTPUnavailable("The connection to the store was lost")


NOT_EMPTY = errno.ENOTEMPTY
