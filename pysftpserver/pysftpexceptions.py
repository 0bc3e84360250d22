"""The exceptions that storages and hooks raise, and the status that a client sees for each.

A storage may raise these, or the OSError that the system gave it, or anything else: status_of() is the
one place that turns an exception into a status and a message. A client gets the text of an SFTPException
or the system's text for an errno, never an exception's filename.
What may not enter: sessions, logs.
Facts: section 7 of the draft; errno to status as OpenSSH's sftp-server does it.
"""

from __future__ import annotations

import errno
import os

# Status codes (section 7)
SSH2_FX_OK = 0
SSH2_FX_EOF = 1
SSH2_FX_NO_SUCH_FILE = 2
SSH2_FX_PERMISSION_DENIED = 3
SSH2_FX_FAILURE = 4
SSH2_FX_BAD_MESSAGE = 5
SSH2_FX_NO_CONNECTION = 6
SSH2_FX_CONNECTION_LOST = 7
SSH2_FX_OP_UNSUPPORTED = 8

STATUS_MESSAGES = {
    SSH2_FX_OK: b"Success",
    SSH2_FX_EOF: b"End of file",
    SSH2_FX_NO_SUCH_FILE: b"No such file",
    SSH2_FX_PERMISSION_DENIED: b"Permission denied",
    SSH2_FX_FAILURE: b"Failure",
    SSH2_FX_BAD_MESSAGE: b"Bad message",
    SSH2_FX_NO_CONNECTION: b"No connection",
    SSH2_FX_CONNECTION_LOST: b"Connection lost",
    SSH2_FX_OP_UNSUPPORTED: b"Operation unsupported",
}


class MalformedPacket(Exception):
    """A packet body that ends too early, or holds a value that its type does not allow."""


class SFTPException(Exception):
    """A request failed. The text, if there is one, is shown to the client.

    status: the SSH2_FX_* code that the client gets; each subclass has its own.
    """

    status = SSH2_FX_FAILURE


class SFTPFailure(SFTPException):
    """Any failure that has no status of its own."""


class SFTPUnavailable(SFTPFailure):
    """Something that the storage needs, such as another server, cannot be reached now. A retry may work."""


class SFTPEndOfFile(SFTPException):
    """The end of a file or of a listing."""

    status = SSH2_FX_EOF


class SFTPNotFound(SFTPException):
    """There is no such file."""

    status = SSH2_FX_NO_SUCH_FILE


class SFTPForbidden(SFTPException):
    """This user may not do that."""

    status = SSH2_FX_PERMISSION_DENIED


class SFTPBadMessage(SFTPException):
    """The request makes no sense."""

    status = SSH2_FX_BAD_MESSAGE


class SFTPUnsupported(SFTPException):
    """This server or this storage does not support that."""

    status = SSH2_FX_OP_UNSUPPORTED


class SFTPLimitReached(SFTPException):
    """The request exceeds a limit of the session (limits.py). status: the code that the client gets."""

    def __init__(self, text: str, status: int = SSH2_FX_FAILURE) -> None:
        super().__init__(f"Limit reached: {text}")
        self.status = status


class SFTPSessionEnd(Exception):
    """The whole session has to end; the text is for the log only."""


MOST_WORDS = 1000  # characters of a message that a client gets
_STATUS_OF_ERRNO = {
    errno.ENOENT: SSH2_FX_NO_SUCH_FILE,
    errno.ENOTDIR: SSH2_FX_NO_SUCH_FILE,
    errno.EBADF: SSH2_FX_NO_SUCH_FILE,
    errno.ELOOP: SSH2_FX_NO_SUCH_FILE,
    errno.EPERM: SSH2_FX_PERMISSION_DENIED,
    errno.EACCES: SSH2_FX_PERMISSION_DENIED,
    errno.EFAULT: SSH2_FX_PERMISSION_DENIED,
    errno.ENAMETOOLONG: SSH2_FX_BAD_MESSAGE,
    errno.EINVAL: SSH2_FX_BAD_MESSAGE,
    errno.ENOSYS: SSH2_FX_OP_UNSUPPORTED,
}


def status_of(error: BaseException) -> tuple[int, bytes]:
    """The status code and the message (UTF-8) that a client gets for an exception. error: of any kind."""
    if isinstance(error, SFTPException):
        status = error.status
        if not isinstance(status, int) or not 0 <= status < 1 << 32:
            status = SSH2_FX_FAILURE
        text = words_of(error)[:MOST_WORDS].encode("utf-8", "replace")
        return status, text or STATUS_MESSAGES.get(status, b"Failure")
    if isinstance(error, MalformedPacket):
        return SSH2_FX_BAD_MESSAGE, f"Bad message: the request {error}".encode()
    if isinstance(error, OSError) and isinstance(error.errno, int):
        status = _STATUS_OF_ERRNO.get(error.errno, SSH2_FX_FAILURE)
        if status != SSH2_FX_FAILURE:
            return status, STATUS_MESSAGES[status]
        try:
            return status, os.strerror(error.errno).encode()
        except (OverflowError, ValueError):  # not an errno of this system
            return status, STATUS_MESSAGES[status]
    name = type(error).__name__
    return SSH2_FX_FAILURE, f"The storage failed ({name}); the server's log says more".encode()


def is_expected(error: BaseException) -> bool:
    """Whether an exception is an answer to the client; any other is a bug, logged with its traceback."""
    if isinstance(error, (SFTPException, MalformedPacket)):
        return True
    return isinstance(error, OSError) and isinstance(error.errno, int)


def words_of(error: BaseException) -> str:
    """The text of an exception; empty if its __str__() fails."""
    try:
        return str(error)
    except BaseException:
        return ""
