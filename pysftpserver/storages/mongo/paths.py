"""Resolves paths: follows links, resolves `..` after them, and never leaves the top.

All the names on the way are queried at once, so a path takes as many round trips as it has links. A path that
begins at the top of the storage stays below it by construction: names are composed of components, and none of
those is "..". What may not enter: changes, open files.
Facts: path_resolution(7).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pysftpserver.failures import os_error
from pysftpserver.storages.mongo.bucket import DIRECTORY, SYMLINK, Entry
from pysftpserver.storages.mongo.names import below, component, to_bytes

MOST_COMPONENTS = 1024  # names per query, each with the names above it
MOST_LOOKUPS = 256  # queries per path; each link takes one, and each ".." after a name
MOST_LINKS = 40  # followed in one path, as in Linux


class Place(NamedTuple):
    """Where a path leads.

    name: the filename, including the storage's prefix. entry: the entry there, or None. way: the directories
    above it, without the top, the outermost first; None for one without a document, which exists because of
    its content.
    """

    name: str
    entry: Entry | None
    way: list[tuple[str, Entry | None]]

    def existing(self) -> Entry:
        """Return the entry. Raises FileNotFoundError if there is none."""
        if self.entry is None:
            raise os_error(errno.ENOENT)
        return self.entry


@dataclass(eq=False)
class Resolver:
    """Resolves paths below a top.

    top: the filename of the directory that is `/`, "" for the bucket's top. lookup, implied: functions like
    the methods of Bucket.
    """

    top: str
    lookup: Callable[[list[str]], dict[str, Entry]]
    implied: Callable[[str], Entry | None]
    top_entry: Callable[[], Entry]

    def resolve(self, path: bytes, follow: bool = True) -> Place:
        """Return the place of a path, whose last name may be missing. follow: whether to follow a link there.

        A slash at the end requires a directory. Raises OSError: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EINVAL.
        """
        if not path:
            raise os_error(errno.ENOENT)
        wants_directory = _wants_directory(path)
        todo = _parts(path)
        done: list[tuple[str, Entry | None]] = []
        links = 0
        for _ in range(MOST_LOOKUPS):
            if len(todo) > MOST_COMPONENTS:
                raise os_error(errno.ENAMETOOLONG)
            while todo and todo[0] == b"..":
                del todo[0], done[-1:]
            if not todo:
                return self._directory(done)
            count = todo.index(b"..") if b".." in todo else len(todo)
            names = self._names(done, todo[:count])
            found = self.lookup(names)
            for number, name in enumerate(names):
                entry = found.get(name)
                is_last = number == len(todo) - 1
                is_link = entry is not None and entry.kind == SYMLINK
                if entry is not None and is_link and (not is_last or follow or wants_directory):
                    links += 1
                    if links > MOST_LINKS:
                        raise os_error(errno.ELOOP)
                    text = target_of(entry)
                    if not text:
                        raise os_error(errno.ENOENT)
                    if text.startswith(b"/"):
                        done.clear()
                    wants_directory = wants_directory or is_last and _wants_directory(text)
                    todo[: number + 1] = _parts(text)
                    break
                if is_last:
                    return self._last(name, entry, done, wants_directory)
                done.append((name, self._on_the_way(name, entry, names[number + 1 :], found)))
            else:
                del todo[:count]
        raise os_error(errno.ELOOP)

    def _names(self, done: list[tuple[str, Entry | None]], parts: list[bytes]) -> list[str]:
        """Return the filenames of some components, each in the previous one, from the place reached on."""
        names = []
        directory = done[-1][0] if done else self.top
        for part in parts:
            directory = below(directory) + component(part)
            names.append(directory)
        return names

    def _on_the_way(
        self, name: str, entry: Entry | None, further: list[str], found: dict[str, Entry]
    ) -> Entry | None:
        """Return a directory on the way, None for one without a document. Raises OSError if it is none."""
        if entry is None:
            # Its content implies it; the deeper the name, the less the database has to search.
            for other in reversed(further):
                below_it = found.get(other) or self.implied(other)
                if below_it is not None:
                    found[other] = below_it
                    return None
            entry = self.implied(name)
            if entry is None:
                raise os_error(errno.ENOENT)
        if entry.kind != DIRECTORY:
            raise os_error(errno.ENOTDIR)
        return entry

    def _last(
        self, name: str, entry: Entry | None, done: list[tuple[str, Entry | None]], wants_directory: bool
    ) -> Place:
        if entry is None:
            entry = self.implied(name)
        if entry is not None and wants_directory and entry.kind != DIRECTORY:
            raise os_error(errno.ENOTDIR)
        return Place(name, entry, done)

    def _directory(self, done: list[tuple[str, Entry | None]]) -> Place:
        """Return the directory that was reached by "..", or the top."""
        if not done:
            return Place(self.top, self.top_entry(), [])
        name, entry = done.pop()
        return Place(name, entry or self.implied(name), done)


def target_of(link: Entry) -> bytes:
    """Return the text of a link."""
    return to_bytes(str(link.doc.get("target", ""))) if link.doc is not None else b""


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _wants_directory(path: bytes) -> bool:
    return path.endswith((b"/", b"/.", b"/.."))
