"""Reading an object at any offset, with few requests and a bounded memory.

While reads are in order, one request stays open and its connection's buffers read ahead. Other reads fetch
the blocks that they need, and the last few blocks are kept. All requests are for the object that was
opened: if it is replaced meanwhile, reads fail instead of mixing two files. What may not enter: paths,
writing.
"""

from __future__ import annotations

import http.client
from collections import OrderedDict

from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.objects.errors import Changed, Missing, unclear, unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.storages.objects.s3 import S3, Meta
    from pysftpserver.storages.objects.web import Answer

BLOCK = 1 << 18  # bytes
HEAD = 4 * BLOCK  # bytes that opening an object fetches
KEPT = 16  # blocks
SKIPPED = 4  # blocks; a read that skips at most this many goes on with the open request


class Reader:
    """Reads one object. meta: of the object. head: its first bytes, at least min(size, HEAD) of them."""

    def __init__(self, store: S3, meta: Meta, head: bytes) -> None:
        self.meta = meta
        self._store = store
        self._head = head
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._stream: Answer | None = None
        self._at = 0  # the next block of the stream
        self._last = len(head) // BLOCK - 1  # the block that was read last

    def read(self, off: int, size: int) -> bytes:
        """Up to size bytes, fewer only at the end."""
        size = min(size, self.meta.size - off)
        if size <= 0:
            return b""
        if off + size <= len(self._head):
            self._last = (off + size - 1) // BLOCK
            return self._head[off : off + size]
        first, last = off // BLOCK, (off + size - 1) // BLOCK
        if first == last:
            return self._block(first)[off - first * BLOCK : off - first * BLOCK + size]
        pieces = [memoryview(self._block(number)) for number in range(first, last + 1)]
        pieces[0] = pieces[0][off - first * BLOCK :]
        pieces[-1] = pieces[-1][: off + size - last * BLOCK]
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is not None:
            self._blocks.move_to_end(number)
        elif (number + 1) * BLOCK <= len(self._head):
            block = self._head[number * BLOCK : (number + 1) * BLOCK]
        else:
            block = self._fetch(number)
        self._last = number
        return block

    def _fetch(self, number: int) -> bytes:
        is_near = self._stream is not None and self._at <= number <= self._at + SKIPPED
        if not is_near and number != self._last + 1:
            return self._keep(number, self._range(number))
        if not is_near:
            self.close()
            self._at = number
        while self._at <= number:
            block = self._next()
        return block

    def _next(self) -> bytes:
        """The next block of the stream, which is opened again if it breaks."""
        number = self._at
        for is_second in (False, True):
            try:
                if self._stream is None:
                    self._stream = self._get(number * BLOCK, None, True)
                block = self._filled(self._stream, number)
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if is_second:
                    raise unreachable(error, self._store.patience) from error
        self._at = number + 1
        if self._at * BLOCK >= self.meta.size:
            self.close()
        return self._keep(number, block)

    def _range(self, number: int) -> bytes:
        size = min(BLOCK, self.meta.size - number * BLOCK)
        content = self._get(number * BLOCK, size, False).content
        if len(content) != size:
            raise unclear()
        return content

    def _get(self, off: int, size: int | None, is_stream: bool) -> Answer:
        try:
            return self._store.get(self.meta.key, off, size, self.meta.etag, is_stream)
        except Changed:
            raise SFTPFailure("The file was replaced while it was read") from None
        except Missing:
            raise SFTPFailure("The file was removed while it was read") from None

    def _filled(self, answer: Answer, number: int) -> bytes:
        """A whole block from an answer."""
        wanted = min(BLOCK, self.meta.size - number * BLOCK)
        block = answer.read(wanted)
        while len(block) < wanted:
            more = answer.read(wanted - len(block))
            if not more:
                raise http.client.IncompleteRead(block, wanted)
            block += more
        return block

    def _keep(self, number: int, block: bytes) -> bytes:
        self._blocks[number] = block
        if len(self._blocks) > KEPT:
            self._blocks.popitem(last=False)
        return block

    def close(self) -> None:
        """Return the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
