"""What operators see: the pages, and the sections of the first one that follow what happens.

All of it is made of values that clients chose in part: every text is escaped. What may not enter: asking
pysftpd, changing anything.
"""

from __future__ import annotations

import json
import time
import urllib.parse

from pysftpserver.failures import Unavailable, one_line
from pysftpserver.people.keys import entry_line, fingerprint, key_type
from pysftpserver.service.transfers import amount, duration
from pysftpserver.web.html import Markup, count_text, document, element, field, hidden, joined, message, token
from pysftpserver.web.plots import plot
from pysftpserver.web.wire import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.people.keys import Entry
    from pysftpserver.people.records import Record
    from pysftpserver.web.history import Ring, State
    from pysftpserver.web.managing import Found, Space
    from pysftpserver.web.session import Session
    from pysftpserver.web.trail import Trail
    from pysftpserver.web.wire import Request

PARTS = 240  # of an hour, in a plot
MINUTES = 60
MOST_ROWS = 200  # of sessions and transfers that are shown
MOST_NOTES = 30
STAMP = "%Y-%m-%d %H:%M:%S"
JSON = "application/json"
TABS = (("/", "Now"), ("/users", "Users"), ("/audit", "Audit log"))
READS = "but for READ and WRITE"
NO_LATENCY = "(pysftpd counts requests with the setting metrics or web only)"


# --- the frame --------------------------------------------------------------------------------------------


def _page(
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
        out = _form(session, f"{root}/logout", element("span", session.name), _button("Log out"))
        top = joined((element("nav", *tabs, aria_label="Pages"), out))
    body = element(
        "body",
        element("header", top),
        element("main", element("h1", title), *content),
        data_stream=f"{root}/stream" if live else None,
    )
    script = "operators.js" if live else None
    return document(request, f"{title} – operators", "operators.css", script, body)


def _form(session: Session, action: str, *content: object, **fields: object) -> Markup:
    """A form that changes something. fields: those that are not shown."""
    inputs = [hidden(name, str(value)) for name, value in fields.items()]
    return element("form", token(session), *inputs, *content, method="post", action=action)


def _button(words: str, **attributes: object) -> Markup:
    return element("button", words, **attributes)


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> Markup:
    """A table that is wide as it has to be and scrolls by itself."""
    title = element("h2", caption)
    if not rows:
        return joined((title, element("p", none, class_="none")))
    head = element("tr", *(element("th", text, scope="col") for text in heads))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows[:MOST_ROWS]]
    more = f"{len(rows) - MOST_ROWS} more are not shown." if len(rows) > MOST_ROWS else ""
    table = element("table", element("thead", head), element("tbody", *body))
    scrolling = element("div", table, class_="scrolls", tabindex="0", role="region", aria_label=caption)
    return joined((title, scrolling, element("p", more) if more else ""))


def _problems(*texts: str) -> Markup:
    return joined(message(text, is_problem=True) for text in texts if text)


def login(request: Request, path: str, has_passwords: bool, words: str) -> Reply:
    """The page to log in."""
    how = element(
        "p", "Run ", element("code", "pysftpctl web"), " on the server, and open the link that it prints."
    )
    if not has_passwords:
        return _page(request, "Log in", how)
    form = element(
        "form",
        field("name", "Name", autocomplete="username", required=True),
        field("password", "Password", type="password", autocomplete="current-password", required=True),
        field("code", "One-time code", inputmode="numeric", autocomplete="one-time-code"),
        element("p", _button("Log in")),
        method="post",
        action=f"{request.place.decode('utf-8', 'replace')}{path}/login",
    )
    return _page(request, "Log in", _problems(words), form, how)


# --- now --------------------------------------------------------------------------------------------------


def now(
    request: Request, path: str, session: Session, told: Sequence[Markup], sections: dict[str, str]
) -> Reply:
    """The first page."""
    reload = element("p", element("a", "Reload", href=""), " to see what has changed.", id="live")
    shown = (element("section", Markup(text), id=name) for name, text in sections.items())
    return _page(request, "Now", *told, reload, *shown, session=session, live=True)


def sections(state: State, ring: Ring, session: Session, trail: Trail, root: str) -> dict[str, str]:
    """The parts of the first page, by their names. root: of the operators' pages."""
    return {
        "summary": _summary(state),
        "plots": _plots(state, ring),
        "transfers": _transfers(state),
        "sessions": _sessions(state, session, root),
        "bans": _bans(state, session, root),
        "notes": _notes(state),
        "events": _events(state, trail),
    }


