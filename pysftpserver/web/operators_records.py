"""Pages for operators about users, and about what happened to a file.

They show values that clients have chosen in part: every text is escaped. What may not enter: changing
anything.
"""

from __future__ import annotations

import urllib.parse

from pysftpserver.people.keys import entry_line, fingerprint, key_type
from pysftpserver.service.transfers import amount
from pysftpserver.web.html import Markup, count_text, element, field, joined
from pysftpserver.web.operators_frame import button, form, page, problems, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.people.keys import Entry
    from pysftpserver.people.records import Record
    from pysftpserver.web.managing import Found, Space
    from pysftpserver.web.session import Session
    from pysftpserver.web.wire import Reply, Request


def users(
    request: Request,
    path: str,
    session: Session,
    told: Sequence[Markup],
    asked: str,
    found: Found,
    problem: str,
) -> Reply:
    """The page of users: a list, a search, and a form for a new one."""
    root = request.place.decode("utf-8", "replace") + path
    search = _search(f"{root}/users", "q", "Name, folder or storage", asked)
    rows: list[tuple[object, ...]] = []
    for record in found.records:
        user = record.user
        name = record.name or record.id
        link = element("a", name, href=f"{root}/user?{urllib.parse.urlencode({'name': record.name})}")
        if user is None:
            rows.append((link, "unusable", "", "", "; ".join(record.problems)))
            continue
        active = "active" if user.is_active else element("strong", "not active", class_="refused")
        where = user.storage or user.folder
        rows.append(
            (link, active, len(user.keys) + len(user.authorities), where, _bar(found.space.get(record.name)))
        )
    count = count_text(found.total, "user", "users") + (
        f", the first {len(found.records)} are shown" if len(rows) < found.total else ""
    )
    new = form(
        session,
        f"{root}/add",
        element("h2", "Add a user"),
        field("name", "Name", required=True),
        field("folder", "Folder (empty: the server's choice)"),
        _keys_field(),
        button("Add"),
    )
    heads = ("User", "State", "Keys", "Folder or storage", "Quota")
    return page(
        request,
        "Users",
        *told,
        problems(problem),
        search,
        table(count, heads, rows, "No user was found."),
        new,
        session=session,
    )


def _keys_field() -> Markup:
    box = element("textarea", id="keys", name="keys", rows=3, cols=60, spellcheck="false")
    return element("p", element("label", "Public keys, one on each line", for_="keys"), box)


def _bar(space: Space | None) -> Markup | str:
    """How full a user's storage is."""
    if space is None:
        return ""
    used, free = space
    words = f"{amount(used)} of {amount(used + free)}"
    return joined(
        (
            element("meter", min=0, max=1, value=f"{used / max(1, used + free):.4f}", aria_label=words),
            " ",
            words,
        )
    )


def user(
    request: Request,
    path: str,
    session: Session,
    told: Sequence[Markup],
    record: Record,
    space: Space | None,
) -> Reply:
    """The page of one user."""
    root = request.place.decode("utf-8", "replace") + path
    action, found = f"{root}/change", record.user
    content: list[object] = [*told, problems(*record.problems)]
    if found is not None:
        count = len(found.keys) + len(found.authorities)
        ways = [count_text(count, "key", "keys")]
        ways += ["a password"] * bool(found.password) + ["one-time codes"] * bool(found.totp)
        values = (
            ("Active", "yes" if found.is_active else "no"),
            ("Folder", found.folder),
            ("Storage", found.storage or ""),
            ("Account", found.run_as or ""),
            ("Site file", found.site or ""),
            ("Logs in with", ", ".join(ways)),
            ("From", found.networks or "everywhere"),
            ("Quota", _bar(space)),
        )
        content.append(
            element(
                "dl",
                *(
                    element("div", element("dt", name), element("dd", value))
                    for name, value in values
                    if value
                ),
                class_="figures",
            )
        )
        what = "deactivate" if found.is_active else "activate"
        words = "Deactivate: refuse logins and end sessions" if found.is_active else "Activate"
        content.append(form(session, action, button(words), name=record.name, what=what))
        rows = [_key_row(session, action, record.name, (blob, None)) for blob in sorted(found.keys)]
        rows += [_key_row(session, action, record.name, entry) for entry in sorted(found.authorities)]
        content.append(table("Keys", ("Type", "Fingerprint", "Action"), rows, "The user has no keys."))
        add = element("h2", "Add keys"), _keys_field(), button("Add")
        content.append(form(session, action, *add, name=record.name, what="add_keys"))
    return page(request, record.name or record.id, *content, session=session)


def _key_row(session: Session, action: str, name: str, entry: Entry) -> tuple[object, ...]:
    """A key, or a CA whose certificates let the user in."""
    blob, principals = entry
    kind = key_type(blob) if principals is None else f"CA, {key_type(blob)} {','.join(principals)}"
    remove = button("Remove", aria_label=f"Remove {kind} {fingerprint(blob)}")
    fields = {"name": name, "what": "remove_key", "key": entry_line(entry)}
    return kind, element("code", fingerprint(blob)), form(session, action, remove, **fields)


def audit(
    request: Request,
    path: str,
    session: Session,
    asked: str,
    lines: Sequence[str],
    is_all: bool,
    problem: str,
) -> Reply:
    """The page to search for what happened to a file."""
    root = request.place.decode("utf-8", "replace") + path
    search = _search(f"{root}/audit", "path", "Path of a file, as its users see it", asked)
    found: object = ""
    if asked and not problem:
        items = [element("li", element("bdi", line)) for line in lines]
        found = element("ol", *items) if items else element("p", "The audit log has nothing about it.")
    more = "" if is_all else element("p", "There is more; pysftp-audit who says all.")
    return page(
        request,
        "Audit log",
        problems(problem),
        search,
        found,
        more,
        session=session,
    )


def _search(action: str, name: str, words: str, asked: str) -> Markup:
    """A form to search with."""
    return element(
        "form",
        field(name, words, value=asked, type="search"),
        button("Search"),
        method="get",
        action=action,
        role="search",
    )
