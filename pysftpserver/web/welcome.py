"""The pages to log in and out, and the authentication of WebDAV clients.

What may not enter: storages, what the other parts show.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict

from pysftpserver.http import CLAIM
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service.throttle import network_of
from pysftpserver.web.application import CSRF, bind, check_csrf
from pysftpserver.web.html import element, field, hidden, message, page
from pysftpserver.web.session import Session, TooMany, cookie_name
from pysftpserver.web.wire import Refusal, basic_credentials, quoted, redirect, set_cookie

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.users import User
    from pysftpserver.service.audit import AuditTrail
    from pysftpserver.web.logins import Reception
    from pysftpserver.web.session import Sessions
    from pysftpserver.web.wire import Reply, Request

    OpenStorage = Callable[[User, str], SFTPAbstractServerStorage]

log = logging.getLogger("pysftpserver.web")
MOST_FORM = 16384  # bytes
KEPT_FOR = 300.0  # seconds for which a right password is not compared again, for clients without cookies
MOST_PROGRAMS = 10_000  # right passwords of such clients
MOST_NETWORKS = 16  # of one of them
RETRY = (("Retry-After", "60"),)


class Welcome:
    """Begins sessions. open_storage: opens the storage of a user who comes from an address. trail: the audit
    log. is_current: whether a user may still have sessions.
    """

    def __init__(
        self,
        reception: Reception,
        sessions: Sessions,
        open_storage: OpenStorage,
        trail: AuditTrail,
        is_current: Callable[[User], bool],
    ) -> None:
        self._reception = reception
        self._sessions = sessions
        self._open = open_storage
        self._trail = trail
        self._is_current = is_current
        self._secret = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, _Program] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, user: User, address: str, port: int | None = None, by: str = "link") -> Session:
        """Begin a session of an authenticated user. by: the login method. Raises Refusal."""
        audit = self._trail.of(user.name, address, port)
        session = Session(user, address, lambda: self._open(user, address), audit)
        try:
            audit.note("login", by=by)
            self._sessions.add(session)
        except SFTPSessionEnd:  # the log says what was not recorded
            raise Refusal(503, "The server cannot begin sessions now.") from None
        except TooMany:
            audit.note("end", "FAILURE", message="too many sessions (max_sessions)")
            log.error(
                "%s: the login of %s is refused: there are %d sessions (max_sessions)",
                *(address, user.name, len(self._sessions)),
            )
            raise Refusal(503, "There are too many sessions; try again later.", RETRY) from None
        log.info("%s: %s has logged in by %s, session %s", address, user.name, by, session.label)
        return session

    def log_in(self, request: Request, name: str, password: str, code: str) -> Session:
        """Begin a session. Raises Refusal."""
        user = self._reception.log_in(name, password, code, request.address, request.port)
        return self.begin(
            user, request.address, request.port, "password and code" if user.totp else "password"
        )

    # --- programs -----------------------------------------------------------------------------------------

    def of_program(self, request: Request) -> Session:
        """The session of a client that sends name and password with each request. Raises Refusal(401)."""
        if request.session is None:
            bind(request, session := self._of_program(request))
            if (claim := request.environ.get(CLAIM)) is not None and not claim(session.name):
                raise Refusal(503, "Too many requests at once; try again.", [("Retry-After", "1")])
            return session
        return request.session

    def _of_program(self, request: Request) -> Session:
        given = basic_credentials(request.header("Authorization"))
        if given is None:
            raise _unknown()
        sent, network = self._digest(given), network_of(request.address)
        program = self._program(sent)
        found = self._sessions.find(program.sessions.get(network, "")) if program is not None else None
        if found is not None:
            return found
        try:
            if program is not None and program.user.is_welcome(request.address):
                session = self.begin(program.user, request.address, request.port, "password")
            else:
                session = self.log_in(request, *given, "")
        except Refusal as refusal:
            if refusal.status != 403:
                raise
            raise _unknown() from None
        with self._lock:
            program = self._known.setdefault(sent, _Program(session.user))
            if program.user != session.user:
                program = self._known[sent] = _Program(session.user)
            program.since = time.monotonic()
            program.sessions[network] = session.id
            while len(program.sessions) > MOST_NETWORKS:
                del program.sessions[next(iter(program.sessions))]
            while len(self._known) > MOST_PROGRAMS:
                self._known.popitem(last=False)
        return session

    def user_of_program(self, authorization: str) -> str | None:
        """The name of the user with these credentials, if they were right recently. Never waits."""
        given = basic_credentials(authorization) if authorization else None
        program = self._program(self._digest(given)) if given is not None else None
        return program.user.name if program is not None else None

    def _program(self, sent: bytes) -> _Program | None:
        """The client that has recently sent these right credentials, if its user is unchanged."""
        program = self._known.get(sent)
        if program is None or time.monotonic() - program.since > KEPT_FOR:
            return None
        return program if self._is_current(program.user) else None

    def _digest(self, given: tuple[str, str]) -> bytes:
        """The hash that is kept of a name and a password."""
        name, password = given
        return hashlib.blake2b(f"{len(name)}:{name}{password}".encode(), key=self._secret).digest()

    # --- browsers -----------------------------------------------------------------------------------------

    def cookie(self, request: Request, session: Session | None) -> tuple[str, str]:
        """The header that gives a browser its session, or takes it away."""
        return set_cookie(request, cookie_name(request), session.id if session else "", request.place)


@dataclasses.dataclass
class _Program:
    """A client without cookies. since: when its password was compared. sessions: ids by networks."""

    user: User
    since: float = 0.0
    sessions: dict[str, str] = dataclasses.field(default_factory=dict)


def _unknown() -> Refusal:
    return Refusal(
        401,
        "Log in with a name and a password.",
        [("WWW-Authenticate", 'Basic realm="files", charset="UTF-8"')],
    )


class Login:
    """The login page."""

    needs_login = False
    is_for_programs = False

    def __init__(self, welcome: Welcome, sessions: Sessions) -> None:
        self._welcome = welcome
        self._sessions = sessions

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Show the page, or log in."""
        if rest:  # its form would be read while it arrives: see http.arriving.is_login()
            raise Refusal(404, "There is no such page.")
        request.allow("GET", "HEAD", "POST")
        if request.method in ("GET", "HEAD"):
            return self._page(request, request.query().get("to", "/"))
        form = request.form(MOST_FORM)
        try:
            session = self._welcome.log_in(
                request, form.get("name", ""), form.get("password", ""), form.get("code", "")
            )
        except Refusal as refusal:
            reply = self._page(request, form.get("to", "/"), refusal.words)
            reply.status, reply.headers = refusal.status, [*reply.headers, *refusal.headers]
            return reply
        if request.session is not None:
            self._sessions.end(request.session, "logged in again")
        to = form.get("to", "/").encode("utf-8", "surrogateescape")
        if not to.startswith(b"/") or to[1:2] in (b"/", b"\\"):  # to another host
            to = b"/"
        return redirect(request, to, headers=[self._welcome.cookie(request, session)])

    def _page(self, request: Request, to: str, words: str = "") -> Reply:
        form = element(
            "form",
            hidden("to", to),
            field("name", "Name", autocomplete="username", required=True, autofocus=True),
            field("password", "Password", type="password", autocomplete="current-password", required=True),
            field(
                "code", "One-time code, if you have one", inputmode="numeric", autocomplete="one-time-code"
            ),
            element("p", element("button", "Log in")),
            method="post",
            action=quoted(request.place) + "/login",
        )
        said = message(words, is_problem=True) if words else ""
        return page(request, "Log in", element("h1", "Log in"), said, form, kind="narrow")


class Logout:
    """Ends the session."""

    needs_login = True
    is_for_programs = False

    def __init__(self, welcome: Welcome, sessions: Sessions) -> None:
        self._welcome = welcome
        self._sessions = sessions

    def answer(self, request: Request, rest: bytes) -> Reply:
        """End it."""
        request.allow("POST")
        assert request.session is not None
        check_csrf(request.session, request.form(MOST_FORM).get(CSRF, ""))
        self._sessions.end(request.session)
        headers = [self._welcome.cookie(request, None), ("Clear-Site-Data", '"cache", "storage"')]
        return redirect(request, b"/login", headers=headers)
