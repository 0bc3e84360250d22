"""A session's process, from the fork to its exit status.

It becomes its user's, opens the storage and serves, in the sandbox; through a socket it reports its state and
takes orders. What may not enter: SSH, asyncio, concrete storages, which processes there are. Facts:
getrlimit(2), unix(7).
"""

from __future__ import annotations

# The modules signal and socket wrap these two in enumerations, which each new process would have to copy.
import _signal as signal  # type: ignore[import-not-found]
import _socket
import contextlib
import json
import os
import resource
import socket
import stat
from functools import partial

from pysftpserver.engine import wire
from pysftpserver.engine.limits import Limits
from pysftpserver.engine.log import ERROR, INFO, SFTPLog
from pysftpserver.engine.wire import encode_packet, encode_string
from pysftpserver.host import sandbox
from pysftpserver.people.users import User
from pysftpserver.sshd.metrics import Requests
from pysftpserver.sshd.orders import DRAIN, LEAVE, OUT_OF_MEMORY, OUT_OF_TIME, REPORT, RESTING, STOP
from pysftpserver.sshd.tally import Share, Tally
from pysftpserver.sshd.tickets import (
    MOST_FILES,
    Refused,
    Ticket,
    engine_of,
    log_refusal,
    open_files,
    root_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.engine.session import Turns
    from pysftpserver.server import SFTPServer
    from pysftpserver.sshd.tickets import StorageOf

MIB = 1 << 20


class _Control:
    """Messages from the server to this session, and from it to the server (stdio.py's Control)."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.signals: tuple[int, ...] = (STOP,)
        self.received = 0
        self.sent = 0
        self.is_curious = False
        self.is_leaving = self.has_left = False
        self.server: SFTPServer | None = None
        self.metrics = Requests()
        # The kind of socket is known, so it need not be asked for.
        self._sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, descriptor)
        self._told = (-1, -1)

    def tell(self, **message: Any) -> None:
        """Tell the server, and wait until it takes the message. It may be gone."""
        with contextlib.suppress(OSError):
            self._sock.send(json.dumps(message).encode())

    def close(self) -> None:
        """Tell no more."""
        self._sock.close()

    def heard(self) -> None:
        try:
            message = self._sock.recv(64, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if message == DRAIN:
            self.is_curious = True
        elif message == REPORT:
            self.tell(report=self.report())
        elif message == LEAVE:
            self.is_leaving = True
        elif not message and self.server is not None:
            self.server.stopping = True

    def paused(self, is_idle: bool) -> None:
        if is_idle and self._told != (self.received, self.sent):
            self._told = self.received, self.sent
            self.tell(idle=self._told)

    def leaves(self, is_idle: bool) -> bool:
        self.is_leaving = False
        self.has_left = is_idle and self.server is not None and self.server.initialized
        if not self.has_left:
            self.tell(left=False)
        return self.has_left

    def report(self) -> dict[str, Any]:
        """The open files, and what was counted."""
        files = open_files(self.server) if self.server is not None else []
        shown = files[:MOST_FILES]
        return {
            "files": shown,
            "more_files": len(files) - len(shown),
            "handles": len(self.server.handles.opened) if self.server is not None else 0,
            "figures": self.metrics.of_requests(),
        }


class _Log(SFTPLog):
    """The log of a session, kept by its server, which also counts failures for lack of memory."""

    def __init__(self, control: _Control, level: int) -> None:
        super().__init__(lambda level, text: control.tell(log=(level, text)), level)
        self._control = control

    def fault(self, error: BaseException) -> None:
        if isinstance(error, MemoryError):
            self._control.tell(limited="session_memory")
        super().fault(error)


def serve(
    become: Callable[[Ticket], Ticket],
    storage_of: StorageOf,
    ticket: Ticket,
    share_of: Callable[[int, Callable[[], None]], Share],
    data: int,
    talk: int,
    *audit: int,
    turns_of: Callable[[str], Turns] | None = None,
    confines: bool = True,
) -> int:
    """Serve one session; return the exit status. Descriptors: for SFTP, for _Control, of the audit log.

    become: makes this process the session's, as far as that is possible before the storage is known; returns
    the ticket as it is then. share_of: takes max_handles and a function to call when it is reached. turns_of:
    the turns of a user for checksums. confines: whether the process is confined to the storage, if that can
    be.
    """
    if not (_is_of_a_pair(data) and _is_of_a_pair(talk)):
        return 1  # as another account, write nowhere else
    control = _Control(talk)
    log = _Log(control, ticket.log_level)
    try:
        ticket = become(ticket)
        if ticket.audit is not None and len(audit) != 1 + ticket.audit_chain:
            raise Refused("the audit log was not handed over")  # the other process gave its name
        limits = Limits()
        limits.handles = min(limits.handles, ticket.handles)
        server = engine_of(ticket, storage_of, log, control.metrics, limits, data, audit)
        server.handles.share = share_of(ticket.handles, lambda: control.tell(limited="max_handles"))
        if turns_of is not None:
            server.turns = turns_of(ticket.user.name)
        confines = confines and server.storage.territory() is not None
        root = root_of(server, ticket.user)
        if ticket.root not in (None, root):
            raise Refused("the folder was moved, replaced or unmounted since the session began")
    except Exception as error:
        log_refusal(log, error)
        control.tell(begun=False)
        return 1
    control.server = server
    _limit_request_time(server, control, ticket.seconds)
    control.tell(begun=True, root=root)
    signal.signal(STOP, signal.SIG_IGN)  # for after the session; until now, STOP ends one that hangs
    try:
        status = server.run(confines, control=control)
    except Exception as error:
        log.error("the session ends:")
        log.fault(error)
        status = OUT_OF_MEMORY if isinstance(error, MemoryError) else 1
    figures = control.metrics.of_requests()
    control.tell(ended=status, figures=figures, moved=server.handles.moved, has_left=control.has_left)
    control.close()
    return RESTING if control.has_left else status


def _is_of_a_pair(descriptor: int) -> bool:
    """Whether a descriptor is a local socket with an unnamed peer, which cannot be a service."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    one = _socket.socket(fileno=descriptor)
    try:
        return one.family == _socket.AF_UNIX and not one.getpeername()
    finally:
        one.detach()


def limit(ticket: Ticket, segment: int) -> None:
    """Set this process's resource limits."""
    wanted = (
        (resource.RLIMIT_NOFILE, ticket.files),
        (resource.RLIMIT_DATA, segment + ticket.memory * MIB),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, most in wanted:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _limit_request_time(server: SFTPServer, control: _Control, seconds: int) -> None:
    """End this process when a single request takes more processor time than that.

    The kernel sends a signal each time that much has been used. If bytes have moved since the last signal, or
    a copy has progressed, the session gets another turn.
    """
    seen = -1, -1, -1

    def more() -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = int(usage.ru_utime + usage.ru_stime) + 1  # the kernel's own count may be a bit ahead
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, hard))

    def on_signal(number: int, frame: object) -> None:
        nonlocal seen
        now = control.received, control.sent, server.steps
        if seen == now:
            server.log.error(f"session ends: a request has used more than {seconds} seconds of the processor")
            os._exit(OUT_OF_TIME)
        seen = now
        more()

    signal.signal(signal.SIGXCPU, on_signal)
    with contextlib.suppress(OSError, ValueError):  # a lower hard limit ends it as well
        more()


