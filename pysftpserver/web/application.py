"""The browser door as a WSGI application: who asks, which part answers, and the headers of every reply.

What may not enter: concrete storages, how a server listens, what a part shows. Facts: RFC 9110; Content
Security Policy Level 3; Fetch Metadata Request Headers.
"""

from __future__ import annotations

import hmac
import logging
import urllib.parse

from pysftpserver.http import SEND, SEND_FILE, ProtocolError, ReplyBroken
from pysftpserver.http.arriving import cookie_in
from pysftpserver.http.files import FileProblem
from pysftpserver.http.running import Running
from pysftpserver.http.streams import TooSlow
from pysftpserver.web.proxies import Front, host_of
from pysftpserver.web.session import COOKIES, Sessions, TooMany, cookie_name
from pysftpserver.web.wire import TEXT, Refusal, Reply, Request, redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Protocol

    from pysftpserver.http.arriving import Arriving
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.guarding import Guard
    from pysftpserver.web.session import Session

    class Ending(Protocol):
        """Something that may end while a request is served: a session, a shared link."""

        @property
        def is_over(self) -> bool: ...

    class Part(Protocol):
        """A part of the door, below one name. needs_login: whether strangers are sent to the login.

        is_for_programs: whether it serves programs, which have no cookies and do not send our forms; it then
        checks logins itself.
        """

        needs_login: bool
        is_for_programs: bool

        def answer(self, request: Request, rest: bytes) -> Reply:
            """Answer a request. rest: of the path, after the part's name. Raises Refusal."""


log = logging.getLogger("pysftpserver.web")
CHANGES_NOTHING = ("GET", "HEAD", "OPTIONS")
CSRF = "csrf"  # the field of forms, and X-CSRF of scripts
#: Nothing is loaded from elsewhere, nothing inline runs, and no other site may show us in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Over HTTPS, browsers use nothing else for this host from then on.
STRICT = {**HEADERS, "Strict-Transport-Security": "max-age=31536000"}
CLOSE = (("Connection", "close"),)
#: Status codes when a storage has refused something, by result in the audit log.
STATUSES = {
    "NO_SUCH_FILE": 404,
    "PERMISSION_DENIED": 403,
    "BAD_MESSAGE": 400,
    "OP_UNSUPPORTED": 403,
    "NO_CONNECTION": 503,
}
BROKEN = "Something went wrong here; the log of the server says what."


class Application:
    """Call it as WSGI servers do. parts: by the first name of a path.

    guard: decides whose requests are answered. show: makes the reply to a refused request. user_of_program:
    that of Welcome.
    """

    def __init__(
        self, values: WebSettings, sessions: Sessions, parts: dict[bytes, Part], guard: Guard | None = None
    ) -> None:
        self._guard = guard
        self.user_of_program: Callable[[str], str | None] = lambda authorization: None
        self._values = values
        self._front = Front(values)
        self.running = Running()
        self.sessions = sessions
        self.parts = parts
        self.home = b"/files/"
        self.login = b"/login"
        self.show: Callable[[Request, Refusal], Reply] = as_text

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_taken = self.running.begin()
        body: Iterable[bytes] = ()
        try:
            reply, request = self._reply(environ, is_taken)
            body = reply.start(start_response, STRICT if request.is_secure else HEADERS)
            if is_taken:
                body = _Body(body, request.session, self.running.end)
            return body
        finally:
            if is_taken and not isinstance(body, _Body):
                self.running.end()

    def _reply(self, environ: dict[str, Any], is_taken: bool) -> tuple[Reply, Request]:
        """The reply, and its request. is_taken: False while the server is stopping."""
        request = Request(environ)
        try:
            self._front.apply(environ)
            request = Request(environ)
            if self._guard is not None and not self._guard.is_let_in(request.address):
                raise Refusal(403, "Requests from your network are not answered.", CLOSE)
            if not is_taken:
                raise Refusal(503, "The server is stopping.", [("Retry-After", "5"), *CLOSE])
            ident = request.cookie(cookie_name(request))
            session = self.sessions.find(ident) if ident is not None else None
            if session is not None and session.user.is_welcome(request.address):
                bind(request, session)
            return self._answer(request), request
        except TooMany:
            return self.show(request, Refusal(503, "There are too many sessions; try again later.")), request
        except FileProblem as error:
            return self.show(request, refusal_of(error)), request
        except Refusal as refusal:
            return self.show(request, refusal), request
        except ProtocolError as error:
            log.info("%s: %s", request.address, error)
            return self.show(request, Refusal(400, "The request is malformed.", CLOSE)), request
        except (TooSlow, ConnectionError):  # the client's fault, which the web server handles
            raise
        except Exception:
            log.exception("%s: %s of %s has failed", request.address, request.method[:32], request.shown)
            return self.show(request, Refusal(500, BROKEN)), request

    def user_of(self, arriving: Arriving) -> str | None:
        """The name of the user whose request it is: by cookie, or by password. Never waits."""
        cookies = arriving.cookies()
        for name in COOKIES if cookies else ():
            ident = cookie_in(cookies, name)
            if ident is not None and (user := self.sessions.user_of(ident)) is not None:
                return user
        return self.user_of_program(arriving.authorization())

    def _answer(self, request: Request) -> Reply:
        _, _, path = request.path.partition(b"/")
        name, slash, rest = path.partition(b"/")
        if name in (b"", b"*") and request.method == "OPTIONS":
            name = b"dav"  # Windows asks the root of the host whether there is WebDAV
        if not name:
            return redirect(request, self.home)
        part = self.parts.get(name)
        if part is None:
            raise Refusal(404, "There is no such page.")
        if part.needs_login and request.session is None:
            if request.method in ("GET", "HEAD"):
                query = urllib.parse.urlencode({"to": request.path})
                return redirect(request, self.login, query=query)
            raise Refusal(403, "Log in first.")
        if request.method not in CHANGES_NOTHING:
            self._check_origin(request)
        return part.answer(request, slash + rest)

    def _check_origin(self, request: Request) -> None:
        """Refuse a request that a page of another site has sent. Raises Refusal."""
        site = request.header("Sec-Fetch-Site")
        origin = request.header("Origin")
        if site:
            is_ours = site in ("same-origin", "none")
        else:
            ours = {request.header("Host"), host_of(self._values.url or "")} - {""}
            is_ours = not origin or host_of(origin) in ours
        if not is_ours:
            raise Refusal(403, "This was sent by a page of another site.")


