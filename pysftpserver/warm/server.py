"""The resident: listens, and forks a process for each client, which does everything else.

This process reads nothing from clients and waits for none. It keeps the connections, to tell a client by
which signal its session was killed, and to kill a session that does not end with its client. If the resident
ends, sessions continue, and new ones serve themselves.
What may not enter: requests, sessions. Facts: unix(7), wait(2).
"""

from __future__ import annotations

# The module signal wraps this one in enumerations, which each new process would have to copy.
import _signal as signal  # type: ignore[import-not-found]
import contextlib
import os
import select
import socket
import time

from pysftpserver.engine.log import ERROR, VERBOSE
from pysftpserver.failures import BadInput, Unavailable, reason_of
from pysftpserver.host.accounts import own_reason
from pysftpserver.host.linux import name_process
from pysftpserver.service.forking import Children
from pysftpserver.service.hangups import heed_held_hangup
from pysftpserver.service.localsockets import Taken, listen, turn
from pysftpserver.service.loglimit import LogLimit
from pysftpserver.service.serving import raise_descriptor_limit, reload_quietly
from pysftpserver.service.throttle import Throttle
from pysftpserver.warm.client import READY, WRITABLE_BY_OTHERS
from pysftpserver.warm.peer import Bounds, Peer
from pysftpserver.warm.session import NOT_SERVED, REFUSED, STALE, Code, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.service.logs import ServiceLog
    from pysftpserver.warm.config import ServerSettings
    from pysftpserver.warm.session import Commands

BACKLOG = 128
ACCEPTED_AT_ONCE = 16
CALM = 20  # milliseconds without a client after which it prepares for the next one
SESSION = "sftp session"  # the name of processes
MOST_DESCRIPTORS = (1 << 31) - 1
LOST = 30.0  # seconds that a session has to end after its client has gone
KILLED = 128  # and the number of the signal, as shells have it


