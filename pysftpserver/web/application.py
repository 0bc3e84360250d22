"""The browser door as a WSGI application: who asks, which part answers, and the headers of every reply.

What may not enter: concrete storages, how a server listens, what a part shows. Facts: RFC 9110; Content
Security Policy Level 3; Fetch Metadata Request Headers.
"""

from __future__ import annotations

import hmac
import logging
import urllib.parse

from pysftpserver.http.running import Running
from pysftpserver.web.proxies import Front, host_of
from pysftpserver.web.session import COOKIES, Sessions, cookie_name
from pysftpserver.web.wire import TEXT, Refusal, Reply, Request, cookie_in, redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Protocol

    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.session import Session

    class Part(Protocol):
        """A part of the door, below one name. needs_login: whether strangers are sent to the login.

        is_for_programs: whether it answers programs that have no cookies and send no forms of ours; it then
        checks who asks, and that a page of somebody else's did not make the request.
        """

        needs_login: bool
        is_for_programs: bool

        def answer(self, request: Request, rest: bytes) -> Reply:
            """Answer a request. rest: of the path, after the part's name. Raises Refusal."""


log = logging.getLogger("pysftpserver.web")
CHANGES_NOTHING = ("GET", "HEAD", "OPTIONS")
CSRF = "csrf"  # the field of forms, and X-CSRF of scripts
#: Nothing is loaded from elsewhere, nothing inline runs, and no other site shows us in a frame.
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
BROKEN = "Something went wrong here; the log of the server says what."


class Application:
    """Call it as WSGI servers do. parts: by the first name of a path.

    show: makes the reply to a request that is refused.
    """

    def __init__(self, values: WebSettings, sessions: Sessions, parts: dict[bytes, Part]) -> None:
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
            reply, is_secure = self._reply(environ, is_taken)
            body = reply.start(start_response, STRICT if is_secure else HEADERS)
            if is_taken:
                body = _Body(body, self.running.end)
            return body
        finally:
            if is_taken and not isinstance(body, _Body):
                self.running.end()

    def _reply(self, environ: dict[str, Any], is_taken: bool) -> tuple[Reply, bool]:
        """The reply, and whether it goes over HTTPS. is_taken: False while the server is stopping."""
        request = Request(environ)
        try:
            self._front.apply(environ)
            request = Request(environ)
            if not is_taken:
                raise Refusal(503, "The server is stopping.", [("Retry-After", "5"), ("Connection", "close")])
            ident = request.cookie(cookie_name(request))
            request.session = self.sessions.find(ident) if ident is not None else None
            return self._answer(request), request.is_secure
        except Refusal as refusal:
            return self.show(request, refusal), request.is_secure
        except Exception:
            log.exception("%s: %s of %s has failed", request.address, request.method[:32], request.shown)
            return self.show(request, Refusal(500, BROKEN)), request.is_secure

    def user_of(self, cookies: str) -> str | None:
        """The name of the user whose session a request's cookies name. Never waits."""
        for name in COOKIES:
            ident = cookie_in(cookies, name)
            if ident is not None and (user := self.sessions.user_of(ident)) is not None:
                return user
        return None

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
        if not part.is_for_programs and request.method not in CHANGES_NOTHING:
            self._check_origin(request)
        return part.answer(request, slash + rest)

    def _check_origin(self, request: Request) -> None:
        """Refuse what a page of another site has sent. Raises Refusal."""
        site = request.header("Sec-Fetch-Site")
        origin = request.header("Origin")
        if site:
            is_ours = site in ("same-origin", "none")
        else:
            ours = {request.header("Host"), host_of(self._values.url or "")} - {""}
            is_ours = not origin or host_of(origin) in ours
        if not is_ours:
            raise Refusal(403, "This was sent by a page of another site.")


class _Body:
    """The body of a reply. ended: called once, when it was sent or will not be."""

    def __init__(self, body: Iterable[bytes], ended: Callable[[], None]) -> None:
        self._body = body
        self._ended: Callable[[], None] | None = ended

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """WSGI servers call this at the end of every reply."""
        ended, self._ended = self._ended, None
        if ended is not None:
            try:
                if (close := getattr(self._body, "close", None)) is not None:
                    close()
            finally:
                ended()


def as_text(request: Request, refusal: Refusal) -> Reply:
    """A refusal as a line of text."""
    return Reply(refusal.words.encode() + b"\n", refusal.status, refusal.headers, TEXT)


def check_csrf(session: Session, token: str) -> None:
    """Refuse a form that was not on a page of this session. Raises Refusal."""
    if not hmac.compare_digest(token.encode("utf-8", "replace"), session.csrf.encode()):
        raise Refusal(403, "This form is of another session; load the page again.")
