"""The stdio door: one session on a pair of descriptors, as sshd hands them to a subsystem.

Sockets, pipes, terminals and files all work. One buffer is filled and emptied for the whole session;
replies are sent in batches (writev), file content one reply at a time through another buffer. Neither
direction ever waits for the other: the descriptors do not block, and poll says which is ready. Memory
is bounded by the buffer and the engine's queue_limit: while replies wait, requests are read until the
buffer is full, and then wait in the client. What may not enter: packets, storages.
Facts: poll(2), sshd(8) on subsystems.
"""

from __future__ import annotations

# The module signal wraps this one in enumerations. Importing those takes longer than all other imports here
# together, and every session would wait for it.
import _signal as signal  # type: ignore[import-not-found]
import os
import select
import sys
import time
from stat import S_ISSOCK

from pysftpserver.engine.log import DEBUG1, ERROR, INFO, VERBOSE
from pysftpserver.engine.segments import LateRead, buffer, room
from pysftpserver.failures import reason_of, show
from pysftpserver.pysftpexceptions import SFTPSessionEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from pysftpserver.abstractstorage import Promise
    from pysftpserver.engine.segments import OutputQueue
    from pysftpserver.server import SFTPServer

    class Control(Protocol):
        """The link between a session in its own process and the process for which it serves.

        descriptor: becomes readable when heard() has to be called. signals: numbers of the signals that end
        the session. received, sent: bytes that the session has moved. is_curious: whether paused() is called.
        is_leaving: whether leaves() is called, once.
        """

        descriptor: int
        signals: tuple[int, ...]
        received: int
        sent: int
        is_curious: bool
        is_leaving: bool

        def heard(self) -> None:
            """The descriptor is readable."""

        def paused(self, is_idle: bool) -> None:
            """The session is about to wait. is_idle: it has nothing to serve or send, and nothing open."""

        def leaves(self, is_idle: bool) -> bool:
            """Whether the session ends now. is_idle: as above, and nothing more was received."""


BUFFER = 1 << 19  # bytes; must hold the largest packet; a larger buffer saves reads
SEGMENTS_A_CALL = 512  # within every system's IOV_MAX
SMALL = 4096  # bytes moved between two waits; above that, the processors are busy with a transfer
EAGERNESS = 50e-6  # seconds for which a wait polls without sleeping
MOST_IN_VAIN = 10  # doublings; then one wait in 1024 is eager
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

EXIT_CLEAN = 0
EXIT_BROKEN = 11  # the session could not go on: sftp-server(8)'s exit status for malformed input


def serve(
    server: SFTPServer, sandbox: bool = False, name: str | None = None, control: Control | None = None
) -> int:
    """Serve server.fd_in and server.fd_out until the client is gone or a signal ends it.

    Returns an exit status. Every handle is closed, and the descriptors are as they were found. sandbox:
    confine this process to what the storage needs, before any request is read. name: of the client, for the
    log, if several share an account. control: the link to the process for which this one serves, which then
    logs the begin and the end.
    """
    return _serve(server, sandbox, name, control, lambda wakeup: _pump(server, wakeup, control))


def answer(server: SFTPServer, requests: bytes, sandbox: bool = False, name: str | None = None) -> bytes:
    """Serve requests that were not read from a descriptor; return the replies.

    It ends early on a signal, or if fd_out has no reader any more. sandbox, name: as above.
    """
    replies: list[bytes] = []

    def work(wakeup: int) -> None:
        server.on_step = _reader_watch(server)
        server.consume(memoryview(requests), 0, len(requests))
        replies.append(server.output_queue)

    _serve(server, sandbox, name, None, work)
    return b"".join(replies)


