"""Turns the driver's exceptions into exceptions whose text a client may see.

The driver's messages name hosts and ports, so clients never get them; they are the cause of the new
exception, for the log. What may not enter: requests, documents.
Facts: pymongo.errors, MongoDB's error codes.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from pymongo import errors

from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPForbidden, SFTPUnavailable

Method = TypeVar("Method", bound=Callable[..., Any])

UNAUTHORIZED = (13, 8000)  # the second is Atlas's
OUT_OF_DISK_SPACE = 14031
WRITE_CONFLICT = 112


def spoken(error: errors.PyMongoError) -> Exception:
    """Return the exception for clients for an exception of the driver."""
    # Subclasses first: NotPrimaryError is an AutoReconnect, which is a ConnectionFailure.
    if isinstance(error, errors.NotPrimaryError):
        return SFTPUnavailable("The database is changing its primary; try again")
    if isinstance(error, (errors.ConnectionFailure, errors.WaitQueueTimeoutError)):
        return SFTPUnavailable("The connection to the database was lost; try again")
    if isinstance(error, (errors.WTimeoutError, errors.WriteConcernError)):
        return SFTPFailure("The change is not yet on a majority of the database's members")
    if isinstance(error, errors.ExecutionTimeout):
        return SFTPFailure("The database took too long; try again")
    code = getattr(error, "code", None)
    if code in UNAUTHORIZED:
        return SFTPForbidden("The database does not allow that")
    if code == OUT_OF_DISK_SPACE:
        return os_error(errno.ENOSPC)
    if code == WRITE_CONFLICT or error.has_error_label("TransientTransactionError"):
        return SFTPFailure("Another session has changed the same data at the same time; try again")
    return SFTPFailure("The database has refused the request")


def answers(method: Method) -> Method:
    """Decorate a method of a storage: convert the driver's exceptions with spoken()."""

    @functools.wraps(method)
    def answered(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except errors.PyMongoError as error:
            raise spoken(error) from error

    return answered  # type: ignore[return-value]
