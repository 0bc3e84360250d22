"""Links that work once: they open a session of a user who has logged in elsewhere.

Loading the page of a link changes nothing, because chat programs and mail scanners load it; its button logs
in. What may not enter: how a link is asked for, storages. Times are seconds of time.monotonic().
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from typing import Generic, TypeVar

from pysftpserver.web.html import element, page
from pysftpserver.web.wire import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.web.wire import Reply, Request

T = TypeVar("T")
TOKEN_BYTES = 24
SECONDS = 60.0  # that a link works
MOST = 10_000  # waiting links in all
MOST_EACH = 16  # waiting links of one name; another one replaces the oldest
GONE = "This link has been used, or it is older than a minute. Ask for another one."


class Links(Generic[T]):
    """Links that wait to be used; only hashes of their tokens are kept. seconds: how long a link works."""

    def __init__(self, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._waiting: dict[bytes, tuple[str, T, float]] = {}  # the oldest first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, name: str, who: T) -> str:
        """Add a link; return its token. name: under which links are counted together."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            self._forget_old()
            own = [key for key, (other, _, _) in self._waiting.items() if other == name]
            for key in own[: max(0, len(own) + 1 - MOST_EACH)]:
                del self._waiting[key]
            if len(self._waiting) >= MOST:
                del self._waiting[next(iter(self._waiting))]
            self._waiting[_key(token)] = name, who, self._clock() + self._seconds
        return token

    def look(self, token: str) -> T | None:
        """For whom a token is; None: it has been used or has expired. This does not use it."""
        found = self._waiting.get(_key(token))
        return found[1] if found is not None and self._clock() < found[2] else None

    def use(self, token: str) -> T | None:
        """Use a token; return for whom it is. At most one call with a token gets an answer."""
        with self._lock:
            found = self._waiting.pop(_key(token), None)
        return found[1] if found is not None and self._clock() < found[2] else None

    def _forget_old(self) -> None:
        now = self._clock()
        for key in [key for key, (_, _, until) in self._waiting.items() if until <= now]:
            del self._waiting[key]


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class LinkPage(Generic[T]):
    """The page of each link. path: below the door, such as /link. name_of: returns the name on the button.

    begin: begins the session of a user, and replies with where to go; raises Refusal if the user may no
    longer log in.
    """

    needs_login = False
    is_for_programs = False

    def __init__(
        self,
        path: str,
        links: Links[T],
        name_of: Callable[[T], str],
        begin: Callable[[Request, T], Reply],
    ) -> None:
        self._path = path
        self._links = links
        self._name_of = name_of
        self._begin = begin

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Show the page, or log in."""
        token = rest.removeprefix(b"/").decode("ascii", "replace")
        request.allow("GET", "HEAD", "POST")
        if request.method in ("GET", "HEAD"):
            who = self._links.look(token)
            if who is None:
                return self._gone(request)
            form = element(
                "form",
                element("p", "This link works once, for one minute."),
                element("p", element("button", f"Log in as {self._name_of(who)}", autofocus=True)),
                method="post",
                action=f"{quoted(request.place)}{self._path}/{token}",
            )
            return page(request, "Log in", element("h1", "Log in"), form, kind="narrow")
        who = self._links.use(token)  # the body is not read: a stranger's may come slowly
        if who is None:
            return self._gone(request)
        return self._begin(request, who)

    def _gone(self, request: Request) -> Reply:
        title = "This link no longer works"
        return page(request, title, element("h1", title), element("p", GONE), status=410, kind="narrow")
