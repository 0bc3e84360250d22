"""Which storage a user of pysftpd has: a folder of his own, a part of a database, or a class of one's own.

What may not enter: SSH, sessions.
"""

from __future__ import annotations

import json
import os

from pysftpserver.failures import BadInput
from pysftpserver.storages.by_name import named
from pysftpserver.virtualchroot import SFTPServerVirtualChroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.mongostorage import SFTPServerMongoStorage
    from pysftpserver.sshd.config import Options
    from pysftpserver.sshd.users import User

GRIDFS = "gridfs"
CLASSES = "storage_classes"
FOLDER_MODE = 0o700


class Storages:
    """Makes the storages of users. Raises BadInput for options that do not do."""

    def __init__(self, options: Options) -> None:
        self._path = options.sftp_path
        self._classes = options.storage_classes or ()
        self._uri = uri_of(options)
        self._database = options.mongo_database
        self._bucket = options.mongo_bucket
        self._mongo: SFTPServerMongoStorage | None = None
        for name in self._classes:
            named(name, CLASSES)

    def of(self, user: User) -> SFTPAbstractServerStorage:
        """The storage of a user, for one session. Raises OSError, ValueError, SFTPException."""
        kind, _, rest = (user.storage or "").partition(":")
        if not user.storage:
            return self._folder(user)
        if kind == GRIDFS:
            return self._gridfs().at_prefix(rest or user.folder)
        return self._class(user)

    def _folder(self, user: User) -> SFTPAbstractServerStorage:
        path = os.path.join(self._path, user.folder)
        os.makedirs(path, mode=FOLDER_MODE, exist_ok=True)
        return SFTPServerVirtualChroot(path)

    def _gridfs(self) -> SFTPServerMongoStorage:
        """The bucket, which all sessions of a process reach over the same connections."""
        if self._uri is None:
            raise ValueError("storage gridfs needs mongo_uri or mongo_uri_file")
        if self._mongo is None:
            from pysftpserver.mongostorage import SFTPServerMongoStorage

            self._mongo = SFTPServerMongoStorage.from_uri(self._uri, self._database, bucket=self._bucket)
        return self._mongo

    def prepare(self) -> None:
        """Make what the database lacks. It takes its time. Raises SFTPException, ValueError."""
        if self._uri is not None:
            self._gridfs().prepare()

    def _class(self, user: User) -> SFTPAbstractServerStorage:
        """One of the classes that the options allow: `module:Class`, and what it is made with, in JSON."""
        name, _, text = (user.storage or "").partition(" ")
        if name not in self._classes:
            raise ValueError(f"storage {name}: not among storage_classes")
        try:
            given = json.loads(text) if text.strip() else []
        except ValueError:
            raise ValueError(f"storage {name}: what follows it is no JSON") from None
        arguments = given if isinstance(given, list) else [] if isinstance(given, dict) else [given]
        keywords = given if isinstance(given, dict) else {}
        made = named(name, CLASSES)(
            *(_filled(one, user) for one in arguments),
            **{key: _filled(one, user) for key, one in keywords.items()},
        )
        return made  # type: ignore[no-any-return]


def _filled(value: Any, user: User) -> Any:
    """A value, with the user's name and folder in the place of {name} and {folder}."""
    if not isinstance(value, str):
        return value
    return value.replace("{name}", user.name).replace("{folder}", user.folder)


def uri_of(options: Options) -> str | None:
    """The URI of the database, if there is one. Raises BadInput."""
    if options.mongo_uri is not None and options.mongo_uri_file is not None:
        raise BadInput("mongo_uri and mongo_uri_file: give one of them")
    if options.mongo_uri_file is None:
        uri: str | None = options.mongo_uri
        return uri
    from pysftpserver.host.wholefiles import first_line

    return first_line(options.mongo_uri_file, "URI file")
