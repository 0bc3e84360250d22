"""Where Prometheus reads the figures: HTTP on 127.0.0.1, GET /metrics and nothing else.

Served by one process, which asks the others through their admin sockets.
What may not enter: SSH, what is counted. Facts: RFC 9110 and RFC 9112, as far as one path needs them.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial

from pysftpserver.sshd import metrics
from pysftpserver.sshd.admin_client import AdminError, ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.engine.log import SFTPLog

HOST = "127.0.0.1"
PATH = "/metrics"
LONGEST_REQUEST = 8192  # bytes
PATIENCE = 5.0  # seconds for a request to come, and for the reply to be taken
ASKING = 2.0  # seconds for the other processes: Prometheus itself waits for ten
MOST_CLIENTS = 16  # at once
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def listening(port: int) -> socket.socket:
    """The socket for it. Raises OSError."""
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((HOST, port))
        one.listen(MOST_CLIENTS)
        one.setblocking(False)
    except BaseException:
        one.close()
        raise
    return one


class Collector:
    """The sum of all processes' figures. own: this one's. others: the admin sockets of the rest.

    What a process had counted that was replaced, or does not answer, stays in the sums: they only grow.
    """

    def __init__(self, own: Callable[[], dict[str, Any]], others: Sequence[str]) -> None:
        self._own = own
        self._others = others
        self._last: dict[str, tuple[int, dict[str, Any]]] = {}  # of each other: its pid, its counters
        self._replaced: dict[str, Any] = {}

    async def figures(self) -> dict[str, Any]:
        """What there is now."""
        loop = asyncio.get_running_loop()
        question = {"ask": "figures"}
        answers = await asyncio.gather(
            *(loop.run_in_executor(None, partial(ask, path, question, ASKING)) for path in self._others),
            return_exceptions=True,
        )
        parts = [self._own()]
        for path, answer in zip(self._others, answers, strict=True):
            if isinstance(answer, AdminError):
                parts.append(self._last[path][1] if path in self._last else {})
            elif isinstance(answer, BaseException):
                raise answer
            else:
                parts.append(self._take(path, answer["pid"], answer["figures"]))
        return metrics.total([*parts, self._replaced])

    def _take(self, path: str, process: int, figures: dict[str, Any]) -> dict[str, Any]:
        """Remember what a process said."""
        pid, before = self._last.get(path, (process, {}))
        if pid != process:
            self._replaced = metrics.total([self._replaced, before])
        self._last[path] = process, metrics.counters(figures)
        return figures


class MetricsEndpoint:
    """The HTTP server."""

    def __init__(self, collector: Collector, log: SFTPLog) -> None:
        self._collector = collector
        self._log = log
        self._clients: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve on a socket that listens."""
        self._listener = await asyncio.start_server(self._serve, sock=listening, limit=LONGEST_REQUEST)

    async def close(self) -> None:
        """Serve no more."""
        if self._listener is not None:
            self._listener.close()
        for writer in list(self._clients):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_full = len(self._clients) >= MOST_CLIENTS
        self._clients.add(writer)
        try:
            writer.write(response(503) if is_full else await self._reply(reader))
            await asyncio.wait_for(writer.drain(), PATIENCE)
            writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._clients.discard(writer)

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        """The response to what comes. Raises OSError, TimeoutError, IncompleteReadError."""
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        except asyncio.LimitOverrunError:
            return response(431)
        status = status_of(head)
        if status != 200:
            return response(status)
        try:
            text = metrics.exposition(await self._collector.figures())
        except Exception as error:
            self._log.fault(error)
            return response(500)
        return response(200, text.encode(), metrics.CONTENT_TYPE)


def status_of(head: bytes) -> int:
    """The status for a request's line and headers."""
    words = head.partition(b"\r\n")[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return 400
    method, target, _ = words
    if target.partition(b"?")[0] != PATH.encode():
        return 404
    return 200 if method == b"GET" else 405


def response(status: int, body: bytes = b"", kind: str = "text/plain; charset=utf-8") -> bytes:
    """A whole response, after which the connection ends."""
    reason = REASONS[status]
    body = body or f"{status} {reason}\n".encode()
    allow = "Allow: GET\r\n" if status == 405 else ""
    head = f"HTTP/1.1 {status} {reason}\r\n{allow}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
