"""What a server shares: maps the path that a client sends to a storage and a directory in it.

A share is opened anew for each session, so if a directory is replaced while the server runs (a restored
backup, a new mount), the new one is served and not the deleted one. What may not enter: concrete storages,
sockets.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass

from pysftpserver.failures import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.sksync.config import ServerSettings, StorageSettings

    class Find(Protocol):
        """Finds the directory that a client names. user: who has logged in; None: no login.

        Raises NotShared, and what opening a storage raises.
        """

        def __call__(self, path: str, user: str | None = None) -> Share: ...

    class OpenStorage(Protocol):
        """Opens a storage: a directory of this host as a jail, a storage by its name, or a database.

        key: the setting that names it, for messages. is_dry: whether to change nothing in a database. user:
        the value of {user} in the name. site: a site file to apply. Raises BadInput, Unavailable.
        """

        site: str | None

        def __call__(
            self,
            what: Folder | str | StorageSettings,
            key: str,
            is_dry: bool = False,
            user: str | None = None,
        ) -> SFTPAbstractServerStorage: ...

        def is_of_user(self, name: str, key: str) -> bool:
            """Whether a name contains {user}. Raises BadInput for one that cannot be used."""

        def directories(self, name: str, key: str, user: str) -> list[str]:
            """The directories of this host that a user's storage jails clients in."""


class Folder:
    """A directory of this host, as opposed to a storage name."""

    def __init__(self, path: str) -> None:
        self.path = path


class NotShared(Exception):
    """The path is not shared. The text is for the log."""


@dataclass(frozen=True)
class Share:
    """A directory that is shared. storage: where it is. top: its path there, with a slash at its end."""

    storage: SFTPAbstractServerStorage
    top: bytes = b"/"


def whole_storage(open_storage: Callable[[], SFTPAbstractServerStorage]) -> Find:
    """Share all of a storage. open_storage: called for each session."""
    return lambda path, user=None: Share(open_storage(), directory(path))


def listed_directories(shares: dict[str, Callable[[], Share]], is_silent: bool) -> Find:
    """Share the directories of a white list and nothing else.

    shares: a function that opens the share, for each path that clients may name. is_silent: whether any other
    path means the first of them.
    """
    by_path = {directory(path): share for path, share in shares.items()}

    def find(path: str, user: str | None = None) -> Share:
        found = by_path.get(directory(path))
        if found is None:
            if not is_silent:
                raise NotShared(f"{path!r} is not in server_dir_whitelist")
            found = next(iter(by_path.values()))
        return found()

    return find


def shares_of(settings: ServerSettings, open_storage: OpenStorage) -> tuple[Find, str]:
    """What a server shares, and a description of it. Opens each share once. Raises BadInput, Unavailable."""
    listed = settings.server_dir_whitelist
    shown = ", ".join(listed)
    is_silent = settings.server_dir_whitelist_policy == "silent"
    if settings.storage is None and settings.server_root is None and listed:
        key = "server_dir_whitelist"
        shares = {path: _part(_directory(path, key, open_storage), b"/") for path in listed}
        return listed_directories(shares, is_silent), shown
    named = settings.storage
    if isinstance(named, str) and open_storage.is_of_user(named, "storage"):
        return _of_users(settings, named, open_storage), f"{shown and f'{shown} in '}{_shown(named)}"
    if isinstance(named, str):
        open_storage(named, "storage").release()
        opener, what = (lambda: open_storage(named, "storage")), _shown(named)
    elif named is not None:
        # A database has no directory that could be replaced, and connecting for each session would be slow.
        storage = open_storage(named, "storage")
        opener, what = (lambda: storage), "a database"
    else:
        root = top_directory(settings)
        opener, what = _directory(root, "server_root", open_storage), root
        if settings.server_root is None:
            what = f"the current directory, {root}: no server_root is configured"
    return _in_storage(settings, opener), f"{shown} in {what}" if listed else what


def _in_storage(settings: ServerSettings, opener: Callable[[], SFTPAbstractServerStorage]) -> Find:
    """What is shared of a storage."""
    listed = settings.server_dir_whitelist
    if not listed:
        return whole_storage(opener)
    shares = {path: _part(opener, directory(path)) for path in listed}
    return listed_directories(shares, settings.server_dir_whitelist_policy == "silent")


def _of_users(settings: ServerSettings, named: str, open_storage: OpenStorage) -> Find:
    """What is shared of a storage whose name contains {user}. Raises BadInput if there are no logins."""
    if not settings.needs_login:
        raise BadInput("storage: {user} needs logins; set require_auth to true, or write a name without it")

    def find(path: str, user: str | None = None) -> Share:
        return _in_storage(settings, lambda: open_storage(named, "storage", user=user))(path)

    return find


def _shown(name: str) -> str:
    """A storage's name without its settings and arguments, for the log."""
    return name.partition(" ")[0].partition("?")[0]


def _part(opener: Callable[[], SFTPAbstractServerStorage], top: bytes) -> Callable[[], Share]:
    return lambda: Share(opener(), top)


def _directory(path: str, key: str, open_storage: OpenStorage) -> Callable[[], SFTPAbstractServerStorage]:
    open_storage(Folder(path), key)  # a mistake in the configuration fails at the start, not in a session
    absolute = Folder(os.path.abspath(path))
    return lambda: open_storage(absolute, key)


def top_directory(settings: ServerSettings) -> str:
    """The directory that is shared unless a database or a white list is configured."""
    return os.getcwd() if settings.server_root is None else settings.server_root


def exposed(settings: ServerSettings, file: str, open_storage: OpenStorage) -> list[str]:
    """The server's own files that clients can reach because they are in a shared directory.

    file: the configuration.
    """
    own = [path for path in (file, settings.ssl_server_keyfile) if path is not None and os.path.exists(path)]
    named = settings.storage
    if isinstance(named, str) and open_storage.is_of_user(named, "storage"):
        from pysftpserver.host import homes

        jails = {path for user in settings.users for path in open_storage.directories(named, "storage", user)}
        found = [os.stat(path) for path in jails if os.path.isdir(path)]
        return [path for path in own if any(homes.is_in(path, root) for root in found)]
    if named is not None:
        storage = open_storage(named, "storage")
        try:
            return [path for path in own if any(_is_in(path, opened) for opened in storage.territory() or ())]
        finally:
            storage.release()
    root = top_directory(settings)
    is_in_root = settings.server_root is not None
    listed = [f"{root}/{path}" if is_in_root else path for path in settings.server_dir_whitelist]
    tops = tuple(os.path.join(os.path.realpath(path), "") for path in listed or [root])
    return [path for path in own if os.path.realpath(path).startswith(tops)]


def _is_in(path: str, opened: int) -> bool:
    """Whether a file is below an open directory. opened: its descriptor."""
    from pysftpserver.host import homes

    return homes.is_in(path, os.fstat(opened))


def directory(path: str) -> bytes:
    """The path of a directory in a storage, with a slash at its end."""
    names = posixpath.normpath(f"/{path}").strip("/")
    return f"/{names}/".encode() if names else b"/"