def _summary(state: State) -> Markup:
    if state.trouble:
        seen = time.strftime("%H:%M:%S UTC", time.gmtime(state.at))
        return element("p", f"pysftpd does not answer ({seen}): {one_line(state.trouble)}", class_="problem")
    figures = state.figures
    served = figures.get("served", {})
    values = [
        ("Sessions", figures["sessions"]),
        ("Connections", figures["connections"]),
        (
            "SFTP sessions",
            " + ".join(f"{number} in a {kind}" for kind, number in served.items() if number) or 0,
        ),
        ("Open files and directories", figures["handles"]),
        ("Kept in memory", amount(figures["kept"])),
        ("Banned networks", figures["banned"]),
        ("Processes", figures["processes"]),
        ("Received", amount(figures["moved"]["received"])),
        ("Sent", amount(figures["moved"]["sent"])),
        ("Logins", f"{figures['logins']['accepted']} accepted, {figures['logins']['refused']} refused"),
        ("Version", state.about.get("version", "")),
    ]
    shown = [
        element("div", element("dt", name), element("dd", value)) for name, value in values if value != ""
    ]
    notes = (message(text) for text in state.health.get("notes", ()))
    return joined(
        (_problems(*state.health.get("faults", ())), *notes, element("dl", *shown, class_="figures"))
    )


def _plots(state: State, ring: Ring) -> Markup:
    at = state.at

    def line(
        name: str, kind: str, over: str | None = None, parts: int = PARTS
    ) -> tuple[str, list[float | None]]:
        return name, ring.points(kind, at, parts, over)

    def rate(value: float) -> str:
        return f"{amount(value)}/s"

    def number(value: float) -> str:
        return f"{value:.0f}"

    def milliseconds(value: float) -> str:
        return f"{value * 1000:.1f} ms"

    logins = [line(outcome, outcome, parts=MINUTES) for outcome in ("accepted", "refused")]
    note = READS if state.about.get("counts_requests", True) else NO_LATENCY
    return joined(
        (
            plot("Rate", [line("received", "received", "seconds"), line("sent", "sent", "seconds")], rate),
            plot("Sessions", [line("sessions", "sessions"), line("connections", "connections")], number),
            plot("Logins per minute", logins, number),
            plot(
                "Request latency",
                [line("mean", "busy", "requests")],
                milliseconds,
                note,
            ),
        )
    )


def _transfers(state: State) -> Markup:
    rows = []
    for row in state.rows:
        if row.what.startswith("("):
            continue
        bar: object = ""
        if row.part is not None:
            bar = element(
                "progress", max=1, value=f"{row.part:.4f}", aria_label=f"{row.what}: {row.progress(False)}"
            )
        rows.append((row.user, row.address, element("bdi", row.what), bar, row.progress(True), row.speed()))
    heads = ("User", "Address", "File", "Progress", "Done", "Rate")
    return _table("Transfers", heads, rows, "Nothing moves.")


def _sessions(state: State, session: Session, root: str) -> Markup:
    rates: dict[str, float] = {}
    for row in state.rows:
        rates[row.number] = rates.get(row.number, 0.0) + (row.rate or 0.0)
    rows = []
    for one in state.sessions:
        files = len(one["files"]) + one["more_files"]
        number = one["number"]
        end = _button(
            "End", id=f"end-{number}", aria_label=f"End session {number} of {one_line(one['user'])}"
        )
        rows.append(
            (
                number,
                one_line(one["user"]),
                one_line(one["address"]),
                time.strftime(STAMP, time.gmtime(one["since"])),
                duration(one["idle"]) if one["idle"] >= 1 else "",
                amount(one["received"]),
                amount(one["sent"]),
                f"{amount(rates.get(str(number), 0.0))}/s",
                files,
                _form(session, f"{root}/end", end, number=number),
            )
        )
    heads = (
        "Number",
        "User",
        "Address",
        "Since (UTC)",
        "Idle",
        "Received",
        "Sent",
        "Rate",
        "Files",
        "Action",
    )
    return _table("Connected", heads, rows, "There are no sessions.")


def _bans(state: State, session: Session, root: str) -> Markup:
    rows = []
    for ban in state.bans:
        address = one_line(ban["address"])
        door, verb = ban["door"], "Lift" if ban["seconds"] else "Forget"
        lift = _button(verb, id=f"lift-{door}-{address}", aria_label=f"{verb} {address} at {door}")
        left = duration(ban["seconds"]) if ban["seconds"] else "not banned"
        form = _form(session, f"{root}/lift", lift, address=address)
        rows.append((door, address, left, f"{ban['points']:g}", ban["cause"], ban["bans"], form))
    heads = ("Door", "Network", "Banned for", "Points", "Why", "Bans", "Action")
    return _table("Bans", heads, rows, "No network is banned or has points.")


