"""The tools for measurements: files in a directory, many requests in flight, and the time left.

What may not enter: what is measured.
"""

from __future__ import annotations

from pysftpserver.contract import packets
from pysftpserver.contract.client import EOF, MOST_KEPT, NEW, NOTHING, Broken, Client, Refused
from pysftpserver.engine import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pysftpserver.contract.client import Line

    Request = tuple[int, tuple[bytes, ...]]

IN_FLIGHT = 64  # requests, as OpenSSH's sftp has them
STEP = 1 << 15  # bytes of a READ and a WRITE that every server accepts (draft, 3)


class Workbench:
    """A server's directory for measurements.

    client: a session. connect: opens a line for one more. directory: existing, empty. budget: seconds for
    everything. clock: returns seconds from any starting point.
    """

    def __init__(
        self,
        client: Client,
        connect: Callable[[], Line],
        directory: bytes,
        budget: float,
        clock: Callable[[], float],
    ) -> None:
        self.client = client
        self.directory = directory
        self.clock = clock
        self._connect = connect
        self._budget = budget
        self._end = clock() + budget
        self._files: dict[bytes, None] = {}  # files that exist, or may
        self._directories: dict[bytes, None] = {}

    # --- time ---------------------------------------------------------------------------------------

    def until(self, share: float) -> float:
        """The clock's time by which a part with this share of the budget must end."""
        return min(self.clock() + share * self._budget, self._end)

    def over(self) -> bool:
        """Whether the budget is used up."""
        return self.clock() >= self._end

    # --- names --------------------------------------------------------------------------------------

    def path(self, name: str) -> bytes:
        """A path in the directory."""
        return self.directory.rstrip(b"/") + b"/" + name.encode()

    def file(self, name: str) -> bytes:
        """A path in the directory where a file is made; clean() removes it."""
        path = self.path(name)
        self._files[path] = None
        return path

    def folder(self, name: str) -> bytes:
        """A path where a directory is made; clean() removes it."""
        path = self.path(name)
        self._directories[path] = None
        return path

    def clean(self) -> None:
        """Remove what was made; a server that no longer answers keeps it."""
        removes = [(wire.SSH2_FXP_REMOVE, (packets.sftpstring(path),)) for path in self._files]
        rmdirs = [(wire.SSH2_FXP_RMDIR, (packets.sftpstring(path),)) for path in self._directories]
        try:
            for requests in removes, rmdirs:
                self.all_replies(requests)
        except Broken:
            pass

    # --- requests -----------------------------------------------------------------------------------

    def session(self) -> Client:
        """One more session."""
        client = Client(self._connect(), self.client.seconds)
        client.hello()
        return client

    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[int, bytes]]:
        """(request id, packet) of the replies to requests, of which many are in flight. Take all of them."""
        flying = 0
        for kind, fields in requests:
            if flying >= IN_FLIGHT:
                yield self.client.next_reply()
                flying -= 1
            self.client.send(kind, *fields)
            flying += 1
        for _ in range(flying):
            yield self.client.next_reply()

    def all_replies(self, requests: Iterable[Request]) -> list[tuple[int, bytes]]:
        """The same, as a list. Raises Broken if they are far longer than such replies should be."""
        found, size = [], 0
        for request_id, reply in self.replies(requests):
            found.append((request_id, reply))
            size += len(reply)
            if size > MOST_KEPT:
                raise Broken(f"the server sent {size} bytes in {len(found)} replies that are short elsewhere")
        return found

    def make(self, names: list[str]) -> None:
        """Make or empty files. Raises Refused."""
        fields = packets.sftpint(NEW), packets.sftpattrs(NOTHING)
        opens = [(wire.SSH2_FXP_OPEN, (packets.sftpstring(self.file(name)), *fields)) for name in names]
        replies = self.all_replies(opens)
        handles = [self.client.expect("OPEN", reply, packets.get_sftphandle) for _, reply in replies]
        closes = [(wire.SSH2_FXP_CLOSE, (packets.sftpstring(handle),)) for handle in handles]
        for _, reply in self.all_replies(closes):
            self.client.expect("CLOSE", reply, packets.get_sftpstatus)

    def fill(self, name: str, most: int, until: float) -> int:
        """Write a file of this many bytes, or as many as there is time for. Returns the number."""
        handle = self.client.open(self.file(name), NEW)
        asked, piece = packets.sftpstring(handle), packets.sftpstring(bytes(STEP))
        size, count = 0, 4
        while size < most and (not size or self.clock() < until):
            offsets = range(size, min(size + count * STEP, most), STEP)
            writes = [(wire.SSH2_FXP_WRITE, (asked, packets.sftpint64(at), piece)) for at in offsets]
            for _, reply in self.all_replies(writes):
                self.client.expect("WRITE", reply, packets.get_sftpstatus)
            size = offsets[-1] + STEP
            count *= 2
        self.client.close_handle(handle)
        return size

    def readdir(self, handle: bytes) -> int | None:
        """Number of names in the reply to one READDIR; None at the end."""
        try:
            return len(self.client.readdir(handle))
        except Refused as refusal:
            if refusal.status != EOF:
                raise
            return None
