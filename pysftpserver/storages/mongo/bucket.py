"""A GridFS bucket with directories and links: its collections, their indexes, and what they are asked.

Files are GridFS's own documents, in BUCKET.files and BUCKET.chunks, with what SFTP knows of a file beside
whatever else is in their metadata. GridFS has no directories and no links: those are in BUCKET.nodes, one
document each, so that a program that reads the bucket meets nothing but files. docs/gridfs.md has the fields.
What may not enter: paths as clients send them, sessions, open files.
Facts: GridFS's specification; MongoDB's manual on indexes, read and write concerns, and transactions.
"""

from __future__ import annotations

import datetime
import math
import os
from stat import S_IFDIR, S_IFLNK, S_IFREG

import bson
import pymongo
from bson import Int64
from bson.datetime_ms import DatetimeMS
from pymongo import ASCENDING, ReadPreference, WriteConcern, errors
from pymongo.read_concern import ReadConcern

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.storages.mongo.names import NAME_MAX, after, below, parent_of, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Any, TypeVar

    from pymongo import MongoClient
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection

    Document = dict[str, Any]
    T = TypeVar("T")

CHUNK_SIZE = 255 * 1024  # bytes; GridFS's default, and what OpenSSH's client sends at once
TRANSACTION_LASTS = 30.0  # seconds, all attempts at it included; as long as the driver looks for a server
DIRECTORY, SYMLINK = "directory", "symlink"
BLOCK = 4096  # bytes; in figures, and the size of a directory in listings
UNKNOWN_ROOM = 1 << 40  # bytes that are said to be free where the database does not tell
DEFAULT_MODES = {DIRECTORY: 0o755, SYMLINK: 0o777, "": 0o644}  # of what SFTP did not make
TYPES = {DIRECTORY: S_IFDIR, SYMLINK: S_IFLNK, "": S_IFREG}
BY_NAME = [("filename", ASCENDING), ("uploadDate", ASCENDING)]
ONE_MILLISECOND = datetime.timedelta(milliseconds=1)  # BSON's resolution
EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
MOST_INT64 = (1 << 63) - 1
NO_TIME = -MOST_INT64  # as when a file was stored that does not say so
MOST_SECONDS = (1 << 32) - 1  # what SFTP's version 3 can say
#: (collection, name, keys, what else): what GridFS asks for, and what this storage does.
INDEXES: tuple[tuple[str, str, list[tuple[str, int]], Document], ...] = (
    ("files", "filename_1_uploadDate_1", BY_NAME, {}),
    ("chunks", "files_id_1_n_1", [("files_id", 1), ("n", 1)], {"unique": True}),
    (
        "files",
        "sftp_revision",
        [("filename", 1), ("metadata.revision", 1)],
        # Only of what SFTP has stored: other programs may have as many files of a name as they like.
        {"unique": True, "partialFilterExpression": {"metadata.revision": {"$exists": True}}},
    ),
    ("nodes", "path_1", [("path", 1)], {"unique": True}),
    ("nodes", "parent_1_kind_1_key_1", [("parent", 1), ("kind", 1), ("key", 1)], {}),
)


class Entry:
    """What is at a name: a file, a directory or a link.

    doc: its document; None for a directory that is there only because files are in it. kind: "" for a file.
    """

    __slots__ = ("attrs", "doc", "kind", "name")

    def __init__(self, name: str, kind: str, doc: Document | None, attrs: SFTPAttributes) -> None:
        self.name = name
        self.kind = kind
        self.doc = doc
        self.attrs = attrs


