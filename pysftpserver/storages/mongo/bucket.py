"""A GridFS bucket with directories and links: its collections, their indexes, and the queries on them.

Files are GridFS's own documents, in BUCKET.files and BUCKET.chunks. SFTP's attributes are in their metadata,
next to fields of other programs. GridFS has no directories and no links: those are in BUCKET.nodes, one
document each, so that a program that reads the bucket finds only files. docs/gridfs.md has the fields.
What may not enter: paths as clients send them, sessions, open files.
Facts: GridFS's specification; MongoDB's manual on indexes, read and write concerns, and transactions.
"""

from __future__ import annotations

import datetime
import math
import os
import time
from collections.abc import Callable, Hashable, Iterable
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import Any, NamedTuple, TypeVar

import bson
import pymongo
from bson import Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo import ASCENDING, MongoClient, ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect
from pymongo.read_concern import ReadConcern

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.formats import NODE
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.names import NAME_MAX, after, below, parent_of, to_bytes

Document = dict[str, Any]
T = TypeVar("T")

CHUNK_SIZE = 255 * 1024  # bytes; GridFS's default, and what OpenSSH's client sends at once
TRANSACTION_LASTS = 30.0  # seconds, with all retries; as long as the driver looks for a server
DIRECTORY, SYMLINK = "directory", "symlink"
BLOCK = 4096  # bytes; in figures, and the size of a directory in listings
UNKNOWN_ROOM = 1 << 40  # bytes reported as free if the database does not say
DEFAULT_MODES = {DIRECTORY: 0o755, SYMLINK: 0o777, "": 0o644}  # of files that SFTP did not make
TYPES = {DIRECTORY: S_IFDIR, SYMLINK: S_IFLNK, "": S_IFREG}
BY_NAME = [("filename", ASCENDING), ("uploadDate", ASCENDING)]
ONE_MILLISECOND = datetime.timedelta(milliseconds=1)  # BSON's resolution
EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
MOST_INT64 = (1 << 63) - 1
NO_TIME = -MOST_INT64  # for a file without an upload date
MOST_SECONDS = (1 << 32) - 1  # the range of SFTP version 3
#: (collection, name, keys, options): the indexes that GridFS and this storage need.
INDEXES: tuple[tuple[str, str, list[tuple[str, int]], Document], ...] = (
    ("files", "filename_1_uploadDate_1", BY_NAME, {}),
    ("chunks", "files_id_1_n_1", [("files_id", 1), ("n", 1)], {"unique": True}),
    (
        "files",
        "sftp_revision",
        [("filename", 1), ("metadata.revision", 1)],
        # Only of files that SFTP has stored: other programs may store any number of files of one name.
        {"unique": True, "partialFilterExpression": {"metadata.revision": {"$exists": True}}},
    ),
    ("nodes", "path_1", [("path", 1)], {"unique": True}),
    ("nodes", "parent_1_kind_1_key_1", [("parent", 1), ("kind", 1), ("key", 1)], {}),
)


class Entry(NamedTuple):
    """A file, a directory or a link.

    doc: its document; None for a directory that exists only because files are in it. kind: "" for a file.
    """

    name: str
    kind: str
    doc: Document | None
    attrs: SFTPAttributes


