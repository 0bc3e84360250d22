"""Which storage a user has: one that the record names, the one that the settings name for all, or a folder.

What may not enter: SSH, sessions, concrete storages; the command passes functions that open those.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from _thread import allocate_lock  # threading would do work in each new process
from dataclasses import dataclass

from pysftpserver.failures import BadInput, reason_of
from pysftpserver.host import privileges
from pysftpserver.host.accounts import own_name, own_reason
from pysftpserver.people.users import Visit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Protocol

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.settings import PeopleSettings
    from pysftpserver.people.users import User

    class Bucket(Protocol):
        """A storage that is a whole database."""

        def at_prefix(self, prefix: str) -> SFTPAbstractServerStorage:
            """The storage of another directory, over the same connections."""

        def prepare(self) -> None:
            """Create what the database lacks."""

    class Names(Protocol):
        """Opens storages by their names. All methods raise BadInput."""

        @property
        def schemes(self) -> Collection[str]:
            """The schemes with which names may begin."""

        def __call__(self, text: str, key: str, values: Mapping[str, str]) -> SFTPAbstractServerStorage:
            """The storage with a name. key: the setting that has it. values: of {user} and {folder}."""

        def check(self, text: str, key: str, *known: str) -> None:
            """Raise for an invalid name. known: the names that it may have in braces."""

        def load(self, text: str, key: str, *known: str) -> None:
            """Import what the storage needs."""

        def scheme(self, text: str, key: str) -> str:
            """The scheme with which the name begins, one of schemes."""

        def suits_threads(self, text: str, key: str, values: Mapping[str, str]) -> bool:
            """Whether sessions should be threads: they share connections, or cannot be confined."""

        def directories(self, text: str, key: str, values: Mapping[str, str]) -> list[str]:
            """The directories of this host that are jails in it."""

        def is_directory(self, text: str, key: str) -> bool:
            """Whether the storage is a directory of this host and nothing else."""

        def check_site(self, path: str, key: str) -> None:
            """Raise for an invalid site file, and import what it needs."""

        def under_site(
            self, path: str, key: str, storage: SFTPAbstractServerStorage, values: Mapping[str, str]
        ) -> SFTPAbstractServerStorage:
            """A storage with the mounts, rules and the rest of a site file."""

        def site_counts(self, path: str, key: str) -> bool:
            """Whether a site file has quotas, so that uploads have to appear whole."""

        def site_suits_threads(self, path: str, values: Mapping[str, str]) -> bool:
            """The same as suits_threads(), for the storages that a site file mounts."""

        def site_directories(self, path: str, values: Mapping[str, str]) -> list[str]:
            """The directories of this host that are jails in the storages that it mounts."""


GRIDFS, CLASS, TOML = "gridfs", "module", "toml"  # schemes that older settings allow
STORAGE, CLASSES, SCHEMES, SITE = "storage", "storage_classes", "storage_schemes", "site"
FIELDS = ("user", "folder")
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class Openers:
    """Functions that open storages.

    folder: takes a directory. gridfs: takes a URI, a database and a bucket. names: opens by storage name.
    Each raises OSError, ValueError, SFTPException or BadInput. whole: the same, but uploads to real files
    appear whole; None: in these they do.
    """

    folder: Callable[[str], SFTPAbstractServerStorage]
    gridfs: Callable[[str, str | None, str], Bucket]
    names: Names
    whole: Openers | None = None


class UserStorages:
    """Opens the storages of users. Raises BadInput for settings that cannot be used."""

    def __init__(self, settings: PeopleSettings, openers: Openers, serves_accounts: bool = False) -> None:
        self._openers = openers
        self._path = settings.sftp_path
        self._creates = settings.create_folders
        self._marker = settings.disk_marker
        self._serves_accounts = serves_accounts
        self._uri = uri_of(settings)
        self._database = settings.mongo_database
        self._bucket_name = settings.mongo_bucket
        self._bucket: Bucket | None = None
        self._lock = allocate_lock()  # sessions begin in threads
        self._names = openers.names
        self._default: str | None = settings.storage
        self._classes = settings.storage_classes or ()
        self._schemes = settings.storage_schemes or ()
        for name in self._classes:
            self._names.check(name, CLASSES)
        for scheme in self._schemes:
            if scheme == CLASS or scheme not in self._names.schemes:
                known = ", ".join(sorted({*self._names.schemes} - {CLASS}))
                raise BadInput(
                    f"{SCHEMES}: {scheme}: unknown; use some of {known}, and {CLASSES} for classes"
                )
        if self._default is not None:
            self._names.check(self._default, STORAGE, *FIELDS)
        self._site: str | None = settings.site
        if self._site is not None:
            self._names.check_site(self._site, SITE)

    def of(self, user: User) -> SFTPAbstractServerStorage:
        """The storage of a user, opened for each session, so that a directory that was replaced is not
        served.

        Raises OSError, ValueError, SFTPException.
        """
        site = self._site_of(user)
        if site is None:
            return self._storage_of(user, self._openers)
        values, openers = _values(user), self._openers
        try:
            if openers.whole is not None and openers.names.site_counts(site, SITE):
                openers = openers.whole  # so that an upload refused by a quota leaves the old file
            whole = openers.names.under_site(site, SITE, self._storage_of(user, openers), values)
            if self._serves_accounts:
                self._check_links(self._names.site_directories(site, values), whole)
            return whole
        except BadInput as error:
            raise ValueError(error.message) from None

    def _site_of(self, user: User) -> str | None:
        """The site file of a user. Raises ValueError for one that records may not name."""
        if not user.site:
            return self._site
        if TOML not in self._schemes:
            raise ValueError(f"site {user.site}: {TOML} is not listed in {SCHEMES}")
        return user.site

    def _storage_of(self, user: User, openers: Openers) -> SFTPAbstractServerStorage:
        name = self._name_of(user)
        if name is not None and self._is_in_bucket(user):
            return self._whole_bucket().at_prefix(name.partition(":")[2] or user.folder)
        if name is not None:
            try:
                return self._named(name, user, openers.names)
            except BadInput as error:
                raise ValueError(error.message) from None
        path = os.path.join(self._path, user.folder)
        why = unmounted(self._path, self._marker)
        if why is not None:
            raise ValueError(why)
        if self._creates:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, FOLDER_MODE)
        elif not os.path.lexists(path):
            # Its disk may not be mounted: what a new folder got would be hidden by the mount.
            raise ValueError(f"folder {path} is missing; create it, mount its disk, or set create_folders")
        if not os.access(path, os.X_OK, effective_ids=True):
            why = own_reason(PermissionError(errno.EACCES, os.strerror(errno.EACCES), path))
            raise ValueError(f"folder {path}: {why}; run chown {own_name()} {path}")
        storage = openers.folder(path)
        if self._serves_accounts:
            self._check_links([path], storage)
        return storage

    def _name_of(self, user: User) -> str | None:
        """The name of a user's storage; None for the folder."""
        return user.storage or self._default

    def _is_in_bucket(self, user: User) -> bool:
        return is_in_bucket(user, self._uri is not None)

    def _named(self, name: str, user: User, names: Names) -> SFTPAbstractServerStorage:
        self._check_allowed(user)
        values = _values(user)
        storage = names(name, STORAGE, values)
        if self._serves_accounts:
            self._check_links(self._names.directories(name, STORAGE, values), storage)
        return storage

    def _check_allowed(self, user: User) -> None:
        check_allowed(user, self._names, self._classes, self._schemes)

    def _check_links(self, paths: list[str], storage: SFTPAbstractServerStorage) -> None:
        """Raises ValueError for a directory that is a link, if sessions have their own accounts."""
        opened = storage.territory() or ()
        for path in paths:
            if not _is_itself(path, opened):
                raise ValueError(f"folder {path} is a link that is not root's, which run_as does not allow")

    def suits_threads(self, user: User) -> bool:
        """Whether sessions of a user should be threads: they share connections, or cannot be confined."""
        name = self._name_of(user)
        try:
            site = self._site_of(user)
            if site is not None and self._names.site_suits_threads(site, _values(user)):
                return True
            if name is None:
                return False
            if self._is_in_bucket(user):
                return True
            self._check_allowed(user)
            return self._names.suits_threads(name, STORAGE, _values(user))
        except (BadInput, ValueError):
            return False  # of() says why there is no such storage

    def is_directory(self, user: User) -> bool:
        """Whether the storage of a user is a directory of this host, which any process can serve again."""
        name = self._name_of(user)
        if user.site or self._site is not None:
            return False  # what a site counts and remembers is a session's own
        return name is None or not user.storage and self._names.is_directory(name, STORAGE)

    def load(self) -> None:
        """Import what storages need: after the fork server has been started, which has to be small.

        Raises BadInput for a library that is missing.
        """
        if self._default is not None:
            self._names.load(self._default, STORAGE, *FIELDS)
        if self._site is not None:
            self._names.check_site(self._site, SITE)

    def prepare(self) -> None:
        """Create what the database lacks, which may take long. Raises SFTPException, ValueError."""
        if self._uri is not None:
            self._whole_bucket().prepare()

    def _whole_bucket(self) -> Bucket:
        """The bucket; all sessions of a process share its connections."""
        if self._uri is None:
            raise ValueError("storage gridfs needs mongo_uri or mongo_uri_file")
        with self._lock:
            if self._bucket is None:
                self._bucket = self._openers.gridfs(self._uri, self._database, self._bucket_name)
            return self._bucket