class Server:
    """The resident of this account, or of all accounts if it is root's.

    commands: what clients can have run: names, and functions from arguments to exit status. load: reads the
    settings again. rehearse: acts as a session, in a process that serves one later.
    Raises BadInput, Unavailable if it cannot listen.
    """

    def __init__(
        self,
        settings: ServerSettings,
        commands: Commands,
        log: ServiceLog,
        load: Callable[[], ServerSettings],
        rehearse: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._commands = commands
        self._log = log
        self._load = load
        self._rehearse = rehearse
        self._uid = os.geteuid()
        self._own = Bounds("self")
        self._code = Code()
        self._throttle = Throttle()
        self._limit = LogLimit(log, settings.log_rate)
        self._sessions: dict[int, tuple[int, int]] = {}  # by process: the connection, and the account
        self._lost: dict[int, float] = {}  # by process: when it has to have ended
        self._spare: tuple[socket.socket, int] | None = None
        self._is_ending = False
        self._reasons, self._to_reasons = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._path = settings.place()
        self._listener = listening(self._path, self._uid)
        raise_descriptor_limit(settings.max_connections, 1)

    def run(self) -> int:
        """Serve until a signal arrives or the code changes; return the exit status."""
        self._children = Children(
            {signal.SIGTERM: self._end, signal.SIGINT: self._end, signal.SIGHUP: self._reload}
        )
        doing = {
            self._children.descriptor: self._reap,
            self._reasons: self._log_reasons,
            self._listener.fileno(): self._accept,
        }
        self._poll = poll = select.poll()
        for descriptor in doing:
            poll.register(descriptor, select.POLLIN)
        self._log.info(f"listening on {self._path}")
        heed_held_hangup()
        while not self._is_ending:
            ready = poll.poll(self._timeout())
            found = {descriptor for descriptor, _ in ready}
            self._lose(found - doing.keys())  # before others get their numbers
            for descriptor in found & doing.keys():
                doing[descriptor]()
            if not ready and self._spare is None:
                self._fork_spare()
            self._kill_lost()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._log.info(f"stopping; {len(self._sessions)} sessions continue")
        return 0

    def _end(self, number: int, frame: object) -> None:
        self._is_ending = True

    def _reload(self, number: int, frame: object) -> None:
        def read_again() -> None:
            new = self._load()
            self._log.reload(new)
            self._settings.take_over(new)
            self._limit.rate = self._settings.log_rate

        reload_quietly(read_again, self._log)

    # --- clients ------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # there are no descriptors left
                self._limit.write("accept", ERROR, f"a client is not served: {reason_of(error)}")
                return
            with sock:
                try:
                    self._begin(sock, Peer(sock))
                except OSError as error:
                    self._limit.write("accept", ERROR, f"a client is not served: {reason_of(error)}")

    def _begin(self, sock: socket.socket, peer: Peer) -> None:
        """Start the process of a client, unless its account has reached a limit. Raises OSError."""
        reason = self._why_not(peer.uid)
        if reason:
            self._limit.write(str(peer.uid), VERBOSE, f"user {peer.uid}: a client is not served: {reason}")
            return
        process = self._use_spare(sock) or self._fork(sock)
        self._poll.register(sock, 0)  # only to notice its end
        self._sessions[process] = sock.detach(), peer.uid

    def _why_not(self, uid: int) -> str | None:
        if self._uid not in (0, uid):
            return "this server is another account's"
        of_account = sum(account == uid for _, account in self._sessions.values())
        if of_account >= self._settings.max_per_user or len(self._sessions) >= self._settings.max_connections:
            return "there are too many sessions"
        if self._throttle.wait(str(uid), time.monotonic()):
            return "its last connections have failed"
        return None

    def _fork(self, sock: socket.socket) -> int:
        """Start the process of a session; return its number. Raises OSError."""
        process = self._children.fork()
        if not process:
            status = 1
            try:
                status = self._session(sock).serve(sock)
            finally:
                os._exit(status)
        return process

    def _session(self, sock: socket.socket) -> Session:
        """In a new process: set it up for a session."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        close_all_but(sock.fileno(), self._to_reasons)
        os.setsid()
        name_process(SESSION)
        grace = self._settings.login_grace
        return Session(self._commands, self._own, self._code, grace, self._to_reasons)

    # --- the spare process --------------------------------------------------------------------------------

    def _fork_spare(self) -> None:
        """Start a process for the next session, which rehearses and waits for it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = self._children.fork()
        except OSError:
            ours.close()
            theirs.close()
            return
        if not process:
            status = 1
            try:
                session = self._session(theirs)
                self._rehearse()
                theirs.send(READY)
                _, (connection,), _, _ = socket.recv_fds(theirs, 1, 1)
                theirs.close()
                status = session.serve(socket.socket(fileno=connection))
            finally:
                os._exit(status)
        theirs.close()
        ours.setblocking(False)
        self._spare = ours, process

    def _use_spare(self, sock: socket.socket) -> int:
        """Pass a connection to the spare process, if it is ready; return its number, or 0."""
        if self._spare is None:
            return 0
        ours, process = self._spare
        try:
            if ours.recv(len(READY)) != READY:
                raise ConnectionResetError
            socket.send_fds(ours, [b"\0"], [sock.fileno()])
        except BlockingIOError:
            return 0  # it is not ready
        except OSError:
            process = 0
        self._spare = None
        ours.close()
        return process

    # --- the ends of their processes ----------------------------------------------------------------------

    def _timeout(self) -> float | None:
        """Milliseconds to wait for something to do; None: without limit."""
        if self._spare is None:
            return CALM
        return max(0.0, 1000 * (min(self._lost.values()) - time.monotonic())) if self._lost else None

    def _lose(self, connections: set[int]) -> None:
        """Note that clients have gone. The kernel tells their sessions; those that hang are killed later."""
        for process, (connection, _) in self._sessions.items() if connections else ():
            if connection in connections:
                self._poll.unregister(connection)
                self._lost[process] = time.monotonic() + LOST

    def _kill_lost(self) -> None:
        for process in [one for one, when in self._lost.items() if when <= time.monotonic()]:
            del self._lost[process]
            uid = self._sessions[process][1]
            try:
                os.kill(process, signal.SIGKILL)
                how = "killed"
            except OSError as error:
                how = f"cannot be killed: {reason_of(error)}"
            self._limit.write(str(uid), ERROR, f"user {uid}: a session did not end with its client: {how}")

    def _reap(self) -> None:
        for process, status in self._children.ended():
            if process not in self._sessions:
                continue  # it was spare
            connection, uid = self._sessions.pop(process)
            self._lost.pop(process, None)
            with contextlib.suppress(KeyError):  # its client has gone
                self._poll.unregister(connection)
            # The client may have gone, or the session may have filled the connection.
            with socket.socket(fileno=connection) as sock, contextlib.suppress(OSError):
                if os.WIFSIGNALED(status):
                    sock.send(b"%d" % (KILLED + os.WTERMSIG(status)), socket.MSG_DONTWAIT)
            code = os.waitstatus_to_exitcode(status)
            if code in (NOT_SERVED, REFUSED):
                self._throttle.failed(str(uid), time.monotonic())
            elif code == STALE and self._code.has_changed():
                self._log.info("pysftpserver has been replaced; stopping, to be started anew")
                self._is_ending = True

    def _log_reasons(self) -> None:
        for line in os.read(self._reasons, 4096).decode("ascii", "replace").splitlines():
            uid, _, reason = line.partition(" ")
            self._limit.write(uid, ERROR, f"user {uid}: a client is not served: {reason}")


def listening(path: str, uid: int) -> socket.socket:
    """The socket of a resident, in a directory that is writable only by its account. uid: of that account.

    Makes the directory if it is missing. Raises BadInput, Unavailable.
    """
    directory = os.path.dirname(os.path.abspath(path))
    mode, access = (0o755, 0o666) if uid == 0 else (0o700, 0o600)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, mode)
        found = os.stat(directory)
        if found.st_uid != uid or found.st_mode & WRITABLE_BY_OTHERS:
            raise BadInput(
                f"socket {path}: its directory must belong to uid {uid}, and no other may write in it; "
                f'name another, or run "chown {uid} {directory} && chmod go-w {directory}"'
            )
        with turn(path):
            one = listen(path, socket.SOCK_SEQPACKET, BACKLOG, access)
    except (OSError, Taken) as error:
        how = f"create {os.path.dirname(directory)}, or name another with --socket"
        hint = f"; {how}" if isinstance(error, FileNotFoundError) else ""
        raise Unavailable(f"socket {path}: {own_reason(error)}{hint}") from None
    one.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # connections inherit it
    return one


def close_all_but(*kept: int) -> None:
    """Close all descriptors except the standard ones and these."""
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, MOST_DESCRIPTORS)
