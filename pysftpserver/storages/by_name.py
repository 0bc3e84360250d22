"""Storages by their names in options and configurations: directories, jails, databases, classes of one's own.

Only commands know concrete storages; doors are handed one. What may not enter: doors.
"""

from __future__ import annotations

import json
import os

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

    class Bucket(Protocol):
        """Which files of which database. One of uri and uri_file is set."""

        uri: str | None
        uri_file: str | None
        database: str | None
        bucket: str
        prefix: str


FORMS = "plain[:DIRECTORY], jail:DIRECTORY, gridfs:FILE[,bucket=NAME][,prefix=PATH] or MODULE:CLASS [JSON]"


class _Bucket:
    def __init__(self, uri_file: str, settings: dict[str, str]) -> None:
        self.uri: str | None = None
        self.uri_file: str | None = uri_file
        self.database = settings.pop("database", None)
        self.bucket = settings.pop("bucket", "fs")
        self.prefix = settings.pop("prefix", "")


def open_storage(text: str, key: str) -> SFTPAbstractServerStorage:
    """The storage that a value means; FORMS has the forms. key: the option or key that it is the value of.

    gridfs: the file's first line is a mongodb:// URI. Raises BadInput, Unavailable.
    """
    kind, colon, rest = text.partition(":")
    if kind == "plain":
        return plain(rest or ".", key)
    if kind == "jail" and rest:
        return jail(rest, key)
    if kind == "gridfs" and rest:
        uri_file, *further = rest.split(",")
        settings = dict(part.partition("=")[::2] for part in further)
        wanted = _Bucket(uri_file, settings)
        if settings:
            raise BadInput(f"{key}: {next(iter(settings))}: not a setting of gridfs; write {FORMS}")
        return bucket(wanted)
    if not colon or not rest:
        raise BadInput(f"{key}: {text}: no storage; write {FORMS}")
    name, _, arguments = text.partition(" ")
    return _made(name, arguments, key)


def _made(name: str, text: str, key: str) -> SFTPAbstractServerStorage:
    try:
        given = json.loads(text) if text.strip() else []
    except ValueError:
        raise BadInput(f"{key}: {name}: the arguments are not valid JSON") from None
    positional = given if isinstance(given, list) else [] if isinstance(given, dict) else [given]
    keywords = given if isinstance(given, dict) else {}
    try:
        return named(name, key)(*positional, **keywords)  # type: ignore[no-any-return]
    except (OSError, TypeError, ValueError) as error:
        raise BadInput(f"{key}: {name}: {one_line(str(error))}") from None


def named(name: str, key: str) -> Any:
    """A class, or whatever it is, by the name `module:Name`. Raises BadInput."""
    import pkgutil  # here, because it loads much

    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"{key}: {name}: {one_line(str(error))}") from None
    except (Exception, SystemExit) as error:  # the module's own, while it was imported
        words = one_line(f"{type(error).__name__}: {error}")
        raise BadInput(f"{key}: {name}: {words}{line_of(error)}") from None


def line_of(error: BaseException) -> str:
    """Which line raised it, for who wrote that; nothing for a SyntaxError, whose text has it."""
    import traceback

    calls = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not calls:
        return ""
    return f" ({os.path.basename(calls[-1].filename)}, line {calls[-1].lineno})"


def plain(home: str, key: str) -> SFTPAbstractServerStorage:
    """The file system of this host. Raises BadInput."""
    from pysftpserver.storage import SFTPServerStorage

    storage = SFTPServerStorage(home)
    try:
        storage.stat(storage.home + b"/.")
    except OSError as error:
        raise BadInput(f"{key}: {home}: {reason_of(error)}; name a directory that can be entered") from None
    return storage


def jail(path: str, key: str) -> SFTPAbstractServerStorage:
    """A directory of this host. key: what named it. Raises BadInput."""
    from pysftpserver.virtualchroot import SFTPServerVirtualChroot

    try:
        storage = SFTPServerVirtualChroot(path)
        storage.stat(b"/.")  # to hold a descriptor of a directory is not yet to be allowed into it
    except (OSError, ValueError) as error:
        raise BadInput(f"{key}: {path}: {reason_of(error)}; name a directory that can be entered") from None
    return storage


def bucket(settings: Bucket, is_touched: bool = True) -> SFTPAbstractServerStorage:
    """The files in a database. is_touched: whether to make its indexes. Raises BadInput, Unavailable."""
    from pysftpserver.host.wholefiles import first_line
    from pysftpserver.storages.mongo.address import PATIENCE, Address, storage_class

    uri = settings.uri if settings.uri_file is None else first_line(settings.uri_file, "URI file")
    address = Address(uri or "", None, settings.database)
    kind = storage_class()
    from pysftpserver.pysftpexceptions import SFTPException
    from pysftpserver.storages.mongo.connection import MongoUnavailable

    try:
        storage = address.storage(kind, bucket=settings.bucket, prefix=settings.prefix)
        storage.connect(PATIENCE)
        if is_touched:
            storage.prepare()
    except ValueError as error:
        raise BadInput(f"storage: {error}") from None
    except MongoUnavailable as error:
        raise Unavailable(f"storage: {address}: {error}") from None
    except SFTPException as error:
        raise Unavailable(f"storage: {address}: {error}") from None
    return storage
