"""Opens the fsspec file system of an address, and tells what it can do.

What may not enter: requests, open files. Facts: fsspec.core.url_to_fs, fsspec.spec, fsspec.asyn.
"""

from __future__ import annotations

import errno
import os
import re

from pysftpserver.failures import needed, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ARCHIVES = ("zip", "tar", "libarchive")
ON_THIS_HOST = frozenset(("dir", "file", "git", "libarchive", "local", "memory", "tar", "zip"))
LEAST_SECRET = 4  # characters; shorter options are words such as "rb", not secrets
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"\?[^:\s]*")


class Opened:
    """A file system that fsspec has opened.

    fs: the file system. root: the path that becomes `/`. label: its name in messages. uses_network,
    read_only: whether it is so. Raises ValueError for an address or options that cannot be used, OSError if
    it cannot be opened, BadInput if fsspec is not installed.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        with needed("fsspec", "fsspec"):
            import fsspec.core

        protocols = [part.partition("://")[0] for part in url.split("::")]
        if protocols[0] in ARCHIVES and len(protocols) == 1 and "fo" not in options:
            url = f"{protocols[0]}://::file://{url.partition('://')[2]}"
            protocols.append("file")
        self._secrets = [text for text in _texts(options) if len(text) >= LEAST_SECRET]
        self._secrets += [user[:-1] for user in _USER.findall(url) if len(user) > LEAST_SECRET]
        self.label = "fsspec:" + self.safe(url)
        self.uses_network = not ON_THIS_HOST.issuperset(protocols)
        try:
            self.fs, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)
        except OSError as error:  # its text may be an address with a password
            number = error.errno or (errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EIO)
            raise OSError(number, os.strerror(number)) from None
        except Exception as error:  # of any library
            words = self.safe(str(error) or type(error).__name__)
            raise ValueError(f"{self.label.removeprefix('fsspec:')}: {words}") from None
        self.root = root.rstrip("/")
        self.read_only = not _can_remove(self.fs)
        for fs in _layers(self.fs):
            fs.dircache.use_listings_cache = False

    @property
    def is_ftp(self) -> bool:
        """Whether it is fsspec's FTP file system. Does not import its module to tell."""
        return hasattr(self.fs, "tempdir") and hasattr(self.fs, "ftp")

    def safe(self, text: str) -> str:
        """A text of the library in one line, without the values of options, users and queries."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return one_line(_QUERY.sub("?***", _USER.sub("***@", text)))


def _texts(value: Any) -> list[str]:
    """All texts in options."""
    if isinstance(value, str):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [text for part in values for text in _texts(part)]


def _layers(fs: Any) -> list[Any]:
    """A file system, and those below it."""
    layers = [fs]
    while getattr(layers[-1], "fs", None) is not None and len(layers) < 10:
        layers.append(layers[-1].fs)
    return layers


def _can_remove(fs: Any) -> bool:
    """Whether a file system has a method that removes a file: without one it is read-only."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    kind = type(_layers(fs)[-1])
    bases = (AsyncFileSystem, AbstractFileSystem)
    return any(
        getattr(kind, name, None) not in [getattr(base, name, None) for base in bases]
        for name in ("_rm_file", "rm_file", "_rm", "rm")
    )
