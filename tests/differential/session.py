"""One SFTP server as a child process, spoken to over a socket pair as sshd does, with time limits.

A server that does not answer within `PATIENCE` seconds is killed and reported as `SessionEnded`: the
test never hangs on a server that waits for something.
"""

import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType

from tests.support.forked import Process
from tests.support.waiting import PATIENCE

from . import packets


class SessionEnded(Exception):
    """The session is over: the server closed the connection, or did not answer in time."""


class NoAnswer(SessionEnded):
    """The server did not answer in time."""


class Session:
    """A running server. `log` is what it wrote to stderr, complete after `end()`.

    `command` is the argument list, `directory` where the process is started.
    """

    def __init__(self, command: Sequence[str], directory: str | bytes | None = None) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._stderr = tempfile.TemporaryFile()
        self._next_id = 0
        with theirs:
            self._process = Process(command, stdin=theirs, stdout=theirs, stderr=self._stderr, cwd=directory)
        self.pid = self._process.pid
        self.status: int | None = None
        self.log = b""

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def hello(self, version: int = 3) -> tuple[int, dict[bytes, bytes]]:
        """INIT; gives the server's version and its extensions with their version strings."""
        self.send(packets.packet(packets.INIT, packets.u32(version)))
        kind, reader = self.receive()
        if kind != packets.VERSION:
            raise packets.BadReply(f"INIT answered by type {kind}")
        number = reader.u32()
        extensions = {}
        rest = packets.Reader(reader.rest())
        while True:
            try:
                name = rest.string()
            except packets.BadReply:
                break
            extensions[name] = rest.string()
        rest.finish()
        return number, extensions

    def ask(self, kind: int, body: bytes) -> packets.Reply:
        """Send one request and give its reply."""
        return self.reply_to(self.post(kind, body))

    def post(self, kind: int, body: bytes) -> int:
        """Send one request without waiting; gives its id."""
        self._next_id += 1
        self.send(packets.packet(kind, packets.u32(self._next_id) + body))
        return self._next_id

    def reply_to(self, number: int) -> packets.Reply:
        """The next reply, which must be the one to request `number`."""
        kind, reader = self.receive()
        answered = reader.u32()
        if answered != number:
            raise packets.BadReply(f"request {number} was answered as {answered}")
        return packets.parse(kind, reader)

    def send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(PATIENCE)
            self._socket.sendall(data)
        except OSError as error:
            raise SessionEnded(f"cannot send: {error}") from error

    def stop_sending(self) -> None:
        """The end of input, for the server; its replies can still be received."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise SessionEnded(f"cannot send: {error}") from error

    def receive(self) -> tuple[int, packets.Reader]:
        """One whole packet: its type and a reader of the rest."""
        length = int.from_bytes(self._exactly(4), "big")
        body = self._exactly(length)
        return body[0], packets.Reader(body[1:])

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                self._socket.settimeout(PATIENCE)
                piece = self._socket.recv(size - len(data))
            except TimeoutError:
                raise NoAnswer(f"no answer within {PATIENCE} seconds") from None
            except OSError as error:
                raise SessionEnded(f"cannot receive: {error}") from error
            if not piece:
                raise SessionEnded("the server closed the connection")
            data += piece
        return bytes(data)

    def end(self) -> int:
        """Close our side, wait for the server to go, and give its exit status (negative: a signal)."""
        if self.status is None:
            self._socket.close()
            try:
                self.status = self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.status = self._process.wait()
            self._stderr.seek(0)
            self.log = self._stderr.read()
            self._stderr.close()
        return self.status

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)
