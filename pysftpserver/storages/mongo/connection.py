"""Creates the client of a MongoDB deployment from a host and a port or from a URI, and connects it.

No exception from here contains a password. What may not enter: collections.
Facts: MongoDB's connection string specification, pymongo.MongoClient.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import pymongo
from pymongo import errors

SCHEMES = ("mongodb://", "mongodb+srv://")
APPLICATION = "pysftpserver"  # what the server's own logs call this client
ELECTION = 15  # seconds that a request waits for a primary; an election takes about ten
SILENCE = 120  # seconds without an answer after which a connection is closed
PORTS = range(1, 65536)
# Names that MongoDB accepts on every system; a bucket is a part of collection names.
_DATABASE = re.compile(r"[^\0 /\\.\"$*<>:|?]{1,63}")
_BUCKET = re.compile(r"(?!system\.)[^\0$\s.][^\0$\s]{0,99}")


class MongoUnavailable(Exception):
    """The deployment cannot be reached, or refuses the login. The text is one line and names no host."""


def open_client(remote: str, port: int | None) -> tuple[pymongo.MongoClient[Any], str | None]:
    """Return a client, which connects on first use, and the database that the URI names.

    remote: a host; or a URI, which includes the ports. Raises ValueError for an invalid one.
    """
    if remote.startswith(SCHEMES):
        database = _database_of(remote)
        return _client(remote, None), database
    if not remote or re.search(r"[\s/@?,]", remote):
        shown = repr(remote) if "@" not in remote else "with a user"  # there may be a password
        raise ValueError(f"invalid host {shown}: give a name, an address or a mongodb:// URI")
    if port is not None and port not in PORTS:
        raise ValueError(f"invalid port {port}: use {PORTS[0]} to {PORTS[-1]}")
    return _client(remote, port), None


def _client(remote: str, port: int | None) -> pymongo.MongoClient[Any]:
    options: dict[str, Any] = {"connect": False, "tz_aware": True, "appname": APPLICATION}
    # One document with invalid values (not UTF-8, the year 20000) must not hide the others.
    if "serverselectiontimeoutms=" not in remote.lower():
        options["serverSelectionTimeoutMS"] = ELECTION * 1000
    if "sockettimeoutms=" not in remote.lower():
        options["socketTimeoutMS"] = SILENCE * 1000
    options |= {"unicode_decode_error_handler": "replace", "datetime_conversion": "DATETIME_AUTO"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings would go to the client, with paths of this host
            return pymongo.MongoClient(remote, port, **options)
    except errors.ConfigurationError as error:  # including InvalidURI
        raise ValueError(_reason(error)) from None
    except (errors.PyMongoError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"the driver does not accept this URI ({type(error).__name__})") from None


def _reason(error: Exception) -> str:
    """Return what is wrong with a URI: the driver's message if it quotes nothing, else a general one."""
    text = str(error)
    if re.fullmatch(r"[\w .,()-]+", text) and len(text) < 200:
        return f"invalid URI: {text}"
    if "escaped" in text or "RFC 3986" in text:
        return "invalid URI: user and password must be percent-encoded"
    return f"invalid URI ({type(error).__name__}): see MongoDB's connection string format"


def _database_of(uri: str) -> str | None:
    """Return the database that a URI names. (Asking the driver may cause a DNS query.)"""
    path = uri.split("://", 1)[1].partition("?")[0].partition("/")[2]
    if "@" in path:  # a password with a slash, which the driver would take for a host and a database
        raise ValueError("invalid URI: user and password must be percent-encoded")
    from urllib.parse import unquote

    return unquote(path) or None


def check_database(name: str) -> str:
    """Raises ValueError for an invalid database name."""
    if not _DATABASE.fullmatch(name):
        raise ValueError(f'invalid database name {name!r}: up to 63 characters, none of /\\. "$*<>:|?')
    return name


def check_bucket(name: str) -> str:
    """Raises ValueError for an invalid bucket name."""
    if not _BUCKET.fullmatch(name) or name.endswith(".") or ".." in name:
        raise ValueError(f"invalid bucket {name!r}: give the prefix of its collections, such as fs")
    return name


def reach(client: pymongo.MongoClient[Any], patience: float) -> None:
    """Connect and log in. patience: seconds. Raises MongoUnavailable."""
    try:
        with pymongo.timeout(patience):
            client.admin.command("ping")
    except errors.OperationFailure as error:
        raise MongoUnavailable(_refusal(error)) from error
    except errors.ConfigurationError as error:
        raise MongoUnavailable(
            "its host name cannot be resolved, or the driver does not support its version"
        ) from error
    except (errors.PyMongoError, OSError) as error:
        refusal = _authentication(error)
        raise MongoUnavailable(refusal or f"no answer from the database within {patience:g} s") from error


def _refusal(error: errors.OperationFailure) -> str:
    if error.code == 18:
        return "the database refuses user and password"
    return f"the database refuses to talk (error {error.code})"


def _authentication(error: BaseException) -> str | None:
    """Return the server's refusal of the login, which the driver wraps if there is a time limit."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, errors.OperationFailure):
            return _refusal(cause)
        cause = cause.__cause__
    return None
