"""Runs rules against a storage in this process: the line to its session, and the Subject of a contract case.

What may not enter: rules.
"""

from __future__ import annotations

from pysftpserver.contract.client import Closed, Silent
from pysftpserver.contract.subject import Subject
from pysftpserver.server import SFTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.contract.base import ContractBase
    from pysftpserver.contract.client import Client


class ServerLine:
    """A line to a session in this process. storage: the storage to serve. options: SFTPServer's."""

    def __init__(self, storage: SFTPAbstractServerStorage, **options: Any) -> None:
        self.server = SFTPServer(storage, **options)
        self._replies = b""

    def send(self, data: bytes) -> None:
        """Pass the data to the session, which serves it."""
        self.server.input_queue += data
        self.server.process()
        self._replies += self.server.output_queue
        self.server.output_queue = b""

    def receive(self, seconds: float) -> bytes:
        """All replies so far. Does not wait: the session has already done everything."""
        replies, self._replies = self._replies, b""
        if replies:
            return replies
        if self.server.ended is not None:
            raise Closed(f"the server ended the session: {self.server.ended}")
        raise Silent("the server did not answer")

    def close(self) -> None:
        """End the session: the server closes what it left open."""
        self.server.close()


class StorageSubject(Subject):
    """The subject of a case of the contract: its storage's home, and its own way to put files there."""

    def __init__(self, case: ContractBase, client: Client) -> None:
        super().__init__(
            client,
            case.path(b""),
            case.line,
            case.unsupported,
            case.seed,
            case.many,
            case.unencodable,
        )
        self._case = case

    def path(self, name: bytes = b"") -> bytes:
        """A path of the storage."""
        return self._case.path(name)

    def put(self, path: bytes, content: bytes) -> None:
        """Put a file into the storage with the put() of the case."""
        self._case.put(path, content)

    def fill(self, directory: bytes, names: list[bytes]) -> None:
        """Put empty files into a directory with the fill() of the case."""
        self._case.fill(directory, names)
