"""A client's side of a session: the login, the mode, and one request after the other.

What may not enter: what requests are for, files, the terminal. In numbered mode, only verified data of a
reply is passed on. Any fault ends the session, because the client can no longer know whether the request was
served.
"""

from __future__ import annotations

import contextlib
import time

from pysftpserver.remo import crypto, wire
from pysftpserver.remo.transport import Transport, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pysftpserver.remo.transport import Place, Reply

IDLE = 60.0  # seconds without a request after which a session may have timed out
MOST_TOKEN = 64 << 20  # bytes of a token that a server may send
FILE_THERE = b"/dev/null"
#: The most likely reasons for replies that are not signed.
_HINTS = {
    411: ", or from a web server that does not decode chunked bodies, which uploads and input need",
    503: ", or from a server that is busy or stopping",
}

now = time.time  # seconds since the epoch, by this host's clock


class RemoError(Exception):
    """A request or a login failed; the text is one line for the user."""


class Unconnected(RemoError):
    """The server cannot be reached, or the connection broke."""


class LoginRefused(RemoError):
    """The server refuses this user with this key."""


class Security(RemoError):
    """The connection was tampered with, or this is not the right server."""


class NotNumbered(Security):
    """Numbered mode is required, but the server does not speak it, or an attacker makes it seem so."""


