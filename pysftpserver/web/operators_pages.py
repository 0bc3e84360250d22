"""The first page for operators: sections about pysftpd, which are updated live.

It shows values that clients have chosen in part: every text is escaped. What may not enter: asking
pysftpd, changing anything.
"""

from __future__ import annotations

import json
import time

from pysftpserver.failures import Unavailable, one_line
from pysftpserver.service.transfers import amount, duration
from pysftpserver.web.html import Markup, element, joined, message
from pysftpserver.web.operators_frame import button, form, page, problems, table
from pysftpserver.web.plots import plot
from pysftpserver.web.wire import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.web.history import Ring, State
    from pysftpserver.web.session import Session
    from pysftpserver.web.trail import Trail
    from pysftpserver.web.wire import Request

PARTS = 240  # of an hour, in a plot
MINUTES = 60
MOST_NOTES = 30
STAMP = "%Y-%m-%d %H:%M:%S"
JSON = "application/json"
READS = "but for READ and WRITE"
NO_LATENCY = "(pysftpd counts requests with the setting metrics or web only)"


def now(
    request: Request, path: str, session: Session, told: Sequence[Markup], sections: dict[str, str]
) -> Reply:
    """The first page."""
    reload = element("p", element("a", "Reload", href=""), " to see what has changed.", id="live")
    shown = (element("section", Markup(text), id=name) for name, text in sections.items())
    return page(request, "Now", *told, reload, *shown, session=session, live=True)


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
        (problems(*state.health.get("faults", ())), *notes, element("dl", *shown, class_="figures"))
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
    return table("Transfers", heads, rows, "Nothing moves.")


def _sessions(state: State, session: Session, root: str) -> Markup:
    rates: dict[str, float] = {}
    for row in state.rows:
        rates[row.number] = rates.get(row.number, 0.0) + (row.rate or 0.0)
    rows = []
    for one in state.sessions:
        files = len(one["files"]) + one["more_files"]
        number = one["number"]
        end = button("End", id=f"end-{number}", aria_label=f"End session {number} of {one_line(one['user'])}")
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
                form(session, f"{root}/end", end, number=number),
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
    return table("Connected", heads, rows, "There are no sessions.")


def _bans(state: State, session: Session, root: str) -> Markup:
    rows = []
    for ban in state.bans:
        address = one_line(ban["address"])
        door, verb = ban["door"], "Lift" if ban["seconds"] else "Forget"
        lift = button(verb, id=f"lift-{door}-{address}", aria_label=f"{verb} {address} at {door}")
        left = duration(ban["seconds"]) if ban["seconds"] else "not banned"
        action = form(session, f"{root}/lift", lift, address=address)
        rows.append((door, address, left, f"{ban['points']:g}", ban["cause"], ban["bans"], action))
    heads = ("Door", "Network", "Banned for", "Points", "Why", "Bans", "Action")
    return table("Bans", heads, rows, "No network is banned or has points.")


def _notes(state: State) -> Markup:
    rows = [
        (time.strftime(STAMP, time.gmtime(note["time"])), element("bdi", one_line(note["text"])))
        for note in state.notes[:MOST_NOTES]
    ]
    none = "No connection was refused, and none ended by a limit."
    return table("Refused logins and connections", ("Time (UTC)", "What"), rows, none)


def _events(state: State, trail: Trail) -> Markup:
    audit = state.about.get("audit")
    if audit is None:
        return table("Last events", (), (), "pysftpd has no audit log (setting audit), or does not answer.")
    try:
        found = trail.last(audit)
    except Unavailable as error:
        return table("Last events", (), (), error.message)
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
    return table("Last events", heads, rows, "Nothing was recorded yet.")


def figures(state: State, ring: Ring) -> Reply:
    """The state as values, for programs."""
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
