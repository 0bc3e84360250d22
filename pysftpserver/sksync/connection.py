"""A server's side of one connection, for asyncio: pieces in and pieces out, within limits of memory and time.

What may not enter: what the pieces mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections import deque
from collections.abc import Callable, Coroutine

from pysftpserver.service.patience import Patience
from pysftpserver.sksync.parsing import LineParser
from pysftpserver.sksync.unsent import unsent

MOST_WAITING = 1 << 20  # bytes received but not yet used, at which the peer has to wait
MOST_OF_STRANGERS = 64 << 10  # the same before the login
MOST_UNSENT = 512 << 10  # bytes that may wait to be sent
LINGER = 5.0  # seconds for the peer to close
GLANCE = 0.02  # seconds between checks of the buffer below TLS
MOST_AFTER = 1 << 20  # bytes that are discarded after the end


class ConnectionEnded(Exception):
    """The connection is over. The text is for the log."""


class Connection(asyncio.Protocol):
    """One connection. timeout: seconds. on_made: called with this object when the connection is open."""

    def __init__(self, timeout: float, on_made: Callable[[Connection], None]) -> None:
        self._timeout = timeout
        self._patience = Patience(timeout)
        self._on_made = on_made
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._most_waiting = MOST_OF_STRANGERS
        self._has_ended = False
        self._is_lost = False
        self._wake: asyncio.Future[None] | None = None
        self._may_write: asyncio.Future[None] | None = None
        self._is_full = False
        self._reads = True
        self._lost = asyncio.get_running_loop().create_future()
        self._lines = LineParser()

    # --- what asyncio calls -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        transport.pause_reading()  # until it is known whether TLS is used
        self._use(transport)
        self._on_made(self)

    def _use(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=MOST_UNSENT)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > self._most_waiting:
            self.transport.pause_reading()
        self._wake_up()

    def eof_received(self) -> bool:
        self._has_ended = True
        self._wake_up()
        return self.transport.get_extra_info("sslcontext") is None  # TLS cannot stay half open

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = self._is_lost = True
        self._wake_up()
        self.resume_writing()
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._may_write is not None and not self._may_write.done():
            self._may_write.set_result(None)

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # --- what a session calls -----------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port of the peer."""
        address = self.transport.get_extra_info("peername")
        return address[:2] if address else ("?", 0)

    @property
    def peer(self) -> str:
        """The address of the peer, for the log."""
        host, port = self.address
        return f"{host}:{port}"

    async def start_tls(self, context: ssl.SSLContext, most: float) -> None:
        """Encrypt all that follows. most: seconds. Raises ssl.SSLError, OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(
            min(self._timeout, most)
        ):  # also ends handshakes that are slow but not silent
            encrypted = await loop.start_tls(self.transport, self, context, server_side=True)
        if encrypted is None:
            raise ConnectionResetError("the connection was closed")
        self._use(encrypted)

    def trust(self) -> None:
        """Buffer more received bytes from now on: the client has logged in."""
        self._most_waiting = MOST_WAITING

    async def receive(self) -> bytes:
        """The next piece; b"" when the peer sends no more. Raises OutOfPatience."""
        await self.is_quiet()
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        return piece

    async def is_quiet(self, seconds: float = math.inf) -> bool:
        """Wait until there is data or the peer has closed; return whether that took longer than `seconds`.

        Raises OutOfPatience.
        """
        if self._waiting <= self._most_waiting // 2 and not self._is_lost:
            self.transport.resume_reading()
        if self._pieces or self._has_ended:
            return False
        loop = asyncio.get_running_loop()
        start = loop.time()
        left = self._patience.left()
        self._wake = loop.create_future()
        try:
            async with asyncio.timeout(min(left, seconds)):
                await self._wake
            return False
        except TimeoutError:
            if left <= seconds:
                raise self._patience.lost() from None
            return True
        finally:
            self._wake = None
            self._patience.waited(loop.time() - start, self._waiting)

    async def receive_all(self) -> list[bytes]:
        """The next piece and all others that have arrived; empty when the peer sends no more.

        Raises OutOfPatience.
        """
        pieces = [await self.receive(), *self._pieces]
        self._pieces.clear()
        self._waiting = 0
        return [piece for piece in pieces if piece]

    def credit(self, size: int) -> None:
        """Count this many bytes in the peer's favour, as if it had sent them."""
        self._patience.waited(0, size)

    def put_back(self, rest: bytes) -> None:
        """Let receive() return the rest of a piece again."""
        if rest:
            self._pieces.appendleft(rest)
            self._waiting += len(rest)

    async def line(self) -> bytes:
        """A line without its end. Raises Malformed, OutOfPatience, ConnectionEnded."""
        while True:
            piece = await self.receive()
            if not piece:
                raise ConnectionEnded("the client has gone")
            line, after = self._lines.feed(piece, 0, len(piece))
            if line is not None:
                self.put_back(piece[after:])
                return line

    def send(self, data: bytes | bytearray) -> None:
        """Queue data to be sent."""
        self.transport.write(data)

    async def sent(self) -> None:
        """Wait until less than MOST_UNSENT bytes are queued. Raises OutOfPatience, ConnectionEnded."""
        while self._is_full and not self._is_lost:
            await self._some_taken(self._room())
        if self._is_lost:
            raise ConnectionEnded("the client has gone")

    async def _room(self) -> None:
        self._may_write = asyncio.get_running_loop().create_future()
        try:
            await self._may_write
        finally:
            self._may_write = None

    async def _some_taken(self, what: Coroutine[None, None, None]) -> None:
        """Wait for something that happens when the peer reads. Raises OutOfPatience if it does not read."""
        loop = asyncio.get_running_loop()
        start, before = loop.time(), self._unsent()
        taken = 0
        try:
            async with asyncio.timeout(self._patience.left()):
                await what
            taken = before - self._unsent()
        except TimeoutError:
            taken = before - self._unsent()
            if taken <= 0:
                self._reads = False
                raise self._patience.lost() from None
        finally:
            what.close()
            self._patience.waited(loop.time() - start, max(0, taken))

    def _buffered(self) -> int:
        """Bytes that have not been handed to the system yet."""
        # TLS has its own transport above the socket's, and each has a buffer.
        buffers = {self.transport, self._raw}
        return 0 if self._is_lost else sum(transport.get_write_buffer_size() for transport in buffers)

    def _unsent(self) -> int:
        """Bytes that the peer has not acknowledged."""
        return self._buffered() + unsent(self._raw.get_extra_info("socket").fileno())

    async def end(self) -> None:
        """Close so that everything sent arrives, even if the peer has sent more than was read."""
        try:
            if self._reads:
                await self._all_sent()
            async with asyncio.timeout(LINGER):
                if self.transport.can_write_eof() and not self._is_lost:
                    self.transport.write_eof()
                    passed = 0
                    while passed < MOST_AFTER and (piece := await self.receive()):
                        passed += len(piece)
                self.transport.close()
                await asyncio.shield(self._lost)
        except Exception:  # it had ended already
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once, whatever has been done to it before."""
        # In Python 3.11.2, a transport with TLS that was closed twice raises AttributeError here.
        with contextlib.suppress(AttributeError):
            self.transport.abort()
        self._raw.abort()

    async def _all_sent(self) -> None:
        """Wait until everything queued is sent, however slow the peer is. Raises OutOfPatience."""
        if self.transport is self._raw and not self._is_lost:
            self.transport.set_write_buffer_limits(high=0)  # so that asyncio tells when the buffer is empty
        while self._buffered():
            await self._some_taken(self._emptied())

    async def _emptied(self) -> None:
        if self.transport is self._raw:
            await self._room()
        # With TLS, asyncio does not tell: the socket's transport reports to the TLS protocol only.
        while self._buffered():
            await asyncio.sleep(GLANCE)