def _serve(
    server: SFTPServer,
    sandbox: bool,
    name: str | None,
    control: Control | None,
    work: Callable[[int], None],
) -> int:
    """Begin a session, call work, and end it. work: takes the descriptor that wakes it."""
    if server.checksums:
        import pysftpserver.engine.checksums  # noqa: F401 -- now: an upgrade may replace the package meanwhile
    who = ""
    if control is None:
        client = f"local user {user()}" if name is None else f"{name} (local user {user()})"
        who = f"{client} from [{peer()[0] or 'UNKNOWN'}]"
        used = key()
        server.log.write(INFO, f"session opened for {who}" + (f" with key {used}" if used else ""))
    numbers = ENDING_SIGNALS if control is None else control.signals
    with _Signals(server, numbers) as signals, _Unblocked(server.fd_in, server.fd_out):
        waits_long = (
            server.storage.window > 0
            or server.storage.uses_network
            or getattr(server.storage, "waits_long", False)  # of layers of sites
        )
        try:
            if waits_long:
                from pysftpserver.host.watch import here

                server.sends_each = not server.storage.window  # promised replies are sent as they come
                here.watch = _Watch(server, signals.wakeup)
            if sandbox:
                _confine(server, control is None)
            work(signals.wakeup)
        except SFTPSessionEnd as error:
            server.end(str(error))
        except ConnectionError:
            server.log.write(DEBUG1, "the client is gone")
        except OSError as error:
            server.end(f"the connection failed: {reason_of(error)}")
        finally:
            server.close()
            if waits_long:
                here.watch = None
            if who:
                server.log.write(INFO, f"session closed for {who}")
    return EXIT_CLEAN if server.ended is None else EXIT_BROKEN


def _confine(server: SFTPServer, is_first: bool) -> None:
    """Confine the process to what the storage needs; log the result, at ERROR if something is missing.

    is_first: whether this was not logged before, for another session.
    """
    from pysftpserver.host.sandbox import confine

    if server.checksums:
        from pysftpserver.engine import checksums

        checksums.load()
    storage = server.storage
    territory = storage.territory()
    level = confine(territory, server.read_only, storage.uses_network, storage.reads())
    server.log.write((ERROR if level.lacks else INFO) if is_first else VERBOSE, str(level))


def _pump(server: SFTPServer, wakeup: int, control: Control | None) -> None:
    """Move bytes until there are no more. Raises ConnectionError or SFTPSessionEnd."""
    output = server.output
    view, late = buffer(BUFFER), room()
    start = end = 0
    waiting = _Waiting(server.fd_in, server.fd_out, wakeup, server.limits.idle, control)
    server.on_step = _reader_watch(server)
    moved = 0  # bytes since the last wait, both ways
    at_eof = False
    while not server.stopping:
        served = 0
        if start < end:
            before, start = start, server.consume(view, start, end)
            served = start - before
            if start == end:
                start = end = served = 0
        paused = output.size > server.queue_limit
        if output.size:
            sent = _send(output, server.fd_out, late)
            moved += sent
            if control is not None:
                control.sent += sent
            if paused and (not output.size or output.promised and output.size <= server.queue_limit):
                continue  # there may be more complete packets in the buffer
        if served and server.sends_each and output.size <= server.queue_limit:
            continue
        if server.stopping or server.ended is not None or (at_eof and not output.size):
            return
        if end == BUFFER and start:
            view[: end - start] = view[start:end]
            start, end = 0, end - start
        is_small = moved < SMALL and start == end and not output.size
        if control is not None and control.is_curious:
            control.paused(start == end and not output.size and not server.handles.opened)
        awaited = output.awaited() if output.promised else None
        sends = output.size > 0 and awaited is None
        readable = waiting.wait(not at_eof and end < BUFFER, sends, is_small, awaited)
        if readable is None:
            server.log.write(INFO, f"session ends: nothing moved for {server.limits.idle} seconds")
            return
        moved = 0
        received = None
        leaver = control if control is not None and control.is_leaving else None
        if readable or (leaver is not None and not at_eof and end < BUFFER):
            received = _receive(server.fd_in, view[end:])
            if received == 0:
                server.log.write(DEBUG1, "read eof")
                at_eof = True
            moved = received or 0
            end += moved
            if control is not None:
                control.received += moved
        if leaver is not None:
            is_idle = received is None and start == end and not output.size and not at_eof
            if leaver.leaves(is_idle and not server.handles.opened):
                return