class Bucket:
    """The collections of one bucket, and the fields of their documents.

    owner: uid and gid of entries without any. Writes wait for a majority of the members, unless the URI has
    another write concern; reads go to the primary.
    """

    def __init__(self, client: MongoClient[Any], database: str, name: str, owner: tuple[int, int]) -> None:
        self.client = client
        self.name = name
        self.owner = owner
        self.began = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        concern = client.write_concern
        if concern.is_server_default or not concern.acknowledged:
            concern = WriteConcern(w="majority")
        self.database = client.get_database(
            database, read_preference=ReadPreference.PRIMARY, write_concern=concern
        )
        self.files: Collection[Document] = self.database[f"{name}.files"]
        self.chunks: Collection[Document] = self.database[f"{name}.chunks"]
        self.nodes: Collection[Document] = self.database[f"{name}.nodes"]
        # A filename that is not UTF-8 must be distinguished from one that contains U+FFFD.
        options = self.files.codec_options.with_options(unicode_decode_error_handler="surrogateescape")
        self.names: Collection[Document] = self.files.with_options(codec_options=options)
        self._has_transactions: bool | None = None
        self._clock: float | None = None

    # --- indexes ----------------------------------------------------------------------------------------

    def missing_indexes(self) -> list[tuple[str, str]]:
        """Return (collection, index) of each missing index. Their names in the database do not matter."""
        missing = []
        for collection, name, keys, options in INDEXES:
            there = self.database[f"{self.name}.{collection}"].index_information().values()
            if not any(_serves(index, keys, options) for index in there):
                missing.append((f"{self.name}.{collection}", name))
        return missing

    def create_indexes(self) -> None:
        """Create missing indexes."""
        missing = self.missing_indexes()
        for collection, name, keys, options in INDEXES:
            full = f"{self.name}.{collection}"
            if (full, name) in missing:
                self.database[full].create_index(keys, name=name, **options)

    # --- questions --------------------------------------------------------------------------------------

    def revisions(self, name: str) -> list[Document]:
        """Return all revisions of a file, the newest last."""
        found = self.files.find({"filename": name}).sort(BY_NAME)
        return [doc for doc in found if isinstance(doc["filename"], str)]  # not a list that contains the name

    def has_file(self, name: str) -> bool:
        """Return whether there is a file with that name."""
        with self.files.find({"filename": name}, {"filename": 1}) as found:
            return any(isinstance(doc["filename"], str) for doc in found)

    def lookup(self, names: list[str]) -> dict[str, Entry]:
        """Return the entry at each of some names, without directories that exist only because of their files.

        A file hides a directory or a link of its name. (Only other programs can cause that.)
        """
        wanted = names[0] if len(names) == 1 else {"$in": names}
        found = {doc["path"]: self.node_entry(doc) for doc in self.nodes.find({"path": wanted})}
        newest: dict[str, Document] = {}
        for doc in self.files.find({"filename": wanted}):
            filename = doc["filename"]
            if not isinstance(filename, str):
                continue  # a list that contains such a name
            if uploaded(doc) >= uploaded(newest.get(filename, doc)):
                newest[filename] = doc
        found.update((name, self.file_entry(doc)) for name, doc in newest.items())
        return found

    def implied(self, name: str) -> Entry | None:
        """Return the directory of that name if a file is in it or below, else None."""
        first = below(name)
        condition = {"filename": {"$gte": first, "$lt": after(first)}}
        doc = self.files.find_one(condition, {"uploadDate": 1}, sort=BY_NAME)
        return None if doc is None else self.implied_entry(name, uploaded(doc))

    def has_children(self, name: str) -> bool:
        """Return whether a directory has any content."""
        return self.nodes.find_one({"parent": name}, {"_id": 1}) is not None or self.implied(name) is not None

    def figures(self) -> os.statvfs_result:
        """Return the usage of the database's file system; if the database does not say, there is space."""
        stats = self.database.command("dbStats")
        used = int(stats.get("fsUsedSize") or stats.get("totalSize") or stats.get("dataSize") or 0)
        total = int(stats.get("fsTotalSize") or used + UNKNOWN_ROOM)
        blocks, free = total // BLOCK, max(0, total - used) // BLOCK
        # The number of free files is unknown; report one per free block.
        return os.statvfs_result((BLOCK, BLOCK, blocks, free, free, blocks, free, free, 0, NAME_MAX, 0))

    # --- documents --------------------------------------------------------------------------------------

    def file_entry(self, doc: Document) -> Entry:
        """Return the entry for a document of BUCKET.files."""
        return Entry(
            doc["filename"], "", doc, self._attributes("", length(doc), metadata(doc), uploaded(doc))
        )

    def node_entry(self, doc: Document) -> Entry:
        """Return the entry for a document of BUCKET.nodes. Raises SFTPFailure for a newer version's."""
        if NODE.problem(doc.get("version")) is not None:
            raise SFTPFailure("A newer version of the server made this: its format is not known here")
        kind = doc.get("kind")
        size = BLOCK if kind == DIRECTORY else len(to_bytes(str(doc.get("target", ""))))
        kind = DIRECTORY if kind == DIRECTORY else SYMLINK
        return Entry(doc["path"], kind, doc, self._attributes(kind, size, doc, self.began))

    def implied_entry(self, name: str, moment: datetime.datetime | int) -> Entry:
        """Return the entry of a directory without a document."""
        return Entry(name, DIRECTORY, None, self._attributes(DIRECTORY, BLOCK, {}, moment))

    def _attributes(
        self, kind: str, size: int, known: Document, moment: datetime.datetime | int
    ) -> SFTPAttributes:
        permissions = known.get("permissions")
        if not isinstance(permissions, int):
            permissions = DEFAULT_MODES[kind]
        uid, gid = known.get("uid"), known.get("gid")
        if not is_number(uid) or not is_number(gid):
            uid, gid = self.owner
        mtime = seconds(known.get("mtime"), moment)
        atime = seconds(known.get("atime"), None)
        mode = TYPES[kind] | permissions & 0o7777
        return SFTPAttributes(
            size, uid, gid, mode, mtime if atime is None else atime, mtime, 2 if kind == DIRECTORY else 1
        )

    def node(self, name: str, kind: str, mode: int, **more: Any) -> Document:
        """Return a new document for BUCKET.nodes."""
        now = datetime.datetime.now(datetime.UTC)
        return {
            **placed(name, kind),
            "kind": kind,
            "permissions": mode & 0o7777,
            "uid": self.owner[0],
            "gid": self.owner[1],
            "mtime": now,
            **more,
        }

    # --- several changes as one ---------------------------------------------------------------------------

    def atomically(self, change: Callable[[ClientSession | None], T]) -> T:
        """Call change with a transaction's session, or with None on a server that has no transactions."""
        if self._has_transactions is None:
            hello = self._hello()
            self._has_transactions = "setName" in hello or hello.get("msg") == "isdbgrid"
        if not self._has_transactions:
            return change(None)
        # On its own, the driver would retry for two minutes after the database is gone.
        with pymongo.timeout(TRANSACTION_LASTS), self.client.start_session() as session:
            return session.with_transaction(
                change,
                read_concern=ReadConcern("snapshot"),
                write_concern=self.database.write_concern,
                read_preference=ReadPreference.PRIMARY,
            )

    def now(self) -> float:
        """The time by the server's clock, in seconds since the epoch: its clients' may differ."""
        if self._clock is None:
            self._hello()
        assert self._clock is not None
        return _since_boot() + self._clock

    def _hello(self) -> Document:
        try:
            hello: Document = self.client.admin.command("hello")
        except AutoReconnect:  # the driver repeats reads and writes, but not commands
            hello = self.client.admin.command("hello")
        said = hello["localTime"].replace(tzinfo=datetime.UTC).timestamp()
        self._clock = said - _since_boot()
        return hello

    def new_id(self) -> ObjectId:
        """An identity that says by the server's clock when it was made."""
        return ObjectId(int(self.now()).to_bytes(4, "big") + ObjectId().binary[4:])


