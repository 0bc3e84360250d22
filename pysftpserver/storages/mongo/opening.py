"""From a URI, or the file that holds it, to a GridFS storage that has answered.

What may not enter: names of storages, sessions.
"""

from __future__ import annotations

from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.host.wholefiles import first_line
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.storages.mongo.address import PATIENCE, Address, storage_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage


def bucket(
    uri: str | None,
    uri_file: str | None,
    database: str | None = None,
    bucket: str | None = "fs",
    prefix: str | None = "",
    *,
    keep_revisions: bool = False,
    is_touched: bool = True,
    tell: Callable[[str], object] | None = None,
) -> SFTPAbstractServerStorage:
    """Connect to a GridFS storage and return it. One of uri and uri_file is given.

    is_touched: whether to create missing indexes. tell: as of Opening.

    Raises BadInput for invalid settings, Unavailable if the database cannot be used.
    """
    uri = uri if uri_file is None else first_line(uri_file, "URI file")
    address = Address(uri or "", None, database)
    kind = storage_class()
    from pysftpserver.storages.mongo.connection import MongoUnavailable

    try:
        storage = address.storage(
            kind, bucket=bucket or "fs", prefix=prefix or "", keep_revisions=keep_revisions
        )
        storage.connect(PATIENCE)
        if is_touched:
            prepare(storage, address, tell)
    except ValueError as error:
        raise BadInput(str(error)) from None
    except (MongoUnavailable, SFTPException) as error:
        raise Unavailable(f"{address}: {error}") from None
    return storage


def prepare(storage: Any, address: object, tell: Callable[[str], object] | None) -> None:
    """Create missing indexes. Raises SFTPException, unless there is someone to tell."""
    try:
        storage.prepare()
    except SFTPException as error:
        if tell is None:
            raise
        tell(f"{address}: missing indexes cannot be created ({error}); pysftpmongo --check-only lists them")
