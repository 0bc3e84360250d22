"""The remo door as a WSGI application.

A request is checked in this order: session, tokens, permission, route. What may not enter: concrete storages,
how a server listens, where the log goes. Error replies and log lines never contain keys, tokens or
transferred data.
"""

from __future__ import annotations

import http
import logging
import re
import threading
import time

from pysftpserver.http import IS_GONE, ReplyBroken
from pysftpserver.http.arriving import cookie_in
from pysftpserver.http.files import FileProblem
from pysftpserver.http.running import Running
from pysftpserver.remo import bodies, wire
from pysftpserver.remo.audit import trail_of
from pysftpserver.remo.login import Reception, Refused
from pysftpserver.remo.routes import Answer, Refusal, Routes
from pysftpserver.remo.session import Sessions, TooMany, new_id
from pysftpserver.remo.users import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pysftpserver.http.arriving import Arriving
    from pysftpserver.remo.bodies import Exchange
    from pysftpserver.remo.config import ServerSettings
    from pysftpserver.remo.crypto import PrivateKey
    from pysftpserver.remo.routes import OpenStorage
    from pysftpserver.remo.session import Session
    from pysftpserver.remo.users import Users

    StartResponse = Callable[..., Any]

log = logging.getLogger("pysftpserver.remo")
SWEEP = 1.0  # seconds between checks for sessions that have timed out
USERS = 5.0  # seconds between checks for users who were removed or changed
ONE_COOKIE = re.compile(rf"{wire.COOKIE}=([\w-]+)", re.ASCII)
MOST_ADDRESS = 64  # characters of an address that a proxy reports


class Application:
    """The WSGI callable.

    key: the server's private key. open_storage: opens the storage of one session. may_run: whether users may
    run commands, if their permissions allow it. Raises BadInput for an audit log that cannot be written.
    """

    def __init__(
        self,
        values: ServerSettings,
        key: PrivateKey,
        users: Users,
        open_storage: OpenStorage,
        may_run: bool = True,
    ) -> None:
        self._values = values
        self._users = users
        self._trail = trail_of(values)
        self.sessions = Sessions(values, self._has_ended)
        self._reception = Reception(key, users, self.sessions, self._trail)
        self._routes = Routes(values, self.sessions, open_storage, may_run)
        self.running = Running()
        self._sweeper: threading.Thread | None = None
        self._lock = threading.Lock()

    def reopen(self) -> None:
        """Reopen the audit log. Raises BadInput."""
        self._trail.reopen()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("wsgi.multiprocess"):
            log.error("this WSGI server runs several processes: sessions need a single one, with any threads")
            return _plain(environ, start_response, 500, "the server has to run in a single process", new_id())
        if not self.running.begin():
            return _plain(environ, start_response, 503, "the server is stopping", new_id())
        reply: Iterable[bytes] = ()
        try:
            reply = self._answer(environ, start_response)
            return reply
        finally:
            if not isinstance(reply, _Reply):
                self.running.end()

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self._sweep_from_now_on()
        session = self._session_of(environ)
        ident = session.id if session is not None else new_id()
        try:
            return self._serve(environ, start_response, session, ident)
        except Refusal as refusal:
            return _plain(environ, start_response, refusal.status, refusal.text, ident, refusal.headers)
        except bodies.LengthRequired:
            return _plain(environ, start_response, 411, "chunked bodies are not accepted here", ident)
        except wire.Tampered as error:
            if session is not None:
                self.sessions.end(session, f"ended, because of a tampered request: {error}")
            return _plain(environ, start_response, 400, "the session has ended", ident)
        except wire.ProtocolError as error:
            log.info("%s: %s", environ.get("REMOTE_ADDR"), error)
            return _plain(environ, start_response, 400, "malformed request", ident)
        except TooMany:
            log.error("there are %d sessions; a login is refused (max_sessions)", len(self.sessions))
            return _plain(environ, start_response, 503, "too many sessions", ident)

    def close(self) -> None:
        """End all sessions and the work they have running."""
        self.running.close()
        self.sessions.close()

    # --- requests -----------------------------------------------------------------------------------------

    def _serve(
        self, environ: dict[str, Any], start_response: StartResponse, session: Session | None, ident: str
    ) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        if path == "/info" and session is None:
            return _plain(environ, start_response, 200, wire.NAME, ident)
        if path == "/auth":
            return self._log_in_or_out(environ, start_response, session, ident)
        if session is None:
            raise Refusal(403, "log in first")
        if environ["REQUEST_METHOD"] == "HEAD":  # a reply to HEAD has no body for tokens
            raise Refusal(405, "method not allowed")
        exchange = self._opened(environ, session, path)
        exchange.is_gone = environ.get(IS_GONE, exchange.is_gone)
        try:
            answer = self._routes.answer(exchange, environ["REQUEST_METHOD"], path)
        except Refusal as refusal:
            if exchange.number is None:
                raise
            answer = Answer((refusal.text.encode(),), status=refusal.status)
        if path == "/info" and exchange.number is None:
            return _plain(environ, start_response, 200, wire.NAME, ident)
        session.used = time.monotonic()
        start_response(_status(answer.status), _headers(environ, ident))
        return _Reply(exchange, answer, self.running.end)

    def _opened(self, environ: dict[str, Any], session: Session, path: str) -> Exchange:
        paths = {text.encode("latin-1") for text in (path, environ.get("SCRIPT_NAME", "") + path)}
        now = time.monotonic()
        return bodies.opened(
            session, bodies.raw(environ), paths, self._values.max_token, self._values.require_numbered, now
        )

    def _log_in_or_out(
        self, environ: dict[str, Any], start_response: StartResponse, session: Session | None, ident: str
    ) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST":
            raise Refusal(405, "method not allowed", [("Allow", "POST")])
        address, port = self._address(environ)
        body = bytearray()
        for piece in bodies.raw(environ):
            body += piece
            if len(body) > wire.MOST_LOGIN:
                raise Refusal(413, "the login is too long")
        if not body:
            if session is not None:
                self.sessions.end(session, "logged out")
            return _plain(environ, start_response, 200, "", new_id())
        try:
            self._reception.check(address, port)
            opened, said = self._reception.log_in(bytes(body), address, port)
        except Refused as refused:
            if refused.wait:
                raise Refusal(
                    429, "too many failed logins", [("Retry-After", f"{int(refused.wait) + 1}")]
                ) from None
            raise Refusal(403, "login refused") from None
        if session is not None:
            self.sessions.end(session, "logged in again")
        return _plain(environ, start_response, 200, said.decode(), opened.id)

    def _address(self, environ: dict[str, Any]) -> tuple[str, int | None]:
        if self._values.proxied:
            forwarded: str = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
            if 0 < len(forwarded) <= MOST_ADDRESS:
                return forwarded, None
        port = str(environ.get("REMOTE_PORT", ""))
        return environ.get("REMOTE_ADDR") or "", int(port) if port.isdecimal() else None

    def _session_of(self, environ: dict[str, Any]) -> Session | None:
        ident = _ident(environ.get("HTTP_COOKIE", ""))
        return self.sessions.find(ident, time.monotonic()) if ident is not None else None

    def user_of(self, arriving: Arriving) -> str | None:
        """The name of the user whose session a request's cookies name. Never waits."""
        ident = _ident(arriving.cookies())
        return self.sessions.user_of(ident) if ident is not None else None

    # --- sessions -----------------------------------------------------------------------------------------

    def _has_ended(self, session: Session, why: str) -> None:
        log.info("session %s of %s: %s", session.label, session.user.name, why)
        session.audit.end(why)

    def _sweep_from_now_on(self) -> None:
        if self._sweeper is None:
            with self._lock:
                if self._sweeper is None and not self.running.closed.is_set():
                    self._sweeper = threading.Thread(target=self._sweep, name="remo sweeper", daemon=True)
                    self._sweeper.start()

    def _sweep(self) -> None:
        """End sessions that have timed out, and those of users who were removed or changed."""
        looked = time.monotonic()
        while not self.running.closed.wait(SWEEP):
            now = time.monotonic()
            self.sessions.sweep(now)
            if now - looked > USERS:
                looked = now
                self._look_at_users()

    def _look_at_users(self) -> None:
        sessions = self.sessions.all()
        if not sessions:
            return
        try:
            users = {user.name: user for user in self._users.all()}
        except UserError as error:
            log.error("%s", error)
            return
        for session in sessions:
            if users.get(session.user.name) != session.user:
                self.sessions.end(session, "the user was removed or changed")


