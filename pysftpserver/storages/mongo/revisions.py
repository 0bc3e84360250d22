"""Replaces, renames and removes the documents of files, also while other servers do the same.

GridFS may have many files of one name, and the newest is the current one. So a file is replaced by inserting
the document of the new one, which is atomic on every server; the documents that it replaces are removed after
that. Files that SFTP stores have a number per name (metadata.revision). With a unique index on it, of two
servers that store or rename to the same name at the same time, only one succeeds without having seen the
other. The number alone does not show files that came and went in between. Therefore the server that replaces
a file also has to be the one that removes it (or, if revisions are kept, removes its number), which only one
can do. A document that is gone is never inserted again, because servers that miss it remove its chunks; if
others were faster, it gets a new number in place. It is newer then, so documents to be replaced are removed
only if they are as old as when they were seen.
What may not enter: paths, open files, chunks but to remove them.
Facts: GridFS's specification on revisions; MongoDB's manual: changes of one document are atomic.
"""

from __future__ import annotations

import datetime
import errno
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from bson import Int64
from bson.datetime_ms import DatetimeMS
from pymongo.errors import DuplicateKeyError, PyMongoError

from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.bucket import (
    MOST_INT64,
    NO_TIME,
    Bucket,
    Document,
    delete_chunks,
    key_of,
    metadata,
    milliseconds,
    revision,
    uploaded,
)

ATTEMPTS = 20  # for a name that others store to all the time
NOT_TAKEN_OVER = ("_id", "md5", "length", "chunkSize", "uploadDate", "filename", "metadata")
ANYTHING = object()  # as expected: any file, or no file
CHANGED = "Another session has changed or removed this file meanwhile; nothing was stored"


class Conflict(SFTPFailure):
    """Another session or program changed the file first."""


def publish(
    bucket: Bucket, name: str, content: Document, fields: Document, expected: object, keep: bool
) -> tuple[Document, list[Any]]:
    """Make finished chunks the newest revision of a name.

    content: _id, length and chunkSize. fields: changes of the metadata; the other fields are those of the
    replaced file. expected: the _id of the file that must have the name now, None for no file, or ANYTHING.
    keep: whether the replaced file stays, as a revision. Returns the document, and the _ids of removed
    documents, whose chunks the caller has to remove. Raises FileExistsError, IsADirectoryError, Conflict.
    After an exception of the driver, the document may be stored or not: see revoke().
    """
    doc: Document | None = None  # stored by an earlier attempt, before others were faster
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
                return doc, []  # others have replaced, renamed or removed it already
        except DuplicateKeyError:
            continue  # another server has just stored a file
        doc = new
        if current is None and not keeps_its_name(bucket, name):
            return _taken_back(bucket, doc, os_error(errno.EEXIST if expected is None else errno.EISDIR))
        try:
            gone = _take_the_place(bucket, doc, current, expected, keep)
        except PyMongoError:
            return doc, []  # it is stored; the next one removes what it hides
        if gone is not None:
            return doc, gone
    return _taken_back(bucket, doc, Conflict("Other sessions keep storing to this name; nothing was stored"))


def _taken_back(bucket: Bucket, doc: Document | None, error: Exception) -> tuple[Document, list[Any]]:
    """Withdraw a document and raise the reason.

    If others have changed it already, it was the file for a while and counts as stored: return it, and keep
    its chunks.
    """
    if doc is None or _withdraw(bucket, doc):
        raise error
    return doc, []


def _renew(bucket: Bucket, doc: Document, new: Document) -> bool:
    """Give a document a new number in place; False if others have replaced, renamed or removed it."""
    last = bucket.files.find_one_and_replace(_as_it_is(doc, doc["filename"]), new)
    if last is not None:
        _take_over(bucket, new, doc, last)
    return last is not None


