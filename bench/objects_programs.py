"""The reference programs for object stores: they transfer a file with obstore and nothing else.

    python -m bench.objects_programs put|get ENDPOINT BUCKET FILE KEY

Credentials are in the environment. The start is a part of the measurement.
"""

from __future__ import annotations

import sys

import obstore
from obstore.store import S3Store

PIECE = 1 << 20  # bytes that are written at a time


def put(store: S3Store, file: str, key: str) -> None:
    """Store a file under a key, in parts."""
    with open(file, "rb") as source:
        obstore.put(store, key, source)


def get(store: S3Store, file: str, key: str) -> None:
    """Fetch the object with a key."""
    with open(file, "wb") as target:
        for piece in obstore.get(store, key).stream(min_chunk_size=PIECE):
            target.write(piece)


if __name__ == "__main__":
    verb, endpoint, bucket, file, key = sys.argv[1:]
    store = S3Store(bucket, endpoint=endpoint, client_options={"allow_http": True})
    {"put": put, "get": get}[verb](store, file, key)
