"""The server that sessions are forked from: small, single-threaded, with all that they need imported.

It is forked itself before asyncssh is loaded, keys are read and sockets listen, so a session's process has
none of those. Each process that serves SSH has a socket to it, and hands over a ticket and descriptors: one
that carries SFTP, one to control the session and hear its state, and those of the audit log, if there is one.
Where sessions run as system accounts (run_as.py), only this server keeps the capabilities for that, and it
chooses the account. What may not enter: SSH, asyncio, concrete storages, what a session does
(sessionprocess.py). Facts: unix(7), fork(2).
"""

from __future__ import annotations

# The module signal wraps this one in enumerations, which each new process would have to copy.
import _signal as signal  # type: ignore[import-not-found]
import contextlib
import os
import resource
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial

from pysftpserver.host import accounts, privileges
from pysftpserver.host.linux import end_with_parent, name_process
from pysftpserver.service import handover
from pysftpserver.service.forking import Children
from pysftpserver.sshd.hashing import ProcessTurns
from pysftpserver.sshd.orders import (
    BEGIN,
    ENDED,
    FIRST,
    FORGET,
    LONGEST,
    NOT_BEGUN,
    NUMBER,
    ORDER,
    RESET,
    RESTING,
    SIGNAL,
    STOP,
)
from pysftpserver.sshd.sessionprocess import data_segment, limit, rehearse, serve
from pysftpserver.sshd.spares import Spares
from pysftpserver.sshd.tally import NoRoom, Share, Tallies
from pysftpserver.sshd.tickets import Refused, Ticket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.sshd.run_as import RunAs
    from pysftpserver.sshd.spares import Told
    from pysftpserver.sshd.tickets import StorageOf

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, handover.SIGNAL)
FORK_SERVER = "pysftpd-forks"  # the names of processes
SESSION = "sftp "  # followed by the user's name
REHEARSALS = 16  # the interpreter specializes code that has run about this often
ENTRY = struct.Struct(">I")  # a spare process is told its place in the tally first; then the ticket
MOST_DESCRIPTORS = 4  # with a ticket
ORPHANS = 1.0  # seconds for sessions to end after the process that serves them has ended
OOM_SCORE = b"500"  # where memory is short, the kernel ends sessions before the server


