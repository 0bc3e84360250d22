"""A storage in memory: a complete plugin of pysftpserver, as an example.

A tree of nodes; directories are dicts from names to nodes. Each method raises an errno, as a file system
would, and the server turns it into the status that clients expect. All content is lost when the process ends.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from stat import S_IFDIR, S_IFLNK, S_IFREG, S_ISDIR, S_ISLNK, S_ISREG

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes

BLOCK = 4096  # bytes
NAME_MAX = 255  # bytes
MOST_LINKS = 40  # followed in one path


class Node:
    """A file (content: bytearray), a directory (content: dict) or a link (content: bytes)."""

    def __init__(self, mode: int, content):
        self.mode = mode
        self.content = content
        self.uid, self.gid = os.getuid(), os.getgid()
        self.atime = self.mtime = int(time.time())
        self.nlink = 2 if S_ISDIR(mode) else 1
        self.opened = 0  # open handles; a file's bytes count until it has no names and no handles

    def attributes(self) -> SFTPAttributes:
        size = BLOCK if S_ISDIR(self.mode) else len(self.content)
        return SFTPAttributes(size, self.uid, self.gid, self.mode, self.atime, self.mtime, self.nlink)


class OpenFile:
    """A handle: a node and the flags it was opened with. The node outlives its names."""

    def __init__(self, node: Node, flags: int):
        self.node = node
        self.flags = flags


class Place:
    """Where a path leads: the directories on the way from the top, the last name, and the node or None."""

    def __init__(self, trail: list[tuple[bytes, Node]], name: bytes, node: Node | None):
        self.trail = trail
        self.name = name  # b"" for the top
        self.node = node
        self.directory = trail[-1][1]


def fail(number: int):
    """Raise the OSError for an errno."""
    raise OSError(number, os.strerror(number))


class SFTPServerMemoryStorage(SFTPAbstractServerStorage):
    """Files in memory. capacity: how many bytes they may hold together."""

    home = b"/"

    def __init__(self, capacity: int = 256 << 20):
        self._root = Node(S_IFDIR | 0o755, {})
        self._capacity = capacity
        self._used = 0

    # --- paths ------------------------------------------------------------------------------------

    def _find(self, path: bytes, follow: bool = True) -> Place:
        """Walk a path from the top. The last name may be missing. follow: whether to follow a link there."""
        if not path:
            fail(errno.ENOENT)
        trail = [(b"", self._root)]
        todo = path.split(b"/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del trail[max(1, len(trail) - 1) :]  # the top is its own parent
                continue
            if len(name) > NAME_MAX:
                fail(errno.ENAMETOOLONG)
            node = trail[-1][1].content.get(name)
            if node is None or S_ISREG(node.mode):
                if todo:
                    fail(errno.ENOENT if node is None else errno.ENOTDIR)
                return Place(trail, name, node)
            if S_ISDIR(node.mode):
                trail.append((name, node))
            elif follow or todo:
                links += 1
                if links > MOST_LINKS:
                    fail(errno.ELOOP)
                if node.content.startswith(b"/"):
                    del trail[1:]
                todo += node.content.split(b"/")[::-1]
            else:
                return Place(trail, name, node)
        name, node = trail[-1]
        return Place(trail[:-1] or trail, name, node)

    def _get(self, path: bytes, follow: bool = True) -> Node:
        node = self._find(path, follow).node
        return fail(errno.ENOENT) if node is None else node

    def _get_free(self, path: bytes) -> Place:
        """Return a place without a node. Raises OSError (EEXIST) if there is one."""
        place = self._find(path, follow=False)
        return place if place.node is None else fail(errno.EEXIST)

    def realpath(self, path: bytes) -> bytes:
        place = self._find(path)
        names = [name for name, _ in place.trail] + [place.name]
        return b"/" + b"/".join(name for name in names if name)

    # --- the tree ---------------------------------------------------------------------------------

    def _enter(self, place: Place, node: Node) -> None:
        """Put a node at a place."""
        directory = place.directory
        directory.content[place.name] = node
        directory.mtime = int(time.time())
        directory.nlink += S_ISDIR(node.mode)

    def _leave(self, place: Place) -> None:
        """Remove the node from its place, and keep it."""
        directory = place.directory
        del directory.content[place.name]
        directory.mtime = int(time.time())
        directory.nlink -= S_ISDIR(place.node.mode)

    def _forget(self, place: Place) -> None:
        """Remove the node from its place for good. (An open file keeps its bytes until it is closed.)"""
        self._leave(place)
        place.node.nlink -= 1
        self._free(place.node)

    def _free(self, node: Node) -> None:
        """Stop counting a file's bytes once it has no names and no handles."""
        if S_ISREG(node.mode) and not node.nlink and not node.opened:
            self._used -= len(node.content)

    def mkdir(self, path: bytes, mode: int) -> None:
        self._enter(self._get_free(path.rstrip(b"/") or path), Node(S_IFDIR | mode, {}))

    def rmdir(self, path: bytes) -> None:
        place = self._find(path, follow=False)
        node = place.node or fail(errno.ENOENT)
        if not S_ISDIR(node.mode):
            fail(errno.ENOTDIR)
        if node.content:
            fail(errno.ENOTEMPTY)
        if not place.name:
            fail(errno.EBUSY)
        self._forget(place)

    def rm(self, path: bytes) -> None:
        place = self._find(path, follow=False)
        node = place.node or fail(errno.ENOENT)
        if S_ISDIR(node.mode):
            fail(errno.EISDIR)
        self._forget(place)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        source = self._find(old, follow=False)
        node = source.node or fail(errno.ENOENT)
        target = self._find(new.rstrip(b"/") if S_ISDIR(node.mode) else new, follow=False)
        if not source.name or any(node is above for _, above in target.trail):
            fail(errno.EINVAL)  # the top, or into itself
        if target.node is not None:
            self._make_way(node, target, replace)
        if target.node is node:
            return
        if target.node is not None:
            self._forget(target)
        self._leave(source)
        self._enter(target, node)

    def _make_way(self, node: Node, target: Place, replace: bool) -> None:
        """Remove the target for a rename. Raises OSError if it must not be replaced by node."""
        if not replace:
            fail(errno.EEXIST)
        if S_ISDIR(node.mode) != S_ISDIR(target.node.mode):
            fail(errno.ENOTDIR if S_ISDIR(node.mode) else errno.EISDIR)
        if node is not target.node and S_ISDIR(node.mode) and target.node.content:
            fail(errno.ENOTEMPTY)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        self._enter(self._get_free(linkpath), Node(S_IFLNK | 0o777, target))

    def readlink(self, path: bytes) -> bytes:
        node = self._get(path, follow=False)
        return node.content if S_ISLNK(node.mode) else fail(errno.EINVAL)

    def link(self, old: bytes, new: bytes) -> None:
        node = self._get(old, follow=False)
        place = self._get_free(new)
        if S_ISDIR(node.mode):
            fail(errno.EPERM)
        self._enter(place, node)
        node.nlink += 1

    def opendir(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        place = self._find(path)
        node = place.node or fail(errno.ENOENT)
        if not S_ISDIR(node.mode):
            fail(errno.ENOTDIR)
        return self._entries(node, place.directory)

    def _entries(self, node: Node, parent: Node) -> Iterator[tuple[bytes, SFTPAttributes]]:
        # A generator runs only at the first entry, so opendir() has checked the path before.
        yield b".", node.attributes()
        yield b"..", parent.attributes()
        for name, entry in list(node.content.items()):
            yield name, entry.attributes()

    # --- attributes -------------------------------------------------------------------------------

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._get(path).attributes()

    def lstat(self, path: bytes) -> SFTPAttributes:
        return self._get(path, follow=False).attributes()

    def fstat(self, handle: OpenFile) -> SFTPAttributes:
        return handle.node.attributes()

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._change(self._get(path), attrs)

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._change(self._get(path, follow=False), attrs)

    def fsetstat(self, handle: OpenFile, attrs: SFTPAttributes) -> None:
        if attrs.size is not None and not handle.flags & (os.O_WRONLY | os.O_RDWR):
            fail(errno.EINVAL)
        self._change(handle.node, attrs)

    def _change(self, node: Node, attrs: SFTPAttributes) -> None:
        if attrs.size is not None:
            if not S_ISREG(node.mode):
                fail(errno.EISDIR if S_ISDIR(node.mode) else errno.EINVAL)
            self._resize(node, attrs.size)
        if attrs.permissions is not None and not S_ISLNK(node.mode):
            node.mode = node.mode & ~0o7777 | attrs.permissions & 0o7777
        for field in ("atime", "mtime", "uid", "gid"):
            value = getattr(attrs, field)
            if value is not None:
                setattr(node, field, value)

    # --- files ------------------------------------------------------------------------------------

    def _resize(self, node: Node, size: int) -> None:
        """Truncate a file, or extend it with zeros. Raises OSError (ENOSPC) if the storage is full."""
        grows = size - len(node.content)
        if grows > self._capacity - self._used:
            fail(errno.ENOSPC)
        self._used += grows
        if grows > 0:
            node.content.extend(bytes(grows))
        else:
            del node.content[size:]
        node.mtime = int(time.time())

    def open(self, path: bytes, flags: int, mode: int) -> OpenFile:
        new_only = flags & os.O_CREAT and flags & os.O_EXCL
        place = self._find(path, follow=not new_only)
        node = place.node
        if node is None:
            if not flags & os.O_CREAT:
                fail(errno.ENOENT)
            node = Node(S_IFREG | mode, bytearray())
            self._enter(place, node)
        elif new_only:
            fail(errno.EEXIST)
        elif S_ISDIR(node.mode):
            fail(errno.EISDIR)
        elif flags & os.O_TRUNC:
            self._resize(node, 0)
        node.opened += 1
        return OpenFile(node, flags)

    def read(self, handle: OpenFile, off: int, size: int) -> bytes:
        if handle.flags & os.O_ACCMODE == os.O_WRONLY:
            fail(errno.EBADF)
        return bytes(handle.node.content[off : off + size])

    def write(self, handle: OpenFile, off: int, chunk: bytes) -> None:
        if handle.flags & os.O_ACCMODE == os.O_RDONLY:
            fail(errno.EBADF)
        content = handle.node.content
        if handle.flags & os.O_APPEND:
            off = len(content)
        if chunk and off + len(chunk) > len(content):
            self._resize(handle.node, off + len(chunk))
        content[off : off + len(chunk)] = chunk
        handle.node.mtime = int(time.time())

    def close(self, handle: OpenFile) -> None:
        handle.node.opened -= 1
        self._free(handle.node)

    def fsync(self, handle: OpenFile) -> None:
        pass  # there is nothing to write to a disk

    def statvfs(self, path: bytes) -> os.statvfs_result:
        self._get(path)
        return self._figures()

    def fstatvfs(self, handle: OpenFile) -> os.statvfs_result:
        return self._figures()

    def _figures(self) -> os.statvfs_result:
        blocks, free = self._capacity // BLOCK, (self._capacity - self._used) // BLOCK
        return os.statvfs_result((BLOCK, BLOCK, blocks, free, free, blocks, free, free, 0, NAME_MAX, 0))
