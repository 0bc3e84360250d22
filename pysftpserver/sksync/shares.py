"""What a server shares: which storage, and which directory of it, the path that a client names is.

What may not enter: concrete storages, sockets.
"""

from __future__ import annotations

import posixpath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage


class NotShared(Exception):
    """Clients may not name that path. The text is for the log."""


class Share:
    """A directory that is shared. storage: where it is. top: its path there, with a slash at its end."""

    def __init__(self, storage: SFTPAbstractServerStorage, top: bytes = b"/") -> None:
        self.storage = storage
        self.top = top


class WholeStorage:
    """All of a storage: a path is what it is there."""

    def __init__(self, storage: SFTPAbstractServerStorage) -> None:
        self._storage = storage

    def find(self, path: str) -> Share:
        """The directory that a client names."""
        return Share(self._storage, directory(path))


class ListedDirectories:
    """The directories of a white list, and nothing else.

    shares: what each path is that clients may name. is_silent: whether any other path is the first of them.
    """

    def __init__(self, shares: Sequence[tuple[str, Share]], is_silent: bool) -> None:
        self._shares = {directory(path): share for path, share in shares}
        self._is_silent = is_silent

    def find(self, path: str) -> Share:
        """The directory that a client names. Raises NotShared."""
        share = self._shares.get(directory(path))
        if share is not None:
            return share
        if not self._is_silent:
            raise NotShared(f"{path!r} is not in server_dir_whitelist")
        return next(iter(self._shares.values()))


def directory(path: str) -> bytes:
    """The path of a directory in a storage, with a slash at its end."""
    names = posixpath.normpath(f"/{path}").strip("/")
    return f"/{names}/".encode() if names else b"/"
