"""A client's side of one connection, blocking: connecting, logging in, lines and pieces.

What may not enter: storages, the plan.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time

from pysftpserver.failures import reason_of
from pysftpserver.service.patience import Patience
from pysftpserver.service.tls import tls_words
from pysftpserver.sksync import wire
from pysftpserver.sksync.parsing import LineParser
from pysftpserver.sksync.unsent import unsent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.sksync.client import Request, Summary
    from pysftpserver.sksync.parsing import ContentParser

PIECE = 256 << 10  # bytes
MOST_ENCRYPTED = 64 << 10  # bytes that are sent in one call with TLS


class SyncError(Exception):
    """A sync could not be started or completed. The text is one line, for the user.

    summary: what was done before.
    """

    summary: Summary


class Dialogue:
    """One connection, through the login and the greetings. Raises SyncError, Malformed, OutOfPatience,
    TLSError.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._patience = Patience(request.timeout)
        self._lines = LineParser()
        self._data = bytearray(PIECE)
        self._start = self._end = 0
        where = f"{request.host} port {request.port}"
        try:
            self._socket = socket.create_connection((request.host, request.port), request.timeout)
        except UnicodeError:
            raise SyncError(f"cannot connect to {where}: not a valid host name") from None
        except OSError as error:
            raise SyncError(f"cannot connect to {where}: {reason_of(error)}") from None
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if request.tls is not None:
                self._encrypt(request)
            self._greet()
        except BaseException:
            self.close()
            raise

    def _encrypt(self, request: Request) -> None:
        assert request.tls is not None
        try:
            self._socket = request.tls.wrap(self._socket, request.host)
        except OSError as error:
            raise SyncError(f"TLS: the handshake failed: {reason_of(error)}") from None

    def _greet(self) -> None:
        request = self._request
        if request.login is not None:
            self._log_in(*request.login)
        self.send(f"{request.dialect.title}\n".encode())
        answer = self.line_or_end()
        if answer is None or answer + b"\n" != wire.ESTABLISHED:
            login = " or requires a login" if request.login is None else ""
            or_else = self._or_else(answer)
            raise SyncError(f"the server does not speak {request.dialect.title}{login}{or_else}")

    def _log_in(self, user: str, password: str) -> None:
        from pysftpserver.sksync import srp  # slow to import, and not every client logs in

        login = srp.ClientLogin(user, password)
        self.send(wire.srp_start(user, login.public))
        try:
            self.send(wire.srp_proof(login.prove(*wire.parse_srp_challenge(self._login_line()))))
            login.check(wire.parse_hex(self._login_line()))
        except srp.Refused:
            raise SyncError("the login failed: the server does not know the password") from None

    def _login_line(self) -> bytes:
        line = self.line_or_end()
        if not line:
            or_else = self._or_else(line)
            raise SyncError(f"the server refused the login: check username and password{or_else}")
        return line

    def _or_else(self, answer: bytes | None) -> str:
        """Another possible reason why a server closes the connection without a reply."""
        if answer is not None:
            return ""
        if self._request.tls is None:
            return "; or it requires TLS"
        return "; or it does not accept this client's certificate"

    # --- what is said -------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray) -> None:
        """Send all of it. Raises SyncError, OutOfPatience."""
        left = memoryview(data)
        # With TLS, one call sends all of a piece, within one timeout.
        most = len(left) if self._request.tls is None else MOST_ENCRYPTED
        while left:
            began, before = time.monotonic(), unsent(self._socket.fileno())
            sent = 0
            try:
                self._socket.settimeout(self._patience.left())
                sent = self._socket.send(left[:most])
            except TimeoutError:
                if self._request.tls is not None or unsent(self._socket.fileno()) >= before:
                    raise SyncError("the server stopped reading") from None
            except OSError:
                raise SyncError("the server ended the connection; its log says why") from None
            # A server that has just received a lot may be slow to read more.
            taken = before + sent - unsent(self._socket.fileno())
            self._patience.waited(time.monotonic() - began, max(0, taken))
            left = left[sent:]

    def _receive(self) -> bool:
        """Wait for more data; return whether there is any."""
        self._start = self._end = 0
        while not self._has_received():
            pass  # the server has received something and may be busy with it
        return self._end > 0

    def _has_received(self) -> bool:
        """Wait for a while; return whether the server has sent something or closed the connection."""
        began, before = time.monotonic(), unsent(self._socket.fileno())
        taken = 0
        try:
            self._socket.settimeout(self._patience.left())
            self._end = self._socket.recv_into(self._data)
        except TimeoutError:
            taken = before - unsent(self._socket.fileno())
            if taken <= 0 or self._request.tls is not None:
                raise self._patience.lost() from None
            return False
        except ssl.SSLEOFError:
            pass
        except ssl.SSLError as error:
            # When a server refuses a certificate, the handshake is already over on this side.
            raise SyncError(f"TLS: the server says {tls_words(error)}") from None
        except OSError:
            pass
        finally:
            self._patience.waited(time.monotonic() - began, self._end or taken)
        return True

    def line_or_end(self) -> bytes | None:
        """The next line without its end, None at the end of the connection. Raises Malformed."""
        while True:
            if self._start == self._end and not self._receive():
                return None
            line, self._start = self._lines.feed(self._data, self._start, self._end)
            if line is not None:
                return line

    def line(self) -> bytes:
        """The next line without its end. Raises Malformed, OutOfPatience, SyncError."""
        line = self.line_or_end()
        if line is None:
            raise SyncError("the server ended the connection early; its log says why")
        return line

    def lines_at_hand(self) -> list[bytes]:
        """The next line and all others that have arrived, up to an empty one.

        Raises Malformed, OutOfPatience, SyncError.
        """
        found = [self.line()]
        while found[-1] and self._data.find(b"\n", self._start, self._end) >= 0:
            found.append(self.line())
        return found

    def is_quiet(self, seconds: float) -> bool:
        """Wait until the server sends something; return whether that took longer than `seconds`.

        Raises OutOfPatience.
        """
        if self._start < self._end or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        began = time.monotonic()
        try:
            return not poll.poll(1000 * min(seconds, self._patience.left()))
        finally:
            self._patience.waited(time.monotonic() - began, 0)

    def feed(self, parser: ContentParser) -> int:
        """Receive more data and give it to a parser; return its length in bytes. Raises what the parser
        raises, OutOfPatience, SyncError.
        """
        if self._start == self._end and not self._receive():
            raise SyncError("the server ended the connection early; its log says why")
        start, self._start = self._start, parser.feed(self._data, self._start, self._end)
        return self._start - start

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()