class RequestFailed(RemoError):
    """The server refuses a request. status: HTTP's. text: why, in the server's words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text or f"the server answers with status {status}")
        self.status = status


class NoSuchPath(RequestFailed):
    """The server does not know the request: it is an older one, or another program."""


class Talk:
    """A session. is_numbered: its mode. tells_status: whether the server reports how commands ended."""

    def __init__(
        self,
        place: Place,
        user: str,
        key: crypto.PrivateKey,
        server_key: crypto.PublicKey,
        require_numbered: bool,
        timeout: float,
    ) -> None:
        self._user = user
        self._key = key
        self._server_key = server_key
        self._requires_numbered = require_numbered
        self._transport = Transport(place, timeout)
        self._cookie: str | None = None
        self._cipher: crypto.SessionCipher | None = None
        self._number = 0
        self._used = 0.0
        self.is_numbered = False
        self.tells_status = False

    # --- sessions -----------------------------------------------------------------------------------------

    def log_in(self) -> None:
        """Begin a session, in the best mode that the server knows. Raises RemoError."""
        # Neither request changes anything in either mode. An older server that knows numbered mode may
        # answer an unknown path in plain mode.
        for path, argument in (("/sts", None), ("/get/", FILE_THERE)):
            self._authenticate()
            self.is_numbered = True
            try:
                status = self._probe(path, argument)
            except _NotNumbered as error:
                if error.status >= 500:  # the server fails in either mode
                    raise RequestFailed(error.status, "") from None
                continue
            self.tells_status = path == "/sts" and status == 200
            # An attacker who ends this session must not get the next one in the weaker mode.
            self._requires_numbered = True
            return
        self.tells_status = False
        if self._requires_numbered:
            self.log_out()
            raise NotNumbered("the server does not answer in numbered mode, which is required")
        self._authenticate()

    def log_out(self) -> None:
        """End the session, if there is one."""
        if self._cipher is not None:
            with contextlib.suppress(Unreachable):
                self._transport.request("POST", "/auth", b"", self._cookie)
        self._forget()

    def _authenticate(self) -> None:
        self._forget()
        one_time = crypto.OneTimeKey()
        signature = crypto.sign(self._key, wire.signed_by_user(self._user, one_time.public))
        login = wire.Login(self._user, one_time.public, signature)
        reply = self._request("POST", "/auth", login.encode())
        if reply.status == 429:
            raise LoginRefused("too many failed logins from this address; wait half a minute")
        if reply.status != 200 or reply.is_tokens:
            raise LoginRefused(f"the server refuses user {self._user!r} with this key ({reply.status})")
        try:
            theirs, signature = wire.parse_login_reply(reply.text)
            if not crypto.is_signed(self._server_key, signature, theirs):
                raise Security("the server has another key than the given one; it may be an impostor")
            self._cipher = crypto.SessionCipher(one_time.session_key(theirs))
        except wire.ProtocolError as error:
            raise Security(f"the server's answer to the login cannot be used: {error}") from None
        if reply.cookie is None:
            raise RemoError("the server has sent no session id")
        self._cookie = reply.cookie
        self._number = 0
        self._used = time.monotonic()

    def _probe(self, path: str, argument: bytes | None) -> int:
        try:
            for _ in self.ask("GET", path, argument, revive=False):
                pass
        except RequestFailed as error:
            return error.status
        return 200

    def _revive(self) -> None:
        """Begin a session if there is none or it has timed out. A harmless request finds that out, because a
        failed request must never be repeated.
        """
        if self._cipher is not None and time.monotonic() - self._used > IDLE:
            with contextlib.suppress(Security):
                if self._probe("/sts", None) == 403:  # in plain mode; in numbered mode it would not be signed
                    self._forget()
        if self._cipher is None:
            self.log_in()
        self._used = time.monotonic()

    def _forget(self) -> None:
        self._cipher = None
        self._cookie = None
        self.is_numbered = False
        self._transport.close()

    # --- requests -----------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        argument: bytes | None = None,
        pieces: Iterable[bytes] | None = None,
        is_eager: bool = False,
        revive: bool = True,
    ) -> Iterator[bytes]:
        """Make a request; return the reply in pieces. path: ends in a slash if there is an argument. pieces:
        the body's. is_eager: return the output of a command as it arrives, however long it takes.

        The request is made when the first piece is asked for; a caller that does not read to the end has to
        close the iterator. revive: begin a new session if the last one was lost. Raises RemoError.
        """
        if revive:
            self._revive()
        cipher = self._cipher
        assert cipher is not None
        if argument is not None:
            path += cipher.encrypt(argument).decode()
        is_whole = False
        try:
            if self.is_numbered:
                yield from self._ask_numbered(cipher, method, path, pieces, is_eager)
            else:
                yield from self._ask_plainly(cipher, method, path, pieces, is_eager)
            is_whole = True
        except RequestFailed:
            is_whole = True
            raise
        except GeneratorExit:  # the caller does not want the rest
            is_whole = True
            self._transport.close()
            raise
        except (KeyboardInterrupt, SystemExit):  # logging out also ends a running command
            self._transport.close()
            self.log_out()
            raise
        except wire.Unnumbered:
            raise _NotNumbered(200) from None
        except wire.ProtocolError as error:
            raise Security(f"a tampered reply: {error}") from None
        except Unreachable as error:
            raise Unconnected(f"{error}; the request may have been served") from None
        finally:
            if not is_whole:
                self._forget()

    def _ask_numbered(
        self,
        cipher: crypto.SessionCipher,
        method: str,
        path: str,
        pieces: Iterable[bytes] | None,
        is_eager: bool,
    ) -> Iterator[bytes]:
        self._number = wire.next_number(self._number)
        sent: set[bytes] = set()
        bound = wire.path_hash(path.encode())  # without a prefix, which a proxy may strip
        body = self._sealed(cipher, bound, pieces, sent)
        single = pieces is None or isinstance(pieces, tuple)
        reply = self._request(method, path, b"".join(body) if single else body, is_eager)
        if not reply.is_tokens:
            raise _NotNumbered(reply.status)
        opener = wire.Opener(cipher, wire.status_bound(reply.status), self._number, now)
        said = _opened(reply, opener, sent, is_eager)
        if reply.status != 200:
            raise _failure(reply.status, b"".join(said))
        yield from said

    def _sealed(
        self, cipher: crypto.SessionCipher, bound: bytes, pieces: Iterable[bytes] | None, sent: set[bytes]
    ) -> Iterator[bytes]:
        """The tokens of a request. sent: known_by() of each is added to it."""
        for token in wire.sealed_stream(cipher, self._number, pieces or (), bound):
            sent.add(wire.known_by(token))
            yield token + wire.END

    def _ask_plainly(
        self,
        cipher: crypto.SessionCipher,
        method: str,
        path: str,
        pieces: Iterable[bytes] | None,
        is_eager: bool,
    ) -> Iterator[bytes]:
        body: Iterable[bytes] | bytes | None = None
        if pieces is not None:
            body = (cipher.encrypt(piece) + wire.END for piece in pieces)
            if isinstance(pieces, tuple):
                body = b"".join(body)
        reply = self._request(method, path, body, is_eager)
        if reply.status == 403:  # the session may have timed out: the next request checks
            self._used = float("-inf")
        if reply.status != 200:
            if reply.is_tokens:
                self._transport.close()  # discards what was not read
            raise _failure(reply.status, reply.text)
        if not reply.is_tokens:
            if path != "/info":  # /info needs no session
                raise wire.Tampered("a reply that is not encrypted")
            yield reply.text
            return
        lines = wire.Lines(MOST_TOKEN)
        while data := reply.read(is_eager):
            for token in lines.feed(data):
                yield cipher.decrypt(token)
        for token in lines.end():
            yield cipher.decrypt(token)

    def _request(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None, is_eager: bool = False
    ) -> Reply:
        try:
            return self._transport.request(method, path, body, self._cookie, may_be_silent=is_eager)
        except Unreachable as error:
            if self._cipher is None:
                raise Unconnected(str(error)) from None
            raise


class _NotNumbered(Security):
    """A reply that is not encrypted, in numbered mode: from an older server, or from an attacker."""

    def __init__(self, status: int) -> None:
        hint = _HINTS.get(status, "")
        super().__init__(
            f"a reply that is not signed ({status}), from an older server or from an attacker{hint}; "
            "the session is lost"
        )
        self.status = status


def _opened(reply: Reply, opener: wire.Opener, sent: set[bytes], is_eager: bool) -> Iterator[bytes]:
    """The data of a numbered reply. sent: known_by() of the request's tokens, which must not come back."""
    lines = wire.Lines(MOST_TOKEN)
    while True:
        data = reply.read(is_eager)
        for token in lines.feed(data) if data else lines.end():
            said = opener.open(token)
            if wire.known_by(token) in sent:
                raise wire.Tampered("a part of the request came back as the reply")
            began = time.monotonic()
            yield said
            opener.held += time.monotonic() - began
        if not data:
            break
    opener.finish()


def _failure(status: int, text: bytes) -> RequestFailed:
    said = "".join(letter for letter in text[:200].decode("utf-8", "replace") if letter.isprintable())
    return (NoSuchPath if status == 404 else RequestFailed)(status, said)