class ForkServer:
    """The fork server, for the process that starts it.

    storage_of: opens a user's storage. prepare: imports what is imported late elsewhere, because a confined
    process cannot import it, and returns a function that opens a storage to rehearse with. run_as: which
    accounts sessions run as, if root starts it; None: its own. most: maximum number of sessions; one user may
    have half of them. checksums: maximum number of files of which they compute checksums at once. sockets:
    for each process that serves, in order, the one to which it sends tickets.
    """

    def __init__(
        self,
        storage_of: StorageOf,
        processes: int,
        prepare: Callable[[], Callable[[], SFTPAbstractServerStorage]],
        run_as: RunAs | None,
        most: int,
        checksums: int = 2,
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
            rehearse(open_sample, REHEARSALS)
            sockets = [theirs for _, theirs in pairs]
            _Forking(sockets, storage_of, run_as, most, open_sample, ProcessTurns(checksums)).run()
            status = 0
        finally:
            os._exit(status)

    def keep(self, number: int) -> socket.socket:
        """The socket of process `number`, which is this process from now on; the others are closed here."""
        for place, one in enumerate(self.sockets):
            if place != number:
                one.close()
        return self.sockets[number]

    def close(self) -> None:
        """End the fork server, and the sessions that are left."""
        for one in self.sockets:
            one.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _close_passed_sockets(parent: int) -> None:
    """Close what systemd or a predecessor has passed to the server: a session must not hold its port."""
    handover.close_handed_over()
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
        """Report how a session has ended."""
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
    """A session's process. place: the process that serves it; None: that has ended. number: of the session
    there. name: of its user. entry: the process's place in the tally of that user.
    """

    place: _Place | None
    number: int
    name: bytes
    entry: int


class _Forking:
    """The loop of the fork server. It keeps a spare process for each one that serves SSH."""

    def __init__(
        self,
        sockets: Iterable[socket.socket],
        storage_of: StorageOf,
        run_as: RunAs | None,
        most: int,
        open_sample: Callable[[], SFTPAbstractServerStorage],
        turns: ProcessTurns,
    ) -> None:
        self._turns = turns
        self._places = {one.fileno(): _Place(number, one) for number, one in enumerate(sockets)}
        self.storage_of = storage_of
        self.run_as = run_as
        self._children: dict[int, _Child] = {}
        self._spares = Spares(len(self._places), self._fork, open_sample, 1 + MOST_DESCRIPTORS)
        self._tallies = Tallies(most)
        self._orphans: dict[int, float] = {}
        self._pid = os.getpid()
        self._poll = select.poll()

    def run(self) -> None:
        """Fork until no process that serves is left, nor any session."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each user takes one
        if self.run_as is None:  # no look-ups by libraries while this process has capabilities
            accounts.username(os.getuid())  # prepares for those in sessions
            accounts.groupname(os.getgid())
        self.segment = data_segment()
        self._forked = Children(dict.fromkeys(IGNORED, signal.SIG_IGN))
        for place in self._places.values():
            place.sock.setblocking(False)
        while self._places or self._children:
            for descriptor, place in self._places.items():
                # A process that does not read what it is told is not heard, or messages would pile up here.
                self._poll.register(descriptor, select.POLLOUT if place.unsent else select.POLLIN)
            self._poll.register(self._forked.descriptor, select.POLLIN)
            events = self._poll.poll(self._timeout())
            if not events and self._lacks_spare():
                self._spares.add()
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
        self._spares.end()

    def _lacks_spare(self) -> bool:
        return self._spares.are_missing() and bool(self._places)

    def _timeout(self) -> float | None:
        """Milliseconds to wait for something to do; None: no limit."""
        if self._lacks_spare():
            return 1000 * self._spares.pause
        return 1000 * ORPHANS if self._orphans else None

    def _hear(self, place: _Place) -> None:
        """Do what one process asks for. It may have been taken over by an attacker: rubbish is ignored."""
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
                if number in place.sessions:  # reaped ones are not there, so no other process is killed
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
                raise NoRoom(NOT_BEGUN)
            if before in place.resting and place.resting[before][0] == name:
                entry = place.resting.pop(before)[1]
            else:
                entry = self._tallies.enter(name)
        except NoRoom as error:
            place.tell(ENDED.pack(number, error.status))
            return
        descriptors = [self._tallies[name].descriptor, *descriptors]
        process = self._spares.use(ENTRY.pack(entry) + ticket, descriptors)
        if not process:
            try:
                process = self._fork(lambda: (ENTRY.pack(entry) + ticket, descriptors), name)
            except OSError:
                self._tallies.leave(name, entry)
                place.tell(ENDED.pack(number, NOT_BEGUN))
                return
        place.sessions[number] = process
        self._children[process] = _Child(place, number, name, entry)

    def _fork(self, told: Told, name: bytes = b"") -> int:
        """Fork a child that serves a session; return its process number. Raises OSError.

        told: returns, in the child, its entry and ticket, and its descriptors: that of the tally and those
        that came with the ticket. name: of the user, where it is known.
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
                turns_of = self._turns.of
                status = serve(self.become, self.storage_of, ticket, share_of, *others, turns_of=turns_of)
        finally:
            os._exit(status)

    def _forget(self, place: _Place, number: int) -> None:
        """Take a resting session's place back, if there is one of that number."""
        if number in place.resting:
            self._tallies.leave(*place.resting.pop(number))

    def _let_go(self, name: bytes) -> None:
        """In a new process: let go of what belongs to the fork server. name: of the user."""
        with contextlib.suppress(OSError):
            score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(score, OOM_SCORE)
            os.close(score)
        self._tallies.let_go(name)
        for place in self._places.values():
            place.sock.close()
        self._spares.let_go()

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
        limit(ticket, self.segment)
        return ticket

    def _reap(self) -> None:
        """Report which sessions have ended."""
        for process, status in self._forked.ended():
            self._spares.ended(process)
            child = self._children.pop(process, None)
            if child is None:  # it was a spare one
                continue
            self._orphans.pop(process, None)
            if child.place is not None and os.waitstatus_to_exitcode(status) == RESTING:
                self._tallies[child.name].clear(child.entry)
                child.place.resting[child.number] = child.name, child.entry
            else:
                self._tallies.leave(child.name, child.entry)
            if child.place is not None:
                del child.place.sessions[child.number]
                child.place.tell(ENDED.pack(child.number, status))
