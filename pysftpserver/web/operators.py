"""The operators' page: checks who may see it, and does what its forms ask for.

Operators are not users: they have their own accounts, sessions and cookie. What may not enter: HTML, how
pysftpd is watched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
import urllib.parse

from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.http import IS_GONE
from pysftpserver.people.methods import PASSWORD, TOTP
from pysftpserver.people.users import User
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service.admin_client import ask_all
from pysftpserver.web import operators_pages as pages
from pysftpserver.web import operators_records as records
from pysftpserver.web.application import CSRF, check_csrf
from pysftpserver.web.guarding import Guard
from pysftpserver.web.history import Watch
from pysftpserver.web.html import Messages
from pysftpserver.web.links import LinkPage, Links
from pysftpserver.web.logins import Reception
from pysftpserver.web.managing import Managing
from pysftpserver.web.operators_frame import login
from pysftpserver.web.session import Session, Sessions
from pysftpserver.web.streaming import Stream
from pysftpserver.web.trail import Trail
from pysftpserver.web.wire import Refusal, Reply, Request, redirect, set_cookie

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.checks import Used
    from pysftpserver.service.audit import AuditTrail
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.history import State
    from pysftpserver.web.people import People
    from pysftpserver.web.trail import Decide

log = logging.getLogger("pysftpserver.web")
PATH = "/operators"
COOKIE = "pysftpweb-operator"
MOST_FORM = 65536  # bytes of a form, which may contain keys
ROOM = 2.0  # seconds to wait for room for one more of them
STREAMS = 8  # one thread in this many may serve a page with live updates
BAN_SECONDS = 3600


class OperatorSettings:
    """The login rules of operators: a password and a second factor, unless a record asks for less."""

    auth_methods = (f"{PASSWORD},{TOTP}",)
    offered = frozenset((PASSWORD, TOTP))


class Operators:
    """The part of the door at PATH.

    path: of the admin socket. people: the operators who may log in, if a file names some. guard: has the bans
    of the door's users. managing: changes users. decide: returns the rule that caused a refusal in the audit
    log. audit: records every change that operators make. codes: those that operators have used. is_stopping:
    whether the server is stopping.
    """

    needs_login = False  # of the door's users, which operators are not
    is_for_programs = False

    def __init__(
        self,
        values: WebSettings,
        path: str,
        people: People | None,
        guard: Guard,
        managing: Managing,
        decide: Decide,
        audit: AuditTrail,
        codes: Used | None = None,
    ) -> None:
        self.watch = Watch(path)
        self.sessions = Sessions(values)
        self._values = values
        self._people = people
        self._guard = guard
        self._managing = managing
        self._trail = Trail(decide)
        self._audit_trail = audit
        self._reception: Reception | None = None
        if people is not None:
            self._reception = Reception(values, people, Guard(values), rules=OperatorSettings(), codes=codes)
        self._links: Links[str] = Links()
        self._link = LinkPage(f"{PATH}/link", self._links, lambda name: name, self._begin_by_link)
        self._messages = Messages()
        self.is_stopping: Callable[[], bool] = lambda: False
        self._room = threading.BoundedSemaphore(max(1, values.threads // STREAMS))
        self._pages: dict[bytes, Callable[[Request, Session], Reply]] = {
            b"": self._now,
            b"users": self._users,
            b"user": self._user,
            b"audit": self._audit,
            b"figures": self._figures,
            b"stream": self._stream,
        }
        self._acts: dict[bytes, Callable[[dict[str, str]], str]] = {
            b"end": self._end,
            b"ban": self._ban,
            b"lift": self._lift,
            b"add": managing.add,
            b"change": managing.change,
        }

    def start(self) -> None:
        """Begin to watch. Raises DirectoryError if operators cannot be loaded."""
        if self._people is not None:
            self._people.start(lambda name: self.sessions.sweep(self._is_current))
        self.watch.start()

    def close(self) -> None:
        """End all sessions."""
        self.watch.close()
        for session in self.sessions.all():
            self.sessions.end(session)
        if self._people is not None:
            self._people.close()

    def link(self, name: str) -> str:
        """The path of a link for an operator. name: for the log."""
        shown = one_line(name)[:64] or "an operator"
        return f"{PATH}/link/{self._links.add(shown, shown)}"

    # --- who asks -----------------------------------------------------------------------------------------

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Answer a request. Raises Refusal."""
        if not rest:
            return redirect(request, PATH.encode() + b"/")
        name, _, more = rest[1:].partition(b"/")
        if name == b"link":
            return self._link.answer(request, more)
        if name == b"login" and not more:
            return self._log_in(request)
        session = self._session_of(request)
        if more or name not in self._pages and name not in self._acts and name != b"logout":
            raise Refusal(404, "There is no such page.")
        if session is None:
            if request.method == "GET" and name in self._pages and name not in (b"stream", b"figures"):
                return self._to(request, b"/login")
            raise Refusal(403, "Log in first.")
        if name in self._pages:
            request.allow("GET", "HEAD")
            return self._pages[name](request, session)
        request.allow("POST")
        form = request.form(MOST_FORM)
        check_csrf(session, form.get(CSRF, ""))
        if name == b"logout":
            self.sessions.end(session)
            return self._to(request, b"/login", [self._cookie(request, None)])
        return self._act(request, session, name, form)

    def _session_of(self, request: Request) -> Session | None:
        ident = request.cookie(_cookie_name(request))
        return self.sessions.find(ident) if ident is not None else None

    def _cookie(self, request: Request, session: Session | None) -> tuple[str, str]:
        value = session.id if session else ""
        return set_cookie(request, _cookie_name(request), value, request.place + PATH.encode(), "Strict")

    def _to(self, request: Request, rest: bytes, headers: list[tuple[str, str]] | None = None) -> Reply:
        return redirect(request, PATH.encode() + rest, headers=headers or [])

    def _log_in(self, request: Request) -> Reply:
        request.allow("GET", "HEAD", "POST")
        if request.method in ("GET", "HEAD"):
            return login(request, PATH, self._reception is not None, "")
        form = request.form(MOST_FORM)
        if self._reception is None:
            raise Refusal(403, "There are no passwords for operators; use `pysftpctl web`.")
        try:
            user = self._reception.log_in(
                form.get("name", ""), form.get("password", ""), form.get("code", ""), request.address
            )
        except Refusal as refusal:
            reply = login(request, PATH, True, refusal.words)
            reply.status, reply.headers = refusal.status, [*reply.headers, *refusal.headers]
            return reply
        return self._begin(request, user, "a password")

    def _begin_by_link(self, request: Request, name: str) -> Reply:
        return self._begin(request, User("", name, "", True, frozenset()), "a link")

    def _begin(self, request: Request, user: User, how: str) -> Reply:
        session = Session(user, request.address, _no_storage)
        self.sessions.add(session)
        self._record(request, session, "login", "OK", f"an operator, with {how}")
        return self._to(request, b"/", [self._cookie(request, session)])

    def _is_current(self, user: User) -> bool:
        return not user.id or self._people is None or self._people.is_current(user)

    # --- pages --------------------------------------------------------------------------------------------

    def _now(self, request: Request, session: Session) -> Reply:
        sections = pages.sections(self._state(), self.watch.ring, session, self._trail, self._root(request))
        return pages.now(request, PATH, session, self._messages.take(session), sections)

    def _state(self, state: State | None = None) -> State:
        """The state of pysftpd, now or as given, with the bans of both doors."""
        state, now = state or self.watch.now(), time.monotonic()
        bans = [{"door": "pysftpd", **ban} for ban in state.bans]
        for ban in self._guard.listed():
            left = max(0, round(ban.until - now))
            told = {"address": ban.network, "seconds": left, "points": ban.points}
            bans.append({"door": "pysftpweb", **told, "cause": ban.cause, "bans": ban.bans})
        return dataclasses.replace(state, bans=bans)

    def _root(self, request: Request) -> str:
        return request.place.decode("utf-8", "replace") + PATH

    def _users(self, request: Request, session: Session) -> Reply:
        asked = request.query().get("q", "")
        found, problem = self._managing.found(asked)
        return records.users(request, PATH, session, self._messages.take(session), asked, found, problem)

    def _user(self, request: Request, session: Session) -> Reply:
        name = request.query().get("name", "")
        record = self._managing.record(name)
        if record is None:
            raise Refusal(404, "There is no such user.")
        return records.user(
            request, PATH, session, self._messages.take(session), record, self._managing.space(record.user)
        )

    def _audit(self, request: Request, session: Session) -> Reply:
        asked, lines, is_all, problem = request.query().get("path", ""), list[str](), True, ""
        audit = self.watch.now().about.get("audit")
        if audit is None:
            problem = "pysftpd has no audit log (setting audit), or does not answer"
        elif asked:
            try:
                lines, is_all = self._trail.search(audit, asked)
            except (Unavailable, BadInput) as error:
                problem = error.message
        return records.audit(request, PATH, session, asked, lines, is_all, problem)

    def _figures(self, request: Request, session: Session) -> Reply:
        return pages.figures(self._state(), self.watch.ring)

    def _stream(self, request: Request, session: Session) -> Reply:
        request.allow("GET")
        root = self._root(request)
        is_gone = request.environ.get(IS_GONE, lambda: False)

        def is_over() -> bool:
            has_ended = session.is_over or time.monotonic() - session.used > self._values.session_timeout
            return has_ended or self.is_stopping() or is_gone()

        def sections(state: State) -> dict[str, str]:
            return pages.sections(self._state(state), self.watch.ring, session, self._trail, root)

        if not self._room.acquire(timeout=ROOM):  # a page that is being reloaded has just freed some
            raise Refusal(503, "Too many pages follow what happens.", [("Retry-After", "10")])
        stream = Stream(self.watch, is_over, sections, self._room.release)
        headers = [("X-Accel-Buffering", "no")]  # otherwise proxies would buffer
        return Reply(stream, headers=headers, kind="text/event-stream")

    # --- forms --------------------------------------------------------------------------------------------

    def _act(self, request: Request, session: Session, name: bytes, form: dict[str, str]) -> Reply:
        is_problem = False
        try:
            if name == b"ban" and form.get("address", "").strip() == request.address:
                raise BadInput(f"{request.address} is your own address: a ban would end what you do here")
            words = self._acts[name](form)
        except (Unavailable, BadInput) as error:
            words, is_problem = error.message, True
        self._record(request, session, name.decode(), "FAILURE" if is_problem else "OK", words)
        self._messages.add(session, words, is_problem=is_problem)
        self.watch.look_soon()
        if name not in (b"add", b"change"):
            return self._to(request, b"/")
        if name == b"add" and is_problem:
            return self._to(request, b"/users")
        query = urllib.parse.urlencode({"name": form.get("name", "")}).encode()
        return redirect(request, PATH.encode() + b"/user", query=query.decode())

    def _record(self, request: Request, session: Session, what: str, result: str, words: str) -> None:
        """Write an operator's action to the log and the audit log; failures of the latter go to the log."""
        log.info("%s: the operator %s: %s", request.address, session.name, one_line(words))
        with contextlib.suppress(SFTPSessionEnd):
            audit = self._audit_trail.of(session.name, request.address, request.port)
            audit.note(f"operator-{what}", result, message=words)

    def _ask(self, question: dict[str, object], most: int | None = None) -> list[dict[str, object]]:
        return ask_all(self.watch.path, question, lambda text: log.error("%s", text), most)

    def _end(self, form: dict[str, str]) -> str:
        number = _whole(form.get("number", ""), "the number of a session")
        ended = [
            one for answer in self._ask({"ask": "end", "number": number}) for one in _list(answer["ended"])
        ]
        return f"ended session {number}" if ended else f"session {number} was over"

    def _ban(self, form: dict[str, str]) -> str:
        address = form.get("address", "").strip()
        seconds = _whole(form.get("seconds", str(BAN_SECONDS)), "a time in seconds")
        try:
            self._guard.ban(address, seconds)
        except ValueError as error:
            raise BadInput(one_line(str(error))) from None
        self._ask({"ask": "ban", "address": address, "seconds": seconds}, 1)
        return f"banned {address} for {seconds} seconds"

    def _lift(self, form: dict[str, str]) -> str:
        address = form.get("address", "")
        was_known = self._guard.lift(address)
        lifted = [answer["lifted"] for answer in self._ask({"ask": "lift", "address": address})]
        return (
            f"lifted the ban of {address}" if was_known or any(lifted) else f"nothing was known of {address}"
        )


def _cookie_name(request: Request) -> str:
    """The name of the cookie; over HTTPS, one that browsers accept over HTTPS only."""
    return f"__Secure-{COOKIE}" if request.is_secure else COOKIE


def _whole(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadInput(f"{one_line(text)[:64]!r} is not {what}")
    return int(text)


def _list(found: object) -> list[object]:
    return found if isinstance(found, list) else []


def _no_storage() -> SFTPAbstractServerStorage:
    raise OSError("operators have no files")
