"""SFTPServerMountedStorage: several storages in one tree.

A tree has a storage at its top and others at mount points below it. This storage finds the one that a path
leads to (storages/mounted/tree.py) and passes the request on. A mount point appears in listings even if its
parent has no such entry; an entry of the parent is hidden. If a storage cannot be reached, the others still
work. What may not enter: concrete storages, sessions.
Facts: mount(8), path_resolution(7), rename(2).
"""

from __future__ import annotations

import errno
import os
import time
from stat import S_IFDIR, S_ISDIR

from pysftpserver.abstractstorage import SFTPAbstractServerStorage, speaks_for
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error, show
from pysftpserver.pysftpexceptions import SSH2_FX_NO_SUCH_FILE, SFTPException, SFTPFailure
from pysftpserver.storages.mounted.mount import Mount, MountedFile, is_away
from pysftpserver.storages.mounted.tree import Node, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pysftpserver.abstractstorage import Promise, StatVFS
    from pysftpserver.storages.mounted.mount import Opener

    Entry = tuple[bytes, SFTPAttributes]

__all__ = ["Mount", "SFTPServerMountedStorage"]

WINDOW = 4 << 20  # bytes
CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class SFTPServerMountedStorage(SFTPAbstractServerStorage):
    """A storage with others at mount points.

    top: what is at `/`: a storage, a function that opens it, or a Mount. mounts: the same by mount point, an
    absolute path; the directories above it need not exist. across: what a rename from one storage to another
    does: None refuses it, "copy" copies and then removes. home: where sessions start; None: the home of the
    top. pause: seconds until an unreachable storage is tried again.
    Raises ValueError for an invalid mount point, or an unknown value of across.
    """

    home: bytes

    def __init__(
        self,
        top: Mount | SFTPAbstractServerStorage | Opener,
        mounts: Mapping[bytes, Mount | SFTPAbstractServerStorage | Opener],
        *,
        across: str | None = None,
        home: bytes | None = None,
        pause: float | None = None,
    ) -> None:
        if across not in (None, "copy"):
            raise ValueError('across: write "copy", or leave it out')
        self._copies_across = across == "copy"
        self._tree = Tree(_mount(top), {path: _mount(mount) for path, mount in mounts.items()})
        self._born = int(time.time())
        if pause is not None:
            for mount in self._tree.mounts:
                mount.pause = pause
        self._top = self._tree.root.mount
        if any(mount.is_remote for mount in self._tree.mounts):
            self.window = WINDOW  # a session reads it before the storages are open
        if home is None and self._top.opened is not None:
            home = self._top.opened.home
        self.home = home or b"/"

    def refuse_links(self) -> None:
        """From now on, fail for paths with links: the caller resolves them first."""
        for mount in self._tree.mounts:
            mount.refuses_links = True
            mount.prepare()

    @property
    def uses_network(self) -> bool:  # type: ignore[override]
        return any(mount.uses_network for mount in self._tree.mounts)

    @property
    def label(self) -> str:
        """How messages name this storage."""
        return f"{len(self._tree.mounts)} storages in one tree"

    def territory(self) -> Sequence[int] | None:
        if self._copies_across:
            import pysftpserver.storages.mounted.moving  # noqa: F401 -- nothing can be imported afterwards
        descriptors: list[int] = []
        for mount in self._tree.mounts:
            own = mount.territory()
            if own is None:
                return None
            descriptors += own
        return descriptors

    def reads(self) -> Sequence[str]:
        return [path for mount in self._tree.mounts for path in mount.reads()]

    def release(self) -> None:
        for mount in self._tree.mounts:
            if mount.opened is not None:
                mount.opened.release()

    def check_root(self) -> None:
        for mount in self._tree.mounts:
            if mount.was_changed and mount.opened is not None:
                mount.opened.check_root()

    # --- names ------------------------------------------------------------------------------------

    def realpath(self, path: bytes) -> bytes:
        mount, inner, node = self._tree.find(path)
        if node is not None:
            return node.path
        if not mount.is_parent:
            inner = mount.call("realpath", inner)
        inner = inner.removesuffix(b"/.").rstrip(b"/")
        return mount.point.rstrip(b"/") + inner or b"/"

    def userhome(self, user: bytes) -> bytes:
        return self._top.call("userhome", user) if user else self.home

    def username(self, uid: int) -> bytes | None:
        opened = self._top.opened
        return None if opened is None else opened.username(uid)

    def groupname(self, gid: int) -> bytes | None:
        opened = self._top.opened
        return None if opened is None else opened.groupname(gid)

    # --- attributes -------------------------------------------------------------------------------

    def _attributes(self, node: Node) -> SFTPAttributes:
        """What clients see of a mount point, or of a directory on the way to one: always a directory.

        A storage on another host is not asked: its answer could take long, or never arrive.
        """
        if not (node.is_point and node.mount.is_remote) or node is self._tree.root:
            try:
                attrs: SFTPAttributes = node.mount.call("stat", node.inner)
            except (SFTPException, OSError):
                pass
            else:
                if S_ISDIR(attrs.permissions or 0):
                    return attrs
        mode = S_IFDIR | (0o555 if node.mount.read_only else 0o755)
        return SFTPAttributes(0, os.getuid(), os.getgid(), mode, self._born, self._born, 2)

    def stat(self, path: bytes) -> SFTPAttributes:
        mount, inner, node = self._tree.find(path)
        return self._attributes(node) if node is not None else mount.call("stat", inner)

    def lstat(self, path: bytes) -> SFTPAttributes:
        mount, inner, node = self._tree.find(path, follow=path.endswith((b"/", b"/.")))
        return self._attributes(node) if node is not None else mount.call("lstat", inner)

    def fstat(self, handle: MountedFile) -> SFTPAttributes:
        return handle.storage.fstat(handle.object)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        mount, inner, _ = self._tree.find(path)
        mount.change("setstat", inner, attrs)

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        mount, inner, node = self._tree.find(path, follow=path.endswith((b"/", b"/.")))
        mount.change("lsetstat" if node is None else "setstat", inner, attrs)

    def fsetstat(self, handle: MountedFile, attrs: SFTPAttributes) -> None:
        handle.mount.check_writable()  # a file that is open for reading can be changed as well
        handle.storage.fsetstat(handle.object, attrs)

    # --- directories ------------------------------------------------------------------------------

    def opendir(self, path: bytes) -> Iterator[Entry]:
        mount, inner, node = self._tree.find(path)
        at = node
        if node is None and mount.is_parent:  # a link or `..` has led to a directory with mount points
            at = self._tree.point(mount).at(inner.removesuffix(b"/."))
        dots: dict[bytes, Node] = {}
        if node is not None:
            dots = {b".": node, b"..": node.parent}
        elif mount.is_remote and b"/" not in inner.strip(b"/"):
            dots = {b"..": self._tree.point(mount)}
        if at is None and not dots or at is self._tree.root and not at.children:
            return mount.call("opendir", inner)  # type: ignore[no-any-return]
        entries: Iterator[Entry] | None = None
        failure: BaseException | None = None
        try:
            entries = mount.call("opendir", inner)
        except (SFTPException, OSError) as error:
            is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError)) or (
                isinstance(error, SFTPException) and error.status == SSH2_FX_NO_SUCH_FILE
            )
            if node is None or not node.children or not (is_away(error) or is_missing):
                raise
            failure = None if is_missing else error
        listing = self._merged(entries, dots, at, node, failure)
        next(listing)
        return listing

    def _merged(
        self,
        entries: Iterator[Entry] | None,
        dots: dict[bytes, Node],
        at: Node | None,
        node: Node | None,
        failure: BaseException | None,
    ) -> Iterator[Entry]:
        """A listing, after a dummy entry: closing a generator that has begun closes entries as well.

        dots: `.` and `..`, if the storage cannot know them. at: the node whose mount points hide entries.
        node: the one whose mount points are shown. failure: is raised at the end.
        """
        hidden = {} if at is None else at.children
        try:
            yield b"", SFTPAttributes()
            for name, attrs in entries if entries is not None else ():
                if name in dots:
                    attrs = self._attributes(dots.pop(name))
                elif name in hidden and (node is not None or hidden[name].is_point):
                    continue
                yield name, attrs
            for name, directory in dots.items():
                yield name, self._attributes(directory)
            if node is not None:
                for name, child in node.children.items():
                    yield name, self._attributes(child)
            if failure is not None:
                raise failure
        finally:
            close = getattr(entries, "close", None)
            if close is not None:
                close()

    def mkdir(self, path: bytes, mode: int) -> None:
        mount, inner = self._tree.find_entry(path)
        mount.change("mkdir", inner, mode)

    def rmdir(self, path: bytes) -> None:
        mount, inner = self._tree.find_entry(path)
        mount.change("rmdir", inner)

    # --- files ------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> MountedFile:
        is_new = flags & os.O_CREAT and flags & os.O_EXCL
        mount, inner, node = self._tree.find(path, follow=not is_new)
        if node is not None:
            raise os_error(errno.EISDIR)
        if flags & CHANGES:
            mount.check_writable()
        storage = mount.storage()
        opened = mount.call("open", inner, flags, mode)
        self.window = max(self.window, storage.window)
        try:
            return MountedFile(mount, storage, opened)
        except BaseException:
            storage.abandon(opened)
            raise

    def read(self, handle: MountedFile, off: int, size: int) -> bytes | bytearray | memoryview:
        return handle.read(handle.object, off, size)

    def write(self, handle: MountedFile, off: int, chunk: bytes | memoryview) -> None:
        return handle.write(handle.object, off, chunk)  # with the number of bytes, if there is one

    def promise_read(self, handle: MountedFile, off: int, size: int) -> Promise | None:
        return handle.storage.promise_read(handle.object, off, size) if handle.promises else None

    def promise_write(self, handle: MountedFile, off: int, chunk: bytes | memoryview) -> Promise | None:
        return handle.storage.promise_write(handle.object, off, chunk) if handle.promises else None

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        mount, inner, node = self._tree.find(path)
        if node is not None or not speaks_for(mount.storage(), "checksum", "read"):
            return None
        return mount.call("checksum", inner, algorithm)  # type: ignore[no-any-return]

    def copy_range(
        self, source: MountedFile, off: int, size: int, target: MountedFile, target_off: int
    ) -> int | None:
        if source.storage is not target.storage:
            return None
        return source.storage.copy_range(source.object, off, size, target.object, target_off)

    def path_of(self, handle: MountedFile) -> bytes | None:
        inner = handle.storage.path_of(handle.object)
        return None if inner is None else handle.mount.point.rstrip(b"/") + inner

    def close(self, handle: MountedFile) -> None:
        handle.storage.close(handle.object)

    def abandon(self, handle: MountedFile) -> None:
        handle.storage.abandon(handle.object)

    def spoil(self, handle: MountedFile) -> None:
        handle.storage.spoil(handle.object)

    def fsync(self, handle: MountedFile) -> None:
        handle.storage.fsync(handle.object)

    def sync_directory(self, path: bytes) -> None:
        mount, inner, _ = self._tree.find(path)
        mount.call("sync_directory", inner)

    def fileno(self, handle: MountedFile) -> int | None:
        return handle.descriptor

    # --- the tree ---------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        mount, inner = self._tree.find_entry(path)
        mount.change("rm", inner)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        source, inner_old = self._tree.find_entry(old)
        target, inner_new = self._tree.find_entry(new)
        source.check_writable()
        target.check_writable()
        if source is target:
            source.call("rename", inner_old, inner_new, *([True] if replace else ()))
            return
        source.call("lstat", inner_old)  # a missing source is reported first
        if not self._copies_across:
            points = f"{show(source.point)} and {show(target.point)}"
            raise SFTPFailure(f"Cannot rename between different storages ({points}); copy and delete")
        from pysftpserver.storages.mounted.moving import move

        move(source, inner_old, target, inner_new, replace)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        mount, inner = self._tree.find_entry(linkpath)
        if target.startswith(b"/") and mount.point != b"/":
            # What clients see of an absolute link begins with the mount point: see readlink().
            below = target.removeprefix(mount.point)
            if target == below or below[:1] not in (b"", b"/"):
                raise SFTPFailure(f"A link in {show(mount.point)} cannot lead out of it")
            target = below or b"/"
        mount.change("symlink", inner, target)

    def readlink(self, path: bytes) -> bytes:
        mount, inner, node = self._tree.find(path, follow=False)
        if node is not None:
            raise os_error(errno.EINVAL)
        text: bytes = mount.call("readlink", inner)
        if text.startswith(b"/") and mount.point != b"/":
            return mount.point + text  # where it leads, as a client would write it
        return text

    def link(self, old: bytes, new: bytes) -> None:
        source, inner_old = self._tree.find_entry(old)
        target, inner_new = self._tree.find_entry(new)
        if source is not target:
            source.call("lstat", inner_old)
            raise SFTPFailure("A hard link cannot lead to another storage")
        source.change("link", inner_old, inner_new)

    def statvfs(self, path: bytes) -> StatVFS:
        mount, inner, node = self._tree.find(path)
        figures: StatVFS = mount.call("statvfs", inner if node is None else b"/")
        return marked_read_only(figures) if mount.read_only else figures

    def fstatvfs(self, handle: MountedFile) -> StatVFS:
        return handle.storage.fstatvfs(handle.object)


def marked_read_only(figures: StatVFS) -> StatVFS:
    """The same figures, of a file system that cannot be changed."""
    kept = [
        getattr(figures, "f_" + name)
        for name in "bsize frsize blocks bfree bavail files ffree favail".split()
    ]
    rest = figures.f_flag | os.ST_RDONLY, figures.f_namemax, figures.f_fsid
    return os.statvfs_result((*kept, *rest))


def _mount(storage: Mount | SFTPAbstractServerStorage | Opener) -> Mount:
    return storage if isinstance(storage, Mount) else Mount(storage)
