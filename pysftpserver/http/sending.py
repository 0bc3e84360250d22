"""Bodies of replies from files: by sendfile(2) without encryption, else through one buffer per thread.

What may not enter: sessions, which file it is. Facts: sendfile(2), PEP 3333.
"""

from __future__ import annotations

import os
import sys
import threading

from pysftpserver.http import SEND, SEND_FILE, ReplyBroken
from pysftpserver.http.files import FileProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.http.files import Source

BUFFER = 262144  # bytes
STEP = 16 << 20  # bytes in one call
_buffers = threading.local()


def buffer() -> memoryview:
    """The buffer of this thread. Its content is valid until the next call."""
    found: memoryview | None = getattr(_buffers, "view", None)
    if found is None:
        found = _buffers.view = memoryview(bytearray(BUFFER))
    return found


class FileBody:
    """The bytes of a file from one offset up to another, as a WSGI body. It closes the file.

    end: None if it is not known; then the file's end.

    If the file has become shorter meanwhile, the reply is broken off, so that the client can tell.
    """

    def __init__(self, environ: dict[str, Any], source: Source, first: int, end: int | None) -> None:
        self._environ = environ
        self._source = source
        self._first, self._end = first, end

    def __iter__(self) -> Iterator[bytes]:
        at, end = self._first, sys.maxsize if self._end is None else self._end
        descriptor = self._source.descriptor
        send, send_file = self._environ.get(SEND), self._environ.get(SEND_FILE)
        if descriptor is None or send is None:
            try:
                for piece in self._source.pieces(BUFFER, at, end):
                    at += len(piece)
                    yield piece
            except FileProblem as error:
                raise ReplyBroken(str(error)) from None
        while descriptor is not None and at < end:
            if send_file is not None:
                count = send_file(descriptor, at, min(STEP, end - at))
            elif send is not None:
                view = buffer()[: min(BUFFER, end - at)]
                count = os.preadv(descriptor, [view], at)
                send(view[:count])
            else:
                break
            if not count:
                break
            at += count
            self._source.moved += count
        if at < end and self._end is not None:
            raise ReplyBroken("the file has become shorter")

    @property
    def moved(self) -> int:
        """Bytes that were sent."""
        return self._source.moved

    def close(self) -> None:
        """Close the file."""
        self._source.close()
