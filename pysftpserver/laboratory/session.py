"""The server's side of one connection: it feeds bytes to the protocol and messages to a service, with limits.

Received bytes are handled in slices, and the answers to a slice are one write: a segment with a hundred
messages costs little more than one with a single message. Nothing more is read from a client until the
service has finished with its last message, or while it does not read its answers; other clients are served.
What may not enter: listening, which services there are, how they are made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from time import monotonic

from pysftpserver.engine.log import VERBOSE
from pysftpserver.laboratory import wire
from pysftpserver.laboratory.handshake import ServerHandshake, Step
from pysftpserver.laboratory.outgoing import Outgoing
from pysftpserver.laboratory.service import NETWORK, Client, finished, title_of, work_of
from pysftpserver.laboratory.wire import Form, Word
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from pysftpserver.laboratory.server import Server
    from pysftpserver.laboratory.service import Service
    from pysftpserver.laboratory.wire import Codec
    from pysftpserver.service.audit import DoorAudit

TURN = 0.02  # seconds of work on messages of one client before other clients have their turn
TOGETHER = 64  # messages between checks of the clock
SLICE = 16 << 10  # bytes handled between checks that the client reads the answers
LINGER = 2.0  # seconds for a client to read the last message and to close its side
LEAVING = 10.0  # seconds that on_leave() may take

KEY_CHANGED = wire.tell(Word.KEY, "changed")


class Session(asyncio.BufferedProtocol):
    """One connection. When it ends, a line in the log says why."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._settings = server.settings
        self._loop = server.loop
        self._handshake = ServerHandshake()
        self._codec: Codec | None = None
        self.client: Client | None = None
        self._service: Service | None = None
        self._unread = b""  # received bytes that are not decoded yet
        self._texts: deque[str] = deque()  # decoded messages that are not handled yet
        self._is_pumping = False
        self._busy: asyncio.Task[None] | None = None  # the service's work on a message
        self._is_reading = True
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0  # when something was last received, by the loop's clock
        self.network = ""  # of its address, for the server
        self.began = self._loop.time()
        self.is_admitted = False
        self._audit: DoorAudit | None = None
        self.is_ended = self.is_lost = False
        self._is_stopping = self._has_ordered = False

    # --- what asyncio calls -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        address = transport.get_extra_info("peername") or ("?", 0)
        self.address: tuple[str, int] = (str(address[0]), int(address[1]))
        host, port = self.address
        self.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.log = self._server.log_limit.of(network_of(host))
        self._outgoing = Outgoing(transport, self._settings, self._abort)
        reason = self._server.admit(self)
        self._context = copy_context()
        self._context.run(NETWORK.set, self.network)
        if reason is not None:
            self.log.error(f"{self.peer}: refused: {reason}")
            self._close(wire.refused(Word.CONNECTION, reason))
            return
        self.is_admitted = True
        self._must_be_in = self._loop.time() + self._settings.login_grace
        self._key = self._server.keys.get()
        transport.write(self._key.pem)
        self._wait()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._server.room  # its bytes are copied before another connection uses it

    def buffer_updated(self, nbytes: int) -> None:
        if self.is_ended:
            return
        data = bytes(self._server.room[:nbytes])
        if self._codec is None:
            found = self._handshake.feed(data)
            if found is None:
                return
            data = found[1]
            self._begin(found[0])
        self._last = self._loop.time()
        self._unread = self._unread + data if self._unread else data
        self._pump()

    def eof_received(self) -> bool:
        return False  # let the transport send the rest and close

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if not self.is_ended:
            self._finish("gone" if self.client is not None else f"gone before its {self._awaited()}")
        if self._timer is not None:
            self._timer.cancel()
        self._outgoing.close()
        self._server.forget(self)

    def pause_writing(self) -> None:
        self._outgoing.pause()

    def resume_writing(self) -> None:
        self._outgoing.resume()
        self._pump()

    # --- the login ----------------------------------------------------------------------------------------

    def _awaited(self) -> str:
        if self._handshake.step is Step.KEY and self._handshake.count:
            return f"key ({self._handshake.count} of its {wire.RSA_BYTES} bytes came)"
        return self._handshake.step.value

    def _wait(self) -> None:
        """Begin the time limit of the client's next step."""
        if self._timer is not None:
            self._timer.cancel()
        step, all_steps = self._settings.step_timeout, self._must_be_in - self._loop.time()
        when = f"within {step:g} seconds" if step <= all_steps else "in time (login_grace)"
        self._timer = self._loop.call_later(min(step, all_steps), self._too_slow, when)

    def _too_slow(self, when: str) -> None:
        self._end(f"its {self._awaited()} did not come {when}", "too slow")

    def _begin(self, raw: bytes) -> None:
        """Handle the complete encrypted key."""
        key = wire.decrypted_key(self._key.private, raw)
        del self._key
        self._codec = self._outgoing.codec = wire.codec(key, self._settings.max_message)
        if not key:
            if not self._settings.allow_plaintext:
                reason = "this server requires encryption, and the key is empty"
                self._end("an empty key; allow_plaintext would allow it", reason)
                return
            self.log.info(f"{self.peer}: NOT ENCRYPTED: an empty key")
        self._say_next()

    def _say_next(self) -> None:
        self._send(self._handshake.next())
        self._wait()

    def _answer(self, text: str) -> None:
        """Handle the answer to a step of the login after the key."""
        if self._handshake.step is Step.PASSWORD:
            reason = self._server.judge(self, text)
            if reason is not None:
                self._end(f"login refused: {reason}", reason)
                self._audit = self._server.audit_of(self, "")
                self.note("login", "PERMISSION_DENIED", message=reason)
                return
            self._say_next()
            return
        reason = wire.name_fault(text)
        if reason is not None:
            self._end(reason, reason)
            return
        assert self._codec is not None
        self._say_next()
        if self._timer is not None:
            self._timer.cancel()
        self._watch_idle()
        self.client = Client(self, text, self.address, self._codec.is_encrypted)
        how = "encrypted" if self._codec.is_encrypted else "NOT ENCRYPTED"
        self.log.info(f"{self.peer}: accepted as {text!a}, {how}")
        self._audit = self._server.audit_of(self, text)
        self.note("login", is_encrypted=self._codec.is_encrypted)
        self._join(self._server.services.default)

    # --- messages -----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Handle what has arrived, until the service is busy or the client is behind with reading."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            self._handle_all()
        finally:
            self._is_pumping = False
        self._outgoing.flush()
        if self._is_stopping and self._busy is None and not self._texts and not self._unread:
            self.stop_now()
        should_read = not self._unread and not self._texts and not self._is_stopping
        if should_read is not self._is_reading and not self.is_ended and not self.is_lost:
            self._is_reading = should_read
            if should_read:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _handle_all(self) -> None:
        texts = self._texts
        outgoing = self._outgoing
        handled = 0
        turn_ends = monotonic() + TURN
        while not self.is_ended:
            while texts:
                # Same as _must_wait(), without a call for each message.
                if self._busy is not None or outgoing.is_full or self.is_ended:
                    return
                if handled == TOGETHER:
                    if monotonic() > turn_ends:
                        self._loop.call_soon(self._pump)
                        return
                    handled = 0
                handled += 1
                self._handle(texts.popleft())
            codec = self._codec
            if codec is None or self._must_wait():
                return
            if codec.failure is not None:
                if self.client is None:
                    self._server.failed(self)
                self._end(codec.failure, codec.failure)
                return
            self._outgoing.flush()  # shows whether the client is behind
            if self._must_wait():
                return
            piece = self._unread[:SLICE]
            self._unread = self._unread[SLICE:]
            texts.extend(codec.feed(piece))
            if not piece and not texts and codec.failure is None:
                return

    def _must_wait(self) -> bool:
        return self._busy is not None or self._outgoing.is_full or self.is_ended

    def _handle(self, text: str) -> None:
        if self.client is None:
            self._answer(text)
            return
        own = wire.parse(text)
        if own is None or not self._handle_own(self.client, own):
            self._to_service(self.client, text)

    def _to_service(self, client: Client, text: str) -> None:
        assert self._service is not None
        try:
            result = self._service.on_message(client, text)
            if result is not None:
                self._await(result)
        except BaseException as error:  # an exception of a service costs one message and nothing else
            self._fault(error)

    def _handle_own(self, client: Client, own: wire.Own) -> bool:
        """Handle a message of the protocol's own. Returns whether it is one that a client may send."""
        form, word, value = own
        server = self._server
        if form is Form.VALUE and word is Word.TEXT:
            self._to_service(client, value)
        elif form is Form.QUESTION and word is Word.NAME:
            self._send(server.name)
        elif form is Form.QUESTION and word is Word.SERVER:
            self._send(wire.tell(Word.SERVER, server.name))
        elif form is Form.QUESTION and word is Word.SERVICE:
            assert self._service is not None
            self._send(wire.tell(Word.SERVICES, server.services.listing(self._service)))
        elif form is Form.VALUE and word is Word.SERVICE:
            self._choose(value)
        elif form is Form.VALUE and word is Word.NAME:
            self._rename(client, value)
        elif form is Form.VALUE and word is Word.KEY:
            self._change_key(value)
        elif form is Form.ORDER:
            self._stop_server()
        else:
            return False
        return True

    def _choose(self, title: str) -> None:
        chosen = self._server.services.find(title)
        if chosen is None:
            self._send(wire.refused(Word.SERVICE, "no service has that name; SERVICE ? lists them"))
            return
        title = title_of(chosen)
        self._send(wire.tell(Word.SERVICE, title))
        self.note("service", service=title)
        if chosen is not self._service:
            self._start(self._change_service(chosen))

    def _rename(self, client: Client, name: str) -> None:
        fault = wire.name_fault(name)
        if fault is not None:
            self._send(wire.refused(Word.NAME, fault))
            return
        before, client.name = client.name, name
        self.log.info(f"{self.peer}: {before!a} is now {name!a}")
        self._send(wire.tell(Word.NAME, name))
        assert self._service is not None
        self._call(self._service.on_rename, client, before)

    def _change_key(self, key: str) -> None:
        """Change keys after the answer: the client's message and the answer to it still use the old key."""
        assert self._codec is not None
        fault = wire.new_key_fault(key, self._codec.is_encrypted)
        if fault is not None:
            self._send(wire.refused(Word.KEY, fault))
            return
        self._send(KEY_CHANGED)
        self._outgoing.flush()
        self._codec.receive_under(key)
        self._codec.send_under(key)
        self.log.info(f"{self.peer}: the key was changed")

    def _stop_server(self) -> None:
        if not self._settings.allow_remote_stop:
            if not self._has_ordered:  # a line for each would let a client fill the disk with logs
                self._has_ordered = True
                self.log.error(f"{self.peer}: STOP SERVER was refused; allow_remote_stop would allow it")
            self._send(wire.refused(Word.STOP, "clients may not stop this server"))
            return
        self.log.info(f"{self.peer}: STOP SERVER")
        self._server.stop_wanted()

    # --- the service --------------------------------------------------------------------------------------

    def _join(self, service: Service) -> None:
        assert self.client is not None
        self._service = service
        self._server.services.members(service).add(self.client)
        self._call(service.on_join, self.client)

    async def _change_service(self, chosen: Service) -> None:
        old = self._service
        assert old is not None and self.client is not None
        self._service = None
        # on_leave() runs to its end even if the client disconnects meanwhile.
        await asyncio.shield(self._server.look_after(self._say_goodbye(old, self.client), self._context))
        self._service = chosen
        self._server.services.members(chosen).add(self.client)
        await finished(chosen.on_join(self.client))

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            self._await(method(*arguments))
        except BaseException as error:
            self._fault(error)

    def _await(self, result: object) -> None:
        """Await a method that has not finished at once; the client's next message waits for it."""
        work = work_of(result)
        if work is not None:
            self._start(finished(work))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._busy = self._loop.create_task(work, context=self._context)
        self._busy.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._busy = None
        if not task.cancelled():
            error = task.exception()
        else:  # by the service, if the connection goes on
            error = None if self.is_ended else asyncio.CancelledError("cancelled")
        if error is not None:
            self._fault(error)
        self._pump()

    def _fault(self, error: BaseException) -> None:
        """Log a service's exception, and tell the client that its message is lost."""
        title = title_of(self._service) if self._service is not None else "?"
        self.log.error(f"{self.peer}: the service {title} failed:")
        self.log.fault(error)
        self._send(wire.refused(Word.MESSAGE, f"the service {title} failed ({type(error).__name__})"))

    async def _leave(self, client: Client) -> None:
        """Cancel the service's work for a client that has left, then call on_leave()."""
        if self._busy is not None:
            self._busy.cancel()
            await asyncio.wait([self._busy])
        service, self._service = self._service, None
        if service is not None:
            await self._say_goodbye(service, client)
        if self._audit is not None:
            self._audit.ended()

    async def _say_goodbye(self, service: Service, client: Client) -> None:
        self._server.services.members(service).discard(client)
        try:
            async with asyncio.timeout(LEAVING):
                await finished(service.on_leave(client))
        except BaseException as error:
            self.log.error(f"{self.peer}: the service failed in on_leave():")
            self.log.fault(error)

    # --- sending ------------------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Send a text of a service. Raises ValueError for one that contains a NUL."""
        if wire.END in text:
            raise ValueError("the text contains a NUL, which ends messages")
        self._outgoing.add(wire.escaped(text), self._is_pumping)

    def _send(self, text: str) -> None:
        self._outgoing.add(text, self._is_pumping)

    async def drained(self) -> None:
        """Wait until the client has read most of what was sent."""
        await self._outgoing.drained()

    def _watch_idle(self) -> None:
        seconds = self._settings.idle_timeout
        if seconds is None or self.is_ended:
            return
        left = self._last + seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left + 0.001, self._watch_idle)
            return
        self._end(f"silent for {seconds:g} seconds (idle_timeout)", "silent for too long")

    # --- the audit log ------------------------------------------------------------------------------------

    def note(self, request: str, result: str = "OK", **details: Any) -> None:
        """Record something in the audit log, as DoorAudit.note() does; ends the connection if that fails."""
        if self._audit is None:
            return
        try:
            self._audit.note(request, result, **details)
        except SFTPSessionEnd as error:
            self._end(str(error), "this cannot be recorded now")

    # --- the end ------------------------------------------------------------------------------------------

    def disconnect(self, reason: str) -> None:
        """End the connection at a service's request."""
        self._end(f"disconnected by the service: {reason}", reason.replace(wire.END, " "))

    def stop(self) -> None:
        """The server is going down: handle what has arrived, then tell the client."""
        if self.client is None:
            self._abort("the server is going down")
        elif not self.is_ended:
            self._is_stopping = True
            self._pump()

    def stop_now(self) -> None:
        """Tell the client that the server is going down, unless its connection has ended."""
        if not self.is_ended:
            self._finish("the server is going down")
            self._close(wire.STOP)

    def _end(self, reason: str, said: str) -> None:
        """End the connection. reason: for the log. said: for the client."""
        if not self.is_ended:
            self._finish(reason)
            self._close(wire.refused(Word.CONNECTION, said))

    def _abort(self, reason: str) -> None:
        """End the connection without a last message."""
        if not self.is_ended:
            self._finish(reason)
        self.transport.abort()

    @property
    def is_stranger(self) -> bool:
        """Whether it has not logged in, or has ended and its client has not closed the connection."""
        return self.client is None or self.is_ended

    def make_room(self) -> None:
        """End at once: others are waiting, and this client has not logged in."""
        self._abort("it has not logged in, and others are waiting")

    def _finish(self, reason: str) -> None:
        self.is_ended = True
        self._server.ended(self)
        self._texts.clear()
        self._unread = b""
        if self.client is not None:
            self._server.look_after(self._leave(self.client), self._context)
        level = self.log.info if self.client is not None and self.is_lost else self.log.error
        who = self.peer if self.client is None else f"{self.peer} {self.client.name!r}"
        if self.client is None and self.is_lost:
            self.log.write(VERBOSE, f"{who}: {reason}")
        else:
            level(f"{who}: ended: {reason}")

    def _close(self, text: str) -> None:
        """Send a last message, and close when the client has closed its side, or soon.

        Closing while something is unread resets the connection, and the client may lose what it has not read.
        So the server sends nothing more and discards what still arrives. A client that was not admitted has
        not sent anything yet.
        """
        if self._codec is not None:
            self._outgoing.add(text, is_flushed_later=True)
            self._outgoing.flush()
        elif self._handshake.step is Step.KEY:
            self.transport.write(f"{text}\0".encode())  # in place of the server's key, or after it
        self._outgoing.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER, self.transport.abort)
        if not self.is_admitted:
            self.transport.close()
        elif not self.transport.is_closing():
            try:
                self.transport.write_eof()
            except OSError:
                self.transport.abort()  # the client has disconnected
                return
            if not self._is_reading:
                self.transport.resume_reading()
