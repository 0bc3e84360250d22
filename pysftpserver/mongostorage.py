"""A storage on MongoDB's GridFS.

Many servers may serve one bucket, and other programs may read and write it through GridFS: its files are
ordinary GridFS files, and directories and links are in a separate collection. The parts are in
storages/mongo/: names (paths and filenames), bucket (documents and indexes), paths (links and `..`), listing,
chunks (reading), draft (writing), openfiles (a session's open files), revisions and tree (changes of names).
docs/gridfs.md says what is guaranteed. What may not enter: wire formats, sessions of clients.
Facts: GridFS's specification; POSIX for what the calls mean.
"""

from __future__ import annotations

import copy
import errno
import os
import time

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.failures import missing, os_error
from pysftpserver.host import accounts

try:
    import pymongo.errors  # noqa: F401
except ModuleNotFoundError as error:  # pragma: no cover
    raise ModuleNotFoundError(missing("pymongo", "mongo").message, name=error.name) from None

from pysftpserver.storages.mongo import revisions, tree
from pysftpserver.storages.mongo.bucket import DIRECTORY, SYMLINK, Bucket, Entry, changes
from pysftpserver.storages.mongo.connection import check_bucket, check_database, open_client, reach
from pysftpserver.storages.mongo.errors import answers
from pysftpserver.storages.mongo.listing import entries, next_entry, oddities
from pysftpserver.storages.mongo.names import below, component, name_of, parent_of, to_bytes, to_text
from pysftpserver.storages.mongo.openfiles import Handle, OpenFile, OpenFiles
from pysftpserver.storages.mongo.paths import Place, Resolver, target_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.attributes import SFTPAttributes

    Document = dict[str, Any]

PATIENCE = 4.0  # seconds to wait for the first answer of the database
A_DAY = 86_400.0  # seconds
ATTEMPTS = 5  # to change attributes of a file that others keep replacing
FIGURES_LAST = 5.0  # seconds to cache the figures of statvfs, which are slow to compute
MOST_LINK = 4095  # bytes of a link's text


