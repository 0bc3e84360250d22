"""The transfers in the sessions of a server: sums of figures, open files and their progress, amounts as text.

Computed from the answers of the admin socket. What may not enter: asking, how it is shown.
"""

from __future__ import annotations

from pysftpserver.failures import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def amount(count: float) -> str:
    """A number of bytes as a short text with a unit."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == UNITS[0] else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds, as 3s, 2m05s, 1h02m or 4d03h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def total(many: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of figures, which are numbers or numbers by label."""
    found: dict[str, Any] = {}
    for figures in many:
        for name, value in figures.items():
            if isinstance(value, dict):
                part = found.setdefault(name, {})
                for label, number in value.items():
                    part[label] = part.get(label, 0) + number
            else:
                found[name] = found.get(name, 0) + value
    return found


class Row:
    """A line of the live view: an open file, or a session that has none.

    done, size: bytes; size: None if not known. rate: bytes a second, None at the first look.
    """

    def __init__(
        self, session: dict[str, Any], what: str, done: int, size: int | None, rate: float | None
    ) -> None:
        self.number = str(session["number"])
        self.user = one_line(session["user"])
        self.address = one_line(session["address"])
        self.what = one_line(what)
        self.done = done
        self.size = size
        self.rate = rate

    @property
    def part(self) -> float | None:
        """The part that is done, from 0 to 1; None if the size is not known."""
        return min(1.0, self.done / self.size) if self.size else None

    def progress(self, in_full: bool) -> str:
        """The same as text."""
        if self.part is None or self.size is None:
            return amount(self.done)
        if not in_full:
            return f"{int(self.part * 100)}%"
        return f"{amount(self.done)} of {amount(self.size)}, {int(self.part * 100)}%"

    def speed(self) -> str:
        return "" if self.rate is None else f"{amount(self.rate)}/s"


class Rates:
    """Computes rates from the difference between two looks at the same server.

    least: minimum seconds between them; an earlier look is compared with the one before the last.
    """

    def __init__(self, least: float = 0.0) -> None:
        self._least = least
        self._last: dict[tuple[int, str], int] = {}
        self._at = 0.0
        self._before: tuple[dict[tuple[int, str], int], float] = {}, 0.0

    def rows(self, sessions: Iterable[dict[str, Any]], now: float) -> list[Row]:
        """The rows of sessions as they are now. now: seconds of a monotonic clock."""
        if now - self._at >= self._least:
            self._before = self._last, self._at
            self._last, self._at = {}, now
        before, passed = self._before[0], now - self._before[1]
        rows = []
        for session in sessions:
            if not session["files"]:
                idle = f"(idle for {duration(session['idle'])})"
                rows.append(Row(session, idle, session["received"] + session["sent"], None, None))
            for file in session["files"]:
                key = (session["number"], file["id"])
                done = file["read"] + file["written"]
                if self._at == now:
                    self._last[key] = done
                rate = max(0, done - before[key]) / passed if key in before else None
                verb = "put" if file["written"] > file["read"] else "get"
                rows.append(Row(session, f"{verb} {file['path']}", done, file["size"], rate))
            if session["more_files"]:
                rows.append(Row(session, f"({session['more_files']} more files)", 0, None, None))
        return rows