def _reader_watch(server: SFTPServer) -> Callable[[], None]:
    """Return a function that sets server.stopping when the reader of the replies is gone."""
    poll = select.poll()
    poll.register(server.fd_out, 0)

    def stop_if_gone() -> None:
        server.stopping = server.stopping or bool(poll.poll(0))

    return stop_if_gone


class _Watch:
    """For host.watch: a signal, or the loss of the reader, ends the session, whatever it is waiting for."""

    def __init__(self, server: SFTPServer, wakeup: int) -> None:
        self._server = server
        self._wakeup = wakeup
        self._stop_if_gone = _reader_watch(server)
        self.descriptors = {server.fd_out: 0}
        if wakeup >= 0:
            self.descriptors[wakeup] = select.POLLIN

    def is_over(self) -> bool:
        return self._server.stopping

    def look(self) -> bool:
        if self._wakeup >= 0:
            _receive(self._wakeup, memoryview(bytearray(64)))
        self._stop_if_gone()
        return self._server.stopping


def _receive(descriptor: int, room: memoryview) -> int | None:
    """Read once: bytes received, 0 at the end, None when there is nothing yet."""
    try:
        return os.readv(descriptor, [room])
    except BlockingIOError:
        return None


def _send(output: OutputQueue, descriptor: int, late: memoryview) -> int:
    """Write until the queue is empty or the descriptor takes no more; return the number of bytes written.

    late: the buffer for late reads. A partly written one stays there, and no other is read before the rest
    of it is written.
    """
    segments = output.segments
    total = 0
    try:
        while segments:
            if output.promised and output.awaited() is not None:
                break
            if len(segments) == 1 or isinstance(segments[0], LateRead):
                count = os.write(descriptor, output.first(late))
            else:
                count = os.writev(descriptor, output.batch(SEGMENTS_A_CALL))
            output.sent(count)
            total += count
    except BlockingIOError:
        pass
    return total


class _Waiting:
    """poll() on the three descriptors, registered again only when the wanted events have changed."""

    def __init__(
        self, fd_in: int, fd_out: int, wakeup: int, idle: int | None = None, control: Control | None = None
    ) -> None:
        self._in = fd_in
        # sshd passes one socket as both: registering it once is enough.
        self._out = fd_in if _is_same_socket(fd_in, fd_out) else fd_out
        self._poll = select.poll()
        self._wanted: tuple[bool, bool] | None = None
        self._listens = False
        self._promised = -1  # the descriptor of the awaited promise
        self._wakeup = wakeup
        self._patience = None if idle is None else idle * 1000  # milliseconds
        # With one processor, the client cannot run while this process polls.
        self._in_vain = 0  # eager waits in a row that brought nothing
        self._pauses = 0 if len(os.sched_getaffinity(0)) > 1 else sys.maxsize  # waits until the next one
        if wakeup >= 0:
            self._poll.register(wakeup, select.POLLIN)
        self._control = control
        if control is not None:
            self._poll.register(control.descriptor, select.POLLIN)

    def wait(
        self, receive: bool, send: bool, is_small: bool = False, awaited: Promise | None = None
    ) -> bool | None:
        """Wait until a descriptor is ready or a signal comes; return whether there is something to read.

        receive, send: what to wait for. is_small: whether little was moved since the last wait, and nothing
        is under way. awaited: a storage's promise to wait for as well. Returns None when the session has been
        idle for too long.
        Raises BrokenPipeError when the reader of the replies is gone.
        """
        if (receive, send) != self._wanted:
            self._want(receive, send)
        promised = -1 if awaited is None else awaited.fileno()
        if promised != self._promised:
            self._watch(promised)
        readable = False
        patience = self._patience if awaited is None else awaited.seconds_left() * 1000 + 1
        ready = (is_small and self._eager()) or self._poll.poll(patience)
        if not ready:
            return None if awaited is None else False
        for descriptor, events in ready:
            if descriptor == self._in and receive and events & (select.POLLIN | GONE):
                readable = True  # also at the end or on an error: reading tells which
            elif descriptor == self._out and events & GONE:
                raise BrokenPipeError
            elif descriptor == self._wakeup:
                os.read(descriptor, 64)  # whatever the signal: the descriptor must not stay readable
            elif self._control is not None and descriptor == self._control.descriptor:
                self._control.heard()
        return readable

    def _eager(self) -> list[tuple[int, int]] | None:
        """Poll without sleeping for up to EAGERNESS seconds; return what is ready, or None.

        A client on this host that waits for each reply sends the next request some microseconds later,
        and sleeping and waking up takes longer than serving it. A client across a network never answers
        that soon: each failed try doubles the number of waits before the next one.
        """
        if self._pauses:
            self._pauses -= 1
            return None
        deadline = time.perf_counter() + EAGERNESS
        poll = self._poll.poll
        while not (ready := poll(0)):
            if time.perf_counter() > deadline:
                self._in_vain = min(self._in_vain + 1, MOST_IN_VAIN)
                self._pauses = (1 << self._in_vain) - 1
                return None
        self._in_vain = 0
        return ready

    def _watch(self, promised: int) -> None:
        if self._promised >= 0:
            self._poll.unregister(self._promised)
        if promised >= 0:
            self._poll.register(promised, select.POLLIN)
        self._promised = promised

    def _want(self, receive: bool, send: bool) -> None:
        self._wanted = receive, send
        reading = select.POLLIN if receive else 0
        writing = select.POLLOUT if send else 0
        if self._in == self._out:
            self._poll.register(self._in, reading | writing)
            return
        self._poll.register(self._out, writing)  # even for no event, to learn when the reader is gone
        if receive:
            self._poll.register(self._in, reading)
        elif self._listens:
            self._poll.unregister(self._in)  # or its hang-up would be reported for ever
        self._listens = receive