def _notes(state: State) -> Markup:
    rows = [
        (time.strftime(STAMP, time.gmtime(note["time"])), element("bdi", one_line(note["text"])))
        for note in state.notes[:MOST_NOTES]
    ]
    none = "No connection was refused, and none ended by a limit."
    return _table("Refused logins and connections", ("Time (UTC)", "What"), rows, none)


def _events(state: State, trail: Trail) -> Markup:
    audit = state.about.get("audit")
    if audit is None:
        return _table("Last events", (), (), "pysftpd has no audit log (setting audit), or does not answer.")
    try:
        found = trail.last(audit)
    except Unavailable as error:
        return _table("Last events", (), (), error.message)
    rows = [
        (
            one.time,
            one.user,
            one.peer,
            one.request,
            element("bdi", one.words),
            element("strong", one.result, class_="refused") if one.is_refusal else one.result,
            one.why,
        )
        for one in found
    ]
    heads = ("Time (UTC)", "User", "Address", "Request", "Path", "Result", "Why")
    return _table("Last events", heads, rows, "Nothing was recorded yet.")


def figures(state: State, ring: Ring) -> Reply:
    """The same as values, for programs."""
    told: dict[str, Any] = {
        "at": state.at,
        "trouble": state.trouble,
        "figures": state.figures,
        "sessions": state.sessions,
        "bans": state.bans,
        "health": state.health,
        "last": ring.last(),
    }
    return Reply(json.dumps(told).encode(), kind=JSON)


# --- users ------------------------------------------------------------------------------------------------


def users(
    request: Request,
    path: str,
    session: Session,
    told: Sequence[Markup],
    asked: str,
    found: Found,
    problem: str,
) -> Reply:
    """Users, a search, and a form for a new one."""
    root = request.place.decode("utf-8", "replace") + path
    search = element(
        "form",
        field("q", "Name, folder or storage", value=asked, type="search"),
        _button("Search"),
        method="get",
        action=f"{root}/users",
        role="search",
    )
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
    new = _form(
        session,
        f"{root}/add",
        element("h2", "Add a user"),
        field("name", "Name", required=True),
        field("folder", "Folder (empty: the server's choice)"),
        _keys_field(),
        _button("Add"),
    )
    heads = ("User", "State", "Keys", "Folder or storage", "Quota")
    return _page(
        request,
        "Users",
        *told,
        _problems(problem),
        search,
        _table(count, heads, rows, "No user was found."),
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
    """One user."""
    root = request.place.decode("utf-8", "replace") + path
    action, found = f"{root}/change", record.user
    content: list[object] = [*told, _problems(*record.problems)]
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
        content.append(_form(session, action, _button(words), name=record.name, what=what))
        rows = [_key_row(session, action, record.name, (blob, None)) for blob in sorted(found.keys)]
        rows += [_key_row(session, action, record.name, entry) for entry in sorted(found.authorities)]
        content.append(_table("Keys", ("Type", "Fingerprint", "Action"), rows, "The user has no keys."))
        add = element("h2", "Add keys"), _keys_field(), _button("Add")
        content.append(_form(session, action, *add, name=record.name, what="add_keys"))
    return _page(request, record.name or record.id, *content, session=session)


def _key_row(session: Session, action: str, name: str, entry: Entry) -> tuple[object, ...]:
    """A key, or a CA whose certificates let the user in."""
    blob, principals = entry
    kind = key_type(blob) if principals is None else f"CA, {key_type(blob)} {','.join(principals)}"
    remove = _button("Remove", aria_label=f"Remove {kind} {fingerprint(blob)}")
    form = _form(session, action, remove, name=name, what="remove_key", key=entry_line(entry))
    return kind, element("code", fingerprint(blob)), form


# --- the audit log ----------------------------------------------------------------------------------------


def audit(
    request: Request,
    path: str,
    session: Session,
    asked: str,
    lines: Sequence[str],
    is_all: bool,
    problem: str,
) -> Reply:
    """A search for what became of a file."""
    root = request.place.decode("utf-8", "replace") + path
    search = element(
        "form",
        field("path", "Path of a file, as its users see it", value=asked, type="search"),
        _button("Search"),
        method="get",
        action=f"{root}/audit",
        role="search",
    )
    found: object = ""
    if asked and not problem:
        items = [element("li", element("bdi", line)) for line in lines]
        found = element("ol", *items) if items else element("p", "The audit log has nothing about it.")
    more = "" if is_all else element("p", "There is more; pysftp-audit who says all.")
    return _page(
        request,
        "Audit log",
        _problems(problem),
        search,
        found,
        more,
        session=session,
    )
