"""What all kinds of reports have in common: the summary, the counts of groups, packets as lines.

What may not enter: how a kind of report looks.
"""

from __future__ import annotations

from pysftpserver.contract.table import CLIENT, LEVELS, MUST, SHOULD
from pysftpserver.failures import one_line
from pysftpserver.probe.results import ERROR, FAILED, PASSED, UNSUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pysftpserver.probe.results import Figure, Outcome, Report, Step, Task

#: Names for rules of a level, singular and plural.
NAMES = {MUST: ("must", "musts"), SHOULD: ("should", "shoulds"), CLIENT: ("client rule", "client rules")}
BROKEN = (FAILED, ERROR)
LEAST_ROW = 8  # bytes of a row of a dump


class Tally:
    """The outcomes of some rules. total, passed: by level, without unsupported ones."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self.total = dict.fromkeys(LEVELS, 0)
        self.passed = dict.fromkeys(LEVELS, 0)
        self.verdicts = dict.fromkeys((PASSED, FAILED, UNSUPPORTED, ERROR), 0)
        for outcome in outcomes:
            self.verdicts[outcome.verdict] += 1
            if outcome.verdict != UNSUPPORTED:
                self.total[outcome.level] += 1
                self.passed[outcome.level] += outcome.verdict == PASSED

    def of(self, level: str) -> str:
        """ "12 of 13", or "-" where there is no rule of a level."""
        return f"{self.passed[level]} of {self.total[level]}" if self.total[level] else "-"

    def holds(self, level: str) -> bool:
        """Whether every rule of a level holds."""
        return self.passed[level] == self.total[level]


def groups(report: Report) -> dict[str, list[Outcome]]:
    """The outcomes by group, in the report's order."""
    found: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        found.setdefault(outcome.group, []).append(outcome)
    return found


def broken(report: Report) -> list[Outcome]:
    """The rules that are broken or could not be tried; the strictest level first."""
    found = [outcome for outcome in report.outcomes if outcome.verdict in BROKEN]
    return sorted(found, key=lambda outcome: LEVELS.index(outcome.level))


def conforms(report: Report) -> bool:
    """Whether the probe was completed and every must holds."""
    return not report.stopped and Tally(report.outcomes).holds(MUST)


def summary(report: Report) -> str:
    """One line: "conforms: 201 of 201 musts, 40 of 52 shoulds"."""
    tally = Tally(report.outcomes)
    levels = [f"{tally.of(level)} {NAMES[level][1]}" for level in LEVELS if tally.total[level]]
    text = ", ".join(levels) or "no rule was tried"
    if tally.verdicts[ERROR]:
        text += f"; {tally.verdicts[ERROR]} could not be tried"
    if not levels and not tally.verdicts[ERROR] and not report.stopped:
        return text
    verdict = "conforms" if tally.holds(MUST) else "does not conform"
    return f"stopped early: {text}" if report.stopped else f"{verdict}: {text}"


def heading(outcome: Outcome) -> str:
    """ "must broken", or "must could not be tried"."""
    name = NAMES[outcome.level][0]
    return f"{name} broken" if outcome.verdict == FAILED else f"{name} could not be tried"


def server_lines(report: Report) -> list[tuple[str, str]]:
    """(label, text) of what was probed."""
    extensions = ", ".join(f"{name}={data}" for name, data in report.extensions.items())
    lines = [
        ("server", report.server),
        ("SFTP version", str(report.version) if report.version else ""),
        ("extensions", extensions),
        ("lacks", ", ".join(report.lacks)),
        ("probe", f"pysftp-probe {report.probe}".strip()),
        (
            "time",
            f"{report.seconds:.1f} s" + (f", round trip {1000 * report.trip:.2f} ms" if report.trip else ""),
        ),
        ("stopped", report.stopped),
        ("left behind", ", ".join(report.left)),
    ]
    return [(name, one_line(text)) for name, text in lines if text]


def telling(steps: list[Step]) -> list[Step]:
    """The steps without INIT and its VERSION at the start of sessions, unless the steps end with them."""
    rest: list[Step] = []
    for number, step in enumerate(steps):
        is_version = not step.asked and step.words.startswith("VERSION ")
        if is_version and number + 1 < len(steps) and rest and rest[-1].words.startswith("INIT "):
            rest.pop()
        else:
            rest.append(step)
    return rest


def says(task: Task) -> str:
    """The result for users, in one line."""
    return "; ".join([task.verdict, *(note for note in task.notes if note not in task.verdict)])


def number(value: float) -> str:
    """A figure, with three significant digits, or all digits before the decimal point."""
    is_whole = abs(value) < 1e15 and (abs(value) >= 100 or value == int(value))
    return f"{value:,.0f}" if is_whole else f"{value:.3g}"


def announced(figure: Figure) -> str:
    """The value that the server announces for a figure."""
    return "" if figure.announced is None else f"{number(figure.announced)} {figure.unit}"


def dump(step: Step, row: int = 16, rows: int | None = None) -> list[str]:
    """A packet's bytes as lines: offset, hexadecimal, and ASCII. row: bytes per line; rows: maximum number of
    lines.
    """
    try:
        octets = bytes.fromhex(step.octets)
    except ValueError:
        return [f"not hexadecimal: {one_line(step.octets[:80])}"]
    kept = octets if rows is None else octets[: row * rows]
    lines = []
    for start in range(0, len(kept), row):
        part = kept[start : start + row]
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:04x}  {part.hex(' '):{3 * row - 1}}  {plain}")
    if len(kept) < step.length:
        lines.append(f"...   {len(kept)} of {step.length} bytes")
    return lines
