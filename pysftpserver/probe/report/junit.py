"""A report in JUnit's XML format: one suite per group, and one case per rule.

Every broken rule is a failure, whatever its level, and one that could not be tried is an error: use --level
must for a build that should fail only for musts. What the server does not support is skipped. What may not
enter: files. Facts: Windy Road's JUnit.xsd, which Ant's and Jenkins's readers take as well; XML 1.0, section
2.2, for the characters.
"""

from __future__ import annotations

import math
import re
import time
from xml.sax.saxutils import escape, quoteattr

from pysftpserver.probe.report import summing
from pysftpserver.probe.results import ERROR, FAILED, UNSUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.probe.results import Outcome, Report, Task

ROWS = 4  # lines of a packet's bytes
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {FAILED: "failure", ERROR: "error", UNSUPPORTED: "skipped"}


def text(report: Report) -> str:
    """The whole report."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(max(0, min(report.started, 1 << 36))))
    suites = [(name, [_rule(o) for o in outcomes]) for name, outcomes in summing.groups(report).items()]
    if report.tasks:
        suites.append(("tasks-of-clients", [_task(task) for task in report.tasks]))
    suites.append(("the-probe-itself", [_ended(report), _removed(report)]))
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for number, (name, cases) in enumerate(suites):
        lines += _suite(report, number, name, moment, cases)
    return "\n".join([*lines, "</testsuites>"])


class _Case:
    """A test. tag: failure, error or skipped, or "" for success. why: in one line; more: lines below that."""

    def __init__(
        self, name: str, seconds: float, tag: str = "", kind: str = "", why: str = "", more: str = ""
    ) -> None:
        self.name = name
        self.seconds = seconds if math.isfinite(seconds) else 0.0
        self.tag = tag
        self.kind = kind
        self.why = why
        self.more = more


def _rule(outcome: Outcome) -> _Case:
    tag = _TAGS.get(outcome.verdict, "")
    more = [outcome.sentence, outcome.source, outcome.why]
    for step in outcome.steps:
        more.append(f"{'-->' if step.asked else '<--'} {step.words}")
        more += [f"    {line}" for line in summing.dump(step, rows=ROWS)]
    why = f"{outcome.sentence} {outcome.why}" if tag != "skipped" else outcome.why or "unsupported"
    return _Case(outcome.rule, outcome.seconds, tag, outcome.level, why, "\n".join(more))


def _task(task: Task) -> _Case:
    tag = "" if task.works else "failure"
    return _Case(f"{task.client}: {task.task}", 0.0, tag, "client", task.verdict, "\n".join(task.notes))


def _ended(report: Report) -> _Case:
    tag = "error" if report.stopped else ""
    return _Case("came-to-its-end", report.seconds, tag, "stopped", report.stopped)


def _removed(report: Report) -> _Case:
    tag = "error" if report.left else ""
    return _Case("removed-everything", 0.0, tag, "left", "left behind: " + ", ".join(report.left))


def _suite(report: Report, number: int, name: str, moment: str, cases: list[_Case]) -> list[str]:
    tags = [case.tag for case in cases]
    attributes = {
        "id": str(number),
        "name": name,
        "package": "sftp",
        "timestamp": moment,
        "hostname": "localhost",
        "tests": str(len(cases)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "skipped": str(tags.count("skipped")),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }
    properties = [
        f"<property{_attributes({'name': n, 'value': v})}/>" for n, v in summing.server_lines(report)
    ]
    return [
        f"<testsuite{_attributes(attributes)}>",
        "<properties>",
        *properties,
        "</properties>",
        *(_case(name, case) for case in cases),
        "<system-out></system-out>",
        "<system-err></system-err>",
        "</testsuite>",
    ]


def _case(suite: str, case: _Case) -> str:
    attributes = {"name": case.name, "classname": f"sftp.{suite}", "time": f"{case.seconds:.3f}"}
    begin = f"<testcase{_attributes(attributes)}"
    if not case.tag:
        return f"{begin}/>"
    inner = {"message": case.why} if case.tag == "skipped" else {"message": case.why, "type": case.kind}
    more = "" if case.tag == "skipped" else escape(_xml(case.more))
    return f"{begin}><{case.tag}{_attributes(inner)}>{more}</{case.tag}></testcase>"


def _attributes(values: dict[str, str]) -> str:
    return "".join(f" {name}={quoteattr(_xml(value))}" for name, value in values.items())


def _xml(words: str) -> str:
    """Text in which characters that XML 1.0 forbids are replaced."""
    return _NOT_XML.sub("\ufffd", words)