# --- before there are sessions ----------------------------------------------------------------------------


def rehearse(open_sample: Callable[[], SFTPAbstractServerStorage], times: int) -> None:
    """Serve sessions as a session's process does, without the steps that cannot be undone.

    The interpreter specializes code as it runs, and fills caches: done here, all sessions share that.
    """
    request = b"".join(
        (
            encode_packet(wire.SSH2_FXP_INIT, 3, b""),
            encode_packet(wire.SSH2_FXP_REALPATH, 1, encode_string(b".")),
            encode_packet(wire.SSH2_FXP_STAT, 2, encode_string(b"/")),
        )
    )
    # A separate storage, so that nothing about the host's users is kept: this process may run for months.
    user = User("1", "name", "folder", True, frozenset(), "rehearsed")
    ticket = Ticket(user, "::1", 22, 1, ERROR).packed()
    tally = Tally()
    seconds = resource.getrlimit(resource.RLIMIT_CPU)
    for _ in range(times):
        sandbox.rehearse()
        client, data = socket.socketpair()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with client, data, theirs:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            share_of = partial(Share, os.dup(tally.descriptor), 1)
            serve(
                lambda ticket: ticket,
                lambda user: open_sample(),
                Ticket.unpacked(ticket),
                share_of,
                data.fileno(),
                ours.detach(),
                confines=False,
            )
        for number in (STOP, signal.SIGXCPU):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, seconds)
    tally.close()


def data_segment() -> int:
    """Bytes in this process so far that count for the limit on data."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


def log_sandbox(log: SFTPLog) -> None:
    """Log what confines the process of a session, and what this system lacks for that.

    Tried out in a process that ends at once. Raises OSError.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            level = sandbox.confine([os.open("/", os.O_PATH | os.O_DIRECTORY)])
            os.write(writing, bytes((ERROR if level.lacks else INFO,)) + str(level).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        told = file.read() or bytes((ERROR,)) + b"sandbox: it cannot be tried"
    os.waitpid(process, 0)
    log.write(told[0], f"sessions are processes; {told[1:].decode()}")
