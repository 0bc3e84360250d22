"""Links that work once: they open a session of somebody who has shown elsewhere who that is.

To load the page of a link changes nothing, because chat programs and mail scanners do that; its button logs
in. What may not enter: how a link is asked for, storages. Times are seconds of time.monotonic().
"""

from __future__ import annotations

import hashlib
import html
import secrets
import threading
import time
from typing import Generic, TypeVar

from pysftpserver.web.wire import HTML, Refusal, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.web.wire import Request

T = TypeVar("T")
TOKEN_BYTES = 24
SECONDS = 60.0  # that a link works
MOST = 10_000  # links that wait, in all
MOST_EACH = 16  # of one name; another one replaces the oldest
MOST_FORM = 4096  # bytes
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<link rel="stylesheet" href="{place}/static/style.css"></head>
<body class="narrow"><main><h1>{title}</h1>{body}</main></body></html>
"""
BUTTON = """<form method="post" action="{action}"><p>This link works once, for one minute.</p>
<p><button autofocus>Log in as {name}</button></p></form>"""
GONE = "<p>This link has been used, or it is older than a minute. Ask for another one.</p>"


class Links(Generic[T]):
    """Links that wait to be used; of their tokens, hashes are kept. seconds: how long a link works."""

    def __init__(self, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._waiting: dict[bytes, tuple[str, T, float]] = {}  # the oldest first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, name: str, who: T) -> str:
        """A token for somebody. name: whose links are counted together."""
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
        """Whom a token is for; None: it has been used or is too old. It can still be used."""
        found = self._waiting.get(_key(token))
        return found[1] if found is not None and self._clock() < found[2] else None

    def use(self, token: str) -> T | None:
        """The same; of all calls with one token, one at most gets an answer."""
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
    """The page of each link. path: below the door, such as /link. name_of: whom the button names.

    begin: begins the session of somebody, and replies with where to go; it raises Refusal for somebody who
    may not log in any more.
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
        if request.method in ("GET", "HEAD"):
            who = self._links.look(token)
            if who is None:
                return self._page(request, "This link does not work any more", GONE, 410)
            action = html.escape(f"{request.place.decode('utf-8', 'replace')}{self._path}/{token}")
            body = BUTTON.format(action=action, name=html.escape(self._name_of(who)))
            return self._page(request, "Log in", body)
        if request.method != "POST":
            raise Refusal(405, "Use GET or POST.", [("Allow", "GET, HEAD, POST")])
        request.body(MOST_FORM)  # there is nothing in it: the token says all
        who = self._links.use(token)
        if who is None:
            return self._page(request, "This link does not work any more", GONE, 410)
        return self._begin(request, who)

    def _page(self, request: Request, title: str, body: str, status: int = 200) -> Reply:
        place = html.escape(request.place.decode("utf-8", "replace"))
        return Reply(PAGE.format(place=place, title=title, body=body).encode(), status, kind=HTML)
