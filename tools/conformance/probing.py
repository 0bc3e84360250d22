"""Probes the servers one after the other, and keeps the reports in files, so that one can be repeated alone.

What may not enter: how servers are started, and what the page looks like.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pysftpserver import __version__
from pysftpserver.contract.rules import RULES
from pysftpserver.probe.results import Report
from pysftpserver.probe.running import Plan, Probe
from pysftpserver.probe.target import Target
from tests.support.paths import ROOT
from tools.conformance import confining
from tools.conformance.servers import Server
from tools.conformance.starting import Absent, Running

KEPT = ROOT / "build" / "conformance"  # the last reports, one JSON document per server
PREFIX = "conformance-"
DEADLINE = 1800.0  # seconds per server
SECONDS = 300.0  # per rule: stores simulated by other programs are slow
MANY = 600  # entries of the largest directory: more than fit in a reply
#: What differs between runs, whole or truncated: the directories of a run, of a probe and of a rule.
RANDOM = re.compile(rf"({PREFIX})[a-z0-9_]{{1,8}}|(pysftp-probe-)([0-9a-f]{{1,16}}(?:/[0-9a-f]{{1,8}})?)")
#: The home of the host's account, which some servers use as their users' directory.
HOME = re.compile(rf"{re.escape(pwd.getpwuid(os.getuid()).pw_dir)}(?![\w.-])")


class Here(Target):
    """A server in this process."""

    def __init__(self, name: str, running: Running) -> None:
        super().__init__(name, [], is_far=False)
        self._running = running

    def connect(self, patience: Any) -> Any:
        """A line to a new session."""
        assert self._running.connect is not None
        return self._running.connect()


@contextlib.contextmanager
def top_directory() -> Iterator[Path]:
    """A directory for the files of all servers, with a short path, the same on every machine."""
    top = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    top.chmod(0o755)  # some servers run as other users
    try:
        yield top
    finally:
        shutil.rmtree(top, ignore_errors=True)


def confine(top: Path) -> None:
    """Allow writing only to this directory and to KEPT from now on. Raises OSError."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in "home", "tmp":
        (top / name).mkdir()
    confining.confine(top, KEPT)
    os.environ.update(HOME=str(top / "home"), TMPDIR=str(top / "tmp"))
    tempfile.tempdir = None


def probe(
    server: Server, top: Path, only: Sequence[str] = (), say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Start a server and try all rules on it, or those named in `only`. The returned document has the report,
    or why there is none. top: a directory for its files.
    """
    begun = time.monotonic()
    document: dict[str, Any] = {"word": server.word, "date": time.strftime("%Y-%m-%d", time.gmtime())}
    place = top / server.word
    place.mkdir()
    try:
        document["version"] = server.version()
        with server.start(place) as running:
            report = _report(server, running, only)
    except (Absent, AssertionError, RuntimeError, OSError) as error:
        document["absent"] = [type(error).__name__, *f"{error}".strip().splitlines()][-1]
        say(f"{server.word}: not there: {document['absent']}")
        return document
    finally:
        shutil.rmtree(place, ignore_errors=True)
    document["report"] = _settled(report.to_json())
    counts = ", ".join(f"{report.count(verdict)} {verdict}" for verdict in ("passed", "failed", "error"))
    stopped = f"; stopped: {report.stopped}" if report.stopped else ""
    left = f"; left: {report.left}" if report.left else ""
    say(f"{server.word}: {counts} in {time.monotonic() - begun:.0f} s{stopped}{left}")
    return document


def _report(server: Server, running: Running, only: Sequence[str]) -> Report:
    rules = [rule for name, rule in RULES.items() if not only or name in only]
    plan = Plan(rules, running.directory, rule_seconds=SECONDS, deadline=DEADLINE, many=MANY)
    target = Here(server.title, running) if running.connect else Target(server.title, running.argv, False)
    run = Probe(target, plan)
    run.report.probe = __version__
    report = run.run()
    if run.interrupted:
        raise KeyboardInterrupt
    return report


def _settled(document: dict[str, Any]) -> dict[str, Any]:
    """A report without what differs between runs."""
    for outcome in document["outcomes"]:
        outcome["why"] = constant(outcome["why"])
        outcome["seconds"] = 0.0
        for step in outcome["steps"]:
            step["words"] = constant(step["words"])
            step["octets"] = constant(bytes.fromhex(step["octets"]).decode("latin-1")).encode("latin-1").hex()
    return document


def constant(text: str) -> str:
    """A text without what differs between runs or hosts; its length stays the same, as packets need it."""
    return HOME.sub(
        lambda found: "/home".ljust(len(found[0]), "x")[: len(found[0])], RANDOM.sub(_constant, text)
    )


def _constant(found: re.Match[str]) -> str:
    prefix, other, digits = found.groups()
    if prefix:
        return prefix + "x" * (len(found[0]) - len(prefix))
    return other + re.sub("[0-9a-f]", "0", digits)


def keep(document: dict[str, Any]) -> None:
    """Keep a report for the next page."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{document['word']}.json").write_text(json.dumps(document, indent=1))


def kept(server: Server) -> dict[str, Any] | None:
    """The last report on a server."""
    path = KEPT / f"{server.word}.json"
    return json.loads(path.read_text()) if path.exists() else None