class SFTPServerMongoStorage(SFTPAbstractServerStorage):
    """The files of one bucket, or of one directory of it.

    remote, port: a host and its port; or a MongoDB URI and None. db_name: the database; None for the URI's.
    bucket: the prefix of GridFS's collections. prefix: the directory of the bucket that becomes the root,
    which clients cannot leave. keep_revisions: whether a replaced file stays in the database, as an older
    revision. The storage connects on first use, or in connect(). Raises ValueError for invalid arguments.
    """

    uses_network = True

    def __init__(
        self,
        remote: str,
        port: int | None,
        db_name: str | None,
        *,
        bucket: str = "fs",
        prefix: str = "",
        keep_revisions: bool = False,
    ) -> None:
        top = _top(prefix)
        check_bucket(bucket)
        self.client, named = open_client(remote, port)
        try:
            database = db_name or named
            if not database:
                raise ValueError("no database: name one, after the slash in the URI or separately")
            check_database(database)
            owner = os.getuid(), os.getgid()
            self.bucket = Bucket(self.client, database, bucket, owner)
        except BaseException:
            self.client.close()
            raise
        self.home = b"/"
        self._keep = keep_revisions
        self._figures: tuple[float, os.statvfs_result] | None = None
        self._begin(top)

    def _begin(self, top: str) -> None:
        self._top = top
        self._files = OpenFiles(self.bucket, self._keep)
        self._resolver = Resolver(top, self._lookup, self.bucket.implied, self._top_entry)

    @classmethod
    def from_uri(cls, uri: str, db_name: str | None = None, **options: Any) -> SFTPServerMongoStorage:
        """Return the storage at a MongoDB URI.

        uri: mongodb://... or mongodb+srv://... db_name: the database instead of the URI's. options: bucket,
        prefix and keep_revisions as above. Raises ValueError for invalid arguments.
        """
        return cls(uri, None, db_name, **options)

    def at_prefix(self, prefix: str) -> SFTPServerMongoStorage:
        """Return a storage for another session that shares the connections of this one.

        prefix: the directory of the bucket that becomes its root. Raises ValueError for an invalid one.
        """
        other = copy.copy(self)
        other._begin(_top(prefix))
        return other

    # --- the database -----------------------------------------------------------------------------------

    def connect(self, patience: float = PATIENCE) -> None:
        """Connect to the database now. patience: seconds. Raises MongoUnavailable if it does not answer."""
        reach(self.client, patience)

    @answers
    def prepare(self) -> None:
        """Create missing indexes. Raises SFTPForbidden or SFTPFailure if that is not possible."""
        self.bucket.create_indexes()

    @answers
    def check(self) -> list[str]:
        """Return a sentence for each missing index. Raises SFTPException."""
        return [
            f"Index {name} of {collection} is missing; pysftpmongo creates it when it serves."
            for collection, name in self.bucket.missing_indexes()
        ]

    @answers
    def remarks(self) -> list[str]:
        """Return a sentence for each kind of file without a path here. Reads all filenames of the bucket."""
        return oddities(self.bucket, self._top)

    def gc(self, older_than: float = A_DAY, is_dry: bool = False) -> list[str]:
        """Remove the chunks of uploads that a crash has left behind; return a sentence about them.

        older_than: seconds since their last chunk. is_dry: only count them. Raises SFTPException.
        """
        from pysftpserver.storages.mongo.gc import collect

        return [collect(self.bucket, older_than, is_dry).sentence(is_dry, older_than / 3600)]

    def close_client(self) -> None:
        """Close open files and the connections to the database."""
        self._files.end()
        self.client.close()

    # --- names ------------------------------------------------------------------------------------------

    def _lookup(self, names: list[str]) -> dict[str, Entry]:
        """Return the entries at some names, as this session sees them."""
        found = self.bucket.lookup(names)
        for name in names:
            file = self._files.changed(name)
            if file is not None:
                found[name] = self._entry_of(file)
        return found

    def _entry_of(self, file: OpenFile) -> Entry:
        entry = self.bucket.file_entry(file.as_document())
        return Entry(entry.name, "", file.doc, entry.attrs)

    def _top_entry(self) -> Entry:
        doc = self.bucket.nodes.find_one({"path": self._top})
        if doc is not None and doc.get("kind") == DIRECTORY:
            return self.bucket.node_entry(doc)
        return self.bucket.implied_entry(self._top, self.bucket.began)

    def _find(self, path: bytes, follow: bool = True) -> Place:
        return self._resolver.resolve(path, follow)

    def _get(self, path: bytes, follow: bool = True) -> Entry:
        return self._find(path, follow).existing()

    def _in_here(self, name: str) -> bytes:
        """Return the path of a filename."""
        return b"/" + to_bytes(name[len(below(self._top)) :])

    @answers
    def realpath(self, path: bytes) -> bytes:
        return self._in_here(self._find(path).name)

    def username(self, uid: int) -> bytes | None:
        return accounts.username(uid)

    def groupname(self, gid: int) -> bytes | None:
        return accounts.groupname(gid)

    # --- attributes -------------------------------------------------------------------------------------

    @answers
    def stat(self, path: bytes) -> SFTPAttributes:
        return self._get(path).attrs

    @answers
    def lstat(self, path: bytes) -> SFTPAttributes:
        return self._get(path, follow=False).attrs

    def fstat(self, handle: Handle) -> SFTPAttributes:
        return self.bucket.file_entry({"filename": "", **handle.file.as_document()}).attrs

    @answers
    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._change(path, attrs, follow=True)

    @answers
    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._change(path, attrs, follow=False)

    @answers
    def fsetstat(self, handle: Handle, attrs: SFTPAttributes) -> None:
        if attrs.size is not None:
            if not handle.flags & (os.O_WRONLY | os.O_RDWR):
                raise os_error(errno.EINVAL)
            _check_size(attrs.size)
            self._files.resize(handle.file, attrs.size)
        self._files.set_attributes(handle.file, attrs)

    def _change(self, path: bytes, attrs: SFTPAttributes, follow: bool) -> None:
        for attempt in range(ATTEMPTS):
            entry = self._get(path, follow)
            if attrs.size is not None:
                if entry.kind:
                    raise os_error(errno.EISDIR if entry.kind == DIRECTORY else errno.EINVAL)
                _check_size(attrs.size)
            try:
                if entry.kind:
                    self._change_node(entry, attrs)
                else:
                    self._change_file(entry, attrs)
                return
            except revisions.Conflict:
                if attempt == ATTEMPTS - 1:
                    raise

    def _change_node(self, entry: Entry, attrs: SFTPAttributes) -> None:
        fields = changes(attrs)
        if entry.kind == SYMLINK:
            fields.pop("permissions", None)  # permissions of a link have no meaning
        elif entry.doc is None:
            tree.settle(self.bucket, entry.name)
            if not entry.name:
                tree.give_document(self.bucket, "")
        if fields:
            self.bucket.nodes.update_one({"path": entry.name}, {"$set": fields})

    def _change_file(self, entry: Entry, attrs: SFTPAttributes) -> None:
        file = self._files.changed(entry.name)
        if file is not None:
            if attrs.size is not None:
                self._files.resize(file, attrs.size)
            self._files.set_attributes(file, attrs)
            return
        if attrs.size is None or attrs.size == entry.attrs.size:
            self._files.set_attributes(self._files.known(entry.name, entry.doc), attrs)
            return
        handle = self._files.open(entry.name, entry.doc, os.O_WRONLY, {})
        try:
            self._files.resize(handle.file, attrs.size)
            self._files.set_attributes(handle.file, attrs)
        except BaseException:
            self.abandon(handle)
            raise
        self.close(handle)

    # --- directories ------------------------------------------------------------------------------------

    @answers
    def opendir(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        place = self._find(path)
        entry = place.existing()
        if entry.kind != DIRECTORY:
            raise os_error(errno.ENOTDIR)
        return self._entries(entry, self._parent(place) or entry)

    def _parent(self, place: Place) -> Entry | None:
        """Return the parent of a directory; the top is its own. None: it exists only through its entries."""
        return place.way[-1][1] if place.way else self._top_entry()

    def _entries(self, entry: Entry, parent: Entry) -> Iterator[tuple[bytes, SFTPAttributes]]:
        yield b".", entry.attrs
        yield b"..", parent.attrs
        new = {file.name: file for file in self._files.new_in(entry.name)}
        listing = entries(self.bucket, entry.name)
        while True:
            try:
                name, child = next_entry(listing)
            except StopIteration:
                break
            file = self._files.changed(child.name)
            new.pop(child.name, None)
            yield name, child.attrs if file is None else self._entry_of(file).attrs
        for filename, file in new.items():
            own = name_of(str(filename)[len(below(entry.name)) :])
            if own is not None:
                yield own, self._entry_of(file).attrs

    @answers
    def mkdir(self, path: bytes, mode: int) -> None:
        place = self._free(path)
        tree.make(self.bucket, place.name, DIRECTORY, mode & ~_umask())

    def _free(self, path: bytes) -> Place:
        """Return a place without an entry, in an existing directory. Raises OSError if there is an entry."""
        place = self._find(path.rstrip(b"/") or path, follow=False)
        if place.entry is not None:
            raise os_error(errno.EEXIST)
        if path.rstrip(b"/").endswith(b"/."):
            raise os_error(errno.ENOENT)
        return place

    @answers
    def rmdir(self, path: bytes) -> None:
        place = self._find(path, follow=False)
        entry = place.existing()
        if entry.kind != DIRECTORY:
            raise os_error(errno.ENOTDIR)
        if place.name == self._top:
            raise os_error(errno.EBUSY)
        if self._files.has_new_below(place.name):
            raise os_error(errno.ENOTEMPTY)
        tree.remove_directory(self.bucket, place.name)

    # --- files ------------------------------------------------------------------------------------------

    @answers
    def open(self, path: bytes, flags: int, mode: int) -> Handle:
        only_new = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        place = self._find(path, follow=not only_new)
        entry = place.entry
        if entry is None:
            if not flags & os.O_CREAT:
                raise os_error(errno.ENOENT)
            if path.endswith((b"/", b"/.")):
                raise os_error(errno.EISDIR if path.endswith(b"/") else errno.ENOENT)
            uid, gid = self.bucket.owner
            fields = {"permissions": mode & 0o7777 & ~_umask(), "uid": uid, "gid": gid}
            return self._files.open(place.name, None, flags, fields)
        if only_new:
            raise os_error(errno.EEXIST)
        if entry.kind:
            raise os_error(errno.EISDIR)
        return self._files.open(place.name, entry.doc, flags, {})

    @answers
    def read(self, handle: Handle, off: int, size: int) -> bytes:
        return self._files.read(handle, off, size)

    @answers
    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        """The md5 that older drivers have put into a file's document."""
        entry = self._get(path)
        md5 = None if entry.kind or entry.doc is None else entry.doc.get("md5")
        if algorithm != "md5" or not isinstance(md5, str) or self._files.changed(entry.name) is not None:
            return None
        return _digest(md5)

    @answers
    def write(self, handle: Handle, off: int, chunk: bytes | memoryview) -> None:
        self._files.write(handle, off, chunk if isinstance(chunk, bytes) else bytes(chunk))

    @answers
    def close(self, handle: Handle) -> None:
        self._files.close(handle)

    def abandon(self, handle: Handle) -> None:
        try:
            self._give_up(handle)
        finally:
            self.close(handle)

    @answers
    def _give_up(self, handle: Handle) -> None:
        self._files.give_up(handle)

    def spoil(self, handle: Handle) -> None:
        if handle.file.draft is not None:
            handle.file.is_spoilt = True

    @answers
    def fsync(self, handle: Handle) -> None:
        self._files.store(handle.file)

    # --- the tree ---------------------------------------------------------------------------------------

    @answers
    def rm(self, path: bytes) -> None:
        place = self._find(path, follow=False)
        entry = place.existing()
        if entry.kind == DIRECTORY:
            raise os_error(errno.EISDIR)
        self._settle_parent(place)
        if entry.kind == SYMLINK:
            tree.remove_link(self.bucket, place.name)
        else:
            gone = revisions.remove(self.bucket, place.name) if entry.doc is not None else []
            self._files.removed(place.name, gone)

    def _settle_parent(self, place: Place) -> None:
        """Give the parent of a place that becomes empty a document, so that it continues to exist."""
        if not place.way or any(entry is None or entry.doc is None for _, entry in place.way):
            tree.settle(self.bucket, parent_of(place.name))

    @answers
    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        source = self._find(old, follow=False)
        entry = source.existing()
        is_directory = entry.kind == DIRECTORY
        target = self._find(new.rstrip(b"/") or new if is_directory else new, follow=False)
        if source.name == self._top or is_directory and target.name.startswith(below(source.name)):
            raise os_error(errno.EINVAL)  # the top, or into itself
        if new.endswith(b"/") and not is_directory and target.entry is None:
            raise os_error(errno.ENOTDIR)
        there = target.entry
        if there is not None:
            self._check_replace(entry, there, replace)
            if target.name == source.name:
                return
        self._settle_parent(source)
        if is_directory:
            tree.settle(self.bucket, parent_of(target.name))
            tree.move_directory(self.bucket, source.name, target.name, there is not None)
            self._files.renamed(source.name, target.name)
        elif entry.kind == SYMLINK:
            self._rename_link(source, target, replace)
        else:
            self._rename_file(source, target, replace)

    def _check_replace(self, entry: Entry, there: Entry, replace: bool) -> None:
        """Raises OSError if an entry must not replace another one."""
        if not replace:
            raise os_error(errno.EEXIST)
        if (entry.kind == DIRECTORY) != (there.kind == DIRECTORY):
            raise os_error(errno.ENOTDIR if entry.kind == DIRECTORY else errno.EISDIR)
        if entry.kind == DIRECTORY and self._files.has_new_below(there.name):
            raise os_error(errno.ENOTEMPTY)

    def _rename_link(self, source: Place, target: Place, replace: bool) -> None:
        tree.settle(self.bucket, parent_of(target.name))
        # A file with the new name hides the link, and is removed once the link exists.
        tree.move_link(self.bucket, source.name, target.name, replace)
        there = target.entry
        if there is not None and not there.kind:
            gone = revisions.remove(self.bucket, target.name) if there.doc is not None else []
            self._files.removed(target.name, gone)

    def _rename_file(self, source: Place, target: Place, replace: bool) -> None:
        entry, there = source.existing(), target.entry
        gone: list[Any] = []
        if entry.doc is not None:
            gone = revisions.move(self.bucket, source.name, target.name, replace, self._keep)
            if there is None and not revisions.keeps_its_name(self.bucket, target.name):
                revisions.move(self.bucket, target.name, source.name, False, self._keep)
                raise os_error(errno.EEXIST)
        self._files.removed(target.name, gone)
        self._files.renamed(source.name, target.name)
        if entry.doc is None and there is not None:
            self._files.will_replace(target.name, there.doc)  # only when the new file is stored
        if there is not None and there.kind == SYMLINK:
            tree.remove_link(self.bucket, target.name)  # the file hides it already

    @answers
    def symlink(self, linkpath: bytes, target: bytes) -> None:
        if not linkpath or linkpath.endswith(b"/"):
            raise os_error(errno.ENOENT)
        if not target or b"\0" in target:
            raise os_error(errno.ENOENT if not target else errno.EINVAL)
        if len(target) > MOST_LINK:
            raise os_error(errno.ENAMETOOLONG)
        place = self._free(linkpath)
        tree.make(self.bucket, place.name, SYMLINK, 0o777, target=to_text(target))

    @answers
    def readlink(self, path: bytes) -> bytes:
        entry = self._get(path, follow=False)
        if entry.kind != SYMLINK:
            raise os_error(errno.EINVAL)
        return target_of(entry)

    # --- figures ----------------------------------------------------------------------------------------

    @answers
    def statvfs(self, path: bytes) -> os.statvfs_result:
        self._get(path)
        return self._figures_now()

    @answers
    def fstatvfs(self, handle: Handle) -> os.statvfs_result:
        return self._figures_now()

    def _figures_now(self) -> os.statvfs_result:
        """Return the database's figures, at most FIGURES_LAST seconds old."""
        now = time.monotonic()
        if self._figures is None or now - self._figures[0] > FIGURES_LAST:
            self._figures = now, self.bucket.figures()
        return self._figures[1]


def _check_size(size: int) -> None:
    if size >= 1 << 63:
        raise os_error(errno.EFBIG)


def _digest(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _top(prefix: str) -> str:
    """Return the filename of a prefix. Raises ValueError if it is not a path."""
    parts = [part for part in prefix.split("/") if part]
    for part in parts:
        try:
            raw = component(os.fsencode(part))
        except OSError as error:
            raise ValueError(f"invalid prefix {prefix!r}: {error.strerror}") from None
        if name_of(raw) is None:
            raise ValueError(f"invalid prefix {prefix!r}: . and .. are not allowed")
    return "/".join(component(os.fsencode(part)) for part in parts)


def _umask() -> int:
    """Return this process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
