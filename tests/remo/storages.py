"""Storages of somebody's own, which a server is told to use by the names of their classes."""

from __future__ import annotations

import os
import threading
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.pysftpexceptions import SFTPNotFound
from pysftpserver.virtualchroot import SFTPServerVirtualChroot


class ThreeMethods(SFTPAbstractServerStorage):
    """Opens, reads and closes. files: texts by their names."""

    def __init__(self, **files: str) -> None:
        self._files = {name.encode(): text.encode() for name, text in files.items()}

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        if path not in self._files:
            raise SFTPNotFound
        return self._files[path]

    def read(self, handle: Any, off: int, size: int) -> bytes:
        return bytes(handle[off : off + size])

    def close(self, handle: Any) -> None:
        pass


class WriteOnly(SFTPAbstractServerStorage):
    """Opens for writing, writes and closes; knows no rename, and tells what it has in a directory."""

    home = b"/"

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        return open(f"{self._directory}/{path.decode().replace('/', '_')}", "wb")

    def write(self, handle: Any, off: int, chunk: Any) -> None:
        handle.seek(off)
        handle.write(chunk)

    def close(self, handle: Any) -> None:
        handle.close()


class Hanging(SFTPServerVirtualChroot):
    """A jail on a disk of which a part hangs, and all of it when there is a file `hung` in it."""

    def __init__(self, directory: str) -> None:
        if os.path.exists(f"{directory}/hung"):
            threading.Event().wait()
        super().__init__(directory)
        self._asked = f"{directory}/asked"

    def stat(self, path: bytes) -> Any:
        if path == b"/hangs":
            open(self._asked, "w").close()
            threading.Event().wait()
        return super().stat(path)