def _take_the_place(
    bucket: Bucket, doc: Document, current: Document | None, expected: object, keep: bool
) -> list[Any] | None:
    """Remove what a document that was just stored replaces; return the _ids of removed documents.

    None: another file was stored meanwhile, and nothing was done.
    """
    name = doc["filename"]
    latest = uploaded(current) if current is not None else None
    condition: Document = {"filename": name, "_id": {"$ne": doc["_id"]}}
    if keep and latest is not None:
        condition["uploadDate"] = {"$gt": DatetimeMS(latest)}  # there may be more, older ones
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
    # Not earlier: without them, no file would be left if another server had removed this one.
    if last is None:
        return _clear(bucket, doc["_id"], name, [*older, current["_id"]], uploaded(current))
    return [current["_id"], *_clear(bucket, doc["_id"], name, older, uploaded(current))]


def _clear(bucket: Bucket, newest: Any, name: str, ids: list[Any], latest: int) -> list[Any]:
    """Remove what a document has replaced and is not newer than latest; return the removed _ids."""
    gone = delete(bucket, name, ids, latest)
    if len(gone) < len(ids):
        # A rename of the file at this moment moves them too.
        moved = bucket.files.find_one({"_id": newest, "filename": {"$ne": name}}, {"filename": 1})
        if moved is not None:
            gone += delete(bucket, moved["filename"], [other for other in ids if other not in gone], latest)
    return gone


def _withdraw(bucket: Bucket, doc: Document) -> bool:
    """Remove a document; return False if others have replaced, renamed or removed it already."""
    return bool(bucket.files.delete_one(_as_it_is(doc, doc["filename"])).deleted_count)


def revoke(bucket: Bucket, identity: Any, name: str) -> bool:
    """Remove a document that may or may not be stored; return whether it is certainly gone."""
    bucket.files.delete_one({"_id": identity, "filename": name})
    return bucket.files.find_one({"_id": identity}, {"_id": 1}) is None


def _supersede(bucket: Bucket, name: str, doc: Document, keep: bool) -> Document | None:
    """Replace a revision; return its last state, or None if others have replaced, moved or removed it."""
    if not keep:
        here = {"_id": doc["_id"], "filename": name, "uploadDate": _not_after(uploaded(doc))}
        return bucket.files.find_one_and_delete(here)
    return bucket.files.find_one_and_update(_as_it_is(doc, name), {"$unset": {"metadata.revision": ""}})


def _as_it_is(doc: Document, name: str) -> Document:
    """Return the condition that a document still has this name, and its number if it can have one."""
    here = {"_id": doc["_id"], "filename": name}
    if isinstance(doc.get("metadata", {}), dict):
        here["metadata.revision"] = metadata(doc).get("revision")  # None also matches a missing field
    return here


def _not_after(latest: int) -> Document:
    """Return the condition on uploadDate that a file is not newer than latest.

    A newer file has replaced its successor. A value that is not a time is older than any time.
    """
    return {"$not": {"$type": "date"} if latest == NO_TIME else {"$gt": DatetimeMS(latest)}}


def _take_over(bucket: Bucket, doc: Document, before: Document, last: Document) -> None:
    """Apply changes of a file's metadata that were made while it was being replaced to its successor."""
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
    """Return FileExistsError or Conflict if another file than expected has the name, else None."""
    if expected is ANYTHING or (current["_id"] if current is not None else None) == expected:
        return None
    return os_error(errno.EEXIST) if expected is None else Conflict(CHANGED)


def _document(name: str, content: Document, fields: Document, current: Document | None) -> Document:
    now = milliseconds(datetime.datetime.now(datetime.UTC)) or 0
    known: Document = {}
    if current is not None:
        known = {key: value for key, value in current.items() if key not in NOT_TAKEN_OVER}
        now = max(now, min(uploaded(current) + 1, MOST_INT64))  # even if the other host's clock is wrong
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
    """Return the number for a file that is stored over some revisions. (Those of other programs have none.)

    Each name starts at a different number, so that another program can rename one file to another.
    """
    highest = max(map(revision, there), default=0)
    highest = highest if highest < MOST_INT64 else 0  # another program's value
    return Int64((highest or zlib.crc32(name.encode()) << 20) + 1)


def _kept_metadata(doc: Document) -> Document:
    """Return a copy of a file's metadata; a value that is not a document becomes a field of one."""
    known = doc.get("metadata")
    return metadata(doc) if known is None or isinstance(known, dict) else {"value": known}


