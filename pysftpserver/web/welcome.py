"""The pages to log in and out, and who WebDAV clients are.

What may not enter: storages, what the other parts show.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import secrets
import threading
import time

from pysftpserver.web.application import CSRF, check_csrf
from pysftpserver.web.session import Session, cookie_name
from pysftpserver.web.wire import HTML, Refusal, Reply, redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.users import User
    from pysftpserver.web.logins import Reception
    from pysftpserver.web.session import Sessions
    from pysftpserver.web.wire import Request

    OpenStorage = Callable[[User, str], SFTPAbstractServerStorage]

MOST_FORM = 16384  # bytes
KEPT = 300.0  # seconds that a right password is not compared again, for clients that have no cookies
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="{place}/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{place}/static/style.css"></head>
<body class="narrow"><main><h1>Log in</h1>{problem}
<form method="post" action="{place}/login">
<input type="hidden" name="to" value="{to}">
<p><label for="name">Name</label><input id="name" name="name" autocomplete="username" required autofocus></p>
<p><label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required></p>
<p><label for="code">One-time code, if you have one</label>
<input id="code" name="code" inputmode="numeric" autocomplete="one-time-code"></p>
<p><button>Log in</button></p></form></main></body></html>
"""


class Welcome:
    """Begins sessions. open_storage: opens the storage of a user who comes from an address."""

    def __init__(self, reception: Reception, sessions: Sessions, open_storage: OpenStorage) -> None:
        self._reception = reception
        self._sessions = sessions
        self._open = open_storage
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, tuple[str, float]] = {}  # id of a session and when, by what was sent
        self._lock = threading.Lock()

    def begin(self, user: User, address: str) -> Session:
        """Begin a session of a user who has shown who that is."""
        session = Session(user, address, lambda: self._open(user, address))
        self._sessions.add(session)
        return session

    def log_in(self, request: Request, name: str, password: str, code: str) -> Session:
        """Begin a session. Raises Refusal."""
        return self.begin(self._reception.log_in(name, password, code, request.address), request.address)

    def of_program(self, request: Request) -> Session:
        """The session of a client that sends name and password with each request. Raises Refusal(401)."""
        if request.session is not None:
            return request.session
        name, password = self._basic(request)
        sent = hashlib.blake2b(f"{len(name)}:{name}{password}".encode(), key=self._secret).digest()
        with self._lock:
            ident, since = self._known.get(sent, ("", 0.0))
        session = self._sessions.find(ident) if time.monotonic() - since < KEPT else None
        if session is None or session.network != request.address and session.address != request.address:
            try:
                session = self.log_in(request, name, password, "")
            except Refusal as refusal:
                if refusal.status != 403:
                    raise
                raise self._unknown() from None
            with self._lock:
                self._known[sent] = session.id, time.monotonic()
                while len(self._known) > 10_000:
                    del self._known[next(iter(self._known))]
        return session

    def _basic(self, request: Request) -> tuple[str, str]:
        scheme, _, token = request.header("Authorization").partition(" ")
        try:
            text = (
                base64.b64decode(token.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
            )
        except (binascii.Error, ValueError):
            text = ""
        name, colon, password = text.partition(":")
        if not colon:
            raise self._unknown()
        return name, password

    def _unknown(self) -> Refusal:
        return Refusal(
            401, "Log in with a name and a password.", [("WWW-Authenticate", 'Basic realm="files"')]
        )

    def cookie(self, request: Request, session: Session | None) -> tuple[str, str]:
        """The header that gives a browser its session, or takes it away."""
        path = request.place.decode("latin-1") or "/"
        value = f"{cookie_name(request)}={session.id if session else ''}; Path={path}; HttpOnly; SameSite=Lax"
        secure = "; Secure" if request.is_secure else ""
        return "Set-Cookie", value + secure + ("" if session else "; Max-Age=0")


class Login:
    """The page to log in."""

    needs_login = False
    is_for_programs = False

    def __init__(self, welcome: Welcome) -> None:
        self._welcome = welcome

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Show the page, or log in."""
        if request.method in ("GET", "HEAD"):
            return self._page(request, request.query().get("to", "/"))
        if request.method != "POST":
            raise Refusal(405, "Use GET or POST.", [("Allow", "GET, HEAD, POST")])
        form = request.form(MOST_FORM)
        try:
            session = self._welcome.log_in(
                request, form.get("name", ""), form.get("password", ""), form.get("code", "")
            )
        except Refusal as refusal:
            reply = self._page(request, form.get("to", "/"), refusal.words)
            reply.status, reply.headers = refusal.status, [*reply.headers, *refusal.headers]
            return reply
        to = form.get("to", "/").encode("utf-8", "surrogateescape")
        if not to.startswith(b"/") or to[1:2] in (b"/", b"\\"):  # to another host
            to = b"/"
        return redirect(request, to, headers=[self._welcome.cookie(request, session)])

    def _page(self, request: Request, to: str, words: str = "") -> Reply:
        said = f'<p class="problem" role="alert">{html.escape(words)}</p>' if words else ""
        place = html.escape(request.place.decode("utf-8", "replace"))
        return Reply(PAGE.format(place=place, to=html.escape(to), problem=said).encode(), kind=HTML)


class Logout:
    """Ends the session."""

    needs_login = True
    is_for_programs = False

    def __init__(self, welcome: Welcome, sessions: Sessions) -> None:
        self._welcome = welcome
        self._sessions = sessions

    def answer(self, request: Request, rest: bytes) -> Reply:
        """End it."""
        if request.method != "POST" or request.session is None:
            raise Refusal(405, "Use POST.", [("Allow", "POST")])
        check_csrf(request.session, request.form(MOST_FORM).get(CSRF, ""))
        self._sessions.end(request.session)
        return redirect(request, b"/login", headers=[self._welcome.cookie(request, None)])
