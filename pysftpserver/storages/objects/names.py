"""Names of object storages (`s3://BUCKET/PREFIX?...`), and paths as keys. No request is made here."""

from __future__ import annotations

import errno
import posixpath
from urllib.parse import unquote, urlsplit

from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SFTPBadMessage, SFTPNotFound
from pysftpserver.storages.syntax import settings_of

MOST_KEY = 1024  # bytes of a key in S3 and in Google's store
FORMS = "s3://BUCKET[/PREFIX][?SETTING=VALUE&...], gs://... or az://..."
KINDS = ("s3", "gs", "az")
SETTINGS = frozenset(
    """account ca_file credentials endpoint path_style profile region setstat spool spool_size timeout
    times""".split()
)


class Name:
    """A name in its parts. kind: one of KINDS. settings: texts by their names."""

    def __init__(self, kind: str, bucket: str, prefix: str, settings: dict[str, str]) -> None:
        self.kind, self.bucket, self.prefix, self.settings = kind, bucket, prefix, settings

    @classmethod
    def of(cls, text: str) -> Name:
        """Parse a name. Raises ValueError, whose text never has anything that could be a secret."""
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ValueError(f"invalid name; write {FORMS}") from None
        if parts.scheme not in KINDS or not parts.netloc:
            raise ValueError(f"unknown kind of store; write {FORMS}")
        if "@" in parts.netloc:
            raise ValueError(
                "no credentials in a name: they come from the environment or from credentials=FILE"
            )
        settings = settings_of(parts.query, tuple(sorted(SETTINGS)))
        return cls(parts.scheme, parts.netloc, unquote(parts.path).strip("/"), settings)


def whether(value: str, name: str) -> bool:
    """A setting that is true or false. Raises ValueError."""
    if value.lower() in ("true", "yes", "1", "on"):
        return True
    if value.lower() in ("false", "no", "0", "off"):
        return False
    raise ValueError(f"{name}: write true or false")


def top_of(prefix: str) -> str:
    """The beginning of all keys below a prefix: "" or a text that ends with a slash. Raises ValueError."""
    parts = [part for part in prefix.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise ValueError("a prefix has no . and no .. in it")
    return "".join(part + "/" for part in parts)


class Place:
    """Where a path leads. key: the object's, without a slash at the end; "" or a prefix's for the top.

    is_directory: the path ends with a slash, so that only a directory can be meant.
    """

    __slots__ = ("is_directory", "is_top", "key")

    def __init__(self, key: str, is_top: bool, is_directory: bool) -> None:
        self.key, self.is_top, self.is_directory = key, is_top, is_directory

    @property
    def below(self) -> str:
        """The prefix of the keys in it, if it is a directory."""
        return self.key + "/" if self.key else ""

    @property
    def parent(self) -> str:
        """The prefix of the keys in its directory."""
        return self.key[: self.key.rfind("/") + 1]


def place_of(top: str, path: bytes, refused: str = "") -> Place:
    """Where a path leads below a top. Raises for names that the store cannot hold, and for the empty path.

    refused: characters that this store would change into others.
    """
    if not path:
        raise SFTPNotFound
    if b"\0" in path:
        raise os_error(errno.EINVAL)
    inner = posixpath.normpath(b"/" + path).lstrip(b"/")
    try:
        name = inner.decode("utf-8")
    except UnicodeDecodeError:
        raise SFTPBadMessage("The store holds names in UTF-8 only") from None
    if any(letter in name for letter in refused):
        raise SFTPBadMessage(f"The store holds no names with {' '.join(refused)}")
    key = top + name if name else top.rstrip("/")
    if len(key.encode()) >= MOST_KEY:
        raise os_error(errno.ENAMETOOLONG)
    return Place(key, not name, path.endswith((b"/", b"/.", b"/..")))


def name_of(key: str) -> bytes | None:
    """The name of a key's last part; None if no path leads to it."""
    if key in ("", ".", "..") or "\0" in key:
        return None
    return key.encode()