def keeps_its_name(bucket: Bucket, name: str) -> bool:
    """Return whether a name that was free has no directory and no link, now that a file has it.

    A session that makes one of those checks for files afterwards, so one of the two sees the other.
    """
    return bucket.nodes.find_one({"path": name}, {"_id": 1}) is None


def delete(bucket: Bucket, name: str, ids: list[Any], latest: int) -> list[Any]:
    """Remove documents of a name that are not newer than latest; return the _ids of those that are gone.

    That includes documents that others have removed meanwhile, and not those that were renamed.
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
    """Remove all revisions of a file; return their _ids. Raises FileNotFoundError if another was faster."""
    gone: list[Any] = []
    for _ in range(ATTEMPTS):
        there = bucket.revisions(name)
        if not there and gone:
            return gone  # others have withdrawn the newest, or replaced and removed it
        if not there:
            raise os_error(errno.ENOENT)
        # The newest last: a server that is killed in between must not bring back an older one.
        gone += delete(bucket, name, [doc["_id"] for doc in there[:-1]], uploaded(there[-1]))
        if bucket.files.delete_one(_as_it_is(there[-1], name)).deleted_count:
            return [*gone, there[-1]["_id"]]
    raise Conflict("Other sessions keep storing to this name; it was not removed")


def move(bucket: Bucket, old: str, new: str, replace: bool, keep: bool) -> list[Any]:
    """Rename a file with its revisions, and replace a file if asked; return the _ids of removed documents.

    The newest revision moves first, which is atomic and makes it the file at the new name. (If there are
    older revisions, the newest of them is visible at the old name until it has moved too.) Raises
    FileNotFoundError, FileExistsError, Conflict.
    """
    for _ in range(ATTEMPTS):
        try:
            gone = _move(bucket, old, new, replace, keep)
        except DuplicateKeyError:
            if not replace:
                raise os_error(errno.EEXIST) from None
            continue
        if gone is not None:
            return gone
    raise Conflict("Other sessions keep storing to this name; nothing was renamed")


def _move(bucket: Bucket, old: str, new: str, replace: bool, keep: bool) -> list[Any] | None:
    """Do one attempt of move(); return None if others have changed the newest revision meanwhile."""
    revisions = bucket.revisions(old)
    if not revisions:
        raise os_error(errno.ENOENT)
    newest = revisions[-1]
    there = bucket.revisions(new)
    if there and not replace:
        raise os_error(errno.EEXIST)
    fields = _fields_to_move(newest, new, there)
    if not bucket.files.update_one(_as_it_is(newest, old), {"$set": fields}).matched_count:
        return None
    if len(revisions) > 1:
        # The older ones follow, without their numbers, which the new name may have already.
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
    """Return the changes for a document that gets the name new, which the documents in there have already."""
    fields: Document = {"filename": new}
    known = _kept_metadata(doc)
    inner: Document = {"revision": _next_number(new, there)}
    if there and uploaded(there[-1]) >= uploaded(doc):
        inner |= {"mtime": known.get("mtime", doc.get("uploadDate"))}
        fields["uploadDate"] = DatetimeMS(min(uploaded(there[-1]) + 1, MOST_INT64))
    if isinstance(doc.get("metadata", {}), dict):
        return fields | {f"metadata.{key}": value for key, value in inner.items()}
    return fields | {"metadata": {**known, **inner}}  # not a document: it has no fields to set


def set_fields(bucket: Bucket, doc: Document, fields: Document) -> bool:
    """Change fields of a file's metadata; return whether the file still exists."""
    if isinstance(doc.get("metadata", {}), dict):
        change: Document = {f"metadata.{key}": value for key, value in fields.items()}
    else:
        change = {"metadata": {**_kept_metadata(doc), **fields}}
    return bool(bucket.files.update_one({"_id": doc["_id"]}, {"$set": change}).matched_count)


def remove_chunks(bucket: Bucket, ids: Iterable[Any], is_needed: Callable[[Any], bool]) -> list[Any]:
    """Remove the chunks of removed files, except those that are still read here; return the _ids of these."""
    needed: list[Any] = []
    free: list[Any] = []
    for identity in ids:
        (needed if is_needed(identity) else free).append(identity)
    delete_chunks(bucket, free)
    return needed
