"""The documents of files: how one takes the place of another, moves, or goes.

GridFS may have many files of one name, and the newest is the one. So a file is replaced by inserting the
document of the new one, which is a single change whatever server it is; what it replaces is removed after
that. Files that SFTP stores are numbered per name (metadata.revision), and a unique index makes sure that of
two servers that store, or rename to, the same name at the same time, only one can do it without having seen
the other. That number alone does not tell of what came and went in between, so whoever takes a file's place
also has to be the one that removes it (or, where revisions are kept, takes its number away): two cannot both.
A document that is gone does not come back, for whoever misses it removes its chunks: one that others have got
ahead of is numbered anew where it is. It is newer then, so what is to be replaced is removed as long as it is
as old as it was seen, and not later.
What may not enter: paths, open files, chunks but to remove them.
Facts: GridFS's specification on revisions; MongoDB's manual: changes of one document are atomic.
"""

from __future__ import annotations

import datetime
import errno
import zlib

from bson import Int64
from bson.datetime_ms import DatetimeMS
from pymongo.errors import PyMongoError

from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.bucket import (
    MOST_INT64,
    NO_TIME,
    Bucket,
    DuplicateKeyError,
    delete_chunks,
    key_of,
    metadata,
    milliseconds,
    revision,
    uploaded,
)
from pysftpserver.storages.mongo.errors import fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Document = dict[str, Any]

ATTEMPTS = 20  # at a name that others store to all the time
NOT_TAKEN_OVER = ("_id", "md5", "length", "chunkSize", "uploadDate", "filename", "metadata")
ANYTHING = object()  # as what is expected at a name
CHANGED = "Somebody else has changed or removed this file meanwhile; nothing was stored"


class Conflict(SFTPFailure):
    """Somebody else was faster."""


def publish(
    bucket: Bucket, name: str, content: Document, fields: Document, expected: object, keep: bool
) -> tuple[Document, list[Any]]:
    """Make finished chunks the newest revision of a name.

    content: _id, length and chunkSize. fields: of the metadata; the others stay as they are in what is
    replaced. expected: the _id of what must be there now, None for nothing, ANYTHING. keep: whether what is
    replaced stays, as a revision. Returns the document, and the _ids of those that are gone: their chunks are
    to be removed. Raises FileExistsError, IsADirectoryError, Conflict; and with what the driver raises, it is
    not known whether the document is there: see revoke().
    """
    doc: Document | None = None  # as an attempt has stored it, which others have got ahead of
    for _ in range(ATTEMPTS):
        there = bucket.revisions(name)
        others = [other for other in there if other["_id"] != content["_id"]]
        current = others[-1] if others else None
        error = _unexpected(current, expected)
        if error is not None:
            return _taken_back(bucket, doc, error)
        new = _document(name, content, {**fields, "revision": _next_number(name, there)}, current)
        try:
            if doc is None:
                bucket.files.insert_one(new)
            elif not _renew(bucket, doc, new):
                return doc, []  # others have already replaced, renamed or removed it
        except DuplicateKeyError:
            continue  # another server has just stored its own
        doc = new
        if current is None and not keeps_its_name(bucket, name):
            return _taken_back(bucket, doc, fail(errno.EEXIST if expected is None else errno.EISDIR))
        try:
            gone = _take_the_place(bucket, doc, current, expected, keep)
        except PyMongoError:
            return doc, []  # it is stored; what it replaces is hidden, and goes with the next one
        if gone is not None:
            return doc, gone
    return _taken_back(bucket, doc, Conflict("Others store to this name all the time; nothing was stored"))


def _taken_back(bucket: Bucket, doc: Document | None, error: Exception) -> tuple[Document, list[Any]]:
    """Raise what speaks against a document, which is not there afterwards; but if others have done something
    with it already, it has been the file, and was stored: its chunks have to stay where it is."""
    if doc is None or _withdraw(bucket, doc):
        raise error
    return doc, []


def _renew(bucket: Bucket, doc: Document, new: Document) -> bool:
    """Put a document in its own place; False when others have already replaced, renamed or removed it."""
    last = bucket.files.find_one_and_replace(_as_it_is(doc, doc["filename"]), new)
    if last is not None:
        _take_over(bucket, new, doc, last)
    return last is not None


def _take_the_place(
    bucket: Bucket, doc: Document, current: Document | None, expected: object, keep: bool
) -> list[Any] | None:
    """Have what was there make way for a document that has just been stored; the _ids of what is gone.

    None: somebody has stored something else meanwhile, and nothing was done.
    """
    name = doc["filename"]
    latest = uploaded(current) if current is not None else None
    condition: Document = {"filename": name, "_id": {"$ne": doc["_id"]}}
    if keep and latest is not None:
        condition["uploadDate"] = {"$gt": DatetimeMS(latest)}  # there may be any number of older ones
    older = []
    for other in bucket.files.find(condition, {"uploadDate": 1, "filename": 1}):
        if not isinstance(other["filename"], str):
            continue
        if latest is None or uploaded(other) > latest:
            return None
        if current is not None and other["_id"] != current["_id"]:
            older.append(other["_id"])
    if current is None:
        return []
    last = _supersede(bucket, name, current, keep)
    if last is None:
        if expected is not ANYTHING and _withdraw(bucket, doc):
            raise Conflict(CHANGED)
    else:
        _take_over(bucket, doc, current, last)
    if keep:
        return []
    # Only now: were the others gone before, and that one somebody else's, nothing would be left.
    if last is None:
        return _clear(bucket, doc["_id"], name, [*older, current["_id"]], uploaded(current))
    return [current["_id"], *_clear(bucket, doc["_id"], name, older, uploaded(current))]


