"""A report as one page of HTML: no script, nothing loaded, light and dark, for a screen, a phone and paper.

Everything goes through _tag() or escape(). What may not enter: counting (summing.py). Facts: Content Security
Policy Level 3, on a policy in a meta element and on the hash of a style.
"""

from __future__ import annotations

import base64
import hashlib
import time
from html import escape

from pysftpserver.contract.table import LEVELS, MUST
from pysftpserver.failures import one_line
from pysftpserver.probe.report import summing
from pysftpserver.probe.results import FAILED, PASSED, UNSUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.probe.results import Outcome, Report, Step

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #57606a; --paper: #fff; --line: #d5dae0;
  --wash: #f4f6f8; --good: #1a7f37; --bad: #c0242c; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa5b1; --paper: #15191e;
  --line: #343b44; --wash: #1f252c; --good: #56d364; --bad: #ff8079; --warn: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h3, p, dd, code, .says { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .4rem 0; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: .15em; }
code, pre { font: .8125rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 500; font-size: .875rem; }
tbody th { font-weight: inherit; }
tfoot th, tfoot td { font-weight: 600; border-bottom: 0; }
th.n, td.n { text-align: right; }
td.n, .counts th { white-space: nowrap; }
.counts th.n { white-space: normal; vertical-align: bottom; }
th:last-child, td:last-child { padding-right: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 1rem 0; }
dt { color: var(--soft); }
dd { margin: 0; }
.verdict { border-left: .3rem solid var(--bad); background: var(--wash); padding: .6rem 1rem;
  font-weight: 600; }
.verdict.good { border-color: var(--good); }
.good b, b.good { color: var(--good); } b.bad { color: var(--bad); } b.warn { color: var(--warn); }
summary { color: var(--soft); font-size: .875rem; cursor: pointer; }
.soft { color: var(--soft); font-size: .875rem; }
article { border: 1px solid var(--line); border-left: .3rem solid var(--warn); border-radius: .3rem;
  padding: .8rem 1rem; margin: 1rem 0; }
