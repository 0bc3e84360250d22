"""What a probe has found: an outcome for each rule, one for each client's task, and figures; to JSON and
back.

What may not enter: how it is shown, and how it is found.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from pysftpserver.formats import REPORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Verdicts on a rule. UNSUPPORTED: the server lacks what the rule is about, and says so. ERROR: the rule
#: could not be tried, because something that it needs does not work.
PASSED, FAILED, UNSUPPORTED, ERROR = "passed", "failed", "unsupported", "error"
VERDICTS = (PASSED, FAILED, UNSUPPORTED, ERROR)


@dataclass
class Step:
    """One packet. asked: whether the probe sent it. words: its content as text. octets: the packet in
    hexadecimal, as far as it is kept; length: of the whole packet, in bytes.
    """

    asked: bool
    words: str
    octets: str
    length: int


@dataclass
class Outcome:
    """A rule that was tried. why: what went wrong, in one sentence; steps: the last packets before that."""

    rule: str
    group: str
    level: str
    sentence: str
    source: str
    verdict: str
    why: str = ""
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)


@dataclass
class Task:
    """A client's task that was tried. basis: "observed" or "documented". works: whether users get what they
    asked for; verdict: that in words; notes: what they would notice all the same.
    """

    client: str
    task: str
    basis: str
    works: bool
    verdict: str
    notes: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


@dataclass
class Figure:
    """A measurement. unit: "ms", "MB/s", "names/s", "bytes", "handles". announced: the server's own value."""

    name: str
    value: float
    unit: str
    announced: float | None = None


@dataclass
class Report:
    """Everything that was found. server: what was probed, in words; version, extensions: what it announced.
    lacks: what it cannot do, in the words of Rule.needs. left: what the probe could not remove. stopped: why
    it gave up, or "". started: seconds since the epoch. trip: the round-trip time in seconds, if measured.
    """

    server: str
    probe: str = ""
    started: float = 0.0
    seconds: float = 0.0
    version: int = 0
    extensions: dict[str, str] = field(default_factory=dict)
    lacks: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    stopped: str = ""
    trip: float = 0.0

    def count(self, verdict: str, level: str | None = None) -> int:
        """Number of rules with a verdict, of one level or of all."""
        return sum(o.verdict == verdict and level in (None, o.level) for o in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {"format": REPORT.version, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Report:
        """The report in a document of to_json(). Raises KeyError, TypeError and ValueError for others, and
        BadInput for a newer version."""
        fields = dict(document)
        REPORT.check(fields.pop("format"), "format")
        return cls(
            **{
                **fields,
                "outcomes": [Outcome(**{**o, "steps": _steps(o)}) for o in fields["outcomes"]],
                "tasks": [Task(**{**t, "steps": _steps(t)}) for t in fields["tasks"]],
                "figures": [Figure(**figure) for figure in fields["figures"]],
            }
        )


def _steps(document: dict[str, Any]) -> list[Step]:
    return [Step(**step) for step in document["steps"]]
