"""pysftp-probe: tries an SFTP server against the rules of the protocol, and reports what clients would meet.

The work is done in probe/. What may not enter: rules, sessions, the look of reports.
"""

from __future__ import annotations

import os
import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.failures import BadInput, one_line, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.probe.choosing import Rule
    from pysftpserver.probe.results import Report
    from pysftpserver.probe.running import Probe
    from pysftpserver.probe.target import Target

PROG = "pysftp-probe"
BROKEN = 1  # exit status: a must does not hold, or the probe had to stop
LEVELS = ("must", "should", "client")  # contract.table has them; it is not loaded for --help
MOST_SECONDS = 86400
EXTRAS = ("speed", "clients")  # functions of probe/extras.py
MOST_LEFT = 10  # lines about what could not be removed


def seconds(text: str) -> float:
    """A time limit. Raises BadValue."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_SECONDS:
        raise BadValue(f"has to be a number of seconds up to {MOST_SECONDS}, not {text!r}")
    return value


def level(text: str) -> str:
    """A level of rules. Raises BadValue."""
    if text not in LEVELS:
        raise BadValue(f"has to be one of {', '.join(LEVELS)}, not {text!r}")
    return text


COMMAND = Command(
    PROG,
    description="Tries an SFTP server against the rules of the protocol. It makes one directory there, works "
    "in it, and removes it.",
    epilog="Hosts are reached by ssh with your configuration, and nothing is asked: use an agent, or a key "
    "without a passphrase. A command speaks SFTP on its standard input and output.",
    examples=(
        ("Probe a host by ssh:", f"{PROG} alice@files.example:2022"),
        ("Probe a command of this host:", f"{PROG} -- /usr/lib/openssh/sftp-server"),
        ("Compare two reports:", f"{PROG} --compare before.json after.json"),
    ),
    statuses=(
        (0, "Every rule of level `must` holds."),
        (BROKEN, "A rule of level `must` is broken, newly broken with --compare, or the probe had to stop."),
    ),
    options=(
        Option(
            "--directory", metavar="DIR", default="",
            help="Make the probe's directory below this one. The default is where sessions begin.",
        ),
        Option(
            "-y", "--yes",
            help="Do not ask before writing to a host that is not this machine. The default is to ask on a "
            "terminal, and to refuse elsewhere.",
        ),
        Option(
            "--only", metavar="PATTERN", is_repeated=True,
            help="Try only the rules whose name or group matches this pattern, such as links or 'rename-*'. "
            "May be given several times. The default is all rules.",
        ),
        Option(
            "--level", metavar="LEVEL", convert=level, default="client", choices=LEVELS,
            help="Try only rules of this level and of stricter ones: must, should or client. The default is "
            "client, which is all rules.",
        ),
        Option("--list", help="Print the table of rules and exit. The default is to try them."),
        Option("--speed", help="Measure the speed of the server as well. The default is not to."),
        Option(
            "--clients",
            help="Try what well-known clients do with a server as well. The default is not to.",
        ),
        Option(
            "--json", metavar="FILE",
            help="Write the report to this file as JSON; - is standard output. The default is not to.",
        ),
        Option(
            "--junit", metavar="FILE",
            help="Write the report to this file in JUnit's format; - is standard output. The default is not "
            "to.",
        ),
        Option(
            "--html", metavar="FILE",
            help="Write the report to this file as one page of HTML; - is standard output. The default is "
            "not to.",
        ),
        Option(
            "--compare",
            help="Compare two reports that were written with --json, named in place of a server. The default "
            "is to probe one.",
        ),
        Option(
            "--timeout", metavar="SECONDS", convert=seconds, default=10.0,
            help="Give up when the server is silent for this many seconds. The default is 10.",
        ),
        Option(
            "--rule-timeout", metavar="SECONDS", convert=seconds, default=60.0,
            help="Give up a rule after this many seconds. The default is 60.",
        ),
        Option(
            "--deadline", metavar="SECONDS", convert=seconds, default=600.0,
            help="Stop after this many seconds; a tenth of them is kept for removing what was made. The "
            "default is 600.",
        ),
    ),
    rest=("server", "[user@]host[:port], or -- and a command with its arguments."),
)  # fmt: skip


def answer(arguments: Sequence[str]) -> int:
    """Run the command; return the exit status. Raises BadInput."""
    has_command = "--" in arguments
    at = list(arguments).index("--") if has_command else len(arguments)
    values = COMMAND.parse(arguments[:at])
    command = list(arguments[at + 1 :])
    if values["compare"]:
        return compare(values["server"])
    from pysftpserver.probe.choosing import chosen, listed

    rules = chosen(values["only"] or (), values["level"])
    if values["list"]:
        print("\n".join(listed(rules)))
        return 0
    outputs = outputs_of(values)
    target = target_of(values["server"], command if has_command else None)
    if target.is_far and not values["yes"]:
        ask(target)
    return probe(target, rules, values, outputs)


def target_of(words: Sequence[str], command: Sequence[str] | None) -> Target:
    """The server to probe. Raises BadInput."""
    from pysftpserver.probe import target

    if command and not words:
        return target.of_command(command)
    if command is None and len(words) == 1:
        return target.of_host(words[0])
    problem = "the server is missing" if not words and not command else "more than one server is named"
    raise BadInput(f"{problem}; write {target.FORM}, or -- and a command (try {PROG} --help)")


def ask(target: Target) -> None:
    """Ask before something is written to another machine. Raises BadInput unless the answer is yes."""
    what = f"{target.name} may be another machine, and the probe writes to it"
    if not (os.isatty(0) and os.isatty(2)):
        raise BadInput(f"{what}; add --yes if it may")
    print(f"{what}: one directory, which it removes. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("nothing was done")


def compare(names: Sequence[str]) -> int:
    """Print the differences between two reports; return the exit status. Raises BadInput."""
    if len(names) != 2:
        raise BadInput("--compare takes two files that were written with --json")
    from pysftpserver.probe.report import comparing, json, terminal

    old, new = map(json.read, names)
    found = comparing.compare(old, new)
    show_whole(comparing.text(found, terminal.width_of(1)))
    return found.status


def outputs_of(values: dict[str, Any]) -> dict[str, str]:
    """The files for reports, by the kind of report. Raises BadInput if one cannot be written.

    This is checked before the probe, which may take minutes.
    """
    found = {kind: values[kind] for kind in ("json", "junit", "html") if values[kind]}
    if list(found.values()).count("-") > 1:
        raise BadInput("only one report can be written to standard output; name files for the others")
    for path in found.values():
        place = path if os.path.exists(path) else os.path.dirname(path) or "."
        if path != "-" and (os.path.isdir(path) or not os.access(place, os.W_OK)):
            raise BadInput(f"{path}: the report cannot be written there; name a file in a directory of yours")
    return found


def probe(target: Target, rules: Sequence[Rule], values: dict[str, Any], outputs: dict[str, str]) -> int:
    """Probe a server, show the report, and return the exit status. Raises BadInput."""
    from pysftpserver import __version__
    from pysftpserver.probe import extras
    from pysftpserver.probe.running import Plan, Probe

    plan = Plan(
        rules,
        os.fsencode(values["directory"]),
        values["timeout"],
        values["rule_timeout"],
        values["deadline"],
        [(name, getattr(extras, name)) for name in EXTRAS if values[name]],
        progress=show_progress if os.isatty(2) else no_progress,
    )
    run = Probe(target, plan)
    run.report.probe = __version__
    report = until_told(run)
    unwritten = None
    for kind, path in outputs.items():
        try:
            write(path, rendered(kind, report))
        except BadInput as error:  # the probe took long: show its results all the same
            unwritten = error
    if "-" not in outputs.values():
        show_whole(rendered("terminal", report))
    for what in report.left[:MOST_LEFT]:
        common.tell(f"{PROG}: left behind: {one_line(what)}")
    if len(report.left) > MOST_LEFT:
        common.tell(f"{PROG}: left behind: {len(report.left) - MOST_LEFT} more")
    if report.stopped:
        common.tell(f"{PROG}: stopped: {one_line(report.stopped)}")
    if unwritten is not None:
        raise unwritten
    if run.interrupted:
        return 128 + run.interrupted
    return status_of(report)


def until_told(run: Probe) -> Report:
    """Run the probe; a signal ends it, and everything is still removed. A second one ends that as well."""
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it may be inherited as ignored; servers are waited for
    ours = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda number, frame: run.interrupt(number)) for number in ours]
    report = run.run()
    for number, handler in zip(ours, before, strict=True):
        signal.signal(number, handler)
    return report


def status_of(report: Report) -> int:
    """The exit status: 0 if the probe was completed, and every must holds."""
    from pysftpserver.probe.results import ERROR, FAILED

    broken = report.count(FAILED, "must") + report.count(ERROR, "must")
    return BROKEN if broken or report.stopped else 0


def no_progress(name: str, number: int, count: int) -> None:
    """Show nothing, in a pipe."""


def show_progress(name: str, number: int, count: int) -> None:
    """Show the next step in one line of a terminal, which is replaced each time."""
    place = f"[{number + 1}/{count}] " if count else ""
    os.write(2, f"\r\x1b[K{place}{name}".encode())


def rendered(kind: str, report: Report) -> str:
    """A report of a kind."""
    from pysftpserver.probe.report import html, json, junit, terminal

    if kind == "terminal":
        return terminal.text(report, terminal.width_of(1), terminal.uses_colour(1, os.environ))
    return {"json": json.text, "junit": junit.text, "html": html.text}[kind](report)


def show_whole(text: str) -> None:
    """Write to standard output; characters that its encoding lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def write(path: str, text: str) -> None:
    """Write a report to a file, or to standard output. Raises BadInput."""
    if path == "-":
        show_whole(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise BadInput(f"{path}: {reason_of(error)}") from None


main = common.main_of(PROG, answer)