article.must { border-left-color: var(--bad); }
article header { display: flex; flex-wrap: wrap; gap: .1rem .9rem; align-items: baseline; }
ol { list-style: none; margin: .6rem 0 0; padding: 0; }
li { border-top: 1px solid var(--line); padding: .35rem 0; }
li > code { display: block; padding-left: 4.75rem; text-indent: -4.75rem; }
li b { display: inline-block; width: 4.75rem; text-indent: 0; font-weight: 500; color: var(--soft); }
pre { margin: .15rem 0 0; padding-left: 4.75rem; overflow-x: auto; color: var(--soft); }
:target { outline: 2px solid var(--warn); outline-offset: .25rem; }
@media (max-width: 40rem) { body { padding: 1.25rem .9rem 3rem; } th, td { padding-right: .5rem; }
  .list thead { display: none; }
  .list tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .list th, .list td { display: inline; border: 0; padding: 0 .4rem 0 0; }
  .list th.says, .list td.says { display: block; }
  .counts { font-size: .8125rem; } .counts thead th { font-size: .75rem; }
  li > code, pre { padding-left: 0; text-indent: 0; } li b { width: auto; margin-right: .5rem; }
  pre { font-size: .6875rem; padding-bottom: .5rem; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --line: #bbb;
  --wash: #fff; --good: #000; --bad: #000; --warn: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; } article, tr { break-inside: avoid; }
  h2 { break-after: avoid; } pre { white-space: pre-wrap; } a { text-decoration: none; } }
"""
ROWS = 8  # lines of a packet's bytes


def text(report: Report) -> str:
    """The whole page."""
    title = f"pysftp-probe: {report.server}"
    good = " good" if summing.conforms(report) else ""
    body = [
        _tag("h1", title),
        f'<p class="verdict{good}">{_safe(summing.summary(report))}</p>',
        _about(report),
        *_groups(report),
        *_broken(report),
        *_tasks(report),
        *_figures(report),
        *_rules(report),
    ]
    return "\n".join([*_head(title), "<body>", "<main>", *body, "</main>", "</body>", "</html>"])


def _head(title: str) -> list[str]:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=False)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="referrer" content="no-referrer">',
        _tag("title", title),
        f"<style>{STYLE}</style>",
        "</head>",
    ]


def _safe(words: str) -> str:
    return escape(one_line(words))


def _tag(name: str, words: str, **attributes: str) -> str:
    """An element that contains only text."""
    return f"<{name}{_attributes(attributes)}>{_safe(words)}</{name}>"


def _attributes(attributes: dict[str, str]) -> str:
    return "".join(f' {key.rstrip("_")}="{_safe(value)}"' for key, value in attributes.items())


def _anchor(outcome: Outcome) -> str:
    return f"rule-{outcome.rule}".replace(" ", "-")


def _about(report: Report) -> str:
    rows = summing.server_lines(report)
    if report.started:
        moment = time.gmtime(max(0, min(report.started, 1 << 36)))
        rows.append(("begun", time.strftime("%Y-%m-%d %H:%M UTC", moment)))
    return "<dl>" + "".join(_tag("dt", name) + _tag("dd", words) for name, words in rows) + "</dl>"


def _table(head: Sequence[str], rows: Sequence[str], foot: str = "", kind: str = "", numbers: int = 0) -> str:
    """rows, foot: whole tr elements. numbers: how many columns, from the second on, contain numbers."""
    heading = "".join(
        _tag("th", words, scope="col", **({"class_": "n"} if 0 < number <= numbers else {}))
        for number, words in enumerate(head)
    )
    return (
        f'<table class="{kind}"><thead><tr>{heading}</tr></thead><tbody>{"".join(rows)}</tbody>'
        + (f"<tfoot>{foot}</tfoot>" if foot else "")
        + "</table>"
    )


def _groups(report: Report) -> list[str]:
    found = summing.groups(report)
    if not found:
        return []
    rows = [
        _counts(f'<a href="#{_safe(_group(name))}">{_safe(name)}</a>', outcomes)
        for name, outcomes in found.items()
    ]
    head = ("group", *(summing.NAMES[level][1] for level in LEVELS), UNSUPPORTED)
    total = _counts("all", report.outcomes)
    return [_tag("h2", "Groups"), _table(head, rows, total, "counts", len(head) - 1)]


def _group(name: str) -> str:
    return f"group-{name}".replace(" ", "-")


def _counts(name: str, outcomes: list[Outcome]) -> str:
    tally = summing.Tally(outcomes)
    cells = []
    for level in LEVELS:
        kind = "" if tally.holds(level) else "bad" if level == MUST else "warn"
        words = _safe(tally.of(level).replace(" of ", "/"))
        cells.append(f'<td class="n">{f"<b class={kind}>{words}</b>" if kind else words}</td>')
    cells.append(_tag("td", str(tally.verdicts[UNSUPPORTED] or "-"), class_="n"))
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _broken(report: Report) -> list[str]:
    found = summing.broken(report)
    return [_tag("h2", "What does not hold"), *map(_article, found)] if found else []


def _article(outcome: Outcome) -> str:
    kind = "bad" if outcome.level == MUST else "warn"
    parts = [
        f'<article class="{outcome.level}" id="{_safe(_anchor(outcome))}">',
        f"<header><h3>{_safe(outcome.sentence)}</h3></header>",
        f'<p class="soft"><b class="{kind}">{_safe(summing.heading(outcome))}</b> '
        f'<a href="#{_safe(_anchor(outcome))}"><code>{_safe(outcome.rule)}</code></a> '
        f"{_safe(outcome.source)}</p>",
        _tag("p", outcome.why),
    ]
    if outcome.steps:
        parts += ["<ol>", *map(_step, summing.telling(outcome.steps)), "</ol>"]
    return "\n".join([*parts, "</article>"])


def _step(step: Step) -> str:
    who = "client" if step.asked else "server"
    lines = "\n".join(map(escape, summing.dump(step, rows=ROWS)))
    return f"<li><code><b>{who}</b>{_safe(step.words)}</code><pre>{lines}</pre></li>"


def _packets(steps: list[Step]) -> str:
    if not steps:
        return ""
    return (
        f"<details><summary>packets</summary><ol>{''.join(map(_step, summing.telling(steps)))}</ol></details>"
    )


def _tasks(report: Report) -> list[str]:
    rows = []
    for task in report.tasks:
        kind = "good" if task.works and not task.notes else "warn" if task.works else "bad"
        notes = "".join(_tag("p", note, class_="soft") for note in task.notes if note not in task.verdict)
        rows.append(
            f'<tr><th scope="row">{_safe(task.client)}</th>{_tag("td", task.task)}'
            f'<td class="says"><b class="{kind}">{_safe(task.verdict)}</b>{notes}{_packets(task.steps)}</td>'
            f"{_tag('td', task.basis, class_='soft')}</tr>"
        )
    head = ("client", "task", "what users get", "basis")
    return [_tag("h2", "What clients meet"), _table(head, rows, kind="list")] if rows else []


def _figures(report: Report) -> list[str]:
    rows = [
        f'<tr><th scope="row">{_safe(figure.name)}</th>{_tag("td", summing.number(figure.value), class_="n")}'
        f"{_tag('td', figure.unit)}{_tag('td', summing.announced(figure))}</tr>"
        for figure in report.figures
    ]
    head = ("figure", "value", "unit", "announced")
    return [_tag("h2", "Figures"), _table(head, rows, numbers=1)] if rows else []


def _rules(report: Report) -> list[str]:
    parts = []
    for name, outcomes in summing.groups(report).items():
        rows = [_row(outcome) for outcome in outcomes]
        head = ("rule", "", "level", "source")
        parts += [_tag("h2", f"Rules: {name}", id=_group(name)), _table(head, rows, kind="list")]
    return parts


def _row(outcome: Outcome) -> str:
    is_broken = outcome.verdict in summing.BROKEN
    kind = {PASSED: "good", FAILED: "bad" if outcome.level == MUST else "warn"}.get(outcome.verdict, "soft")
    anchor = _safe(_anchor(outcome))
    place = "" if is_broken else f' id="{anchor}"'
    return (
        f'<tr{place}><th scope="row" class="says">{_safe(outcome.sentence)}<br>'
        f'<a class="soft" href="#{anchor}"><code>{_safe(outcome.rule)}</code></a></th>'
        f'<td><b class="{kind}">{_safe(outcome.verdict)}</b></td>'
        f"{_tag('td', outcome.level)}{_tag('td', outcome.source, class_='soft')}</tr>"
    )
