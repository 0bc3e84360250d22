"""Converts paths of a storage to GridFS's filenames, and back.

A file at /a/b has the filename "a/b": relative, its components separated by single slashes, none of them
empty, "." or "..". A filename is text and a path is bytes: each byte that is not UTF-8 becomes one of U+F080
to U+F0FF. If a path contains these characters, their three bytes are converted in the same way. So every path
has one filename, and no two paths have the same. Filenames of any other form have no path; they stay in the
database and are invisible here. What may not enter: I/O, documents.
Facts: GridFS's specification (a filename is any string), RFC 3629.
"""

from __future__ import annotations

import errno
import re

from pysftpserver.failures import os_error

NAME_MAX = 255  # bytes of a component, as in most file systems
ESCAPES = range(0xF080, 0xF100)
_BYTES = {0xDC00 + (code & 0xFF): chr(code) for code in ESCAPES}  # from surrogateescape's characters
_CODES = {code: "".join(chr(0xF000 + byte) for byte in chr(code).encode()) for code in ESCAPES}
_BACK = {code: chr(0xDC00 + (code & 0xFF)) for code in ESCAPES}
_ESCAPE = re.compile(f"[{chr(ESCAPES[0])}-{chr(ESCAPES[-1])}]")


def to_text(raw: bytes) -> str:
    """Return the text for some bytes of a path, slashes included."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    if _ESCAPE.search(text):
        text = text.translate(_CODES)
    return text.translate(_BYTES)


def to_bytes(text: str) -> bytes:
    """Return the bytes for some text."""
    return text.translate(_BACK).encode("utf-8", "surrogateescape") if not text.isascii() else text.encode()


def component(raw: bytes) -> str:
    """Return the text for one component of a path. Raises OSError (ENAMETOOLONG, EINVAL) if it is invalid."""
    if len(raw) > NAME_MAX:
        raise os_error(errno.ENAMETOOLONG)
    if b"\0" in raw:
        raise os_error(errno.EINVAL)
    return to_text(raw)


def name_of(text: str) -> bytes | None:
    """Return the component of a path for some text, or None if there is none."""
    if text in ("", ".", "..") or "\0" in text or "/" in text:
        return None
    raw = to_bytes(text)
    if len(raw) > NAME_MAX or not text.isascii() and to_text(raw) != text:
        return None
    return raw


def is_reachable(filename: object) -> bool:
    """Return whether a filename has a path."""
    return isinstance(filename, str) and all(name_of(part) is not None for part in filename.split("/"))


def below(directory: str) -> str:
    """Return the common prefix of the filenames in a directory; "" is the bucket's top."""
    return f"{directory}/" if directory else ""


def after(prefix: str) -> str | None:
    """Return the first text, in the order of code points, after all that begin with prefix, or None.

    prefix: "" or text that ends with a slash.
    """
    return prefix[:-1] + "0" if prefix else None  # "0" follows "/"


def parent_of(name: str) -> str:
    """Return the directory that a name is in."""
    return name.rpartition("/")[0]


def ancestors(name: str) -> list[str]:
    """Return the directories above a name, the outermost first, without the top."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def moved(name: str, old: str, new: str) -> str:
    """Return the new name of old, or of a name in the directory old, when old is renamed to new."""
    return new + name[len(old) :]
