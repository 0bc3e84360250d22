"""The storages for fuzzed sessions: one tree, in memory and in a jail, cheap to restore.

Each checks its invariants when a session has ended. What may not enter: packets, sessions.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import resource
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.memory import SFTPServerMemoryStorage

Node = type(SFTPServerMemoryStorage()._root)
CAPACITY = 512 << 10  # maximum bytes of one file, and of all files in memory
MEMORY = "/dev/shm"
OUT_OF_HERE = b"../../canary/secret"
TIMES = (1_000_000_000, 1_000_000_000)  # of everything in the tree
# The tree, in the order of creation: a name, and its content (None: a directory; int: this many
# zeros; a text that begins with ">": a link).
TREE: tuple[tuple[str, bytes | int | None], ...] = (
    ("f", b"0123456789"),
    ("big", 40_000),  # more than one read of the fast path
    ("d", None),
    ("d/g", b"in a directory\n"),
    ("d/e", None),
    ("l", b">f"),
    ("d/up", b">../d"),
    ("loop", b">loop"),
    ("out", b">" + OUT_OF_HERE),
    ("abs", b">/d/g"),
)


def scratch() -> str:
    """Return where to create directories: in memory if possible, because some requests wait for a disk."""
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK | os.X_OK):
        return MEMORY
    return tempfile.gettempdir()


@contextmanager
def small_files() -> Iterator[None]:
    """Limit files to CAPACITY: copying a sparse file of terabytes would take too long."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CAPACITY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def descriptors() -> int:
    """Return the number of open descriptors of this process (plus one, for this call)."""
    return len(os.listdir("/proc/self/fd"))


class CountingStorage(SFTPServerMemoryStorage):
    """The storage in memory, counting its open files."""

    def __init__(self) -> None:
        super().__init__(CAPACITY)
        self.opened = 0

    def open(self, path: bytes, flags: int, mode: int) -> object:
        handle = super().open(path, flags, mode)
        self.opened += 1
        return handle

    def close(self, handle: object) -> None:
        super().close(handle)  # type: ignore[arg-type]
        self.opened -= 1


class InMemory:
    """Creates a tree in memory for each session."""

    storage_class = CountingStorage

    def __init__(self) -> None:
        self.storage = self._tree = self.storage_class()
        for name, content in TREE:
            path = b"/" + name.encode()
            if content is None:
                self._tree.mkdir(path, 0o755)
            elif isinstance(content, bytes) and content.startswith(b">"):
                self._tree.symlink(path, content[1:])
            else:
                handle = self._tree.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
                self._tree.write(handle, 0, bytes(content))
                self._tree.close(handle)

    def fresh(self, _walks: bool) -> SFTPAbstractServerStorage:
        """Return a storage with the tree."""
        self.storage = self.storage_class()
        self.storage._root = _copied(self._tree._root)
        self.storage._used = self._tree._used
        return self.storage

    def changed(self) -> None:
        """A session may have changed the tree."""

    def snapshot(self) -> object:
        """All of the tree, to be compared."""
        return _nodes(self.storage._root)

    def check(self, _output: bytes) -> None:
        """What must hold after a session."""
        assert self.storage.opened == 0, f"{self.storage.opened} files were left open"
        held = _held(self.storage._root, set())
        assert held == self.storage._used, f"{held} bytes are held, {self.storage._used} are counted"
        assert held <= CAPACITY, f"{held} bytes are held, over the capacity"


def _copied(node: Node) -> Node:
    """A node and all below it, as new objects."""
    copy = Node.__new__(Node)
    copy.__dict__.update(node.__dict__)
    if isinstance(node.content, dict):
        copy.content = {name: _copied(below) for name, below in node.content.items()}
    elif isinstance(node.content, bytearray):
        copy.content = node.content.copy()
    return copy


def _nodes(node: Node) -> object:
    content = node.content
    if isinstance(content, dict):
        content = [(name, _nodes(below)) for name, below in content.items()]
    return bytes(content) if isinstance(content, bytearray) else content, node.mode, node.uid


def _held(node: Node, seen: set[int]) -> int:
    content = node.content
    if isinstance(content, dict):
        return sum(_held(below, seen) for below in content.values())
    if isinstance(content, bytes) or id(node) in seen:
        return 0
    seen.add(id(node))
    return len(content)


