"""Compares two reports: rules newly broken or fixed, changes of support, and figures.

What may not enter: files.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pysftpserver.contract.table import MUST
from pysftpserver.failures import one_line
from pysftpserver.probe.report import summing
from pysftpserver.probe.report.terminal import WIDTH, table
from pysftpserver.probe.results import UNSUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.probe.results import Figure, Outcome, Report, Task

#: Units of figures for which less is better.
LESS_IS_BETTER = ("ms", "s")


@dataclass
class Comparison:
    """How the second of two reports differs from the first. gained, lost: rules whose support changed.
    untried: rules only in the first; fresh: rules only in the second, broken. worse, better: clients' tasks.
    figures: in both, first and second. stopped: why the second was stopped, if the first was not.
    """

    old: Report
    new: Report
    broken: list[Outcome] = field(default_factory=list)
    fresh: list[Outcome] = field(default_factory=list)
    mended: list[Outcome] = field(default_factory=list)
    gained: list[Outcome] = field(default_factory=list)
    lost: list[Outcome] = field(default_factory=list)
    untried: list[Outcome] = field(default_factory=list)
    worse: list[Task] = field(default_factory=list)
    better: list[Task] = field(default_factory=list)
    figures: list[tuple[Figure, Figure]] = field(default_factory=list)

    @property
    def stopped(self) -> str:
        return "" if self.old.stopped else self.new.stopped

    @property
    def status(self) -> int:
        """The exit status: 1 if a must is newly broken, or if the second probe alone was stopped."""
        return int(any(outcome.level == MUST for outcome in self.broken) or bool(self.stopped))


def compare(old: Report, new: Report) -> Comparison:
    """Compare two reports, rule by rule."""
    found = Comparison(old, new)
    before = {outcome.rule: outcome for outcome in old.outcomes}
    after = {outcome.rule: outcome for outcome in new.outcomes}
    for outcome in new.outcomes:
        earlier = before.get(outcome.rule)
        if earlier is None:
            if outcome.verdict in summing.BROKEN:
                found.fresh.append(outcome)
            continue
        _outcome(found, earlier, outcome)
    found.untried = [outcome for name, outcome in before.items() if name not in after]
    tasks = {(task.client, task.task): task for task in old.tasks}
    for task in new.tasks:
        was = tasks.get((task.client, task.task))
        if was is not None and was.works != task.works:
            (found.better if task.works else found.worse).append(task)
    figures = {figure.name: figure for figure in old.figures}
    found.figures = [(figures[figure.name], figure) for figure in new.figures if figure.name in figures]
    return found


def _outcome(found: Comparison, old: Outcome, new: Outcome) -> None:
    was_broken, is_broken = old.verdict in summing.BROKEN, new.verdict in summing.BROKEN
    if is_broken and not was_broken:
        found.broken.append(new)
    elif old.verdict == UNSUPPORTED != new.verdict:
        found.gained.append(new)
    elif new.verdict == UNSUPPORTED != old.verdict:
        found.lost.append(new)
    elif was_broken and not is_broken:
        found.mended.append(new)


def ratio(old: Figure, new: Figure) -> str:
    """How a figure has changed: "1.25 times, better"."""
    if not old.value or old.unit != new.unit:
        return "-"
    value = new.value / old.value
    if 0.995 < value < 1.005:
        return "the same"
    better = (value < 1) == (new.unit in LESS_IS_BETTER)
    return f"{value:.2f} times, {'better' if better else 'worse'}"


def text(found: Comparison, width: int = WIDTH) -> str:
    """What has changed; the last line is the summary."""
    lines: list[str] = []
    for title, outcomes in (
        ("newly broken", found.broken),
        ("broken, and not tried before", found.fresh),
        ("fixed", found.mended),
        ("supported now", found.gained),
        ("supported no longer", found.lost),
        ("no longer tried", found.untried),
    ):
        if outcomes:
            rows = [(one_line(o.rule), o.level, one_line(_says(o))) for o in outcomes]
            lines += _section(title, rows, width)
    for title, tasks in (("clients that fail now", found.worse), ("clients that work now", found.better)):
        if tasks:
            lines += _section(
                title,
                [(one_line(t.client), one_line(t.task), one_line(summing.says(t))) for t in tasks],
                width,
            )
    lines += _announced(found)
    if found.figures:
        head = ("figure", "before", "after", "unit", "ratio")
        figures = [
            (
                one_line(new.name),
                summing.number(old.value),
                summing.number(new.value),
                one_line(new.unit),
                ratio(old, new),
            )
            for old, new in found.figures
        ]
        lines += ["", *table([head, *figures], width)]
    if found.stopped:
        lines += ["", f"the second probe was stopped: {one_line(found.stopped)}"]
    lines += [
        "",
        f"before: {summing.summary(found.old)}",
        f"after:  {summing.summary(found.new)}",
        _summary(found),
    ]
    return "\n".join(lines).lstrip("\n")


def _says(outcome: Outcome) -> str:
    return outcome.why if outcome.verdict in summing.BROKEN and outcome.why else outcome.sentence


def _section(title: str, rows: list[tuple[str, str, str]], width: int) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in table(rows, width - 2))]


def _announced(found: Comparison) -> list[str]:
    old, new = found.old.extensions, found.new.extensions
    lines = [
        ("announces now", sorted(new.keys() - old.keys())),
        ("announces no longer", sorted(old.keys() - new.keys())),
    ]
    return [
        line for title, names in lines if names for line in ("", f"{title}: {one_line(', '.join(names))}")
    ]


def _summary(found: Comparison) -> str:
    musts = sum(outcome.level == MUST for outcome in found.broken)
    changed = f"{len(found.broken)} newly broken ({musts} of them musts), {len(found.mended)} fixed"
    return f"{changed}, {len(found.gained)} supported now, {len(found.lost)} no longer"
