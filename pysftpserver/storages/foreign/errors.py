"""Turns exceptions of fsspec and the libraries behind it into ones that clients may see.

What may not enter: which request it was for.
"""

from __future__ import annotations

import errno
import functools
import io

from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import (
    SFTPBadMessage,
    SFTPException,
    SFTPFailure,
    SFTPForbidden,
    SFTPNotFound,
    SFTPUnavailable,
    SFTPUnsupported,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pysftpserver.storages.foreign.opening import Opened

    Method = TypeVar("Method", bound=Callable[..., Any])

_NUMBERS: dict[type, int] = {FileExistsError: errno.EEXIST, IsADirectoryError: errno.EISDIR}
GATEWAY = (502, 503, 504)  # statuses of HTTP: the server cannot be reached


class FsspecError(Exception):
    """An exception of a library, for the log: its text without secrets."""


def spoken(method: Method) -> Method:
    """A decorator: turns exceptions of fsspec, or of a library behind it, into ones that a client may see."""

    @functools.wraps(method)
    def speaking(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except (SFTPException, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            answer = answer_to(error, self._opened)
            raise answer from answer.__cause__

    return speaking  # type: ignore[return-value]


def answer_to(error: BaseException, opened: Opened) -> Exception:
    """The exception for the client; its cause is for the log. opened: where the error happened."""
    answer: Exception
    if isinstance(error, OSError):
        number = error.errno or _NUMBERS.get(type(error))
        if number:
            return os_error(number)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return SFTPNotFound()
    if isinstance(error, PermissionError):
        answer = SFTPForbidden()
    elif _is_loss(error, opened):
        answer = SFTPUnavailable("The storage does not answer; try again later")
    elif isinstance(error, (NotImplementedError, io.UnsupportedOperation)):
        answer = SFTPUnsupported("The file system cannot do that")
    elif isinstance(error, UnicodeError):
        answer = SFTPBadMessage("The storage cannot hold that name")
    else:
        answer = SFTPFailure("The file system failed; the server's log says more")
    answer.__cause__ = FsspecError(f"{type(error).__name__}: {opened.safe(str(error))}")
    return answer


def _is_loss(error: BaseException, opened: Opened) -> bool:
    """Whether the other side is gone. An EOFError may also come from an archive."""
    is_lost = isinstance(error, (ConnectionError, TimeoutError)) or getattr(error, "status", None) in GATEWAY
    return is_lost or isinstance(error, EOFError) and opened.is_ftp
