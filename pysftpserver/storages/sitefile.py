"""A site file: several storages in one tree, in TOML.

    storage = "jail:/srv/partners/{user}"

    [[mount]]
    path = "/archive"
    storage = "s3://acme-archive/{user}"
    read_only = true

What may not enter: how storages are opened or mounted. Facts: the TOML specification 1.0; docs/storages.md.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat

from pysftpserver.failures import BadInput, one_line, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LONGEST = 1 << 20  # bytes
KEYS: Mapping[str, type] = {"storage": str, "mount": list, "across": str}
MOUNT_KEYS: Mapping[str, type] = {"path": str, "storage": str, "read_only": bool}
WORDS = {str: "a text", bool: "true or false", list: "tables, [[mount]]"}
ACROSS = ("copy",)


class Site:
    """What a site file says. storage: the name of the one at the top. across: what a rename to another
    storage does; None: it fails. mounts: the others."""

    def __init__(self, storage: str, across: str | None, mounts: list[Mounted]) -> None:
        self.storage, self.across, self.mounts = storage, across, mounts


class Mounted:
    """A mount. path: where, without a slash at the end. storage: its name. place: of it, for messages."""

    def __init__(self, path: str, storage: str, read_only: bool, place: str) -> None:
        self.path, self.storage, self.read_only, self.place = path, storage, read_only, place


def read(path: str) -> Site:
    """Read a site file. Raises BadInput with the file, the line and the key."""
    return parse(_text(path), path)


def parse(text: str, path: str) -> Site:
    """The same for the text of one. path: for messages."""
    import tomllib

    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: {one_line(str(error))}") from None
    _check(tables, KEYS, text, path, 0)
    if "storage" not in tables:
        raise BadInput(f"{path}: storage: missing; name the storage at the top of the tree")
    across = tables.get("across")
    if across is not None and across not in ACROSS:
        raise BadInput(f'{path}: line {_line(text, "across", 0)}: across: write "copy", or leave it out')
    mounts: list[Mounted] = []
    for number, table in enumerate(tables.get("mount", []), 1):
        if not isinstance(table, dict):
            raise BadInput(f"{path}: mount: write mounts as tables, [[mount]]")
        mount = _mount(table, text, path, number)
        if any(mount.path == other.path for other in mounts):
            line = _line(text, "path", number)
            raise BadInput(f"{path}: line {line}: path: {mount.path} is mounted twice")
        mounts.append(mount)
    return Site(tables["storage"], across, mounts)


def _mount(table: dict[str, Any], text: str, path: str, number: int) -> Mounted:
    _check(table, MOUNT_KEYS, text, path, number)
    for key in ("path", "storage"):
        if key not in table:
            raise BadInput(f"{path}: mount {number}: {key}: missing")
    point = table["path"]
    if (
        posixpath.normpath(point) != point
        or not point.startswith("/")
        or point.startswith("//")
        or point == "/"
    ):
        line = _line(text, "path", number)
        raise BadInput(f"{path}: line {line}: path: write an absolute path such as /archive")
    place = f"{path}: line {_line(text, 'storage', number)}: storage"
    return Mounted(point, table["storage"], table.get("read_only", False), place)


def _check(table: dict[str, Any], keys: Mapping[str, type], text: str, path: str, number: int) -> None:
    """Check names and types of keys. number: of the mount, 0 for the top of the file. Raises BadInput."""
    for key, value in table.items():
        where = f"{path}: line {_line(text, key, number)}: {one_line(key)}"
        if key not in keys:
            raise BadInput(f"{where}: unknown key; known are {', '.join(keys)}")
        if not isinstance(value, keys[key]):
            raise BadInput(f"{where}: write {WORDS[keys[key]]}")


def _line(text: str, key: str, number: int) -> int:
    """The line of a key, or the one where its table begins, because tomllib does not tell the places of keys.

    number: of the mount, counted from 1; 0 for the top of the file.
    """
    mounts = start = 0
    for line, words in enumerate(text.splitlines(), 1):
        words = words.strip()
        if re.match(r"\[\[\s*[\"']?mount", words):
            mounts += 1
            start = line if mounts == number else start
        if mounts == number and re.match(rf"(\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]", words):
            return line
    return start or 1


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BadInput(f"{path}: not a regular file")
            if found.st_mode & stat.S_IWOTH:
                raise BadInput(f"{path}: everybody may write it; run chmod o-w on it")
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise BadInput(f"{path}: larger than {LONGEST >> 20} MiB")
        return content.decode()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {reason_of(error)}") from None
