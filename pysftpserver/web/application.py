"""The browser door as a WSGI application: who asks, which part answers, and the headers of every reply.

What may not enter: concrete storages, how a server listens, what a part shows. Facts: RFC 9110; Content
Security Policy Level 3; Fetch Metadata Request Headers.
"""

from __future__ import annotations

import hmac
import logging
import urllib.parse

from pysftpserver.web.session import COOKIE, Sessions
from pysftpserver.web.wire import TEXT, Refusal, Reply, Request, cookie_in, redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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


class Application:
    """Call it as WSGI servers do. parts: by the first name of a path."""

    def __init__(self, values: WebSettings, sessions: Sessions, parts: dict[bytes, Part]) -> None:
        self._values = values
        self.sessions = sessions
        self.parts = parts
        self.home = b"/files/"
        self.login = b"/login"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ, self._session_of(environ))
        try:
            reply = self._answer(request)
        except Refusal as refusal:
            reply = Reply(refusal.words.encode() + b"\n", refusal.status, refusal.headers, TEXT)
        return reply.start(start_response, HEADERS)

    def user_of(self, cookies: str) -> str | None:
        """The name of the user whose session a request's cookies name. Never waits."""
        ident = cookie_in(cookies, COOKIE)
        return self.sessions.user_of(ident) if ident is not None else None

    def _session_of(self, environ: dict[str, Any]) -> Session | None:
        ident = cookie_in(environ.get("HTTP_COOKIE", ""), COOKIE)
        return self.sessions.find(ident) if ident is not None else None

    def _answer(self, request: Request) -> Reply:
        _, _, path = request.path.partition(b"/")
        name, slash, rest = path.partition(b"/")
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
        if site and site not in ("same-origin", "none"):
            raise Refusal(403, "This was sent by a page of another site.")
        if not site and origin and urllib.parse.urlsplit(origin).netloc != request.environ.get("HTTP_HOST"):
            raise Refusal(403, "This was sent by a page of another site.")


def check_csrf(session: Session, token: str) -> None:
    """Refuse a form that was not on a page of this session. Raises Refusal."""
    if not hmac.compare_digest(token.encode("utf-8", "replace"), session.csrf.encode()):
        raise Refusal(403, "This form is of another session; load the page again.")
