"""A report as text for a terminal: a table of groups, each broken rule with its packets, one summary line.

Colour is added last and only where it is asked for. What may not enter: counting (summing.py).
"""

from __future__ import annotations

import os
import textwrap

from pysftpserver.contract.table import LEVELS, MUST
from pysftpserver.failures import one_line
from pysftpserver.probe.report import summing
from pysftpserver.probe.results import ERROR, FAILED, UNSUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pysftpserver.probe.results import Outcome, Report, Step

WIDTH = 80  # characters
LEAST_WIDTH, MOST_WIDTH = 40, 110
NAMES = 14  # characters of a label before its value
LEAST_CELL, LEAST_LAST = 8, 16  # characters of a column in a table
STEPS = 6  # packets of a broken rule that are shown
ROWS = 3  # lines of a packet's bytes that are shown
BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"


def uses_colour(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether output to a file descriptor may be coloured. Facts: no-color.org."""
    return os.isatty(descriptor) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def width_of(descriptor: int) -> int:
    """The width of a terminal in characters; WIDTH for anything else."""
    try:
        return os.get_terminal_size(descriptor).columns or WIDTH
    except OSError:
        return WIDTH


def text(report: Report, width: int = WIDTH, colour: bool = False) -> str:
    """The whole report; its last line is the summary."""
    return _Page(width, colour).whole(report)


def table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows of cells as aligned lines; the first row is the heading. The last column is wrapped to fit, others
    are shortened if necessary, and cells that look like numbers are right-aligned.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    least = min(widths.pop(), LEAST_LAST)
    while sum(widths) + 2 * len(widths) + least > width and max(widths) > LEAST_CELL:
        widths[widths.index(max(widths))] -= 1
    before = sum(widths) + 2 * len(widths)
    last = max(len(row[-1]) for row in rows)
    lines = []
    for row in rows:
        cells = [_cell(words, size) for words, size in zip(row, widths, strict=False)]
        first, *rest = textwrap.wrap(row[-1], max(width - before, 1)) or [""]
        if _is_number(first) and not rest:
            first = first.rjust(min(last, width - before))
        lines += ["  ".join([*cells, first]).rstrip(), *(" " * before + part for part in rest)]
    return lines


def _cell(words: str, size: int) -> str:
    if len(words) > size:
        return f"{words[: size - 3]}..."
    return words.rjust(size) if _is_number(words) else words.ljust(size)


def _is_number(words: str) -> bool:
    return words[:1].isdigit() or words == "-"


class _Page:
    """One text. width: of its lines."""

    def __init__(self, width: int, colour: bool) -> None:
        self._width = min(max(width, LEAST_WIDTH), MOST_WIDTH)
        self._colour = colour
        self._lines: list[str] = []

    def whole(self, report: Report) -> str:
        for name, words in summing.server_lines(report):
            self._lines += self._wrapped(words, " " * NAMES, f"{name:{NAMES}}")
        self._groups(report)
        for outcome in summing.broken(report):
            self._broken(outcome)
        self._unsupported(report)
        self._tasks(report)
        self._figures(report)
        colour = GREEN if summing.conforms(report) else RED
        self._lines += [
            "",
            *(self._in(line, BOLD, colour) for line in self._wrapped(summing.summary(report))),
        ]
        return "\n".join(self._lines)

    def _in(self, line: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{line}\x1b[0m" if self._colour and line else line

    def _wrapped(self, words: str, indent: str = "", first: str | None = None) -> list[str]:
        begin = indent if first is None else first
        return textwrap.wrap(
            one_line(words),
            self._width,
            initial_indent=begin,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )

    def _heading(self, words: str) -> None:
        self._lines += ["", self._in(words, BOLD)]

    def _groups(self, report: Report) -> None:
        found = summing.groups(report)
        if not found:
            return
        rows = [("rules", *(summing.NAMES[level][1] for level in LEVELS), UNSUPPORTED)]
        colours = [BOLD]
        for name, outcomes in [*found.items(), ("all", report.outcomes)]:
            tally = summing.Tally(outcomes)
            cells = (tally.of(level) for level in LEVELS)
            rows.append((one_line(name), *cells, str(tally.verdicts[UNSUPPORTED] or "-")))
            bad = tally.verdicts[FAILED] + tally.verdicts[ERROR]
            colours.append("" if not bad else YELLOW if tally.holds(MUST) else RED)
        lines = table(rows, self._width)
        self._lines.append("")
        self._lines += [
            self._in(line, colour) if colour else line for line, colour in zip(lines, colours, strict=False)
        ]

    def _broken(self, outcome: Outcome) -> None:
        title = f"{summing.heading(outcome)}: {outcome.rule}"
        colour = RED if outcome.level == MUST else YELLOW
        self._lines += ["", *(self._in(line, BOLD, colour) for line in self._wrapped(title))]
        self._lines += self._wrapped(outcome.sentence, "  ")
        self._lines += [self._in(line, DIM) for line in self._wrapped(outcome.source, "  ")]
        self._lines += self._wrapped(outcome.why, "       ", "  why: ")
        steps = summing.telling(outcome.steps)
        if len(steps) > STEPS:
            self._lines.append(self._in(f"  the last {STEPS} of {len(steps)} packets:", DIM))
        for step in steps[-STEPS:]:
            self._step(step)

    def _step(self, step: Step) -> None:
        self._lines += self._wrapped(step.words, "      ", "  --> " if step.asked else "  <-- ")
        row = 16 if self._width >= 78 else summing.LEAST_ROW
        lines = summing.dump(step, row, ROWS)
        self._lines += [self._in(f"      {line}"[: self._width].rstrip(), DIM) for line in lines]

    def _unsupported(self, report: Report) -> None:
        names = [outcome.rule for outcome in report.outcomes if outcome.verdict == UNSUPPORTED]
        if names:
            self._heading("unsupported by the server")
            self._lines += self._wrapped(", ".join(names), "  ")

    def _tasks(self, report: Report) -> None:
        if not report.tasks:
            return
        rows = [("client", "task", "basis", "what users get")]
        for task in report.tasks:
            says = summing.says(task)
            rows.append((one_line(task.client), one_line(task.task), one_line(task.basis), one_line(says)))
        self._table(rows)

    def _figures(self, report: Report) -> None:
        if not report.figures:
            return
        rows = [("figure", "value", "unit", "announced")]
        for figure in report.figures:
            said = summing.announced(figure)
            rows.append(
                (one_line(figure.name), summing.number(figure.value), one_line(figure.unit), one_line(said))
            )
        self._table(rows)

    def _table(self, rows: Sequence[Sequence[str]]) -> None:
        heading, *lines = table(rows, self._width)
        self._lines += ["", self._in(heading, BOLD), *lines]
