"""Programs that the rows on GridFS run as separate processes.

    python -m bench.gridfs_programs put PORT DATABASE FILE NAME
    python -m bench.gridfs_programs get PORT DATABASE FILE NAME
    python -m bench.gridfs_programs growth PORT DATABASE DIRECTORY

put and get move a file between a bucket and the file system, as a program on pymongo does. growth prints by
how many bytes the memory of a process grows when the storage lists a directory. Each imports only what it
needs, because the start is a part of the measurement.
"""

from __future__ import annotations

import re
import sys

LOOPBACK = "127.0.0.1"


def put(port: str, database: str, file: str, name: str) -> None:
    """Store a file under a name."""
    import gridfs
    import pymongo

    with pymongo.MongoClient(LOOPBACK, int(port)) as client, open(file, "rb") as source:
        gridfs.GridFSBucket(client[database]).upload_from_stream(name, source)


def get(port: str, database: str, file: str, name: str) -> None:
    """Fetch the file of a name."""
    import gridfs
    import pymongo

    with pymongo.MongoClient(LOOPBACK, int(port)) as client, open(file, "wb") as target:
        gridfs.GridFSBucket(client[database]).download_to_stream_by_name(name, target)


def growth(port: str, database: str, directory: str) -> None:
    """List a directory; print the peak of resident memory (bytes) minus the memory resident before."""
    from pysftpserver.mongostorage import SFTPServerMongoStorage

    storage = SFTPServerMongoStorage(LOOPBACK, int(port), database)
    path = directory.encode()
    storage.stat(path)  # connects
    before = _resident("VmRSS")
    for _ in storage.opendir(path):
        pass
    print(_resident("VmHWM") - before)
    storage.close_client()


def _resident(field: str) -> int:
    """Return a figure of this process in bytes, from proc(5), status. (wait4() includes the parent's.)"""
    with open("/proc/self/status", encoding="ascii") as lines:
        found = re.search(rf"^{field}:\s+(\d+) kB$", lines.read(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    {"put": put, "get": get, "growth": growth}[sys.argv[1]](*sys.argv[2:])