class InJail:
    """One jail, whose tree is restored when a session may have changed it, and a canary outside.

    Two storages serve it, with openat2 and without. The files outside contain a secret. No reply may contain
    it, or the jail's path on the host.
    """

    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self.place = Path(tempfile.mkdtemp(prefix=f"pysftpserver-fuzz-{self.token}-", dir=scratch()))
        atexit.register(self.close)
        self.jail = self.place / "base" / "jail"
        self.jail.mkdir(parents=True)
        self.canary = self.place / "canary"
        self.canary.mkdir()
        (self.canary / "secret").write_text(self.token)
        outside = (self.place / "base", self.canary, self.canary / "secret")
        self._watched = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in outside]
        self._before = self._outside()
        self._tree = Tree(self.jail)
        self._is_changed = False
        self._storages = [
            SFTPServerVirtualChroot(self.jail, use_openat2=None),
            SFTPServerVirtualChroot(self.jail, use_openat2=False),
        ]
        gc.collect()  # other descriptors, which would be closed in the middle of a session
        self._descriptors = 0

    def close(self) -> None:
        """Remove everything."""
        atexit.unregister(self.close)
        self._tree.close()
        for descriptor in self._watched:
            os.close(descriptor)
        shutil.rmtree(self.place)

    def fresh(self, walks: bool) -> SFTPAbstractServerStorage:
        """Return the storage, with the tree restored."""
        if self._is_changed:
            self._tree.mend()
            self._is_changed = False
        self._descriptors = descriptors()
        return self._storages[walks]

    def changed(self) -> None:
        """A session may have changed the tree."""
        self._is_changed = True

    def snapshot(self) -> object:
        """All of the tree, to be compared."""
        return _entries(os.fsencode(self.jail))

    def check(self, output: bytes) -> None:
        """What must hold after a session."""
        leaked = descriptors() - self._descriptors
        assert not leaked, f"{leaked} descriptors leaked"
        assert self._outside() == self._before, "something outside the jail was changed"
        assert self.token.encode() not in output, "a reply tells what is outside the jail"

    def _outside(self) -> list[tuple[int, ...]]:
        # The ctime of a file or directory shows every change of it.
        return [(st.st_ctime_ns, st.st_size, st.st_nlink) for st in map(os.fstat, self._watched)]


class Tree:
    """The tree in an empty directory, always with the same times. mend() restores it.

    It restores only what has changed, because removing a directory takes longer than a session.
    """

    def __init__(self, place: Path) -> None:
        self._top = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        self._names: dict[str, set[str]] = {}  # names that belong in each directory
        self._marks: dict[str, tuple[int, ...]] = {}
        for name, content in ((".", None), *TREE):
            parent, _, last = name.rpartition("/")
            self._names.setdefault(parent or ".", set()).add(last)
            if content is None:
                self._names.setdefault(name, set())
        self._names["."].remove(".")
        self.mend()

    def close(self) -> None:
        """Remove the tree."""
        _remove_others(self._top, set())
        os.close(self._top)

    def mend(self) -> None:
        """Restore changed entries and remove others."""
        self._mend_directory(".")
        for name, content in TREE:
            if content is None:
                self._mend_directory(name)
            elif self._mark(name) != self._marks.get(name):
                self._make(name, content)
                self._marks[name] = self._mark(name)
        for directory in self._names:
            os.utime(directory, TIMES, dir_fd=self._top)

    def _mend_directory(self, name: str) -> None:
        mark = self._mark(name)
        if not S_ISDIR(mark[0]):
            if mark[0]:
                os.unlink(name, dir_fd=self._top)
            os.mkdir(name, dir_fd=self._top)
        if mark[0] & 0o7777 != 0o755 or mark[1:3] != (os.getuid(), os.getgid()):
            os.chown(name, os.getuid(), os.getgid(), dir_fd=self._top)
            os.chmod(name, 0o755, dir_fd=self._top)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._top)
        try:
            _remove_others(descriptor, self._names[name])
        finally:
            os.close(descriptor)

    def _mark(self, name: str) -> tuple[int, ...]:
        """Return a value that differs after an entry was changed or read."""
        try:
            st = os.stat(name, dir_fd=self._top, follow_symlinks=False)
        except FileNotFoundError:
            return (0,)
        return st.st_mode, st.st_uid, st.st_gid, st.st_ino, st.st_nlink, st.st_ctime_ns, st.st_atime_ns

    def _make(self, name: str, content: bytes | int) -> None:
        _remove(self._top, name)
        if isinstance(content, bytes) and content.startswith(b">"):
            os.symlink(content[1:], name, dir_fd=self._top)
        else:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=self._top)
            if isinstance(content, int):
                os.truncate(descriptor, content)
            else:
                os.write(descriptor, content)
            os.close(descriptor)
        os.utime(name, TIMES, dir_fd=self._top, follow_symlinks=False)


def _remove_others(directory: int, names: set[str]) -> None:
    """Remove the content of a directory except some names, even if its permissions have changed."""
    for name in os.listdir(directory):
        if name not in names:
            _remove(directory, name)


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        os.chmod(name, 0o700, dir_fd=directory)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        try:
            _remove_others(below, set())
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=directory)


def _entries(directory: bytes) -> list[object]:
    found: list[object] = []
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            st = entry.stat(follow_symlinks=False)
            target = os.readlink(entry.path) if entry.is_symlink() else b""
            found.append((entry.path, st.st_mode, st.st_size, st.st_mtime_ns, st.st_uid, target))
            if entry.is_dir(follow_symlinks=False):
                found += _entries(entry.path)
    return found