def bind(request: Request, session: Session) -> None:
    """Bind a request to a session: its transfers break off when the session ends."""
    request.session = session
    break_off(request.environ, session)


def break_off(environ: dict[str, Any], session: Ending, words: str = "Log in first.") -> None:
    """Break off a request's transfers when something ends. words: for a client that is still sending."""

    def while_it_goes_on(send: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> Any:
            if session.is_over:
                raise ReplyBroken("the session has ended")
            return send(*arguments)

        return checked

    environ["wsgi.input"] = _Input(environ["wsgi.input"], session, words)
    for name in (SEND, SEND_FILE):
        if name in environ:
            environ[name] = while_it_goes_on(environ[name])


class _Input:
    """The body of a request, as long as its session lasts. words: the refusal after that."""

    def __init__(self, body: Any, session: Ending, words: str) -> None:
        self._body = body
        self._words = words
        self._session = session

    def __getattr__(self, name: str) -> Any:
        """The methods that read the body. Raises Refusal once the session is over."""
        if self._session.is_over:
            raise Refusal(403, self._words)
        return getattr(self._body, name)


class _Body:
    """The body of a reply. session: at its end, the body breaks off. ended: called once, when the body has
    been sent or will not be.
    """

    def __init__(self, body: Iterable[bytes], session: Session | None, ended: Callable[[], None]) -> None:
        self._body = body
        self._session = session
        self._ended: Callable[[], None] | None = ended

    def __iter__(self) -> Iterator[bytes]:
        session = self._session
        if session is None or session.is_over or isinstance(self._body, list):  # it may be its last page
            return iter(self._body)
        return self._while_it_goes_on(session)

    def _while_it_goes_on(self, session: Session) -> Iterator[bytes]:
        for piece in self._body:
            if session.is_over:
                raise ReplyBroken("the session has ended")
            yield piece

    def close(self) -> None:
        """WSGI servers call this at the end of every reply."""
        ended, self._ended = self._ended, None
        if ended is not None:
            try:
                if (close := getattr(self._body, "close", None)) is not None:
                    close()
            finally:
                ended()


def refusal_of(problem: FileProblem) -> Refusal:
    """The refusal of a request that failed in the storage."""
    return Refusal(STATUSES.get(problem.result, 409), f"{problem}.")


def as_text(request: Request, refusal: Refusal) -> Reply:
    """A refusal as a line of text."""
    return Reply(refusal.words.encode() + b"\n", refusal.status, refusal.headers, TEXT)


def check_csrf(session: Session, token: str) -> None:
    """Refuse a form that does not come from a page of this session. Raises Refusal."""
    if not hmac.compare_digest(token.encode("utf-8", "replace"), session.csrf.encode()):
        raise Refusal(403, "This form is of another session; load the page again.")