class Bucket:
    """The collections of one bucket, and what is in their documents.

    owner: uid and gid of what has none. What is written is on a majority of the members before it counts as
    written, and everything is read from the primary, unless the URI says otherwise of the write concern.
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
        # A filename that is no UTF-8 must be told from one that has U+FFFD in it.
        options = self.files.codec_options.with_options(unicode_decode_error_handler="surrogateescape")
        self.names: Collection[Document] = self.files.with_options(codec_options=options)
        self._has_transactions: bool | None = None

    # --- indexes ----------------------------------------------------------------------------------------

    def missing_indexes(self) -> list[tuple[str, str]]:
        """(collection, index) of those that are not there, whatever they are called."""
        missing = []
        for collection, name, keys, options in INDEXES:
            there = self.database[f"{self.name}.{collection}"].index_information().values()
            if not any(_serves(index, keys, options) for index in there):
                missing.append((f"{self.name}.{collection}", name))
        return missing

    def create_indexes(self) -> None:
        """Create those that are missing."""
        missing = self.missing_indexes()
        for collection, name, keys, options in INDEXES:
            full = f"{self.name}.{collection}"
            if (full, name) in missing:
                self.database[full].create_index(keys, name=name, **options)

    # --- questions --------------------------------------------------------------------------------------

    def revisions(self, name: str) -> list[Document]:
        """All revisions of a file, the newest last."""
        found = self.files.find({"filename": name}).sort(BY_NAME)
        return [doc for doc in found if isinstance(doc["filename"], str)]  # no list with that name in it

    def has_file(self, name: str) -> bool:
        """Whether there is a file of that name."""
        with self.files.find({"filename": name}, {"filename": 1}) as found:
            return any(isinstance(doc["filename"], str) for doc in found)

    def lookup(self, names: list[str]) -> dict[str, Entry]:
        """What is at each of some names. A directory that only its files imply is not among it.

        A file hides a directory or a link of its name, which only other programs can bring about.
        """
        wanted = names[0] if len(names) == 1 else {"$in": names}
        found = {doc["path"]: self.node_entry(doc) for doc in self.nodes.find({"path": wanted})}
        newest: dict[str, Document] = {}
        for doc in self.files.find({"filename": wanted}):
            filename = doc["filename"]
            if not isinstance(filename, str):
                continue  # a list with such a name in it
            if uploaded(doc) >= uploaded(newest.get(filename, doc)):
                newest[filename] = doc
        found.update((name, self.file_entry(doc)) for name, doc in newest.items())
        return found

    def implied(self, name: str) -> Entry | None:
        """The directory of that name, if a file is in it or further down."""
        first = below(name)
        condition = {"filename": {"$gte": first, "$lt": after(first)}}
        doc = self.files.find_one(condition, {"uploadDate": 1}, sort=BY_NAME)
        return None if doc is None else self.implied_entry(name, uploaded(doc))

    def has_children(self, name: str) -> bool:
        """Whether anything is in a directory."""
        return self.nodes.find_one({"parent": name}, {"_id": 1}) is not None or self.implied(name) is not None

    def figures(self) -> os.statvfs_result:
        """How full the database's file system is; where it does not tell, there is room."""
        stats = self.database.command("dbStats")
        used = int(stats.get("fsUsedSize") or stats.get("totalSize") or stats.get("dataSize") or 0)
        total = int(stats.get("fsTotalSize") or used + UNKNOWN_ROOM)
        blocks, free = total // BLOCK, max(0, total - used) // BLOCK
        # How many files there is room for, nobody knows; as many as blocks, as if each had one.
        return os.statvfs_result((BLOCK, BLOCK, blocks, free, free, blocks, free, free, 0, NAME_MAX, 0))

    # --- documents --------------------------------------------------------------------------------------

    def file_entry(self, doc: Document) -> Entry:
        """What a document of BUCKET.files says."""
        return Entry(
            doc["filename"], "", doc, self._attributes("", length(doc), metadata(doc), uploaded(doc))
        )

    def node_entry(self, doc: Document) -> Entry:
        """What a document of BUCKET.nodes says."""
        kind = doc.get("kind")
        size = BLOCK if kind == DIRECTORY else len(to_bytes(str(doc.get("target", ""))))
        kind = DIRECTORY if kind == DIRECTORY else SYMLINK
        return Entry(doc["path"], kind, doc, self._attributes(kind, size, doc, self.began))

    def implied_entry(self, name: str, moment: datetime.datetime | int) -> Entry:
        """A directory without a document."""
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
        """A new document for BUCKET.nodes."""
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
            hello = self.client.admin.command("hello")
            self._has_transactions = "setName" in hello or hello.get("msg") == "isdbgrid"
        if not self._has_transactions:
            return change(None)
        # The driver alone would go on trying for two minutes, with a database that is gone.
        with pymongo.timeout(TRANSACTION_LASTS), self.client.start_session() as session:
            return session.with_transaction(
                change,
                read_concern=ReadConcern("snapshot"),
                write_concern=self.database.write_concern,
                read_preference=ReadPreference.PRIMARY,
            )


