"""The server that sessions are forked from: small, single-threaded, with everything imported that they need.

It is forked itself before asyncssh is loaded, keys are read and sockets listen, so a session's process has
none of those. Each process that serves SSH has a socket to it, and hands over a ticket and descriptors:
the one that carries SFTP, one to say what the session is to do and to hear how it is, and the audit log's,
if there is one. Where sessions run as accounts of the host (run_as.py), only this server keeps the
capabilities for that, and it decides which account. What may not enter: SSH, asyncio, concrete storages.
Facts: unix(7), fork(2), getrlimit(2), prctl(2).
"""

from __future__ import annotations

# The modules signal and socket wrap these two in enumerations, which each new process would have to copy.
import _signal as signal  # type: ignore[import-not-found]
import _socket
import contextlib
import json
import os
import resource
import select
import socket
import stat
import struct
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial

from pysftpserver.engine import wire
from pysftpserver.engine.limits import Limits
from pysftpserver.engine.log import ERROR, INFO, SFTPLog
from pysftpserver.engine.wire import encode_packet, encode_string
from pysftpserver.host import accounts, privileges, sandbox
from pysftpserver.host.linux import end_with_parent, name_process
from pysftpserver.service.forking import Children
from pysftpserver.sshd.metrics import Requests
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
from pysftpserver.sshd.users import User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.server import SFTPServer
    from pysftpserver.sshd.run_as import RunAs
    from pysftpserver.sshd.tickets import StorageOf

BEGIN, SIGNAL, FORGET, RESET = b"B", b"S", b"F", b"R"  # the first byte of what the fork server is told
# What BEGIN says: a session, as its server counts; the one before it, whose place it takes, or 0; the length
# of a name.
FIRST = struct.Struct(">QQB")
ORDER = struct.Struct(">QB")  # a session and a signal
NUMBER = struct.Struct(">Q")  # what FORGET says: a session
ENDED = struct.Struct(">Qi")  # a session and its wait status, or why there was no process for it:
NOT_BEGUN, FULL, USER_IS_FULL = -1, -2, -3
DRAIN, REPORT, LEAVE = b"D", b"R", b"L"  # what a session is told
LONGEST = 1 << 17  # bytes of a message
STOP = signal.SIGUSR1  # ends a session; service managers send the other signals to every process
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MIB = 1 << 20
FORK_SERVER = "pysftpd-forks"  # the names of processes
SPARE = "pysftpd-spare"
SESSION = "sftp "  # followed by the user's
REHEARSALS = 16  # the interpreter adapts what it has done about that often
SOON = 0.02  # seconds without anything to do, after which a missing spare process is forked
LATER = 1.0  # the same after one could not be forked
CALM = 0.1  # seconds after which a spare process rehearses, if it has not been used
ENTRY = struct.Struct(">I")  # what a spare process is told first: its place in the tally; then the ticket
MOST_DESCRIPTORS = 3  # that come with a ticket
ORPHANS = 1.0  # seconds that sessions have to end if the process that serves them has ended
OOM_SCORE = b"500"  # where memory is short, the kernel ends sessions before the server
OUT_OF_TIME = 75  # exit status of a session that was busy with one request for too long
OUT_OF_MEMORY = 76  # exit status of one that had no memory left
RESTING = 77  # exit status of one that was idle: its place is kept until FORGET or another BEGIN


