"""The page of a user's shared links: to make links, see how often each was used, and revoke them.

What may not enter: concrete storages, the pages for visitors with a link (visiting.py).
"""

from __future__ import annotations

import contextlib
import posixpath

from pysftpserver.http.files import FileProblem, as_problems
from pysftpserver.people import passwords
from pysftpserver.web.application import CSRF, check_csrf
from pysftpserver.web.files import Tree
from pysftpserver.web.html import (
    count_text,
    element,
    hidden,
    joined,
    message,
    name_value,
    page,
    refusal_page,
    shown,
    time_element,
    token,
)
from pysftpserver.web.pages import path_in
from pysftpserver.web.shares import DROP, READ, TooManyShares
from pysftpserver.web.wire import Refusal, Reply, quoted, redirect, unquoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pysftpserver.people.users import User
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.files import Entry
    from pysftpserver.web.html import Markup
    from pysftpserver.web.session import Session
    from pysftpserver.web.shares import Share, Shares
    from pysftpserver.web.wire import Reply, Request

DAY = 86400
CHOICES = {1: "one day", 7: "one week", 30: "one month", 90: "three months", 365: "one year"}
USUAL = 7  # days
MOST_USES = 1_000_000


class Sharing:
    """The part of the door for users who share. may_share: whether a user is found when a link is used."""

    needs_login = True
    is_for_programs = False

    def __init__(self, values: WebSettings, shares: Shares, may_share: Callable[[User], bool]) -> None:
        self.values = values
        self.shares = shares
        self._may_share = may_share

    def answer(self, request: Request, rest: bytes) -> Reply:
        """Show the links, make one, or revoke one."""
        assert request.session is not None
        try:
            return self._answer(request, request.session, rest)
        except (Refusal, FileProblem) as error:
            return refusal_page(request, error)

    def _answer(self, request: Request, session: Session, rest: bytes) -> Reply:
        is_post = request.method == "POST"
        if rest not in (b"", b"/", b"/new", b"/revoke"):
            raise Refusal(404, "There is no such page.")
        request.allow(*{b"/new": ("GET", "HEAD", "POST"), b"/revoke": ("POST",)}.get(rest, ("GET", "HEAD")))
        fields = request.form() if is_post else request.query()
        if is_post:
            check_csrf(session, fields.get(CSRF, ""))
        if rest == b"/revoke":
            return self._revoke(request, session, fields)
        if rest != b"/new":
            return self._list(request, session)
        if not self.values.share_days:
            raise Refusal(403, "Sharing by links is switched off on this server.")
        if not self._may_share(session.user):
            raise Refusal(403, "Only users whose records are kept on this server can share by links.")
        path, entry = self._shared(session, fields.get("path", ""))
        if is_post and "days" in fields:
            return self._make(request, session, path, entry, fields)
        return self._form(request, session, path, entry)

    def _shared(self, session: Session, text: str) -> tuple[bytes, Entry]:
        """The path and entry to be shared. text: the path, as in forms. Raises Refusal, FileProblem."""
        path = path_in(unquoted(text))
        with contextlib.ExitStack() as opened:
            tree = Tree(opened.enter_context(session.storage()))
            with as_problems():
                path = tree.storage.realpath(path)
            found = tree.find(path)
        if found is None or not (found.is_file or found.is_directory):
            raise FileProblem("there is no such file or folder", "NO_SUCH_FILE")
        return path, found

    # --- to make one ------------------------------------------------------------------------------------

    def _form(self, request: Request, session: Session, path: bytes, entry: Entry, *said: Markup) -> Reply:
        kinds: list[Markup] = []
        if entry.is_directory and not self.values.read_only:
            choices = (
                (READ, "People can see and download what is in it"),
                (DROP, "People can send files into it, and see nothing"),
            )
            radios = (
                element(
                    "label",
                    element("input", type="radio", name="kind", id=kind, value=kind, checked=kind == READ),
                    words,
                )
                for kind, words in choices
            )
            kinds.append(element("fieldset", element("legend", "What the link is for"), *radios))
        days = [days for days in CHOICES if days <= self.values.share_days] or [self.values.share_days]
        chosen = max(day for day in days if day <= max(USUAL, days[0]))
        options = (
            element("option", CHOICES.get(day, f"{day} days"), value=day, selected=day == chosen)
            for day in days
        )
        form = element(
            "form",
            token(session),
            hidden("path", name_value(path)),
            *kinds,
            element("p", element("label", "The link works for", for_="days")),
            element("p", element("select", *options, id="days", name="days")),
            element("p", element("label", "Password, if one is to be asked for", for_="password")),
            element(
                "p",
                element(
                    "input", type="password", id="password", name="password", autocomplete="new-password"
                ),
            ),
            element(
                "p", element("label", "Maximum number of downloads or uploads, if there is one", for_="most")
            ),
            element("p", element("input", id="most", name="most", inputmode="numeric", pattern="[0-9]*")),
            element("p", element("button", "Make the link", class_="primary")),
            method="post",
            action=quoted(request.place) + "/shares/new",
        )
        what = "folder" if entry.is_directory else "file"
        title = element("h1", f"Share the {what} ", _name_of(path))
        return page(request, f"Share a {what}", title, *said, form, kind="narrow share")

    def _make(
        self, request: Request, session: Session, path: bytes, entry: Entry, fields: Mapping[str, str]
    ) -> Reply:
        kind = DROP if fields.get("kind") == DROP else READ
        problem, days, most, hash = self._wanted(session, fields)
        if kind == DROP and (not entry.is_directory or self.values.read_only):
            problem = "Files can be sent into a folder only, where files may be stored."
        if problem:
            reply = self._form(request, session, path, entry, message(problem, is_problem=True))
            reply.status = 400
            return reply
        try:
            share, secret = self.shares.add(session.user, path, kind, days * DAY, hash, most)
        except TooManyShares:
            raise Refusal(409, "You have too many shared links; revoke some first.") from None
        session.note("share", path, share=share.id, kind=kind, expires=share.expires)
        address = self._root(request) + f"/s/{secret}/"
        link = element("a", "Open the link", href=address)
        field = element("input", id="link", value=address, readonly=True, size=60)
        return page(
            request,
            "The link is ready",
            element("h1", "The link is ready"),
            message("Copy it now: only you see it, and it is not shown again."),
            element("p", element("label", "Link", for_="link"), field),
            element("p", link),
            _facts(share),
            element("p", element("a", "All shared links", href=quoted(request.place) + "/shares")),
            kind="narrow share",
        )

    def _wanted(self, session: Session, fields: Mapping[str, str]) -> tuple[str, int, int | None, str | None]:
        """What is wrong with a form, or ""; its days, its maximum, and the hash of its password."""
        days, most = _number(fields.get("days", "")), _number(fields.get("most", "").strip())
        if not days or days > self.values.share_days:
            return f"Choose at most {self.values.share_days} days.", 0, None, None
        if fields.get("most", "").strip() and (not most or most > MOST_USES):
            return f"Give a maximum from 1 to {MOST_USES:,}, or none.", 0, None, None
        if not fields.get("password"):
            return "", days, most, None
        try:
            password = passwords.prepared(fields["password"])
        except ValueError as error:
            return f"This cannot be the password: {error}.", 0, None, None
        why = passwords.weakness(password, session.name)
        if why is not None:
            return f"This password is too easy to guess: {why}.", 0, None, None
        return "", days, most, passwords.hashed(password)

    def _root(self, request: Request) -> str:
        """The URL at which people reach the door."""
        if self.values.url:
            return self.values.url.rstrip("/")
        scheme = "https" if request.is_secure else "http"
        return f"{scheme}://{request.header('Host')}{quoted(request.place)}"

    # --- those that are there ---------------------------------------------------------------------------

    def _list(self, request: Request, session: Session, *said: Markup) -> Reply:
        shares = self.shares.of(session.user)
        heads = ("What", "For", "Used", "Until", "Revoke")
        table = element(
            "table",
            element("caption", "Your shared links", class_="unseen"),
            element("thead", element("tr", *(element("th", words, scope="col") for words in heads))),
            element("tbody", *(self._row(request, session, share) for share in shares)),
        )
        none = element("p", "You have shared nothing. Open a folder and choose “Share”.", class_="none")
        return page(
            request,
            "Shared links",
            element("h1", "Shared links"),
            *said,
            table if shares else none,
            kind="share",
        )

    def _row(self, request: Request, session: Session, share: Share) -> Markup:
        name = _name_of(share.path)
        place = quoted(request.place + b"/files" + (posixpath.dirname(share.path).rstrip(b"/")) + b"/")
        used = share.uploads if share.kind == DROP else share.downloads
        count = f"{used:,} of {share.most:,} times" if share.most else count_text(used, "time", "times")
        form = element(
            "form",
            token(session),
            hidden("id", share.id),
            element("button", "Revoke", aria_label=f"Revoke link {share.id}"),
            method="post",
            action=quoted(request.place) + "/shares/revoke",
        )
        return element(
            "tr",
            element("th", element("a", name, href=place), scope="row", class_="name"),
            element("td", _purpose(share)),
            element("td", count),
            element("td", "until ", time_element(share.expires)),
            element("td", form),
        )

    def _revoke(self, request: Request, session: Session, fields: Mapping[str, str]) -> Reply:
        share = self.shares.revoke(session.user, fields.get("id", ""))
        if share is not None:
            session.note("unshare", share.path, share=share.id)
        return redirect(request, b"/shares")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _name_of(path: bytes) -> Markup:
    return shown(posixpath.basename(path)) if path != b"/" else joined(["all your files"])


def _purpose(share: Share) -> str:
    what = "sending files" if share.kind == DROP else "downloads"
    return what + (", with a password" if share.password is not None else "")


def _facts(share: Share) -> Markup:
    words: Iterable[object] = ("For ", _purpose(share), ", until ", time_element(share.expires), ". ")
    return element("p", *words, f"Its number in the logs is {share.id}.", class_="facts")