def _clear(bucket: Bucket, newest: Any, name: str, ids: list[Any], latest: int) -> list[Any]:
    """Remove what a document has replaced and is not newer than latest; the _ids of those that are gone."""
    gone = delete(bucket, name, ids, latest)
    if len(gone) < len(ids):
        # Who renames the file now takes them along.
        moved = bucket.files.find_one({"_id": newest, "filename": {"$ne": name}}, {"filename": 1})
        if moved is not None:
            gone += delete(bucket, moved["filename"], [other for other in ids if other not in gone], latest)
    return gone


def _withdraw(bucket: Bucket, doc: Document) -> bool:
    """Take a document back; False when others have already replaced, renamed or removed it."""
    return bool(bucket.files.delete_one(_as_it_is(doc, doc["filename"])).deleted_count)


def revoke(bucket: Bucket, identity: Any, name: str) -> bool:
    """Take back a document of which it is not known whether it is there; whether it is not."""
    bucket.files.delete_one({"_id": identity, "filename": name})
    return bucket.files.find_one({"_id": identity}, {"_id": 1}) is None


def _supersede(bucket: Bucket, name: str, doc: Document, keep: bool) -> Document | None:
    """Take a revision's place; it, as it was at last. None: others have replaced, moved or removed it."""
    if not keep:
        here = {"_id": doc["_id"], "filename": name, "uploadDate": _not_after(uploaded(doc))}
        return bucket.files.find_one_and_delete(here)
    return bucket.files.find_one_and_update(_as_it_is(doc, name), {"$unset": {"metadata.revision": ""}})


def _as_it_is(doc: Document, name: str) -> Document:
    """The condition that a document has that name, and its number, still. What is no document has none."""
    here = {"_id": doc["_id"], "filename": name}
    if isinstance(doc.get("metadata", {}), dict):
        here["metadata.revision"] = metadata(doc).get("revision")  # None is that of what has none, too
    return here


def _not_after(latest: int) -> Document:
    """The condition on uploadDate that a file is not newer than latest.

    One that is has taken the place of what has taken its place. What is no time is older than any.
    """
    return {"$not": {"$type": "date"} if latest == NO_TIME else {"$gt": DatetimeMS(latest)}}


def _take_over(bucket: Bucket, doc: Document, before: Document, last: Document) -> None:
    """What somebody has changed of a file's metadata while it was being replaced holds for its successor."""
    known, new = metadata(before), metadata(doc)
    late = {
        key: value
        for key, value in metadata(last).items()
        if key != "revision" and value != known.get(key) and new.get(key) == known.get(key)
    }
    if late:
        set_fields(bucket, doc, late)
        new.update(late)


def _unexpected(current: Document | None, expected: object) -> Exception | None:
    """FileExistsError or Conflict when something else is there."""
    if expected is ANYTHING or (current["_id"] if current is not None else None) == expected:
        return None
    return fail(errno.EEXIST) if expected is None else Conflict(CHANGED)


def _document(name: str, content: Document, fields: Document, current: Document | None) -> Document:
    now = milliseconds(datetime.datetime.now(datetime.UTC)) or 0
    known: Document = {}
    if current is not None:
        known = {key: value for key, value in current.items() if key not in NOT_TAKEN_OVER}
        now = max(now, min(uploaded(current) + 1, MOST_INT64))  # whatever the other one's clock said
    return {
        **known,
        "_id": content["_id"],
        "length": Int64(content["length"]),
        "chunkSize": content["chunkSize"],
        "uploadDate": DatetimeMS(now),
        "filename": name,
        "metadata": {**_kept_metadata(current or {}), **fields},
    }


def _next_number(name: str, there: list[Document]) -> Int64:
    """The number of what is stored over some revisions; other programs' have none.

    Those of a name begin where no other name's do, so that another program may rename one file to another.
    """
    highest = max(map(revision, there), default=0)
    highest = highest if highest < MOST_INT64 else 0  # somebody's idea of a number
    return Int64((highest or zlib.crc32(name.encode()) << 20) + 1)


def _kept_metadata(doc: Document) -> Document:
    """The metadata of a file, to be changed; what another program has there instead of fields becomes one."""
    known = doc.get("metadata")
    return metadata(doc) if known is None or isinstance(known, dict) else {"value": known}


