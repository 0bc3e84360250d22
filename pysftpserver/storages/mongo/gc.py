"""Finds and removes chunks that belong to no file, which are left by uploads whose server was killed.

Chunks without a document in BUCKET.files may also be an upload in progress, of SFTP or of another program, so
only those whose youngest chunk is old enough are orphans. What may not enter: paths, open files.
Facts: GridFS's specification: chunks are written before the document of their file. BSON: an ObjectId
contains the time of its creation, by the clock of the client that made it; SFTP's uploads take the server's.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

from bson import ObjectId

from pysftpserver.storages.mongo.bucket import Bucket, delete_chunks, key_of
from pysftpserver.storages.mongo.errors import answers
from pysftpserver.storages.mongo.tree import batches


class Collected:
    """The result. orphans: number of uploads that were not completed, with their chunks and bytes; they are
    removed, unless this is a dry run. young: number of those kept because they may be in progress."""

    def __init__(self) -> None:
        self.orphans = self.chunks = self.bytes = self.young = 0

    def sentence(self, dry_run: bool, hours: float) -> str:
        """The result in words. hours: the least age of orphans."""
        done = "would remove" if dry_run else "removed"
        line = f"{done} {counted(self.orphans, 'orphaned upload')}: {counted(self.chunks, 'chunk')}, "
        line += counted(self.bytes, "byte")
        return f"{line}; {self.young} younger than {counted(hours, 'hour')} kept" if self.young else line


def counted(number: float, thing: str) -> str:
    """Return a number and the name of what it counts, such as "3 files". thing: the singular."""
    return f"{number:.12g} {thing}{'' if number == 1 else 's'}"


@answers
def collect(
    bucket: Bucket, older_than: float, dry_run: bool, progress: Callable[[int], None] | None = None
) -> Collected:
    """Find and remove orphans. older_than: seconds since their last chunk. progress: called with the number
    of files checked. Raises SFTPFailure or SFTPForbidden if the database refuses."""
    found = Collected()
    looked_at = 0
    latest = datetime.datetime.fromtimestamp(bucket.now() - older_than, datetime.UTC)
    for ids in _batches(bucket):
        there = {key_of(doc["_id"]) for doc in bucket.files.find({"_id": {"$in": ids}}, {"_id": 1})}
        for identity in ids:
            if key_of(identity) not in there:
                _collect(bucket, identity, latest, dry_run, found)
        looked_at += len(ids)
        if progress is not None:
            progress(looked_at)
    return found


def _batches(bucket: Bucket) -> Iterator[list[Any]]:
    """Yield all files that have chunks, from the index alone."""
    pipeline: list[dict[str, Any]] = [{"$sort": {"files_id": 1, "n": 1}}, {"$group": {"_id": "$files_id"}}]
    with bucket.chunks.aggregate(pipeline, allowDiskUse=True) as cursor:
        for groups in batches(cursor):
            yield [group["_id"] for group in groups]


def _collect(
    bucket: Bucket, identity: Any, latest: datetime.datetime, dry_run: bool, found: Collected
) -> None:
    count = {"_id": None, "count": {"$sum": 1}, "newest": {"$max": "$_id"}}
    is_data = {"$eq": [{"$type": "$data"}, "binData"]}
    size = {"bytes": {"$sum": {"$cond": [is_data, {"$binarySize": "$data"}, 0]}}}
    pipeline = [{"$match": {"files_id": identity}}, {"$group": {**count, **size}}]
    for group in bucket.chunks.aggregate(pipeline):
        newest = group["newest"]
        if not isinstance(newest, ObjectId) or newest.generation_time > latest:
            found.young += 1  # or its age is unknown
            return
        # Check again: numbers of different types are one _id, and the upload may have become a file.
        if bucket.files.find_one({"_id": identity}, {"_id": 1}) is not None:
            return
        found.orphans += 1
        found.chunks += int(group["count"])
        found.bytes += int(group["bytes"])
        if not dry_run:
            delete_chunks(bucket, [identity])
