"""A client's side of one connection, for asyncio: texts in and out, and requests with their answers.

What may not enter: how a connection is made, other threads. Facts: docs/laboratory.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from pysftpserver.failures import reason_of
from pysftpserver.laboratory import wire
from pysftpserver.laboratory.errors import Ended, LaboratoryError, ProtocolError, Refused, Stopped, TimedOut
from pysftpserver.laboratory.handshake import STEPS, ClientHandshake, Step, refusal
from pysftpserver.laboratory.wire import Form, Malformed, Own, Word

MOST_WAITING = 1024  # messages not yet returned by receive(), at which the server has to wait
LINGER = 2.0  # seconds for the server to read what was sent


class About(NamedTuple):
    """A service of the server. title: the name by which clients choose it. text: its description."""

    title: str
    text: str


class AsyncConnection:
    """An accepted connection. Made by connect_async(); `async with` closes it."""

    def __init__(self, handshake: ClientHandshake, name: str, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._handshake = handshake
        self._timeout = timeout
        self._line = Line(self)
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._texts: deque[str] = deque()
        self._receivers: list[asyncio.Future[None]] = []
        self._asked: deque[tuple[str, Word, asyncio.Future[str]]] = deque()
        self._turn = asyncio.Lock()  # of requests
        self._sending = asyncio.Lock()  # held while keys are changed, so that nothing is sent
        self._plain_answer: asyncio.Future[str] | None = None
        self._end: LaboratoryError | None = None
        self._new_key: str | None = None
        #: The name of this client.
        self.name = name

    # --- for programs -------------------------------------------------------------------------------------

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is encrypted."""
        codec = self._handshake.codec
        return codec is not None and codec.is_encrypted

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) of this end, which identifies this client for the server."""
        return self._line.address

    @property
    def ended(self) -> LaboratoryError | None:
        """Why the connection is over; None if it is open."""
        return self._end

    async def send(self, text: str) -> None:
        """Send a text to the service; it may look like anything. Waits while the server does not read.

        Raises Ended; ValueError for a text that contains a NUL.
        """
        await self._send(wire.escaped(_checked(text)))

    async def send_raw(self, text: str) -> None:
        """Send a text unchanged: messages of the protocol, such as `SERVICE ?`, are not escaped.

        Answers to them are received as texts, unless a method of this object waits for one. Raises ValueError
        for `KEY = `: call change_key() instead.
        """
        if text.startswith(wire.tell(Word.KEY, "")):
            raise ValueError("call change_key() to change the key")
        await self._send(_checked(text))

    async def receive(self, timeout: float | None = None) -> str:
        """Return the next text. timeout: seconds, or None. Raises TimedOut, and Ended after the last."""
        try:
            async with asyncio.timeout(timeout):
                while not self._texts and self._end is None:
                    arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._receivers.append(arrived)
                    await arrived
        except TimeoutError:
            raise TimedOut(f"nothing came within {timeout:g} seconds") from None
        if not self._texts:
            raise self._ended()
        text = self._texts.popleft()
        if not self._texts:
            self._line.transport.resume_reading()
        return text

    async def __aiter__(self) -> AsyncIterator[str]:
        with contextlib.suppress(Ended):
            while True:
                yield await self.receive()

    async def server_name(self) -> str:
        """Return the name of the server. Raises Ended, TimedOut.

        A server that does not know SERVER is asked in the original way; its answer is the next text.
        """
        try:
            return await self._ask(wire.ask(Word.SERVER), Word.SERVER)
        except ProtocolError:
            pass
        async with self._turn:
            self._plain_answer = asyncio.get_running_loop().create_future()
            try:
                await self._send(wire.ask(Word.NAME))
                return await self._in_time(self._plain_answer)
            finally:
                self._plain_answer = None

    async def services(self) -> list[About]:
        """Return the services of the server. Raises Ended, TimedOut, ProtocolError."""
        lines = await self._services()
        parted = (line.partition(": ") for line in lines[1:])
        return [About(title, text) for title, _, text in parted]

    async def service(self) -> str:
        """Return the name of the service in use. Raises Ended, TimedOut, ProtocolError."""
        return (await self._services())[0]

    async def _services(self) -> list[str]:
        return (await self._ask(wire.ask(Word.SERVICE), Word.SERVICES)).split("\n")

    async def choose(self, title: str) -> str:
        """Change to the service named title, in any case; return its name as the server spells it.

        Raises Refused, Ended, TimedOut, ProtocolError.
        """
        return await self._ask(wire.tell(Word.SERVICE, _checked(title)), Word.SERVICE)

    async def rename(self, name: str) -> None:
        """Change the name of this client. Raises ValueError, Refused, Ended, TimedOut, ProtocolError."""
        if fault := wire.name_fault(name):
            raise ValueError(fault)
        self.name = await self._ask(wire.tell(Word.NAME, name), Word.NAME)

    async def change_key(self, key: str | None = None) -> None:
        """Change the key; None: to a random one. Raises ValueError, Ended, TimedOut, Refused.

        Texts that are sent meanwhile wait until the server has answered.
        """
        key = wire.new_key() if key is None else key
        if fault := wire.new_key_fault(key, self.is_encrypted):
            raise ValueError(fault)
        async with self._turn, self._sending:
            self._new_key = key
            try:
                await self._request(wire.tell(Word.KEY, key), Word.KEY)
            except TimedOut as error:
                self._over(error)  # it is unknown which key the server uses now
                raise
            finally:
                self._new_key = None

    async def stop_server(self) -> None:
        """Stop the server, if it allows that. Raises Refused, Ended, TimedOut."""
        with contextlib.suppress(Ended):
            await self._ask(wire.STOP, Word.STOP)

    async def close(self) -> None:
        """Close the connection; sent texts still reach a server that reads them soon."""
        if self._end is None:
            self._over(Ended("closed"))
        self._line.transport.close()
        try:
            async with asyncio.timeout(LINGER):
                await asyncio.shield(self._lost)
        except TimeoutError:
            self._line.abort()

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    # --- inside -------------------------------------------------------------------------------------------

    async def _send(self, text: str) -> None:
        async with self._sending:
            self._write(text)
            await self._line.drained()

    def _write(self, text: str) -> None:
        if self._end is not None:
            raise self._ended()
        assert self._handshake.codec is not None
        self._line.transport.write(self._handshake.codec.encode((text,)))

    async def _ask(self, text: str, word: Word) -> str:
        """Send one of the protocol's own messages, and return the answer."""
        async with self._turn, self._sending:
            return await self._request(text, word)

    async def _request(self, text: str, word: Word) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._write(text)
        self._asked.append((text, word, answer))
        self._line.transport.resume_reading()
        return await self._in_time(answer)

    def _ended(self) -> LaboratoryError:
        """The reason why the connection is over, to be raised."""
        reason = self._end or Ended("closed")
        return type(reason)(str(reason))

    async def _in_time(self, answer: asyncio.Future[str]) -> str:
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            raise TimedOut(f"no answer within {self._timeout:g} seconds") from None

    @property
    def _is_asking(self) -> bool:
        return bool(self._asked) or self._plain_answer is not None

    def _awaited(self) -> str:
        """A description of what the server has not sent yet."""
        step = self._handshake.step
        return "its key" if step is Step.KEY else f"{STEPS[step][0]!r}"

    def _received(self, data: bytes) -> None:
        """Handle received bytes; called by Line."""
        if self._end is not None:
            return
        handshake = self._handshake
        if not handshake.is_done:
            try:
                answer = handshake.feed(data)
            except Malformed as error:
                self._over(ProtocolError(f"the server does not speak this protocol: {error}"))
                return
            if answer:
                self._line.transport.write(answer)
            if handshake.refusal is not None:
                self._over(Refused(handshake.refusal))
            if not handshake.is_done:
                return
            self._accepted.set_result(None)
            texts, handshake.texts = handshake.texts, []
        else:
            assert handshake.codec is not None
            texts = handshake.codec.feed(data)
        self._take(texts)

    def _take(self, texts: list[str]) -> None:
        codec = self._handshake.codec
        assert codec is not None
        while texts and self._end is None:
            for text in texts:
                self._on_text(text)
            texts = codec.feed(b"")
        if codec.failure is not None and self._end is None:
            self._over(ProtocolError(f"the server does not speak this protocol: {codec.failure}"))
        if self._texts:
            _wake(self._receivers)
        if len(self._texts) > MOST_WAITING and not self._is_asking:
            self._line.transport.pause_reading()

    def _on_text(self, text: str) -> None:
        own = wire.parse(text)
        if own is None:
            if self._asked and text == f'I received "{self._asked[0][0]}" from you.':
                # An original server answers in this way, because it takes the request for a text.
                self._answered(ProtocolError(f"the server does not know {self._asked[0][0]!r}"))
            elif self._plain_answer is not None and not self._plain_answer.done():
                self._plain_answer.set_result(text)
            else:
                self._texts.append(text)
        elif own.form is Form.VALUE and own.word is Word.TEXT:
            self._texts.append(own.value)
        elif not self._on_own(text, own):
            self._texts.append(text)

    def _on_own(self, text: str, own: Own) -> bool:
        """Handle one of the protocol's own messages. Returns whether it was expected."""
        if own.form is Form.ORDER:
            self._over(Stopped("the server is going down"))
            return True
        reason = refusal(text)
        if reason is not None:
            self._over(Ended(f"the server has ended the connection: {reason}"))
            return True
        if own.form is Form.VALUE and own.word is Word.KEY and self._new_key is not None:
            assert self._handshake.codec is not None
            self._handshake.codec.receive_under(self._new_key)
            self._handshake.codec.send_under(self._new_key)
        if not any(_is_answer(own, word) for _, word, _ in self._asked):
            return False
        while not _is_answer(own, self._asked[0][1]):
            self._asked.popleft()  # this request was not answered in time, and nothing waits for it
        self._answered(Refused(own.value) if own.form is Form.REFUSAL else own.value)
        return True

    def _answered(self, answer: str | LaboratoryError) -> None:
        _, _, waiting = self._asked.popleft()
        if waiting.done():
            return  # too late
        if isinstance(answer, str):
            waiting.set_result(answer)
        else:
            waiting.set_exception(answer)

    def _over(self, reason: LaboratoryError) -> None:
        """End the connection; the first reason counts."""
        if self._end is None:
            self._end = reason
        if not self._accepted.done():
            self._accepted.set_exception(self._end)
            self._accepted.exception()  # otherwise asyncio complains if nothing waits for it
        _wake(self._receivers)
        while self._asked:
            self._answered(self._end)
        if self._plain_answer is not None and not self._plain_answer.done():
            self._plain_answer.set_exception(self._end)
        self._line.transport.close()

    def _on_lost(self, error: Exception | None) -> None:
        if not self._accepted.done():
            reason: LaboratoryError = Refused(
                f"the server has ended the connection, before {self._awaited()}"
            )
        elif error is not None:
            reason = Ended(f"the connection broke: {reason_of(error)}")
        else:
            reason = Ended("the server has ended the connection")
        self._over(reason)
        if not self._lost.done():
            self._lost.set_result(None)


class Line(asyncio.Protocol):
    """The socket, for asyncio."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.is_made = False
        self.address = ("", 0)
        self._is_full = False
        self._room: list[asyncio.Future[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.is_made = True
        self.address = transport.get_extra_info("sockname")[:2]

    def data_received(self, data: bytes) -> None:
        self._connection._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        self._connection._on_lost(exc)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        _wake(self._room)

    async def drained(self) -> None:
        """Wait until the server has read most of what was sent."""
        if self._is_full and not self.transport.is_closing():
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(waiting)
            await waiting

    def abort(self) -> None:
        if self.is_made:
            self.transport.abort()


def _is_answer(own: Own, word: Word) -> bool:
    """Whether a message is the answer to a request."""
    return own.word is word and own.form in (Form.VALUE, Form.REFUSAL)


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    """Wake all waiters."""
    for one in waiting:
        if not one.done():
            one.set_result(None)
    waiting.clear()


def _checked(text: str) -> str:
    if wire.END in text:
        raise ValueError("the text contains a NUL, which ends messages")
    return text