def check_allowed(user: User, names: Names, classes: Collection[str], schemes: Collection[str]) -> None:
    """Raises ValueError if a record names a storage, class or scheme that the settings do not allow in
    records.

    Nothing is imported or opened for it: an account that may write records may not run code or reach any
    file.
    """
    if not user.storage:
        return
    scheme = names.scheme(user.storage, STORAGE)
    kind = user.storage.partition(" ")[0]
    if scheme == CLASS and kind not in classes:
        raise ValueError(f"storage {kind}: not listed in {CLASSES}")
    if scheme not in (CLASS, *schemes):
        raise ValueError(f"storage {scheme}: not listed in {SCHEMES}")


def is_in_bucket(user: User, has_uri: bool) -> bool:
    """Whether a user's record has the older spelling for a part of the settings' database.

    has_uri: whether the settings name one.
    """
    scheme, _, rest = (user.storage or "").partition(":")
    return scheme == GRIDFS and (not rest or has_uri and "?" not in rest)


def name_for_site(settings: PeopleSettings, user: User, names: Names) -> str | None:
    """The name of a user's storage for a command that only knows {user}; None for the folder.

    Raises ValueError, BadInput for one that such a command cannot serve or the settings do not allow.
    """
    if user.site or settings.site:
        raise ValueError("under a site file; serve this user with pysftpd")
    name = user.storage or settings.storage
    if name is None:
        return None
    if is_in_bucket(user, settings.mongo_uri is not None or settings.mongo_uri_file is not None):
        raise ValueError("a part of the database of mongo_uri; serve this user with pysftpd")
    check_allowed(user, names, settings.storage_classes or (), settings.storage_schemes or ())
    names.check(name, STORAGE, "user")  # {folder} is pysftpd's alone
    return name