def _since_boot() -> float:
    """Seconds since this machine was started, including those in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _serves(index: Document, keys: list[tuple[str, int]], options: Document) -> bool:
    """Return whether an index is the one that is needed. A hashed or partial one is not."""
    is_partial = "partialFilterExpression" in index
    return (
        [(field, int(way)) for field, way in index["key"] if isinstance(way, (int, float))] == keys
        and (not options.get("unique") or bool(index.get("unique")))
        and is_partial == ("partialFilterExpression" in options)
        and not index.get("sparse")
    )


def placed(name: str, kind: str) -> Document:
    """Return the fields of BUCKET.nodes that say where an entry is.

    key: the sort key of listings; a directory's ends with a slash, like the start of the filenames in it.
    """
    parent = parent_of(name) if name else None  # the top has no parent
    return {"path": name, "parent": parent, "key": f"{name}/" if kind == DIRECTORY else name}


def metadata(doc: Document) -> Document:
    """Return the metadata of a file; {} if another program has stored something else there."""
    known = doc.get("metadata")
    return known if isinstance(known, dict) else {}


def revision(doc: Document | None) -> int:
    """Return the number of a revision; 0 if SFTP has not stored it."""
    number = metadata(doc).get("revision") if doc is not None else None
    return _whole(number)


def uploaded(doc: Document) -> int:
    """Return when a file was stored, in milliseconds since the epoch; the newest is the current one."""
    moment = milliseconds(doc.get("uploadDate"))
    return moment if moment is not None else NO_TIME


def milliseconds(moment: object) -> int | None:
    """Return a BSON time in milliseconds since the epoch, or None. (The driver has two types for times.)"""
    if isinstance(moment, datetime.datetime):
        return (moment - EPOCH) // ONE_MILLISECOND
    return int(moment) if isinstance(moment, DatetimeMS) else None


def _whole(number: object) -> int:
    """Return a number as an integer of at most 64 bits, or 0. (Some drivers store doubles.)"""
    if not isinstance(number, (int, float)) or not math.isfinite(number):
        return 0
    return min(max(0, int(number)), MOST_INT64)


def length(doc: Document) -> int:
    """Return the size of a file in bytes. (Some drivers store it as a double.)"""
    return _whole(doc.get("length"))


def is_number(value: object) -> bool:
    """Return whether a value is a valid uid or gid in SFTP."""
    return isinstance(value, int) and 0 <= value < 1 << 32


def chunk_size(doc: Document) -> int:
    """Return the size of a file's chunks in bytes; the last one may be shorter."""
    return _whole(doc.get("chunkSize")) or CHUNK_SIZE