def _is_same_socket(one: int, other: int) -> bool:
    first, second = os.fstat(one), os.fstat(other)
    return S_ISSOCK(first.st_mode) and os.path.samestat(first, second)


class _Unblocked:
    """Makes descriptors non-blocking for a while. Other processes may share the flag (a terminal's, for
    example), so it is restored."""

    def __init__(self, *descriptors: int) -> None:
        self._blocking = [descriptor for descriptor in set(descriptors) if os.get_blocking(descriptor)]

    def __enter__(self) -> None:
        for descriptor in self._blocking:
            os.set_blocking(descriptor, False)

    def __exit__(self, *exception: object) -> None:
        for descriptor in self._blocking:
            try:
                os.set_blocking(descriptor, True)
            except OSError:
                pass  # closed meanwhile


class _Signals:
    """While a session runs, the ending signals set server.stopping and wake the poll.

    A signal that was ignored stays ignored: `sftp -D` ignores SIGINT for its server, so that Ctrl-C ends a
    transfer and not the session. Outside the main thread signals cannot be handled, and nothing is changed.
    """

    def __init__(self, server: SFTPServer, numbers: tuple[int, ...]) -> None:
        self._server = server
        self._numbers = numbers
        self._before: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self.wakeup = -1

    def __enter__(self) -> _Signals:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._old_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        except ValueError:
            os.close(reading)
            os.close(writing)
            return self
        self._pipe = reading, writing
        self.wakeup = reading
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, number: int, frame: object) -> None:
        self._server.stopping = True

    def __exit__(self, *exception: object) -> None:
        if self._pipe is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        for descriptor in self._pipe:
            os.close(descriptor)


def user() -> str:
    """The name of the user that this process runs as, or the number of one without a name."""
    import pwd

    try:
        return show(os.fsencode(pwd.getpwuid(os.getuid()).pw_name))
    except KeyError:
        return str(os.getuid())


def key() -> str | None:
    """The fingerprint of the client's key, if sshd passes it on; else None."""
    if b"SSH_USER_AUTH" not in os.environb:
        return None  # without an import
    from pysftpserver.host import authinfo

    return authinfo.key()


def peer() -> tuple[str | None, int | None]:
    """The client's address and port, if sshd passes them on; else None."""
    words = os.environb.get(b"SSH_CONNECTION", b"").split()
    port = words[1].decode("latin-1") if len(words) > 1 else ""
    return show(words[0]) if words else None, int(port) if _is_port(port) else None


def _is_port(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) < 6  # int() refuses very many digits
