"""What pysftpctl shows of a running server: sessions, transfers and bans, in tables or as JSON.

`warn` is told which processes give no proper answer. What may not enter: directories of users, options.
"""

from __future__ import annotations

import time

from pysftpserver.failures import needed, one_line
from pysftpserver.service.admin_client import ask, ask_all, oldest_first
from pysftpserver.service.transfers import Rates, amount, duration
from pysftpserver.sshd.control import print_json, print_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rich.table import Table

    from pysftpserver.service.transfers import Row

    Warn = Callable[[str], None]

PAUSE = 1.0  # seconds between two looks
WIDE = 110  # columns of a terminal that has room for the whole table
NONE_FOUND = 1  # exit status


# --- asking -----------------------------------------------------------------------------------------------


def sessions_at(path: str, warn: Warn) -> list[dict[str, Any]]:
    """All sessions of a server, oldest first. Raises Unavailable."""
    return oldest_first(ask_all(path, {"ask": "sessions"}, warn))


def show_sessions(path: str, as_json: bool, warn: Warn) -> int:
    """Print all sessions; return the exit status. Raises Unavailable."""
    sessions = sessions_at(path, warn)
    if as_json:
        print_json(sessions)
    else:
        print_table(session_rows(sessions))
    return 0


def end_sessions(path: str, name: str, by_name: bool, as_json: bool, warn: Warn) -> int:
    """End the session with that number, or a user's sessions; return the exit status. Raises Unavailable."""
    is_number = name.isascii() and name.isdecimal() and len(name) < 19 and not by_name
    question = {"ask": "end", **({"number": int(name)} if is_number else {"user": name})}
    ended = sorted(number for answer in ask_all(path, question, warn) for number in answer["ended"])
    if as_json:
        print_json({"ended": ended})
    elif ended:
        print(f"ended {', '.join(map(str, ended))}")
    else:
        warn(f"no session {'with number' if is_number else 'of user'} {name}")
    return 0 if ended else NONE_FOUND


def show_bans(path: str, as_json: bool, warn: Warn) -> int:
    """Print the bans, and points, of addresses; return the exit status. Raises Unavailable."""
    bans = ask_all(path, {"ask": "bans"}, warn)[0]["bans"]  # each process knows all of them
    if as_json:
        print_json(bans)
        return 0
    rows = [("ADDRESS", "POINTS", "BANNED FOR", "UNTIL", "WHY", "BANS")]
    for ban in bans:
        seconds = ban["seconds"]
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds)) if seconds else ""
        left = duration(seconds) if seconds else ""
        rows.append((ban["address"], f"{ban['points']:g}", left, until, ban["cause"], str(ban["bans"])))
    print_table(rows)
    return 0


def add_ban(path: str, address: str, seconds: float, as_json: bool, warn: Warn) -> int:
    """Ban an address; return the exit status. Raises Unavailable."""
    question = {"ask": "ban", "address": address, "seconds": int(seconds)}
    banned = ask_all(path, question, warn, most=1)[0]["banned"]
    if as_json:
        print_json({"banned": banned, "seconds": int(seconds)})
    else:
        print(f"banned {banned} for {duration(seconds)}")
    return 0


def lift_ban(path: str, address: str, as_json: bool, warn: Warn) -> int:
    """Lift the ban of an address and forget its points; return the exit status. Raises Unavailable."""
    lifted = any(answer["lifted"] for answer in ask_all(path, {"ask": "lift", "address": address}, warn))
    if as_json:
        print_json({"lifted": lifted})
    elif lifted:
        print(f"lifted {address}")
    else:
        warn(f"nothing is known of {address}")
    return 0 if lifted else NONE_FOUND


def web_socket_at(path: str, warn: Warn) -> str | None:
    """The local socket on which a pysftpd asks its server for browsers for links. Raises Unavailable."""
    found = ask_all(path, {"ask": "about"}, warn, most=1)[0]["about"]["web_socket"]
    return None if found is None else str(found)