class ForkServer:
    """The fork server, for the process that starts it.

    storage_of: opens a user's storage. prepare: imports what is imported late elsewhere, because a confined
    process cannot, and returns what opens a storage to rehearse with. run_as: which accounts sessions run as,
    if root starts it; None: its own. most: maximum number of sessions; one user may have half of them.
    sockets: for each process that serves, in their order, the one that it sends tickets to.
    """

    def __init__(
        self,
        storage_of: StorageOf,
        processes: int,
        prepare: Callable[[], Callable[[], SFTPAbstractServerStorage]],
        run_as: RunAs | None,
        most: int,
    ) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(processes)]
        self.sockets = [ours for ours, _ in pairs]
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid:
            for _, theirs in pairs:
                theirs.close()
            return
        status = 1
        try:
            for ours in self.sockets:
                ours.close()
            _close_passed_sockets(parent)
            name_process(FORK_SERVER)
            if run_as is not None:
                privileges.keep_only(privileges.TO_BECOME_OTHERS)
            open_sample = prepare()
            _rehearse(open_sample, REHEARSALS)
            _Forking([theirs for _, theirs in pairs], storage_of, run_as, most, open_sample).run()
            status = 0
        finally:
            os._exit(status)

    def keep(self, number: int) -> socket.socket:
        """The socket of one process, which is this one from now on; the others are closed here."""
        for place, one in enumerate(self.sockets):
            if place != number:
                one.close()
        return self.sockets[number]

    def close(self) -> None:
        """End it, and the sessions that are left."""
        for one in self.sockets:
            one.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _close_passed_sockets(parent: int) -> None:
    """Close what systemd has passed to the server: a session must not hold its port."""
    if os.environ.get("LISTEN_PID") == str(parent) and os.environ.get("LISTEN_FDS", "").isdecimal():
        for number in range(3, 3 + min(int(os.environ["LISTEN_FDS"]), 1000)):
            with contextlib.suppress(OSError):
                os.close(number)


# --- the fork server --------------------------------------------------------------------------------------


class _Place:
    """A process that serves SSH, as the fork server knows it.

    sessions: its sessions' processes. resting: its sessions without one: the user's name and the place in the
    tally that each keeps.
    """

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.sessions: dict[int, int] = {}
        self.resting: dict[int, tuple[bytes, int]] = {}
        self.unsent: deque[bytes] = deque()

    def tell(self, message: bytes) -> None:
        """Say how a session has ended."""
        self.unsent.append(message)
        self.flush()

    def flush(self) -> None:
        try:
            while self.unsent:
                self.sock.send(self.unsent[0])
                self.unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:  # the server has ended
            self.unsent.clear()


@dataclass(frozen=True)
class _Child:
    """A session's process. place: what it is served by; None: that has ended. number: of the session there.
    name: its user's. entry: where the process counts in the tally of that user.
    """

    place: _Place | None
    number: int
    name: bytes
    entry: int