def moment_of(number: int) -> datetime.datetime:
    """Convert seconds since the epoch to a BSON time."""
    return EPOCH + datetime.timedelta(seconds=number)


def seconds(moment: object, otherwise: datetime.datetime | int | None) -> int | None:
    """Convert a BSON time to seconds since the epoch. otherwise: used, and converted, if it is not a time."""
    number = milliseconds(moment)
    if number is None:
        number = otherwise if isinstance(otherwise, int) else milliseconds(otherwise)
    return None if number is None else min(max(0, number // 1000), MOST_SECONDS)


def changes(attrs: SFTPAttributes) -> Document:
    """Return the fields of a document for the attributes that are set, without the size."""
    fields: Document = {}
    if attrs.permissions is not None:
        fields["permissions"] = attrs.permissions & 0o7777
    for name in ("uid", "gid"):
        if getattr(attrs, name) is not None:
            fields[name] = Int64(getattr(attrs, name))
    for name in ("atime", "mtime"):
        if getattr(attrs, name) is not None:
            fields[name] = moment_of(getattr(attrs, name))
    return fields


def key_of(identity: object) -> Hashable:
    """Return a query for an _id of any type: other programs may use documents as identifiers."""
    return bson.encode({"_id": identity})


def delete_chunks(bucket: Bucket, ids: Iterable[Any]) -> None:
    """Remove the chunks of files whose documents are gone."""
    wanted = list(ids)
    if wanted:
        bucket.chunks.delete_many({"files_id": wanted[0] if len(wanted) == 1 else {"$in": wanted}})