def keeps_its_name(bucket: Bucket, name: str) -> bool:
    """Whether a name that was free is still that of no directory and no link, now that a file has it.

    Who makes one of those asks the same about files afterwards: one of the two sees the other.
    """
    return bucket.nodes.find_one({"path": name}, {"_id": 1}) is None


def delete(bucket: Bucket, name: str, ids: list[Any], latest: int) -> list[Any]:
    """Remove documents of a name that are not newer than latest; the _ids of those that are gone.

    Others may have renamed some meanwhile, or removed them: those are gone for good, too.
    """
    if not ids:
        return []
    wanted = {"$in": ids}
    condition = {"_id": wanted, "filename": name, "uploadDate": _not_after(latest)}
    if bucket.files.delete_many(condition).deleted_count == len(ids):
        return ids
    left = {key_of(doc["_id"]) for doc in bucket.files.find({"_id": wanted}, {"_id": 1})}
    return [identity for identity in ids if key_of(identity) not in left]


def remove(bucket: Bucket, name: str) -> list[Any]:
    """Remove all revisions of a file; their _ids. Raises FileNotFoundError when another was faster."""
    gone: list[Any] = []
    for _ in range(ATTEMPTS):
        there = bucket.revisions(name)
        if not there and gone:
            return gone  # what was the newest has been taken back, or replaced and removed, by others
        if not there:
            raise fail(errno.ENOENT)
        # The newest last: who is killed in between has not brought back an older one.
        gone += delete(bucket, name, [doc["_id"] for doc in there[:-1]], uploaded(there[-1]))
        if bucket.files.delete_one(_as_it_is(there[-1], name)).deleted_count:
            return [*gone, there[-1]["_id"]]
    raise Conflict("Others store to this name all the time; it was not removed")


def move(bucket: Bucket, old: str, new: str, replace: bool, keep: bool) -> list[Any]:
    """Rename a file with its revisions, and replace what is there only if asked; the _ids of what is gone.

    The newest moves first, in one change: from then on it is at the new name. (If there are older ones, the
    last of them is seen at the old name until it has followed.) Raises FileNotFoundError, FileExistsError,
    Conflict.
    """
    for _ in range(ATTEMPTS):
        try:
            gone = _move(bucket, old, new, replace, keep)
        except DuplicateKeyError:
            if not replace:
                raise fail(errno.EEXIST) from None
            continue
        if gone is not None:
            return gone
    raise Conflict("Others store to this name all the time; nothing was renamed")


def _move(bucket: Bucket, old: str, new: str, replace: bool, keep: bool) -> list[Any] | None:
    """None: somebody has replaced, moved or removed the newest revision meanwhile."""
    revisions = bucket.revisions(old)
    if not revisions:
        raise fail(errno.ENOENT)
    newest = revisions[-1]
    there = bucket.revisions(new)
    if there and not replace:
        raise fail(errno.EEXIST)
    fields = _fields_to_move(newest, new, there)
    if not bucket.files.update_one(_as_it_is(newest, old), {"$set": fields}).matched_count:
        return None
    if len(revisions) > 1:
        # They follow; without their numbers, for these are the new name's.
        others = {
            "_id": {"$in": [doc["_id"] for doc in revisions[:-1]]},
            "filename": old,
            "uploadDate": _not_after(uploaded(newest)),
        }
        bucket.files.update_many(others, {"$set": {"filename": new}, "$unset": {"metadata.revision": ""}})
    if keep or not there:
        return []
    return _clear(bucket, newest["_id"], new, [doc["_id"] for doc in there], uploaded(there[-1]))


def _fields_to_move(doc: Document, new: str, there: list[Document]) -> Document:
    """What changes in the document of a file that takes a new name, from those that have it already."""
    fields: Document = {"filename": new}
    known = _kept_metadata(doc)
    inner: Document = {"revision": _next_number(new, there)}
    if there and uploaded(there[-1]) >= uploaded(doc):
        inner |= {"mtime": known.get("mtime", doc.get("uploadDate"))}
        fields["uploadDate"] = DatetimeMS(min(uploaded(there[-1]) + 1, MOST_INT64))
    if isinstance(doc.get("metadata", {}), dict):
        return fields | {f"metadata.{key}": value for key, value in inner.items()}
    return fields | {"metadata": {**known, **inner}}  # a field of what is none cannot be set


def set_fields(bucket: Bucket, doc: Document, fields: Document) -> bool:
    """Change fields of a file's metadata; whether it is still there."""
    if isinstance(doc.get("metadata", {}), dict):
        change: Document = {f"metadata.{key}": value for key, value in fields.items()}
    else:
        change = {"metadata": {**_kept_metadata(doc), **fields}}
    return bool(bucket.files.update_one({"_id": doc["_id"]}, {"$set": change}).matched_count)


def remove_chunks(bucket: Bucket, ids: Iterable[Any], is_needed: Callable[[Any], bool]) -> list[Any]:
    """Remove the chunks of files that are gone, but for those that are still read here; the latter's _ids."""
    needed: list[Any] = []
    free: list[Any] = []
    for identity in ids:
        (needed if is_needed(identity) else free).append(identity)
    delete_chunks(bucket, free)
    return needed