class _Reply:
    """An encrypted reply while it is sent. ended: called once, when the reply has ended in any way."""

    def __init__(self, exchange: Exchange, answer: Answer, ended: Callable[[], None]) -> None:
        self._session = exchange.session
        self._answer = answer
        self._tokens = exchange.reply(answer.status, answer.pieces, answer.is_eager)
        self._is_done = False
        self._ended = ended

    def __iter__(self) -> _Reply:
        return self

    def __next__(self) -> bytes:
        is_over = self._session.is_over
        try:
            if is_over and not self._answer.is_eager:  # a stopped command still reports it
                raise ReplyBroken("the session has ended")
            token = next(self._tokens)
        except StopIteration:
            self._done(not is_over)
            if is_over:
                raise ReplyBroken("the session has ended") from None
            raise
        except FileProblem as error:
            self._done(False)
            raise ReplyBroken(str(error)) from None
        except BaseException:
            self._done(False)
            raise
        self._session.used = time.monotonic()
        return token

    def close(self) -> None:
        """WSGI servers call this at the end of every reply."""
        self._done(False)

    def _done(self, is_whole: bool) -> None:
        if not self._is_done:
            self._is_done = True
            try:
                self._answer.done(is_whole)
            finally:
                self._ended()


def _ident(cookies: str) -> str | None:
    """The session id in the cookies of a request."""
    if (only := ONE_COOKIE.fullmatch(cookies)) is not None:
        return only[1]
    return cookie_in(cookies, wire.COOKIE)


def _status(status: int) -> str:
    return f"{status} {http.HTTPStatus(status).phrase}"


def _headers(environ: dict[str, Any], ident: str) -> list[tuple[str, str]]:
    place = environ.get("SCRIPT_NAME") or "/"
    secure = "; Secure" if environ.get("wsgi.url_scheme") == "https" else ""
    cookie = f"{wire.COOKIE}={ident}; Path={place}; HttpOnly; SameSite=Strict{secure}"
    return [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Set-Cookie", cookie),
        ("Cache-Control", "no-store"),
    ]


def _plain(
    environ: dict[str, Any],
    start_response: StartResponse,
    status: int,
    text: str,
    ident: str,
    headers: Iterable[tuple[str, str]] = (),
) -> list[bytes]:
    body = text.encode()
    length = ("Content-Length", str(len(body)))
    start_response(_status(status), [*_headers(environ, ident), length, *headers])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