def _values(user: User) -> dict[str, str]:
    """The values of {user}, {folder} and the like for a user, which rules use as well."""
    values = {"user": user.name, "folder": user.folder}
    if isinstance(user, Visit):
        values |= {"address": user.address, "session": user.session}
    return values


def _is_itself(path: str, opened: Sequence[int]) -> bool:
    """Whether a path, or root's link at it, names one of the open directories.

    A link owned by the server's account could lead a session of another account anywhere. Raises OSError.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISLNK(found.st_mode) and found.st_uid == 0:
            target = os.readlink("", dir_fd=descriptor)
            found = os.stat(os.path.join(os.path.dirname(path), target))
    finally:
        os.close(descriptor)
    return any(os.path.samestat(found, os.fstat(one)) for one in opened)


def make_folder(settings: PeopleSettings, user: User, run_as: str | None) -> str | None:
    """Create the folder of a user who has one; return why that failed, or None.

    Root gives it to the account of the user's sessions, or else to the owner of sftp_path.
    For commands. It does nothing if the settings do not say where folders are.
    """
    if user.storage or settings.storage or "sftp_path" not in settings.given:
        return None
    why = unmounted(settings.sftp_path, settings.disk_marker)
    if why is not None:
        return why
    path = os.path.join(settings.sftp_path, user.folder)
    try:
        above = os.stat(settings.sftp_path)
        os.mkdir(path, FOLDER_MODE)
        if os.geteuid() == 0:
            name = user.run_as or run_as
            account = privileges.account(name) if name else None
            os.chown(path, *((account.uid, account.gid) if account else (above.st_uid, above.st_gid)))
    except FileExistsError:
        pass
    except (OSError, ValueError) as error:
        return f"folder {path}: {reason_of(error)}; create it, or the user cannot be served"
    return None


def unmounted(path: str, marker: str | None) -> str | None:
    """Why the folders' disk seems not to be mounted there; None if it is, or there is no marker."""
    if marker is None or os.path.lexists(os.path.join(path, marker)):
        return None
    return f"sftp_path {path} has no {marker}, which disk_marker asks for; mount the disk of the folders"


def uri_of(settings: PeopleSettings) -> str | None:
    """The URI of the database, if there is one. Raises BadInput."""
    if settings.mongo_uri is not None and settings.mongo_uri_file is not None:
        raise BadInput("mongo_uri and mongo_uri_file: give one of them")
    if settings.mongo_uri_file is None:
        return settings.mongo_uri
    from pysftpserver.host.wholefiles import first_line

    return first_line(settings.mongo_uri_file, "URI file")
