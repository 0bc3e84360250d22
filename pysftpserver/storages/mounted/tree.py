"""The tree of mount points: which storage a path leads to, and which path in it.

The tree is fixed: a mount point and the directories above it are directories, whatever the storage above has
under their names. `..` in a path goes up as in any file system, also from a mount point to its parent. A
storage decides where its links lead, and where `..` after a link leads, but only inside itself: if one of
those leads to a place where another storage is mounted, the path does not exist. So entries that a mount
hides stay hidden.
What may not enter: what is done with a path. Facts: path_resolution(7).
"""

from __future__ import annotations

import errno
from stat import S_ISDIR

from pysftpserver.failures import os_error, show
from pysftpserver.host.budget import Budget
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPNotFound, SFTPUnsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.storages.mounted.mount import Mount

PATH_MAX = 4096  # bytes, as in the kernel


class Node:
    """A mount point, or a directory on the way to one.

    path: in the tree. mount: the mount that serves it. is_point: whether that is mounted here. inner: the
    path in the mount's storage.
    """

    __slots__ = ("children", "inner", "is_point", "mount", "parent", "path")

    def __init__(self, path: bytes, parent: Node | None, mount: Mount) -> None:
        self.path = path
        self.parent = self if parent is None else parent
        self.mount = mount
        self.is_point = True
        self.inner = b"/"
        self.children: dict[bytes, Node] = {}

    def child(self, name: bytes) -> Node:
        """The node with that name below this one, made if there is none."""
        node = self.children.get(name)
        if node is None:
            node = Node(_join(self.path, name), self, self.mount)
            node.is_point = False
            node.inner = _join(self.inner, name)
            self.children[name] = node
        return node

    def at(self, inner: bytes) -> Node | None:
        """The node at a canonical path of the storage that is mounted here, if there is one.

        For a path at or below another mount point, this is the node of that mount point.
        """
        node = self
        for name in inner.split(b"/"):
            if name:
                below = node.children.get(name)
                if below is None:
                    return None
                node = below
                if node.is_point:
                    break
        return node


class Tree:
    """All mounts. mounts: by their mount points.

    Raises ValueError for a path that cannot be a mount point.
    """

    def __init__(self, top: Mount, mounts: dict[bytes, Mount]) -> None:
        self.root = Node(b"/", None, top)
        self._points = {id(top): self.root}
        self.mounts = [top]
        for path in sorted(mounts, key=lambda path: path.count(b"/")):
            self._add(path, mounts[path])
        for mount in self.mounts:
            node = self._points[id(mount)]
            mount.point = node.path
            mount.is_parent = bool(node.children)
            mount.prepare()

    def _add(self, path: bytes, mount: Mount) -> None:
        names = path.split(b"/")[1:]
        if not path.startswith(b"/") or b"\0" in path or not all(n not in (b"", b".", b"..") for n in names):
            raise ValueError(f"mount point {show(path)}: write an absolute path, such as /archive")
        node = self.root
        for name in names:
            node = node.child(name)
        if node.is_point:
            raise ValueError(f"mount point {show(path)}: two storages are mounted there")
        if id(mount) in self._points:
            raise ValueError(f"mount point {show(path)}: its storage is mounted elsewhere as well")
        node.is_point, node.mount, node.inner = True, mount, b"/"
        self._points[id(mount)] = node
        self.mounts.append(mount)

    def point(self, mount: Mount) -> Node:
        """The mount point of a mount."""
        return self._points[id(mount)]

    def find(self, path: bytes, follow: bool = True) -> tuple[Mount, bytes, Node | None]:
        """Where a path leads: the mount, the path in its storage, and the node if it leads to one.

        follow: whether a link at its end is followed; for a link with a slash after it, the storage decides.
        If other storages are mounted below, the path in the storage has no links.
        """
        if not path:
            raise SFTPNotFound
        if len(path) >= PATH_MAX:
            raise os_error(errno.ENAMETOOLONG)
        node = self.root
        names: list[bytes] = []  # below the node
        canonical = 0  # how many of them are known to be directories, and not links
        budget = None
        parts = path.split(b"/")
        for name in parts:
            if name in (b"", b"."):
                continue
            if name != b"..":
                below = None if names else node.children.get(name)
                if below is None:
                    names.append(name)
                else:
                    node = below
            elif not names:
                node = node.parent
            else:
                if canonical < len(names):
                    budget = budget or Budget()
                    budget.take(16)  # a short path can go down and up a thousand times, through many links
                    node, names = self._directory(node, names)
                del names[-1:]
                canonical = len(names)
        if not names:
            return node.mount, node.inner, node
        inner = _join(node.inner, b"/".join(names))
        tail = {b"": b"/", b".": b"/."}.get(parts[-1], b"")
        if node.mount.refuses_links:
            node.mount.check_no_links(inner, follow or tail != b"")
        elif node.mount.is_parent:
            inner = self._canonical(node.mount, inner, follow)
        return node.mount, inner + tail, None

    def find_entry(self, path: bytes) -> tuple[Mount, bytes]:
        """The mount, and the path in its storage, of an entry to make, rename or remove. Follows no link.

        Raises SFTPFailure for a mount point and for a directory on the way to one.
        """
        mount, inner, node = self.find(path, follow=False)
        if path.rstrip(b"/").rpartition(b"/")[2] in (b".", b"..") and node is None:
            mount.call("stat", inner)  # a missing entry is reported first
            raise os_error(errno.EBUSY)
        if node is None and mount.is_parent:
            node = self.point(mount).at(inner)
        if node is not None:
            what = "is a mount point" if node.is_point else "has a mount point in it"
            raise SFTPFailure(f"{show(node.path)} {what}")
        return mount, inner

    def _canonical(self, mount: Mount, inner: bytes, follow: bool) -> bytes:
        if follow:
            real = mount.call("realpath", inner)
        else:
            parent, _, name = inner.rpartition(b"/")
            real = _join(mount.call("realpath", parent or b"/"), name)
        self._check_hidden(mount, real)
        return real  # type: ignore[no-any-return]

    def _check_hidden(self, mount: Mount, real: bytes) -> Node | None:
        node = self.point(mount).at(real)
        if node is not None and node.mount is not mount:
            raise os_error(errno.ENOENT)
        return node

    def _directory(self, node: Node, names: list[bytes]) -> tuple[Node, list[bytes]]:
        """The node and the names of a path that should be a directory of a storage. Links are followed."""
        mount = node.mount
        inner = mount.call("realpath", _join(node.inner, b"/".join(names)))
        self._check_hidden(mount, inner)
        try:
            permissions = mount.call("stat", inner).permissions
        except SFTPUnsupported:
            permissions = None
        if permissions is not None and not S_ISDIR(permissions):
            raise os_error(errno.ENOTDIR)
        node = self.point(mount)
        names = [name for name in inner.split(b"/") if name]
        while names and names[0] in node.children:
            node = node.children[names.pop(0)]
        return node, names


def _join(path: bytes, name: bytes) -> bytes:
    return path.rstrip(b"/") + b"/" + name
