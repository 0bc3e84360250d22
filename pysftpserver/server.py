"""SFTPServer: one SFTP session. Bytes in, bytes out; it does no I/O of its own.

A door hands received bytes to consume() (or to input_queue and process()), and sends the replies in
`output`. Every request takes the same path: framing, look-up in the table of requests, decoding, hooks,
handler, reply; an exception on the way becomes a reply in Session.answer_error(). What may not enter:
sockets, concrete storages, single requests (requests.py), what a request may touch (session.py).
Facts: draft-ietf-secsh-filexfer-02, sections 3 and 4; otherwise the behaviour of sftp-server(8).
"""

from __future__ import annotations

import os
import sys
import time

from pysftpserver.engine import wire
from pysftpserver.engine.bulk import TRANSFERS, serve_transfers
from pysftpserver.engine.handlers import serve_close
from pysftpserver.engine.handles import FileHandle
from pysftpserver.engine.limits import Limits
from pysftpserver.engine.log import DEBUG1, VERBOSE, SFTPLog, file_sink
from pysftpserver.engine.requests import CHECKS, EXTENDED_REQUESTS, REQUESTS, Request, offered
from pysftpserver.engine.session import Session
from pysftpserver.engine.wire import *  # noqa: F403 -- the constants are part of this module's interface
from pysftpserver.engine.wire import (
    PACKET_HEADER,
    REQUEST_HEADER,
    SSH2_FXP_EXTENDED,
    SSH2_FXP_INIT,
    TRANSFER_HEADER,
    MalformedPacket,
    head_at,
    length_at,
    string_at,
    u32_at,
)
from pysftpserver.failures import show
from pysftpserver.pysftpexceptions import (
    SFTPBadMessage,
    SFTPEndOfFile,
    SFTPForbidden,
    SFTPSessionEnd,
    SFTPUnsupported,
    is_expected,
    status_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.engine.receipts import Receipt
    from pysftpserver.hook import SFTPEvent, SFTPHook
    from pysftpserver.stdio import Control

__all__ = ["Limits", "SFTPLog", "SFTPServer"] + [name for name in vars(wire) if name.startswith("SSH2_")]


class SFTPServer(Session):
    """One session: a storage on one side, packets on the other.

    storage: where the files live. hook: sees every request. logfile: a path to append the log to;
    log: an SFTPLog instead, if the caller has one. fd_in, fd_out: the descriptors that run() serves.
    raise_on_error: for tests of storages: process() raises what a request raised, after queueing its
    reply, and no INIT is needed first. read_only: refuse every request that changes anything. allow,
    deny: names of requests; deny overrides allow. limits: of the session; None: the defaults. allow_setid:
    keep the set-uid and set-gid bits that clients send; the default is to drop them. checksums: whether
    to offer the check-file extensions.
    Raises ValueError for a request name that does not exist, OSError for a logfile that cannot be opened.

    The attribute initialized is true once INIT was answered; ended is the reason why the session has to end,
    or None.
    """

    def __init__(
        self,
        storage: SFTPAbstractServerStorage,
        hook: SFTPHook | None = None,
        logfile: str | os.PathLike[str] | None = None,
        fd_in: int = 0,
        fd_out: int = 1,
        raise_on_error: bool = False,
        *,
        log: SFTPLog | None = None,
        read_only: bool = False,
        allow: Collection[str] | None = None,
        deny: Collection[str] = (),
        limits: Limits | None = None,
        allow_setid: bool = False,
        checksums: bool = True,
    ) -> None:
        log = log or SFTPLog(file_sink(logfile) if logfile is not None else None)
        super().__init__(storage, log, limits or Limits(), read_only, raise_on_error, allow_setid)
        self.fd_in = fd_in
        self.fd_out = fd_out
        if hasattr(storage, "ends_session"):  # another server, without which there is nothing left to serve
            storage.ends_session = True
        self._extensions = offered(type(storage))
        if storage.lacks:
            found = self._extensions.items()
            self._extensions = {name: row for name, row in found if not storage.lacks.intersection(row.needs)}
        self.checksums = checksums
        if not checksums:
            self._extensions = {name: row for name, row in self._extensions.items() if name not in CHECKS}
        self._refused = _refusals(read_only, allow, deny)
        self.hook = hook
        self._harmless = self.limits.harmless
        self.initialized = raise_on_error
        self._input = b""
        self._closed = False
        if hook is not None:
            hook.started()

    @property
    def hook(self) -> SFTPHook | None:
        """The hook of the session; it sees the requests that it wants."""
        return self._hook

    @hook.setter
    def hook(self, hook: SFTPHook | None) -> None:
        self._hook = hook
        if hook is not None:
            # Imported now, while no sandbox prevents it, and only by sessions with a hook.
            from pysftpserver.hook import SFTPEvent

            self._new_event = SFTPEvent
            if hook.wants_digests:
                from pysftpserver.engine.receipts import Digest

                self.handles.new_digest = Digest
        rows = (*REQUESTS.values(), *EXTENDED_REQUESTS.values())
        heard = () if hook is None else (row.name for row in rows if hook.hears(row.name))
        self._heard = frozenset(heard)
        self._watched = self._heard | self._refused.keys()
        # bulk.py checks neither the hook nor the lists, nor whether INIT was received.
        if not self.raise_on_error:
            self.transfers = frozenset(k for k, name in TRANSFERS.items() if name not in self._watched)

    # --- bytes in, bytes out ----------------------------------------------------------------------

    @property
    def input_queue(self) -> bytes:
        """Received bytes that process() has not consumed yet."""
        return self._input

    @input_queue.setter
    def input_queue(self, data: bytes) -> None:
        self._input = data

    @property
    def output_queue(self) -> bytes:
        """All replies that wait to be sent. Assign b"" once they are."""
        return bytes(self.output)

    @output_queue.setter
    def output_queue(self, data: bytes) -> None:
        self.output.clear()
        if data:
            self.output.append(data)

    def process(self) -> None:
        """Serve every complete packet in input_queue, however large output_queue becomes."""
        data = self._input
        limit, self.queue_limit = self.queue_limit, sys.maxsize
        try:
            self.consume(memoryview(data), 0, len(data))
        finally:
            self.queue_limit = limit
            self._input = data[self.position :]
            self.position = 0

    def consume(self, buffer: memoryview, start: int, end: int) -> int:
        """Serve the complete packets in buffer[start:end]; return where the rest begins.

        It pauses while the replies in the output queue exceed queue_limit: call it again with the rest
        once they are sent. With sends_each, it pauses after each reply as well. It keeps no reference to
        the buffer. Once `ended` is set, everything is consumed and nothing served.
        """
        self.position = start  # kept up to date for process(), which must know it after an exception
        transfers = self.transfers if self.log.level < DEBUG1 else ()
        while self.ended is None and not self.stopping and end - start > PACKET_HEADER:
            if self.output.size > self.queue_limit:
                break
            if transfers and end - start >= TRANSFER_HEADER and buffer[start + PACKET_HEADER] in transfers:
                self.position = serve_transfers(self, buffer, start, end)
                if self.position > start:
                    start = self.position
                    continue
            (length,) = length_at(buffer, start)
            if not 0 < length <= self.limits.packet:
                self._break_off(f"a packet of {length} bytes")
                break
            body = start + PACKET_HEADER
            stop = body + length
            if stop > end:
                break
            self.position = start = stop
            self._serve(buffer, body, stop)
            if self.sends_each and self.output.size:
                break
        if self._hook is not None:
            self._tell_replying(self._hook)
        if self.ended is not None:
            self.position = end
        return self.position

    def run(self, sandbox: bool = False, name: str | None = None, control: Control | None = None) -> int:
        """Serve fd_in and fd_out until the client is gone; return an exit status.

        sandbox: confine this process to what the storage needs, for good (sandbox.py). name: of the client,
        for the log; None: the account has one client. control: the link to the process for which this one
        serves, if there is one (stdio.py).
        """
        from pysftpserver.stdio import serve

        return serve(self, sandbox, name, control)

    # --- one request ------------------------------------------------------------------------------

    def _serve(self, buffer: memoryview, pos: int, stop: int) -> None:
        if buffer[pos] == SSH2_FXP_INIT:
            self._serve_init(buffer, pos + 1, stop)
            return
        if not self.initialized:
            self._break_off(f"request {buffer[pos]} before INIT")
            return
        if stop - pos < REQUEST_HEADER:
            self._break_off("a packet without a request id")
            return
        kind, request_id = head_at(buffer, pos)
        pos += REQUEST_HEADER
        request = None
        try:
            if kind == SSH2_FXP_EXTENDED:
                name, pos = string_at(buffer, pos, stop)
                request = self._extensions.get(name)
                if name not in EXTENDED_REQUESTS:
                    self.log.write(VERBOSE, f'Unknown extended request "{show(name)}"')
            else:
                request = REQUESTS.get(kind)
                if request is None:
                    self.log.error(f"Unknown message {kind}")
            if request is None:
                raise SFTPUnsupported
            if self.output.late:
                self.output.settle()
            arguments = request.decode(buffer, pos, stop)
            if stop - pos > self._harmless:
                self.limits.check(request.fields, arguments)
        except BaseException as error:
            self._tell_rejected(request.name if request is not None else "unknown", error)
            self.answer_error(request_id, request.name if request is not None else "a request", error)
            return
        try:
            if request.name in self._watched or request.level <= self.log.level:
                self._serve_watched(request, request_id, arguments)
            else:
                request.handler(self, request_id, *arguments)
        except BaseException as error:
            # Refused by a hook or a list, or failed: many clients close the file as if nothing had happened.
            # (The end of the source is not a failure for a client that copies piece by piece.)
            if request.fills and not isinstance(error, SFTPEndOfFile):
                self.handles.spoil(arguments[request.fields.index(request.fills)])
            if self._hook is not None and request.name not in self._heard:
                self._tell_refused(self._hook, request, arguments, error)
            self.answer_error(request_id, request.name, error)

    def _serve_watched(self, request: Request, request_id: int, arguments: tuple[Any, ...]) -> None:
        """Serve a request that the log, the allow and deny lists, or the hook must see first."""
        hook = self._hook
        name = request.name
        if hook is None or name not in self._heard:
            self._check(request)
            self._log_request(request, request_id, arguments)
            request.handler(self, request_id, *arguments)
            return
        fields = request.fields
        named = {fields[0]: arguments[0]} if len(fields) == 1 else dict(zip(fields, arguments, strict=True))
        event = self._event(name, named)
        read = self.handles.bytes_read(named["handle"]) if "handle" in named else 0
        began = time.perf_counter()
        try:
            hook.before(event)
            if name in self._refused:
                self._check(request)
            if request.level <= self.log.level:
                self._log_request(request, request_id, arguments)
            if name == "close":
                self._close_watched(event, request_id, *arguments)
            elif size := request.handler(self, request_id, *arguments):
                event.size = size
        except BaseException as error:
            event.status, event.message = status_of(error)
            if "handle" in named:  # copy-data may have copied a part
                event.size = max(0, self.handles.bytes_read(named["handle"]) - read)
            raise
        finally:
            event.seconds = time.perf_counter() - began
            self._tell(hook.after, event)

    def _close_watched(self, event: SFTPEvent, request_id: int, name: bytes) -> None:
        """Serve CLOSE, and put into its event what was moved through the handle."""
        file = self.handles.opened.get(name)
        if type(file) is not FileHandle:
            serve_close(self, request_id, name)
            return
        receipt = self._tell_moved(event, file)
        serve_close(self, request_id, name)
        if receipt is not None and receipt.is_open:
            from pysftpserver.engine.receipts import read_again

            receipt = read_again(self, file.path)
            event.sha256, event.sha256_missing = receipt.sha256, receipt.missing

    def _tell_moved(self, event: SFTPEvent, file: FileHandle) -> Receipt | None:
        """Put into an event what was moved through a file's handle; return its receipt, if there is one."""
        event.read, event.written = file.bytes_read, file.bytes_written
        if file.fetched is None and file.stored is None:
            return None
        from pysftpserver.engine.receipts import streamed

        receipt = streamed(self, file)
        event.sha256, event.sha256_missing = receipt.sha256, receipt.missing
        return receipt

    def _log_request(self, request: Request, request_id: int, arguments: tuple[Any, ...]) -> None:
        if request.line is None:
            self.log.write(request.level, f"request {request_id}: {request.name}")
        elif request.level <= self.log.level:
            for line in request.line(self, *arguments):
                self.log.write(request.level, line)

    def _serve_init(self, buffer: memoryview, pos: int, stop: int) -> None:
        """INIT has a version and no request id; sent again, it is answered again.

        The reply has the lower version of the two. An older client still gets the packets of version 3, which
        contain the fields of versions 0 to 2.
        """
        try:
            version = u32_at(buffer, pos, stop)
        except MalformedPacket as error:
            self._refuse_init(error)
            self._tell_rejected("init", error)
            return
        self.log.write(VERBOSE, f"received client version {version}")
        if self._hook is not None and self._hook.hears("init") and not self._may_begin(self._hook, version):
            return
        self.initialized = True
        self.output.append(wire.encode_version(self._announced(), min(version, wire.SFTP_VERSION)))

    def _may_begin(self, hook: SFTPHook, version: int) -> bool:
        """Ask the hook about INIT, and tell it the result; return whether the session goes on."""
        event = self._event("init", {"version": version})
        try:
            hook.before(event)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            event.status, event.message = status_of(error)
            self._refuse_init(error)
        self._tell(hook.after, event)
        return self.ended is None

    def _refuse_init(self, error: BaseException) -> None:
        if isinstance(error, SFTPSessionEnd):
            self.end(str(error))
            return
        if not is_expected(error):
            self.log.fault(error)
        self.end(f"INIT refused ({type(error).__name__})")

    def _announced(self) -> Iterator[tuple[bytes, bytes]]:
        for name, request in self._extensions.items():
            if request.name in self._refused:
                self.log.write(VERBOSE, self._refused[request.name])
            elif request.version:
                yield name, request.version

    def _check(self, request: Request) -> None:
        refusal = self._refused.get(request.name)
        if refusal is not None:
            self.log.write(VERBOSE, refusal)
            raise SFTPForbidden

    def _event(self, name: str, arguments: dict[str, Any]) -> SFTPEvent:
        """The event of a request, for the hook."""
        event = self._new_event(name, arguments, arguments.get("path"), arguments.get("target"))
        if "handle" in arguments:
            event.path = self.handles.path_of(arguments["handle"])
            if event.target is not None:
                event.target = self.handles.path_of(event.target)
        return event

    def _tell_refused(
        self, hook: SFTPHook, request: Request, arguments: tuple[Any, ...], error: BaseException
    ) -> None:
        """Tell the hook of a refusal for which after() is not called."""
        status, message = status_of(error)
        if status == wire.SSH2_FX_PERMISSION_DENIED:
            event = self._event(request.name, dict(zip(request.fields, arguments, strict=True)))
            event.status, event.message = status, message
            self._tell(hook.refused, event)

    def _tell_replying(self, hook: SFTPHook) -> None:
        """Tell the hook that replies are about to be sent; drop them if it ends the session."""
        try:
            hook.replying()
        except SFTPSessionEnd as error:
            self.end(str(error))
            self.output.clear()
        except Exception as error:
            self.log.fault(error)

    def _tell(self, method: Callable[[SFTPEvent], None], event: SFTPEvent) -> None:
        """Tell the hook what happened. SFTPSessionEnd ends the session; any other exception is logged."""
        try:
            method(event)
        except SFTPSessionEnd as error:
            self.end(str(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.log.fault(error)

    def _tell_rejected(self, name: str, error: BaseException) -> None:
        """Tell the hook of a request that is not served."""
        if self.hook is not None:
            event = self._event(name, {})
            event.status, event.message = status_of(error)
            self._tell(self.hook.rejected, event)

    def _break_off(self, reason: str) -> None:
        """End the session: the input is not SFTP, so no later packet can be found in it."""
        self.end(reason)
        self._tell_rejected("unknown", SFTPBadMessage(reason))

    def close(self) -> None:
        """The session is over: close every handle that the client left open, and tell the hook.

        May be called twice.
        """
        events = [] if self._hook is None else list(self._left_open())
        super().close()
        if self._hook is None or self._closed:
            return
        self._closed = True
        for event in events:
            self._tell(self._hook.abandoned, event)
        try:
            self._hook.ended()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.log.fault(error)

    def _left_open(self) -> Iterator[SFTPEvent]:
        """An event for the hook for each file that the client has not closed."""
        for file in self.handles.opened.values():
            if type(file) is FileHandle:
                event = self._event("abandoned", {"path": file.path})
                receipt = self._tell_moved(event, file)
                if receipt is not None and receipt.is_open:
                    event.sha256_missing = "not closed, and not written in order"
                yield event


def _refusals(read_only: bool, allow: Collection[str] | None, deny: Collection[str]) -> dict[str, str]:
    """The names of the requests that this session refuses, each with a line for the log."""
    refused: dict[str, str] = {}
    if not read_only and allow is None and not deny:
        return refused
    known = [*REQUESTS.values(), *EXTENDED_REQUESTS.values()]
    for name in (*deny, *(allow or ())):
        if not any(name == request.name for request in known):
            raise ValueError(f"unknown request {name!r}")
    for request in known:
        if read_only and request.writes:
            refused[request.name] = f"Refusing {request.name} request in read-only mode"
        elif request.name in deny:
            refused[request.name] = f"Refusing denylisted {request.name} request"
        elif allow is not None and request.name not in allow:
            refused[request.name] = f"Refusing non-allowlisted {request.name} request"
    return refused
