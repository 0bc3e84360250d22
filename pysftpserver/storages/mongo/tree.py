"""Creates, removes and moves directories, with their content, and links.

A directory needs a document only while it is empty, but gets one whenever SFTP creates it, takes something
out of it or moves it, so that it does not disappear by itself. What may not enter: paths as clients send
them, open files, the content of files.
Facts: MongoDB's manual on transactions: a limit of 60 seconds, and none on the number of documents.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError

from pysftpserver.failures import os_error
from pysftpserver.storages.mongo.bucket import DIRECTORY, SYMLINK, Bucket, Document, placed
from pysftpserver.storages.mongo.names import after, ancestors, below, moved, parent_of

DEFAULT_MODE = 0o755
MOST_AT_ONCE = 20_000  # documents that one transaction moves; more are moved in batches
BATCH = 1000  # changes sent at once
DUPLICATE_KEY = 11000  # code of an error


def make(bucket: Bucket, name: str, kind: str, mode: int, **more: Any) -> None:
    """Create a directory or a link. Raises FileExistsError if there is an entry."""
    settle(bucket, parent_of(name))
    doc = bucket.node(name, kind, mode, **more)
    try:
        bucket.nodes.insert_one(doc)
    except DuplicateKeyError:
        raise os_error(errno.EEXIST) from None
    if bucket.has_file(name):
        bucket.nodes.delete_one({"_id": doc["_id"]})
        raise os_error(errno.EEXIST)
    settle(bucket, parent_of(name))  # in case another session has removed it meanwhile


def settle(bucket: Bucket, name: str) -> None:
    """Give a directory and those above it documents if they have none.

    This includes a storage's top and the directories above that, because others may serve the bucket from
    there.
    """
    if not name:
        return
    wanted = [*ancestors(name), name]
    there = {doc["path"] for doc in bucket.nodes.find({"path": {"$in": wanted}}, {"path": 1})}
    for other in wanted:
        if other not in there:
            give_document(bucket, other)


def give_document(bucket: Bucket, name: str) -> None:
    """Give a directory a document, unless another session has just done so."""
    with contextlib.suppress(DuplicateKeyError):
        bucket.nodes.insert_one(bucket.node(name, DIRECTORY, DEFAULT_MODE))


def remove_link(bucket: Bucket, name: str) -> None:
    """Remove a link. Raises FileNotFoundError if another session was faster."""
    if not bucket.nodes.delete_one({"path": name, "kind": SYMLINK}).deleted_count:
        raise os_error(errno.ENOENT)


def remove_directory(bucket: Bucket, name: str) -> None:
    """Remove an empty directory. Raises FileNotFoundError, or OSError (ENOTEMPTY)."""
    if bucket.has_children(name):
        raise os_error(errno.ENOTEMPTY)
    doc = bucket.nodes.find_one_and_delete({"path": name, "kind": DIRECTORY})
    if doc is None:
        raise os_error(errno.ENOENT)
    if bucket.nodes.find_one({"parent": name}, {"_id": 1}) is not None:
        # Something was created in it just now. A session that creates something also checks afterwards.
        with contextlib.suppress(DuplicateKeyError):
            bucket.nodes.insert_one(doc)
        raise os_error(errno.ENOTEMPTY)


def move_link(bucket: Bucket, old: str, new: str, replace: bool) -> None:
    """Rename a link. replace: whether to replace another link. Raises FileNotFoundError, FileExistsError."""

    def change(session: ClientSession | None) -> None:
        if replace:
            bucket.nodes.delete_one({"path": new, "kind": SYMLINK}, session=session)
        place = {"$set": placed(new, SYMLINK)}
        done = bucket.nodes.update_one({"path": old, "kind": SYMLINK}, place, session=session)
        if not done.matched_count:
            raise os_error(errno.ENOENT)

    try:
        bucket.atomically(change)
    except DuplicateKeyError:
        raise os_error(errno.EEXIST) from None
    settle(bucket, parent_of(new))


def move_directory(bucket: Bucket, old: str, new: str, replace: bool) -> None:
    """Rename a directory with its content. replace: whether to replace an empty directory.

    In one transaction if the server has those and there are not too many entries. Otherwise the directory
    itself is renamed first, which only one session can do; a server killed in between leaves a part under
    each name. Raises FileNotFoundError, FileExistsError, OSError (ENOTEMPTY).
    """
    if replace and bucket.has_children(new):
        raise os_error(errno.ENOTEMPTY)

    def change(session: ClientSession | None) -> None:
        _move_directory(bucket, old, new, replace, session)

    inside = _below(bucket.files, "filename", old, None)
    is_small = sum(1 for _ in islice(inside, MOST_AT_ONCE)) < MOST_AT_ONCE
    try:
        if is_small:
            bucket.atomically(change)
        else:
            change(None)
    except DuplicateKeyError:
        raise os_error(errno.EEXIST) from None
    except BulkWriteError as error:
        if any(one.get("code") == DUPLICATE_KEY for one in (error.details or {}).get("writeErrors", ())):
            raise os_error(errno.EEXIST) from error  # a directory was just made below the new name
        raise
    if bucket.has_file(new):
        # A new file hides the directory: undo the rename, as if the file had been first.
        _move_directory(bucket, new, old, False, None)
        raise os_error(errno.EEXIST)
    settle(bucket, parent_of(new))


def _move_directory(bucket: Bucket, old: str, new: str, replace: bool, session: ClientSession | None) -> None:
    nodes = bucket.nodes
    if replace:
        nodes.delete_one({"path": new, "kind": DIRECTORY}, session=session)
    doc = nodes.find_one({"path": old, "kind": DIRECTORY}, session=session)
    is_there = doc is not None
    if doc is None:
        nodes.insert_one(bucket.node(new, DIRECTORY, DEFAULT_MODE), session=session)
    else:
        here = {"_id": doc["_id"], "path": old}
        if not nodes.update_one(here, {"$set": placed(new, DIRECTORY)}, session=session).matched_count:
            raise os_error(errno.ENOENT)  # another session was faster
    is_empty = not is_there
    for collection, field in ((nodes, "path"), (bucket.files, "filename")):
        for inner in batches(_below(collection, field, old, session)):
            is_empty = False
            changes = []
            for one in inner:
                name = moved(one[field], old, new)
                place = placed(name, one["kind"]) if collection is nodes else {field: name}
                changes.append(UpdateOne({"_id": one["_id"], field: one[field]}, {"$set": place}))
            collection.bulk_write(changes, session=session)
    if is_empty:
        if session is None:
            nodes.delete_one({"path": new})
        raise os_error(errno.ENOENT)  # it existed only because of its content, which is gone


def _below(
    collection: Collection[Document], field: str, directory: str, session: ClientSession | None
) -> Iterator[Document]:
    """Yield the documents of everything below a directory."""
    first = below(directory)
    condition = {field: {"$gte": first, "$lt": after(first)}}
    fields = {field: 1, "kind": 1}
    with collection.find(condition, fields, session=session, batch_size=BATCH) as cursor:
        yield from cursor


def batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Yield documents in lists of BATCH."""
    while batch := list(islice(documents, BATCH)):
        yield batch
