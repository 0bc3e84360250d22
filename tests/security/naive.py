"""A jail that does not hold, to test the tests: it checks where a path leads, and then uses the path.

Never use it elsewhere. Only `served` runs it, on a temporary directory; as root, in a chroot of that
directory, so that even an escape stays inside.
"""

from __future__ import annotations

import errno
import os

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.host.entries import Place
from pysftpserver.storage import SFTPServerStorage, change_attributes


class NaiveJail(SFTPServerStorage):
    """The obvious, wrong implementation: realpath() for the check, the path for the call."""

    def __init__(self, directory: str) -> None:
        super().__init__(b"/")
        self._root = os.path.realpath(os.fsencode(directory))

    def _checked(self, path: bytes, follow: bool) -> bytes:
        full = self._root + os.path.normpath(b"/" + path.lstrip(b"/"))
        seen = os.path.realpath(full if follow else os.path.dirname(full))
        if not (seen + b"/").startswith(self._root + b"/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return full

    def _open(self, path: bytes, flags: int, mode: int = 0) -> int:
        return os.open(self._checked(path, not flags & os.O_NOFOLLOW), flags | os.O_CLOEXEC, mode)

    def _place(self, path: bytes) -> Place:
        return Place(None, self._checked(path, False), must_be_directory=path.endswith(b"/"))

    def stat(self, path: bytes) -> SFTPAttributes:
        return SFTPAttributes.from_stat(os.stat(self._checked(path, True)))

    def _change(self, path: bytes, flags: int, attrs: SFTPAttributes) -> None:
        if flags & os.O_NOFOLLOW:
            super()._change(path, flags, attrs)
        else:
            change_attributes(self._checked(path, True), attrs)
