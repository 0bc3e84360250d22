"""Lists directories, from documents that are ordered by name only.

A directory's files are those whose names begin with its name and continue without a slash. Between them, in
that order, is the content of subdirectories. One query skips the content of a subdirectory, however large:
which name comes first after it? So the cost of a listing depends on the directory alone, and it takes memory
for one batch.
What may not enter: paths as clients send them, open files.
Facts: MongoDB's order of strings is that of their UTF-8, so of their code points, as Python's is.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from pysftpserver.storages.mongo.bucket import BY_NAME, DIRECTORY, SYMLINK, Bucket, Document, Entry, uploaded
from pysftpserver.storages.mongo.errors import answers
from pysftpserver.storages.mongo.names import after, below, is_reachable, name_of

Keyed = tuple[str, Entry]

BATCH = 1000  # documents at a time: memory, and round trips
NEAR = 8  # documents; small where a subdirectory may follow soon. It grows while there is none
GROWTH = 8


@answers
def next_entry(listing: Iterator[tuple[bytes, Entry]]) -> tuple[bytes, Entry]:
    """Return the next entry. Raises StopIteration at the end, or an exception that clients may see."""
    return next(listing)


def entries(bucket: Bucket, directory: str) -> Iterator[tuple[bytes, Entry]]:
    """Yield (name, entry) for the content of a directory, each name once, in no particular order."""
    first = below(directory)
    # Sorted by key: a directory's is its name and a slash, as in the names of its content.
    merged = heapq.merge(_files_and_directories(bucket, first), _nodes(bucket, directory, SYMLINK), key=_key)
    hiding: list[str] = []  # names, each a prefix of the next, that may hide the next key
    for _, entry in merged:
        plain = entry.name
        while hiding and not plain.startswith(hiding[-1]):
            hiding.pop()
        if plain in hiding:
            continue  # a file hides directories and links, a link hides a directory without a document
        name = name_of(plain[len(first) :])
        if name is None:
            continue  # it has no path
        hiding.append(plain)
        yield name, entry


def _key(item: Keyed) -> str:
    return item[0]


def _nodes(bucket: Bucket, directory: str, kind: str) -> Iterator[Keyed]:
    """Yield the links, or the directories that have documents, by their keys."""
    cursor = bucket.nodes.find({"parent": directory, "kind": kind}, batch_size=BATCH).sort("key", 1)
    with cursor:
        for doc in cursor:
            yield doc["key"], bucket.node_entry(doc)


def _files_and_directories(bucket: Bucket, first: str) -> Iterator[Keyed]:
    """Yield files, and directories with and without documents, by their keys.

    The content of directories with documents is never queried.
    """
    low, end, batch = first, after(first), BATCH
    for key, entry in _nodes(bucket, first[:-1], DIRECTORY):
        yield from _files(bucket, first, low, key, batch)
        yield key, entry
        low, batch = str(after(key)), NEAR
    yield from _files(bucket, first, low, end, batch)


def _files(bucket: Bucket, first: str, low: str, end: str | None, batch: int) -> Iterator[Keyed]:
    """Yield the files from one name up to another, and the directories without documents among them.

    batch: size of the first batch of documents.
    """
    while end is None or low < end:
        newest = None  # revisions of a name follow each other, the newest last
        with closing(_in_order(bucket, low, end, batch)) as docs:
            for doc in docs:
                filename = doc["filename"]
                child, slash, _ = _rest(filename, first).partition("/")
                if not child and not slash or not _is_text(child):
                    continue  # no path leads there, and its place in the order may not be that of text
                if newest is not None and newest["filename"] != filename:
                    yield newest["filename"], bucket.file_entry(newest)
                    newest = None
                if slash:
                    run = f"{first}{child}/"
                    yield run, bucket.implied_entry(run[:-1], uploaded(doc))
                    low, batch = str(after(run)), NEAR
                    break
                newest = doc
            else:
                if newest is not None:
                    yield newest["filename"], bucket.file_entry(newest)
                return


def _in_order(bucket: Bucket, low: str, end: str | None, batch: int) -> Generator[Document]:
    """Yield the documents of the files from one name up to another, in batches that grow."""
    condition = {"$gte": low} if end is None else {"$gte": low, "$lt": end}
    # find() would do, but its cursor does not let the size of its batches be changed.
    pipeline: list[Document] = [{"$match": {"filename": condition}}, {"$sort": dict(BY_NAME)}]
    with bucket.names.aggregate(pipeline, batchSize=batch) as cursor:
        for count, doc in enumerate(cursor, 1):
            if count % batch == 0:
                batch = min(batch * GROWTH, BATCH)
                cursor.batch_size(batch)
            yield doc


def _rest(filename: object, first: str) -> str:
    """Return the part of a filename after the directory; "" for a list of names."""
    return filename[len(first) :] if isinstance(filename, str) else ""


def _is_text(name: str) -> bool:
    """Return whether a name is UTF-8 in the database."""
    try:
        name.isascii() or name.encode()
    except UnicodeEncodeError:
        return False
    return True


def oddities(bucket: Bucket, directory: str) -> list[str]:
    """Return a sentence, with an example, for each kind of file below a directory that has no path."""
    first = below(directory)
    condition: dict[str, Any] = {"$gte": first} if not first else {"$gte": first, "$lt": after(first)}
    odd, hidden = _Count(), _Count()
    hiding: list[str] = []
    last = None
    if not first:
        for doc in bucket.files.find({"filename": {"$not": {"$type": "string"}}}, {"filename": 1}):
            odd.add(doc.get("filename"))
    with bucket.names.find({"filename": condition}, {"filename": 1, "_id": 0}, batch_size=BATCH).sort(
        BY_NAME
    ) as cursor:
        for doc in cursor:
            filename = doc["filename"]
            if filename == last:
                continue
            if not isinstance(filename, str):
                odd.add(filename)
                continue
            last = filename
            # A file's name may also be a prefix of names that do not continue with a slash.
            while hiding and not filename.startswith(hiding[-1]):
                hiding.pop()
            if not is_reachable(filename[len(first) :]):
                odd.add(filename)
            elif any(filename.startswith(f"{other}/") for other in hiding):
                hidden.add(filename)
            else:
                hiding.append(filename)
    sentences = []
    if odd.number:
        sentences.append(f"Files with names that no path can have: {odd}.")
    if hidden.number:
        sentences.append(f"Files hidden by a file with the name of their directory: {hidden}.")
    return sentences


class _Count:
    """A number of files, and the first of them."""

    def __init__(self) -> None:
        self.number = 0
        self.example: object = None

    def __str__(self) -> str:
        return f"{self.number}, such as {self.example!r}"

    def add(self, name: object) -> None:
        self.example = self.example if self.number else name
        self.number += 1