def show_link(path: str, name: str, as_json: bool) -> int:
    """Print a link to the operators' page; return the exit status. name: for the log. Raises Unavailable."""
    url = ask(path, {"operator": name}, setting="web_socket")["url"]
    if as_json:
        print_json({"url": url})
    else:
        print(one_line(url))
    return 0


def show_health(path: str, processes: int, as_json: bool, warn: Warn) -> int:
    """Print whether all processes serve; return the exit status. Raises Unavailable when none answers."""
    answers = ask_all(path, {"ask": "health"}, warn)
    faults = [fault for answer in answers for fault in answer["health"]["faults"]]
    notes = [note for answer in answers for note in answer["health"]["notes"]]
    if len(answers) < processes:
        faults.append(f"{processes - len(answers)} of {processes} processes do not answer")
    if as_json:
        print_json({"healthy": not faults, "faults": faults, "notes": notes})
    else:
        for line in dict.fromkeys(faults + notes):
            print(one_line(line))
        print("not healthy" if faults else "healthy")
    return NONE_FOUND if faults else 0


def session_rows(sessions: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A table of sessions, with its heading."""
    now = time.time()
    rows: list[tuple[str, ...]] = [
        ("NUMBER", "USER", "ADDRESS", "SINCE", "IDLE", "RECEIVED", "SENT", "FILES")
    ]
    for one in sessions:
        times = duration(now - one["since"]), duration(one["idle"])
        count = len(one["files"]) + one["more_files"]
        moved = amount(one["received"]), amount(one["sent"])
        rows.append((str(one["number"]), one["user"], one["address"], *times, *moved, str(count)))
    return rows


class View:
    """Looks at a server repeatedly, and computes rates from the difference."""

    def __init__(self, path: str, warn: Warn) -> None:
        self._path = path
        self._warn = warn
        self._rates = Rates()

    def look(self) -> list[Row]:
        """The rows as of now. Raises Unavailable."""
        return self._rates.rows(sessions_at(self._path, self._warn), time.monotonic())


# --- showing ----------------------------------------------------------------------------------------------


def show_json(path: str, again: bool, warn: Warn) -> int:
    """Print the sessions as JSON, once or each second until Ctrl-C; return the exit status.

    Raises Unavailable.
    """
    try:
        while True:
            print_json(sessions_at(path, warn))
            if not again:
                return 0
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        return 0


def show_once(path: str, warn: Warn) -> int:
    """Print the live view once, as text; return the exit status. It takes two looks. Raises Unavailable."""
    view = View(path, warn)
    if any(row.rate is None and not row.what.startswith("(") for row in view.look()):
        time.sleep(PAUSE)
    for row in view.look():
        words = (row.number, row.user, row.address, row.what, row.progress(True), row.speed())
        print("  ".join(filter(None, words)))
    return 0


def show_table(path: str, warn: Warn) -> int:
    """Show the live view on the terminal until Ctrl-C; return the exit status. Raises BadInput,
    Unavailable.
    """
    with needed("sshd", "rich"):
        from rich.live import Live
    view = View(path, warn)
    rows = view.look()
    try:
        with Live(auto_refresh=False) as live:
            while True:
                live.update(table_of(rows, live.console.width), refresh=True)
                time.sleep(PAUSE)
                rows = view.look()
    except KeyboardInterrupt:
        return 0


def table_of(rows: Sequence[Row], width: int) -> Table:
    """The rows for a terminal, without markup and control characters from clients."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, expand=True, title_justify="left")
    bar_width = 20 if width >= WIDE else 8
    for heading in ("NUMBER", "USER", "ADDRESS"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    table.add_column("FILE", ratio=1, min_width=16, no_wrap=True, overflow="ellipsis")
    table.add_column("", width=bar_width)
    table.add_column("DONE", no_wrap=True, justify="right")
    table.add_column("RATE", no_wrap=True, justify="right")
    for row in rows:
        part = row.part
        bar = ProgressBar(total=1.0, completed=part, width=bar_width) if part is not None else Text("")
        texts = (Text(row.number), Text(row.user), Text(row.address), Text(row.what))
        table.add_row(*texts, bar, Text(row.progress(width >= WIDE)), Text(row.speed()))
    if not rows:
        table.caption = "no sessions"
    return table
