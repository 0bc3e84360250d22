"""HTML of pages: elements with escaped text, the frame around every page, readable names and sizes.

What may not enter: storages, the content of single pages. Facts: HTML Living Standard; Unicode Standard Annex
9.
"""

from __future__ import annotations

import html
import time
import weakref

from pysftpserver.http.files import FileProblem
from pysftpserver.web import static
from pysftpserver.web.application import CSRF, as_text, refusal_of
from pysftpserver.web.wire import HTML, Reply, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pysftpserver.web.session import Session
    from pysftpserver.web.wire import Refusal, Request

VOID = {"br", "hr", "img", "input", "link", "meta"}
#: Spaces and joiners that are in names on purpose; every other unprintable character is shown as an escape.
USUAL = {"\u00a0", "\u202f", "\u200c", "\u200d", "\u3000"}
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
MOST_MESSAGES = 20  # of a session


class Markup(str):
    """Text that is HTML already."""


def escaped(value: object) -> Markup:
    """A text as HTML. Markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def joined(values: Iterable[object]) -> Markup:
    """Several values as one piece of HTML."""
    return Markup("".join(map(escaped, values)))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """An element. content: escaped unless it is Markup. attributes: True has no value; None and False are
    left out; an underscore becomes a hyphen, and a trailing one is dropped.
    """
    given = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    inside = "" if tag in VOID else f"{joined(content)}</{tag}>"
    return Markup(f"<{tag}{given}>{inside}")


# --- what people read ---------------------------------------------------------------------------------


def plain(name: bytes) -> str:
    """A name to be shown. Characters that do not print or change the direction of text, and bytes that are
    not UTF-8, become escapes.
    """
    text = name.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in USUAL else ascii(letter)[1:-1] for letter in text
    )


def shown(name: bytes) -> Markup:
    """The same as HTML; the text around it keeps its direction, whatever the name's is."""
    return element("bdi", plain(name))


def size_text(size: int) -> str:
    """A size, such as 1.5 MB."""
    if size < 1000:
        return "1 byte" if size == 1 else f"{size} bytes"
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.1f} {UNITS[unit]}" if value < 9.95 else f"{value:.0f} {UNITS[unit]}"


def count_text(count: int, one: str, many: str) -> str:
    """A count with its noun, such as "1 file" and "2 files"."""
    return f"{count:,} {one if count == 1 else many}"


def time_element(seconds: int | None) -> Markup:
    """A Unix time, in UTC; the script shows it in the browser's time zone."""
    if seconds is None:
        return Markup("")
    try:
        at = time.gmtime(seconds)
    except (OverflowError, OSError, ValueError):
        return Markup("")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", at)
    return element("time", time.strftime("%Y-%m-%d %H:%M", at), datetime=stamp)


# --- forms and messages -------------------------------------------------------------------------------


def hidden(name: str, value: str) -> Markup:
    """A hidden field of a form."""
    return element("input", type="hidden", name=name, value=value)


def token(session: Session) -> Markup:
    """The hidden field without which a form is refused."""
    return hidden(CSRF, session.csrf)


def name_value(name: bytes) -> str:
    """A name, or a path, as the value of a field: bytes that are not UTF-8 come back as they were."""
    return quoted(name)


class Messages:
    """Messages to sessions, shown on their next page."""

    def __init__(self) -> None:
        self._kept: weakref.WeakKeyDictionary[Session, list[Markup]] = weakref.WeakKeyDictionary()

    def add(self, session: Session, *content: object, is_problem: bool = False) -> None:
        """Tell a session something."""
        messages = self._kept.setdefault(session, [])
        messages.append(message(*content, is_problem=is_problem))
        del messages[:-MOST_MESSAGES]

    def take(self, session: Session) -> list[Markup]:
        """Take a session's messages that have not been shown yet."""
        return self._kept.pop(session, [])


def message(*content: object, is_problem: bool = False) -> Markup:
    """A message to a person."""
    if is_problem:
        return element("div", *content, class_="message problem", role="alert")
    return element("div", *content, class_="message", role="status")


# --- pages --------------------------------------------------------------------------------------------


def icon(name: str) -> Markup:
    """A picture that goes with a text. name: of a symbol in icons.svg."""
    return Markup(f'<svg class="icon" aria-hidden="true"><use href="#i-{name}"/></svg>')


def field(name: str, label: str, **attributes: object) -> Markup:
    """A line of a form: a field and what it is for."""
    box = element("input", id=name, name=name, **attributes)
    return element("p", element("label", label, for_=name), " ", box)


def document(
    request: Request, title: str, style: str, script: str | None, body: Markup, status: int = 200
) -> Reply:
    """A whole page. style, script: names in static/."""
    root = quoted(request.place)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("title", title),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href=root + static.address("icon.svg"), type="image/svg+xml"),
        element("link", rel="stylesheet", href=root + static.address(style)),
        element("script", src=root + static.address(script), defer=True) if script else "",
    )
    text = f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
    return Reply(text.encode("utf-8", "replace"), status, kind=HTML)


def page(
    request: Request, title: str, *content: object, status: int = 200, place: object = "", kind: str = ""
) -> Reply:
    """A page. content: of its main part. place: where the person is, shown next to the name of the door.
    kind: of page, for the style sheet.
    """
    root = quoted(request.place)
    session = request.session
    body = element(
        "body",
        Markup(static.text("icons.svg")),
        element("a", "Skip to content", href="#main", class_="skip"),
        element(
            "header",
            element("a", icon("home"), "Files", href=root + "/files/", class_="home"),
            place,
            _account(root, session) if session is not None else "",
            class_="top",
        ),
        element("main", *content, id="main", tabindex="-1"),
        class_=kind or None,
        data_root=root,
        data_csrf=session.csrf if session is not None else None,
    )
    return document(request, title, "style.css", "pages.js", body, status)


def _account(root: str, session: Session) -> Markup:
    return element(
        "form",
        token(session),
        element("a", "Shared links", href=root + "/shares"),
        element("span", session.name, class_="who"),
        element("button", "Log out", class_="quiet"),
        method="post",
        action=root + "/logout",
        class_="account",
    )


def error_page(request: Request, status: int, words: str, *more: object) -> Reply:
    """A page that says what is wrong. more: what to do about it."""
    title = TITLES.get(status, "That did not work")
    said = words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")
    back = element("p", element("a", "Go to your files", href=quoted(request.place) + "/files/"))
    inside = element("h1", title), element("p", said, role="alert"), *more, back
    return page(request, title, *inside, status=status, kind="narrow")


def show_refusal(request: Request, refusal: Refusal) -> Reply:
    """The reply to a request that is refused: a page for a browser, words for a program."""
    if "text/html" not in request.header("Accept"):
        return as_text(request, refusal)
    return refusal_page(request, refusal)


def refusal_page(request: Request, error: Refusal | FileProblem) -> Reply:
    """The page of a request that is refused, by the door or by the storage."""
    refusal = refusal_of(error) if isinstance(error, FileProblem) else error
    reply = error_page(request, refusal.status, refusal.words)
    reply.headers += refusal.headers
    return reply


TITLES = {
    401: "Log in first",
    403: "You may not do that",
    404: "There is nothing here",
    405: "That is not possible here",
    409: "Something is in the way",
    413: "That is too much",
    429: "Too many requests",
    500: "Something went wrong",
    503: "The server is busy",
    507: "There is no room left",
}
