"""A session as clients use it: transfers and listings with many requests in flight.

What may not enter: what a particular client sends, and what its user is told.
"""

from __future__ import annotations

from pysftpserver.contract import packets
from pysftpserver.contract.client import (
    EOF,
    MOST_CONTENT,
    MOST_NAMES,
    NEW,
    READ,
    Broken,
    Client,
    Refused,
    refusal_of,
)
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.attributes import SFTPAttributes

    Entries = list[tuple[bytes, bytes, SFTPAttributes]]

_STEP, _DEPTH = 1 << 13, 64  # of put() and content(), which suit any limit of a server


class Short(Broken):
    """READ was answered with fewer bytes than asked for before the end, and the client does not ask again."""


class Session(Client):
    """Requests sent ahead of their replies. All raise what Client's methods raise."""

    in_order = 0

    # --- one request --------------------------------------------------------------------------------

    def send_write(self, handle: bytes, offset: int, data: bytes) -> int:
        """Send a WRITE; return its request id."""
        fields = packets.sftpstring(handle), packets.sftpint64(offset), packets.sftpstring(data)
        return self.send(wire.SSH2_FXP_WRITE, *fields)

    def send_read(self, handle: bytes, offset: int, length: int) -> int:
        """Send a READ; return its request id."""
        fields = packets.sftpstring(handle), packets.sftpint64(offset), packets.sftpint(length)
        return self.send(wire.SSH2_FXP_READ, *fields)

    def data_of(self, request_id: int) -> bytes | None:
        """The data that a READ returned; None for STATUS EOF."""
        try:
            data = self.expect("READ", self.reply(request_id), packets.get_sftpdata)
        except Refused as refusal:
            if refusal.status != EOF:
                raise
            return None
        if not data:
            raise Broken("READ was answered with a DATA without bytes")
        return data

    def ok(self, request: str, request_id: int) -> None:
        """Take the reply to a request, which must be STATUS OK."""
        self.expect(request, self.reply(request_id), packets.get_sftpstatus)

    # --- transfers ----------------------------------------------------------------------------------

    def write_all(
        self, handle: bytes, content: bytes, step: int, depth: int, start: int = 0, offset: int | None = None
    ) -> None:
        """WRITE content from start on, step bytes in each request, at most depth requests at a time. offset:
        where the first goes, if not to start. A refusal is raised once all requests are answered."""
        moved = 0 if offset is None else offset - start
        waiting: list[int] = []
        refusal: Refused | None = None
        for at in range(start, len(content), step):
            if len(waiting) >= depth:
                refusal = refusal_of(self.ok, "WRITE", waiting.pop(0))
            if refusal is not None:
                break
            waiting.append(self.send_write(handle, at + moved, content[at : at + step]))
        for request_id in waiting:
            refusal = refusal_of(self.ok, "WRITE", request_id) or refusal
        if refusal is not None:
            raise refusal

    def read_all(
        self,
        handle: bytes,
        step: int,
        depth: int,
        start: int = 0,
        size: int | None = None,
        *,
        past_end: bool = False,
        ramps: bool = False,
        short: str = "again",
    ) -> bytes:
        """READ a file from start to its end, step bytes in each request, at most depth requests at a time.

        size: what the client believes it to be (None: it reads until EOF). past_end: it sends requests beyond
        that, until EOF. ramps: the same, but it begins with one request at a time, adds one more for each
        answer, and sends only one beyond the size. short: what it does with a short answer before the end:
        "again" asks for the rest, "ends" takes it for the end, "fails" does so too, and raises Short if more
        follows; self.in_order is then where the data received in order ends.
        """
        found: dict[int, bytes] = {}
        waiting: list[tuple[int, int, int]] = []
        at, ended, allowed = start, False, 1 if ramps else depth
        cut = False  # a short answer was taken for the end
        self.in_order = start
        ordered = True
        taken = 0
        while True:
            while len(waiting) < allowed and not ended and (ramps or past_end or size is None or at < size):
                waiting.append((self.send_read(handle, at, step), at, step))
                at += step
            if not waiting:
                break
            request_id, offset, length = waiting.pop(0)
            data = self.data_of(request_id)
            if data is None:
                ended = True
                continue
            if len(data) > length:
                raise Broken(f"READ of {length} bytes was answered with {len(data)}")
            if cut and short == "fails":
                raise Short("READ is answered with fewer bytes than asked for before the end of the file")
            if cut:
                continue
            ordered = ordered and offset <= self.in_order
            found[offset] = data
            taken += len(data)
            if taken > MOST_CONTENT:
                raise Broken(f"READ does not come to an end: {taken} bytes")
            offset += len(data)
            if ordered:
                self.in_order = offset
            if ramps:
                allowed = 1 if size is not None and at > size else min(allowed + 1, depth)
            if len(data) < length and (size is None or offset < size):
                if short != "again":
                    cut = True
                    continue
                length -= len(data)
                waiting.append((self.send_read(handle, offset, length), offset, length))
        content = bytearray()
        for offset in sorted(found):
            if offset != start + len(content):
                break  # beyond a hole
            content += found[offset]
        return bytes(content)

    def entries(self, path: bytes, ahead: int = 1) -> Entries:
        """OPENDIR, READDIR until EOF with ahead requests at a time, CLOSE."""
        handle = self.opendir(path)
        found: Entries = []
        waiting = [self.send(wire.SSH2_FXP_READDIR, packets.sftpstring(handle)) for _ in range(ahead)]
        ended = False
        while waiting:
            reply = self.reply(waiting.pop(0))
            try:
                part = self.expect("READDIR", reply, packets.get_sftpentries)
            except Refused as refusal:
                if refusal.status != EOF:
                    raise
                ended = True
                continue
            if not part:
                raise Broken("READDIR was answered with a NAME without names")
            found += part
            if len(found) > MOST_NAMES:
                raise Broken(f"READDIR does not come to an end: {len(found)} names")
            if not ended:
                waiting.append(self.send(wire.SSH2_FXP_READDIR, packets.sftpstring(handle)))
        self.close_handle(handle)
        return found

    # --- before and after a script ------------------------------------------------------------------

    def put(self, path: bytes, content: bytes, step: int = _STEP) -> None:
        """Make or replace a file. A refused CLOSE is ignored: the content of the file shows what it meant."""
        handle = self.open(path, NEW)
        try:
            self.write_all(handle, content, step, _DEPTH)
        finally:
            refusal_of(self.close_handle, handle)

    def content(self, path: bytes, step: int = _STEP, size: int | None = None) -> bytes:
        """The content of a file. size: read at most this and one step more."""
        handle = self.open(path, READ)
        try:
            return self.read_all(handle, step, _DEPTH, size=None if size is None else size + step)
        finally:
            self.close_handle(handle)
