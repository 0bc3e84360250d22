"""Transfers files as commands name them: patterns, directories, `-`; targets appear only when complete.

What may not enter: the protocol, prompts.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import posixpath
import stat
import sys

from pysftpserver.failures import BadInput
from pysftpserver.host import wholefiles
from pysftpserver.remo import client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pysftpserver.service.terminal import Progress

MAGIC = "*?["
NEW = 0o666  # before the umask


class Transfers:
    """Transfers of one session. progress: shows them; None: nothing is shown."""

    def __init__(self, remote: client.Client, progress: Progress | None = None) -> None:
        self._remote = remote
        self._progress = progress

    def get(self, patterns: Sequence[str], target: str) -> None:
        """Download files. patterns: for remote names. target: a local name or directory, or `-`.

        Raises BadInput, RemoError, OSError.
        """
        names = [name for pattern in patterns for name in self._remote_names(pattern)]
        if len(names) > 1 and target != "-" and not os.path.isdir(target):
            raise _needs_directory(target)
        for name in names:
            self._fetch(name, target)

    def put(self, patterns: Sequence[str], target: str) -> None:
        """Upload files. patterns: for local names, or `-`. target: a remote name or directory.

        Raises BadInput, RemoError, OSError.
        """
        names = [name for pattern in patterns for name in local_names(pattern)]
        if not self._is_directory(target):
            if len(names) > 1:
                raise _needs_directory(target)
            self.store(names[0], target)
            return
        for name in names:
            if name == "-":
                raise BadInput(f"{target}: this is a directory; name a file for standard input")
            self.store(name, posixpath.join(target, os.path.basename(name)))

    def store(self, source: str, name: str) -> None:
        """Upload one file. source: a local name, or `-`. Raises RemoError, OSError."""
        if source == "-":
            self._remote.put(sys.stdin.buffer, name)
            return
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._remote.put(file, name, size, self._shown(source, size))

    def _fetch(self, name: str, target: str) -> None:
        if target == "-":
            self._remote.get(name, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        path = os.path.join(target, posixpath.basename(name)) if os.path.isdir(target) else target
        size = self._size_of(name) if self._progress is not None else None
        mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG | NEW & ~_umask()
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe or a device, which is not replaced
            with open(path, "wb") as file:
                self._remote.get(name, file, self._shown(name, size))
            return
        with wholefiles.open_temporary(os.path.realpath(path), mode=mode & 0o777) as temporary:
            self._remote.get(name, temporary.file, self._shown(name, size))
            temporary.commit()

    def _shown(self, name: str, size: int | None) -> Callable[[int], object] | None:
        """The callback for each piece of a file."""
        if self._progress is None:
            return None
        self._progress.begin(name, size)
        return self._progress.moved

    def _remote_names(self, pattern: str) -> list[str]:
        directory, slash, last = pattern.rpartition("/")
        if not any(letter in last for letter in MAGIC):
            return [pattern]
        found = [
            directory + slash + entry.name
            for entry in self._remote.list(directory + slash or ".")
            if fnmatch.fnmatchcase(entry.name, last)
            and not (entry.name.startswith(".") and not last.startswith("."))
        ]
        if not found:
            raise BadInput(f"{pattern}: no remote file matches")
        return found

    def _is_directory(self, name: str) -> bool:
        """Whether a remote name is a directory, as far as the server says. Raises RemoError."""
        if name.endswith("/"):
            return True
        try:
            self._remote.list(name)
        except client.RequestFailed:
            return False
        return True

    def _size_of(self, name: str) -> int | None:
        directory, slash, last = name.rpartition("/")
        try:
            entries = self._remote.list(directory + slash or ".")
        except client.RequestFailed:
            return None
        return next((entry.size for entry in entries if entry.name == last), None)


def local_names(pattern: str) -> list[str]:
    """The local files that a pattern matches; a name without * ? [ stands for itself. Raises BadInput for
    none.
    """
    if pattern == "-" or os.path.lexists(pattern) or not any(letter in pattern for letter in MAGIC):
        return [pattern]
    found = sorted(glob.glob(pattern))
    if not found:
        raise BadInput(f"{pattern}: no local file matches")
    return found


def _needs_directory(target: str) -> BadInput:
    return BadInput(f"{target}: not a directory; several files need one")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def unencodable(error: UnicodeError, encoding: str) -> BadInput:
    """The error for a text that cannot be encoded in the server's encoding."""
    text = error.object if isinstance(error, UnicodeEncodeError) else ""
    return BadInput(f"{text}: cannot be encoded in {encoding}; choose another --encoding")
