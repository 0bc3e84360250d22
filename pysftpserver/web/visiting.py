"""The part for visitors with a shared link: one file, a folder, or a place to drop files into.

They use the storage of the user who made the link, as it is at that moment, and cannot leave the shared path.
Unknown, expired, revoked and used-up links have the same answer. The log and the audit log name a link by its
id. What may not enter: concrete storages, how links are kept. Facts: RFC 9110.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import threading
import time

from pysftpserver.failures import BadInput
from pysftpserver.http import ReplyBroken
from pysftpserver.http.files import FileProblem
from pysftpserver.people import passwords
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.service.throttle import Throttle, network_of
from pysftpserver.web.application import break_off
from pysftpserver.web.confined import ConfinedTree
from pysftpserver.web.crowding import Crowd, Guesses
from pysftpserver.web.downloads import Streamed
from pysftpserver.web.guest import NOT_THERE, Guest
from pysftpserver.web.html import element, message, page, refusal_page
from pysftpserver.web.shares import DROP
from pysftpserver.web.wire import Refusal, Reply, basic_credentials, quoted, redirect, set_cookie

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.users import User
    from pysftpserver.service.audit import AuditTrail
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.html import Markup
    from pysftpserver.web.people import People
    from pysftpserver.web.shares import Share, Shares
    from pysftpserver.web.wire import Request

log = logging.getLogger("pysftpserver.web")
COOKIE = "pysftpweb-link"
MOST_FORM = 4096  # bytes of the form with a password
FEWEST = 4  # simultaneous requests that one user's links get in any case
PART = 4  # and one thread in this many, of which one network gets all but one part in this many
HASHING = 2  # passwords compared at the same time


class Visitors:
    """The part of the door for shared links.

    open_storage: opens the storage of a user for an address. trail: makes the audit logs of visits.
    """

    needs_login = False
    is_for_programs = False

    def __init__(
        self,
        values: WebSettings,
        shares: Shares,
        people: People,
        open_storage: Callable[[User, str], SFTPAbstractServerStorage],
        trail: AuditTrail,
    ) -> None:
        self._trail = trail
        self.values = values
        self.shares = shares
        self.crowd = Crowd()
        self._people = people
        self._open = open_storage
        self._guesses = Guesses()
        self._throttle = Throttle()
        self._hashing = threading.Semaphore(HASHING)
        self._secret = shares.secret

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Show or send the target of a link, or receive a file."""
        reply = self._whole_answer(request, rest)
        reply.headers.append(("X-Robots-Tag", "noindex, nofollow"))
        return reply

    def _whole_answer(self, request: Request, rest: bytes) -> Reply:
        """The same, with a page for refusals."""
        try:
            return self._answer(request, rest)
        except (Refusal, FileProblem) as error:
            if isinstance(error, FileProblem) and error.result == "NO_SUCH_FILE":
                error = Refusal(404, NOT_THERE)
            return refusal_page(request, error)

    def _answer(self, request: Request, rest: bytes) -> Reply:
        token, slash, below = rest[1:].partition(b"/")
        network = network_of(request.address)
        self._guesses.check(network, time.monotonic())
        share = self.shares.find(token.decode("ascii", "replace")) if self.values.share_days else None
        owner = self._owner(share, request.address) if share is not None else None
        if share is None or owner is None:
            self._guesses.missed(network, time.monotonic())
            raise Refusal(404, NOT_THERE)
        if not slash:
            return redirect(request, b"/s/" + token + b"/", 308)
        with contextlib.ExitStack() as opened:
            most = max(FEWEST, self.values.threads // PART)
            own = ("of", share.user_id, network), most - most // PART
            opened.callback(self.crowd.enter((("of", share.user_id), most), own))
            if share.password is not None and not self._is_unlocked(request, share):
                return self._ask_password(request, share, token)
            try:
                storage = self._open(owner, request.address)
            except (OSError, ValueError, SFTPException, BadInput) as error:
                log.error("%s: the storage for the shared link %s: %s", share.user, share.id, error)
                raise Refusal(503, "The files cannot be reached now; try again later.") from None
            opened.callback(storage.release)
            going_on = GoingOn(lambda: self._is_over(share, request.address))
            break_off(request.environ, going_on, NOT_THERE)
            tree = ConfinedTree(storage, share.path)
            audit = self._trail.of(share.user, request.address, request.port)
            guest = Guest(request, self.shares, share, tree, self.crowd, audit, opened)
            if share.kind == DROP and self.values.read_only:
                raise Refusal(403, "Nothing can be stored here at the moment.")
            reply = guest.drop(below) if share.kind == DROP else guest.read(below)
            if not isinstance(reply.body, list):  # it needs the storage until it is sent
                opened.callback(reply.body.close)  # type: ignore[attr-defined]
                reply.body = Streamed(going_on.pieces(reply.body), opened.pop_all().close)
            return reply

    def _is_over(self, share: Share, address: str) -> bool:
        return self.shares.is_revoked(share) or self._owner(share, address) is None

    def _owner(self, share: Share, address: str) -> User | None:
        """The user who made a link, if this user could log in from an address now. address: the visitor's."""
        user = self._people.find(share.user)
        return user if user is not None and user.id == share.user_id and user.is_welcome(address) else None

    # --- passwords ------------------------------------------------------------------------------------

    def _key(self, share: Share) -> str:
        """Proof that a visitor knew the password; invalid for any other link or password."""
        return hmac.new(self._secret, f"{share.id}{share.password}".encode(), hashlib.sha256).hexdigest()

    def _is_unlocked(self, request: Request, share: Share) -> bool:
        if hmac.compare_digest((request.cookie(COOKIE) or "").encode(), self._key(share).encode()):
            return True
        given = basic_credentials(request.header("Authorization"))
        return given is not None and self._opens(request, share, given[1])

    def _opens(self, request: Request, share: Share, password: str) -> bool:
        """Whether a password is right. Raises Refusal if too many were wrong."""
        network = network_of(request.address)
        with self._hashing:
            wait = self._throttle.wait(network, time.monotonic())
            if wait > 0:
                words = "Too many passwords from your network were wrong; try again later."
                raise Refusal(429, words, [("Retry-After", f"{int(wait) + 1}")])
            try:
                is_right = passwords.verify(share.password or passwords.DUMMY, passwords.prepared(password))
            except ValueError:
                is_right = False
            if not is_right:
                self._throttle.failed(network, time.monotonic())
                log.info("%s: wrong password for the shared link %s", request.address, share.id)
        return is_right

    def _ask_password(self, request: Request, share: Share, token: bytes) -> Reply:
        place = b"/s/" + token + b"/"
        said: list[Markup] = []
        if request.method == "POST":
            if self._opens(request, share, request.form(MOST_FORM).get("password", "")):
                cookie = set_cookie(request, COOKIE, self._key(share), request.place + place)
                return redirect(request, place, headers=[cookie])
            said.append(message("That is not the password.", is_problem=True))
        form = element(
            "form",
            element("label", "Password", for_="password"),
            element(
                "input",
                id="password",
                name="password",
                type="password",
                required=True,
                autofocus=True,
                autocomplete="off",
            ),
            element("p", element("button", "Open", class_="primary")),
            method="post",
            action=quoted(request.place + place),
        )
        return page(
            request,
            "Password needed",
            element("h1", "This link has a password"),
            element("p", "The person who sent you the link knows it."),
            *said,
            form,
            status=403,
            kind="narrow",
        )


class GoingOn:
    """Ends transfers through a link when the link ends. ends: returns whether it has."""

    def __init__(self, ends: Callable[[], bool]) -> None:
        self._ends = ends

    @property
    def is_over(self) -> bool:
        return self._ends()

    def pieces(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces of a body. Raises ReplyBroken."""
        for piece in body:
            if self.is_over:
                raise ReplyBroken("the shared link was revoked, or its user may no longer log in")
            yield piece
