"""Which storage a user has: a folder, a part of a database, or one of the administrator's classes.

What may not enter: SSH, sessions, concrete storages; the command hands in what opens those.
"""

from __future__ import annotations

import contextlib
import os
import stat
from _thread import allocate_lock  # threading would do work in each new process
from dataclasses import dataclass

from pysftpserver.failures import BadInput, reason_of
from pysftpserver.host import privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.sshd.config import ServerSettings
    from pysftpserver.sshd.users import User

    class Bucket(Protocol):
        """A storage that is a whole database."""

        def at_prefix(self, prefix: str) -> SFTPAbstractServerStorage:
            """The storage of another directory, over the same connections."""

        def prepare(self) -> None:
            """Make what the database lacks."""


GRIDFS = "gridfs"
CLASSES = "storage_classes"
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class Openers:
    """What opens storages.

    folder: of a directory. gridfs: of a URI, a database and a bucket. maker: for the name of a class, and the
    setting that has it, what makes its storages of arguments in JSON and of what fills in each, and says as
    `uses_network` whether they talk to other hosts. Each raises OSError, ValueError, SFTPException or
    BadInput.
    """

    folder: Callable[[str], SFTPAbstractServerStorage]
    gridfs: Callable[[str, str | None, str], Bucket]
    maker: Callable[[str, str], Callable[[str, Callable[[Any], Any]], Any]]


class UserStorages:
    """Opens the storages of users. Raises BadInput for settings that cannot be used."""

    def __init__(self, settings: ServerSettings, openers: Openers) -> None:
        self._openers = openers
        self._path = settings.sftp_path
        self._creates = settings.create_folders
        self._marker = settings.disk_marker
        self._serves_accounts = bool(settings.run_as or settings.run_as_accounts)
        self._uri = uri_of(settings)
        self._database = settings.mongo_database
        self._bucket_name = settings.mongo_bucket
        self._bucket: Bucket | None = None
        self._lock = allocate_lock()  # sessions begin in threads
        self._classes = {name: openers.maker(name, CLASSES) for name in settings.storage_classes or ()}

    def of(self, user: User) -> SFTPAbstractServerStorage:
        """The storage of a user, opened anew for each session: a directory that was replaced is not served.

        Raises OSError, ValueError, SFTPException.
        """
        kind, _, rest = (user.storage or "").partition(":")
        if not user.storage:
            path = os.path.join(self._path, user.folder)
            why = unmounted(self._path, self._marker)
            if why is not None:
                raise ValueError(why)
            if self._creates:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, FOLDER_MODE)
            elif not os.path.lexists(path):
                # Its disk may not be mounted: what a new folder got would be hidden by the mount.
                raise ValueError(
                    f"folder {path} is missing; create it, mount its disk, or set create_folders"
                )
            storage = self._openers.folder(path)
            if self._serves_accounts and not _is_itself(path, *storage.territory() or ()):
                raise ValueError(f"folder {path} is a link that is not root's, which run_as does not allow")
            return storage
        if kind == GRIDFS:
            return self._whole_bucket().at_prefix(rest or user.folder)
        return self._made(user)

    def is_remote(self, user: User) -> bool:
        """Whether the storage of a user talks to other hosts, or may."""
        if not user.storage:
            return False
        name = user.storage.partition(" ")[0]
        return name not in self._classes or bool(self._classes[name].uses_network)  # type: ignore[attr-defined]

    def prepare(self) -> None:
        """Make what the database lacks. This may take long. Raises SFTPException, ValueError."""
        if self._uri is not None:
            self._whole_bucket().prepare()

    def _whole_bucket(self) -> Bucket:
        """The bucket, which all sessions of a process reach over the same connections."""
        if self._uri is None:
            raise ValueError("storage gridfs needs mongo_uri or mongo_uri_file")
        with self._lock:
            if self._bucket is None:
                self._bucket = self._openers.gridfs(self._uri, self._database, self._bucket_name)
            return self._bucket

    def _made(self, user: User) -> SFTPAbstractServerStorage:
        """A storage of one of the allowed classes: `module:Class`, and its arguments in JSON."""
        name, _, text = (user.storage or "").partition(" ")
        if name not in self._classes:
            raise ValueError(f"storage {name}: not listed in storage_classes")
        made = self._classes[name](text, lambda argument: _filled(argument, user))
        return made  # type: ignore[no-any-return]


def _is_itself(path: str, opened: int) -> bool:
    """Whether a directory that was opened by a path is what is there, or what root's link there names.

    A link of the server's account would lead a session of another account anywhere. Raises OSError.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISLNK(found.st_mode) and found.st_uid == 0:
            target = os.readlink("", dir_fd=descriptor)
            found = os.stat(os.path.join(os.path.dirname(path), target))
    finally:
        os.close(descriptor)
    return os.path.samestat(found, os.fstat(opened))


def _filled(value: Any, user: User) -> Any:
    """A value with the user's name and folder for {name} and {folder}."""
    if not isinstance(value, str):
        return value
    return value.replace("{name}", user.name).replace("{folder}", user.folder)


def make_folder(settings: ServerSettings, user: User) -> str | None:
    """Create the folder of a user who has one; why not, or None.

    Root gives it to the account of the user's sessions, or else to the owner of sftp_path.
    For commands. It does nothing where the settings do not say where folders are.
    """
    if user.storage or "sftp_path" not in settings.given:
        return None
    why = unmounted(settings.sftp_path, settings.disk_marker)
    if why is not None:
        return why
    path = os.path.join(settings.sftp_path, user.folder)
    try:
        above = os.stat(settings.sftp_path)
        os.mkdir(path, FOLDER_MODE)
        if os.geteuid() == 0:
            name = user.run_as or settings.run_as
            account = privileges.account(name) if name else None
            os.chown(path, *((account.uid, account.gid) if account else (above.st_uid, above.st_gid)))
    except FileExistsError:
        pass
    except (OSError, ValueError) as error:
        return f"folder {path}: {reason_of(error)}; create it, or the user cannot be served"
    return None


def unmounted(path: str, marker: str | None) -> str | None:
    """Why the disk of the folders seems not to be mounted there; None if it is, and without a marker."""
    if marker is None or os.path.lexists(os.path.join(path, marker)):
        return None
    return f"sftp_path {path} has no {marker}, which disk_marker asks for; mount the disk of the folders"


def uri_of(settings: ServerSettings) -> str | None:
    """The URI of the database, if there is one. Raises BadInput."""
    if settings.mongo_uri is not None and settings.mongo_uri_file is not None:
        raise BadInput("mongo_uri and mongo_uri_file: give one of them")
    if settings.mongo_uri_file is None:
        return settings.mongo_uri
    from pysftpserver.host.wholefiles import first_line

    return first_line(settings.mongo_uri_file, "URI file")