def _serves(index: Document, keys: list[tuple[str, int]], options: Document) -> bool:
    """Whether an index does what is asked for. A hashed one, or one on part of the documents, does not."""
    is_partial = "partialFilterExpression" in index
    return (
        [(field, int(way)) for field, way in index["key"] if isinstance(way, (int, float))] == keys
        and (not options.get("unique") or bool(index.get("unique")))
        and is_partial == ("partialFilterExpression" in options)
        and not index.get("sparse")
    )


def placed(name: str, kind: str) -> Document:
    """The fields of BUCKET.nodes that say where something is.

    key: what listings are sorted by; that of a directory ends with a slash, as the filenames in it go on.
    """
    parent = parent_of(name) if name else None  # the top is in no directory
    return {"path": name, "parent": parent, "key": f"{name}/" if kind == DIRECTORY else name}


def metadata(doc: Document) -> Document:
    """The metadata of a file; other programs may have stored what is none."""
    known = doc.get("metadata")
    return known if isinstance(known, dict) else {}


def revision(doc: Document | None) -> int:
    """The number of a revision; 0 for what SFTP has not stored."""
    number = metadata(doc).get("revision") if doc is not None else None
    return _whole(number)


def uploaded(doc: Document) -> int:
    """When a file was stored, in milliseconds since the epoch; GridFS calls the newest the current one."""
    moment = milliseconds(doc.get("uploadDate"))
    return moment if moment is not None else NO_TIME


def milliseconds(moment: object) -> int | None:
    """A time of BSON's, since the epoch; None for what is none. The driver has two types for them."""
    if isinstance(moment, datetime.datetime):
        return (moment - EPOCH) // ONE_MILLISECOND
    return int(moment) if isinstance(moment, DatetimeMS) else None


def _whole(number: object) -> int:
    """A number of at most 64 bits without its fraction, 0 for what is none; some drivers store doubles."""
    if not isinstance(number, (int, float)) or not math.isfinite(number):
        return 0
    return min(max(0, int(number)), MOST_INT64)


def length(doc: Document) -> int:
    """The size of a file in bytes; some drivers store it as a double."""
    return _whole(doc.get("length"))


def is_number(value: object) -> bool:
    """Whether that is one of a user or a group, as SFTP can say it."""
    return isinstance(value, int) and 0 <= value < 1 << 32


def chunk_size(doc: Document) -> int:
    """The size of a file's chunks in bytes, but the last one's."""
    return _whole(doc.get("chunkSize")) or CHUNK_SIZE


def moment_of(number: int) -> datetime.datetime:
    """A time of SFTP's, seconds since the epoch, as BSON has it."""
    return EPOCH + datetime.timedelta(seconds=number)


def seconds(moment: object, otherwise: datetime.datetime | int | None) -> int | None:
    """The other way round; of what is no time, otherwise's, which may be in milliseconds."""
    number = milliseconds(moment)
    if number is None:
        number = otherwise if isinstance(otherwise, int) else milliseconds(otherwise)
    return None if number is None else min(max(0, number // 1000), MOST_SECONDS)


def changes(attrs: SFTPAttributes) -> Document:
    """The fields of a document that hold attributes, for those that are set; the size is not one of them."""
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
    """What an _id can be looked up by, whatever it is: other programs may have made documents of theirs."""
    return bson.encode({"_id": identity})


def delete_chunks(bucket: Bucket, ids: Iterable[Any]) -> None:
    """Remove the chunks of files whose documents are gone."""
    wanted = list(ids)
    if wanted:
        bucket.chunks.delete_many({"files_id": wanted[0] if len(wanted) == 1 else {"$in": wanted}})


DuplicateKeyError = errors.DuplicateKeyError