class _Forking:
    """The loop of the fork server.

    For each process that serves SSH it keeps a spare child that waits for a ticket, and rehearses if none
    comes soon: a session then begins without waiting for fork(2), and for copies of memory that it writes to.
    """

    def __init__(
        self,
        sockets: Iterable[socket.socket],
        storage_of: StorageOf,
        run_as: RunAs | None,
        most: int,
        open_sample: Callable[[], SFTPAbstractServerStorage],
    ) -> None:
        self._places = {one.fileno(): _Place(number, one) for number, one in enumerate(sockets)}
        self.storage_of = storage_of
        self.run_as = run_as
        self._most = most
        self._children: dict[int, _Child] = {}
        self._open_sample = open_sample
        self._spares: dict[int, socket.socket] = {}
        self._most_spares = len(self._places)
        self._pause = SOON
        self._tallies: dict[bytes, Tally] = {}
        self._orphans: dict[int, float] = {}
        self._pid = os.getpid()
        self._poll = select.poll()

    def run(self) -> None:
        """Fork until no process that serves is left, nor any session."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each user takes one
        if self.run_as is None:  # no look-ups by libraries while this process has capabilities
            accounts.username(os.getuid())  # prepares for those of sessions
            accounts.groupname(os.getgid())
        self.segment = _data_segment()
        self._forked = Children(dict.fromkeys(IGNORED, signal.SIG_IGN))
        for place in self._places.values():
            place.sock.setblocking(False)
        while self._places or self._children:
            for descriptor, place in self._places.items():
                # One that does not take what it is told is not heard, or that would pile up here.
                self._poll.register(descriptor, select.POLLOUT if place.unsent else select.POLLIN)
            self._poll.register(self._forked.descriptor, select.POLLIN)
            events = self._poll.poll(self._timeout())
            if not events and self._lacks_spare():
                self._add_spare()
            for descriptor, _ in events:
                if descriptor == self._forked.descriptor:
                    self._reap()
                else:
                    self._places[descriptor].flush()
                    if not self._places[descriptor].unsent:
                        self._hear(self._places[descriptor])
            for process, deadline in list(self._orphans.items()):
                if time.monotonic() >= deadline:
                    os.kill(process, signal.SIGKILL)
        for process in self._spares:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)

    def _lacks_spare(self) -> bool:
        return len(self._spares) < self._most_spares and bool(self._places)

    def _timeout(self) -> float | None:
        """Milliseconds to wait for something to do; None: without end."""
        if self._lacks_spare():
            return 1000 * self._pause
        return 1000 * ORPHANS if self._orphans else None

    def _hear(self, place: _Place) -> None:
        """Do what one process wants, which may have been taken over: rubbish is passed over."""
        try:
            message, descriptors, _, _ = socket.recv_fds(place.sock, LONGEST, MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        kind, body = message[:1], message[1:]
        if kind == BEGIN:
            with contextlib.suppress(struct.error):
                number, before, length = FIRST.unpack_from(body)
                name, ticket = body[FIRST.size : FIRST.size + length], body[FIRST.size + length :]
                self._begin(place, number, before, name, ticket, descriptors)
        elif kind == SIGNAL:
            with contextlib.suppress(struct.error, OSError):  # there is no such signal
                number, what = ORDER.unpack(body)
                if number in place.sessions:  # reaped processes are not, so this kills no other
                    os.kill(place.sessions[number], what)
        elif kind == FORGET:
            with contextlib.suppress(struct.error):
                self._forget(place, *NUMBER.unpack(body))
        else:  # the process has been replaced, or is gone
            for process in place.sessions.values():
                os.kill(process, STOP)
                self._children[process] = replace(self._children[process], place=None)
                self._orphans[process] = time.monotonic() + ORPHANS
            place.sessions.clear()
            for number in list(place.resting):
                self._forget(place, number)
            if kind != RESET:
                self._poll.unregister(place.sock)
                del self._places[place.sock.fileno()]
                place.sock.close()
        for one in descriptors:
            os.close(one)

    def _begin(
        self, place: _Place, number: int, before: int, name: bytes, ticket: bytes, descriptors: list[int]
    ) -> None:
        try:
            if number in place.sessions:
                raise _NoRoom(NOT_BEGUN)
            if before in place.resting and place.resting[before][0] == name:
                entry = place.resting.pop(before)[1]
            else:
                entry = self._enter(name)
        except _NoRoom as error:
            place.tell(ENDED.pack(number, error.status))
            return
        descriptors = [self._tallies[name].descriptor, *descriptors]
        process = self._use_spare(ENTRY.pack(entry) + ticket, descriptors)
        if not process:
            try:
                process = self._fork(lambda: (ENTRY.pack(entry) + ticket, descriptors), name)
            except OSError:
                self._leave(name, entry)
                place.tell(ENDED.pack(number, NOT_BEGUN))
                return
        place.sessions[number] = process
        self._children[process] = _Child(place, number, name, entry)

    def _fork(self, told: Callable[[], tuple[bytes, list[int]]], name: bytes = b"") -> int:
        """Fork a child that serves a session; return its process number. Raises OSError.

        told: returns, in the child, its entry and ticket, and its descriptors: of the tally and those that
        have come with the ticket. name: of the user, where it is known.
        """
        process = self._forked.fork()
        if process:
            return process
        status = 1
        try:
            self._let_go(name)
            message, descriptors = told()
            if message:
                (entry,) = ENTRY.unpack_from(message)
                tally, *others = descriptors
                ticket = Ticket.unpacked(message[ENTRY.size :])
                share_of = partial(Share, tally, entry)
                status = _serve(self.become, self.storage_of, ticket, share_of, *others)
        finally:
            os._exit(status)

    def _add_spare(self) -> None:
        """Fork a child that waits for a ticket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def told() -> tuple[bytes, list[int]]:
            ours.close()
            end_with_parent(self._pid, signal.SIGKILL)
            name_process(SPARE)
            if not select.select((theirs,), (), (), CALM)[0]:  # in a crowd, it would only take time
                _rehearse(self._open_sample, 1)
            with theirs:
                return socket.recv_fds(theirs, LONGEST, 1 + MOST_DESCRIPTORS)[:2]  # none: to end

        with theirs:
            try:
                self._spares[self._fork(told)] = ours
                self._pause = SOON
            except OSError:
                ours.close()
                self._pause = LATER

    def _use_spare(self, message: bytes, descriptors: list[int]) -> int:
        """Give a spare child a ticket; return its process number, or 0 where there is none."""
        while self._spares:
            process, sock = self._spares.popitem()
            with sock, contextlib.suppress(OSError):  # it has been killed
                socket.send_fds(sock, [message], descriptors)
                return process
        return 0

    def _enter(self, name: bytes) -> int:
        """A place in the tally of a user for one more session. Raises _NoRoom."""
        if len(self._children) + sum(len(one.resting) for one in self._places.values()) >= self._most:
            raise _NoRoom(FULL)
        try:
            tally = self._tallies.get(name) or self._tallies.setdefault(name, Tally())
        except OSError:
            raise _NoRoom(NOT_BEGUN) from None
        entry = tally.enter() if tally.count < max(1, self._most // 2) else None
        if entry is None:
            raise _NoRoom(USER_IS_FULL)
        return entry

    def _forget(self, place: _Place, number: int) -> None:
        """Take a resting session's place back, if there is one of that number."""
        if number in place.resting:
            self._leave(*place.resting.pop(number))

    def _leave(self, name: bytes, entry: int) -> None:
        tally = self._tallies[name]
        tally.leave(entry)
        if not tally.count:
            tally.close()
            del self._tallies[name]

    def _let_go(self, name: bytes) -> None:
        """In a new process: let go of what is the fork server's. name: of the user.

        A session that could reach a spare child would choose what that serves.
        """
        with contextlib.suppress(OSError):
            score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(score, OOM_SCORE)
            os.close(score)
        for other, tally in self._tallies.items():
            if other != name:
                tally.close()
        for place in self._places.values():
            place.sock.close()
        for sock in self._spares.values():
            sock.close()

    def become(self, ticket: Ticket) -> Ticket:
        """In a new process: take the name, the account and the limits of a session.

        Returns the ticket as it is for that account. Raises Refused, OSError.
        """
        user = ticket.user
        name_process(SESSION + user.name)
        if self.run_as is not None:
            try:
                account = self.run_as.account_of(user)
            except ValueError as error:
                raise Refused(str(error)) from None
            privileges.become(account)
            ticket = replace(ticket, allow_setid=False)  # such programs would lend the account to others
        elif user.run_as is not None:
            raise Refused("run_as: the server was not started to serve as other accounts")
        end_with_parent(self._pid, signal.SIGKILL)  # which the kernel forgets when the account changes
        _limit(ticket, self.segment)
        return ticket

    def _reap(self) -> None:
        """Say which sessions have ended."""
        for process, status in self._forked.ended():
            if process in self._spares:
                self._spares.pop(process).close()
                self._pause = LATER
            child = self._children.pop(process, None)
            if child is None:  # it was a spare one
                continue
            self._orphans.pop(process, None)
            if child.place is not None and os.waitstatus_to_exitcode(status) == RESTING:
                self._tallies[child.name].clear(child.entry)
                child.place.resting[child.number] = child.name, child.entry
            else:
                self._leave(child.name, child.entry)
            if child.place is not None:
                del child.place.sessions[child.number]
                child.place.tell(ENDED.pack(child.number, status))


class _NoRoom(Exception):
    """There can be no further process. status: what ENDED says of that."""

    def __init__(self, status: int) -> None:
        self.status = status


def _rehearse(open_sample: Callable[[], SFTPAbstractServerStorage], times: int) -> None:
    """Serve sessions as a session's process does, without what it could not undo.

    The interpreter adapts code to what it does, and fills caches: done here, it is shared by all sessions.
    """
    request = b"".join(
        (
            encode_packet(wire.SSH2_FXP_INIT, 3, b""),
            encode_packet(wire.SSH2_FXP_REALPATH, 1, encode_string(b".")),
            encode_packet(wire.SSH2_FXP_STAT, 2, encode_string(b"/")),
        )
    )
    # A storage of its own, so that nothing is kept of the host's users: this process may run for months.
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
            _serve(
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


def _data_segment() -> int:
    """Bytes that the limit on data counts in this process by now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


# --- a session's process ----------------------------------------------------------------------------------


class _Control:
    """What the server has to say to this session, and what that tells it (stdio.py's Control)."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.signals: tuple[int, ...] = (STOP,)
        self.received = 0
        self.sent = 0
        self.is_curious = False
        self.is_leaving = self.has_left = False
        self.server: SFTPServer | None = None
        self.metrics = Requests()
        # What kind of socket it is need not be asked.
        self._sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, descriptor)
        self._told = (-1, -1)

    def tell(self, **message: Any) -> None:
        """Tell the server, and wait until it takes that. It may be gone."""
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
    """The log of a session, which is its server's. That counts what there was no memory for."""

    def __init__(self, control: _Control, level: int) -> None:
        super().__init__(lambda level, text: control.tell(log=(level, text)), level)
        self._control = control

    def fault(self, error: BaseException) -> None:
        if isinstance(error, MemoryError):
            self._control.tell(limited="session_memory")
        super().fault(error)


def _serve(
    become: Callable[[Ticket], Ticket],
    storage_of: StorageOf,
    ticket: Ticket,
    share_of: Callable[[int, Callable[[], None]], Share],
    data: int,
    talk: int,
    audit: int | None = None,
    *,
    confines: bool = True,
) -> int:
    """Serve one session; return the exit status. Descriptors: for SFTP, for _Control, of the audit log.

    become: makes this process the session's, as far as the storage need not be known; returns the ticket as
    it is then. share_of: takes max_handles and what is called when it is reached. confines: whether the
    process is confined to the storage, if that can be.
    """
    if not (_is_of_a_pair(data) and _is_of_a_pair(talk)):
        return 1  # as another account, write to nothing else
    control = _Control(talk)
    log = _Log(control, ticket.log_level)
    try:
        ticket = become(ticket)
        if ticket.audit is not None and audit is None:
            raise Refused("the audit log was not handed over")  # its name comes from the other process
        limits = Limits()
        limits.handles = min(limits.handles, ticket.handles)
        server = engine_of(ticket, storage_of, log, control.metrics, limits, data, audit)
        server.handles.share = share_of(ticket.handles, lambda: control.tell(limited="max_handles"))
        confines = confines and not server.storage.uses_network and server.storage.territory() is not None
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
    signal.signal(STOP, signal.SIG_IGN)  # after the session; before it, one that hangs is ended by it
    try:
        status = server.run(confines, control=control)
    except Exception as error:
        log.error("the session ends:")
        log.fault(error)
        status = OUT_OF_MEMORY if isinstance(error, MemoryError) else 1
    control.tell(ended=status, figures=control.metrics.of_requests(), has_left=control.has_left)
    control.close()
    return RESTING if control.has_left else status


def _is_of_a_pair(descriptor: int) -> bool:
    """Whether a descriptor is a local socket whose peer has no name, and so is no service."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    one = _socket.socket(fileno=descriptor)
    try:
        return one.family == _socket.AF_UNIX and not one.getpeername()
    finally:
        one.detach()


def _limit(ticket: Ticket, segment: int) -> None:
    """Limit what this process may have."""
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

    The kernel sends a signal each time that much has been used. If bytes have moved since the last one, or a
    copy has gone on, the session has another turn.
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
    with contextlib.suppress(OSError, ValueError):  # a hard limit that is lower ends it as well
        more()


def log_sandbox(log: SFTPLog) -> None:
    """Say in the log what confines the process of a session, and what this system lacks for it.

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
