"""Opens storages by their names in options and configuration files.

Only commands know concrete storages; doors are given one. What may not enter: doors.
"""

from __future__ import annotations

import json
import os

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

FORMS = (
    "plain[:DIRECTORY], jail:DIRECTORY, gridfs:FILE[,bucket=NAME][,prefix=PATH], s3://BUCKET[/PREFIX] "
    "or MODULE:CLASS [JSON]"
)


def open_storage(text: str, key: str) -> SFTPAbstractServerStorage:
    """Open the storage with this name, in one of FORMS.

    gridfs: the URI is the first line of FILE. key: the option or key with this value, for messages. Raises
    BadInput for a name that cannot be opened, Unavailable if the database does not answer.
    """
    kind, colon, rest = text.partition(":")
    if kind == "plain":
        return plain(rest or ".", key)
    if kind == "jail" and rest:
        return jail(rest, key)
    if kind == "gridfs" and rest:
        uri_file, *further = rest.split(",")
        settings: dict[str, Any] = dict(part.partition("=")[::2] for part in further)
        unknown = [name for name in settings if name not in ("database", "bucket", "prefix")]
        if unknown:
            raise BadInput(f"{key}: {unknown[0]}: unknown setting of gridfs; write {FORMS}")
        return bucket(None, uri_file, **settings)
    if kind in ("s3", "gs", "az") and rest.startswith("//"):
        return objects(text, key)
    if not colon or not rest:
        raise BadInput(f"{key}: {text}: unknown storage; write {FORMS}")
    name, _, arguments = text.partition(" ")
    make = maker(name, key)
    try:
        return make(arguments)  # type: ignore[no-any-return]
    except (OSError, TypeError, ValueError) as error:
        raise BadInput(f"{key}: {name}: {one_line(str(error))}") from None


def maker(name: str, key: str) -> Callable[..., Any]:
    """Import the class with the name `module:Class`; return what makes its storages of arguments in JSON.

    make(text, fill): text has a list of arguments, an object of named ones, one argument, or nothing. fill:
    returns an argument as it is meant. It raises ValueError for text that is not JSON, and what the class
    raises. make.uses_network: what the class says of itself. Raises BadInput if the import fails.
    """
    kind = named(name, key)

    def make(text: str, fill: Callable[[Any], Any] = lambda argument: argument) -> Any:
        try:
            given = json.loads(text) if text.strip() else []
        except RecursionError:
            raise ValueError("the arguments are nested too deeply") from None
        except ValueError:
            raise ValueError("the arguments are not valid JSON") from None
        if isinstance(given, dict):
            return kind(**{name: fill(argument) for name, argument in given.items()})
        return kind(*map(fill, given if isinstance(given, list) else [given]))

    make.uses_network = getattr(kind, "uses_network", True)  # type: ignore[attr-defined]
    return make


def named(name: str, key: str) -> Any:
    """Import the class, or other object, with the name `module:Name`. Raises BadInput if that fails."""
    import pkgutil  # here, because it loads much

    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"{key}: {name}: {one_line(str(error))}") from None
    except (Exception, SystemExit) as error:  # raised by the module while it was imported
        words = one_line(f"{type(error).__name__}: {error}")
        raise BadInput(f"{key}: {name}: {words}{line_of(error)}") from None


def line_of(error: BaseException) -> str:
    """Return the file and line that raised an error, for the author of a module; "" for a SyntaxError.

    (The text of a SyntaxError includes the line.)
    """
    import traceback

    calls = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not calls:
        return ""
    return f" ({os.path.basename(calls[-1].filename)}, line {calls[-1].lineno})"


def plain(home: str, key: str) -> SFTPAbstractServerStorage:
    """Return the plain storage of this host, starting in the directory home. Raises BadInput."""
    from pysftpserver.storage import SFTPServerStorage

    storage = SFTPServerStorage(home)
    try:
        storage.stat(storage.home + b"/.")
    except OSError as error:
        raise BadInput(f"{key}: {home}: {reason_of(error)}; name a directory that can be entered") from None
    return storage


def jail(path: str, key: str) -> SFTPAbstractServerStorage:
    """Return a jail in a directory of this host. key: the option or key that named it. Raises BadInput."""
    from pysftpserver.virtualchroot import SFTPServerVirtualChroot

    try:
        storage = SFTPServerVirtualChroot(path)
        storage.stat(b"/.")  # fails where the account may open the directory and not enter it
    except (OSError, ValueError) as error:
        raise BadInput(f"{key}: {path}: {reason_of(error)}; name a directory that can be entered") from None
    return storage


def bucket(
    uri: str | None,
    uri_file: str | None,
    database: str | None = None,
    bucket: str = "fs",
    prefix: str = "",
    *,
    is_touched: bool = True,
) -> SFTPAbstractServerStorage:
    """Connect to a GridFS storage and return it. One of uri and uri_file is given.

    is_touched: whether to create missing indexes.

    Raises BadInput for invalid settings, Unavailable if the database cannot be used.
    """
    from pysftpserver.host.wholefiles import first_line
    from pysftpserver.storages.mongo.address import PATIENCE, Address, storage_class

    uri = uri if uri_file is None else first_line(uri_file, "URI file")
    address = Address(uri or "", None, database)
    kind = storage_class()
    from pysftpserver.pysftpexceptions import SFTPException
    from pysftpserver.storages.mongo.connection import MongoUnavailable

    try:
        storage = address.storage(kind, bucket=bucket, prefix=prefix)
        storage.connect(PATIENCE)
        if is_touched:
            storage.prepare()
    except ValueError as error:
        raise BadInput(f"storage: {error}") from None
    except (MongoUnavailable, SFTPException) as error:
        raise Unavailable(f"storage: {address}: {error}") from None
    return storage


def objects(name: str, key: str) -> SFTPAbstractServerStorage:
    """Return the storage on an object store with a name such as `s3://BUCKET/PREFIX`.

    Raises BadInput for a name that cannot be used, Unavailable if the store does not answer.
    """
    from pysftpserver.objectstorage import SFTPServerObjectStorage
    from pysftpserver.pysftpexceptions import SFTPException

    try:
        storage = SFTPServerObjectStorage(name)
    except ValueError as error:
        raise BadInput(f"{key}: {one_line(str(error))}") from None
    try:
        storage.connect()
    except SFTPException as error:
        raise Unavailable(f"{key}: {storage.label}: {error}") from None
    return storage
