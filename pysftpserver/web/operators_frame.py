"""Shared by all pages for operators: tabs, tables, forms; and the login page.

What may not enter: what pysftpd does, users.
"""

from __future__ import annotations

from pysftpserver.web.html import Markup, document, element, field, hidden, joined, message, token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.web.session import Session
    from pysftpserver.web.wire import Reply, Request

MOST_ROWS = 200  # shown of a table
TABS = (("/", "Now"), ("/users", "Users"), ("/audit", "Audit log"))


def page(
    request: Request, title: str, *content: object, session: Session | None = None, live: bool = False
) -> Reply:
    root = request.place.decode("utf-8", "replace") + "/operators"
    tabs = [
        element(
            "a",
            words,
            href=root + path,
            aria_current="page" if request.path.decode("latin-1") == "/operators" + path else None,
        )
        for path, words in TABS
    ]
    top: object = element("strong", "pysftpd: operators")
    if session is not None:
        out = form(session, f"{root}/logout", element("span", session.name), button("Log out"))
        top = joined((element("nav", *tabs, aria_label="Pages"), out))
    body = element(
        "body",
        element("header", top),
        element("main", element("h1", title), *content),
        data_stream=f"{root}/stream" if live else None,
    )
    script = "operators.js" if live else None
    return document(request, f"{title} – operators", "operators.css", script, body)


def form(session: Session, action: str, *content: object, **fields: object) -> Markup:
    """A form that changes something. fields: hidden ones."""
    inputs = [hidden(name, str(value)) for name, value in fields.items()]
    return element("form", token(session), *inputs, *content, method="post", action=action)


def button(words: str, **attributes: object) -> Markup:
    return element("button", words, **attributes)


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> Markup:
    """A table as wide as it has to be, which scrolls by itself."""
    title = element("h2", caption)
    if not rows:
        return joined((title, element("p", none, class_="none")))
    head = element("tr", *(element("th", text, scope="col") for text in heads))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows[:MOST_ROWS]]
    more = f"{len(rows) - MOST_ROWS} more are not shown." if len(rows) > MOST_ROWS else ""
    table = element("table", element("thead", head), element("tbody", *body))
    scrolling = element("div", table, class_="scrolls", tabindex="0", role="region", aria_label=caption)
    return joined((title, scrolling, element("p", more) if more else ""))


def problems(*texts: str) -> Markup:
    return joined(message(text, is_problem=True) for text in texts if text)


def login(request: Request, path: str, has_passwords: bool, words: str) -> Reply:
    """The login page."""
    how = element(
        "p", "Run ", element("code", "pysftpctl web"), " on the server, and open the link that it prints."
    )
    if not has_passwords:
        return page(request, "Log in", how)
    form = element(
        "form",
        field("name", "Name", autocomplete="username", required=True),
        field("password", "Password", type="password", autocomplete="current-password", required=True),
        field("code", "One-time code", inputmode="numeric", autocomplete="one-time-code"),
        element("p", button("Log in")),
        method="post",
        action=f"{request.place.decode('utf-8', 'replace')}{path}/login",
    )
    return page(request, "Log in", problems(words), form, how)
