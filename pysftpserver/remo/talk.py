"""A client's side of a session: the login, the mode, and one request after the other.

What may not enter: what requests are for, files, the terminal. In numbered mode, nothing of an answer is
handed on that is not verified; whatever else happens ends the session, because nobody knows then whether the
request was served.
"""

from __future__ import annotations

import itertools
import time

from pysftpserver.remo import crypto, wire
from pysftpserver.remo.transport import Transport, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pysftpserver.remo.transport import Place, Reply

IDLE = 60.0  # seconds, after which a session may have timed out
MOST_TOKEN = 64 << 20  # bytes of a token that a server may send
FILE_THERE = b"/dev/null"
#: What answers that cannot be signed most likely mean.
_HINTS = {
    411: ", or of a web server there that takes no chunked bodies, which files and input need",
    503: ", or of a server that has no room now",
}

now = time.time  # seconds since the epoch, by this host's clock


class RemoError(Exception):
    """Something did not work; the text is one line for people."""


class Unconnected(RemoError):
    """The server cannot be reached, or the connection broke."""


class LoginRefused(RemoError):
    """The server does not let this user in with this key."""


class Security(RemoError):
    """Somebody between has changed something, or this is not the server that it should be."""


class NotNumbered(Security):
    """Numbered mode is required, and the server does not speak it, or somebody between makes it look so."""


class RequestFailed(RemoError):
    """The server refuses a request. status: HTTP's. text: why, in the server's words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text or f"the server answers with status {status}")
        self.status = status


class NoSuchPath(RequestFailed):
    """The server does not know how to do that: it is an older one, or another program."""


class Talk:
    """A session. is_numbered: its mode. tells_status: whether the server tells how commands ended."""

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
        # Neither of these does anything, in whichever mode a server takes them. An older server that knows
        # numbers may answer what it does not know without them.
        for path, argument in (("/sts", None), ("/get/", FILE_THERE)):
            self._authenticate()
            self.is_numbered = True
            try:
                status = self._probe(path, argument)
            except _NotNumbered as error:
                if error.status >= 500:  # it serves nobody now, in whichever mode
                    raise RequestFailed(error.status, "") from None
                continue
            self.tells_status = path == "/sts" and status == 200
            # Who has made this session end must not get the next one in the weaker mode.
            self._requires_numbered = True
            return
        self.tells_status = False
        if self._requires_numbered:
            self.log_out()
            raise NotNumbered("the server does not answer in numbered mode, which is required")
        self._authenticate()

    def log_out(self) -> None:
        """End the session; of one that is lost, nothing."""
        if self._cipher is not None:
            try:
                self._transport.request("POST", "/auth", b"", self._cookie)
            except Unreachable:
                pass
        self._forget()

    def _authenticate(self) -> None:
        self._forget()
        one_time = crypto.OneTimeKey()
        signature = crypto.sign(self._key, wire.signed_by_user(self._user, one_time.public))
        login = wire.Login(self._user, one_time.public, signature)
        reply = self._request("POST", "/auth", login.encode())
        if reply.status == 429:
            raise LoginRefused("too many logins have failed from here: wait half a minute")
        if reply.status != 200 or reply.is_tokens:
            raise LoginRefused(f"the server refuses user {self._user!r} with this key ({reply.status})")
        try:
            theirs, signature = wire.parse_login_reply(reply.text)
            if not crypto.is_signed(self._server_key, signature, theirs):
                raise Security(
                    "the server has another key than the one that was given: it may be an impostor"
                )
            self._cipher = crypto.SessionCipher(one_time.session_key(theirs))
        except wire.ProtocolError as error:
            raise Security(f"the server's answer to the login cannot be used: {error}") from None
        if reply.cookie is None:
            raise RemoError("the server has given no session id")
        self._cookie = reply.cookie
        self._number = 0
        self._used = time.monotonic()

    def _probe(self, path: str, argument: bytes | None) -> int:
        try:
            for _ in self._ask("GET", path, argument):
                pass
        except RequestFailed as error:
            return error.status
        return 200

    def _revive(self) -> None:
        """Begin a session where there is none, or where it may have timed out: that is asked for by what does
        nothing, because a request that failed must never be made again.
        """
        if self._cipher is not None and time.monotonic() - self._used > IDLE:
            try:
                if self._probe("/sts", None) == 403:  # in plain mode; in numbered mode nobody has signed it
                    self._forget()
            except Security:
                pass
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
    ) -> Iterator[bytes]:
        """What the server answers. path: ends in a slash if there is an argument. pieces: of the body.
        is_eager: the answer is a command's, wanted as it comes and perhaps long in coming.

        The request is made when the first piece is asked for; a caller who does not read to the end has to
        close it. A session that was lost before is begun anew. Raises RemoError.
        """
        self._revive()
        yield from self._ask(method, path, argument, pieces, is_eager)

    def _ask(
        self,
        method: str,
        path: str,
        argument: bytes | None = None,
        pieces: Iterable[bytes] | None = None,
        is_eager: bool = False,
    ) -> Iterator[bytes]:
        """The same, of the session that there is."""
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
        except GeneratorExit:  # the rest is not wanted
            is_whole = True
            self._transport.close()
            raise
        except (KeyboardInterrupt, SystemExit):  # what runs there is not to run on
            self._transport.close()
            self.log_out()
            raise
        except wire.Unnumbered:
            raise _NotNumbered(200) from None
        except wire.ProtocolError as error:
            raise Security(f"an answer was not as it should be: {error}") from None
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
        bound = wire.path_hash(path.encode())  # a proxy may take the prefix away
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
        """The tokens of a request. sent: gets what they are known by."""
        before: bytes | None = None
        count = 0
        for piece in itertools.chain(pieces or (), (None,)):
            if before is not None or piece is None:
                is_last = piece is None
                token = cipher.encrypt(wire.sealed(self._number, count, before or b"", is_last, bound))
                sent.add(wire.known_by(token))
                count += 1
                yield token + wire.END
            before = piece

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
        if reply.status == 403:  # perhaps the session has timed out: the next request asks
            self._used = float("-inf")
        if reply.status != 200:
            if reply.is_tokens:
                self._transport.close()  # and with it, what is not read
            raise _failure(reply.status, reply.text)
        if not reply.is_tokens:
            if path != "/info":  # which is for everybody
                raise wire.Tampered("an answer that is not encrypted")
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
    """An answer that is not encrypted, in numbered mode: from an older server, or from somebody between."""

    def __init__(self, status: int) -> None:
        hint = _HINTS.get(status, "")
        super().__init__(
            f"an answer that nobody has signed ({status}), of an older server or of somebody between{hint}; "
            "the session is lost"
        )
        self.status = status


def _opened(reply: Reply, opener: wire.Opener, sent: set[bytes], is_eager: bool) -> Iterator[bytes]:
    """The data of a numbered answer. sent: of the request's own tokens, which nobody may send back."""
    lines = wire.Lines(MOST_TOKEN)
    while True:
        data = reply.read(is_eager)
        for token in lines.feed(data) if data else lines.end():
            said = opener.open(token)
            if wire.known_by(token) in sent:
                raise wire.Tampered("a part of the request came back as the answer")
            began = time.monotonic()
            yield said
            opener.held += time.monotonic() - began
        if not data:
            break
    opener.finish()


def _failure(status: int, text: bytes) -> RequestFailed:
    said = "".join(letter for letter in text[:200].decode("utf-8", "replace") if letter.isprintable())
    return (NoSuchPath if status == 404 else RequestFailed)(status, said)
