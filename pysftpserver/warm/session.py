"""One session that a client hands over, in a separate process: from the connection to the exit status.

This process reads nothing from the client before it has become the client's account. Then it gets the
client's descriptors, directory, umask, limits and environment, and runs the command as the client would have.
What may not enter: how a command serves, other sessions. Facts: unix(7), fcntl(2) on F_SETSIG, setsid(2).
"""

from __future__ import annotations

# The module signal wraps this one in enumerations, which each new process would have to copy.
import _signal as signal  # type: ignore[import-not-found]
import contextlib
import fcntl
import os
import select
import socket
import sys
import time

from pysftpserver.failures import reason_of
from pysftpserver.warm.client import ENVIRONMENT, FORMAT, GO, LONGEST, READY, code
from pysftpserver.warm.peer import CREDENTIALS, Bounds, Peer, Refused, become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Commands = Mapping[str, Callable[[Sequence[str]], int]]

DESCRIPTORS = 4  # standard input, output and error, and the working directory
ROOM = socket.CMSG_SPACE(4 * DESCRIPTORS) + socket.CMSG_SPACE(CREDENTIALS.size)
SECRET = 8  # random bytes that the client must repeat
#: Exit statuses of a process that has served nothing. A session's own are others.
NOT_SERVED, REFUSED, STALE = 200, 201, 202


class Code:
    """The files of the modules that are loaded, as they are now."""

    def __init__(self) -> None:
        self._identity = code()
        top = __file__.rpartition("/warm/")[0]
        files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
        self._files = {path: _state(path) for path in files if path.startswith(top)}

    def has_changed(self) -> bool:
        """Whether it would be another version if it were loaded now."""
        try:
            return code() != self._identity or any(_state(path) != it for path, it in self._files.items())
        except OSError:
            return True  # it is being replaced

    def is_of(self, identity: bytes) -> bool:
        """Whether a client has the same. identity: its code()."""
        return identity == self._identity


def _state(path: str) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


class Request:
    """A client's request. Raises Refused for data that is not a request."""

    def __init__(self, data: bytes) -> None:
        words = data.split(b"\0")
        try:
            form, self.code, prog, mask, count = words[:5]
            first = 5 + int(count)
            self.umask = int(mask, 8)
            self.environment = dict(word.split(b"=", 1) for word in words[5:first])
        except ValueError:
            raise Refused("it sent no valid request") from None
        self.prog = prog.decode("ascii", "replace")
        self.arguments = [os.fsdecode(word) for word in words[first:]]
        if form != FORMAT or not 0 <= self.umask <= 0o777 or set(self.environment) - set(ENVIRONMENT):
            raise Refused("it sent no valid request")


class Session:
    """A session's process.

    commands: functions that can be run, by name. own, loaded: the server's. grace: seconds for each step of
    the hand-over. reasons: a descriptor for one line that says why a client is not served.
    """

    def __init__(self, commands: Commands, own: Bounds, loaded: Code, grace: float, reasons: int) -> None:
        self._commands = commands
        self._own = own
        self._code = loaded
        self._grace = grace
        self._reasons = reasons

    def serve(self, sock: socket.socket) -> int:
        """Serve the client of a connection; return the exit status of this process. Raises OSError."""
        self._sock = sock
        peer = Peer(sock)
        try:
            status = self._take_over(peer)
        except (OSError, Refused) as error:
            with contextlib.suppress(OSError):  # full
                os.write(self._reasons, f"{peer.uid} {reason_of(error)}\n".encode("ascii", "replace"))
            status = REFUSED
        if status:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            return status
        os.close(self._reasons)
        status = self._run()
        self._end(status)
        return status

    def _take_over(self, peer: Peer) -> int:
        """Become the client's account, and take over its session. Return 0, or NOT_SERVED.

        Raises OSError, Refused.
        """
        peer.watch()
        become(peer)
        peer.take_limits()
        self._sock.settimeout(self._grace)
        data, _ = self._received(peer)
        if not data:
            return NOT_SERVED  # the client has gone
        Bounds(peer.pid).check(peer, self._own)
        request = Request(data)
        if not self._code.is_of(request.code):
            return NOT_SERVED  # it runs other code
        if self._code.has_changed():
            return STALE
        command = self._commands.get(request.prog)
        if command is None:
            return NOT_SERVED
        secret = os.urandom(SECRET)
        self._sock.send(READY + secret)
        word, passed = self._received(peer, DESCRIPTORS)
        if word != GO + secret or not peer.is_alive():
            return NOT_SERVED  # the client serves itself
        for number, descriptor in enumerate(passed[:3]):
            os.dup2(descriptor, number)
        os.fchdir(passed[3])
        for descriptor in passed:
            os.close(descriptor)
        peer.forget()
        self._command, self._request = command, request
        return 0

    def _received(self, peer: Peer, count: int = 0) -> tuple[bytes, list[int]]:
        """Data that the peer itself sent, with that many descriptors; b"" if it has gone. Raises Refused."""
        try:
            data, control, flags, _ = self._sock.recvmsg(LONGEST + 1, ROOM)
        except TimeoutError:
            raise Refused("it was silent") from None
        except ConnectionError:
            data = b""
        if not data:
            return b"", []
        passed: list[int] = []
        sender = None
        for level, kind, value in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                passed += memoryview(value[: len(value) & ~3]).cast("i")
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                sender = CREDENTIALS.unpack(value)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(passed) != count:
            raise Refused("it sent no valid request")
        if sender != (peer.pid, peer.uid, peer.gid):
            raise Refused("another process has sent its request")
        return data, passed

    def _run(self) -> int:
        """Run the command; return its exit status."""
        os.umask(self._request.umask)
        for name, value in self._request.environment.items():
            os.environb[name] = value
        time.tzset()
        self._end_with_client()
        try:
            return self._command(self._request.arguments)
        except SystemExit as end:  # --help
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()

    def _end_with_client(self) -> None:
        """Have this process get SIGTERM when the client sends anything, or ends."""
        fcntl.fcntl(self._sock, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._sock, fcntl.F_SETSIG, signal.SIGTERM)
        self._sock.setblocking(False)
        fcntl.fcntl(self._sock, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if poll.poll(0):  # it came before that
            os.kill(os.getpid(), signal.SIGTERM)

    def _end(self, status: int) -> None:
        """Tell the client the exit status. It may have gone."""
        with contextlib.suppress(OSError):
            while self._sock.recv(LONGEST):
                pass  # otherwise the client would see a reset first
        with contextlib.suppress(OSError):
            self._sock.send(b"%d" % status)
